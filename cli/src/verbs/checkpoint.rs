//! `dunlin checkpoint`: asks a running program to write its state to a file.

use crate::failure::{Outcome, could_not};
use crate::find::{self, running::find_patiently};
use crate::hint::{Hint, resume_hint};
use crate::make::files;
use crate::progress::{self, Look, Unit};
use crate::{findings, show};
use clap::Args;
use dunlin_migrate::control::{Checkpointed, Info, Reply, Request};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes the state of a running program to a file, to go on from here or elsewhere
#[derive(Debug, Args)]
pub(crate) struct Checkpoint {
    /// Process id of the program, or its name if only one of that name runs (see `dunlin ps`)
    #[arg(value_name = "PID")]
    who: String,
    /// The snapshot to write; it replaces a previous one only when it is complete
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Let the program run on afterwards (otherwise it exits with code 85)
    #[arg(long)]
    leave_running: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Checkpoint) -> Outcome {
    let fail = |why: String| could_not(format!("checkpoint {}: {why}", show::clean(&args.who)));
    let (socket, info) = find_patiently(&args.who).map_err(fail)?;
    if !info.migratable {
        return Err(fail("it was built with --no-migration; build it again without".into()));
    }
    let to = absolute(&args.output).map_err(|why| fail(format!("cannot write {}: {why}", show::path(&args.output))))?;
    // Read while the program is still there.
    let resume = resume_hint(&info, &args.output);
    let to_look_at = to.clone();
    let request = Request::Checkpoint {
        to,
        leave_running: args.leave_running,
    };
    let expected = info.memory_bytes;
    let asked = progress::with_bar(
        || look(info.pid, &to_look_at, expected),
        || find::ask(&socket.path, &request, None),
    );
    let done = match asked {
        Ok(Reply::Checkpointed(done)) => done,
        Ok(Reply::Failed { findings, .. }) if findings.len() > 1 => {
            let all = findings::list(&findings);
            return Err(fail(format!(
                "it runs on; {} things stand in the way\n{}",
                findings.len(),
                all.trim_end()
            )));
        }
        Ok(Reply::Failed { error, .. }) => return Err(fail(format!("{}; it runs on", show::clean(&error)))),
        Ok(Reply::Info(_) | Reply::Checked(_) | Reply::Round(_) | Reply::GoesOn) => {
            return Err(fail(
                "it answered another question; is it of another version of Dunlin?".into(),
            ));
        }
        Err(e) => return Err(fail(format!("{e}; `dunlin ps` shows whether it still runs"))),
    };
    if args.json {
        show::json(&serde_json::json!(done));
    } else {
        show::print(&report(&info, &done, args, &resume));
    }
    Ok(())
}

/// How much of the snapshot is written, in the file that gets the snapshot's name when it is complete. `expected`: the
/// size of the program's memory, of which pages of zeros are left out.
fn look(pid: u32, to: &Path, expected: u64) -> Look {
    let prefix = format!(".dunlin-{pid}-");
    let entries = to.parent().and_then(|directory| fs::read_dir(directory).ok());
    let being_written = |entry: fs::DirEntry| {
        let own = entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix));
        own.then(|| entry.metadata().ok()).flatten()
    };
    let found = entries.into_iter().flatten().flatten().filter_map(being_written);
    // Another one of that process may be a second name of an older snapshot.
    let newest = found.max_by_key(|metadata| metadata.modified().ok());
    let done = newest.map_or(0, |metadata| metadata.len());
    Look {
        // It is read once more before it counts.
        what: if done < expected { "writing" } else { "checking" }.into(),
        done,
        of: expected,
        unit: Unit::Bytes,
    }
}

/// The path as the program, whose current directory may be another, must be told it. What is wrong with it is said now,
/// before anything is stopped.
fn absolute(file: &Path) -> Result<PathBuf, String> {
    file.file_name().ok_or("it is not the name of a file")?;
    if file.is_dir() {
        return Err("it is a directory; give a file name".into());
    }
    let file = files::follow(file).map_err(|e| e.to_string())?;
    let name = file.file_name().ok_or("it is not the name of a file")?;
    let parent = match file.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let parent = parent
        .canonicalize()
        .map_err(|e| format!("its directory cannot be used: {e}"))?;
    let path = parent.join(name);
    // The request is JSON, which carries text only.
    if path.to_str().is_none() {
        Err("its path is not valid UTF-8".into())
    } else {
        Ok(path)
    }
}

/// What a person is told after a checkpoint.
fn report(info: &Info, done: &Checkpointed, args: &Checkpoint, resume: &Hint) -> String {
    let (name, pid, file) = (show::clean(&info.name), info.pid, show::path(&args.output));
    let frames = if done.frames == 1 {
        "1 frame".into()
    } else {
        format!("{} frames", done.frames)
    };
    let after = if args.leave_running {
        "it runs on"
    } else {
        "it has stopped, exit code 85"
    };
    let mut text = format!(
        "{name} (process {pid}) is checkpointed; {after}\n  \
         snapshot   {file}, {size}, {frames}\n  \
         time       {stop} to stop, {write} to write\n\
         to let it go on here, or on another machine with the snapshot and its executable at hand:\n  \
         {command}\n",
        command = resume.command,
        size = show::size(done.bytes),
        stop = show::micros(done.stop_us),
        write = show::micros(done.write_us),
    );
    for note in &resume.notes {
        text += &format!("  ({note})\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn the_output_is_checked_before_anything_stops() {
        let dir = tempfile::tempdir().unwrap();
        assert!(absolute(dir.path()).unwrap_err().contains("is a directory"));
        assert!(
            absolute(&dir.path().join("none/x.snap"))
                .unwrap_err()
                .contains("directory cannot be used")
        );
        assert!(absolute(Path::new("/")).unwrap_err().contains("not the name of a file"));
        assert_eq!(
            absolute(Path::new("x.snap")).unwrap(),
            std::env::current_dir().unwrap().canonicalize().unwrap().join("x.snap")
        );
    }

    #[test]
    fn the_report_ends_with_the_command_that_resumes() {
        let args = Checkpoint {
            who: "7".into(),
            output: "x.snap".into(),
            leave_running: false,
            json: false,
        };
        let done = Checkpointed {
            bytes: 70_000,
            frames: 1,
            stop_us: 310,
            write_us: 4_100,
        };
        let mut hint = Hint {
            command: "dunlin resume x.snap".into(),
            notes: Vec::new(),
        };
        let text = report(&info(7, "hanoi"), &done, &args, &hint);
        assert!(
            text.contains("hanoi (process 7) is checkpointed; it has stopped, exit code 85"),
            "{text}"
        );
        assert!(
            text.contains("x.snap, 68.4 KiB, 1 frame\n") && text.contains("310 us to stop, 4.1 ms to write"),
            "{text}"
        );
        assert!(text.ends_with("\n  dunlin resume x.snap\n"), "{text}");
        hint.notes.push("without its grants".into());
        let text = report(&info(7, "hanoi"), &done, &args, &hint);
        assert!(text.ends_with("x.snap\n  (without its grants)\n"), "{text}");
    }
}
