//! Where the programs are that the tests run. A missing tool fails the test with the way to get it: nothing is skipped
//! silently.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The root of the source tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ has a parent")
}

/// The `dunlin` command under test: `$DUNLIN_BIN`, or the one that `ci/build` leaves in `target/release`.
pub fn dunlin() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = std::env::var_os("DUNLIN_BIN")
            .map(PathBuf::from)
            .unwrap_or_else(|| root().join("target/release/dunlin"));
        assert!(
            path.is_file(),
            "{} is missing: run ./ci/build first, or set DUNLIN_BIN",
            path.display()
        );
        path
    })
}

/// qemu's user-mode emulator for aarch64.
pub fn qemu() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        find("qemu-aarch64-static")
            .or_else(|| find("qemu-aarch64"))
            .unwrap_or_else(|| missing("qemu-aarch64-static"))
    })
}

/// The clang that compiles C to WebAssembly.
pub fn clang() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| find("clang-22").unwrap_or_else(|| missing("clang-22")))
}

/// The machine's own C compiler: its build of a guest is the reference for the guest's output.
pub fn cc() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| find("cc").or_else(|| find("gcc")).unwrap_or_else(|| missing("cc")))
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|p| p.is_file())
}

fn missing(name: &str) -> ! {
    panic!("{name} is not on the PATH: run ./ci/setup first")
}
