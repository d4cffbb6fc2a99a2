//! WebAssembly to images and executables.
//!
//! ```text
//! wasm or wat --module--> Module --driver: uniform, native--> functions --output--> LinkedImage per architecture
//!                                                               |                     |--> static ELF executable
//!                                                               `--> CLIF, assembly   `--> relocatable ELF object
//! ```
//!
//! Each folder uses only those before it: `module` (decoded and validated), `uniform` (what the WebAssembly alone says
//! of a function), `native` (CLIF and machine code), `output` (files).
//!
//! [`compile`] does all but the last step, which needs a prebuilt runtime:
//!
//! ```no_run
//! use dunlin_compiler::{CompileOptions, compile, write_executable};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = CompileOptions { name: "prog".into(), ..CompileOptions::default() };
//! let compiled = compile(&std::fs::read("prog.wasm")?, &options)?;
//! for image in &compiled.images {
//!     let runtime = std::fs::read(format!("dunlin-runtime.{}", image.arch))?;
//!     std::fs::write(format!("prog.{}", image.arch), write_executable(&runtime, image)?)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The output is a function of the input and the options: the number of threads, the host and the time don't matter.

mod driver;
mod error;
#[cfg(test)]
mod golden;
mod limits;
mod module;
mod native;
mod output;
mod settings;
mod uniform;

pub use error::{Error, UnknownImport};
pub use output::{LinkedImage, write_executable, write_object, write_portable};
pub use settings::{OptLevel, Settings};

use dunlin_format::arch::Arch;
use dunlin_format::module::ModuleHash;
use module::{Module, imports};
use native::compiled_function::CompiledFunction;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;

#[cfg(test)]
mod tests;

/// What to compile, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileOptions {
    /// The program's name: its `argv[0]`, the same on every architecture.
    pub name: String,
    /// The module's file, which messages about its text name; empty if there is none.
    pub path: PathBuf,
    /// Targets, optimisation, migration points, and which texts to keep.
    pub settings: Settings,
    /// Admit the imports of the specification's test suite.
    pub spectest: bool,
    /// Keep functions' names in the image, for backtraces, `dunlin inspect` and symbol tables.
    pub names: bool,
}

impl Default for CompileOptions {
    fn default() -> CompileOptions {
        CompileOptions {
            name: "main".into(),
            path: PathBuf::new(),
            settings: Settings::default(),
            spectest: false,
            names: true,
        }
    }
}

/// A compiled program, not yet written to files.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Identity of the module: snapshots carry it.
    pub hash: ModuleHash,
    /// Every function of the module, in index order: what `--names` prints.
    pub functions: Vec<FunctionName>,
    /// One per target, in the order asked for.
    pub images: Vec<LinkedImage>,
    /// The optimised CLIF of every function, the same for all machines (the interpreter's, if no machine is a target);
    /// empty unless [`Settings::want_clif`].
    pub clif: String,
    /// The assembly of every function per target; empty unless [`Settings::want_asm`].
    pub asm: Vec<(Arch, String)>,
}

/// A function, as a person looks it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionName {
    /// Function index, imported functions included.
    pub index: u32,
    /// Its name, or what tables and backtraces show in its place.
    pub name: String,
    /// Byte offset of its body in the module's binary; none for an imported function.
    pub offset: Option<usize>,
}

/// How far a compilation is, for another thread to look at.
#[derive(Debug, Default)]
pub struct Progress {
    /// Functions that are compiled.
    pub functions: AtomicUsize,
    /// All of them; 0 until that is known.
    pub of_functions: AtomicUsize,
    /// How large those are that are compiled: large ones come first, so their number says little of the time.
    pub size: AtomicUsize,
    /// The same of all.
    pub of_size: AtomicUsize,
}

/// Compiles a module in the binary or the text format.
pub fn compile(wasm_or_wat: &[u8], options: &CompileOptions) -> Result<Compiled, Error> {
    compile_watched(wasm_or_wat, options, &Progress::default())
}

/// As [`compile`], and notes how far it is.
pub fn compile_watched(wasm_or_wat: &[u8], options: &CompileOptions, progress: &Progress) -> Result<Compiled, Error> {
    let wasm = wat::parse_bytes(wasm_or_wat).map_err(|mut e| {
        if options.path != Path::new("") {
            e.set_path(&options.path);
        }
        Error::Text(e.to_string())
    })?;
    let module = Module::parse(&wasm, &options.name)?;
    imports::check(&module, options.spectest)?;
    let settings = &options.settings;
    let functions = driver::compile(&module, settings, progress)?;
    let images = output::build_images(&module, settings, &functions, options.names)?;
    let clif = if settings.want_clif {
        listing(&module, &functions, |f| f.clif.as_deref())
    } else {
        String::new()
    };
    let asm_of = |arch: Arch| {
        listing(&module, &functions, |f| {
            f.machine.iter().find(|m| m.arch == arch)?.asm.as_deref()
        })
    };
    let asm = if settings.want_asm {
        settings.targets.iter().map(|&arch| (arch, asm_of(arch))).collect()
    } else {
        Vec::new()
    };
    let offset = |index| module.body(index).map(|b| b.body.range().start);
    let name = |index| FunctionName {
        index,
        name: module.symbol_name(index),
        offset: offset(index),
    };
    let functions = (0..module.num_funcs()).map(name).collect();
    Ok(Compiled {
        hash: module.hash,
        functions,
        images,
        clif,
        asm,
    })
}

/// The functions' texts, each below a line with its name.
fn listing(
    module: &Module<'_>,
    functions: &[CompiledFunction],
    text: impl Fn(&CompiledFunction) -> Option<&str>,
) -> String {
    let mut out = String::new();
    for function in functions {
        if let Some(text) = text(function) {
            let _ = writeln!(
                out,
                "; {}: {}\n{}\n",
                function.code_index,
                module.symbol_name(function.code_index),
                text.trim_end()
            );
        }
    }
    out
}
