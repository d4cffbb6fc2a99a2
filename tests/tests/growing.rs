//! Carried files that are large: a snapshot costs what has changed in them, on either architecture, and moving keeps
//! them whole.

use dunlin_format::arch::Arch;
use dunlin_migrate::snapshot::open_file;
use dunlin_migrate::store;
use dunlin_tests::moves::other;
use dunlin_tests::process::{Input, Running};
use dunlin_tests::program::{Program, Run, dunlin, scratch};
use dunlin_tests::unison::Disk;
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Opens `log` for appending, prints "ready", and obeys letters on its standard input: `a` appends 1 MiB of which no
/// two chunks are equal, `l` a line of four bytes, `d` closes the file, makes `d/new` and removes `old`. Each is
/// answered by a line.
const LOGGER: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (memory (export "memory") 3)
  (data (i32.const 64) "logready\n!\nd/newold")
  (func $put (param $fd i32) (param $at i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $len))
    (if (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 16)) (then unreachable)))
  (func $fill (param $n i32) (local $at i32)
    (local.set $at (i32.const 65536))
    (loop $next
      (i32.store (local.get $at) (local.tee $n (i32.add (i32.mul (local.get $n) (i32.const 1664525)) (i32.const 1013904223))))
      (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (i32.const 131072)))))
  (func $main (export "_start") (local $fd i32) (local $c i32) (local $n i32) (local $i i32)
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 3) (i32.const 1) (i64.const 64) (i64.const 0)
          (i32.const 1) (i32.const 20)) (then unreachable))
    (local.set $fd (i32.load (i32.const 20)))
    (call $put (i32.const 1) (i32.const 67) (i32.const 6))
    (block $end
      (loop $obey
        (i32.store (i32.const 0) (i32.const 32))
        (i32.store (i32.const 4) (i32.const 1))
        (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)) (then unreachable))
        (br_if $end (i32.eqz (i32.load (i32.const 16))))
        (local.set $c (i32.load8_u (i32.const 32)))
        (if (i32.eq (local.get $c) (i32.const 97)) (then
          (local.set $i (i32.const 16))
          (loop $more
            (call $fill (local.tee $n (i32.add (local.get $n) (i32.const 77))))
            (call $put (local.get $fd) (i32.const 65536) (i32.const 65536))
            (br_if $more (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))))
        (if (i32.eq (local.get $c) (i32.const 108)) (then (call $put (local.get $fd) (i32.const 64) (i32.const 4))))
        (if (i32.eq (local.get $c) (i32.const 100)) (then
          (if (call $close (local.get $fd)) (then unreachable))
          (if (call $mkdir (i32.const 3) (i32.const 75) (i32.const 1)) (then unreachable))
          (if (call $open (i32.const 3) (i32.const 0) (i32.const 75) (i32.const 5) (i32.const 1) (i64.const 64) (i64.const 0)
                (i32.const 0) (i32.const 20)) (then unreachable))
          (call $put (i32.load (i32.const 20)) (i32.const 64) (i32.const 9))
          (if (call $close (i32.load (i32.const 20))) (then unreachable))
          (if (call $unlink (i32.const 3) (i32.const 80) (i32.const 3)) (then unreachable))))
        (call $put (i32.const 1) (i32.const 73) (i32.const 2))
        (br $obey)))))"#;

fn logger() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| Program::from_wat("logger", LOGGER))
}

fn periodic(run: Run, option: &str, data: &Path, saves: &Path) -> Run {
    let (grant, saves) = (format!("{}::/", data.display()), saves.display().to_string());
    run.opts(["--checkpoint-every", "50ms", "--checkpoint-to", &saves, option, &grant])
}

fn report(running: &mut Running) -> serde_json::Value {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        let ps = dunlin(&["ps".as_ref(), "--json".as_ref()], &[]).expect_code(0);
        let ps: serde_json::Value = serde_json::from_slice(&ps.stdout).expect("JSON");
        let pid = running.pid();
        if let Some(found) = ps.as_array().and_then(|a| a.iter().find(|p| p["pid"] == pid)) {
            return found["periodic"].clone();
        }
        // It has just been started.
        assert!(running.is_running(), "it has ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it isn't listed");
}

