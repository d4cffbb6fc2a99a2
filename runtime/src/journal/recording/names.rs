//! Names: taken, moved and removed, and the directories that they are in.

use super::keep::Keeping;
use super::saved::Saved;
use super::writer::{Journal, Tracked, links};
use crate::journal::record::{Attributes, FileId, Kind, Name, Record, Was};
use rustix::fs::{Stat, fstat};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

/// A change of names that was recorded and is about to be made.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    /// The journal's length before, in bytes: cut to that, it is as if nothing had been recorded.
    end: u64,
    /// What was kept for it: the file, its name in `.keep/`, and whether it is the file itself and no copy.
    kept: Option<(FileId, u32, bool)>,
}

/// What is about to lose a name.
#[derive(Debug)]
pub struct Leaving<'a> {
    /// The name in its directory.
    pub leaf: &'a CStr,
    /// What it is.
    pub stat: &'a Stat,
    /// Its target, if it is a symbolic link.
    pub target: Option<Vec<u8>>,
}

impl Journal {
    /// The entries or attributes of a directory are about to change.
    pub fn before_directory(&mut self, parent: &File, name: Name) -> io::Result<()> {
        let stat = fstat(parent)?;
        if self.directories.contains(&FileId::of(&stat)) {
            return Ok(());
        }
        let attributes = Attributes::of(&stat);
        self.append(&[(Record::Directory { name, attributes }, &[])])?;
        self.directories.insert(FileId::of(&stat));
        Ok(())
    }

    fn ticket(&self) -> Ticket {
        Ticket {
            end: self.end,
            kept: None,
        }
    }

    /// A name that nothing has is about to be taken, in the open directory `parent`.
    pub fn before_create(&mut self, parent: &File, name: &Name, kind: Kind) -> io::Result<Ticket> {
        self.before_directory(parent, name.parent())?;
        let ticket = self.ticket();
        let name = name.clone();
        self.append(&[(Record::Created { name, kind }, &[])])?;
        Ok(ticket)
    }

    /// A file is about to get another name beside the one that it has: as [`Journal::before_create`].
    pub fn before_link(
        &mut self,
        leaving: &Leaving<'_>,
        from: &Name,
        parent: &File,
        name: &Name,
    ) -> io::Result<Ticket> {
        let stat = leaving.stat;
        let index = self.track_stat(stat, || Ok(Some(from.clone())))?;
        let kind = match &leaving.target {
            Some(target) => Kind::Symlink(crc32fast::hash(target)),
            None => Kind::Link(FileId::of(stat)),
        };
        let ticket = self.before_create(parent, name, kind)?;
        if let Some(index) = index {
            self.begin_change(index);
        }
        Ok(ticket)
    }

    /// The file that was created. Returns its index.
    pub fn created_file(&mut self, name: &Name, file: BorrowedFd<'_>) -> io::Result<u32> {
        let id = FileId::of(&fstat(file)?);
        let index = self.tracked.len() as u32;
        self.seen()?.reserve(index)?;
        self.seen()?.done(index, 0);
        let name = name.clone();
        self.append(&[(Record::Born { index, name, id }, &[])])?;
        Ok(self.add(Tracked {
            id,
            size: 0,
            saved: Saved::default(),
            now: 0,
            compared: false,
            new: true,
        }))
    }

    /// A directory was created: nothing about it needs recording any more.
    pub fn created_directory(&mut self, dir: &File) {
        if let Ok(stat) = fstat(dir) {
            self.directories.insert(FileId::of(&stat));
        }
    }

    /// A name is about to go.
    pub fn before_remove(&mut self, parent: &File, name: &Name, leaving: &Leaving<'_>) -> io::Result<Ticket> {
        self.before_directory(parent, name.parent())?;
        self.track_leaving(name, leaving)?;
        let mut ticket = self.ticket();
        match self.removal(parent, name, leaving, &mut ticket) {
            Ok(()) => Ok(ticket),
            Err(e) => {
                self.cancel(ticket);
                Err(e)
            }
        }
    }

