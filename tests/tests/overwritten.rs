//! A running program owes nothing to the file it came from: whoever overwrites, shortens or replaces its snapshot
//! changes nothing for it.

use dunlin_format::arch::Arch;
use dunlin_tests::guest::clang;
use dunlin_tests::process::{Input, Running, run};
use dunlin_tests::program::{CHECKPOINTED, Program, Run, scratch};
use rustix::process::Signal;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

/// A program with 32 MiB of numbers, which it adds up for every byte of input: `programs/waiter.c`.
fn waiter() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let dir = scratch();
        let module = dir.path().join("waiter.wasm");
        clang(
            &[dunlin_tests::tools::root().join("tests/programs/waiter.c")],
            &["-Wl,-z,stack-size=8388608".into()],
            &module,
        );
        Program::build(&module)
    })
}

const SUM: &str = "touched 6773ed6a42a00000\n";

/// A snapshot of it.
fn snapshot() -> (TempDir, PathBuf) {
    let dir = scratch();
    let path = dir.path().join("x.snap");
    let options = [
        "--checkpoint-on",
        "TERM",
        "--checkpoint-to",
        path.to_str().expect("UTF-8"),
    ];
    let run = waiter().on(Arch::X86_64).args(["touch"]).opts(options);
    let mut running = run.stdin(Input::Held).start();
    running.wait_for("ready\n");
    running.signal(Signal::TERM);
    running.finish().expect_code(CHECKPOINTED);
    (dir, path)
}

fn resumed(arch: Arch, snapshot: &Path) -> Run {
    waiter().on(arch).args(["touch"]).resume(snapshot).stdin(Input::Held)
}

/// Lets it add up once more; `n` is how often it will then have done so.
#[track_caller]
fn sums(running: &mut Running, n: usize) {
    running
        .stdin()
        .as_mut()
        .expect("a pipe")
        .write_all(b"a")
        .expect("it reads");
    running.wait_for(&SUM.repeat(n));
}

#[track_caller]
fn ends(mut running: Running, times: usize) {
    drop(running.stdin().take());
    let outcome = running.finish().expect_code(0);
    assert_eq!(outcome.out(), SUM.repeat(times), "{outcome}");
}

/// As `dd conv=notrunc`.
fn in_place(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).expect("a file");
    let len = file.metadata().expect("a file").len();
    let noise: Vec<u8> = (0..1 << 20)
        .map(|n: u32| (n.wrapping_mul(0x9E37_79B9) >> 13) as u8)
        .collect();
    for at in (0..len).step_by(1 << 20) {
        let part = &noise[..noise.len().min((len - at) as usize)];
        file.write_all_at(part, at).expect("it can be written");
    }
}

/// As `cp`.
fn anew(path: &Path) {
    std::fs::write(path, vec![0xa5; 7 << 20]).expect("it can be written");
}

/// As `truncate`.
fn shorten(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).expect("a file");
    file.set_len(4097).expect("it can be shortened");
}

#[test]
fn the_file_is_overwritten_while_the_program_runs() {
    for arch in Arch::ALL {
        for (what, overwrite) in [
            ("in place", in_place as fn(&Path)),
            ("anew", anew),
            ("shortened", shorten),
        ] {
            println!("{arch}, {what}");
            let (_dir, path) = snapshot();
            let mut running = resumed(arch, &path).start();
            sums(&mut running, 1);
            overwrite(&path);
            sums(&mut running, 2);
            overwrite(&path);
            sums(&mut running, 3);
            ends(running, 3);
        }
    }
}

/// Before the program has touched any of its memory, at many moments of its start: it is refused, or right.
#[test]
fn the_file_is_overwritten_while_the_program_starts() {
    let mut refused = 0;
    for n in 0..20_u64 {
        let (_dir, path) = snapshot();
        let arch = if n % 5 == 4 { Arch::Aarch64 } else { Arch::X86_64 };
        let mut running = resumed(arch, &path).start();
        std::thread::sleep(Duration::from_micros(n * n * 200));
        [in_place as fn(&Path), anew, shorten][n as usize % 3](&path);
        let _ = running.stdin().as_mut().expect("a pipe").write_all(b"a");
        drop(running.stdin().take());
        let outcome = running.finish();
        match outcome.code() {
            0 => assert_eq!(outcome.out(), SUM, "{outcome}"),
            86 | 87 => {
                assert!(outcome.stdout.is_empty() && outcome.err().len() > 10, "{outcome}");
                refused += 1;
            }
            _ => panic!("{outcome}"),
        }
    }
    assert!(refused < 20, "it never came to run");
}

