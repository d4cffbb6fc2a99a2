//! Every change that the program makes to its files passes here: what was there before goes into the undo journal, if
//! there is one.
//!
//! Each function is called right before the host's, and tells what to do after it. When it fails, the host's is not
//! called.

use crate::journal::{FileId, Journal, Kind, Ticket};
use crate::wasi::GrantedDir;
use crate::wasi::changes::place::{Dir, Place, name_of, place};
use crate::wasi::errno::Errno;
use crate::wasi::table::{APPEND, Descriptor, Resource};
use cap_primitives::fs as sandbox;
use rustix::fs::{AtFlags, FileType, Stat};
use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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

/// A change of a file's contents that is under way.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(in crate::wasi) struct Writing {
    index: u32,
    /// Where it is written; `None` for its end.
    at: Option<u64>,
}

/// A change of names that is under way; nothing of it, if there is no journal or the host will refuse the change.
#[derive(Debug, Default)]
#[must_use]
pub(in crate::wasi) struct Naming {
    ticket: Option<Ticket>,
    /// Files that lose a name or get one, and whether it is the last that the program has of one.
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

    /// Records a change of names. `record` returns nothing for one that the host will refuse, or that changes nothing.
    fn naming(
        &mut self,
        record: impl FnOnce(&mut Journal) -> Result<Option<(Ticket, Vec<(FileId, bool)>)>, Errno>,
    ) -> Result<Naming, Errno> {
        let recorded = self.journal.as_mut().map(record).transpose()?.flatten();
        Ok(recorded.map_or_else(Naming::default, |(ticket, files)| Naming {
            ticket: Some(ticket),
            files,
        }))
    }

    /// A name is about to be taken.
    pub(in crate::wasi) fn create(&mut self, place: Option<&Place>, kind: Kind) -> Result<Naming, Errno> {
        self.naming(|journal| {
            let Some(place) = place else { return Ok(None) };
            let ticket = journal.before_create(&place.parent, &place.name, kind)?;
            Ok(Some((ticket, Vec::new())))
        })
    }

    /// A file was created and opened. When that can't be recorded, it is removed again.
    pub(in crate::wasi) fn created(&mut self, place: &Place, file: &File, naming: Naming) -> Result<(), Errno> {
        let Some(journal) = &mut self.journal else {
            return Ok(());
        };
        match journal.created_file(&place.name, file.as_fd()) {
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
            journal.created_directory(&dir);
        }
    }

    /// A file is about to get another name.
    pub(in crate::wasi) fn link(
        &mut self,
        grants: &[GrantedDir],
        (from, old): (&Dir, &str),
        (to, new): (&Dir, &str),
    ) -> Result<Naming, Errno> {
        self.naming(|journal| {
            let (Some(source), Some(place)) = (place(grants, from, old), place(grants, to, new)) else {
                return Ok(None);
            };
            let (Some(stat), None) = (source.stat(), place.stat()) else {
                return Ok(None);
            };
            let leaving = source.leaving(&stat)?;
            let ticket = journal.before_link(&leaving, &source.name, &place.parent, &place.name)?;
            Ok(Some((ticket, vec![(FileId::of(&stat), false)])))
        })
    }

    /// A name is about to go.
    pub(in crate::wasi) fn remove(
        &mut self,
        grants: &[GrantedDir],
        dir: &Dir,
        path: &str,
        directory: bool,
    ) -> Result<Naming, Errno> {
        self.naming(|journal| {
            let Some(place) = place(grants, dir, path) else {
                return Ok(None);
            };
            let stat = place.stat();
            // The host will refuse anything else.
            let Some(stat) = stat.filter(|s| FileType::from_raw_mode(s.st_mode).is_dir() == directory) else {
                return Ok(None);
            };
            let ticket = journal.before_remove(&place.parent, &place.name, &place.leaving(&stat)?)?;
            let last = !directory && is_last_name(journal, &stat);
            Ok(Some((ticket, vec![(FileId::of(&stat), last)])))
        })
    }

    /// Something is about to get another name.
    pub(in crate::wasi) fn rename(
        &mut self,
        grants: &[GrantedDir],
        (from, old): (&Dir, &str),
        (to, new): (&Dir, &str),
    ) -> Result<Naming, Errno> {
        self.naming(|journal| {
            let (Some(from), Some(to)) = (place(grants, from, old), place(grants, to, new)) else {
                return Ok(None);
            };
            let Some(stat) = from.stat() else { return Ok(None) };
            let there = to.stat();
            // Two names of one file: nothing happens.
            if there.is_some_and(|there| FileId::of(&there) == FileId::of(&stat)) {
                return Ok(None);
            }
            let replaced = there.as_ref().map(|there| to.leaving(there)).transpose()?;
            let ticket = journal.before_rename(
                &stat,
                (&from.parent, &from.name),
                (&to.parent, &to.name),
                replaced.as_ref(),
            )?;
            let mut files = vec![(FileId::of(&stat), false)];
            files.extend(there.map(|there| (FileId::of(&there), is_last_name(journal, &there))));
            Ok(Some((ticket, files)))
        })
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

/// Has a file no other name that the program knows? (The field's type differs between architectures, hence the cast.)
#[allow(clippy::unnecessary_cast)]
fn is_last_name(journal: &Journal, stat: &Stat) -> bool {
    stat.st_nlink as u64 <= 1 + journal.own_links(FileId::of(stat))
}
