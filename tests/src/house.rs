//! A household of machines, which are sets of directories, and `dunlin migrate` between them.

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

/// A host, for [`House::with_ssh`], that takes all that is sent and never answers.
pub const SILENT: &str = "silent";

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

    /// A command that finds `dunlin` and `ssh` on its `PATH`: to the machines of this house, each in its own directory,
    /// and to [`SILENT`].
    pub fn with_ssh(&self, mut command: Command) -> Command {
        let bin = self.path("bin");
        if !bin.exists() {
            fs::create_dir(&bin).unwrap();
            symlink(tools::dunlin(), bin.join("dunlin")).unwrap();
            let script = fs::read_to_string(self.shell()).unwrap();
            let script = script.replace("*) exit", &format!("{SILENT}) exec sed -n '' ;;\n*) exit"));
            let here = self.path("$1").display().to_string();
            let script = script.replace("shift\n", &format!("cd {here}\nshift\n"));
            fs::write(bin.join("ssh"), script).unwrap();
            fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        command
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .env_remove("DUNLIN");
        command
    }

    /// Runs `dunlin` on a machine, with that `PATH`.
    pub fn dunlin_with_ssh(&self, machine: &str, words: &[&str]) -> Outcome {
        let command = self.with_ssh(self.on(machine, tools::dunlin(), words));
        run(command, Input::Empty, PATIENCE)
    }

    /// The program on machine a, with that `PATH` and these options.
    pub fn command(&self, words: &[&str], options: &str) -> Command {
        let mut command = self.with_ssh(self.on("a", &self.executable(), words));
        command.env("DUNLIN_OPTS", options);
        command
    }

    /// Ends what was on machines, and begins anew with their directories.
    pub fn clear(&self, machines: &[&str]) {
        for machine in machines {
            let _ = fs::remove_dir_all(self.path(machine));
            self.variables(machine);
        }
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

    /// The same without what Dunlin itself has said.
    pub fn said(&self, machine: &str) -> String {
        let logs = self.logs(machine);
        let said = logs.lines().filter(|line| !line.starts_with("Warning: "));
        said.map(|line| format!("{line}\n")).collect()
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

/// What `dunlin migrate --json` has said: what happened, and last the report.
pub fn events(outcome: &Outcome) -> Vec<serde_json::Value> {
    let text = outcome.out();
    let event = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    text.lines().map(event).collect()
}
