//! A household of machines, each a set of directories, with an `ssh` on the `PATH` that leads from any to any: what
//! `dunlin migrate PID ssh://b` runs on b is run here, with b's directories.

use crate::guest::clang;
use crate::process::{Input, Outcome, Running, run, start};
use crate::program::scratch;
use crate::tools;
use dunlin_format::arch::Arch;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take, qemu and a busy machine included.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The machines. A host of another name can't be reached, but for [`SILENT`].
pub const MACHINES: [&str; 3] = ["a", "b", "c"];

/// A host that takes all that is sent and never answers.
pub const SILENT: &str = "silent";

/// See the module.
#[derive(Debug)]
pub struct House {
    dir: TempDir,
}

impl House {
    /// Machines with the executables of `tests/programs/NAME.c`.
    #[track_caller]
    pub fn new(name: &str) -> House {
        let house = House { dir: scratch() };
        let bin = house.path("bin");
        fs::create_dir(&bin).expect("scratch space is writable");
        symlink(tools::dunlin(), bin.join("dunlin")).expect("a link can be made");
        house.script("ssh", &house.shell());
        let module = house.path(&format!("{name}.wasm"));
        clang(&[tools::root().join(format!("tests/programs/{name}.c"))], &[], &module);
        let built = house.dunlin("a", &["build", "-q", &module.display().to_string()]);
        built.expect_code(0);
        house
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The executable of a program for this machine's architecture.
    pub fn exe(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.{}", Arch::host().expect("it is known")))
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, text).expect("scratch space is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    fn shell(&self) -> String {
        let mut script = String::from("#!/bin/sh\ncase \"$1\" in\n");
        for machine in MACHINES {
            let variables = self.variables(machine);
            let set: Vec<String> = variables.iter().map(|(n, v)| format!("{n}={}", v.display())).collect();
            let home = self.path(machine);
            script += &format!("{machine}) export {}; cd {} ;;\n", set.join(" "), home.display());
        }
        script
            + &format!(
                "{SILENT}) exec sed -n '' ;;\n*) exit 255 ;;\nesac\nunset DUNLIN_OPTS\nshift\neval exec \"$*\"\n"
            )
    }

    /// The variables that make a process run on a machine.
    pub fn variables(&self, machine: &str) -> [(&'static str, PathBuf); 3] {
        let home = self.path(machine);
        for part in ["run", "state", "cache"] {
            fs::create_dir_all(home.join(part)).expect("scratch space is writable");
            fs::set_permissions(home.join(part), fs::Permissions::from_mode(0o700)).expect("it is ours");
        }
        [
            ("XDG_RUNTIME_DIR", home.join("run")),
            ("XDG_STATE_HOME", home.join("state")),
            ("XDG_CACHE_HOME", home.join("cache")),
        ]
    }

    /// A command on a machine.
    pub fn on(&self, machine: &str, program: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(words).current_dir(self.dir.path());
        for (variable, value) in self.variables(machine) {
            command.env(variable, value);
        }
        for variable in ["DUNLIN", "DUNLIN_OPTS", "DUNLIN_FORCE_MIGRATE", "DUNLIN_CHECKPOINT_AT"] {
            command.env_remove(variable);
        }
        command.env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()));
        command
    }

    /// Runs `dunlin` on a machine.
    #[track_caller]
    pub fn dunlin(&self, machine: &str, words: &[&str]) -> Outcome {
        run(self.on(machine, tools::dunlin(), words), Input::Empty, PATIENCE)
    }

    /// Starts a program on a machine.
    #[track_caller]
    pub fn start(&self, machine: &str, name: &str, words: &[&str], options: &str) -> Running {
        let mut command = self.on(machine, &self.exe(name), words);
        if !options.is_empty() {
            command.env("DUNLIN_OPTS", options);
        }
        start(command, Input::Empty, PATIENCE)
    }

    /// What has been said on a machine by programs that came, without what Dunlin itself has said.
    pub fn logs(&self, machine: &str) -> String {
        let mut files: Vec<PathBuf> = fs::read_dir(self.path(machine).join("state/dunlin/logs"))
            .map(|entries| entries.filter_map(|e| Some(e.ok()?.path())).collect())
            .unwrap_or_default();
        let made = |path: &PathBuf| fs::metadata(path).and_then(|m| m.created()).ok();
        files.sort_by_key(made);
        let text: String = files
            .iter()
            .map(|path| fs::read_to_string(path).unwrap_or_default())
            .collect();
        let said = text.lines().filter(|line| !line.starts_with("Warning: "));
        said.map(|line| format!("{line}\n")).collect()
    }

    /// Waits until a machine's programs have said so.
    #[track_caller]
    pub fn wait_for(&self, machine: &str, needle: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.logs(machine).contains(needle) {
            let said = self.logs(machine);
            assert!(Instant::now() < deadline, "{machine} never says {needle:?}: {said}");
            sleep(Duration::from_millis(20));
        }
    }

    /// The transfers that aren't over on a machine.
    pub fn open(&self, machine: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(machine).join("state/dunlin"))
            .into_iter()
            .flatten();
        let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        names
            .filter(|n| n.starts_with("in-") || n.starts_with("out-"))
            .collect()
    }
}
