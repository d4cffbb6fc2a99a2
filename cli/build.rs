//! Finds the prebuilt runtimes that `dunlin` carries, and tells the crate where they are: one for each machine's own
//! code, and the one that interprets portable code on the machine that this `dunlin` is for.
//!
//! `DUNLIN_RUNTIME_X86_64`, `DUNLIN_RUNTIME_AARCH64` and `DUNLIN_RUNTIME_PORTABLE` name them if set; otherwise they are
//! where `ci/build` puts them. (In a copied target folder cargo still believes the old place: touch this file.)

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let own = format!("portable.{}", env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it"));
    for (name, kind) in [
        ("X86_64", "dunlin-runtime.x86_64"),
        ("AARCH64", "dunlin-runtime.aarch64"),
        ("PORTABLE", &format!("dunlin-runtime-{own}")),
    ] {
        let var = format!("DUNLIN_RUNTIME_{name}");
        println!("cargo::rerun-if-env-changed={var}");
        // One that is set to nothing is as if it weren't set.
        let path = match env::var_os(&var).filter(|path| !path.is_empty()) {
            Some(path) => PathBuf::from(path),
            None => root.join("target/runtimes").join(kind),
        };
        println!("cargo::rerun-if-changed={}", path.display());
        match path.canonicalize() {
            Ok(path) => println!("cargo::rustc-env={var}={}", path.display()),
            Err(e) => println!(
                "cargo::error=dunlin carries the prebuilt runtime {kind}, but {} can't be read: {e}; run ./ci/build (it builds the \
                 runtimes, then dunlin), or name the file in {var}",
                path.display()
            ),
        }
    }
}
