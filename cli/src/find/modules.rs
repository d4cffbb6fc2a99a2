//! The module that a program was built from, for a machine that compiles it itself.

use super::executables::without_arch;
use super::{cache, trust};
use crate::show;
use dunlin_format::module::ModuleHash;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Is this file the module?
fn is(path: &Path, module: ModuleHash) -> Result<bool, String> {
    let mut bytes = Vec::new();
    let read = trust::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|e| e.to_string())?;
    Ok(ModuleHash::of(&bytes) == module)
}

/// The module: the file that was named, or NAME.wasm beside the running executable (`own`), or what is kept.
pub(crate) fn find(given: Option<&Path>, own: &Path, module: ModuleHash, name: &str) -> Result<PathBuf, String> {
    if let Some(path) = given {
        return match is(path, module) {
            Ok(true) => Ok(path.to_owned()),
            Ok(false) => Err(format!("{} is not the module it was built from", show::path(path))),
            Err(why) => Err(format!("{} can't be read: {why}", show::path(path))),
        };
    }
    let directory = own.parent().unwrap_or(Path::new("."));
    let beside = [
        without_arch(own).file_name().map(PathBuf::from),
        Some(PathBuf::from(name)),
    ];
    let beside = beside.into_iter().flatten().map(|mut name| {
        name.as_mut_os_string().push(".wasm");
        // A name is a file's name here, never a way out of a directory.
        directory.join(name.file_name().unwrap_or_default())
    });
    let mut tried = Vec::new();
    for path in beside.chain(cache::module_place(module)) {
        match is(&path, module) {
            Ok(true) => return Ok(path),
            Ok(false) => tried.push(format!("{} is not the module it was built from", show::path(&path))),
            Err(_) => {}
        }
    }
    tried.dedup();
    match &tried[..] {
        [] => Err(format!(
            "its module is not at hand (there is no {}.wasm beside the executable)",
            show::clean(name)
        )),
        some => Err(some.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_beside_the_executable_and_nothing_else_is_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (module, exe) = (ModuleHash::of(b"module"), dir.path().join("p.x86_64"));
        let why = find(None, &exe, module, "p").unwrap_err();
        assert!(why.contains("not at hand"), "{why}");
        let path = dir.path().join("p.wasm");
        std::fs::write(&path, "another").unwrap();
        assert!(find(None, &exe, module, "p").unwrap_err().contains("not the module"));
        assert!(find(Some(&path), &exe, module, "p").is_err());
        std::fs::write(&path, "module").unwrap();
        assert_eq!(find(None, &exe, module, "q").unwrap(), path);
        assert_eq!(find(None, &dir.path().join("x"), module, "../p").unwrap(), path);
    }
}
