//! Looking for the executable of a snapshot where nobody has named one.

use super::executables::{Kind, kind, machine, verify, without_arch};
use super::{cache, trust};
use crate::show;
use dunlin_format::arch::Arch;
use dunlin_format::image::{Header, PORTABLE_SUFFIX};
use dunlin_format::module::ModuleHash;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Where a snapshot's executable is looked for, in this order; last in the cache of `dunlin run`.
#[derive(Debug)]
pub(crate) struct Search {
    /// Directories in which every `*.ARCH` is looked at.
    pub directories: Vec<PathBuf>,
    /// Directories in which only `NAME.ARCH` and `NAME` are looked at.
    path: Vec<PathBuf>,
    /// What is found is to be run: it must be one's own ([`trust::own`]) and whole, else it is passed over.
    to_run: bool,
}

impl Search {
    /// Beside the snapshot, in the current directory, then on the `PATH`: for an executable that is run though nobody
    /// has named it.
    pub(crate) fn for_snapshot(file: &Path) -> Search {
        let beside = file
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut directories = vec![beside.to_owned()];
        if beside != Path::new(".") {
            directories.push(".".into());
        }
        let path = env::var_os("PATH")
            .map(|p| env::split_paths(&p).collect())
            .unwrap_or_default();
        Search {
            directories,
            path,
            to_run: true,
        }
    }

    /// The same, but what is found is only looked into, or told of: anyone's will do.
    pub(crate) fn for_reading(self) -> Search {
        Search { to_run: false, ..self }
    }

    /// The executable of this module for this architecture; otherwise what was found instead, for a message. One that
    /// is to be run is returned without symbolic links in its path: what was checked is what is run.
    pub(crate) fn find(&self, module: ModuleHash, name: &str, arch: Arch) -> Result<PathBuf, String> {
        // The nearest miss, best reason first.
        let mut near: Option<(u8, String)> = None;
        let mut look = |path: PathBuf| {
            let Kind::Program(header) = kind(&path) else {
                return None;
            };
            let shown = show::path(&path);
            let miss = if header.module != module {
                let same_name = without_arch(&path).file_name() == Some(OsStr::new(name));
                let why = || format!("{shown} is another program, or was built from another version of its module");
                same_name.then(|| (2, why()))
            } else if header.arch != arch {
                let why = format!(
                    "{shown} is the right program, but for {}, and this machine is {arch}",
                    header.arch
                );
                Some((1, why))
            } else if arch.is_portable() && machine(&path) != Arch::host() {
                Some((
                    1,
                    format!("{shown} is the right program, but its runtime is for another machine"),
                ))
            } else if !header.migratable {
                Some((0, format!("{shown} was built with --no-migration")))
            } else {
                match self.usable(&path) {
                    Ok(path) => return Some(path),
                    Err(why) => Some((0, format!("{shown} is the right program, but it {why}"))),
                }
            };
            near = [near.take(), miss].into_iter().flatten().min_by_key(|(rank, _)| *rank);
            None
        };
        let on_path = self
            .path
            .iter()
            .flat_map(|dir| [dir.join(format!("{name}.{arch}")), dir.join(name)]);
        // A name is a file's name here, never a way out of a directory.
        let on_path = on_path.filter(|_| Path::new(name).file_name() == Some(OsStr::new(name)));
        let candidates = self
            .directories
            .iter()
            .flat_map(|dir| executables(dir, name))
            .chain(on_path);
        let candidates = candidates.chain(cache::place(module, arch));
        for candidate in candidates {
            if let Some(found) = look(candidate) {
                return Ok(found);
            }
        }
        Err(near.map(|(_, why)| why).unwrap_or_else(|| {
            format!("found none named *.{arch} beside it or in the current directory, and no {name} on the PATH")
        }))
    }

    /// A file of portable code of this module, to be run though nobody has named it. `header` tells of the image in one
    /// that this machine would interpret.
    pub(crate) fn find_portable(
        &self,
        module: ModuleHash,
        name: &str,
        header: impl Fn(&Path) -> Option<Header>,
    ) -> Option<PathBuf> {
        let suffix = Some(OsStr::new(PORTABLE_SUFFIX));
        let beside = self.directories.iter().flat_map(|dir| executables(dir, name));
        let on_path = self
            .path
            .iter()
            .map(|dir| dir.join(format!("{name}.{PORTABLE_SUFFIX}")));
        let on_path = on_path.filter(|_| Path::new(name).file_name() == Some(OsStr::new(name)));
        let mut candidates = beside.filter(|p| p.extension() == suffix).chain(on_path);
        candidates.find_map(|path| {
            header(&path).filter(|h| h.module == module && h.migratable)?;
            trust::own(&path).ok()
        })
    }

    /// The file to use, or why this one is not used, as in "it ...".
    fn usable(&self, path: &Path) -> Result<PathBuf, String> {
        if !self.to_run {
            return Ok(path.to_owned());
        }
        let file = trust::own(path).map_err(|why| format!("{why}, so it is not run unless --exe names it"))?;
        verify(&file).map_err(|why| format!("can't be used: {why}"))?;
        Ok(file)
    }
}

/// The files of a directory that may be executables of Dunlin's or portable code: `*.ARCH`, `*.dunlin` and `NAME`,
/// those called `NAME` first.
fn executables(directory: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let named = |p: &Path| without_arch(p).file_name() == Some(OsStr::new(name));
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.retain(|p| (without_arch(p) != *p || named(p)) && p.is_file());
    paths.sort_by_key(|p| (!named(p), p.clone()));
    paths
}
