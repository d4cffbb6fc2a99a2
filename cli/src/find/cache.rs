//! The executables that `dunlin run x.wasm` has compiled, and their modules: kept in the user's cache directory by the
//! module's hash, so that `dunlin resume` finds the one of a snapshot when there is no other, and `dunlin migrate` the
//! module for a machine that compiles it itself.
//!
//! `$XDG_CACHE_HOME/dunlin`, or `~/.cache/dunlin`, is private to the user (what is found there is run under the rules
//! of [`super::trust`], as everywhere). Files appear whole. Beyond [`LIMIT`] those go that were compiled longest ago;
//! the last one stays, however large. Whatever goes wrong here, the program runs all the same.

use dunlin_format::arch::Arch;
use dunlin_format::module::ModuleHash;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The most that is kept, in bytes: 512 MiB.
const LIMIT: u64 = 512 << 20;

/// How old a file that was never finished must be to be removed.
const ABANDONED: Duration = Duration::from_secs(3600);

/// The directory, whether it is there or not; none if the environment names no home.
fn directory() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join("dunlin"))
}

/// Where a module's executable would be.
pub(crate) fn place(module: ModuleHash, arch: Arch) -> Option<PathBuf> {
    Some(directory()?.join(format!("{module}.{arch}")))
}

/// Where a module itself would be.
pub(crate) fn module_place(module: ModuleHash) -> Option<PathBuf> {
    Some(directory()?.join(format!("{module}.wasm")))
}

/// Keeps a module, so that it can be sent to machines that compile it themselves.
pub(crate) fn keep_module(module: ModuleHash, bytes: &[u8]) -> io::Result<()> {
    keep_at(&module_place(module).ok_or(io::ErrorKind::NotFound)?, bytes, LIMIT)
}

/// Keeps an executable in another directory than the cache's own.
pub(crate) fn keep_in(directory: &Path, module: ModuleHash, arch: Arch, executable: &[u8]) -> io::Result<()> {
    keep_at(&directory.join(format!("{module}.{arch}")), executable, LIMIT)
}

/// Keeps an executable; returns its path.
pub(crate) fn keep(module: ModuleHash, arch: Arch, executable: &[u8]) -> io::Result<PathBuf> {
    let place = place(module, arch).ok_or(io::ErrorKind::NotFound)?;
    keep_at(&place, executable, LIMIT)?;
    Ok(place)
}

fn keep_at(place: &Path, executable: &[u8], limit: u64) -> io::Result<()> {
    let directory = place.parent().ok_or(io::ErrorKind::InvalidInput)?;
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o077 != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    if is_same(place, executable) {
        File::open(place)?.set_modified(SystemTime::now())?;
    } else {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let temporary = directory.join(format!(".{name}.{}.tmp", std::process::id()));
        let written = write(&temporary, executable).and_then(|()| fs::rename(&temporary, place));
        written.inspect_err(|_| drop(fs::remove_file(&temporary)))?;
    }
    prune(directory, place, limit);
    Ok(())
}

fn is_same(place: &Path, executable: &[u8]) -> bool {
    let len = fs::metadata(place).map(|m| m.len());
    len.is_ok_and(|len| len == executable.len() as u64) && fs::read(place).is_ok_and(|bytes| bytes == executable)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o700).open(path)?;
    file.write_all(bytes)
}

/// Removes what is too much, and what was never finished.
fn prune(directory: &Path, last: &Path, limit: u64) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let now = SystemTime::now();
    let mut kept = Vec::new();
    for path in entries.filter_map(|e| Some(e.ok()?.path())) {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        let modified = metadata.modified().unwrap_or(now);
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with('.') && name.ends_with(".tmp") {
            if now.duration_since(modified).is_ok_and(|age| age > ABANDONED) {
                let _ = fs::remove_file(&path);
            }
        } else if metadata.is_file() && path != last {
            kept.push((modified, metadata.len(), path));
        }
    }
    kept.sort_by_key(|(modified, ..)| std::cmp::Reverse(*modified));
    let mut total = fs::metadata(last).map_or(0, |m| m.len());
    for (_, len, path) in kept {
        total = total.saturating_add(len);
        if total > limit {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_oldest_go_and_the_last_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("a/dunlin");
        for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
            keep_at(&cache.join(name), &[7; 100], 250).unwrap();
            let age = Duration::from_secs(100 - n as u64);
            File::open(cache.join(name))
                .unwrap()
                .set_modified(SystemTime::now() - age)
                .unwrap();
        }
        let names = || {
            let mut names: Vec<_> = fs::read_dir(&cache).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["b", "c"]);
        assert_eq!(fs::metadata(&cache).unwrap().mode() & 0o777, 0o700);
        // Kept again, it is the newest.
        keep_at(&cache.join("b"), &[7; 100], 250).unwrap();
        keep_at(&cache.join("d"), &[7; 100], 250).unwrap();
        assert_eq!(names(), ["b", "d"]);
        keep_at(&cache.join("large"), &[7; 1000], 250).unwrap();
        assert_eq!(names(), ["large"]);
    }

    #[test]
    fn a_directory_that_others_see_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = keep_at(&dir.path().join("x"), b"x", LIMIT).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
