//! Whoever watches a move: a bar or lines of JSON, and Ctrl-C.

use crate::progress::{Look, Unit};
use crate::show;
use dunlin_interface::exit::{COULD_NOT, STANDS_STILL};
use dunlin_transfer::sender::Progress;
use dunlin_transfer::wire::FileKind;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::process::exit;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// How often a file's progress is told as JSON.
const SOME: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct State {
    last: Option<Progress>,
    told: Option<Instant>,
    cancelled: bool,
}

/// What is known of a move.
#[derive(Debug)]
pub(crate) struct Watch {
    json: bool,
    state: Mutex<State>,
}

/// An event as JSON.
fn event(progress: Progress) -> serde_json::Value {
    let name = |kind| match kind {
        FileKind::Executable => "executable",
        FileKind::Module => "module",
        FileKind::Round(_) => "round",
        FileKind::Snapshot => "state",
    };
    match progress {
        Progress::Sent { kind, done, of } => json!({"event": "sent", "what": name(kind), "bytes": done, "of": of}),
        Progress::Agreed => json!({"event": "agreed"}),
        Progress::Round { number } => json!({"event": "round", "number": number}),
        Progress::Stopping => json!({"event": "stopping"}),
        Progress::Waiting => json!({"event": "waiting"}),
        Progress::Reconnecting => json!({"event": "reconnecting"}),
    }
}

/// What is happening, for a person.
fn look(progress: Option<Progress>) -> Look {
    let unit = Unit::Bytes;
    let (done, of) = match progress {
        Some(Progress::Sent { done, of, .. }) => (done, of),
        _ => (0, 0),
    };
    let what = match progress {
        None => "connecting",
        Some(Progress::Agreed) => "beginning",
        Some(Progress::Round { number }) => {
            return Look {
                what: format!("round {number}: the program writes what has changed"),
                done,
                of,
                unit,
            };
        }
        Some(Progress::Sent { kind, .. }) => match kind {
            FileKind::Executable => "sending the executable",
            FileKind::Module => "sending the module",
            FileKind::Round(number) => {
                return Look {
                    what: format!("round {number}: sending, while the program runs"),
                    done,
                    of,
                    unit,
                };
            }
            FileKind::Snapshot => "sending the state",
        },
        Some(Progress::Stopping) => "stopping the program",
        Some(Progress::Waiting) => "the other machine is at work",
        Some(Progress::Reconnecting) => "the connection was lost; connecting again",
    };
    let what = what.into();
    Look { what, done, of, unit }
}

impl Watch {
    /// Begins to watch; `what` is the move, for messages. From now on Ctrl-C and SIGTERM cancel it: the program goes on
    /// here, unless it has changed hands already. A second one ends this process.
    pub(crate) fn new(json: bool, what: String) -> io::Result<Arc<Watch>> {
        let watch = Arc::new(Watch {
            json,
            state: Mutex::new(State {
                last: None,
                told: None,
                cancelled: false,
            }),
        });
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let theirs = watch.clone();
        thread::Builder::new().name("signals".into()).spawn(move || {
            for _ in signals.forever() {
                theirs.interrupted(&what);
            }
        })?;
        Ok(watch)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn interrupted(&self, what: &str) {
        let mut state = self.state();
        match (state.last, state.cancelled) {
            // Nothing has begun, and whoever connects can't be made to look.
            (None, _) => {
                show::complain(&format!("dunlin: cannot {what}: it was cancelled; it goes on here"));
                exit(COULD_NOT);
            }
            (Some(_), false) => state.cancelled = true,
            (Some(_), true) => {
                show::complain(&format!(
                    "dunlin: cannot {what}: interrupted; the program goes on here unless it has changed hands: `dunlin \
                     settle` tells"
                ));
                exit(STANDS_STILL);
            }
        }
    }

    /// Something has happened. Returns false to cancel.
    pub(crate) fn happens(&self, progress: Progress) -> bool {
        let mut state = self.state();
        let tell = match (state.last, progress) {
            (Some(Progress::Sent { kind: before, .. }), Progress::Sent { kind, done, of }) if before == kind => {
                done == of || state.told.is_none_or(|told| told.elapsed() >= SOME)
            }
            (last, now) => last != Some(now),
        };
        state.last = Some(progress);
        if tell {
            state.told = Some(Instant::now());
            if self.json {
                show::json_line(&event(progress));
            }
        }
        !state.cancelled
    }

    /// How far it is.
    pub(crate) fn look(&self) -> Look {
        look(self.state().last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_a_name_and_words() {
        let kind = FileKind::Snapshot;
        for progress in [
            Progress::Sent { kind, done: 1, of: 2 },
            Progress::Sent {
                kind: FileKind::Round(2),
                done: 1,
                of: 2,
            },
            Progress::Round { number: 2 },
            Progress::Agreed,
            Progress::Stopping,
            Progress::Waiting,
            Progress::Reconnecting,
        ] {
            assert!(event(progress)["event"].is_string());
            assert!(!look(Some(progress)).what.is_empty());
        }
        assert_eq!(look(Some(Progress::Sent { kind, done: 1, of: 2 })).of, 2);
    }
}
