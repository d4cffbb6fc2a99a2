//! Mutated and forged snapshots, from a seed: whatever is in the file, `inspect`, `check` and `resume` end soon, with a
//! sound exit code, within [`MEMORY`], or [`TIMES`] the room that the file takes on the disk if it is a large one.
//!
//! A slice runs with the other tests; its seed is the commit, so that each commit tries others. `DUNLIN_FORGED=100000`
//! runs as many, and `DUNLIN_FORGED_SEED=7` begins at that one. Each is tried inside this process, under an allocator
//! that counts, and every `DUNLIN_FORGED_REAL`th (10) by the real executables, too. A failure names its seed; the file
//! is kept in `target/forged/`.

use dunlin_format::arch::Arch;
use dunlin_format::image::{Image, find_in_elf};
use dunlin_format::module::ModuleInfo;
use dunlin_migrate::frames::FrameMaps;
use dunlin_migrate::snapshot::{Earlier, Snapshot};
use dunlin_migrate::validate::validate;
use dunlin_migrate::{inspect, snapshot};
use dunlin_tests::forge::{Dice, assemble, forge, parts};
use dunlin_tests::guest::guest;
use dunlin_tests::program::{CHECKPOINTED, scratch};
use dunlin_tests::slice;
use dunlin_tests::tools;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio as Pipe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What one look at a snapshot may take, in bytes.
const MEMORY: usize = 256 << 20;
/// What one look at a large snapshot may take, for each byte that it takes on the disk: deep recursion has many small
/// values.
const TIMES: usize = 24;
/// How long it may take.
const TIME: Duration = Duration::from_secs(30);
/// Forgeries of the slice.
const SLICE: u64 = 400;

/// Counts what is allocated, and the most that ever was.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MOST.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Tests that measure: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A sound snapshot, and what is needed to try forgeries of it.
struct Sample {
    name: &'static str,
    bytes: Vec<u8>,
    data: Option<TempDir>,
    module: ModuleInfo,
    maps: FrameMaps<'static>,
    exe: PathBuf,
}

/// A guest's snapshot at a point, or before it if it doesn't come so far.
fn sample(name: &'static str, point: u64) -> Sample {
    let guest = guest(name);
    let (data, dir) = (guest.data(), scratch());
    let path = dir.path().join("good.snap");
    let stops = |point: &u64| {
        let run = guest.on(Arch::X86_64, data.as_ref()).stdin(guest.input());
        run.stop_at(*point, &path).output().code() == CHECKPOINTED
    };
    let points = std::iter::successors(Some(point), |p| Some(p / 2).filter(|p| *p > 0));
    assert!(points.into_iter().any(|point| stops(&point)), "{name} has no point");
    let exe = guest.program.exe(Arch::X86_64);
    let mut file = File::open(&exe).expect("an executable");
    let found = find_in_elf(&mut file)
        .expect("a sound executable")
        .expect("with an image");
    let meta: &'static [u8] = Box::leak(found.read(&mut file).expect("a sound image").into_boxed_slice());
    let image = Image::parse(meta).expect("a sound image");
    let module = image.module().expect("a sound image");
    let maps = FrameMaps::of_image(&image, &module).expect("a sound image");
    // The program lives as long as the tests.
    std::mem::forget(guest);
    Sample {
        name,
        bytes: std::fs::read(path).expect("a snapshot"),
        data,
        module,
        maps,
        exe,
    }
}

/// What a look at this file may take, in bytes. Holes don't count.
fn budget(path: &Path) -> usize {
    let real = std::fs::metadata(path).map_or(0, |meta| meta.blocks() * 512);
    MEMORY.max(TIMES * usize::try_from(real).unwrap_or(usize::MAX / TIMES))
}

