//! Undoing records, from the last to the first.
//!
//! Each step may be done again: after it, the journal is cut in front of the record, and whoever is killed between the
//! two does it once more. Contents are put back in any number before the journal is cut, because nothing gets or loses
//! a name meanwhile.

use super::conflict::{Roots, id_of, stat_name};
use super::expected::{ExpectedTree, Location};
use super::host::{clear, find, set_attributes, set_times, writable};
use super::marker::Marker;
use crate::journal::files::{self, copy_range, keep_name, open_dir};
use crate::journal::record::{Attributes, FileId, Name, Placed, Record};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// Bytes of a file after which it is noted that the step goes on.
const COPIED_AT_ONCE: u64 = 64 << 20;

/// A step of going back that failed. The files are between two moments; going back again goes on from here.
#[derive(Debug, thiserror::Error)]
#[error("'{name}' can't be taken back: {source}")]
pub struct UndoError {
    /// The name, or the journal, that it was about.
    pub name: String,
    /// Why it failed.
    pub source: io::Error,
}

/// Undoes the records of one journal after another.
#[derive(Debug)]
pub(super) struct Undo<'a> {
    pub(super) dir: &'a File,
    pub(super) roots: &'a Roots,
    pub(super) tree: &'a mut ExpectedTree,
    /// The file whose contents are being put back.
    opened: Option<((u64, u32), Option<File>)>,
    /// What was made anew, and which file it is now.
    recreated: HashMap<FileId, FileId>,
    /// Where steps are noted; nothing is undone before it is there.
    pub marker: Option<Marker>,
    /// What a person should be told: names that were set aside or can't come back.
    pub notices: Vec<String>,
}

