//! What lies in a granted directory and is not the program's: its own snapshots and undo journals, and what Dunlin has
//! aside.
//!
//! The program can neither see nor touch it, and it is never carried. Nothing of this costs anything where snapshots
//! lie elsewhere.

use crate::journal::Name;
use crate::wasi::Wasi;
use crate::wasi::changes::place::{Dir, below, followed};
use crate::wasi::errno::Errno;
use crate::wasi::func::{Args, Function};
use crate::wasi::mem::Memory;
use crate::wasi::moving::restore::stage::clear_killed_restores;
use cap_primitives::fs::{self as sandbox, FollowSymlinks};
use dunlin_interface::options::WasiConfig;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// How all names begin that Dunlin uses in a person's directories.
const RESERVED: &str = ".dunlin-";

/// Is this a name that only Dunlin uses, for what it has aside: `.dunlin-`, then numbers and `restore`, `back`, `undo`
/// or `tmp`?
pub(in crate::wasi) fn is_reserved(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(RESERVED) else {
        return false;
    };
    let numbers = rest
        .split(['-', '.'])
        .filter(|part| !matches!(*part, "restore" | "back" | "undo" | "tmp"));
    let mut count = 0;
    let all = numbers
        .inspect(|_| count += 1)
        .all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    all && count > 0
}

/// A place for snapshots that the program could write to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--checkpoint-to {place}: the directory '{guest}' that the program may write to lies there, or is the same; choose a directory of its own"
)]
pub struct NotApart {
    place: String,
    guest: String,
}

/// What is hidden in the granted directories.
#[derive(Clone, Debug, Default)]
pub(in crate::wasi) struct Hidden(Vec<Name>);

impl Hidden {
    /// Is this hidden, or in something hidden?
    pub(in crate::wasi) fn holds(&self, name: &Name) -> bool {
        let ours = || {
            name.path
                .split(|&b| b == b'/')
                .any(|part| std::str::from_utf8(part).is_ok_and(is_reserved))
        };
        self.0.iter().any(|hidden| name.is_within(hidden)) || ours()
    }

    /// Is something hidden in this?
    fn lies_in(&self, name: &Name) -> bool {
        self.0.iter().any(|hidden| hidden.is_within(name))
    }
}

impl Wasi {
    /// Removes what killed processes have left in granted directories.
    pub(in crate::wasi) fn clear_killed_restores(&self) {
        let carrying = self.grants.iter().filter(|g| g.mode.carries());
        carrying
            .filter_map(|g| g.dir.as_deref())
            .for_each(clear_killed_restores);
    }

    /// Hides where the program's snapshots go, wherever it lies in a granted directory.
    pub(in crate::wasi) fn hide_snapshots(&mut self, config: &WasiConfig) -> Result<(), NotApart> {
        match &config.snapshots {
            Some((place, directory)) => self.hide(place, *directory),
            None => Ok(()),
        }
    }

    /// Hides a directory or file of the host's (and, of a file, its lock).
    fn hide(&mut self, place: &Path, directory: bool) -> Result<(), NotApart> {
        let Ok(real) = (match directory {
            true => place.canonicalize(),
            false => parent(place)
                .canonicalize()
                .map(|dir| dir.join(place.file_name().unwrap_or_default())),
        }) else {
            return Ok(());
        };
        for (grant, granted) in (0u32..).zip(&self.grants) {
            let Some(root) = &granted.dir else { continue };
            let Ok(root) = rustix::fs::readlink(crate::wasi::calls::path::proc_path(root.as_fd()), Vec::new()) else {
                continue;
            };
            let root = Path::new(std::ffi::OsStr::new(root.to_str().unwrap_or_default())).to_owned();
            if directory && root.starts_with(&real) {
                return Err(NotApart {
                    place: place.display().to_string(),
                    guest: granted.guest.clone(),
                });
            }
            if let Ok(rest) = real.strip_prefix(&root) {
                let path = rest.as_os_str().as_encoded_bytes().to_vec();
                if !directory {
                    let path = [&path[..], b".lock"].concat();
                    self.hidden.0.push(Name { grant, path });
                }
                self.hidden.0.push(Name { grant, path });
            }
        }
        Ok(())
    }

