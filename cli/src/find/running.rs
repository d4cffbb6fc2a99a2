//! The running program that a person means, by its process id or its name.

use super::sockets::{self, Asked, Socket};
use crate::show;
use dunlin_format::module::ModuleHash;
use dunlin_migrate::control::Info;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long a process that does not listen yet may take to do so.
const STARTING: Duration = Duration::from_secs(5);

/// The program of a process id or a name; else why there is none, as a part of a message. A process that has only just
/// been started is given [`STARTING`] to begin to listen: scripts ask at once.
pub(crate) fn find_patiently(who: &str) -> Result<(Socket, Info), String> {
    let pid: Option<u32> = who.parse().ok();
    let deadline = Instant::now() + STARTING;
    loop {
        let result = find(who, sockets::programs(|other| pid.is_none_or(|pid| pid == other)));
        let may_come = pid.is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists());
        if result.is_ok() || !may_come || Instant::now() > deadline {
            return result;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The program that is meant: by process id, or by name if that is unambiguous.
fn find(who: &str, programs: Vec<(Socket, Asked)>) -> Result<(Socket, Info), String> {
    let pid: Option<u32> = who.parse().ok();
    let (mut found, mut unable) = (Vec::new(), Vec::new());
    for (socket, asked) in programs {
        match asked {
            Asked::Running(info) if pid == Some(socket.pid) || (pid.is_none() && info.name == who) => {
                found.push((socket, info))
            }
            Asked::Silent(why) if is_meant(pid, who, &socket) => {
                let why = show::clean(&why);
                unable.push(format!("process {} does not answer ({why})", socket.pid));
            }
            Asked::Stopped if is_meant(pid, who, &socket) => {
                let pid = socket.pid;
                unable.push(format!(
                    "process {pid} is stopped; let it go on (kill -CONT {pid}), and try again"
                ));
            }
            _ => {}
        }
    }
    if found.is_empty() && !unable.is_empty() {
        return Err(unable.join("; "));
    }
    // A process id is one of this command's own namespace, if there is such a program.
    if pid.is_some() && found.iter().any(|(socket, _)| !socket.elsewhere) {
        found.retain(|(socket, _)| !socket.elsewhere);
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let mut why = "no such program of yours runs (or it was started with --no-control); `dunlin ps` lists them"
                .to_owned();
            if let Some(warning) = sockets::warning() {
                why += &format!("\n{warning}");
            }
            Err(why)
        }
        n => Err(format!(
            "{n} programs of that name run; give the process id, `dunlin ps` lists them"
        )),
    }
}

/// Is a program that doesn't say who it is the one that is meant?
fn is_meant(pid: Option<u32>, who: &str, socket: &Socket) -> bool {
    match pid {
        Some(pid) => pid == socket.pid,
        None => sockets::name_from_outside(socket).as_deref() == Some(who),
    }
}

/// The module that a program says it was built from; `None` if what it says is no hash.
pub(crate) fn module(info: &Info) -> Option<ModuleHash> {
    let hex = &info.module;
    let mut hash = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (n, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(ModuleHash(hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn info(pid: u32, name: &str) -> Info {
        Info {
            pid,
            name: name.into(),
            module: String::new(),
            arch: "x86_64".into(),
            args: vec![name.into()],
            uptime_seconds: 1,
            memory_bytes: 0,
            migratable: true,
            periodic: None,
        }
    }

    fn running(pid: u32, name: &str) -> (Socket, Asked) {
        (
            Socket {
                pid,
                path: PathBuf::new(),
                elsewhere: false,
            },
            Asked::Running(info(pid, name)),
        )
    }

    #[test]
    fn programs_are_found_by_id_or_unambiguous_name() {
        let all = || vec![running(3, "a"), running(4, "b"), running(5, "b"), running(6, "7")];
        assert_eq!(find("4", all()).unwrap().0.pid, 4);
        assert_eq!(find("a", all()).unwrap().0.pid, 3);
        assert!(find("b", all()).unwrap_err().contains("2 programs"));
        assert!(find("9", all()).unwrap_err().contains("no such program"));
        assert!(
            find("7", all()).unwrap_err().contains("no such program"),
            "a number is a process id, never a name"
        );
        let mut two = vec![running(4, "inside"), running(4, "b")];
        two[0].0.elsewhere = true;
        assert_eq!(find("4", two).unwrap().1.name, "b", "not the process 4 of a container");
    }

    #[test]
    fn a_stopped_program_is_told_from_none() {
        let (socket, _) = running(3, "a");
        let why = find("3", vec![(socket, Asked::Stopped)]).unwrap_err();
        assert!(why.contains("is stopped") && why.contains("kill -CONT 3"), "{why}");
    }

    #[test]
    fn a_silent_program_is_named() {
        let silent = vec![(
            Socket {
                pid: 3,
                path: PathBuf::new(),
                elsewhere: false,
            },
            Asked::Silent("no answer within 2 s".into()),
        )];
        assert!(
            find("3", silent)
                .unwrap_err()
                .contains("does not answer (no answer within 2 s)")
        );
    }
}
