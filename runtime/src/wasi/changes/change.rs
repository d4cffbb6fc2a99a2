//! Every change that the program makes to its files passes here: what was there before goes into the undo journal, if
//! there is one.
//!
//! Each function is called right before the host's, and tells what to do after it. When it fails, the host's is not
//! called.

use crate::journal::{FileId, Journal, Kind, Leaving, Name, Ticket};
use crate::wasi::GrantedDir;
use crate::wasi::calls::path::proc_path;
use crate::wasi::errno::Errno;
use crate::wasi::table::{APPEND, Descriptor, Directory, Resource};
use cap_primitives::fs::{self as sandbox, FollowSymlinks};
use rustix::fs::{AtFlags, FileType, Stat, statat};
use std::cell::Cell;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// What is known of an open file for its changes.
#[derive(Clone, Debug)]
pub(in crate::wasi) struct Opened {
    /// The journal's number and its index in that, plus one each; zeros for unknown.
    index: Cell<(u64, u32)>,
}

impl Opened {
    pub(in crate::wasi) fn new() -> Opened {
        Opened {
            index: Cell::new((0, 0)),
        }
    }
}

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

    fn leaving<'a>(&'a self, stat: &'a Stat) -> Result<Leaving<'a>, Errno> {
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

/// A change of a file's contents that is under way.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(in crate::wasi) struct Writing {
    index: u32,
    /// Where it is written; `None` for its end.
    at: Option<u64>,
}

/// A change of names that is under way.
#[derive(Debug)]
#[must_use]
pub(in crate::wasi) struct Naming {
    ticket: Option<Ticket>,
    /// Files that lose a name or get one.
    files: Vec<(FileId, bool)>,
}

/// What there is to know of the program's changes.
#[derive(Debug, Default)]
pub(in crate::wasi) struct Changes {
    pub(in crate::wasi) journal: Option<Journal>,
}

impl Changes {
    /// Does anybody want to know?
    pub(in crate::wasi) fn wanted(&self) -> bool {
        self.journal.is_some()
    }

    /// The index of an open file in the journal; `None` for what needs no undoing.
    fn index(&mut self, d: &Descriptor, grants: &[GrantedDir]) -> Result<Option<u32>, Errno> {
        let Resource::File { grant, file, opened } = &d.resource else {
            return Ok(None);
        };
        let Some(journal) = &mut self.journal else {
            return Ok(None);
        };
        let epoch = journal.number() + 1;
        if let (known, index) = opened.index.get()
            && known == epoch
        {
            return Ok(index.checked_sub(1));
        }
        let index = journal.track(file.as_fd(), || name_of(grants, *grant, file.as_fd()))?;
        opened.index.set((epoch, index.map_or(0, |i| i + 1)));
        Ok(index)
    }

    /// Bytes are about to be written: at a position, or where the descriptor stands.
    pub(in crate::wasi) fn write(
        &mut self,
        d: &Descriptor,
        grants: &[GrantedDir],
        at: Option<u64>,
        len: u64,
    ) -> Result<Option<Writing>, Errno> {
        let Some(index) = self.index(d, grants)? else {
            return Ok(None);
        };
        let Some(journal) = &mut self.journal else {
            return Ok(None);
        };
        // In append mode even `pwrite` writes to the end, on Linux.
        let at = match (d.flags & APPEND, at) {
            (0, Some(at)) => Some(at),
            (0, None) => Some(rustix::fs::tell(d.host())?),
            _ => None,
        };
        match at {
            Some(at) if journal.needs_saving(index) => {
                journal.before_write(index, d.host(), at..at.saturating_add(len))?
            }
            _ => journal.begin_change(index),
        }
        Ok(Some(Writing { index, at }))
    }

    /// So many bytes have been written; none if that failed.
    pub(in crate::wasi) fn written(&mut self, d: &Descriptor, writing: Option<Writing>, n: u64) {
        if let (Some(journal), Some(Writing { index, at })) = (&mut self.journal, writing) {
            journal.changed(index, d.host(), |size| match at {
                _ if n == 0 => size,
                Some(at) => size.max(at.saturating_add(n)),
                None => size.saturating_add(n),
            });
        }
    }

    /// A file is about to get a size, or only `at_least` that size; or (`None`) other attributes.
    pub(in crate::wasi) fn resize(
        &mut self,
        d: &Descriptor,
        grants: &[GrantedDir],
        size: Option<u64>,
        at_least: bool,
    ) -> Result<Option<Writing>, Errno> {
        let Some(index) = self.index(d, grants)? else {
            return Ok(None);
        };
        let Some(journal) = &mut self.journal else {
            return Ok(None);
        };
        match size {
            Some(size) if !at_least => journal.before_resize(index, d.host(), size)?,
            _ => journal.begin_change(index),
        }
        Ok(Some(Writing { index, at: size }))
    }