impl<'a> Undo<'a> {
    /// `tree` is as all the records make it. `recreated`: what was made anew before this was interrupted.
    pub(super) fn new(
        dir: &'a File,
        roots: &'a Roots,
        tree: &'a mut ExpectedTree,
        recreated: HashMap<FileId, FileId>,
    ) -> Undo<'a> {
        Undo {
            dir,
            roots,
            tree,
            opened: None,
            recreated,
            marker: None,
            notices: Vec::new(),
        }
    }

    /// Undoes all records of a journal, which is cut to its header.
    pub(super) fn journal(
        &mut self,
        number: u64,
        file: &File,
        begins: u64,
        records: &[Placed],
        durable: bool,
    ) -> Result<(), UndoError> {
        let cut = |at: u64, undo: &Undo<'_>| {
            if durable {
                undo.sync();
            }
            file.set_len(at).map_err(|source| UndoError {
                name: files::journal_name(number),
                source,
            })
        };
        for placed in records.iter().rev() {
            let busy = self.marker.as_ref().map_or(Ok(()), Marker::busy);
            busy.and_then(|()| self.one(number, file, placed))
                .map_err(|source| UndoError {
                    name: self.name_of(number, &placed.record),
                    source,
                })?;
            if placed.record.is_of_names() {
                self.opened = None;
                cut(placed.at, self)?;
            }
            self.tree.revert(number, &placed.record);
        }
        self.opened = None;
        cut(begins, self)
    }

    /// Puts everything that was changed in granted directories on the disk.
    pub(super) fn sync(&self) {
        for root in self.roots.iter().flatten() {
            let _ = rustix::fs::syncfs(root);
        }
    }

    fn name_of(&self, journal: u64, record: &Record) -> String {
        match record {
            Record::Created { name, .. } | Record::Removed { name, .. } | Record::Directory { name, .. } => {
                name.to_string()
            }
            Record::Renamed { to, .. } => to.to_string(),
            Record::File { index, .. }
            | Record::Data { index, .. }
            | Record::Hole { index, .. }
            | Record::Copy { index, .. } => match self.tree.file(journal, *index) {
                Some((_, Location::At(name))) => name.to_string(),
                _ => "a removed file".into(),
            },
            Record::Born { name, .. } => name.to_string(),
            Record::Header(_) | Record::Touched { .. } | Record::Restored { .. } => String::new(),
        }
    }

    fn one(&mut self, journal: u64, file: &File, placed: &Placed) -> io::Result<()> {
        match &placed.record {
            Record::Header(_) | Record::Born { .. } | Record::Touched { .. } | Record::Restored { .. } => Ok(()),
            Record::Data { index, at } => {
                let (from, len) = placed.contents;
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, from)?;
                match self.contents(journal, *index)? {
                    Some(file) => file.write_all_at(&bytes, *at),
                    None => Ok(()),
                }
            }
            Record::Hole { index, at, len } => match self.contents(journal, *index)? {
                Some(file) => clear(file, *at, *len),
                None => Ok(()),
            },
            Record::Copy { index, at, len, kept } => {
                let keep = open_dir(self.dir, &keep_name(journal))?;
                let copy = files::open(&keep, &kept.to_string(), false)?;
                let mut done = 0;
                while done < *len {
                    let part = (*len - done).min(COPIED_AT_ONCE);
                    match self.contents(journal, *index)? {
                        Some(file) => copy_range(&copy, done, file, *at + done, part)?,
                        None => return Ok(()),
                    };
                    self.marker.as_ref().map_or(Ok(()), Marker::busy)?;
                    done += part;
                }
                Ok(())
            }
            Record::File {
                index,
                size,
                attributes,
                ..
            } => {
                // A file that is as it was may be one that can't be written.
                if !self.fits(journal, *index, *size, *attributes)?
                    && let Some(file) = self.contents(journal, *index)?
                {
                    if file.metadata()?.len() != *size {
                        file.set_len(*size)?;
                    }
                    set_attributes(file, *attributes)?;
                }
                self.opened = None;
                Ok(())
            }
            Record::Directory { name, attributes } => match self.root(name) {
                Some(root) => match find(root, name) {
                    // Programs can't change permissions, so those are others' business.
                    Ok(found) if !found.metadata()?.is_file() => set_times(&found, *attributes),
                    Ok(_) => Ok(()),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                    Err(e) => Err(e),
                },
                None => Ok(()),
            },
            Record::Created { name, kind } => self.created(name, *kind),
            Record::Removed {
                name,
                id,
                was,
                attributes,
            } => self.removed(journal, name, *id, was, *attributes),
            Record::Renamed { from, to, id } => self.renamed(from, to, *id),
        }
    }

    pub(super) fn root(&self, name: &Name) -> Option<&'a File> {
        self.roots.get(name.grant as usize)?.as_deref()
    }

    /// The file whose contents are put back, opened for writing; `None` if it is gone.
    fn contents(&mut self, journal: u64, index: u32) -> io::Result<Option<&File>> {
        let which = (journal, index);
        if self.opened.as_ref().is_none_or(|(opened, _)| *opened != which) {
            let file = self.open(which)?;
            self.opened = Some((which, file));
        }
        Ok(self.opened.as_ref().and_then(|(_, file)| file.as_ref()))
    }

    fn open(&self, (journal, index): (u64, u32)) -> io::Result<Option<File>> {
        let Some((id, location)) = self.tree.file(journal, index) else {
            return Ok(None);
        };
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = match location {
            Location::Gone => return Ok(None),
            Location::Kept(number, kept) => open_dir(self.dir, &keep_name(*number)).and_then(|keep| {
                Ok(File::from(rustix::fs::openat(
                    &keep,
                    kept.to_string(),
                    flags,
                    Mode::empty(),
                )?))
            }),
            Location::At(name) => {
                // What others have put there is not ours to change.
                match stat_name(self.roots, name)? {
                    Some(found) if self.is(id_of(&found), id) => {}
                    _ => return Ok(None),
                }
                let Some(root) = self.root(name) else { return Ok(None) };
                writable(root, name)
            }
        };
        match opened {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Is what was found the file that records know as `id`?
    pub(super) fn is(&self, found: FileId, id: FileId) -> bool {
        found == *self.recreated.get(&id).unwrap_or(&id)
    }

    /// Notes that what records know as `id` was made anew and is `now`, another inode.
    pub(super) fn note_recreated(&mut self, id: FileId, now: &impl AsFd) -> io::Result<()> {
        let is = FileId::of(&rustix::fs::fstat(now)?);
        if !self.is(is, id) {
            if let Some(marker) = &mut self.marker {
                marker.note_recreated(id, is)?;
            }
            self.recreated.insert(id, is);
        }
        Ok(())
    }

    /// Does a file have this size and these attributes? Not asked of one that is open: it was just written.
    fn fits(&self, journal: u64, index: u32, size: u64, attributes: Attributes) -> io::Result<bool> {
        if self
            .opened
            .as_ref()
            .is_some_and(|(which, _)| *which == (journal, index))
        {
            return Ok(false);
        }
        let stat = match self.tree.file(journal, index) {
            Some((id, Location::At(name))) => match (stat_name(self.roots, name)?, self.root(name)) {
                (Some(found), Some(root)) if self.is(id_of(&found), id) => rustix::fs::fstat(find(root, name)?)?,
                _ => return Ok(true),
            },
            Some((_, Location::Kept(number, kept))) => {
                let stat = open_dir(self.dir, &keep_name(*number))
                    .and_then(|keep| Ok(rustix::fs::statat(&keep, kept.to_string(), AtFlags::SYMLINK_NOFOLLOW)?));
                match stat {
                    // Nobody goes back that far any more, and it had no other name: the snapshot has its contents.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
                    stat => stat?,
                }
            }
            Some((_, Location::Gone)) | None => return Ok(true),
        };
        Ok(u64::try_from(stat.st_size).unwrap_or(0) == size && Attributes::of(&stat) == attributes)
    }
}
