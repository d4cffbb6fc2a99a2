//! Executables on disk: what a file is, and the one that a person names.

use super::trust;
use crate::failure::{Failure, bad_snapshot, could_not};
use crate::show;
use dunlin_format::arch::Arch;
use dunlin_format::image::{self, Header, PORTABLE_SUFFIX};
use dunlin_format::module::ModuleHash;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What a file is to Dunlin.
#[derive(Debug)]
pub(crate) enum Kind {
    /// An executable built by `dunlin build`.
    Program(Header),
    /// Anything else.
    Other,
    /// An executable of Dunlin's that can't be used, or a file that can't be read.
    Unusable(String),
}

/// Looks at a file's headers.
pub(crate) fn kind(path: &Path) -> Kind {
    let mut file = match trust::open(path) {
        Ok(file) => file,
        Err(e) => return Kind::Unusable(e.to_string()),
    };
    match image::find_in_elf(&mut file) {
        Ok(Some(found)) => Kind::Program(found.header),
        Ok(None) => Kind::Other,
        Err(e) => Kind::Unusable(e.to_string()),
    }
}

/// The machine that an executable of Dunlin's runs on: for interpreted code not what its header names.
pub(crate) fn machine(path: &Path) -> Option<Arch> {
    let mut file = trust::open(path).ok()?;
    image::find_in_elf(&mut file).ok()??.machine
}

/// Are an executable's contents those that its header speaks of? If not, why.
pub(crate) fn verify(path: &Path) -> Result<(), String> {
    let mut file = trust::open(path).map_err(|e| e.to_string())?;
    let found = image::find_in_elf(&mut file).map_err(|e| e.to_string())?;
    let found = found.ok_or("it is no program built by `dunlin build`")?;
    // One without a seal was built before there were seals: what it claims can't be compared with anything.
    found.verify(&mut file).map(drop).map_err(|e| e.to_string())
}

/// This machine's architecture.
pub(crate) fn host(doing: &str) -> Result<Arch, Failure> {
    Arch::host().ok_or_else(|| could_not(format!("{doing}: this machine is neither x86_64 nor aarch64")))
}

/// `NAME.ARCH`.
pub(crate) fn with_arch(base: &Path, arch: Arch) -> PathBuf {
    let mut name = OsString::from(base);
    name.push(format!(".{arch}"));
    PathBuf::from(name)
}

/// `NAME` of `NAME.ARCH` or `NAME.dunlin`; what has no such suffix stays as it is.
pub(crate) fn without_arch(path: &Path) -> PathBuf {
    let is = |name: &str| path.extension() == Some(OsStr::new(name));
    let has = Arch::every().any(|a| is(a.name())) || is(PORTABLE_SUFFIX);
    if has { path.with_extension("") } else { path.to_owned() }
}

/// The executable that a person names: a file, or `NAME` for this machine's `NAME.ARCH`, or else for `NAME.pulley64`.
/// A `NAME` that is something else (the module's folder, another compiler's output) doesn't hide `NAME.ARCH`.
pub(crate) fn named(path: &Path, host: Arch) -> Result<(PathBuf, Header), String> {
    let why = match kind(path) {
        Kind::Program(header) => return Ok((path.to_owned(), header)),
        Kind::Other => "it is no program built by `dunlin build`".into(),
        Kind::Unusable(why) => why,
    };
    // Interpreted code only if there is none of the machine's own.
    for arch in [Some(host), Arch::portable_host()].into_iter().flatten() {
        let suffixed = with_arch(path, arch);
        if let Kind::Program(header) = kind(&suffixed) {
            return Ok((suffixed, header));
        }
    }
    Err(why)
}

/// The executable the person names, if it is the snapshot's.
pub(crate) fn given(exe: &Path, module: ModuleHash, host: Arch, doing: &str) -> Result<PathBuf, Failure> {
    let (path, header) =
        named(exe, host).map_err(|why| could_not(format!("{doing} with {}: {why}", show::path(exe))))?;
    if header.module != module {
        return Err(bad_snapshot(format!(
            "{doing}: it is not a snapshot of {}: that program's module is {}, the snapshot's {}; name the program it was taken of",
            show::path(&path),
            short(header.module),
            short(module)
        )));
    }
    if !header.migratable {
        let why = "it was built with --no-migration, and can't go on from a snapshot; name one built without";
        return Err(could_not(format!("{doing} with {}: {why}", show::path(&path))));
    }
    // The person answers for whose it is, not for what it holds.
    verify(&path).map_err(|why| could_not(format!("{doing} with {}: {why}", show::path(&path))))?;
    Ok(path)
}

/// The first digits of a hash: enough for a person to tell two apart.
fn short(hash: ModuleHash) -> String {
    hash.to_string().chars().take(12).collect()
}
