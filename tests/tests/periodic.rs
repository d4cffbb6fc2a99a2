//! `--checkpoint-every`: snapshots while a program runs on, killed programs that go on from the newest, and what damage
//! costs.

use dunlin_format::arch::Arch;
use dunlin_migrate::snapshot::open_file;
use dunlin_migrate::store;
use dunlin_tests::moves::other;
use dunlin_tests::process::{Outcome, Running};
use dunlin_tests::program::{BAD_SNAPSHOT, CHECKPOINTED, Program, Run, USAGE, dunlin, scratch};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// Fills 4 MiB, prints "ready", then for `rounds` (its last argument's first digit times 2^24) mixes a few of its pages
/// into a sum; at the end it adds up all of its memory and prints the sum. Every byte that a snapshot lost would change
/// that.
const MIXER: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (memory (export "memory") 70)
  (data (i32.const 64) "ready\n")
  (func $print (param $at i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $len))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))))
  (func $main (export "_start") (local $n i32) (local $x i32) (local $sum i64) (local $rounds i32)
    (drop (call $args (i32.const 256) (i32.const 512)))
    (local.set $rounds (i32.shl (i32.sub (i32.load8_u (i32.load (i32.const 260))) (i32.const 48)) (i32.const 24)))
    (local.set $n (i32.const 65536))
    (loop $fill
      (i32.store (local.get $n) (i32.mul (local.get $n) (i32.const 0x9e3779b1)))
      (local.set $n (i32.add (local.get $n) (i32.const 4)))
      (br_if $fill (i32.lt_u (local.get $n) (i32.const 4259840))))
    (call $print (i32.const 64) (i32.const 6))
    (loop $mix
      (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 1664525)) (i32.const 1013904223)))
      ;; One of eight pages, which wander slowly.
      (local.set $n (i32.add
        (i32.and (i32.add (i32.shr_u (local.get $rounds) (i32.const 1)) (i32.shr_u (local.get $x) (i32.const 13))) (i32.const 0x7fffc))
        (i32.const 1048576)))
      (local.set $sum (i64.add (i64.rotl (local.get $sum) (i64.const 5)) (i64.extend_i32_u (i32.load (local.get $n)))))
      (i32.store (local.get $n) (i32.wrap_i64 (local.get $sum)))
      (br_if $mix (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
    (local.set $n (i32.const 65536))
    (loop $add
      (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.extend_i32_u (i32.load (local.get $n)))))
      (local.set $n (i32.add (local.get $n) (i32.const 4)))
      (br_if $add (i32.lt_u (local.get $n) (i32.const 4587520))))
    ;; 16 hexadecimal digits as letters a to p, and a line end.
    (local.set $n (i32.const 0))
    (loop $digits
      (i32.store8 (i32.add (i32.const 128) (local.get $n))
        (i32.add (i32.const 97) (i32.and (i32.wrap_i64 (local.get $sum)) (i32.const 15))))
      (local.set $sum (i64.shr_u (local.get $sum) (i64.const 4)))
      (br_if $digits (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 16))))
    (i32.store8 (i32.const 144) (i32.const 10))
    (call $print (i32.const 128) (i32.const 17))))"#;

fn mixer() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| Program::from_wat("mixer", MIXER))
}

/// What an undisturbed run of so many rounds prints at its end.
fn expected(rounds: &str) -> String {
    let out = mixer().on(Arch::X86_64).args([rounds]).output().expect_code(0).out();
    out.strip_prefix("ready\n").expect("it says ready").to_owned()
}

fn periodic(run: Run, every: &str, dir: &Path) -> Run {
    run.opts([
        "--checkpoint-every",
        every,
        "--checkpoint-to",
        &dir.display().to_string(),
    ])
}

fn numbers(dir: &Path) -> Vec<u64> {
    store::list(dir)
        .expect("a readable directory")
        .into_iter()
        .map(|(n, _)| n)
        .collect()
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(store::file_name(number))
}

/// Waits until a snapshot of this number or a greater one is there.
#[track_caller]
fn wait_for(running: &mut Running, dir: &Path, number: u64) {
    for _ in 0..20_000 {
        if numbers(dir).first().is_some_and(|&n| n >= number) {
            return;
        }
        assert!(running.is_running(), "it ended before snapshot {number} was there");
        std::thread::sleep(Duration::from_millis(3));
    }
    panic!("snapshot {number} never came");
}

