//! The official test suite, through real executables: WebAssembly 1.0, 2.0 and 3.0, and all proposals; and scripts of
//! our own for what it lacks (`dunlin_tests::spec::atomics`). Each case is run on x86_64, on aarch64 under qemu-user,
//! and on both with forced migration; a slice of them is interpreted, too. What is left out is listed one by one in
//! `spec-skips.txt`.
//!
//! Most scripts have few points of their own. So each case is run once more as a *dense* one, with a host call before
//! every operator.
//!
//! Forced mode migrates at every point, but for a few cases that loop a million times: those migrate at every nth,
//! unless `DUNLIN_SPEC_FULL=1` wants every point of them, too. `DUNLIN_SPEC_ONLY=text` takes only scripts whose paths
//! contain the text, `DUNLIN_SPEC_ARCH=x86_64` leaves out the other architectures (`pulley64`: takes only that, of all
//! cases).

use dunlin_format::arch::Arch;
use dunlin_tests::slice;
use dunlin_tests::sources;
use dunlin_tests::spec::atomics;
use dunlin_tests::spec::cases::{self, Case, Code, Skipped};
use dunlin_tests::spec::report::{self, Row};
use dunlin_tests::spec::run::{Built, Mode, build, build_for, check, is_refused};
use dunlin_tests::spec::scope;
use dunlin_tests::spec::script::{Instantiation, Refused, read};
use dunlin_tests::spec::skips;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The folders that come first: of equal cases the first counts.
const FIRST: [&str; 3] = ["wasm-v2", "wasm-v3", "wasm-latest"];

/// Where what is refused must be refused by the newest version of WebAssembly, too.
const NEWEST: [&str; 2] = ["wasm-v3", "wasm-latest"];

/// The most migrations in one run of a case, unless `DUNLIN_SPEC_FULL=1` takes every point.
const AFFORDABLE: u64 = 100_000;
/// The same for a dense case, of which `DUNLIN_SPEC_FULL=1` takes the other number.
const AFFORDABLE_DENSE: u64 = 5_000;
/// Under qemu-user a migration takes far longer: so many times fewer of them are affordable.
const EMULATED: u64 = 5;
/// And one case in so many runs there at all, unless all are asked for (`DUNLIN_FULL=1`); all run on this machine's own
/// architecture.
const ELSEWHERE: u64 = 7;
/// One case in so many is interpreted, unless all are asked for.
const INTERPRETED: u64 = 12;

/// All scripts: (folder, file), without those that are equal to earlier ones.
fn scripts() -> Vec<(String, PathBuf)> {
    let root = sources::spec();
    let folders = |dir: &str| {
        let entries = std::fs::read_dir(root.join(dir)).unwrap_or_else(|e| panic!("cannot read {dir}: {e}"));
        let entries = entries.map(|e| e.expect("a directory entry"));
        let dirs = entries.filter(|e| e.path().is_dir());
        dirs.map(|e| e.file_name().to_string_lossy().into_owned())
            .collect::<BTreeSet<_>>()
    };
    let proposals = folders("proposals").into_iter().map(|f| format!("proposals/{f}"));
    let versions = folders("").into_iter().filter(|f| f != "proposals");
    let versions = versions.filter(|f| !FIRST.contains(&f.as_str()));
    let folders = FIRST.map(str::to_owned).into_iter().chain(proposals).chain(versions);
    let dirs = folders.map(|f| (f.clone(), root.join(f)));
    let only = std::env::var("DUNLIN_SPEC_ONLY").unwrap_or_default();
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for (folder, dir) in dirs {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
            .unwrap_or_else(|e| panic!("cannot read {}: {e}", dir.display()))
            .map(|e| e.expect("a directory entry").path())
            .filter(|p| p.extension().is_some_and(|x| x == "wast"))
            .collect();
        assert!(!files.is_empty(), "no scripts in {}", dir.display());
        files.retain(|p| p.to_string_lossy().contains(&only));
        files.sort();
        for file in files {
            if seen.insert(std::fs::read(&file).expect("scripts are readable")) {
                out.push((folder.clone(), file));
            }
        }
    }
    out
}

/// Calls `each` for every item, on all cores.
fn in_parallel<T: Sync>(items: &[T], each: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    each(item);
                }
            });
        }
    });
}

/// What all threads write to.
#[derive(Default)]
struct Results {
    rows: BTreeMap<String, Row>,
    wrong: Vec<String>,
    skipped: BTreeMap<String, String>,
    /// How long cases took to build, to run in each of the modes, and what took longest.
    build: Duration,
    run: [Duration; 6],
    /// Assertions that held and migrations, interpreted.
    interpreted: (usize, u64),
    slow: Vec<(Duration, String)>,
}

impl Results {
    fn row(&mut self, folder: &str) -> &mut Row {
        self.rows.entry(folder.to_owned()).or_default()
    }
}

