//! `dunlin inspect`: shows what a snapshot holds.

use crate::failure::{Failure, Outcome, bad_snapshot, could_not};
use crate::find::executables::{Kind, kind, with_arch};
use crate::find::search::Search;
use crate::find::{snapshots, trust};
use crate::show;
use clap::Args;
use dunlin_format::arch::Arch;
use dunlin_format::image::{Image, find_in_elf};
use dunlin_format::module::ModuleHash;
use dunlin_migrate::inspect;
use dunlin_migrate::printable::JsonWriter;
use std::path::{Path, PathBuf};

/// Shows a snapshot: call stack with values, memory, globals, tables, open files
///
/// Function names come from the program's executable, which is looked for as `dunlin resume` does; any architecture's
/// will do.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The snapshot
    file: PathBuf,
    /// The executable to take function names from (NAME stands for NAME.x86_64 or NAME.aarch64)
    #[arg(long, value_name = "PROGRAM")]
    exe: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Inspect) -> Outcome {
    let doing = format!("inspect {}", show::path(&args.file));
    let (snapshot, name) = snapshots::open_loosely(&args.file, &doing)?;
    let module = snapshot.header().module;
    let meta = match &args.exe {
        Some(exe) => Some(named_image(exe, module, &doing)?),
        None => Arch::ALL.into_iter().find_map(|arch| {
            let path = Search::for_snapshot(&args.file)
                .for_reading()
                .find(module, &name, arch)
                .ok()?;
            image(&path).ok()
        }),
    };
    let image = meta.as_deref().and_then(|bytes| Image::parse(bytes).ok());
    let names = image.and_then(|i| i.names().ok());
    if args.json {
        show::write(|out| inspect::write_json(&mut JsonWriter::new(out), &snapshot, names.as_ref()));
    } else {
        show::print(&inspect::text(&snapshot, names.as_ref()));
    }
    Ok(())
}

/// The image of the executable that the person names.
fn named_image(exe: &Path, module: ModuleHash, doing: &str) -> Result<Vec<u8>, Failure> {
    let fail = |why: String| could_not(format!("{doing} with {}: {why}", show::path(exe)));
    let candidates = Arch::ALL.map(|arch| with_arch(exe, arch));
    let path = std::iter::once(exe.to_owned())
        .chain(candidates)
        .find(|p| p.exists())
        .unwrap_or_else(|| exe.to_owned());
    match kind(&path) {
        Kind::Program(header) if header.module == module => image(&path).map_err(fail),
        Kind::Program(_) => Err(bad_snapshot(format!(
            "{doing}: it is not a snapshot of {}",
            show::path(&path)
        ))),
        Kind::Other => Err(fail("it is no program built by `dunlin build`".into())),
        Kind::Unusable(why) => Err(fail(why)),
    }
}

/// The bytes of an executable's image.
fn image(path: &Path) -> Result<Vec<u8>, String> {
    let mut file = trust::open(path).map_err(|e| e.to_string())?;
    let found = find_in_elf(&mut file)
        .map_err(|e| e.to_string())?
        .ok_or("it has no image")?;
    found.read(&mut file).map_err(|e| e.to_string())
}
