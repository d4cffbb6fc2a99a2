//! The control thread: a private unix socket on which `dunlin ps` and `dunlin checkpoint` talk to this process
//! (messages: [`dunlin_migrate::control`]). Whatever goes wrong here is never fatal to the program: then it just can't
//! be reached.

use crate::os::files::may_pass;
use crate::os::machine::is_strangers;
use crate::os::signals::with_signals_blocked;
use crate::requests::inbox::{Job, Shared, Task, send};
use dunlin_interface::meeting::bind;
use dunlin_migrate::control::{Checked, Reply, Request};
use dunlin_migrate::preflight::Finding;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a client may take to send its request or to take its reply.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest request in bytes.
const MAX_REQUEST: u64 = 64 << 10;

/// How old a program is before it can be reached: those that live shorter don't pay for a socket.
const AGE: Duration = Duration::from_millis(10);

/// How soon the socket is tried again if it can't be had for the moment (the program may have taken all descriptors),
/// and how long is waited at most between two attempts.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Stack of the control thread in bytes.
const THREAD_STACK: usize = 256 << 10;

/// The socket's life: it may be asked to go away before it is there.
#[derive(Debug, Default)]
enum Socket {
    #[default]
    Coming,
    At(PathBuf),
    Gone,
}

/// The socket's life, shared by the control thread and its owner.
#[derive(Debug, Default)]
struct State {
    socket: Mutex<Socket>,
    gone: Condvar,
}

/// The control socket of this process. The socket is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Control(Arc<State>);

impl Control {
    /// Starts the control thread, with every signal blocked. Creating the socket is left to the thread: the program
    /// needn't wait.
    pub(crate) fn start(shared: &'static Shared) -> io::Result<Control> {
        let state = Arc::new(State::default());
        let theirs = state.clone();
        let thread = std::thread::Builder::new()
            .name("dunlin-control".into())
            .stack_size(THREAD_STACK);
        with_signals_blocked(|| {
            thread.spawn(move || {
                if let Some(listener) = create(&theirs) {
                    listen(&listener, shared);
                }
            })
        })?;
        Ok(Control(state))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let mut socket = self.0.socket.lock().unwrap_or_else(|e| e.into_inner());
        if let Socket::At(path) = std::mem::replace(&mut *socket, Socket::Gone) {
            let _ = fs::remove_file(path);
        }
        self.0.gone.notify_all();
    }
}

fn create(state: &State) -> Option<UnixListener> {
    let socket = state.socket.lock().unwrap_or_else(|e| e.into_inner());
    let waited = state
        .gone
        .wait_timeout_while(socket, AGE, |socket| matches!(socket, Socket::Coming));
    let (mut socket, _) = waited.unwrap_or_else(|e| e.into_inner());
    if !matches!(*socket, Socket::Coming) {
        return None;
    }
    let mut pause = FIRST_RETRY;
    loop {
        match bind() {
            Ok((listener, path)) => {
                *socket = Socket::At(path);
                return Some(listener);
            }
            Err(e) if may_pass(&e) => {
                let waited = state
                    .gone
                    .wait_timeout_while(socket, pause, |s| matches!(s, Socket::Coming));
                (socket, _) = waited.unwrap_or_else(|e| e.into_inner());
                if !matches!(*socket, Socket::Coming) {
                    return None;
                }
                pause = (pause * 2).min(LAST_RETRY);
            }
            // Then the program can't be reached.
            Err(_) => return None,
        }
    }
}