    /// Something is about to get another name, in place of what has it now, if anything has.
    pub fn before_rename(
        &mut self,
        stat: &Stat,
        from: (&File, &Name),
        to: (&File, &Name),
        replaced: Option<&Leaving<'_>>,
    ) -> io::Result<Ticket> {
        self.before_directory(from.0, from.1.parent())?;
        self.before_directory(to.0, to.1.parent())?;
        self.track_stat(stat, || Ok(Some(from.1.clone())))?;
        if let Some(leaving) = replaced {
            self.track_leaving(to.1, leaving)?;
        }
        let mut ticket = self.ticket();
        let recorded = match replaced {
            Some(leaving) => self.removal(to.0, to.1, leaving, &mut ticket),
            None => Ok(()),
        };
        let id = FileId::of(stat);
        let recorded = recorded.and_then(|()| {
            let (from, to) = (from.1.clone(), to.1.clone());
            self.append(&[(Record::Renamed { from, to, id }, &[])])
        });
        if let Err(e) = recorded {
            self.cancel(ticket);
            return Err(e);
        }
        if let Some(index) = self.index_of(id) {
            self.begin_change(index);
        }
        Ok(ticket)
    }

    /// A file that gets or loses a name counts as changed then, wherever else it is seen.
    fn track_leaving(&mut self, name: &Name, leaving: &Leaving<'_>) -> io::Result<()> {
        self.track_stat(leaving.stat, || Ok(Some(name.clone()))).map(drop)
    }

    /// Keeps and records what is about to lose its name.
    fn removal(&mut self, parent: &File, name: &Name, leaving: &Leaving<'_>, ticket: &mut Ticket) -> io::Result<()> {
        let id = FileId::of(leaving.stat);
        let known = self.index_of(id);
        // Another name changes when the file was last changed.
        known.iter().for_each(|&index| self.begin_change(index));
        let recorded = self.record_removal(parent, name, leaving, ticket);
        if recorded.is_err() {
            self.name_changed(id, false);
        }
        recorded
    }

    fn record_removal(
        &mut self,
        parent: &File,
        name: &Name,
        leaving: &Leaving<'_>,
        ticket: &mut Ticket,
    ) -> io::Result<()> {
        use rustix::fs::FileType;
        let id = FileId::of(leaving.stat);
        let known = self.index_of(id);
        let new = known.is_some_and(|i| self.tracked.get(i as usize).is_some_and(|t| t.new));
        let was = match (FileType::from_raw_mode(leaving.stat.st_mode), &leaving.target) {
            (FileType::Directory, _) => Was::Directory,
            // Made anew, it would no longer be the link that its other names are.
            (_, Some(target)) => {
                let kept = match links(leaving.stat) > 1 {
                    true => self.keep_link(parent, name, leaving)?,
                    false => None,
                };
                kept.map_or_else(|| Was::Symlink(target.clone()), |keeping| was_kept(id, keeping, ticket))
            }
            (FileType::Fifo, _) => Was::Pipe,
            _ if new => Was::New,
            _ => {
                let keeping = self.keep_file(parent, name, leaving)?;
                was_kept(id, keeping, ticket)
            }
        };
        let record = Record::Removed {
            name: name.clone(),
            id,
            was,
            attributes: Attributes::of(leaving.stat),
        };
        self.append(&[(record, &[])])
    }

    /// A file has lost or got a name, or its attributes were changed.
    pub fn name_changed(&mut self, id: FileId, gone: bool) {
        let Some(index) = self.index_of(id) else { return };
        if let (Some(seen), Some(tracked)) = (&self.seen, self.tracked.get(index as usize)) {
            seen.done(index, tracked.now);
        }
        if gone && self.own_links(id) == 0 {
            // Its number may soon be another file's. The copy that was kept needs nothing more from it, and writes
            // through a descriptor that is not known here yet will not be recorded.
            self.by_id.remove(&id);
            if let Some(tracked) = self.tracked.get_mut(index as usize) {
                tracked.size = 0;
            }
        }
    }

    /// Takes back what was recorded of a change of names that was not made.
    pub fn cancel(&mut self, ticket: Ticket) {
        if self.file.set_len(ticket.end).is_ok() {
            self.end = ticket.end;
            if let Some((id, kept, linked)) = ticket.kept {
                self.remove_kept(kept);
                if linked && let Some(places) = self.kept.get_mut(&id) {
                    places.retain(|p| *p != (self.lineage.number, kept));
                    if places.is_empty() {
                        self.kept.remove(&id);
                    }
                }
            }
        }
    }
}

/// What is recorded of a file that was kept, and what undoes the keeping.
fn was_kept(id: FileId, keeping: Keeping, ticket: &mut Ticket) -> Was {
    match keeping {
        Keeping::Linked(other) => Was::Linked(other),
        Keeping::Kept(kept, linked) => {
            ticket.kept = Some((id, kept, linked));
            Was::Kept(kept)
        }
    }
}
