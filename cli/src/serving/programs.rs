//! The programs that came to this device and run: how many there are, and how much memory they may take.
//!
//! Each has a file in `$XDG_STATE_HOME/dunlin/programs` as long as it runs, so that they are known again when `dunlin
//! serve` ends and is started again; the programs run on meanwhile.

use crate::show;
use rustix::process::{Pid, WaitOptions, waitpid};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Program {
    pid: u32,
    /// When its process began, in the kernel's count: a later process may get the same number.
    began: u64,
    /// Memory that it may take, in bytes.
    memory: u64,
    name: String,
}

#[derive(Debug, Default)]
struct Known {
    running: Vec<Program>,
    /// How many are about to come, and the memory that each of them may take.
    coming: Vec<u64>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Programs {
    directory: PathBuf,
    known: Mutex<Known>,
}

/// When a process began; `None` if there is none of that number, or if it has ended and nobody has asked how.
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before this may have anything in it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let began = fields.nth(18)?.parse().ok()?;
    (state != "Z" && state != "X").then_some(began)
}

impl Programs {
    /// Those that an earlier `dunlin serve` has left here and that still run.
    pub(crate) fn open(state: &Path) -> io::Result<Programs> {
        let directory = state.join("programs");
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let mut known = Known::default();
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            match Programs::read(&path) {
                Some(program) if began(program.pid) == Some(program.began) => known.running.push(program),
                _ => fs::remove_file(path)?,
            }
        }
        let known = Mutex::new(known);
        Ok(Programs { directory, known })
    }

    fn read(path: &Path) -> Option<Program> {
        let text = fs::read_to_string(path).ok()?;
        let mut lines = text.lines();
        Some(Program {
            pid: path.file_name()?.to_str()?.parse().ok()?,
            began: lines.next()?.parse().ok()?,
            memory: lines.next()?.parse().ok()?,
            name: lines.next()?.to_owned(),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// How many run or are about to come, and how much memory they may take together.
    #[cfg(test)]
    fn count(&self) -> (usize, u64) {
        self.look();
        let known = self.known();
        let memory = known
            .running
            .iter()
            .map(|p| p.memory)
            .chain(known.coming.iter().copied());
        let sum = memory.fold(0, u64::saturating_add);
        (known.running.len() + known.coming.len(), sum)
    }

    /// Keeps a place for one that is about to come, if there are fewer than `most`, and they take no more than `total`
    /// with it; else returns how many there are and what they take.
    pub(crate) fn reserve(&self, memory: u64, most: usize, total: Option<u64>) -> Result<(), (usize, u64)> {
        self.look();
        let mut known = self.known();
        let count = known.running.len() + known.coming.len();
        let taken = known
            .running
            .iter()
            .map(|p| p.memory)
            .chain(known.coming.iter().copied());
        let taken = taken.fold(0, u64::saturating_add);
        if count >= most || total.is_some_and(|total| taken.saturating_add(memory) > total) {
            return Err((count, taken));
        }
        known.coming.push(memory);
        Ok(())
    }

    /// One that was about to come doesn't, or has.
    pub(crate) fn release(&self, memory: u64) {
        let coming = &mut self.known().coming;
        if let Some(at) = coming.iter().position(|m| *m == memory) {
            coming.swap_remove(at);
        }
    }

    /// One has come and runs.
    pub(crate) fn add(&self, pid: u32, name: &str, memory: u64) {
        // It may have ended already: it is noticed all the same, so that nothing stays of it.
        let began = began(pid).unwrap_or(0);
        let text = format!("{began}\n{memory}\n{}\n", show::clean(name));
        if let Err(e) = fs::write(self.directory.join(pid.to_string()), text) {
            show::complain(&format!("dunlin serve: process {pid} can't be noted: {e}"));
        }
        self.known().running.push(Program {
            pid,
            began,
            memory,
            name: show::clean(name),
        });
    }

    /// Notices which of them have ended, and tells how.
    pub(crate) fn look(&self) {
        let mut known = self.known();
        known.running.retain(|program| {
            let pid = i32::try_from(program.pid).ok().and_then(Pid::from_raw);
            let ended = match waitpid(pid, WaitOptions::NOHANG) {
                Ok(Some((_, status))) => match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Some(format!("ended with exit code {code}")),
                    (_, Some(signal)) => Some(format!("was ended by signal {signal}")),
                    _ => None,
                },
                Ok(None) => None,
                // It is not a child of this process.
                Err(_) => (began(program.pid) != Some(program.began)).then(|| "has ended".into()),
            };
            if let Some(how) = &ended {
                show::complain(&format!(
                    "dunlin serve: {} (process {}) {how}",
                    program.name, program.pid
                ));
                let _ = fs::remove_file(self.directory.join(program.pid.to_string()));
            }
            ended.is_none()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn they_are_counted_until_they_end_and_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let programs = Programs::open(dir.path()).unwrap();
        assert_eq!(programs.reserve(10, 1, Some(9)), Err((0, 0)));
        programs.reserve(10, 1, Some(10)).unwrap();
        assert_eq!(programs.reserve(1, 1, None), Err((1, 10)));
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        programs.add(child.id(), "a\x1b", 10);
        programs.release(10);
        assert_eq!(programs.count(), (1, 10));
        let again = Programs::open(dir.path()).unwrap();
        assert_eq!(again.count(), (1, 10));
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while programs.count() != (0, 0) {
            assert!(std::time::Instant::now() < deadline);
        }
        assert_eq!(Programs::open(dir.path()).unwrap().count(), (0, 0));
        assert_eq!(fs::read_dir(dir.path().join("programs")).unwrap().count(), 0);
        let mut short = Command::new("true").spawn().unwrap();
        while began(short.id()).is_some() {}
        programs.add(short.id(), "b", 10);
        assert_eq!(programs.count(), (0, 0));
        assert!(short.wait().is_err(), "it is reaped already");
        assert_eq!(fs::read_dir(dir.path().join("programs")).unwrap().count(), 0);
        assert!(again.count() == (0, 0) && began(std::process::id()).is_some());
        let _ = child.wait();
    }
}