    /// It has been resized, if it was `done`.
    pub(in crate::wasi) fn resized(&mut self, d: &Descriptor, writing: Option<Writing>, at_least: bool, done: bool) {
        if let (Some(journal), Some(Writing { index, at })) = (&mut self.journal, writing) {
            journal.changed(index, d.host(), |now| match at {
                Some(size) if done && at_least => now.max(size),
                Some(size) if done => size,
                _ => now,
            });
        }
    }

    /// A file that was just opened is about to lose all its contents.
    pub(in crate::wasi) fn truncate(&mut self, grants: &[GrantedDir], grant: u32, file: &File) -> Result<(), Errno> {
        if let Some(journal) = &mut self.journal
            && let Some(index) = journal.track(file.as_fd(), || name_of(grants, grant, file.as_fd()))?
        {
            journal.before_resize(index, file.as_fd(), 0)?;
            let done = rustix::fs::ftruncate(file, 0);
            journal.changed(index, file.as_fd(), |size| if done.is_ok() { 0 } else { size });
            return Ok(done?);
        }
        Ok(rustix::fs::ftruncate(file, 0)?)
    }

    /// The attributes of what was opened (only to be found, perhaps) are changed by `change`.
    pub(in crate::wasi) fn attributes(
        &mut self,
        grants: &[GrantedDir],
        grant: u32,
        file: &File,
        change: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let Some(journal) = &mut self.journal else {
            return change();
        };
        let stat = rustix::fs::fstat(file)?;
        let name = || name_of(grants, grant, file.as_fd());
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let index = journal.track(file.as_fd(), name)?;
                if let Some(index) = index {
                    journal.begin_change(index);
                }
                let done = change();
                if let Some(index) = index {
                    journal.changed(index, file.as_fd(), |size| size);
                }
                done
            }
            FileType::Directory | FileType::Symlink => {
                if let Some(name) = name()? {
                    journal.before_directory(file, name)?;
                }
                change()
            }
            _ => change(),
        }
    }

    /// The place of a name that nothing has, and that is about to be taken. `None` if there is nobody to tell, or if
    /// the host will refuse the name.
    pub(in crate::wasi) fn free_place(&self, grants: &[GrantedDir], dir: &Dir, path: &str) -> Option<Place> {
        if !self.wanted() {
            return None;
        }
        place(grants, dir, path).filter(|place| place.stat().is_none())
    }

    /// A name is about to be taken.
    pub(in crate::wasi) fn create(&mut self, place: Option<&Place>, kind: Kind) -> Result<Naming, Errno> {
        let ticket = match (&mut self.journal, place) {
            (Some(journal), Some(place)) => Some(journal.before_create(&place.parent, &place.name, kind)?),
            _ => None,
        };
        Ok(Naming {
            ticket,
            files: Vec::new(),
        })
    }

    /// A file was created and opened. When that can't be recorded, it is removed again.
    pub(in crate::wasi) fn created(&mut self, place: &Place, file: &File, naming: Naming) -> Result<(), Errno> {
        let Some(journal) = &mut self.journal else {
            return Ok(());
        };
        match journal.born(&place.name, file.as_fd()) {
            Ok(_) => Ok(()),
            Err(e) => {
                let removed = rustix::fs::unlinkat(&place.parent, &place.leaf, AtFlags::empty()).is_ok();
                self.finish(naming, !removed);
                Err(e.into())
            }
        }
    }

    /// A directory was created.
    pub(in crate::wasi) fn made_directory(&mut self, place: Option<&Place>) {
        if let (Some(journal), Some(place)) = (&mut self.journal, place)
            && let Ok(dir) = sandbox::open_dir_nofollow(
                &place.parent,
                Path::new(std::ffi::OsStr::from_bytes(place.leaf.to_bytes())),
            )
        {
            journal.made(&dir);
        }
    }

    /// A file is about to get another name.
    pub(in crate::wasi) fn link(
        &mut self,
        grants: &[GrantedDir],
        (from, old): (&Dir, &str),
        (to, new): (&Dir, &str),
    ) -> Result<Naming, Errno> {
        let mut naming = Naming {
            ticket: None,
            files: Vec::new(),
        };
        let Some(journal) = &mut self.journal else {
            return Ok(naming);
        };
        let (Some(source), Some(place)) = (place(grants, from, old), place(grants, to, new)) else {
            return Ok(naming);
        };
        if let (Some(stat), None) = (source.stat(), place.stat()) {
            naming.files.push((FileId::of(&stat), false));
            naming.ticket =
                Some(journal.before_link(&source.leaving(&stat)?, &source.name, &place.parent, &place.name)?);
        }
        Ok(naming)
    }

    /// A name is about to go.
    pub(in crate::wasi) fn remove(
        &mut self,
        grants: &[GrantedDir],
        dir: &Dir,
        path: &str,
        directory: bool,
    ) -> Result<Naming, Errno> {
        let mut naming = Naming {
            ticket: None,
            files: Vec::new(),
        };
        let Some(journal) = &mut self.journal else {
            return Ok(naming);
        };
        let Some(place) = place(grants, dir, path) else {
            return Ok(naming);
        };
        let Some(stat) = place.stat() else { return Ok(naming) };
        // The host will refuse anything else.
        if FileType::from_raw_mode(stat.st_mode).is_dir() == directory {
            naming.ticket = Some(journal.before_remove(&place.parent, &place.name, &place.leaving(&stat)?)?);
            naming.files.push((
                FileId::of(&stat),
                !directory && links(&stat) <= 1 + journal.own_links(FileId::of(&stat)),
            ));
        }
        Ok(naming)
    }

    /// Something is about to get another name.
    pub(in crate::wasi) fn rename(
        &mut self,
        grants: &[GrantedDir],
        (from, old): (&Dir, &str),
        (to, new): (&Dir, &str),
    ) -> Result<Naming, Errno> {
        let mut naming = Naming {
            ticket: None,
            files: Vec::new(),
        };
        let Some(journal) = &mut self.journal else {
            return Ok(naming);
        };
        let (Some(from), Some(to)) = (place(grants, from, old), place(grants, to, new)) else {
            return Ok(naming);
        };
        let Some(stat) = from.stat() else { return Ok(naming) };
        let there = to.stat();
        // Two names of one file: nothing happens.
        if there
            .as_ref()
            .is_some_and(|there| FileId::of(there) == FileId::of(&stat))
        {
            return Ok(naming);
        }
        let replaced = there.as_ref().map(|there| to.leaving(there)).transpose()?;
        let ticket = journal.before_rename(
            &stat,
            (&from.parent, &from.name),
            (&to.parent, &to.name),
            replaced.as_ref(),
        )?;
        naming.ticket = Some(ticket);
        naming.files.push((FileId::of(&stat), false));
        if let Some(there) = &there {
            let id = FileId::of(there);
            naming.files.push((id, links(there) <= 1 + journal.own_links(id)));
        }
        Ok(naming)
    }

    /// A change of names is over; `done` if the host has made it.
    pub(in crate::wasi) fn finish(&mut self, naming: Naming, done: bool) {
        let Some(journal) = &mut self.journal else { return };
        match naming.ticket {
            Some(ticket) if !done => journal.cancel(ticket),
            _ => {}
        }
        for (id, gone) in naming.files {
            journal.name_changed(id, done && gone);
        }
    }

    /// How many names a file has for the program: without those of the journal.
    pub(in crate::wasi) fn links(&self, id: FileId, links: u64) -> u64 {
        let own = self.journal.as_ref().map_or(0, |journal| journal.own_links(id));
        links.saturating_sub(own)
    }
}

#[allow(clippy::unnecessary_cast)]
fn links(stat: &Stat) -> u64 {
    stat.st_nlink as u64
}

/// The path of an open file or directory below its grant, as the kernel knows it.
pub(in crate::wasi) fn below(grants: &[GrantedDir], grant: u32, file: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let root = grants.get(grant as usize).and_then(|g| g.dir.as_ref());
    let root = root.ok_or(io::ErrorKind::NotFound)?;
    let real = |file: BorrowedFd<'_>| rustix::fs::readlink(proc_path(file), Vec::new()).map(CString::into_bytes);
    let (root, path) = (real(root.as_fd())?, real(file)?);
    match path.strip_prefix(&root[..]) {
        Some([]) => Ok(Vec::new()),
        Some([b'/', rest @ ..]) => Ok(rest.to_vec()),
        Some(rest) if root == b"/" => Ok(rest.to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// A name of an open file, checked by looking it up. `None` if it has none that the kernel remembers.
fn name_of(grants: &[GrantedDir], grant: u32, file: BorrowedFd<'_>) -> io::Result<Option<Name>> {
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