enum Job {
    Run(Case),
    Refuse(Refused),
    Skip(Skipped),
}

/// How often to migrate where so many points are passed. Odd, so as not to fall in step with a program's loops.
fn stride(points: u64, affordable: u64) -> u64 {
    match points.div_ceil(affordable) {
        0 | 1 => 1,
        n => n | 1,
    }
}

fn run(folder: &str, case: &Case, results: &Mutex<Results>) {
    let full = std::env::var_os("DUNLIN_SPEC_FULL").is_some();
    let affordable = if full { u64::MAX } else { AFFORDABLE };
    let points = run_code(folder, case, &case.start, &case.run, affordable, false, results);
    // Where nothing is done, nothing moves; what loops for long would take forever.
    if points.is_some_and(|points| points <= AFFORDABLE) && !case.dense.steps.is_empty() {
        let affordable = if full { AFFORDABLE } else { AFFORDABLE_DENSE };
        run_code(
            folder,
            case,
            &Instantiation::Instance,
            &case.dense,
            affordable,
            true,
            results,
        );
    }
}

/// Builds and runs a case, or its dense variant, in all modes; the points that it passes.
fn run_code(
    folder: &str,
    case: &Case,
    start: &Instantiation,
    code: &Code,
    affordable: u64,
    dense: bool,
    results: &Mutex<Results>,
) -> Option<u64> {
    let began = Instant::now();
    let program = match build(&code.wasm) {
        Built::Program(program) => program,
        Built::Refused(reason) => {
            results
                .lock()
                .unwrap()
                .wrong
                .push(format!("{}: refused: {reason}", case.id));
            return None;
        }
    };
    let mut took = vec![began.elapsed()];
    let check = |mode| check(&case.id, start, code, &program, mode);
    // Points are the same everywhere; a stride that no program reaches counts them without a migration.
    let counted = check(Mode::forced(Arch::X86_64, u64::MAX));
    let points = counted.points;
    results.lock().unwrap().wrong.extend(counted.wrong);
    let only = std::env::var("DUNLIN_SPEC_ARCH").ok();
    for (k, arch) in [(0, Arch::X86_64), (3, Arch::Aarch64)] {
        let here = Arch::host() == Some(arch) || only.is_some();
        if !here && !slice::takes(&format!("{} {dense}", case.id), ELSEWHERE) {
            continue;
        }
        if only.as_ref().is_some_and(|only| *only != arch.to_string()) {
            continue;
        }
        let affordable = match affordable {
            u64::MAX => u64::MAX,
            n if arch == Arch::Aarch64 => n / EMULATED,
            n => n,
        };
        let forced = Mode::forced(arch, stride(points, affordable));
        let modes = if dense {
            vec![(k + 2, forced)]
        } else {
            vec![(k, Mode::native(arch)), (k + 1, forced)]
        };
        for (k, mode) in modes {
            let began = Instant::now();
            let mut checked = check(mode);
            took.push(began.elapsed());
            let mut results = results.lock().unwrap();
            let row = results.row(folder);
            if let Some(every) = mode.forced {
                if checked.points != points && checked.wrong.is_empty() && !case.exhausts_the_stack() {
                    let line = format!("{}: {mode:?}: {} points instead of {points}", case.id, checked.points);
                    checked.wrong.push(line);
                }
                row.points[k].0 += checked.points;
                row.points[k].1 += checked.points / every;
            }
            row.run[k].0 += checked.passed;
            row.run[k].1 += checked.wrong.len();
            results.run[k] += began.elapsed();
            let what = report::MODES[k];
            results
                .wrong
                .extend(checked.wrong.into_iter().map(|w| format!("{what}: {w}")));
        }
    }
    interpret(case, start, code, points, dense, results);
    let mut results = results.lock().unwrap();
    results.build += took[0];
    let what = if dense { ", dense" } else { "" };
    let line = format!("{}{what}: {points} points, built and run in {took:.1?}", case.id);
    results.slow.push((took.iter().sum::<Duration>(), line));
    Some(points)
}

/// Runs a slice of the cases in the interpreter, undisturbed and with forced migration.
fn interpret(case: &Case, start: &Instantiation, code: &Code, points: u64, dense: bool, results: &Mutex<Results>) {
    let taken = match std::env::var("DUNLIN_SPEC_ARCH").ok() {
        Some(only) => only == Arch::Pulley64.to_string(),
        None => slice::takes(&format!("{} {dense} interpreted", case.id), INTERPRETED),
    };
    if !taken {
        return;
    }
    let mut wrong = Vec::new();
    let mut held = (0, 0);
    match build_for("pulley64", &code.wasm) {
        Built::Program(program) => {
            let forced = Mode::forced(Arch::Pulley64, stride(points, AFFORDABLE_DENSE));
            for mode in [Mode::native(Arch::Pulley64), forced] {
                let checked = check(&case.id, start, code, &program, mode);
                held.0 += checked.passed;
                if let Some(every) = mode.forced {
                    held.1 += checked.points / every;
                    if checked.points != points && checked.wrong.is_empty() && !case.exhausts_the_stack() {
                        wrong.push(format!("{}: {} points instead of {points}", case.id, checked.points));
                    }
                }
                wrong.extend(checked.wrong);
            }
        }
        Built::Refused(reason) => wrong.push(format!("{}: refused: {reason}", case.id)),
    }
    let mut results = results.lock().unwrap();
    results.interpreted.0 += held.0;
    results.interpreted.1 += held.1;
    results
        .wrong
        .extend(wrong.into_iter().map(|w| format!("interpreted: {w}")));
}

