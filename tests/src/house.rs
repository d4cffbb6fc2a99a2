//! A household of machines, which are sets of directories, and `dunlin migrate` between them.

use crate::guest::clang;
use crate::process::{Input, Outcome, Running, run, start};
use crate::program::scratch;
use crate::tools;
use dunlin_format::arch::Arch;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take, qemu and a busy machine included.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A household of machines, each with directories of its own, and the way from any to any.
#[derive(Debug)]
pub struct House {
    dir: TempDir,
    program: String,
}

impl House {
    /// With a program of `tests/programs/`, in C.
    pub fn new(program: &str) -> House {
        let dir = scratch();
        let source = tools::root().join(format!("tests/programs/{program}.c"));
        let module = format!("{program}.wasm");
        clang(&[source], &[], &dir.path().join(&module));
        let program = program.to_owned();
        let house = House { dir, program };
        house.dunlin("a", &["build", "-q", &module]).expect_code(0);
        house
    }

    /// A file or directory of the house.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command on a machine.
    pub fn on(&self, machine: &str, program: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(words).current_dir(self.dir.path());
        for (variable, value) in self.variables(machine) {
            command.env(variable, value);
        }
        for variable in ["DUNLIN_OPTS", "DUNLIN_FORCE_MIGRATE", "DUNLIN_CHECKPOINT_AT"] {
            command.env_remove(variable);
        }
        command
    }

    /// Where a machine's directories are; they are made.
    pub fn variables(&self, machine: &str) -> [(&'static str, PathBuf); 3] {
        let home = self.path(machine);
        for part in ["run", "state", "cache"] {
            fs::create_dir_all(home.join(part)).unwrap();
            fs::set_permissions(home.join(part), fs::Permissions::from_mode(0o700)).unwrap();
        }
        [
            ("XDG_RUNTIME_DIR", home.join("run")),
            ("XDG_STATE_HOME", home.join("state")),
            ("XDG_CACHE_HOME", home.join("cache")),
        ]
    }

    /// `dunlin` on a machine.
    pub fn dunlin(&self, machine: &str, words: &[&str]) -> Outcome {
        run(self.on(machine, tools::dunlin(), words), Input::Empty, PATIENCE)
    }

    /// A remote shell: the "host" is a machine of this house.
    fn shell(&self) -> PathBuf {
        let path = self.path("rsh");
        if !path.exists() {
            let mut script = String::from("#!/bin/sh\ncase \"$1\" in\n");
            for machine in ["a", "b", "c"] {
                let variables = self.variables(machine);
                let set: Vec<String> = variables.iter().map(|(n, v)| format!("{n}={}", v.display())).collect();
                script += &format!("{machine}) export {} ;;\n", set.join(" "));
            }
            script += "*) exit 255 ;;\nesac\nunset DUNLIN_OPTS\nshift\neval exec \"$*\"\n";
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        path
    }

    /// `dunlin migrate` from one machine to another, with options for `dunlin receive`.
    pub fn migrate(&self, from: &str, pid: u32, to: &str, options: &[&str]) -> Command {
        self.migrate_with(from, pid, to, &[], options)
    }

    /// The same with options of its own, too.
    pub fn migrate_with(&self, from: &str, pid: u32, to: &str, own: &[&str], options: &[&str]) -> Command {
        let (pid, to) = (pid.to_string(), format!("ssh://{to}"));
        let (shell, dunlin) = (self.shell(), tools::dunlin());
        let words = [
            &["migrate", &pid, &to, "--json", "--rsh", shell.to_str().unwrap()],
            &["--remote-dunlin", dunlin.to_str().unwrap()][..],
            own,
            &["--"],
            options,
        ];
        self.on(from, tools::dunlin(), &words.concat())
    }

    /// The program for this machine.
    pub fn executable(&self) -> PathBuf {
        self.path(&format!("{}.{}", self.program, Arch::host().unwrap()))
    }

    /// Starts the program on machine a, and waits for its third line.
    pub fn start(&self, words: &[&str]) -> Running {
        let exe = self.executable();
        let mut running = start(self.on("a", &exe, words), Input::Empty, PATIENCE);
        running.wait_for("3 ");
        running
    }

    /// What an undisturbed run says.
    pub fn expected(&self, words: &[&str]) -> String {
        let exe = self.executable();
        run(self.on("a", &exe, words), Input::Empty, PATIENCE)
            .expect_code(0)
            .out()
    }

    /// What has been said on a machine by programs that came.
    pub fn logs(&self, machine: &str) -> String {
        let mut files: Vec<PathBuf> = fs::read_dir(self.path(machine).join("state/dunlin/logs"))
            .map(|entries| entries.map(|e| e.unwrap().path()).collect())
            .unwrap_or_default();
        files.sort_by_key(|path| fs::metadata(path).unwrap().created().unwrap());
        files.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    /// Waits until a machine's programs have said so.
    pub fn wait_for(&self, machine: &str, needle: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.logs(machine).contains(needle) {
            assert!(
                Instant::now() < deadline,
                "{machine} never says {needle:?}: {}",
                self.logs(machine)
            );
            sleep(Duration::from_millis(20));
        }
    }

    /// The transfers that aren't over on a machine.
    pub fn open(&self, machine: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(machine).join("state/dunlin"))
            .into_iter()
            .flatten();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        names
            .filter(|n| n.starts_with("in-") || n.starts_with("out-"))
            .collect()
    }
}
