//! Bars on standard error while something takes long: on a terminal only, and only after half a second.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// What takes less time has no bar.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often a bar is drawn.
const REDRAW: Duration = Duration::from_millis(100);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    /// Something that means nothing to a person.
    Work,
}

/// How far something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// What is happening, in a word or two.
    pub what: String,
    /// What is done.
    pub done: u64,
    /// All there is; 0 if that isn't known.
    pub of: u64,
    pub unit: Unit,
}

impl Look {
    fn template(&self) -> &'static str {
        match (self.of, self.unit) {
            (0, _) => "{spinner} {msg}",
            (_, Unit::Bytes) => {
                "{msg} [{wide_bar}] {percent:>3}%  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}"
            }
            (_, Unit::Work) => "{msg} [{wide_bar}] {percent:>3}%  {eta}",
        }
    }
}

/// Does some work, while a bar shows how far it is.
pub(crate) fn with_bar<T>(look: impl Fn() -> Look + Sync, work: impl FnOnce() -> T) -> T {
    if !io::stderr().is_terminal() {
        return work();
    }
    let (over, wait) = channel::<()>();
    thread::scope(|scope| {
        // Without a thread there is no bar.
        let _ = thread::Builder::new().spawn_scoped(scope, || draw(wait, &look));
        let result = work();
        drop(over);
        result
    })
}

/// Draws until the other end is dropped.
fn draw(wait: Receiver<()>, look: &dyn Fn() -> Look) {
    if wait.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
        return;
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let mut template = "";
    loop {
        let look = look();
        if template != look.template() {
            template = look.template();
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar.reset_eta();
        }
        if look.of > 0 {
            bar.set_length(look.of.max(look.done));
            bar.set_position(look.done);
        }
        bar.set_message(look.what);
        bar.tick();
        if wait.recv_timeout(REDRAW) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
    bar.finish_and_clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_one() {
        for (of, unit) in [(0, Unit::Bytes), (1, Unit::Bytes), (1, Unit::Work)] {
            let what = String::new();
            let look = Look {
                what,
                done: 0,
                of,
                unit,
            };
            assert!(ProgressStyle::with_template(look.template()).is_ok());
        }
    }

    #[test]
    fn the_work_is_done_with_and_without_a_bar() {
        let look = || Look {
            what: "x".into(),
            done: 1,
            of: 2,
            unit: Unit::Bytes,
        };
        assert_eq!(with_bar(look, || 7), 7);
        let (over, wait) = channel();
        let drawn = thread::spawn(move || draw(wait, &look));
        thread::sleep(PATIENCE + 2 * REDRAW);
        drop(over);
        drawn.join().unwrap();
    }
}