fn refuse(folder: &str, module: &Refused, results: &Mutex<Results>) {
    let good = is_refused(module);
    let mut results = results.lock().unwrap();
    let valid = |wasm: &[u8]| scope::outside(wasm).is_none();
    if !good && !NEWEST.contains(&folder) && module.wasm.as_deref().is_some_and(valid) {
        results.row(folder).left_out.1 += 1;
        let reason = format!("superseded by WebAssembly 3.0, where it is valid: {}", module.message);
        results.skipped.insert(module.id.clone(), reason);
    } else if good {
        results.row(folder).refused.0 += 1;
    } else {
        results.row(folder).refused.1 += 1;
        results
            .wrong
            .push(format!("{}: accepted: {}", module.id, module.message));
    }
}

/// What is left out because of a feature that Dunlin lacks must be refused in clear words.
fn skip(folder: &str, skipped: &Skipped, results: &Mutex<Results>) {
    let refusal = skipped.wasm.as_deref().map(build);
    let mut results = results.lock().unwrap();
    let row = results.row(folder);
    row.left_out.0 += usize::from(skipped.wasm.is_some());
    row.left_out.1 += skipped.assertions;
    let reason = match refusal {
        None => skipped.reason.clone(),
        Some(Built::Refused(message)) if message.contains("unsupported WebAssembly feature: ") => message,
        Some(Built::Refused(message)) => {
            let line = format!("{}: unclear ({}): {message}", skipped.id, skipped.reason);
            return results.wrong.push(line);
        }
        Some(Built::Program(_)) => {
            let line = format!("{}: not refused ({})", skipped.id, skipped.reason);
            return results.wrong.push(line);
        }
    };
    results.skipped.insert(skipped.id.clone(), reason);
}

#[test]
fn the_suite() {
    let mut results = Results::default();
    let mut seen = HashSet::new();
    let mut jobs = Vec::new();
    let only = std::env::var("DUNLIN_SPEC_ONLY").unwrap_or_default();
    let own = if atomics::FOLDER.contains(&only) {
        atomics::scripts()
    } else {
        vec![]
    };
    let suite = scripts().into_iter().map(|(folder, file)| {
        let script = read(&folder, &file);
        (folder, script)
    });
    for (folder, script) in suite.chain(own.into_iter().map(|script| (atomics::FOLDER.to_owned(), script))) {
        let taken = cases::of(&script);
        let row = results.row(&folder);
        row.scripts += 1;
        for case in taken.cases {
            if !seen.insert(case.contents()) {
                row.repeated += case.instances;
                continue;
            }
            row.modules += case.instances;
            row.linked += if case.instances > 1 { case.instances } else { 0 };
            jobs.push((folder.clone(), Job::Run(case)));
        }
        row.unlinkable.0 += taken.unlinkable;
        row.unlinkable.1 += taken.wrong.len();
        results.wrong.extend(taken.wrong);
        jobs.extend(taken.skipped.into_iter().map(|s| (folder.clone(), Job::Skip(s))));
        jobs.extend(script.refused.into_iter().map(|r| (folder.clone(), Job::Refuse(r))));
    }
    let results = Mutex::new(results);
    in_parallel(&jobs, |(folder, job)| match job {
        Job::Run(case) => run(folder, case, &results),
        Job::Refuse(module) => refuse(folder, module, &results),
        Job::Skip(skipped) => skip(folder, skipped, &results),
    });
    let mut results = results.into_inner().unwrap();
    println!("{}", report::table(&results.rows));
    println!(
        "built in {:.1?}; run in {:.1?} ({:?})",
        results.build,
        results.run,
        report::MODES
    );
    let (held, migrations) = results.interpreted;
    println!("interpreted: {held} assertions held, {migrations} migrations");
    results.slow.sort();
    for (_, line) in results.slow.iter().rev().take(10) {
        println!("{line}");
    }
    let wrong = results.wrong;
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(100)].join("\n")
    );
    if std::env::var_os("DUNLIN_SPEC_ONLY").is_none() {
        skips::check(&results.skipped);
    }
}