/// Opens, checks and shows it in this process. Returns how far it came.
fn look(sample: &Sample, path: &Path) -> Result<&'static str, String> {
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    let begun = Instant::now();
    let came = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let snapshot = match snapshot::open_file(path) {
            Ok(snapshot) => snapshot,
            Err(e) => {
                assert!(e.to_string().len() > 10, "no words");
                return "refused";
            }
        };
        let shown = inspect::text(&snapshot, None);
        assert!(shown.contains("module"));
        inspect::write_json(&mut std::io::sink(), &snapshot, None).expect("it is always possible");
        let _ = Earlier::of(&snapshot, "a.snap");
        let mut state = snapshot.state().clone();
        let valid = validate(&mut state, &sample.module, &sample.maps).is_ok() && state.wasi.check().is_ok();
        // The real executables leave holes out.
        let small = snapshot.header().total_len < 64 << 20;
        match valid && (!small || snapshot.verify_pages().is_ok()) {
            true => "accepted",
            false => "invalid",
        }
    }));
    let most = MOST.load(Relaxed).saturating_sub(before);
    match came {
        Err(_) => Err("it panicked".into()),
        Ok(_) if most > budget(path) => Err(format!("it took {} MiB", most >> 20)),
        Ok(_) if begun.elapsed() > TIME => Err(format!("it took {:?}", begun.elapsed())),
        Ok(came) => Ok(came),
    }
}

/// Name of the variable that says what [`run_measured`] runs.
const RUN: &str = "DUNLIN_FORGED_RUN";

/// Runs a command to its end: how it ended, the most memory that it had, in bytes, and what it said. `None` if it took
/// too long.
///
/// Another process starts it: what the kernel tells of a process's memory includes that of whoever started it, and this
/// one's is large.
fn measured(command: &Command) -> Option<(ExitStatus, usize, String)> {
    let error = tempfile::tempfile().expect("scratch space is writable");
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<&str> = words.map(|w| w.to_str().expect("UTF-8")).collect();
    let mut runner = Command::new(std::env::current_exe().expect("there is one"));
    runner
        .args(["--exact", "run_measured", "--ignored", "--nocapture"])
        .env(RUN, words.join("\n"));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => runner.env(name, value),
            None => runner.env_remove(name),
        };
    }
    runner
        .stdin(Pipe::null())
        .stderr(error.try_clone().expect("a descriptor"));
    let output = runner.output().expect("it can be started");
    let mut said = vec![0; 2000];
    let n = error.read_at(&mut said, 0).unwrap_or(0);
    let said = String::from_utf8_lossy(&said[..n]).into_owned();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, told) = told.split_once("measured ").unwrap_or_else(|| panic!("{told}{said}"));
    let mut numbers = told.split_whitespace().map_while(|n| n.parse::<i64>().ok());
    let (status, memory) = (numbers.next()?, numbers.next()?);
    Some((ExitStatus::from_raw(status as i32), memory as usize * 1024, said))
}

