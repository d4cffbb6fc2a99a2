//! A real program with its reference: what a build by the machine's own compiler (or another interpreter) prints and
//! writes. However the program is run and moved here, standard output, exit code and every file written must be the
//! reference's.

use crate::moves::{Journey, ping_pong, timed};
use crate::process::{Input, run};
use crate::program::{Program, Run, scratch};
use crate::tree::{Node, tree};
use dunlin_format::arch::Arch;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A real program with its reference.
#[derive(Debug)]
pub struct Case {
    program: Program,
    /// Arguments, with the directory's place left open.
    args: fn(&str) -> Vec<String>,
    /// Files the directory holds at first.
    prepare: fn(&Path),
    stdout: String,
    files: BTreeMap<String, Node>,
}

/// How the program's directory gets to the other machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// It is shared (`--dir`).
    Shared,
    /// What is open travels in the snapshot, into an empty directory each time (`--carry`).
    OpenOnes,
    /// All of it travels in the snapshot, into an empty directory each time (`--carry-all`).
    All,
}

impl Files {
    fn option(self) -> &'static str {
        match self {
            Files::Shared => "--dir",
            Files::OpenOnes => "--carry",
            Files::All => "--carry-all",
        }
    }
}

impl Case {
    /// A module, and a command that does the same without Dunlin.
    #[track_caller]
    pub fn new(module: &Path, mut reference: Command, args: fn(&str) -> Vec<String>, prepare: fn(&Path)) -> Case {
        let dir = scratch();
        prepare(dir.path());
        reference.args(args(&dir.path().display().to_string()));
        let outcome = run(reference, Input::Empty, Duration::from_secs(120)).expect_code(0);
        assert!(outcome.out().ends_with("done\n"), "{outcome}");
        Case {
            program: Program::build(module),
            args,
            prepare,
            stdout: outcome.out(),
            files: tree(dir.path()),
        }
    }

    fn dir(&self) -> TempDir {
        let dir = scratch();
        (self.prepare)(dir.path());
        dir
    }

    fn on(&self, arch: Arch, dir: &TempDir, files: Files) -> Run {
        self.program
            .on(arch)
            .args((self.args)("/data"))
            .opts([files.option().to_owned(), format!("{}::/data", dir.path().display())])
            .timeout(Duration::from_secs(300))
    }

    #[track_caller]
    fn check(&self, code: i32, stdout: &[u8], dir: &TempDir, what: &str) {
        assert_eq!(String::from_utf8_lossy(stdout), self.stdout, "stdout of {what}");
        assert_eq!(code, 0, "exit code of {what}");
        assert_eq!(tree(dir.path()), self.files, "files after {what}");
    }

    /// A run from beginning to end.
    #[track_caller]
    pub fn undisturbed(&self, arch: Arch) {
        let dir = self.dir();
        let outcome = self.on(arch, &dir, Files::Shared).output();
        self.check(outcome.code(), &outcome.stdout, &dir, &outcome.to_string());
    }

    /// A run that is moved in place at every `every`th migration point.
    #[track_caller]
    pub fn forced(&self, arch: Arch, every: u64) {
        let dir = self.dir();
        let outcome = self.on(arch, &dir, Files::Shared).forced(every).output();
        self.check(outcome.code(), &outcome.stdout, &dir, &outcome.to_string());
    }

    /// Moves to the other architecture after about `leg` migration points each time (given by architecture), until the
    /// program ends.
    #[track_caller]
    pub fn moved(&self, first: Arch, leg: impl Fn(Arch) -> u64, at_least: usize, files: Files) {
        // Unequal legs, so that the program is stopped in many kinds of places.
        let lengths = (0..).map(|i| {
            let arch = if i % 2 == 0 { first } else { crate::moves::other(first) };
            let leg = leg(arch);
            leg - leg / 8 + (i * 7919) % (leg / 4)
        });
        self.journey(first, at_least, files, |run| {
            ping_pong(first, lengths, run, || Input::Empty)
        });
    }

    /// Moves to the other architecture with `dunlin checkpoint`, each time after `leg` of processor time, until the
    /// program ends.
    #[track_caller]
    pub fn moved_by_time(&self, first: Arch, leg: impl Fn(Arch) -> Duration, at_least: usize, files: Files) {
        self.journey(first, at_least, files, |run| timed(first, leg, run));
    }

    #[track_caller]
    fn journey(
        &self,
        first: Arch,
        at_least: usize,
        files: Files,
        travel: impl FnOnce(&dyn Fn(Arch) -> Run) -> Journey,
    ) {
        let dirs = RefCell::new(vec![self.dir()]);
        let begun = RefCell::new(false);
        let journey = travel(&|arch| {
            let mut dirs = dirs.borrow_mut();
            if begun.replace(true) && files != Files::Shared {
                dirs.push(scratch());
            }
            self.on(arch, dirs.last().expect("never empty"), files)
        });
        let what = format!(
            "{} moves starting on {first} ({}); snapshots of {} KiB at most; stderr: {}",
            journey.moves,
            files.option(),
            journey.sizes.iter().max().unwrap_or(&0) / 1024,
            String::from_utf8_lossy(&journey.stderr)
        );
        self.check(
            journey.code,
            &journey.stdout,
            dirs.borrow().last().expect("never empty"),
            &what,
        );
        assert!(journey.moves >= at_least, "only {what}");
        println!("{}: {what}", self.program.name());
    }
}