fn listen(listener: &UnixListener, shared: &'static Shared) {
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => {
                let _ = answer(stream, shared);
            }
            // Out of descriptors, most likely: the program may free some.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Reads one request and answers it, or hands it on to the program's thread.
fn answer(mut stream: UnixStream, shared: &'static Shared) -> io::Result<()> {
    let asked = Instant::now();
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // The directory is private already; this also holds if someone opens it up.
    if is_strangers(&stream) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut line = String::new();
    BufReader::new(Read::take(&stream, MAX_REQUEST)).read_line(&mut line)?;
    let failed = |error: &str| Reply::Failed {
        error: error.into(),
        findings: Vec::new(),
    };
    let reply = match serde_json::from_str(&line) {
        Ok(Request::Info) => shared
            .info()
            .map_or_else(|| failed("the program is still starting"), Reply::Info),
        Ok(Request::Checkpoint { to, leave_running }) => match shared.info() {
            Some(info) if !info.migratable => {
                failed("the program was built with --no-migration: it can't be checkpointed")
            }
            _ if !to.is_absolute() => failed("the snapshot's path must be absolute"),
            _ => {
                let task = Task::Checkpoint { to, leave_running };
                shared.ask(Job { stream, task, asked });
                return Ok(());
            }
        },
        Ok(Request::HandOver { place, unsynced }) => match may_move(shared, &place) {
            Ok(()) => {
                let task = Task::HandOver { place, unsynced };
                shared.ask(Job { stream, task, asked });
                return Ok(());
            }
            Err(why) => failed(why),
        },
        Ok(Request::Round { place, number }) => match may_move(shared, &place) {
            Ok(()) => {
                let task = Task::Round { place, number };
                shared.ask(Job { stream, task, asked });
                return Ok(());
            }
            Err(why) => failed(why),
        },
        Ok(Request::Check) => match shared.info() {
            Some(info) if info.migratable => {
                let task = Task::Check;
                shared.ask(Job { stream, task, asked });
                return Ok(());
            }
            Some(_) => Reply::Checked(Checked {
                findings: vec![Finding::new(
                    "executable",
                    "the program was built with --no-migration",
                    "build it again without",
                )],
                needs: None,
            }),
            None => failed("the program is still starting"),
        },
        Err(e) => failed(&format!("not a request: {e}")),
    };
    send(&mut stream, &reply)
}

/// Whether a program can be moved through a transfer's directory.
fn may_move(shared: &Shared, place: &Path) -> Result<(), &'static str> {
    match shared.info() {
        Some(info) if !info.migratable => Err("the program was built with --no-migration: it can't be moved"),
        Some(_) if !place.is_absolute() => Err("the transfer's path must be absolute"),
        Some(_) => Ok(()),
        None => Err("the program is still starting"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_migrate::control::Info;
    use std::io::Write;

    fn shared(migratable: bool) -> &'static Shared {
        let shared = Shared::new().unwrap();
        shared.set_info(Info {
            pid: 7,
            name: "p".into(),
            module: "00".into(),
            arch: "x86_64".into(),
            args: vec!["p".into()],
            uptime_seconds: 0,
            memory_bytes: 0,
            migratable,
            periodic: None,
        });
        Box::leak(Box::new(shared))
    }

    fn ask(shared: &'static Shared, request: &str) -> String {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(request.as_bytes()).unwrap();
        client.write_all(b"\n").unwrap();
        let _ = answer(server, shared);
        let mut line = String::new();
        BufReader::new(client).read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn info_is_answered_with_what_changes_filled_in() {
        let shared = shared(true);
        shared.set_memory_size(65536);
        let Ok(Reply::Info(info)) = serde_json::from_str(&ask(shared, r#"{"request":"info"}"#)) else {
            panic!()
        };
        assert_eq!((info.pid, info.memory_bytes), (7, 65536));
    }

    #[test]
    fn nonsense_is_answered_with_an_error() {
        for request in [
            "",
            "x",
            "{}",
            r#"{"request":"explode"}"#,
            r#"{"request":"checkpoint","to":"rel","leave_running":true}"#,
        ] {
            let reply = serde_json::from_str(&ask(shared(true), request)).unwrap();
            assert!(matches!(reply, Reply::Failed { .. }), "{request}: {reply:?}");
        }
    }

    #[test]
    fn a_checkpoint_request_reaches_the_program() {
        let shared = shared(true);
        let (mut client, server) = UnixStream::pair().unwrap();
        client
            .write_all(b"{\"request\":\"checkpoint\",\"to\":\"/x/y\",\"leave_running\":true}\n")
            .unwrap();
        answer(server, shared).unwrap();
        assert!(shared.wake.pending());
        let mut jobs = shared.take_jobs();
        let job = jobs.pop().unwrap();
        let task = Task::Checkpoint {
            to: "/x/y".into(),
            leave_running: true,
        };
        assert!(jobs.is_empty() && job.task == task && !job.abandoned());
        job.reply(&Reply::Failed {
            error: "no".into(),
            findings: vec![],
        });
        let mut line = String::new();
        BufReader::new(client).read_line(&mut line).unwrap();
        assert!(line.contains("\"no\""), "{line}");
    }

    #[test]
    fn a_requester_that_hung_up_is_noticed() {
        let shared = shared(true);
        let (mut client, server) = UnixStream::pair().unwrap();
        client
            .write_all(b"{\"request\":\"checkpoint\",\"to\":\"/x/y\",\"leave_running\":true}\n")
            .unwrap();
        answer(server, shared).unwrap();
        drop(client);
        assert!(shared.take_jobs()[0].abandoned());
    }

    #[test]
    fn a_program_without_migration_points_says_so() {
        let reply = ask(
            shared(false),
            r#"{"request":"checkpoint","to":"/x","leave_running":false}"#,
        );
        assert!(reply.contains("--no-migration"), "{reply}");
    }

    #[test]
    fn a_socket_that_comes_too_late_never_comes() {
        let state = State {
            socket: Mutex::new(Socket::Gone),
            ..State::default()
        };
        assert!(create(&state).is_none());
    }
}