/// No test: see [`measured`].
#[test]
#[ignore = "runs what another test tells it to"]
fn run_measured() {
    let Ok(words) = std::env::var(RUN) else {
        return;
    };
    let mut words = words.split('\n');
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).stdout(Pipe::null());
    let mut child = command.spawn().expect("it can be started");
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
            // SAFETY: it is written only.
            unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
            // SAFETY: zeros are a `rusage`, and so is what the kernel writes.
            let usage = unsafe { usage.assume_init() };
            println!("measured {} {}", status.into_raw(), usage.ru_maxrss);
            return;
        }
        if begun.elapsed() > TIME {
            let _ = child.kill();
            let _ = child.wait();
            println!("measured too long");
            return;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// The same by the real executables.
fn really(sample: &Sample, path: &Path, dir: &Path) -> Result<(), String> {
    let grant = sample
        .data
        .as_ref()
        .map(|d| format!(" --dir {}::/data", d.path().display()))
        .unwrap_or_default();
    let exe = |options: String| {
        let mut command = Command::new(&sample.exe);
        command
            .env("DUNLIN_OPTS", options + &grant)
            .env_remove("DUNLIN_FORCE_MIGRATE");
        command
    };
    let show = |json: bool| {
        let mut command = Command::new(tools::dunlin());
        command.arg("inspect").arg(path).args(json.then_some("--json"));
        command
    };
    let (file, out) = (path.display(), dir.join("next.snap"));
    // Whatever it goes on with ends at its next point.
    let mut resume = exe(format!("--resume {file} --checkpoint-to {}", out.display()));
    resume.env("DUNLIN_CHECKPOINT_AT", "1");
    let mut check = Command::new(tools::dunlin());
    check.arg("check").arg(path).arg("--exe").arg(&sample.exe);
    let commands = [
        ("inspect", show(false)),
        ("inspect --json", show(true)),
        ("--check", exe(format!("--resume {file} --check"))),
        ("check", check),
        ("--resume", resume),
    ];
    for (what, command) in commands {
        let Some((status, memory, said)) = measured(&command) else {
            return Err(format!("{what} took too long"));
        };
        // A forged state may well trap (134), or end with any code of the program's.
        if status.signal().is_some() || said.contains("panicked") || status.code() == Some(101) {
            return Err(format!("{what}: {status}: {said}"));
        }
        if memory > budget(path) {
            return Err(format!("{what} took {} MiB: {said}", memory >> 20));
        }
    }
    let _ = std::fs::remove_file(out);
    Ok(())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn forged_snapshots_are_refused_or_harmless() {
    let _alone = ALONE.lock();
    let (first, count) = (
        number("DUNLIN_FORGED_SEED").unwrap_or_else(|| slice::seed() << 20),
        number("DUNLIN_FORGED").unwrap_or(SLICE),
    );
    let every = number("DUNLIN_FORGED_REAL").unwrap_or(10).max(1);
    let samples = [
        sample("tables", 40),
        sample("exceptions", 30),
        sample("many_files", 300),
        sample("deep_recursion", 2000),
        sample("simd_locals", 10),
    ];
    let dir = scratch();
    let path = dir.path().join("forged.snap");
    std::panic::set_hook(Box::new(|_| {}));
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut real = 0;
    for seed in first..first + count {
        let mut dice = Dice(seed);
        let sample = &samples[dice.below(samples.len())];
        let (kind, forged) = forge(&mut dice, &sample.bytes);
        forged.write(&path);
        let mut result = look(sample, &path);
        if let Ok(came) = result {
            *counts.entry((kind, came)).or_default() += 1;
            if seed % every == 0 {
                real += 1;
                if let Err(e) = really(sample, &path, dir.path()) {
                    result = Err(e);
                }
            }
        }
        if let Err(e) = result {
            let kept = tools::root().join("target/forged");
            let _ = std::fs::create_dir_all(&kept);
            let kept = kept.join(format!("{seed}.snap"));
            let _ = Command::new("cp").arg("--sparse=always").arg(&path).arg(&kept).status();
            let text = format!("seed {seed} ({kind} of {}; {}): {e}", sample.name, kept.display());
            eprintln!("{text}");
            wrong.push(text);
            if wrong.len() > 20 {
                break;
            }
        }
    }
    let _ = std::panic::take_hook();
    println!("{count} forgeries from seed {first}, {real} by the real executables");
    for ((kind, came), n) in counts {
        println!("  {kind:24} {came:10} {n}");
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every snapshot must be sound before it is forged: else everything would be refused for another reason.
#[test]
fn samples_are_accepted() {
    let _alone = ALONE.lock();
    let dir = scratch();
    let path = dir.path().join("good.snap");
    for name in ["tables", "many_files"] {
        let sample = sample(name, 40);
        let parts = parts(&sample.bytes);
        assemble(&sample.bytes, &parts, |_| {}).write(&path);
        Snapshot::open(File::open(&path).unwrap()).unwrap();
        assert_eq!(look(&sample, &path), Ok("accepted"), "{name}");
    }
}
