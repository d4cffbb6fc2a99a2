//! `dunlin build`: compiles a module to executables, or shows what the compiler makes of it.

use crate::failure::{Failure, Outcome};
use crate::{cache, program, runtimes, show, trust};
use clap::{ArgAction, Args, ValueEnum};
use dunlin_compiler::{CompileOptions, Compiled, OptLevel, Settings, compile, write_executable, write_object};
use dunlin_format::arch::Arch;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Compiles a WebAssembly program to a standalone executable for each architecture
#[derive(Debug, Args)]
pub struct Build {
    /// The module: WebAssembly binary (.wasm) or text (.wat)
    module: PathBuf,
    /// Write NAME.x86_64 and NAME.aarch64 (default: the module's name without its suffix, in the current directory)
    #[arg(short, long, value_name = "NAME")]
    output: Option<PathBuf>,
    /// For which architecture
    #[arg(long, value_enum, default_value_t = Target::All)]
    target: Target,
    /// How hard to optimise: -O0, -O1 or -O2
    #[arg(short = 'O', value_name = "LEVEL", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=2))]
    opt_level: u32,
    /// Leave out the migration points: the same code, but it can't be checkpointed (to measure what they cost)
    #[arg(long)]
    no_migration: bool,
    /// Make every NaN that arithmetic produces the canonical one, so that results are the same bits on both
    /// architectures
    #[arg(long)]
    deterministic: bool,
    /// Instead of executables write Cranelift's intermediate code (NAME.clif), assembly (NAME.ARCH.s), or ELF objects
    /// (NAME.ARCH.o); texts go to standard output with `-o -`
    #[arg(long, value_enum, value_name = "WHAT")]
    emit: Option<Emit>,
    /// Keep function names, for backtraces, `dunlin inspect` and debuggers; --names=false leaves them out
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value_t = true, default_missing_value = "true")]
    names: bool,
    /// Compile on so many threads (default: one for each core)
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
    /// Admit the imports of the specification's test suite
    #[arg(long, hide = true)]
    spectest: bool,
    /// In functions with more variables alive at once, keep most of them in memory (for tests: only enormous functions
    /// have so many)
    #[arg(long, hide = true, value_name = "N", default_value_t = Settings::default().max_alive)]
    max_alive: usize,
}

/// What `--target` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "aarch64")]
    Aarch64,
    All,
}

/// What `--emit` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Emit {
    Clif,
    Asm,
    Obj,
}

impl Target {
    fn archs(self) -> Vec<Arch> {
        match self {
            Target::X86_64 => vec![Arch::X86_64],
            Target::Aarch64 => vec![Arch::Aarch64],
            Target::All => Arch::ALL.to_vec(),
        }
    }
}

/// Runs the verb.
pub fn run(args: &Build) -> Outcome {
    let fail = |why: String| Failure::new(format!("build {}: {why}", show::path(&args.module)));
    let to_stdout = args.output.as_deref() == Some(Path::new("-"));
    if to_stdout && !matches!(args.emit, Some(Emit::Clif | Emit::Asm)) {
        let why = "only the texts of --emit clif and --emit asm can go to standard output; name a file";
        return Err(Failure::usage(format!("build {}: {why}", show::path(&args.module))));
    }
    let base = base_name(&args.module, args.output.as_deref()).map_err(fail)?;
    let wasm = read(&args.module).map_err(fail)?;
    let settings = Settings {
        targets: args.target.archs(),
        opt_level: OptLevel::from_number(args.opt_level).unwrap_or_default(),
        migration: !args.no_migration,
        deterministic: args.deterministic,
        want_clif: args.emit == Some(Emit::Clif),
        want_asm: args.emit == Some(Emit::Asm),
        max_alive: args.max_alive,
        threads: args.threads.map(|n| n as usize),
    };
    let name = if to_stdout {
        base_name(&args.module, None).map_err(fail)?
    } else {
        base.clone()
    };
    let options = CompileOptions {
        name: program_name(&name),
        path: args.module.clone(),
        settings,
        spectest: args.spectest,
        names: args.names,
    };
    let compiled = compile(&wasm, &options).map_err(|e| fail(e.to_string()))?;
    let outputs = outputs(&compiled, args.emit, &base).map_err(fail)?;
    if to_stdout {
        outputs
            .iter()
            .for_each(|o| show::print(&String::from_utf8_lossy(&o.bytes)));
        return Ok(());
    }
    for output in outputs {
        let shown = show::path(&output.path);
        write_atomically(&output.path, &output.bytes, output.mode)
            .map_err(|e| fail(format!("cannot write {shown}: {e}")))?;
        if !args.quiet {
            show::print(&format!("{shown}  {}\n", show::size(output.bytes.len() as u64)));
        }
    }
    Ok(())
}

/// A file to write.
struct Output {
    path: PathBuf,
    mode: u32,
    bytes: Vec<u8>,
}

fn outputs(compiled: &Compiled, emit: Option<Emit>, base: &Path) -> Result<Vec<Output>, String> {
    let suffixed = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let text = |path, text: &str| Output {
        path,
        mode: 0o644,
        bytes: text.as_bytes().to_vec(),
    };
    let mut outputs = Vec::new();
    match emit {
        Some(Emit::Clif) => outputs.push(text(suffixed(base, ".clif"), &compiled.clif)),
        Some(Emit::Asm) => {
            outputs.extend(
                compiled
                    .asm
                    .iter()
                    .map(|(arch, asm)| text(suffixed(&program::with_arch(base, *arch), ".s"), asm)),
            );
        }
        Some(Emit::Obj) => {
            for image in &compiled.images {
                let path = suffixed(&program::with_arch(base, image.arch), ".o");
                outputs.push(Output {
                    path,
                    mode: 0o644,
                    bytes: write_object(image).map_err(|e| e.to_string())?,
                });
            }
        }
        None => {
            for image in &compiled.images {
                let bytes = write_executable(runtimes::runtime(image.arch), image).map_err(|e| e.to_string())?;
                outputs.push(Output {
                    path: program::with_arch(base, image.arch),
                    mode: 0o755,
                    bytes,
                });
            }
        }
    }
    Ok(outputs)
}

