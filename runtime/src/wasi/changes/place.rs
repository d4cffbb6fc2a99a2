//! Looking names up: the place that a path of the program names, and the name of what is open.

use crate::journal::{FileId, Leaving, Name};
use crate::wasi::GrantedDir;
use crate::wasi::calls::path::proc_path;
use crate::wasi::errno::Errno;
use crate::wasi::table::Directory;
use cap_primitives::fs::{self as sandbox, FollowSymlinks};
use rustix::fs::{AtFlags, FileType, Stat, statat};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

/// A directory of the program's, to be used while the program's table is.
#[derive(Clone, Debug)]
pub(in crate::wasi) struct Dir {
    pub(in crate::wasi) grant: u32,
    pub(in crate::wasi) preopened: bool,
    pub(in crate::wasi) file: Arc<File>,
}

impl Dir {
    pub(in crate::wasi) fn of(dir: &Directory) -> Dir {
        Dir {
            grant: dir.grant,
            preopened: dir.preopened,
            file: dir.file.clone(),
        }
    }
}

/// A name that is about to be taken or to go.
#[derive(Debug)]
pub(in crate::wasi) struct Place {
    pub(in crate::wasi) name: Name,
    pub(in crate::wasi) parent: Arc<File>,
    pub(in crate::wasi) leaf: CString,
}

impl Place {
    /// What is there now, no link followed.
    pub(in crate::wasi) fn stat(&self) -> Option<Stat> {
        statat(&self.parent, &self.leaf, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    /// What is there, about to lose its name.
    pub(in crate::wasi) fn leaving<'a>(&'a self, stat: &'a Stat) -> Result<Leaving<'a>, Errno> {
        let target = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Some(rustix::fs::readlinkat(&self.parent, &self.leaf, Vec::new())?.into_bytes()),
            _ => None,
        };
        Ok(Leaving {
            leaf: &self.leaf,
            stat,
            target,
        })
    }
}

/// The path of an open file or directory below its grant, as the kernel knows it.
pub(in crate::wasi) fn below(grants: &[GrantedDir], grant: u32, file: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let root = grants.get(grant as usize).and_then(|g| g.dir.as_ref());
    let root = root.ok_or(io::ErrorKind::NotFound)?;
    let real = |file: BorrowedFd<'_>| rustix::fs::readlink(proc_path(file), Vec::new()).map(CString::into_bytes);
    let below = strip_root(&real(root.as_fd())?, &real(file)?).map(<[u8]>::to_vec);
    below.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// What of a path lies below a directory's, both as the kernel knows them; `None` for one that lies elsewhere.
pub(in crate::wasi) fn strip_root<'p>(root: &[u8], path: &'p [u8]) -> Option<&'p [u8]> {
    match path.strip_prefix(root)? {
        [] => Some(&[]),
        [b'/', rest @ ..] => Some(rest),
        rest if root == b"/" => Some(rest),
        _ => None,
    }
}

/// A name of an open file, checked by looking it up. `None` if it has none that the kernel remembers.
pub(in crate::wasi) fn name_of(grants: &[GrantedDir], grant: u32, file: BorrowedFd<'_>) -> io::Result<Option<Name>> {
    let Ok(path) = below(grants, grant, file) else {
        return Ok(None);
    };
    let name = Name { grant, path };
    let root = grants.get(grant as usize).and_then(|g| g.dir.as_ref());
    let root = root.ok_or(io::ErrorKind::NotFound)?;
    let text = if name.path.is_empty() { b"." } else { &name.path[..] };
    match statat(root, text, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) if FileId::of(&found) == FileId::of(&rustix::fs::fstat(file)?) => Ok(Some(name)),
        Ok(_) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The place that a path names: its directory, opened, and the last component. `None` for paths that name no place,
/// which the host refuses.
pub(in crate::wasi) fn place(grants: &[GrantedDir], dir: &Dir, path: &str) -> Option<Place> {
    let trimmed = path.trim_end_matches('/');
    let (parent, leaf) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
    if path.starts_with('/') || matches!(leaf, "" | "." | "..") {
        return None;
    }
    let parent = match parent.is_empty() {
        true => dir.file.clone(),
        false => Arc::new(sandbox::open_dir(&dir.file, Path::new(parent)).ok()?),
    };
    let at_root = dir.preopened && Arc::ptr_eq(&parent, &dir.file);
    let mut below = match at_root {
        true => Vec::new(),
        false => below(grants, dir.grant, parent.as_fd()).ok()?,
    };
    if !below.is_empty() {
        below.push(b'/');
    }
    below.extend_from_slice(leaf.as_bytes());
    Some(Place {
        name: Name {
            grant: dir.grant,
            path: below,
        },
        parent,
        leaf: CString::new(leaf).ok()?,
    })
}

/// The place that a path names once links in its last component are followed; of a link that leads nowhere, where it
/// leads.
pub(in crate::wasi) fn followed(grants: &[GrantedDir], dir: &Dir, path: &str, follow: FollowSymlinks) -> Option<Place> {
    /// As Linux.
    const MOST_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let place = place(grants, dir, &path)?;
        let is_link = place
            .stat()
            .is_some_and(|s| FileType::from_raw_mode(s.st_mode).is_symlink());
        if !is_link || follow == FollowSymlinks::No {
            return Some(place);
        }
        let target = rustix::fs::readlinkat(&place.parent, &place.leaf, Vec::new()).ok()?;
        let target = target.into_string().ok().filter(|t| !t.starts_with('/'))?;
        let trimmed = path.trim_end_matches('/');
        path = match trimmed.rsplit_once('/') {
            Some((parent, _)) => format!("{parent}/{target}"),
            None => target,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_a_directory_is_below_it() {
        let strip = |root: &str, path: &str| strip_root(root.as_bytes(), path.as_bytes()).map(<[u8]>::to_vec);
        assert_eq!(strip("/a", "/a"), Some(b"".to_vec()));
        assert_eq!(strip("/a", "/a/b/c"), Some(b"b/c".to_vec()));
        assert_eq!(strip("/", "/b"), Some(b"b".to_vec()));
        for (root, path) in [("/a", "/ab"), ("/a", "/"), ("/a/b", "/a"), ("/a", "/b/a")] {
            assert_eq!(strip(root, path), None, "{path} below {root}");
        }
    }
}
