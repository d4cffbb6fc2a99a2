//! Keeps what went wrong in `target/fuzz/`: the module, and how to see it again.

use crate::case::Case;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// The seeds that workers are at. Not per thread: the compiler has threads of its own.
static SEEDS: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

fn seeds() -> MutexGuard<'static, BTreeSet<u64>> {
    SEEDS.lock().unwrap_or_else(|e| e.into_inner())
}

/// Where it is kept.
pub fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz")
}

/// Notes that a worker is at a seed for as long as `work` takes.
pub fn at(seed: u64, work: impl FnOnce()) {
    seeds().insert(seed);
    work();
    seeds().remove(&seed);
}

/// Keeps a case that failed.
pub fn failure(case: &Case, mode: &str, what: &str) {
    let dir = dir();
    let base = dir.join(format!("{}-{mode}", case.seed));
    let mut text = format!(
        "{what}\n\nprofile: {:?}, {:?}, max-alive {}\n",
        case.profile,
        case.opt_level(),
        case.max_alive()
    );
    let _ = writeln!(
        text,
        "again:  cargo run --profile tools -p dunlin-fuzz -- --seeds {0}..{1} --mode {mode}\nsmaller: cargo run --profile tools -p dunlin-fuzz \
         -- --reduce {0} --mode {mode}\n",
        case.seed,
        case.seed + 1
    );
    for command in &case.commands {
        let _ = writeln!(text, "{}", command.line());
    }
    // A full disk must not hide the failure, which is printed too.
    let _ = std::fs::create_dir_all(&dir);
    let _ = std::fs::write(base.with_extension("wasm"), &case.wasm);
    if case.reference != case.wasm {
        let _ = std::fs::write(base.with_extension("reference.wasm"), &case.reference);
    }
    let _ = std::fs::write(base.with_extension("txt"), text);
}

/// When a worker panics (a bug of the compiler's, usually), the cases under way are kept, too.
pub fn on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        for seed in std::mem::take(&mut *seeds()) {
            eprintln!("dunlin-fuzz: a panic at seed {seed}");
            if let Ok(case) = Case::of(seed) {
                failure(&case, "panic", &info.to_string());
            }
        }
    }));
}