/// At the worst moment: its header was read, and nothing keeps others from the file yet. A debugger stops the program
/// at the system call that takes the lease, and shortens the file.
#[test]
fn the_file_is_shortened_before_its_lease() {
    if Arch::host() != Some(Arch::X86_64) {
        return;
    }
    let (_dir, path) = snapshot();
    let mut command = Command::new("gdb");
    let shorten = format!("shell truncate -s 4097 '{}'", path.display());
    let steps = [
        "catch syscall fcntl",
        // F_SETLEASE.
        "condition 1 $rsi == 1024",
        "run",
        "print $rsi",
        &shorten,
        "delete",
        "continue",
    ];
    command.args(["-batch", "-nx"]);
    command.args(steps.iter().flat_map(|step| ["-ex", step]));
    command.arg("--args").arg(waiter().exe(Arch::X86_64)).arg("touch");
    command.env("DUNLIN_OPTS", format!("--resume {}", path.display()));
    let said = run(command, Input::Empty, Duration::from_secs(60)).expect_code(0);
    let (out, err) = (said.out(), said.err());
    assert!(out.contains("= 1024"), "no lease was taken:\n{out}");
    assert!(out.contains("exited with code 0126"), "not refused:\n{out}\n{err}");
    assert!((out + &err).contains("beyond its end"), "{err}");
}

/// Where no lease can be had, as while someone has the file open for writing, the program has a copy from the
/// beginning.
#[test]
fn someone_is_about_to_write() {
    for arch in Arch::ALL {
        let (_dir, path) = snapshot();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let mut running = resumed(arch, &path).start();
        sums(&mut running, 1);
        file.write_all_at(&vec![3; 16 << 20], 65_536).unwrap();
        sums(&mut running, 2);
        file.set_len(0).unwrap();
        sums(&mut running, 3);
        ends(running, 3);
    }
}

/// A stopped program holds up whoever wants to write, and is right afterwards.
#[test]
fn the_program_is_stopped_meanwhile() {
    let (_dir, path) = snapshot();
    let mut running = resumed(Arch::X86_64, &path).start();
    sums(&mut running, 1);
    running.signal(Signal::STOP);
    let there = path.clone();
    let writer = std::thread::spawn(move || anew(&there));
    std::thread::sleep(Duration::from_millis(300));
    assert!(!writer.is_finished(), "nobody held it up");
    running.signal(Signal::CONT);
    writer.join().unwrap();
    sums(&mut running, 2);
    ends(running, 2);
}

/// Incremental snapshots take pages from earlier ones in the same directory; those, too, may be overwritten: while the
/// program runs on, and while it writes the next one.
#[test]
fn a_base_is_overwritten() {
    for arch in Arch::ALL {
        let dir = scratch();
        let saves = dir.path().join("saves");
        let options = |every: &str| {
            let to = saves.to_str().expect("UTF-8").to_owned();
            [
                "--checkpoint-every".into(),
                every.to_owned(),
                "--checkpoint-to".into(),
                to,
            ]
        };
        let start = |every: &str| {
            let run = waiter().on(arch).args(["touch"]).opts(options(every));
            run.stdin(Input::Held).start()
        };
        let mut first = start("200ms");
        first.wait_for("ready\n");
        let newest = || dunlin_migrate::store::list(&saves).unwrap_or_default();
        let begun = std::time::Instant::now();
        while newest().first().is_none_or(|(n, _)| *n < 3) {
            assert!(begun.elapsed() < Duration::from_secs(60), "no snapshots");
            std::thread::sleep(Duration::from_millis(20));
        }
        first.signal(Signal::KILL);
        first.finish();
        let mut second = start("100ms");
        sums(&mut second, 1);
        for round in 2..8 {
            for (_, path) in newest() {
                // It may have been removed meanwhile.
                if File::open(&path).is_ok() {
                    let overwrite: fn(&Path) = if round % 2 == 0 { in_place } else { anew };
                    let _ = std::panic::catch_unwind(|| overwrite(&path));
                }
            }
            std::thread::sleep(Duration::from_millis(70));
            sums(&mut second, round);
        }
        ends(second, 7);
    }
}
