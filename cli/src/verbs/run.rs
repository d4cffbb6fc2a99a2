//! `dunlin run`: starts a program with what it is granted.

use crate::failure::{Outcome, could_not};
use crate::find::executables::{Kind, host, kind, named};
use crate::make::{compile, portable};
use crate::options::StartOptions;
use crate::show;
use crate::start::become_program;
use clap::Args;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Runs a program with what it is granted
///
/// The program is an executable built by `dunlin build` (NAME stands for this machine's NAME.ARCH, or else for
/// NAME.dunlin), portable code (NAME.dunlin), which is interpreted, or a module (.wasm, .wat), which is compiled first.
/// Options of dunlin come before the program's name, the program's own arguments after
/// it.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The program, and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_names = ["PROGRAM", "ARGS"])]
    command: Vec<OsString>,
    #[command(flatten)]
    options: StartOptions,
}

/// Runs the verb. It returns only if the program could not be started.
pub(crate) fn run(args: &Run) -> Outcome {
    let program = PathBuf::from(&args.command[0]);
    // `dunlin run prog -- ARGS` and `dunlin run prog ARGS` mean the same.
    let rest = match &args.command[1..] {
        [dashes, rest @ ..] if dashes == "--" => rest,
        rest => rest,
    };
    let doing = format!("run {}", show::clean(&program.to_string_lossy()));
    let options = args.options.checked(&doing)?;
    let host = host(&doing)?;
    if is_module(&program) {
        let executable = compile::to_run(&program, host).map_err(|why| could_not(format!("{doing}: {why}")))?;
        return Err(become_program(executable.path(), &options, rest, &doing));
    }
    if portable::is_portable(&program) {
        let executable = portable::to_run(&program).map_err(|why| could_not(format!("{doing}: {why}")))?;
        return Err(become_program(executable.path(), &options, rest, &doing));
    }
    let named = named(&program, host);
    let interpreted = portable::with_suffix(&program);
    if named.is_err() && portable::is_portable(&interpreted) {
        let (shown, found) = (show::path(&interpreted), format!("there is none for {host}"));
        show::complain(&format!(
            "dunlin {doing}: {found}; running {shown}, which is interpreted"
        ));
        let executable = portable::to_run(&interpreted).map_err(|why| could_not(format!("run {shown}: {why}")))?;
        return Err(become_program(executable.path(), &options, rest, &doing));
    }
    let (path, _) = named.map_err(|why| could_not(format!("{doing}: {why}")))?;
    Err(become_program(&path, &options, rest, &doing))
}

/// Is it a module, binary or text, that must be compiled first?
fn is_module(path: &Path) -> bool {
    let by_name = path.extension().is_some_and(|e| e == "wasm" || e == "wat");
    by_name && !matches!(kind(path), Kind::Program(_))
}
