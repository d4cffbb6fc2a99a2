//! Finding running programs and talking to them: the client's side of [`dunlin_migrate::control`].
//!
//! Every running executable listens on a socket `PID.sock` in a private directory: `$XDG_RUNTIME_DIR/dunlin`, or
//! `/tmp/dunlin-UID`. A program may have been started with other variables than this command, so both are searched.

use dunlin_migrate::control::{Info, Reply, Request};
use dunlin_runtime::control;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Longest reply that is read, in bytes: a stranger's socket can't fill our memory.
const MAX_REPLY: u64 = 1 << 20;

/// How long a program may take to say who it is, before it counts as not answering.
const INFO_TIMEOUT: Duration = Duration::from_secs(2);

/// A socket found in one of the directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Process id, from the socket's name.
    pub pid: u32,
    /// The socket.
    pub path: PathBuf,
}

/// The directories in which programs of this user listen. Those that are not this user's own are left out: anyone could have
/// made them in `/tmp`.
pub fn directories() -> Vec<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let own = |d: &PathBuf| fs::symlink_metadata(d).is_ok_and(|m| m.is_dir() && m.uid() == uid);
    control::directories().into_iter().filter(own).collect()
}

/// Every socket in a directory, by process id. What is not named `PID.sock` is not ours and is left alone.
pub fn list(directory: &Path) -> io::Result<Vec<Socket>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if let Some(pid) = name.strip_suffix(".sock").and_then(|p| p.parse().ok()) {
            found.push(Socket { pid, path });
        }
    }
    found.sort_by_key(|s: &Socket| s.pid);
    Ok(found)
}

/// What became of asking a program who it is.
#[derive(Debug)]
pub enum Asked {
    /// It answered.
    Running(Info),
    /// Nobody listens: the program is gone and has left its socket behind.
    Stale,
    /// Somebody listens, but did not answer (stopped, or too busy), or answered nonsense.
    Silent(String),
}

/// Asks a program who it is.
pub fn info(socket: &Socket) -> Asked {
    match ask(&socket.path, &Request::Info, Some(INFO_TIMEOUT)) {
        Ok(Reply::Info(info)) => Asked::Running(info),
        Ok(Reply::Failed { error, .. }) => Asked::Silent(error),
        Ok(Reply::Checkpointed(_) | Reply::Checked(_)) => Asked::Silent("it answered another question".into()),
        Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Asked::Stale,
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Asked::Silent(format!("no answer within {} s", INFO_TIMEOUT.as_secs()))
        }
        Err(e) => Asked::Silent(e.to_string()),
    }
}

/// Sends one request and reads its reply. Without a timeout it waits as long as the program takes.
pub fn ask(socket: &Path, request: &Request, timeout: Option<Duration>) -> io::Result<Reply> {
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

/// Every running program of this user for which `wanted` holds, asked who it is, all at once; the sockets of programs that are gone
/// are removed.
pub fn programs(wanted: impl Fn(u32) -> bool) -> Vec<(Socket, Asked)> {
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
                // The same process id may have been given to a new program this very moment.
                if !Path::new("/proc").join(socket.pid.to_string()).exists() {
                    let _ = fs::remove_file(&socket.path);
                }
            }
            asked => found.push((socket, asked)),
        }
    }
    found.sort_by_key(|(socket, _)| socket.pid);
    found
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread::JoinHandle;

    /// A fake program: answers one connection with a fixed line and returns the request it got.
    pub fn fake_program(socket: &Path, reply: &'static str) -> JoinHandle<String> {
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
        }
    }

    #[test]
    fn a_program_says_who_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let s = socket(&dir, "7.sock");
        let server = fake_program(&s.path, INFO);
        let Asked::Running(info) = info(&s) else { panic!("no answer") };
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
        for name in ["12.sock", "3.sock", "x.sock", "4.txt", "-1.sock"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(list(dir.path()).unwrap().iter().map(|s| s.pid).collect::<Vec<_>>(), [3, 12]);
    }
}
