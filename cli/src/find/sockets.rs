//! Finding running programs and talking to them: the client's side of [`dunlin_migrate::control`].
//!
//! Every running executable listens on a socket in a private directory ([`dunlin_interface::meeting`]). A program may
//! have been started with other variables than this command, so all of them are searched.

use dunlin_interface::meeting::{self, Name};
use dunlin_migrate::control::{Info, Reply, Request};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Longest reply that is read, in bytes. A program's arguments may be some 6 MiB, each byte of them 6 in JSON.
const MAX_REPLY: u64 = 64 << 20;

/// How long a program may take to say who it is, before it counts as not answering.
const INFO_TIMEOUT: Duration = Duration::from_secs(2);

/// A socket found in one of the directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    /// Process id, from the socket's name.
    pub pid: u32,
    /// The socket.
    pub path: PathBuf,
    /// The process is of another PID namespace, where `pid` is its number: here it has another one, or none.
    pub elsewhere: bool,
}

/// How long ago the socket of another PID namespace's program, which nobody answers, must have been made to be removed.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// The directories in which programs of this user listen. Those that are not this user's own are left out.
fn directories() -> Vec<PathBuf> {
    meeting::directories().0
}

/// A warning about directories that others have made where this user's should be, as anyone can in `/tmp`.
pub(crate) fn warning() -> Option<String> {
    let foreign = meeting::directories().1;
    let shown = foreign.iter().map(|f| {
        format!(
            "{} (of the user with the number {})",
            crate::show::path(&f.path),
            f.owner
        )
    });
    let shown: Vec<String> = shown.collect();
    let what = "where programs would listen for this command, belongs to another user and is not used; programs that were started \
                with an earlier Dunlin can't be reached";
    (!shown.is_empty()).then(|| format!("dunlin: warning: {}, {what}", shown.join(" and ")))
}

/// Every socket in a directory, by process id. What has another name is not ours and is left alone.
fn list(directory: &Path) -> io::Result<Vec<Socket>> {
    let here = meeting::namespace();
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if let Some(Name { pid, namespace }) = path.file_name().and_then(|n| Name::parse(n.to_str()?)) {
            let elsewhere = namespace.is_some_and(|n| n != here && here != 0);
            found.push(Socket { pid, path, elsewhere });
        }
    }
    found.sort_by_key(|s: &Socket| s.pid);
    Ok(found)
}

/// What became of asking a program who it is.
#[derive(Debug)]
pub(crate) enum Asked {
    /// It answered.
    Running(Info),
    /// Nobody listens: the program is gone and has left its socket behind.
    Stale,
    /// Somebody listens, but did not answer (too busy), or answered nonsense.
    Silent(String),
    /// It is stopped (by SIGSTOP or Ctrl-Z) and can't answer.
    Stopped,
}

/// Is a process stopped by a signal?
fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in brackets and may hold anything (proc_pid_stat(5)).
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

/// What a process is called, as far as can be told from outside: the name of its executable.
pub(super) fn name_from_outside(socket: &Socket) -> Option<String> {
    let exe = fs::read_link(format!("/proc/{}/exe", socket.pid))
        .ok()
        .filter(|_| !socket.elsewhere)?;
    let exe = exe
        .to_string_lossy()
        .trim_end_matches(" (deleted)")
        .trim_start_matches("/memfd:")
        .to_owned();
    let name = super::executables::without_arch(Path::new(&exe));
    Some(name.file_name()?.to_string_lossy().into_owned())
}

/// Asks a program who it is.
fn info(socket: &Socket) -> Asked {
    if !socket.elsewhere && is_stopped(socket.pid) {
        return Asked::Stopped;
    }
    match ask(&socket.path, &Request::Info, Some(INFO_TIMEOUT)) {
        Ok(Reply::Info(info)) => Asked::Running(info),
        Ok(Reply::Failed { error, .. }) => Asked::Silent(error),
        Ok(Reply::Checkpointed(_) | Reply::Checked(_) | Reply::Round(_) | Reply::GoesOn) => {
            Asked::Silent("it answered another question".into())
        }
        Err(e) if meeting::is_refusal(&e) => Asked::Stale,
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Asked::Silent(format!("no answer within {} s", INFO_TIMEOUT.as_secs()))
        }
        Err(e) => Asked::Silent(e.to_string()),
    }
}

