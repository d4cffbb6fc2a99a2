//! The real programs: their sources come out of crates and Python packages, drivers and scripts of ours are in
//! `programs/`.

use crate::real::{Recipe, Source, ours};
use crate::sources;
use std::path::{Path, PathBuf};

/// The two encodings of WebAssembly exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eh {
    /// `try`, `catch`, `rethrow`: what engines shipped first and clang emits by default.
    Legacy,
    /// `try_table` and `throw_ref`, of WebAssembly 3.0.
    New,
}

impl Eh {
    fn flag(self) -> &'static str {
        match self {
            Eh::Legacy => "-mllvm -wasm-use-legacy-eh=true",
            Eh::New => "-mllvm -wasm-use-legacy-eh=false",
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn include(dir: &Path) -> String {
    format!("-I{}", dir.display())
}

/// The C files of a directory.
fn c_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap_or_else(|e| panic!("cannot read {}: {e}", dir.display()))
        .map(|e| e.expect("a directory entry").path())
        .filter(|p| p.extension().is_some_and(|x| x == "c"))
        .collect();
    files.sort();
    files
}

/// SQLite with the workload of `programs/sqlite.c`: `sqlite DATABASE SCALE`.
pub fn sqlite() -> Recipe {
    let dir = sources::sqlite();
    let mut flags = words("-DSQLITE_THREADSAFE=0 -DSQLITE_TEMP_STORE=3 -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_OMIT_WAL");
    flags.push(include(&dir));
    Recipe {
        name: "sqlite",
        sources: vec![dir.join("sqlite3.c"), ours("sqlite.c")],
        flags,
        wasm_sources: vec![dir.join("wasm32-wasi-vfs.c")],
        wasm_flags: words("-DSQLITE_OS_OTHER=1 -DLONGDOUBLE_TYPE=double -Wl,-z,stack-size=262144"),
        ..Recipe::default()
    }
}

const LUA_EMULATIONS: &str = "-D_WASI_EMULATED_SIGNAL -D_WASI_EMULATED_PROCESS_CLOCKS -lwasi-emulated-signal \
                              -lwasi-emulated-process-clocks -Wl,-z,stack-size=1048576";

/// The Lua interpreter of `programs/lua.c`, which can't catch errors: `lua SCRIPT ARGS...`.
pub fn lua() -> Recipe {
    let dir = sources::lua();
    let mut sources = c_files(&dir);
    sources.push(ours("lua.c"));
    Recipe {
        name: "lua",
        sources,
        // The same substitute for setjmp natively: one program, two compilers.
        flags: vec![include(&ours("lua-include")), include(&dir)],
        wasm_flags: words(LUA_EMULATIONS),
        ..Recipe::default()
    }
}

/// The same with setjmp and longjmp, which clang makes of WebAssembly's exceptions.
pub fn lua_with_setjmp(eh: Eh) -> Recipe {
    let dir = sources::lua();
    let mut sources = c_files(&dir);
    sources.push(ours("lua.c"));
    let (mut wasm_flags, rt) = setjmp(eh);
    wasm_flags.extend(words(LUA_EMULATIONS));
    Recipe {
        name: "lua",
        sources,
        flags: vec![include(&dir)],
        wasm_sources: vec![rt],
        wasm_flags,
        ..Recipe::default()
    }
}

/// What a C program with setjmp needs: flags, and a source.
fn setjmp(eh: Eh) -> (Vec<String>, PathBuf) {
    let mut flags = words("-mllvm -wasm-enable-sjlj -mexception-handling");
    flags.extend(words(eh.flag()));
    flags.push(include(
        &sources::runtimes().join("libc/wasi/libc-top-half/musl/src/setjmp/wasm32"),
    ));
    flags.push(include(&ours("eh/include")));
    (flags, ours("eh/sjlj.c"))
}

/// A C++ program with exceptions: `shapes SCALE DIR`.
pub fn shapes(eh: Eh) -> Recipe {
    let llvm = sources::runtimes();
    let mut wasm_flags = words(
        "-fwasm-exceptions -DNDEBUG -D_LIBUNWIND_HIDE_SYMBOLS -D_LIBUNWIND_HAS_NO_THREADS -D_LIBCXXABI_HAS_NO_THREADS -lc++ -lc++abi",
    );
    wasm_flags.extend(words(eh.flag()));
    for dir in ["libcxxabi/src", "libunwind/include", "libunwind/src", "libcxx/src"] {
        wasm_flags.push(include(&llvm.join(dir)));
    }
    Recipe {
        name: "shapes",
        sources: vec![ours("shapes.cpp")],
        wasm_sources: vec![ours("eh/unwind.c"), ours("eh/cxxabi.cpp")],
        wasm_flags,
        native_flags: words("-lstdc++"),
        ..Recipe::default()
    }
}

/// QuickJS's own interpreter: `qjs --std -m SCRIPT ARGS...`.
pub fn quickjs() -> Recipe {
    let dir = sources::quickjs();
    let files = "qjs.c quickjs-libc.c quickjs.c libregexp.c libunicode.c dtoa.c gen/repl.c gen/standalone.c";
    Recipe {
        name: "qjs",
        sources: words(files).iter().map(|f| dir.join(f)).collect(),
        flags: vec!["-D_GNU_SOURCE".into(), include(&dir)],
        wasm_flags: words(LUA_EMULATIONS),
        native_flags: words("-lpthread -ldl"),
        ..Recipe::default()
    }
}

/// bzip2 and zstd with `programs/squeeze.c`: `squeeze SCALE DIR`.
pub fn squeeze() -> Recipe {
    let (bzip2, zstd) = (sources::bzip2(), sources::zstd());
    let mut all = vec![ours("squeeze.c")];
    all.extend(
        words("blocksort.c huffman.c crctable.c randtable.c compress.c decompress.c bzlib.c")
            .iter()
            .map(|f| bzip2.join(f)),
    );
    for dir in ["common", "compress", "decompress"] {
        all.extend(c_files(&zstd.join(dir)));
    }
    let mut flags = words("-DZSTD_DISABLE_ASM -DZSTD_LEGACY_SUPPORT=0");
    flags.extend([include(&bzip2), include(&zstd)]);
    Recipe {
        name: "squeeze",
        sources: all,
        flags,
        ..Recipe::default()
    }
}

/// A Rust program: `ledger SCALE DIR`.
pub fn ledger() -> Recipe {
    Recipe {
        name: "ledger",
        language: Source::Rust,
        sources: vec![ours("ledger.rs")],
        ..Recipe::default()
    }
}

/// SQLite with the workload of `programs/unison_bank.c`: `unison_bank DIR SEED ROUNDS JOURNAL [PATIENCE]`.
pub fn unison_bank() -> Recipe {
    let dir = sources::sqlite();
    let mut flags =
        words("-DSQLITE_THREADSAFE=0 -DSQLITE_TEMP_STORE=3 -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_OS_OTHER=1");
    flags.push(include(&dir));
    Recipe {
        name: "unison_bank",
        sources: vec![dir.join("sqlite3.c"), ours("unison_bank.c")],
        headers: vec![ours("unison_vfs.h"), ours("unison_full.h")],
        flags,
        wasm_flags: words("-DLONGDOUBLE_TYPE=double -Wl,-z,stack-size=262144"),
        ..Recipe::default()
    }
}

/// A random file workload: `unison_files DIR SEED OPERATIONS [PATIENCE]`.
pub fn unison_files() -> Recipe {
    Recipe {
        name: "unison_files",
        sources: vec![ours("unison_files.c")],
        headers: vec![ours("unison_model.h"), ours("unison_full.h")],
        ..Recipe::default()
    }
}

/// A logger: `unison_log DIR SEED LINES [PATIENCE]`.
pub fn unison_log() -> Recipe {
    Recipe {
        name: "unison_log",
        sources: vec![ours("unison_log.c")],
        headers: vec![ours("unison_full.h")],
        ..Recipe::default()
    }
}

/// Does with files what standard input says: `unison_steps DIR`.
pub fn unison_steps() -> Recipe {
    Recipe {
        name: "unison_steps",
        sources: vec![ours("unison_steps.c")],
        ..Recipe::default()
    }
}
