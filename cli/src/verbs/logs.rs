//! `dunlin logs`: what a program that came to this machine has said.

use crate::failure::{Outcome, could_not};
use crate::find::running::find_patiently;
use crate::show;
use clap::Args;
use dunlin_transfer::records::Shelf;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// How often it is looked for more.
const AGAIN: Duration = Duration::from_millis(50);

/// Prints the output of a program that has come to this machine
///
/// Of a program that doesn't run any more, give the name: that of the last one of this name is printed. At most the
/// newest 64 MiB are kept (`dunlin receive --log-limit`).
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Process id of the program, or its name
    #[arg(value_name = "PID")]
    who: String,
    /// Go on with what it says, until it ends or moves
    #[arg(short, long)]
    follow: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Logs) -> Outcome {
    let fail = |why: String| could_not(format!("show the output of {}: {why}", show::clean(&args.who)));
    let (path, pid) = match find_patiently(&args.who) {
        Ok((_, info)) => (of_process(info.pid).map_err(fail)?, Some(info.pid)),
        Err(why) => match of_name(&args.who).map_err(|e| fail(e.to_string()))? {
            Some(path) => (path, None),
            None => return Err(fail(why)),
        },
    };
    let follow = pid.filter(|_| args.follow);
    // At the moment at which a new log is begun, the process has the one before.
    let is_own = |now: PathBuf| now == path || now == before(&path);
    let more = || follow.is_some_and(|pid| of_process(pid).is_ok_and(is_own));
    print(&path, more).map_err(|e| fail(format!("{}: {e}", show::path(&path))))
}

/// The file that a process's standard output goes to.
fn of_process(pid: u32) -> Result<PathBuf, String> {
    let output = format!("/proc/{pid}/fd/1");
    let path = fs::read_link(&output).map_err(|e| e.to_string())?;
    match fs::metadata(&output) {
        Ok(found) if found.is_file() => Ok(path),
        _ => Err(format!(
            "it goes to {}: only programs that have moved here have a log",
            show::path(&path)
        )),
    }
}

/// The newest log of a program of that name.
fn of_name(name: &str) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(Shelf::of_user()?.directory().join("logs")) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let file = entry.file_name();
        let of = file.to_str().and_then(|f| f.strip_suffix(".log")?.rsplit_once('-'));
        if of.is_some_and(|(of, _)| of == name) {
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    Ok(found.into_iter().max().map(|(_, path)| path))
}

/// The log before this one.
fn before(path: &Path) -> PathBuf {
    let mut older = path.as_os_str().to_owned();
    older.push(".1");
    older.into()
}

/// Prints the log before this one, then this one, and what comes while `more` may come.
fn print(path: &Path, more: impl Fn() -> bool) -> io::Result<()> {
    let older = before(path);
    let mut file = loop {
        let file = File::open(path)?;
        let before = match File::open(&older) {
            Ok(before) => Some(before),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        // Unless a new one was begun between the two.
        if is_at(&file, path)? {
            before.map_or(Ok(()), |mut before| all(&mut before))?;
            break file;
        }
    };
    loop {
        // Before it is read: what is said until then is in the file.
        let (may_come, newest) = (more(), is_at(&file, path)?);
        all(&mut file)?;
        match (newest, may_come) {
            (false, _) => {
                if !is_at(&file, &older)? {
                    show::complain("dunlin logs: more was said than the log keeps; some is missing here");
                }
                file = File::open(path)?;
            }
            (true, true) => thread::sleep(AGAIN),
            (true, false) => return Ok(()),
        }
    }
}

/// Is this open file the one of the name? True as well while there is none of the name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (held, there) = (file.metadata()?, fs::metadata(path));
    match there {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
        there => there.map(|there| (held.dev(), held.ino()) == (there.dev(), there.ino())),
    }
}

/// Prints the rest of a file.
fn all(file: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            n => show::write(|out| out.write_all(&buffer[..n])),
        }
    }
}