/// Sends one request and reads its reply. Without a timeout it waits as long as the program takes.
pub(crate) fn ask(socket: &Path, request: &Request, timeout: Option<Duration>) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(timeout)?;
    stream.set_write_timeout(timeout)?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut reply = String::new();
    BufReader::new(stream.take(MAX_REPLY)).read_line(&mut reply)?;
    if !reply.ends_with('\n') {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the program ended before it had answered",
        ));
    }
    Ok(serde_json::from_str(&reply)?)
}

/// Every running program of this user for which `wanted` holds, asked who it is, all at once; the sockets of programs
/// that are gone are removed.
pub(crate) fn programs(wanted: impl Fn(u32) -> bool) -> Vec<(Socket, Asked)> {
    let sockets = directories().into_iter().flat_map(|d| list(&d).unwrap_or_default());
    let sockets: Vec<Socket> = sockets.filter(|s| wanted(s.pid)).collect();
    let answers: Vec<Asked> = thread::scope(|scope| {
        let asking: Vec<_> = sockets.iter().map(|s| scope.spawn(|| info(s))).collect();
        let silent = |_| Asked::Silent("asking it failed".into());
        asking.into_iter().map(|t| t.join().unwrap_or_else(silent)).collect()
    });
    let mut found = Vec::new();
    for (socket, asked) in sockets.into_iter().zip(answers) {
        match asked {
            Asked::Stale => {
                if is_forgotten(&socket) {
                    let _ = fs::remove_file(&socket.path);
                }
            }
            asked => found.push((socket, asked)),
        }
    }
    found.sort_by_key(|(socket, _)| socket.pid);
    found
}

/// May a socket that nobody answers be removed? The same process id may have been given to a new program this very
/// moment; and whether a process of another PID namespace is there can't be seen from here.
fn is_forgotten(socket: &Socket) -> bool {
    let proc = Path::new("/proc");
    if !socket.elsewhere && proc.join("self").exists() {
        return !proc.join(socket.pid.to_string()).exists();
    }
    let made = fs::symlink_metadata(&socket.path).and_then(|m| m.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > FORGOTTEN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread::JoinHandle;

    /// A fake program: answers one connection with a fixed line and returns the request it got.
    fn fake_program(socket: &Path, reply: &'static str) -> JoinHandle<String> {
        let listener = UnixListener::bind(socket).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).unwrap();
            (&stream).write_all(reply.as_bytes()).unwrap();
            request
        })
    }

    const INFO: &str = concat!(
        r#"{"reply":"info","pid":7,"name":"hanoi","module":"ab","arch":"x86_64","args":["hanoi","3"],"#,
        r#""uptime_seconds":5,"memory_bytes":131072,"migratable":true}"#,
        "\n"
    );

    fn socket(dir: &tempfile::TempDir, name: &str) -> Socket {
        Socket {
            pid: 7,
            path: dir.path().join(name),
            elsewhere: false,
        }
    }

    #[test]
    fn a_program_says_who_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let s = socket(&dir, "7.sock");
        let server = fake_program(&s.path, INFO);
        let Asked::Running(info) = info(&s) else {
            panic!("no answer")
        };
        assert_eq!((info.name.as_str(), info.memory_bytes), ("hanoi", 131072));
        assert_eq!(server.join().unwrap(), "{\"request\":\"info\"}\n");
    }

    #[test]
    fn a_socket_nobody_listens_on_is_stale() {
        let dir = tempfile::tempdir().unwrap();
        let s = socket(&dir, "7.sock");
        drop(UnixListener::bind(&s.path).unwrap());
        assert!(matches!(info(&s), Asked::Stale));
        assert!(matches!(info(&socket(&dir, "8.sock")), Asked::Stale));
    }

    #[test]
    fn a_cut_or_senseless_reply_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for (name, reply) in [("1.sock", "{\"reply\":\"info\""), ("2.sock", "hello\n"), ("3.sock", "")] {
            let s = socket(&dir, name);
            let server = fake_program(&s.path, reply);
            assert!(matches!(info(&s), Asked::Silent(_)), "{reply:?}");
            server.join().unwrap();
        }
    }

    #[test]
    fn only_sockets_named_by_a_process_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["12.sock", "3.sock", "x.sock", "4.txt", "-1.sock", "4-1.sock"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let found = list(dir.path()).unwrap();
        let found: Vec<_> = found.iter().map(|s| (s.pid, s.elsewhere)).collect();
        assert_eq!(
            found,
            [(3, false), (4, true), (12, false)],
            "no PID namespace has the number 1"
        );
    }
}
