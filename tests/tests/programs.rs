//! Real programs, moved many times in one run: SQLite on a file database, and Lua running a script. Standard output, exit code and
//! every file written must be those of the machine's own compiler's build.

use dunlin_migrate::arch::Arch;
use dunlin_tests::moves::ping_pong;
use dunlin_tests::process::{Input, run};
use dunlin_tests::program::{Program, Run, scratch};
use dunlin_tests::real::{Recipe, lua, script, sqlite};
use dunlin_tests::tree::{Node, tree};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

/// A real program with its reference.
struct Case {
    program: Program,
    /// Arguments, with the directory's place left open.
    args: fn(&str) -> Vec<String>,
    /// Files the directory holds at first.
    prepare: fn(&Path),
    stdout: String,
    files: BTreeMap<String, Node>,
}

fn case(recipe: &Recipe, args: fn(&str) -> Vec<String>, prepare: fn(&Path)) -> Case {
    let dir = scratch();
    prepare(dir.path());
    let mut native = Command::new(recipe.native());
    native.args(args(&dir.path().display().to_string()));
    let outcome = run(native, Input::Empty, Duration::from_secs(60)).expect_code(0);
    assert!(outcome.out().ends_with("done\n"), "{outcome}");
    Case {
        program: Program::build(&recipe.module()),
        args,
        prepare,
        stdout: outcome.out(),
        files: tree(dir.path()),
    }
}

fn sqlite_case() -> &'static Case {
    static CASE: OnceLock<Case> = OnceLock::new();
    CASE.get_or_init(|| case(&sqlite(), |dir| vec![format!("{dir}/test.db"), "8".into()], |_| ()))
}

fn lua_case() -> &'static Case {
    static CASE: OnceLock<Case> = OnceLock::new();
    let prepare = |dir: &Path| {
        std::fs::copy(script(), dir.join("script.lua")).expect("the script can be copied");
    };
    CASE.get_or_init(|| {
        case(
            &lua(),
            |dir| vec![format!("{dir}/script.lua"), "4".into(), dir.into()],
            prepare,
        )
    })
}

impl Case {
    fn dir(&self) -> TempDir {
        let dir = scratch();
        (self.prepare)(dir.path());
        dir
    }

    fn on(&self, arch: Arch, dir: &TempDir) -> Run {
        self.program
            .on(arch)
            .args((self.args)("/data"))
            .dir(dir.path(), "/data")
            .timeout(Duration::from_secs(300))
    }

    #[track_caller]
    fn check(&self, code: i32, stdout: &[u8], dir: &TempDir, what: &str) {
        assert_eq!(String::from_utf8_lossy(stdout), self.stdout, "stdout of {what}");
        assert_eq!(code, 0, "exit code of {what}");
        assert_eq!(tree(dir.path()), self.files, "files after {what}");
    }

    fn undisturbed(&self, arch: Arch) {
        let dir = self.dir();
        let outcome = self.on(arch, &dir).output();
        self.check(outcome.code(), &outcome.stdout, &dir, &outcome.to_string());
    }

    fn forced(&self, arch: Arch, every: u64) {
        let dir = self.dir();
        let outcome = self.on(arch, &dir).forced(every).output();
        self.check(outcome.code(), &outcome.stdout, &dir, &outcome.to_string());
    }

    /// Moves every `leg` migration points until the program ends.
    fn moved(&self, first: Arch, leg: u64) {
        let dir = self.dir();
        // Unequal legs, so that the program is stopped in many kinds of places.
        let legs = (0..).map(|i| leg - leg / 8 + (i * 7919) % (leg / 4));
        let journey = ping_pong(first, legs, |arch| self.on(arch, &dir), || Input::Empty);
        let what = format!(
            "{} moves starting on {first}; stderr: {}",
            journey.moves,
            String::from_utf8_lossy(&journey.stderr)
        );
        self.check(journey.code, &journey.stdout, &dir, &what);
        assert!(journey.moves >= 20, "only {what}");
        println!("{what}");
    }
}

#[test]
fn sqlite_undisturbed() {
    Arch::ALL.into_iter().for_each(|arch| sqlite_case().undisturbed(arch));
}

#[test]
fn sqlite_moved_from_x86_64() {
    sqlite_case().moved(Arch::X86_64, 30_000);
}

#[test]
fn sqlite_moved_from_aarch64() {
    sqlite_case().moved(Arch::Aarch64, 30_000);
}

#[test]
fn sqlite_forced() {
    sqlite_case().forced(Arch::X86_64, 97);
    sqlite_case().forced(Arch::Aarch64, 997);
}

#[test]
fn lua_undisturbed() {
    Arch::ALL.into_iter().for_each(|arch| lua_case().undisturbed(arch));
}

#[test]
fn lua_moved_from_x86_64() {
    lua_case().moved(Arch::X86_64, 45_000);
}

#[test]
fn lua_moved_from_aarch64() {
    lua_case().moved(Arch::Aarch64, 45_000);
}

#[test]
fn lua_forced() {
    lua_case().forced(Arch::X86_64, 97);
    lua_case().forced(Arch::Aarch64, 997);
}
