//! The official test suite, through real executables: WebAssembly 1.0's scripts, 2.0's, and those for vectors. Each module is run on
//! x86_64, on aarch64 under qemu, and on both with a forced migration at every point. What is left out is listed one by one in
//! `spec-skips.txt`.

use dunlin_tests::sources;
use dunlin_tests::spec::run::{Built, Mode, build, check, is_refused};
use dunlin_tests::spec::script::{Case, Script, read};
use dunlin_tests::spec::skips;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The folders of the suite.
const FOLDERS: [&str; 4] = ["wasm-v1", "wasm-v2", "proposals/simd", "proposals/relaxed-simd"];

fn scripts(folder: &str) -> Vec<Script> {
    let dir = sources::spec().join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("cannot read {}: {e}", dir.display()))
        .map(|e| e.expect("a directory entry").path())
        .filter(|p| p.extension().is_some_and(|x| x == "wast"))
        .collect();
    files.sort();
    let least = if folder.starts_with("proposals/") { 7 } else { 50 };
    assert!(files.len() >= least, "only {} scripts in {}", files.len(), dir.display());
    files.iter().map(|file| read(folder, file)).collect()
}

/// The core set: scripts whose modules stand alone. `DUNLIN_SPEC_FULL=1` takes all of them.
const CORE: &[&str] = &[
    "address",
    "align",
    "block",
    "br",
    "br_if",
    "br_table",
    "call",
    "call_indirect",
    "conversions",
    "endianness",
    "f32",
    "f32_cmp",
    "f64",
    "f64_cmp",
    "fac",
    "float_exprs",
    "float_misc",
    "forward",
    "func",
    "i32",
    "i64",
    "if",
    "int_exprs",
    "int_literals",
    "labels",
    "left-to-right",
    "load",
    "local_get",
    "local_set",
    "local_tee",
    "loop",
    "memory_copy",
    "memory_fill",
    "memory_init",
    "memory_redundancy",
    "memory_trap",
    "nop",
    "return",
    "stack",
    "store",
    "switch",
    "traps",
    "unreachable",
    "unwind",
];

fn in_core(case: &Case) -> bool {
    let script = case.id.split(['/', ':']).nth(1).unwrap_or("");
    std::env::var_os("DUNLIN_SPEC_FULL").is_some()
        || case.id.starts_with("proposals/")
        || CORE.contains(&script.trim_end_matches(".wast"))
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

/// Why a module is left out before anything is tried.
fn out_of_scope(case: &Case) -> Option<String> {
    match &case.wasm {
        Err(e) => Some(format!("the text parser refuses it: {}", e.lines().next().unwrap_or(""))),
        Ok(_) => None,
    }
}

#[test]
fn modules_behave() {
    let scripts: Vec<Script> = FOLDERS.into_iter().flat_map(scripts).collect();
    let left_out = Mutex::new(BTreeMap::new());
    let wrong = Mutex::new(Vec::new());
    let (modules, assertions) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let cases: Vec<&Case> = scripts.iter().flat_map(|s| &s.modules).filter(|c| in_core(c)).collect();
    in_parallel(&cases, |case| {
        let skip = |reason: String| drop(left_out.lock().unwrap().insert(case.id.clone(), reason));
        if let Some(reason) = out_of_scope(case) {
            return skip(reason);
        }
        let program = match build(case.wasm.as_ref().expect("in scope")) {
            Built::Program(program) => program,
            Built::Refused(reason) => return skip(reason),
        };
        modules.fetch_add(1, Ordering::Relaxed);
        // 2.0's scripts contain 1.0's: those that only 1.0 has are run natively.
        let modes = if case.id.starts_with("wasm-v1") { 1 } else { 4 };
        for mode in Mode::all().into_iter().take(modes) {
            let (held, bad) = check(case, &program, mode);
            assertions.fetch_add(held, Ordering::Relaxed);
            wrong.lock().unwrap().extend(bad);
        }
    });
    let left_out = left_out.into_inner().unwrap();
    let wrong = wrong.into_inner().unwrap();
    println!(
        "{} modules, {} calls as expected, {} left out, {} wrong",
        modules.into_inner(),
        assertions.into_inner(),
        left_out.len(),
        wrong.len()
    );
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(40)].join("\n")
    );
    skips::check(&left_out);
}

/// What 1.0 calls invalid may be valid in 2.0, so only the newer folder is used here.
#[test]
fn bad_modules_are_refused() {
    let folders = FOLDERS.into_iter().filter(|f| *f != "wasm-v1");
    let refused: Vec<_> = folders.flat_map(scripts).flat_map(|s| s.refused).collect();
    assert!(refused.len() > 1000, "only {} modules to refuse", refused.len());
    let wrong = Mutex::new(Vec::new());
    let binaries = AtomicUsize::new(0);
    in_parallel(&refused, |module| {
        binaries.fetch_add(usize::from(module.wasm.is_some()), Ordering::Relaxed);
        if !is_refused(module) {
            wrong.lock().unwrap().push(format!("{}: {}", module.id, module.message));
        }
    });
    println!(
        "{} modules refused, {} of them as binaries",
        refused.len(),
        binaries.into_inner()
    );
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "accepted:\n{}", wrong.join("\n"));
}
