//! Real programs: SQLite and Lua, built from the sources inside their crates, with drivers and scripts of ours in `programs/`.
//! Building them takes a while, so the modules and the native reference builds are kept in `target/dunlin-tests`.

use crate::guest::clang;
use crate::process::{Input, run};
use crate::{sources, tools};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

/// A program's sources and how to compile them.
#[derive(Debug)]
pub struct Recipe {
    name: &'static str,
    sources: Vec<PathBuf>,
    flags: Vec<String>,
    wasm_sources: Vec<PathBuf>,
    wasm_flags: Vec<String>,
}

fn ours(name: &str) -> PathBuf {
    tools::root().join("tests/programs").join(name)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// SQLite with the workload of `programs/sqlite.c`: `sqlite DATABASE SCALE`.
pub fn sqlite() -> Recipe {
    let dir = sources::sqlite();
    let mut flags = words("-DSQLITE_THREADSAFE=0 -DSQLITE_TEMP_STORE=3 -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_OMIT_WAL");
    flags.push(format!("-I{}", dir.display()));
    Recipe {
        name: "sqlite",
        sources: vec![dir.join("sqlite3.c"), ours("sqlite.c")],
        flags,
        wasm_sources: vec![dir.join("wasm32-wasi-vfs.c")],
        wasm_flags: words("-DSQLITE_OS_OTHER=1 -DLONGDOUBLE_TYPE=double -Wl,-z,stack-size=262144"),
    }
}

/// The Lua interpreter of `programs/lua.c`: `lua SCRIPT ARGS...`.
pub fn lua() -> Recipe {
    let dir = sources::lua();
    let mut sources: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("cannot read {}: {e}", dir.display()))
        .map(|e| e.expect("a directory entry").path())
        .filter(|p| p.extension().is_some_and(|x| x == "c"))
        .collect();
    sources.sort();
    sources.push(ours("lua.c"));
    let include = |d: &Path| format!("-I{}", d.display());
    Recipe {
        name: "lua",
        sources,
        // The same substitute for setjmp natively: one program, two compilers.
        flags: vec![include(&ours("lua-include")), include(&dir)],
        wasm_sources: vec![],
        wasm_flags: words(
            "-D_WASI_EMULATED_SIGNAL -D_WASI_EMULATED_PROCESS_CLOCKS -lwasi-emulated-signal -lwasi-emulated-process-clocks \
             -Wl,-z,stack-size=1048576",
        ),
    }
}

/// Path of the Lua script.
pub fn script() -> PathBuf {
    ours("script.lua")
}

impl Recipe {
    /// The WebAssembly module.
    #[track_caller]
    pub fn module(&self) -> PathBuf {
        let sources: Vec<PathBuf> = self.sources.iter().chain(&self.wasm_sources).cloned().collect();
        let flags: Vec<String> = self
            .flags
            .iter()
            .chain(&self.wasm_flags)
            .cloned()
            .chain(["-w".to_owned()])
            .collect();
        self.kept("wasm", &sources, &flags, |to| clang(&sources, &flags, to))
    }

    /// A build by the machine's own compiler: the reference.
    #[track_caller]
    pub fn native(&self) -> PathBuf {
        let flags: Vec<String> = self
            .flags
            .iter()
            .cloned()
            .chain(words("-O1 -w -D_GNU_SOURCE -ffp-contract=off"))
            .collect();
        self.kept("native", &self.sources, &flags, |to| {
            let mut command = Command::new(tools::cc());
            command.args(&flags).args(&self.sources).arg("-o").arg(to).arg("-lm");
            run(command, Input::Empty, Duration::from_secs(300)).expect_code(0);
        })
    }

    /// The file that `make` made of these inputs, now or in an earlier run.
    fn kept(&self, kind: &str, sources: &[PathBuf], flags: &[String], make: impl FnOnce(&Path)) -> PathBuf {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
        let mut hasher = DefaultHasher::new();
        flags.hash(&mut hasher);
        for source in sources {
            source.hash(&mut hasher);
            std::fs::read(source)
                .unwrap_or_else(|e| panic!("cannot read {}: {e}", source.display()))
                .hash(&mut hasher);
        }
        let dir = tools::root()
            .join("target/dunlin-tests")
            .join(format!("{kind}-{:016x}", hasher.finish()));
        let path = dir.join(if kind == "wasm" {
            format!("{}.wasm", self.name)
        } else {
            self.name.to_owned()
        });
        if !path.is_file() {
            std::fs::create_dir_all(&dir).expect("the target directory is writable");
            let new = dir.join("new");
            make(&new);
            std::fs::rename(&new, &path).expect("a new file can be renamed");
        }
        path
    }
}