#[test]
fn a_program_that_is_killed_again_and_again_goes_on_with_the_same_command() {
    // As digits go on in ASCII, seven times as long as 9.
    let (dir, want) = (scratch(), expected("o"));
    let saves = dir.path().join("saves");
    let mut kills = 0;
    let mut arch = Arch::X86_64;
    let mut out = String::new();
    let last: Outcome = loop {
        let mut running = periodic(mixer().on(arch).args(["o"]), "10ms", &saves).start();
        let newest = if kills > 0 { numbers(&saves)[0] } else { 0 };
        if kills == 6 {
            break running.finish();
        }
        // In the middle of whatever it is doing: computing, copying, writing.
        wait_for(&mut running, &saves, newest + 2);
        std::thread::sleep(Duration::from_millis(kills * 3));
        running.signal(Signal::KILL);
        let killed = running.finish();
        assert_eq!(killed.code(), 128 + 9, "{killed}");
        out += &killed.out();
        kills += 1;
        arch = other(arch);
        for (_, path) in store::list(&saves).expect("it is there").into_iter().take(3) {
            open_file(&path)
                .and_then(|s| s.verify_pages())
                .expect("what has a name is whole");
        }
    };
    let last = last.expect_code(0);
    assert!(last.err().is_empty(), "{last}");
    out += &last.out();
    assert_eq!(out, format!("ready\n{want}"));
    assert!(
        numbers(&saves).is_empty(),
        "it has ended: started again, it begins anew"
    );
    let left: Vec<_> = std::fs::read_dir(&saves)
        .expect("it is there")
        .map(|e| e.expect("an entry").file_name())
        .collect();
    assert!(left.len() == 1, "only the lock is left: {left:?}");
}

#[test]
fn the_last_n_are_kept_and_the_program_runs_on() {
    for arch in Arch::ALL {
        // As digits go on in ASCII, seven times as long as 9.
        let (dir, want) = (scratch(), expected("o"));
        let mut running = periodic(mixer().on(arch).args(["o"]), "10ms", dir.path())
            .opts(["--keep", "2"])
            .start();
        wait_for(&mut running, dir.path(), 6);
        let kept = numbers(dir.path());
        assert!(kept.len() <= 2 + 8 + 1 && kept[0] >= 6, "{kept:?}");
        let pid = running.pid();
        let ps = dunlin(&["ps".as_ref(), "--json".as_ref()], &[]).expect_code(0);
        let ps: serde_json::Value = serde_json::from_slice(&ps.stdout).expect("JSON");
        let own = ps
            .as_array()
            .and_then(|a| a.iter().find(|p| p["pid"] == pid))
            .expect("it is listed");
        let report = &own["periodic"];
        assert!(
            report["written"].as_u64() >= Some(5) && report["failed"] == 0,
            "{report}"
        );
        assert!(report["last_pause_us"].as_u64() > Some(0), "{report}");
        let finished = running.finish().expect_code(0);
        assert_eq!(finished.out(), format!("ready\n{want}"));
    }
}

/// A chain of snapshots made at chosen points, one architecture after the other.
fn chain(dir: &Path, legs: u64, keep: u64) -> Program {
    let program = Program::from_wat("mixer", MIXER);
    for leg in 0..legs {
        let arch = if leg % 2 == 0 { Arch::X86_64 } else { Arch::Aarch64 };
        let run = program
            .on(arch)
            .args(["2"])
            .env("DUNLIN_CHECKPOINT_AT", if leg == 0 { 1_100_000 } else { 20_000 });
        let run = periodic(run, "1h", dir).opts(["--keep".to_owned(), keep.to_string()]);
        run.output().expect_code(CHECKPOINTED);
    }
    program
}

#[test]
fn a_chain_of_increments_goes_on_on_the_other_architecture() {
    let (dir, want) = (scratch(), expected("2"));
    let program = chain(dir.path(), 6, 3);
    let newest = open_file(&path(dir.path(), 6)).expect("the newest is sound");
    assert!(
        newest.stored_pages() < 20 && newest.base_pages() > 40,
        "{} stored",
        newest.stored_pages()
    );
    for arch in Arch::ALL {
        let ended = program.on(arch).resume(&path(dir.path(), 6)).output().expect_code(0);
        assert_eq!(ended.out(), want);
        let latest = ["--resume-latest".to_owned(), dir.path().display().to_string()];
        assert_eq!(program.on(arch).opts(latest).output().expect_code(0).out(), want);
    }
    let dir_path = dir.path().as_os_str();
    let exe = program.base();
    let resumed = dunlin(
        &[
            "resume".as_ref(),
            "--latest".as_ref(),
            dir_path,
            "--exe".as_ref(),
            exe.as_os_str(),
        ],
        &[],
    );
    assert_eq!(resumed.expect_code(0).out(), want);
    assert_eq!(numbers(dir.path())[0], 6, "only its own command clears a directory");
    let shown = dunlin(&["inspect".as_ref(), path(dir.path(), 6).as_os_str()], &[])
        .expect_code(0)
        .out();
    assert!(
        shown.contains("bases        \"0000000001.snap\": ") && shown.contains(" in bases, the others are zero"),
        "{shown}"
    );
}

