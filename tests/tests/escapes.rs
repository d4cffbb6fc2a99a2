//! Attempts to leave a granted directory, through real executables on both architectures: by every function that takes
//! a path, by races, and before and after a move. (The same from the runtime's side: `runtime/tests/wasi/escapes.rs`.)

use dunlin_format::arch::Arch;
use dunlin_tests::guest::clang;
use dunlin_tests::moves::other;
use dunlin_tests::program::{CHECKPOINTED, Program, scratch};
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tempfile::TempDir;

/// Fewest paths that are tried.
const AT_LEAST: usize = 40;

fn program() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let dir = scratch();
        let module = dir.path().join("escapes.wasm");
        let source = dunlin_tests::tools::root().join("tests/programs/escapes.c");
        clang(&[source], &[], &module);
        Program::build(&module)
    })
}

/// A directory `in` to be granted, full of links that lead out of it, and secrets beside it.
fn sandbox() -> TempDir {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    for d in ["in", "out", "in/d", "in/d/e"] {
        fs::create_dir(at(d)).unwrap();
    }
    fs::write(at("out/secret"), "secret").unwrap();
    fs::write(at("beside"), "secret").unwrap();
    fs::write(at("in/f"), "mine").unwrap();
    for (target, name) in [
        ("..", "up"),
        ("../out", "out"),
        ("../out/secret", "secret"),
        ("../beside", "beside"),
        ("d/../../beside", "winding"),
        ("/", "root"),
        ("/etc/passwd", "passwd"),
        ("/proc/self/root/etc/passwd", "proc"),
        ("up/beside", "chained"),
        ("d/deep", "twice"),
        ("secret/", "slash"),
        ("link2", "link1"),
        ("link1", "link2"),
        ("../../..", "d/e/far"),
        ("../../beside", "d/deep"),
    ] {
        symlink(target, at("in").join(name)).unwrap();
    }
    symlink(at("beside"), at("in/absolute")).unwrap();
    dir
}

fn untouched(dir: &TempDir) {
    assert_eq!(fs::read(dir.path().join("beside")).unwrap(), b"secret");
    assert_eq!(fs::read(dir.path().join("out/secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 1);
    assert!(
        fs::metadata(dir.path().join("beside"))
            .unwrap()
            .modified()
            .unwrap()
            .elapsed()
            .unwrap()
            .as_secs()
            < 3600
    );
}

/// The arguments: the host's paths of what must not be reached.
fn absolute(dir: &TempDir) -> [String; 2] {
    ["out/secret", "in/f"].map(|name| dir.path().join(name).to_str().unwrap().to_owned())
}

fn refused(out: &str) {
    let paths: usize = out.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    assert!(paths >= AT_LEAST && out.ends_with(", 0 escapes\n"), "{out}");
}

#[test]
fn no_path_leads_out() {
    for arch in Arch::ALL {
        let dir = sandbox();
        let run = program().on(arch).dir(&dir.path().join("in"), "/").args(absolute(&dir));
        refused(&run.output().expect_code(0).out());
        untouched(&dir);
        assert_eq!(fs::read(dir.path().join("in/f")).unwrap(), b"mine");
    }
}

#[test]
fn nor_after_a_move() {
    for arch in Arch::ALL {
        let dir = sandbox();
        let snapshot = dir.path().join("in/x.snap");
        let run = |arch| program().on(arch).dir(&dir.path().join("in"), "/").args(absolute(&dir));
        let first = run(arch).stop_at(400, &snapshot).output().expect_code(CHECKPOINTED);
        let second = run(other(arch)).resume(&snapshot).output().expect_code(0);
        refused(&(first.out() + &second.out()));
        untouched(&dir);
    }
}

#[test]
fn no_race_is_won() {
    for arch in Arch::ALL {
        let dir = sandbox();
        let (real, link) = (dir.path().join("in/race"), dir.path().join("in/swap"));
        fs::create_dir(&real).unwrap();
        fs::write(real.join("secret"), "mine").unwrap();
        symlink("../out", &link).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                while !stop.load(Relaxed) {
                    renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                }
            });
            let outcome = program()
                .on(arch)
                .dir(&dir.path().join("in"), "/")
                .args(["race"])
                .output();
            stop.store(true, Relaxed);
            assert_eq!(outcome.expect_code(0).out(), "raced, 0 escapes\n");
        });
        untouched(&dir);
    }
}
