//! Compiling a module to run it at once, and the names of what modules become.

use super::runtimes;
use crate::find::executables::without_arch;
use crate::find::{cache, trust};
use crate::show;
use dunlin_compiler::{CompileOptions, Settings, compile, write_executable};
use dunlin_format::arch::Arch;
use dunlin_format::module::ModuleHash;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The bytes of a module.
pub(crate) fn read(module: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = trust::open(module).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|e| e.to_string())
}

/// Where the outputs go, without their suffixes.
pub(crate) fn base_name(module: &Path, output: Option<&Path>) -> Result<PathBuf, String> {
    let base = match output {
        Some(output) => without_arch(output),
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
pub(crate) fn program_name(base: &Path) -> String {
    base.file_name()
        .unwrap_or(OsStr::new("main"))
        .to_string_lossy()
        .into_owned()
}

/// An executable to be run at once: in memory, or where there is no /proc in the cache.
#[derive(Debug)]
pub(crate) struct ToRun {
    path: PathBuf,
    _file: Option<OwnedFd>,
}

impl ToRun {
    /// Its path, valid in this process as long as the value lives.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Compiles a module for this machine, to be run at once.
pub(crate) fn to_run(module: &Path, host: Arch) -> Result<ToRun, String> {
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
    if ModuleHash::of(&wasm) == compiled.hash {
        // For a machine that compiles it itself when the program moves there.
        let _ = cache::keep_module(compiled.hash, &wasm);
    }
    hold(&name, compiled.hash, host, &bytes)
}

/// Holds an executable that is to be run at once. It is also kept, to be found again by `dunlin resume`; where it can't
/// be, the program runs all the same.
pub(super) fn hold(name: &str, module: ModuleHash, arch: Arch, bytes: &[u8]) -> Result<ToRun, String> {
    let kept = cache::keep(module, arch, bytes);
    let failed = |e: io::Error| format!("cannot hold the executable in memory: {e}; use `dunlin build`, then run that");
    if !Path::new("/proc/self/fd").is_dir() {
        let without_proc = |_| failed(io::Error::new(io::ErrorKind::NotFound, "/proc is not mounted"));
        let path = kept.map_err(without_proc)?;
        return Ok(ToRun { path, _file: None });
    }
    let file = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    let mut file = File::from(file);
    file.write_all(bytes).map_err(failed)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    Ok(ToRun {
        path,
        _file: Some(file.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