/// Flips a byte of the last stored page.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).expect("it is there");
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(file, bytes).expect("scratch space is writable");
}

#[test]
fn damage_costs_what_depends_on_it_and_no_more() {
    let (dir, want) = (scratch(), expected("2"));
    let program = chain(dir.path(), 4, 9);
    let own = |arch| periodic(program.on(arch).args(["2"]), "1h", dir.path());
    let latest = || {
        program
            .on(Arch::X86_64)
            .opts(["--resume-latest".to_owned(), dir.path().display().to_string()])
    };

    // The newest: the one before is taken, with a warning.
    damage(&path(dir.path(), 4));
    let resumed = latest().output().expect_code(0);
    assert_eq!(resumed.out(), want);
    assert!(
        resumed
            .err()
            .contains("0000000004.snap is skipped: the snapshot is damaged"),
        "{resumed}"
    );
    // Torn, and of another kind altogether.
    let whole = std::fs::read(path(dir.path(), 3)).expect("it is there");
    std::fs::write(path(dir.path(), 4), &whole[..whole.len() / 2]).expect("scratch space is writable");
    std::fs::write(path(dir.path(), 5), "").expect("scratch space is writable");
    assert_eq!(latest().output().expect_code(0).out(), want);

    // The base of all.
    let base = std::fs::read(path(dir.path(), 1)).expect("it is there");
    damage(&path(dir.path(), 1));
    let refused = latest().output().expect_code(BAD_SNAPSHOT);
    assert!(refused.err().contains("every snapshot is damaged"), "{refused}");
    let refused = own(Arch::Aarch64).output().expect_code(BAD_SNAPSHOT);
    assert!(refused.err().contains("remove them to begin anew"), "{refused}");
    std::fs::remove_file(path(dir.path(), 1)).expect("it is there");
    for file in [2, 3] {
        let refused = program
            .on(Arch::X86_64)
            .resume(&path(dir.path(), file))
            .output()
            .expect_code(BAD_SNAPSHOT);
        assert!(
            refused.err().contains("needs \"0000000001.snap\"") && refused.err().contains("same directory"),
            "{refused}"
        );
        let file = path(dir.path(), file);
        let refused = dunlin(&["resume".as_ref(), file.as_os_str()], &[]).expect_code(BAD_SNAPSHOT);
        assert!(refused.err().contains("0000000001.snap"), "{refused}");
        let shown = dunlin(&["inspect".as_ref(), file.as_os_str()], &[]).expect_code(0);
        assert!(shown.out().contains("(not there"), "{shown}");
    }
    std::fs::write(path(dir.path(), 1), base).expect("scratch space is writable");
    // Sound again: the program's own command goes on from number 3, and clears up at its end.
    assert_eq!(own(Arch::X86_64).output().expect_code(0).out(), want);
    assert!(numbers(dir.path()).is_empty());
}

#[test]
fn a_full_disk_costs_a_warning_and_no_snapshot() {
    let (dir, want) = (scratch(), expected("9"));
    // Less than the first, complete snapshot needs: `ulimit -f` counts blocks of 512 or 1024 bytes.
    let run =
        periodic(mixer().on(Arch::X86_64).args(["9"]), "20ms", dir.path()).through_shell("ulimit -f 1000; \"$@\"");
    let ended = run.output().expect_code(0);
    assert_eq!(ended.out(), format!("ready\n{want}"));
    assert_eq!(ended.err().matches("cannot checkpoint to").count(), 1, "{ended}");
    assert!(
        ended.err().contains("File too large") && ended.err().contains("the program runs on"),
        "{ended}"
    );
    assert!(numbers(dir.path()).is_empty());

    // Earlier ones stay usable.
    let mut running = periodic(mixer().on(Arch::X86_64).args(["9"]), "20ms", dir.path()).start();
    wait_for(&mut running, dir.path(), 2);
    running.signal(Signal::KILL);
    drop(running.finish());
    let before = numbers(dir.path());
    let run =
        periodic(mixer().on(Arch::X86_64).args(["9"]), "20ms", dir.path()).through_shell("ulimit -f 16; exec \"$@\"");
    let mut running = run.start();
    running.wait_for_error("cannot checkpoint to");
    running.signal(Signal::KILL);
    running.stdin().take();
    drop(running.finish());
    assert_eq!(numbers(dir.path()), before);
    let ended = periodic(mixer().on(other(Arch::X86_64)).args(["9"]), "1h", dir.path()).output();
    assert_eq!(ended.expect_code(0).out(), want);
}