/// The report of a snapshot that was begun after now.
#[track_caller]
fn next(running: &mut Running) -> serde_json::Value {
    let written = |report: &serde_json::Value| report["written"].as_u64().unwrap_or(0);
    let begun = Instant::now();
    let before = written(&report(running));
    while begun.elapsed() < Duration::from_secs(120) {
        assert!(running.is_running(), "it has ended");
        let now = report(running);
        assert!(now["failed"].as_u64().unwrap_or(0) == 0, "{now}");
        // One may be under way.
        if written(&now) >= before + 2 {
            return now;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no snapshot was written");
}

/// Gives a command, and waits until it is done.
fn tell(running: &mut Running, command: &[u8]) {
    let before = running.stdout_so_far().len();
    running
        .stdin()
        .as_mut()
        .expect("held")
        .write_all(command)
        .expect("it reads");
    let begun = Instant::now();
    while running.stdout_so_far().len() < before + 2 * command.len() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it doesn't answer");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A log of which no two chunks are equal.
fn made(path: &Path, mib: u32) {
    let bytes: Vec<u8> = (0..mib << 18)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b1).to_le_bytes())
        .collect();
    fs::write(path, bytes).expect("scratch space is writable");
}

#[test]
fn a_log_that_grows_costs_what_was_appended() {
    for (arch, option) in [(Arch::X86_64, "--carry"), (Arch::Aarch64, "--carry-all")] {
        let (data, saves, there) = (scratch(), scratch(), scratch());
        let log = data.path().join("log");
        made(&log, 48);
        let run = periodic(logger().on(arch), option, data.path(), saves.path());
        let mut running = run.stdin(Input::Held).start();
        running.wait_for("ready");
        let first = next(&mut running);
        assert!(
            first["longest_pause_us"].as_u64() > Some(10_000),
            "all of it was read: {first}"
        );
        for round in 0..4 {
            tell(&mut running, if round == 3 { b"l" } else { b"a" });
            let report = next(&mut running);
            // The appended part, and what the memory has changed.
            let most = if round == 3 { 400_000 } else { 1_600_000 };
            assert!(report["last_bytes"].as_u64() < Some(most), "{report}");
            assert!(
                report["last_pause_us"].as_u64().map(|us| 4 * us) < first["longest_pause_us"].as_u64(),
                "{report}, and at first {first}"
            );
        }
        // Killed; what lies there then is of no use, and it goes on elsewhere.
        let want = fs::read(&log).expect("it is there");
        running.signal(Signal::KILL);
        running.finish();
        for (_, path) in store::list(saves.path()).expect("it is there") {
            open_file(&path)
                .and_then(|s| s.verify_contents())
                .expect("what has a name is whole");
        }
        let grant = format!("{}::/", there.path().display());
        let latest = saves.path().display().to_string();
        let resumed = logger()
            .on(other(arch))
            .opts([option, &grant, "--resume-latest", &latest]);
        resumed.stdin(Input::Bytes(b"l".to_vec())).output().expect_code(0);
        let found = fs::read(there.path().join("log")).expect("it came along");
        assert!(
            found == [&want[..], b"logr"].concat(),
            "{} bytes, {} wanted",
            found.len(),
            want.len()
        );
    }
}

/// Others' changes of a file that the program appends to are in the next snapshot, too.
#[test]
fn what_others_write_is_carried() {
    let (data, saves, there) = (scratch(), scratch(), scratch());
    let log = data.path().join("log");
    made(&log, 2);
    let run = periodic(logger().on(Arch::X86_64), "--carry", data.path(), saves.path());
    let mut running = run.stdin(Input::Held).start();
    running.wait_for("ready");
    for n in 0..5u8 {
        tell(&mut running, b"ll");
        next(&mut running);
        std::thread::sleep(Duration::from_millis(15));
        let others = fs::File::options().write(true).open(&log).expect("it is there");
        others
            .write_all_at(&[n; 100], 300_000 * u64::from(n))
            .expect("it is writable");
        std::thread::sleep(Duration::from_millis(15));
        tell(&mut running, b"l");
        next(&mut running);
    }
    let want = fs::read(&log).expect("it is there");
    running.signal(Signal::KILL);
    running.finish();
    let grant = format!("{}::/", there.path().display());
    let latest = saves.path().display().to_string();
    let resumed = logger()
        .on(Arch::Aarch64)
        .opts(["--carry", &grant, "--resume-latest", &latest]);
    resumed.output().expect_code(0);
    assert!(fs::read(there.path().join("log")).expect("it came along") == want);
}

/// Closed files and removed names go along with `--carry`; holes stay holes.
#[test]
fn what_was_written_and_closed_goes_along() {
    for arch in Arch::ALL {
        let (data, there, dir) = (scratch(), scratch(), scratch());
        let at = |name: &str| data.path().join(name);
        fs::write(at("old"), "removed").unwrap();
        fs::write(at("stranger"), "left alone").unwrap();
        // What an earlier move brought there.
        fs::write(there.path().join("old"), "removed").unwrap();
        let sparse = fs::File::create(at("log")).unwrap();
        sparse.set_len(1 << 32).unwrap();
        let (snapshot, option) = (dir.path().join("x.snap"), "--carry");
        let grant = |dir: &Path| format!("{}::/", dir.display());
        let run = logger().on(arch).opts([option, &grant(data.path())]);
        let mut running = run.stdin(Input::Held).start();
        running.wait_for("ready");
        tell(&mut running, b"ld");
        let pid = running.pid().to_string();
        let asked = ["checkpoint".as_ref(), pid.as_ref(), "-o".as_ref(), snapshot.as_os_str()];
        dunlin(&asked, &[]).expect_code(0);
        running.finish();
        assert!(fs::metadata(&snapshot).unwrap().len() < 1 << 20, "holes are not stored");
        let run = logger().on(other(arch)).opts([option, &grant(there.path())]);
        run.resume(&snapshot).output().expect_code(0);
        let names = |dir: &Path| {
            let names = fs::read_dir(dir)
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        };
        assert_eq!(names(there.path()), ["d", "log"]);
        assert_eq!(fs::read(there.path().join("d/new")).unwrap(), b"logready\n");
        let log = fs::metadata(there.path().join("log")).unwrap();
        assert_eq!(log.len(), (1 << 32) + 4);
        assert!(log.blocks() * 512 < 1 << 20, "{} blocks", log.blocks());
    }
}

/// A program that has ended leaves no snapshots to go on from, also where there is no room for another byte.
#[test]
fn the_end_on_a_full_disk_leaves_nothing() {
    for (arch, written) in Arch::ALL.into_iter().flat_map(|arch| [(arch, true), (arch, false)]) {
        let disk = match Disk::new(4) {
            Ok(disk) => disk,
            Err(why) => {
                return eprintln!("SKIPPED: it needs to mount a small disk, which is not permitted here: {why}");
            }
        };
        let (data, saves) = (scratch(), disk.path().join("saves"));
        let mut run = periodic(logger().on(arch), "--dir", data.path(), &saves);
        if !written {
            // Only the journal of its beginning.
            run = logger().on(arch).opts(["--checkpoint-every", "1h", "--checkpoint-to"]);
            run = run.opts([
                saves.as_os_str().to_str().unwrap(),
                "--dir",
                &format!("{}::/", data.path().display()),
            ]);
        }
        let mut running = run.stdin(Input::Held).start();
        running.wait_for("ready");
        tell(&mut running, b"l");
        if written {
            next(&mut running);
        }
        disk.fill(0);
        // What was being written gives its room back.
        let mut more = fs::File::create(disk.path().join("more")).unwrap();
        for _ in 0..20 {
            while more.write_all(&[1; 4096]).is_ok() {}
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(running.stdin().take());
        let outcome = running.finish();
        outcome.expect_code(0);
        let left: Vec<_> = fs::read_dir(&saves).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [".lock"], "{arch}, written: {written}");
        assert_eq!(fs::read(data.path().join("log")).unwrap(), b"logr");
    }
}
