//! The guests: small programs in `guests/`, one per kind of state. Each sets a state up, passes many migration points,
//! verifies itself and prints a result that must not depend on where it ran.
//!
//! A guest begins with a header, lines after `//!` (C) or `;;!` (text format): first what it is about, up to a line
//! that ends with a full stop, then directives, one a line. A line that is neither is an error: a misspelt directive
//! would assert nothing.
//!
//! | directive | meaning |
//! | --- | --- |
//! | `args: A B` | arguments |
//! | `env: N=V` | a variable of the program |
//! | `stdin: TEXT` | standard input through a pipe (`\n` is a line end) |
//! | `dir` | a fresh directory, granted as `/data` |
//! | `file: NAME=TEXT` | a file in it |
//! | `exit: N` | expected exit code (default 0) |
//! | `stdout: LINE` | expected line of output; not in a C guest, whose output is that of a native build, unless: |
//! | `not-native` | (C) a native build can't have the output: the guest checks itself, and prints `stdout` lines |
//! | `force: N` | smallest interval of forced migrations tried (default 1) |
//! | `flags: F` | more flags for clang |

use crate::process::{Input, Outcome, run};
use crate::program::{Program, Run, scratch};
use crate::tools;
use crate::tree::{Node, tree};
use dunlin_format::arch::Arch;
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
    command.args([
        "--target=wasm32-wasi",
        "--no-wasm-opt",
        "-O2",
        "-Wall",
        "-Wno-deprecated",
    ]);
    // Libraries among the flags belong after what needs them.
    command.args(sources).args(flags).arg("-o").arg(module);
    run(command, Input::Empty, Duration::from_secs(300)).expect_code(0);
}

/// Parses a guest's header; an error tells which line makes no sense.
pub fn directives(source: &str, is_c: bool) -> Result<Directives, String> {
    let marker = if is_c { "//!" } else { ";;!" };
    let mut d = Directives {
        force: 1,
        ..Directives::default()
    };
    let header = source
        .lines()
        .map_while(|line| line.strip_prefix(marker))
        .map(str::trim);
    let mut in_prose = true;
    for line in header.clone() {
        let said = directive(&mut d, line).map_err(|why| format!("`{line}` {why}"));
        if !in_prose {
            said?;
        } else if said.is_ok() || looks_like_directive(line) {
            return Err(format!(
                "`{line}` comes before what the guest is about ends with a full stop"
            ));
        } else {
            in_prose = !line.ends_with('.');
        }
    }
    if in_prose {
        return Err("what the guest is about doesn't end with a full stop".into());
    }
    let elsewhere = source
        .lines()
        .skip(header.count())
        .find(|l| l.trim().starts_with(marker));
    if let Some(line) = elsewhere {
        return Err(format!("`{line}` is not in the header"));
    }
    if is_c && !d.not_native && !d.stdout.is_empty() {
        return Err("`stdout` says nothing in a C guest that isn't `not-native`".into());
    }
    Ok(d)
}

/// Is it a word of small letters and a colon? Prose doesn't begin so, so that it can't hide a misspelt directive.
fn looks_like_directive(line: &str) -> bool {
    let word = line.split_once(':').map_or("", |(word, _)| word);
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// Does what one directive says.
fn directive(d: &mut Directives, line: &str) -> Result<(), String> {
    let words = |v: &str| v.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let text = |v: &str| v.replace("\\n", "\n");
    match line {
        "dir" => d.dir = true,
        "not-native" => d.not_native = true,
        _ => {
            let (key, value) = line.split_once(':').ok_or("is no directive")?;
            let value = value.strip_prefix(' ').unwrap_or(value);
            match key {
                "args" => d.args = words(value),
                "env" => d.env.push(value.to_owned()),
                "stdin" => d.stdin = Some(text(value)),
                "file" => {
                    let (name, content) = value.split_once('=').ok_or("must be `file: NAME=TEXT`")?;
                    d.files.push((name.to_owned(), text(content)));
                }
                "exit" => d.exit = value.parse().map_err(|_| "must be `exit: NUMBER`")?,
                "stdout" => d.stdout.push(value.to_owned()),
                "force" => d.force = value.parse().map_err(|_| "must be `force: NUMBER`")?,
                "flags" => d.flags = words(value),
                _ => return Err("is no directive".into()),
            }
        }
    }
    Ok(())
}

impl Guest {
    #[track_caller]
    fn build(name: &str) -> Guest {
        let dir = tools::root().join("tests/guests");
        let (c, wat) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.wat")));
        let is_c = c.is_file();
        let source = if is_c { c } else { wat };
        let text = std::fs::read_to_string(&source).unwrap_or_else(|e| panic!("cannot read {}: {e}", source.display()));
        let directives = directives(&text, is_c).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
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

    /// Its module's file.
    pub fn module(&self) -> &Path {
        &self.module
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_what_it_says() {
        let c = "//! About: this\n//! and that.\n//! dir\n//! file: a=b\\n\n//! exit: 3\n//! env: A=\nint main() {}\n// x: y\n";
        let d = directives(c, true).unwrap();
        assert_eq!((d.dir, d.exit, d.env), (true, 3, vec!["A=".to_owned()]));
        assert_eq!(d.files, [("a".to_owned(), "b\n".to_owned())]);
        let wat = ";;! About.\n;;! stdout: 1\n;;! stdout:  2 \n(module)\n";
        assert_eq!(directives(wat, false).unwrap().stdout, ["1", " 2"]);
    }

    /// Each would be prose otherwise, or left out, and the guest would assert less than it says.
    #[test]
    fn what_is_no_directive_is_an_error() {
        for (lines, part) in [
            ("About.\nstdut: 1", "`stdut: 1` is no directive"),
            ("About.\nStdout: 1", "`Stdout: 1` is no directive"),
            ("About.\nstdout 1", "`stdout 1` is no directive"),
            ("About.\ndirs", "`dirs` is no directive"),
            ("About.\ndir: x", "`dir: x` is no directive"),
            ("About.\nexit: x", "must be `exit: NUMBER`"),
            ("About.\nfile: x", "must be `file: NAME=TEXT`"),
            ("About.\n\nstdout: 1", "`` is no directive"),
            ("About.\nMore about it.", "`More about it.` is no directive"),
            ("stdout: 1\nAbout.", "comes before"),
            ("About\nstdout: 1", "comes before"),
            ("About\nstdut: 1\nit.", "comes before"),
            ("About", "full stop"),
        ] {
            let header: String = lines.lines().map(|l| format!(";;! {l}\n")).collect();
            let why = directives(&header, false).expect_err(lines);
            assert!(why.contains(part), "{lines:?}: {why}");
        }
        let late = directives(";;! About.\n(module\n  ;;! stdout: 1\n)\n", false).unwrap_err();
        assert!(late.contains("not in the header"), "{late}");
        let unused = directives("//! About.\n//! stdout: 1\n", true).unwrap_err();
        assert!(unused.contains("not-native"), "{unused}");
        assert!(directives("//! About.\n//! not-native\n//! stdout: 1\n", true).is_ok());
    }

    #[test]
    fn every_guests_header_makes_sense() {
        for name in all() {
            let found = ["c", "wat"].map(|kind| tools::root().join(format!("tests/guests/{name}.{kind}")));
            let path = found.iter().find(|p| p.is_file()).expect("the guest's file");
            let text = std::fs::read_to_string(path).expect("a guest that is text");
            let said = directives(&text, path.extension().is_some_and(|x| x == "c"));
            assert!(said.is_ok(), "{name}: {said:?}");
        }
    }
}