#[test]
fn a_signal_writes_the_last_one() {
    let (dir, want) = (scratch(), expected("9"));
    let save = |arch| periodic(mixer().on(arch).args(["9"]), "50ms", dir.path()).opts(["--checkpoint-on", "TERM"]);
    let mut running = save(Arch::X86_64).start();
    wait_for(&mut running, dir.path(), 1);
    running.signal(Signal::TERM);
    running.finish().expect_code(CHECKPOINTED);
    assert_eq!(save(Arch::Aarch64).output().expect_code(0).out(), want);
}

#[test]
fn a_directory_is_one_programs() {
    let dir = scratch();
    let mut running = periodic(mixer().on(Arch::X86_64).args(["9"]), "10ms", dir.path()).start();
    wait_for(&mut running, dir.path(), 1);
    // However slow this machine is, it is still there.
    running.signal(Signal::STOP);
    let second = periodic(mixer().on(Arch::X86_64).args(["9"]), "10ms", dir.path())
        .output()
        .expect_code(USAGE);
    assert!(second.err().contains("a directory of its own"), "{second}");
    running.signal(Signal::KILL);
    drop(running.finish());
    // Other arguments, and another program.
    let other = periodic(mixer().on(Arch::X86_64).args(["8"]), "10ms", dir.path())
        .output()
        .expect_code(BAD_SNAPSHOT);
    assert!(other.err().contains("other arguments"), "{other}");
    let stranger = Program::from_wat("stranger", "(module (func (export \"_start\")))");
    let refused = periodic(stranger.on(Arch::X86_64), "10ms", dir.path())
        .output()
        .expect_code(BAD_SNAPSHOT);
    assert!(refused.err().contains("another program"), "{refused}");
    let empty = scratch();
    let opts = ["--resume-latest".to_owned(), empty.path().display().to_string()];
    let none = mixer().on(Arch::X86_64).opts(opts).output().expect_code(BAD_SNAPSHOT);
    assert!(none.err().contains("no snapshot in it"), "{none}");
}

/// Carried files are in the first snapshot that has them, and in no other until they change; and whoever goes on gets
/// all of them.
#[test]
fn carried_files_are_stored_once() {
    let (saves, want) = (scratch(), expected("2"));
    let large: Vec<u8> = (0u32..800_000)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b1).to_le_bytes())
        .collect();
    let run = |arch, data: &Path| {
        let grant = ["--carry-all".to_owned(), format!("{}::/d", data.display())];
        periodic(mixer().on(arch).args(["2"]), "1h", saves.path()).opts(grant)
    };
    let size = |n| std::fs::metadata(path(saves.path(), n)).expect("it was written").len();
    let data = [scratch(), scratch(), scratch()];
    std::fs::write(data[0].path().join("large"), &large).expect("scratch space is writable");
    // What is there besides goes along from then on.
    std::fs::write(data[2].path().join("more"), &large[..500_000]).expect("scratch space is writable");
    for (leg, data) in data.iter().enumerate() {
        let arch = if leg == 1 { Arch::Aarch64 } else { Arch::X86_64 };
        let stop = if leg == 0 { 1_100_000 } else { 20_000 };
        let run = run(arch, data.path()).env("DUNLIN_CHECKPOINT_AT", stop);
        run.output().expect_code(CHECKPOINTED);
        assert_eq!(std::fs::read(data.path().join("large")).expect("it came along"), large);
    }
    assert!(size(1) > 3_000_000 && size(2) < 2_000_000 && size(3) < 2_500_000 && size(3) > 500_000);
    let latest = |arch, there: &Path| {
        let options = ["--resume-latest".to_owned(), saves.path().display().to_string()];
        let grant = ["--carry-all".to_owned(), format!("{}::/d", there.display())];
        mixer().on(arch).opts(options).opts(grant).output()
    };
    let there = scratch();
    assert_eq!(latest(Arch::Aarch64, there.path()).expect_code(0).out(), want);
    assert_eq!(std::fs::read(there.path().join("large")).expect("it came along"), large);
    assert_eq!(
        std::fs::read(there.path().join("more")).expect("it came along"),
        large[..500_000]
    );
    // A carried file of the newest is damaged: the one before is taken, with its files.
    damage(&path(saves.path(), 3));
    let there = scratch();
    let resumed = latest(Arch::X86_64, there.path()).expect_code(0);
    assert_eq!(resumed.out(), want);
    assert!(resumed.err().contains("0000000003.snap is skipped"), "{resumed}");
    assert_eq!(std::fs::read(there.path().join("large")).expect("it came along"), large);
    assert!(!there.path().join("more").exists());
    // The program's own command does the same, and takes away what it has saved when it has ended.
    assert_eq!(run(Arch::Aarch64, data[0].path()).output().expect_code(0).out(), want);
    assert!(numbers(saves.path()).is_empty());
}
