//! `dunlin build`: compiles a module to executables, or shows what the compiler makes of it.

use crate::failure::{Outcome, could_not, usage};
use crate::find::executables::with_arch;
use crate::make::compile::{base_name, program_name, read};
use crate::make::files::write_atomically;
use crate::make::{portable, runtimes};
use crate::progress::{self, Look, Unit};
use crate::show;
use clap::{ArgAction, Args, ValueEnum};
use dunlin_compiler::{
    CompileOptions, Compiled, OptLevel, Progress, Settings, compile_watched, write_executable, write_object,
    write_portable,
};
use dunlin_format::arch::Arch;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Compiles a WebAssembly program to a standalone executable for each architecture
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The module: WebAssembly binary (.wasm) or text (.wat)
    module: PathBuf,
    /// Write NAME.x86_64 and NAME.aarch64, or NAME.dunlin (default: the module's name without its suffix, in the
    /// current directory)
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
    /// Both of these
    All,
    /// Interpreted code in an executable for this machine, NAME.pulley64
    #[value(name = "pulley64")]
    Pulley64,
    /// Interpreted code for any machine, NAME.dunlin, which `dunlin run` and `dunlin resume` take
    Portable,
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
            Target::Pulley64 => vec![Arch::Pulley64],
            Target::Portable => Arch::PORTABLE.to_vec(),
        }
    }
}

/// Runs the verb.
pub(crate) fn run(args: &Build) -> Outcome {
    let fail = |why: String| could_not(format!("build {}: {why}", show::path(&args.module)));
    let to_stdout = args.output.as_deref() == Some(Path::new("-"));
    if to_stdout && !matches!(args.emit, Some(Emit::Clif | Emit::Asm)) {
        let why = "only the texts of --emit clif and --emit asm can go to standard output; name a file";
        return Err(usage(format!("build {}: {why}", show::path(&args.module))));
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
    let progress = Progress::default();
    let compiled = progress::with_bar(
        || look(&progress),
        || compile_watched(&wasm, &options, &progress).map_err(|e| fail(e.to_string())),
    )?;
    let outputs = outputs(&compiled, args, &base).map_err(fail)?;
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

/// How far the compiler is, for a person.
fn look(progress: &Progress) -> Look {
    let read = |n: &AtomicUsize| n.load(Ordering::Relaxed) as u64;
    let what = match read(&progress.of_functions) {
        0 => "reading the module".into(),
        of => format!("compiled {} of {of} functions", read(&progress.functions)),
    };
    Look {
        what,
        done: read(&progress.size),
        of: read(&progress.of_size),
        unit: Unit::Work,
    }
}

/// A file to write.
struct Output {
    path: PathBuf,
    mode: u32,
    bytes: Vec<u8>,
}

fn outputs(compiled: &Compiled, args: &Build, base: &Path) -> Result<Vec<Output>, String> {
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
    match args.emit {
        Some(Emit::Clif) => outputs.push(text(suffixed(base, ".clif"), &compiled.clif)),
        Some(Emit::Asm) => {
            outputs.extend(
                compiled
                    .asm
                    .iter()
                    .map(|(arch, asm)| text(suffixed(&with_arch(base, *arch), ".s"), asm)),
            );
        }
        Some(Emit::Obj) => {
            for image in &compiled.images {
                let path = suffixed(&with_arch(base, image.arch), ".o");
                outputs.push(Output {
                    path,
                    mode: 0o644,
                    bytes: write_object(image).map_err(|e| e.to_string())?,
                });
            }
        }
        None if args.target == Target::Portable => outputs.push(Output {
            path: portable::with_suffix(base),
            mode: 0o644,
            bytes: write_portable(&compiled.images),
        }),
        None => {
            for image in &compiled.images {
                let bytes = write_executable(runtimes::runtime(image.arch), image).map_err(|e| e.to_string())?;
                outputs.push(Output {
                    path: with_arch(base, image.arch),
                    mode: 0o755,
                    bytes,
                });
            }
        }
    }
    Ok(outputs)
}
