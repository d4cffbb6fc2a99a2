//! The guests: small programs in `guests/`, one per kind of state. Each sets a state up, passes many migration points, verifies
//! itself and prints a result that must not depend on where it ran.
//!
//! The header of a guest may hold directives, one a line, after `//!` (C) or `;;!` (text format):
//!
//! | directive | meaning |
//! | --- | --- |
//! | `args: A B` | arguments |
//! | `env: N=V` | a variable of the program |
//! | `stdin: TEXT` | standard input through a pipe (`\n` is a line end) |
//! | `dir` | a fresh directory, granted as `/data` |
//! | `file: NAME=TEXT` | a file in it |
//! | `exit: N` | expected exit code (default 0) |
//! | `stdout: LINE` | expected line of output; without any, a C guest's output is that of the machine's own compiler's build |
//! | `not-native` | the output can't be had from a native build: the guest checks itself, and prints `stdout` lines |
//! | `force: N` | smallest interval of forced migrations tried (default 1) |
//! | `flags: F` | more flags for clang |

use crate::process::{Input, Outcome, run};
use crate::program::{Program, Run, scratch};
use crate::tools;
use crate::tree::{Node, tree};
use dunlin_migrate::arch::Arch;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::Duration;
use tempfile::TempDir;

/// What a guest's header says.
#[derive(Clone, Debug, Default)]
pub struct Directives {
    /// Arguments.
    pub args: Vec<String>,
    /// Variables, `N=V`.
    pub env: Vec<String>,
    /// Standard input.
    pub stdin: Option<String>,
    /// Does it want a directory?
    pub dir: bool,
    /// Files in the directory.
    pub files: Vec<(String, String)>,
    /// Expected exit code.
    pub exit: i32,
    /// Expected output.
    pub stdout: Vec<String>,
    /// No native build.
    pub not_native: bool,
    /// Interval of forced migrations.
    pub force: u64,
    /// Flags for clang.
    pub flags: Vec<String>,
}

/// What a run of a guest is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// The granted directory afterwards.
    pub files: BTreeMap<String, Node>,
}

/// A guest, built.
#[derive(Debug)]
pub struct Guest {
    /// Its header.
    pub directives: Directives,
    /// Its executables.
    pub program: Program,
    /// How it must end.
    pub expected: Verdict,
    /// The functions that its module imports, as (module, name).
    pub imports: Vec<(String, String)>,
    module: PathBuf,
    // Holds the module for as long as the guest lives.
    _module_dir: TempDir,
}