/// The bytes of a module.
fn read(module: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = trust::open(module).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|e| e.to_string())
}

/// Where the outputs go, without their suffixes.
fn base_name(module: &Path, output: Option<&Path>) -> Result<PathBuf, String> {
    let base = match output {
        Some(output) => program::without_arch(output),
        None => module
            .file_stem()
            .map(PathBuf::from)
            .ok_or("it is not the name of a file")?,
    };
    let ends_in_slash = base.as_os_str().as_encoded_bytes().ends_with(b"/");
    match base.file_name() {
        Some(_) if !ends_in_slash => Ok(base),
        _ => Err(format!(
            "{} is not the name of a file; -o takes a name without suffix",
            show::path(&base)
        )),
    }
}

/// The program's own name, its `argv[0]`.
fn program_name(base: &Path) -> String {
    base.file_name()
        .unwrap_or(OsStr::new("main"))
        .to_string_lossy()
        .into_owned()
}

/// Writes a file so that its name always means a complete one, and so that a program that runs from it is not
/// disturbed.
fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let path = &follow(path)?;
    let mut temporary = path.file_name().unwrap_or_default().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        drop(file);
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// The file that a path means for a writer: where its symbolic links lead, whether that is there or not. (A rename
/// would replace the link.)
pub fn follow(path: &Path) -> io::Result<PathBuf> {
    /// As many as the kernel follows.
    const MOST: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST {
        match fs::read_link(&path) {
            Ok(target) => path = path.with_file_name("").join(target),
            // It is no link, or nothing at all.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links lead to one another"))
}

/// An executable to be run at once: in memory, or where there is no /proc in the cache.
#[derive(Debug)]
pub struct ToRun {
    path: PathBuf,
    _file: Option<OwnedFd>,
}

impl ToRun {
    /// Its path, valid in this process as long as the value lives.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Compiles a module for this machine, to be run at once.
pub fn to_run(module: &Path, host: Arch) -> Result<ToRun, String> {
    let name = program_name(&base_name(module, None)?);
    let wasm = read(module)?;
    let settings = Settings {
        targets: vec![host],
        ..Settings::default()
    };
    let options = CompileOptions {
        name: name.clone(),
        path: module.to_owned(),
        settings,
        ..CompileOptions::default()
    };
    let compiled = compile(&wasm, &options).map_err(|e| e.to_string())?;
    let image = compiled.images.first().ok_or("the compiler gave no image")?;
    let bytes = write_executable(runtimes::runtime(host), image).map_err(|e| e.to_string())?;
    // To be found again by `dunlin resume`. Where it can't be kept, the program runs all the same.
    let kept = cache::keep(compiled.hash, host, &bytes);
    let failed = |e: io::Error| format!("cannot hold the executable in memory: {e}; use `dunlin build`, then run that");
    if !Path::new("/proc/self/fd").is_dir() {
        let without_proc = |_| failed(io::Error::new(io::ErrorKind::NotFound, "/proc is not mounted"));
        let path = kept.map_err(without_proc)?;
        return Ok(ToRun { path, _file: None });
    }
    let file = rustix::fs::memfd_create(&name, rustix::fs::MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    let mut file = File::from(file);
    file.write_all(&bytes).map_err(failed)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    Ok(ToRun {
        path,
        _file: Some(file.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn outputs_are_named_after_the_module_or_the_option() {
        let base = |module: &str, output: Option<&str>| base_name(Path::new(module), output.map(Path::new));
        assert_eq!(base("a/b.wasm", None).unwrap(), Path::new("b"));
        assert_eq!(base("a/b.wasm", Some("c/d")).unwrap(), Path::new("c/d"));
        assert_eq!(base("b.wasm", Some("d.v2")).unwrap(), Path::new("d.v2"));
        assert_eq!(
            base("b.wasm", Some("d.aarch64")).unwrap(),
            Path::new("d"),
            "the suffix is added anyway"
        );
        assert!(base("b.wasm", Some("c/")).is_err());
        assert!(base("/", None).is_err());
        assert_eq!(program_name(Path::new("c/d.v2")), "d.v2");
    }

    #[test]
    fn files_are_replaced_whole_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.x86_64");
        fs::write(&path, "old").unwrap();
        write_atomically(&path, b"new", 0o755).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o700, 0o700);
        assert!(write_atomically(dir.path(), b"x", 0o755).is_err());
        assert!(write_atomically(&dir.path().join("none/p"), b"x", 0o755).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_are_followed_and_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (link, there) = (dir.path().join("link"), dir.path().join("there"));
        std::os::unix::fs::symlink("there", &link).unwrap();
        for text in ["dangling before", "not any more"] {
            write_atomically(&link, text.as_bytes(), 0o644).unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read_to_string(&there).unwrap(), text);
        }
        let around = dir.path().join("loop");
        std::os::unix::fs::symlink("loop", &around).unwrap();
        assert!(
            write_atomically(&around, b"x", 0o644)
                .unwrap_err()
                .to_string()
                .contains("links")
        );
        std::os::unix::fs::symlink("none/x", dir.path().join("lost")).unwrap();
        assert!(write_atomically(&dir.path().join("lost"), b"x", 0o644).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }
}
