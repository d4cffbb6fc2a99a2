//! Real programs, moved many times in one run between the architectures: C, C++ and Rust, interpreters, files,
//! exceptions. Standard output, exit code and every file written must be those of the machine's own compiler's build
//! (of its Python, for CPython).

use dunlin_format::arch::Arch;
use dunlin_tests::case::{Case, Files};
use dunlin_tests::real::{Recipe, ours};
use dunlin_tests::recipes::{self, Eh};
use dunlin_tests::slice;
use dunlin_tests::sources;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

fn built(recipe: &Recipe, args: fn(&str) -> Vec<String>, prepare: fn(&Path)) -> Case {
    Case::new(&recipe.module(), Command::new(recipe.native()), args, prepare)
}

/// Puts a script of ours into the program's directory.
fn bring(script: &str, dir: &Path) {
    std::fs::copy(ours(script), dir.join(script)).expect("the script can be copied");
}

fn both(leg: u64) -> impl Fn(Arch) -> u64 {
    move |_| leg
}

/// Declares a program: a function that builds it once.
macro_rules! case {
    ($name:ident, $make:expr) => {
        fn $name() -> &'static Case {
            static CASE: OnceLock<Case> = OnceLock::new();
            CASE.get_or_init(|| $make)
        }
    };
}

case!(
    sqlite,
    built(
        &recipes::sqlite(),
        |dir| vec![format!("{dir}/test.db"), "8".into()],
        |_| ()
    )
);
case!(
    lua,
    built(
        &recipes::lua(),
        |dir| vec![format!("{dir}/script.lua"), "4".into(), dir.into()],
        |dir| bring("script.lua", dir),
    )
);
case!(lua_legacy, lua_with_setjmp(Eh::Legacy));
case!(lua_new, lua_with_setjmp(Eh::New));
case!(shapes_legacy, shapes(Eh::Legacy));
case!(shapes_new, shapes(Eh::New));
case!(
    quickjs,
    built(
        &recipes::quickjs(),
        |dir| ["--std", "-m", &format!("{dir}/script.js"), "2", dir]
            .map(String::from)
            .into(),
        |dir| bring("script.js", dir),
    )
);
case!(
    squeeze,
    built(&recipes::squeeze(), |dir| vec!["2".into(), dir.into()], |_| ())
);
case!(
    ledger,
    built(&recipes::ledger(), |dir| vec!["6".into(), dir.into()], |_| ())
);
case!(
    cpython,
    python(|dir| vec![format!("{dir}/script.py"), "4".into(), dir.into()])
);

fn lua_with_setjmp(eh: Eh) -> Case {
    built(
        &recipes::lua_with_setjmp(eh),
        |dir| vec![format!("{dir}/errors.lua"), "2".into(), dir.into()],
        |dir| bring("errors.lua", dir),
    )
}

fn shapes(eh: Eh) -> Case {
    built(&recipes::shapes(eh), |dir| vec!["10".into(), dir.into()], |_| ())
}

fn python(args: fn(&str) -> Vec<String>) -> Case {
    Case::new(&sources::cpython(), Command::new("python3"), args, |dir| {
        bring("script.py", dir)
    })
}

/// Undisturbed on both architectures, and moved at every Nth point on each.
fn in_place(case: &Case, every: [u64; 2]) {
    for (arch, every) in Arch::ALL.into_iter().zip(every) {
        case.undisturbed(arch);
        case.forced(arch, every);
    }
}

/// Moved from each architecture to the other, every `leg` points, with the directory shared, and with it inside the
/// snapshots. A journey that begins on x86_64 with the files where they are, and one from aarch64 that brings all of
/// them; one of the two, unless all is asked for.
fn to_and_fro(name: &str, case: &Case, leg: u64) {
    for way in slice::variants(name, 2) {
        match way {
            0 => case.moved(Arch::X86_64, both(leg), 20, Files::Shared),
            _ => case.moved(Arch::Aarch64, both(leg), 20, Files::All),
        };
    }
}

#[test]
fn sqlite_in_place() {
    in_place(sqlite(), [97, 997]);
}

#[test]
fn sqlite_moved() {
    for way in slice::variants("sqlite", 2) {
        match way {
            0 => sqlite().moved(Arch::X86_64, both(30_000), 20, Files::Shared),
            // The database is open all the time, and a journal now and then.
            _ => sqlite().moved(Arch::Aarch64, both(30_000), 20, Files::OpenOnes),
        };
    }
}

#[test]
fn lua_in_place() {
    in_place(lua(), [97, 997]);
}

#[test]
fn lua_moved() {
    to_and_fro("lua", lua(), 45_000);
}

#[test]
fn setjmp_in_place() {
    in_place(lua_legacy(), [97, 997]);
    in_place(lua_new(), [89, 991]);
}

#[test]
fn setjmp_moved() {
    to_and_fro("lua_legacy", lua_legacy(), 13_000);
    to_and_fro("lua_new", lua_new(), 12_000);
}

#[test]
fn exceptions_in_place() {
    in_place(shapes_legacy(), [997, 9_973]);
    in_place(shapes_new(), [991, 9_967]);
}

#[test]
fn exceptions_moved() {
    to_and_fro("shapes_legacy", shapes_legacy(), 17_000);
    to_and_fro("shapes_new", shapes_new(), 16_000);
}

#[test]
fn quickjs_in_place() {
    in_place(quickjs(), [9_973, 99_991]);
}

#[test]
fn quickjs_moved() {
    to_and_fro("quickjs", quickjs(), 100_000);
}

#[test]
fn compression_in_place() {
    in_place(squeeze(), [99_991, 999_983]);
}

#[test]
fn compression_moved() {
    to_and_fro("squeeze", squeeze(), 110_000);
}

#[test]
fn rust_in_place() {
    in_place(ledger(), [97, 997]);
}

#[test]
fn rust_moved() {
    to_and_fro("ledger", ledger(), 15_000);
}

#[test]
fn cpython_in_place() {
    cpython().undisturbed(Arch::X86_64);
    cpython().forced(Arch::X86_64, 99_991);
}

#[test]
fn cpython_moved() {
    let leg = |arch| if arch == Arch::X86_64 { 9_000_000 } else { 600_000 };
    for way in slice::variants("cpython", 2) {
        match way {
            0 => cpython().moved(Arch::X86_64, leg, 10, Files::Shared),
            _ => cpython().moved(Arch::Aarch64, leg, 10, Files::All),
        };
    }
}

/// Ten seconds of computing on x86_64; every move is asked for from outside, as a person would.
#[test]
fn cpython_moved_for_ten_seconds() {
    let case = python(|dir| vec![format!("{dir}/script.py"), "72".into(), dir.into()]);
    let leg = |arch| Duration::from_millis(if arch == Arch::X86_64 { 850 } else { 800 });
    case.moved_by_time(Arch::X86_64, leg, 10, Files::Shared);
}