/// Names of all guests: the files in `guests/`, without suffix.
pub fn all() -> Vec<String> {
    let dir = tools::root().join("tests/guests");
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .expect("tests/guests is readable")
        .map(|e| e.expect("a directory entry").path())
        .filter(|p| p.extension().is_some_and(|x| x == "c" || x == "wat"))
        .map(|p| p.file_stem().expect("a file name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A guest by name, built once per test process.
#[track_caller]
pub fn guest(name: &str) -> Arc<Guest> {
    type Cell = Arc<OnceLock<Arc<Guest>>>;
    static BUILT: LazyLock<Mutex<HashMap<String, Cell>>> = LazyLock::new(Mutex::default);
    let cell = BUILT
        .lock()
        .unwrap_or_else(|e| e.into_inner())
        .entry(name.to_owned())
        .or_default()
        .clone();
    cell.get_or_init(|| Arc::new(Guest::build(name))).clone()
}

/// Compiles C to a WebAssembly module.
#[track_caller]
pub fn clang(sources: &[PathBuf], flags: &[String], module: &Path) {
    let mut command = Command::new(tools::clang());
    command.args(["--target=wasm32-wasi", "--no-wasm-opt", "-O2", "-Wall", "-Wno-deprecated"]);
    // Libraries among the flags belong after what needs them.
    command.args(sources).args(flags).arg("-o").arg(module);
    run(command, Input::Empty, Duration::from_secs(300)).expect_code(0);
}

/// Parses a header.
pub fn directives(source: &str) -> Directives {
    let mut d = Directives {
        force: 1,
        ..Directives::default()
    };
    let words = |v: &str| v.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let text = |v: &str| v.replace("\\n", "\n");
    for line in source.lines() {
        let Some(line) = line.strip_prefix("//!").or(line.strip_prefix(";;!")) else {
            break;
        };
        let (key, value) = line.trim().split_once(':').unwrap_or((line.trim(), ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match key {
            "args" => d.args = words(value),
            "env" => d.env.push(value.to_owned()),
            "stdin" => d.stdin = Some(text(value)),
            "dir" => d.dir = true,
            "file" => {
                let (name, content) = value.split_once('=').expect("file: NAME=TEXT");
                d.files.push((name.to_owned(), text(content)));
            }
            "exit" => d.exit = value.parse().expect("exit: NUMBER"),
            "stdout" => d.stdout.push(value.to_owned()),
            "not-native" => d.not_native = true,
            "force" => d.force = value.parse().expect("force: NUMBER"),
            "flags" => d.flags = words(value),
            // Anything else is prose.
            _ => {}
        }
    }
    d
}

impl Guest {
    #[track_caller]
    fn build(name: &str) -> Guest {
        let dir = tools::root().join("tests/guests");
        let (c, wat) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.wat")));
        let is_c = c.is_file();
        let source = if is_c { c } else { wat };
        let text = std::fs::read_to_string(&source).unwrap_or_else(|e| panic!("cannot read {}: {e}", source.display()));
        let directives = directives(&text);
        let module_dir = scratch();
        let module = if is_c {
            let module = module_dir.path().join(format!("{name}.wasm"));
            clang(std::slice::from_ref(&source), &directives.flags, &module);
            module
        } else {
            let module = module_dir.path().join(format!("{name}.wat"));
            let prelude = std::fs::read_to_string(dir.join("prelude.wat.inc")).expect("the prelude is readable");
            std::fs::write(&module, text.replace("  ;;prelude\n", &prelude)).expect("scratch space is writable");
            module
        };
        let expected = if is_c && !directives.not_native {
            native(&source, &directives)
        } else {
            stated(&directives)
        };
        Guest {
            program: Program::build(&module),
            imports: imports(&module),
            expected,
            directives,
            module,
            _module_dir: module_dir,
        }
    }

    /// The same guest, built with more options.
    #[track_caller]
    pub fn rebuilt(&self, options: &[&str]) -> Program {
        Program::build_with(&self.module, options)
    }

    /// A fresh directory for one run, if the guest wants one.
    pub fn data(&self) -> Option<TempDir> {
        self.directives.dir.then(|| {
            let dir = scratch();
            fill(dir.path(), &self.directives);
            dir
        })
    }

    /// A run on an architecture with all that the guest wants, standard input apart.
    pub fn on(&self, arch: Arch, data: Option<&TempDir>) -> Run {
        self.of(&self.program, arch, data)
    }

    /// As [`Guest::on`], of another build of it.
    pub fn of(&self, program: &Program, arch: Arch, data: Option<&TempDir>) -> Run {
        let mut run = program.on(arch).args(self.directives.args.clone());
        for variable in &self.directives.env {
            run = run.opts(["--env", variable]);
        }
        if let Some(data) = data {
            run = run.dir(data.path(), "/data");
        }
        run
    }

    /// The guest's standard input.
    pub fn input(&self) -> Input {
        self.directives
            .stdin
            .as_ref()
            .map_or(Input::Empty, |s| Input::Bytes(s.clone().into_bytes()))
    }

    /// What a finished run is judged by.
    pub fn verdict(&self, code: i32, stdout: &[u8], data: Option<&TempDir>) -> Verdict {
        let files = data.map(|d| tree(d.path())).unwrap_or_default();
        Verdict {
            code,
            stdout: String::from_utf8_lossy(stdout).into_owned(),
            files,
        }
    }

    /// Fails unless a finished run was as expected.
    #[track_caller]
    pub fn check(&self, outcome: &Outcome, data: Option<&TempDir>) {
        let verdict = self.verdict(outcome.code(), &outcome.stdout, data);
        self.check_verdict(&verdict, &outcome.to_string());
    }

    /// Fails unless a verdict is the expected one. Files are compared only with a native reference.
    #[track_caller]
    pub fn check_verdict(&self, verdict: &Verdict, what: &str) {
        assert_eq!(verdict.stdout, self.expected.stdout, "stdout of {what}");
        assert_eq!(verdict.code, self.expected.code, "exit code of {what}");
        if !self.directives.not_native {
            assert_eq!(verdict.files, self.expected.files, "files after {what}");
        }
    }
}

/// The functions that a module imports; none of one in the text format.
fn imports(module: &Path) -> Vec<(String, String)> {
    let bytes = std::fs::read(module).expect("the module is readable");
    if !bytes.starts_with(b"\0asm") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for part in wasmparser::Parser::new(0).parse_all(&bytes) {
        if let wasmparser::Payload::ImportSection(section) = part.expect("clang writes modules that can be read") {
            for import in section.into_imports() {
                let import = import.expect("an import");
                found.push((import.module.to_owned(), import.name.to_owned()));
            }
        }
    }
    found
}

fn fill(dir: &Path, directives: &Directives) {
    for (name, content) in &directives.files {
        std::fs::write(dir.join(name), content).expect("scratch space is writable");
    }
}

/// What the machine's own compiler's build of the guest does.
#[track_caller]
fn native(source: &Path, directives: &Directives) -> Verdict {
    let (dir, data) = (scratch(), scratch());
    fill(data.path(), directives);
    let exe = dir.path().join("guest");
    let mut compile = Command::new(tools::cc());
    compile
        .args(["-O1", "-w", "-D_GNU_SOURCE"])
        .arg(format!("-DDATA=\"{}\"", data.path().display()));
    compile.arg(source).arg("-o").arg(&exe).arg("-lm");
    run(compile, Input::Empty, Duration::from_secs(60)).expect_code(0);
    let mut command = Command::new(&exe);
    command.args(&directives.args).env_clear();
    for variable in &directives.env {
        let (name, value) = variable.split_once('=').expect("env: N=V");
        command.env(name, value);
    }
    let input = directives
        .stdin
        .as_ref()
        .map_or(Input::Empty, |s| Input::Bytes(s.clone().into_bytes()));
    let outcome = run(command, input, Duration::from_secs(60));
    assert_eq!(
        outcome.code(),
        directives.exit,
        "the native build must end as the header says: {outcome}"
    );
    Verdict {
        code: outcome.code(),
        stdout: outcome.out(),
        files: tree(data.path()),
    }
}

/// What the header says.
fn stated(directives: &Directives) -> Verdict {
    let stdout: String = directives.stdout.iter().map(|l| format!("{l}\n")).collect();
    Verdict {
        code: directives.exit,
        stdout,
        files: BTreeMap::new(),
    }
}
