//! How real programs are built: to WebAssembly, and by the machine's own compiler as a reference. Building them takes a
//! while, so the results are kept in `target/dunlin-tests`.

use crate::guest::clang;
use crate::process::{Input, run};
use crate::tools;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

/// What a program is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// C or C++, by the files' names.
    #[default]
    C,
    /// One file of Rust.
    Rust,
}

/// A program's sources and how to compile them.
#[derive(Debug, Default)]
pub struct Recipe {
    pub(crate) name: &'static str,
    pub(crate) language: Source,
    /// For both builds.
    pub(crate) sources: Vec<PathBuf>,
    pub(crate) flags: Vec<String>,
    /// Headers of ours: with a change of them, everything is built again.
    pub(crate) headers: Vec<PathBuf>,
    /// For WebAssembly only.
    pub(crate) wasm_sources: Vec<PathBuf>,
    pub(crate) wasm_flags: Vec<String>,
    /// For the reference only.
    pub(crate) native_flags: Vec<String>,
}

/// A source or script of ours.
pub fn ours(name: &str) -> PathBuf {
    tools::root().join("tests/programs").join(name)
}

/// Rust's standard library may have to be built first.
const BUILD: Duration = Duration::from_secs(900);

impl Recipe {
    /// The WebAssembly module.
    #[track_caller]
    pub fn module(&self) -> PathBuf {
        let sources: Vec<PathBuf> = self.sources.iter().chain(&self.wasm_sources).cloned().collect();
        let mut flags = [&self.flags[..], &self.wasm_flags].concat();
        flags.push("-w".to_owned());
        self.kept("wasm", &sources, &flags, |to| match self.language {
            Source::C => clang(&sources, &flags, to),
            Source::Rust => {
                let mut command = Command::new(tools::root().join("examples/build-rust"));
                command.args(&sources).arg(to);
                run(command, Input::Empty, BUILD).expect_code(0);
            }
        })
    }

    /// A build by the machine's own compiler: the reference.
    #[track_caller]
    pub fn native(&self) -> PathBuf {
        let flags = [&self.flags[..], &self.native_flags].concat();
        self.kept("native", &self.sources, &flags, |to| {
            let mut command;
            match self.language {
                Source::C => {
                    command = Command::new(tools::cc());
                    command.args(["-O1", "-w", "-D_GNU_SOURCE", "-ffp-contract=off"]);
                    command.args(&self.flags).args(&self.sources).arg("-o").arg(to);
                    command.args(&self.native_flags).arg("-lm");
                }
                Source::Rust => {
                    command = Command::new("rustc");
                    command
                        .args(["--edition", "2024", "-O", "-o"])
                        .arg(to)
                        .args(&self.sources);
                }
            }
            run(command, Input::Empty, BUILD).expect_code(0);
        })
    }

    /// The file that `make` made of these inputs, now or in an earlier run.
    fn kept(&self, kind: &str, sources: &[PathBuf], flags: &[String], make: impl FnOnce(&Path)) -> PathBuf {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let mut hasher = DefaultHasher::new();
        flags.hash(&mut hasher);
        for source in sources.iter().chain(&self.headers) {
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
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
        if !path.is_file() {
            std::fs::create_dir_all(&dir).expect("the target directory is writable");
            let new = dir.join("new");
            make(&new);
            std::fs::rename(&new, &path).expect("a new file can be renamed");
        }
        path
    }
}