    /// Refuses a call that names what is hidden: it isn't there, and can't be made.
    pub(in crate::wasi) fn refuse_hidden(&self, f: Function, a: &Args<'_>, m: &Memory<'_>) -> Result<(), Errno> {
        use Function::*;
        const CREAT: u32 = 1;
        let one = |fd: usize, path: usize| (a.int(fd), a.pair(path));
        let (lookup, made, follow) = match f {
            PathOpen if a.int(4) & CREAT != 0 => (None, Some(one(0, 2)), a.int(1)),
            PathOpen => (Some(one(0, 2)), None, a.int(1)),
            PathFilestatGet | PathFilestatSetTimes => (Some(one(0, 2)), None, a.int(1)),
            PathReadlink | PathUnlinkFile | PathRemoveDirectory => (Some(one(0, 1)), None, 0),
            PathCreateDirectory => (None, Some(one(0, 1)), 0),
            PathRename => (Some(one(0, 1)), Some(one(3, 4)), 0),
            PathLink => (Some(one(0, 2)), Some(one(4, 5)), 0),
            PathSymlink => (None, Some((a.int(2), a.pair(3))), 0),
            _ => return Ok(()),
        };
        let follow = if follow & 1 == 1 {
            FollowSymlinks::Yes
        } else {
            FollowSymlinks::No
        };
        for (place, errno) in [(lookup, Errno::NoEnt), (made, Errno::Acces)] {
            let Some((fd, (at, len))) = place else { continue };
            // Whatever is wrong with a path or a descriptor, the call itself says.
            let (Ok(path), Ok(d)) = (m.string(at, len), self.table.get(fd)) else {
                continue;
            };
            let crate::wasi::table::Resource::Directory(dir) = &d.resource else {
                continue;
            };
            if self.hidden.0.is_empty() && !path.contains(RESERVED) {
                continue;
            }
            let Some(name) = self.named(&Dir::of(dir), &path, follow) else {
                continue;
            };
            if self.hidden.holds(&name) {
                return Err(errno);
            }
            // It would take along what it holds.
            if f == PathRename && self.hidden.lies_in(&name) {
                return Err(Errno::Busy);
            }
        }
        Ok(())
    }

    /// Where a path leads.
    fn named(&self, dir: &Dir, path: &str, follow: FollowSymlinks) -> Option<Name> {
        if let Some(place) = followed(&self.grants, dir, path, follow) {
            // A directory may be reached by a link that is followed only because of a trailing slash.
            if !path.ends_with('/') {
                return Some(place.name);
            }
        }
        let opened = sandbox::open_dir(&dir.file, Path::new(path)).ok();
        let path = opened.and_then(|opened| below(&self.grants, dir.grant, opened.as_fd()).ok());
        path.map(|path| Name { grant: dir.grant, path })
    }

    /// May a directory of a grant show this entry?
    pub(in crate::wasi) fn shows(&self, dir: &Option<Name>, entry: &[u8]) -> bool {
        let Some(dir) = dir else {
            return !std::str::from_utf8(entry).is_ok_and(is_reserved);
        };
        let path = match dir.path.is_empty() {
            true => entry.to_vec(),
            false => [&dir.path[..], b"/", entry].concat(),
        };
        !self.hidden.holds(&Name { grant: dir.grant, path })
    }

    /// The name of an open directory; `None` if nothing is hidden that could be in it.
    pub(in crate::wasi) fn name_of_directory(&self, grant: u32, dir: &File) -> Option<Name> {
        match self.hidden.0.is_empty() {
            true => None,
            false => below(&self.grants, grant, dir.as_fd())
                .ok()
                .map(|path| Name { grant, path }),
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_told_from_a_persons() {
        for ours in [
            ".dunlin-restore-12-0",
            ".dunlin-12-3.tmp",
            ".dunlin-back-7-0.tmp",
            ".dunlin-9-undo.tmp",
        ] {
            assert!(is_reserved(ours), "{ours}");
        }
        for not in [
            ".dunlin-",
            ".dunlin-restore",
            ".dunlin-notes",
            ".dunlin-1x",
            "dunlin-1",
            ".dunlin-tmp",
            ".dunlin-1-",
        ] {
            assert!(!is_reserved(not), "{not}");
        }
    }
}
