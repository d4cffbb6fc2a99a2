//! Recording what was there before the program changes it.

use super::Root;
use super::files::{self, copy_range, for_reading, journal_name, keep_name, read_some, seen_name};
use super::keep::Keeping;
use super::record::{self, Attributes, Base, FileId, Header, Kind, MOST_CONTENTS, Name, Record, Was};
use super::saved::Saved;
use super::seen::{Seen, now};
use dunlin_format::module::ModuleHash;
use rustix::fs::{SeekFrom, Stat, fstat};
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

/// What is saved at once is a multiple of this, in bytes; with `--durable`, where each time costs a `fsync`, of
/// [`DURABLE_BLOCK`].
const BLOCK: u64 = 4 << 10;

/// See [`BLOCK`].
const DURABLE_BLOCK: u64 = 64 << 10;

/// From this length on, in bytes, contents are kept in a file of their own, which shares them where the file system
/// can.
const COPIED: u64 = 8 << 20;

/// Where a journal stands among others, and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Whose it is.
    pub module: ModuleHash,
    /// Its number.
    pub number: u64,
    /// What going back through it leads to.
    pub base: Base,
    /// Does it begin where the journal before it ends?
    pub continues: bool,
}

/// A file that the program has changed since the snapshot.
#[derive(Debug)]
struct Tracked {
    id: FileId,
    /// Its size at the snapshot; what lies beyond needs no saving. 0 for a file that is new since.
    size: u64,
    saved: Saved,
    /// Its size as the program left it, if nobody else changes it.
    now: u64,
    /// Was the host's clock compared with the file system's?
    compared: bool,
    new: bool,
}

/// A change of names that was recorded and is about to be made.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    /// Where the journal ended before.
    end: u64,
    kept: Option<(FileId, u32, bool)>,
}

/// What is about to lose a name.
#[derive(Debug)]
pub struct Leaving<'a> {
    /// The name in its directory.
    pub leaf: &'a CStr,
    /// What it is.
    pub stat: &'a Stat,
    /// What it says, if it is a symbolic link.
    pub target: Option<Vec<u8>>,
}

/// The journal that is being written.
#[derive(Debug)]
pub struct Journal {
    pub(super) dir: File,
    pub(super) lineage: Lineage,
    pub(super) durable: bool,
    pub(super) roots: Vec<Root>,
    file: File,
    end: u64,
    seen: Option<Seen>,
    tracked: Vec<Tracked>,
    by_id: HashMap<FileId, u32>,
    directories: HashSet<FileId>,
    pub(super) keep: Option<File>,
    pub(super) next_kept: u32,
    /// Files that have another name in `.keep/` of this journal or an earlier one: journal's number and name there.
    pub(super) kept: HashMap<FileId, Vec<(u64, u32)>>,
    /// The last file that had to be opened again to be read.
    reader: Option<(u32, File)>,
}

impl Journal {
    /// Begins a journal. What has the same number is replaced.
    pub fn begin(dir: &File, lineage: Lineage, roots: Vec<Root>, durable: bool) -> io::Result<Journal> {
        let dir = dir.try_clone()?;
        let (file, end) = begin_file(&dir, lineage, &roots, durable)?;
        let mut journal = Journal {
            dir,
            lineage,
            durable,
            roots,
            file,
            end,
            seen: None,
            tracked: Vec::new(),
            by_id: HashMap::new(),
            directories: HashSet::new(),
            keep: None,
            next_kept: 0,
            kept: HashMap::new(),
            reader: None,
        };
        journal.find_kept()?;
        journal.append(&[(Record::Restored { at: now() }, &[])])?;
        Ok(journal)
    }

    /// Goes on with a new journal, which continues this one: for a snapshot of this number, which is about to be
    /// written.
    pub fn next(&mut self, number: u64) -> io::Result<()> {
        self.next_to(number, Base::Own)
    }

    /// Goes on with a new journal of this number, which is greater than any before, and continues this one: what comes
    /// from now on is undone in going back to `base`.
    pub fn next_to(&mut self, number: u64, base: Base) -> io::Result<()> {
        let lineage = Lineage {
            number,
            base,
            continues: true,
            ..self.lineage
        };
        let (file, end) = begin_file(&self.dir, lineage, &self.roots, self.durable)?;
        (self.file, self.end, self.lineage) = (file, end, lineage);
        (self.seen, self.keep, self.next_kept, self.reader) = (None, None, 0, None);
        self.tracked.clear();
        self.by_id.clear();
        self.directories.clear();
        Ok(())
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.lineage.number
    }

    /// Puts everything that was written through the grants on the disk.
    pub fn sync_files(&self) {
        for root in self.roots.iter().filter_map(|r| r.dir.as_ref()) {
            let _ = rustix::fs::syncfs(root);
        }
    }

    /// Must a snapshot's files be on the disk before the snapshot?
    pub fn durable(&self) -> bool {
        self.durable
    }

    /// Writes records, one after another, at once.
    pub(super) fn append(&mut self, records: &[(Record, &[u8])]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (record, contents) in records {
            bytes.append(&mut record::encode(record, contents).map_err(io::Error::other)?);
        }
        let written = self
            .file
            .write_all_at(&bytes, self.end)
            .and_then(|()| match self.durable {
                true => Ok(rustix::fs::fdatasync(&self.file)?),
                false => Ok(()),
            });
        match written {
            Ok(()) => self.end += bytes.len() as u64,
            // What is half there must not be in front of the next record.
            Err(_) => self.file.set_len(self.end)?,
        }
        written
    }

    fn seen(&mut self) -> io::Result<&mut Seen> {
        if self.seen.is_none() {
            let file = files::open(&self.dir, &seen_name(self.lineage.number), true)?;
            file.set_len(0)?;
            self.seen = Some(Seen::new(file));
        }
        self.seen.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The index of an open file that is about to change; it is recorded if it wasn't. `place` finds a name of it, if
    /// the host remembers one. `None` for a file that has no name in a granted directory and none of the journals': it
    /// goes with the process, and the snapshot has its contents.
    pub fn track(
        &mut self,
        file: BorrowedFd<'_>,
        place: impl FnOnce() -> io::Result<Option<Name>>,
    ) -> io::Result<Option<u32>> {
        self.track_stat(&fstat(file)?, place)
    }

    fn track_stat(&mut self, stat: &Stat, place: impl FnOnce() -> io::Result<Option<Name>>) -> io::Result<Option<u32>> {
        let id = FileId::of(stat);
        if let Some(&index) = self.by_id.get(&id) {
            return Ok(Some(index));
        }
        if stat.st_nlink == 0 || !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
            return Ok(None);
        }
        let place = match self.kept.get(&id).and_then(|places| places.last()) {
            Some(&kept) if links(stat) <= self.own_links(id) => Err(kept),
            // What is kept goes when nobody goes back that far, so a name of its own is better.
            Some(&kept) => place()?.or_else(|| self.find_name(id)).ok_or(kept),
            None => match place()?.or_else(|| self.find_name(id)) {
                Some(name) => Ok(name),
                // Someone has moved it to where the program's files are not.
                None => return Ok(None),
            },
        };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let index = self.tracked.len() as u32;
        // Noted first: a record without its entry would look like others' change.
        self.seen()?.reserve(index)?;
        self.seen()?.done(index, size);
        let record = Record::File {
            index,
            place,
            id,
            size,
            attributes: Attributes::of(stat),
        };
        self.append(&[(record, &[])])?;
        self.add(Tracked {
            id,
            size,
            saved: Saved::default(),
            now: size,
            compared: false,
            new: false,
        });
        Ok(Some(index))
    }

    fn add(&mut self, tracked: Tracked) -> u32 {
        let index = self.tracked.len() as u32;
        self.by_id.insert(tracked.id, index);
        if let Some(seen) = &self.seen {
            seen.done(index, tracked.now);
        }
        self.tracked.push(tracked);
        index
    }

    /// The index of a file that is tracked.
    pub fn index_of(&self, id: FileId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// Was this file there at the snapshot, and longer than nothing? If not, nothing in it can need saving.
    pub fn needs_saving(&self, index: u32) -> bool {
        self.tracked.get(index as usize).is_some_and(|t| t.size > 0)
    }

    /// Bytes of a file are about to be overwritten.
    pub fn before_write(&mut self, index: u32, file: BorrowedFd<'_>, range: Range<u64>) -> io::Result<()> {
        self.save(index, file, range)?;
        self.begin_change(index);
        Ok(())
    }

    /// A file is about to get another size.
    pub fn before_resize(&mut self, index: u32, file: BorrowedFd<'_>, size: u64) -> io::Result<()> {
        self.save(index, file, size..u64::MAX)?;
        self.begin_change(index);
        Ok(())
    }

    /// A file is about to change in what was recorded when it was first tracked.
    pub fn begin_change(&self, index: u32) {
        if let Some(seen) = &self.seen {
            seen.begin(index);
        }
    }

    /// A file has been changed: `size` makes its size now from what it was.
    pub fn changed(&mut self, index: u32, file: BorrowedFd<'_>, size: impl FnOnce(u64) -> u64) {
        let (Some(seen), Some(tracked)) = (&self.seen, self.tracked.get_mut(index as usize)) else {
            return;
        };
        tracked.now = size(tracked.now);
        seen.done(index, tracked.now);
        if !tracked.compared {
            tracked.compared = true;
            // A server's clock may be another.
            if fstat(file).is_ok_and(|stat| changed_at(&stat) > now()) {
                seen.skew(index);
            }
        }
    }

    /// Saves what of a range was there at the snapshot and has not been saved.
    fn save(&mut self, index: u32, file: BorrowedFd<'_>, range: Range<u64>) -> io::Result<()> {
        let Some(tracked) = self.tracked.get(index as usize).filter(|t| t.size > 0) else {
            return Ok(());
        };
        let block = if self.durable { DURABLE_BLOCK } else { BLOCK };
        let start = range.start / block * block;
        let end = range
            .end
            .checked_next_multiple_of(block)
            .unwrap_or(u64::MAX)
            .min(tracked.size);
        for missing in tracked.saved.missing(start..end.max(start)) {
            self.save_part(index, file, missing)?;
        }
        Ok(())
    }

    fn save_part(&mut self, index: u32, file: BorrowedFd<'_>, part: Range<u64>) -> io::Result<()> {
        if self.reader.as_ref().is_none_or(|(of, _)| *of != index) {
            self.reader = Some((index, for_reading(file)?));
        }
        let mut at = part.start;
        while at < part.end {
            let end = match part.end - at > MOST_CONTENTS as u64 {
                true => self.save_large(index, at..part.end)?,
                false => self.save_small(index, at..part.end)?,
            };
            if let Some(tracked) = self.tracked.get_mut(index as usize) {
                tracked.saved.add(at..end);
            }
            at = end;
        }
        Ok(())
    }

    /// Saves the beginning of a long range: a hole, or data up to the next one. Returns where that ends.
    fn save_large(&mut self, index: u32, part: Range<u64>) -> io::Result<u64> {
        let Some((_, reader)) = &self.reader else {
            return Ok(part.end);
        };
        let seek = |from| rustix::fs::seek(reader, from).ok();
        let data = match rustix::fs::seek(reader, SeekFrom::Data(part.start)) {
            Ok(at) => at.min(part.end),
            Err(rustix::io::Errno::NXIO) => part.end,
            // A file system that doesn't tell has none.
            Err(_) => part.start,
        };
        if data > part.start {
            let (at, len) = (part.start, data - part.start);
            self.append(&[(Record::Hole { index, at, len }, &[])])?;
            return Ok(data);
        }
        let end = seek(SeekFrom::Hole(part.start))
            .unwrap_or(part.end)
            .clamp(part.start + 1, part.end);
        if end - part.start < COPIED {
            return self.save_small(index, part.start..end.min(part.start + MOST_CONTENTS as u64));
        }
        let reader = reader.try_clone()?;
        let (kept, copy) = self.new_kept()?;
        let len = copy_range(&reader, part.start, &copy, 0, end - part.start)?;
        self.sync_kept(&copy)?;
        let at = part.start;
        self.append(&[(Record::Copy { index, at, len, kept }, &[])])?;
        Ok(end)
    }

    fn save_small(&mut self, index: u32, part: Range<u64>) -> io::Result<u64> {
        let Some((_, reader)) = &self.reader else {
            return Ok(part.end);
        };
        let mut bytes = vec![0; (part.end - part.start) as usize];
        // Where it is shorter than it was, someone else has cut it: zeros are what would be there.
        read_some(reader, &mut bytes, part.start)?;
        let at = part.start;
        match bytes.iter().all(|&b| b == 0) {
            true => {
                let len = bytes.len() as u64;
                self.append(&[(Record::Hole { index, at, len }, &[])])?;
            }
            false => self.append(&[(Record::Data { index, at }, &bytes)])?,
        }
        Ok(part.end)
    }

    /// The entries of a directory are about to change.
    fn directory(&mut self, parent: &File, name: Name) -> io::Result<()> {
        let stat = fstat(parent)?;
        if self.directories.contains(&FileId::of(&stat)) {
            return Ok(());
        }
        let attributes = Attributes::of(&stat);
        self.append(&[(Record::Directory { name, attributes }, &[])])?;
        self.directories.insert(FileId::of(&stat));
        Ok(())
    }

    /// The attributes of a directory are about to change.
    pub fn before_directory(&mut self, dir: &File, name: Name) -> io::Result<()> {
        self.directory(dir, name)
    }

    fn ticket(&self) -> Ticket {
        Ticket {
            end: self.end,
            kept: None,
        }
    }

    /// A name that nothing has is about to be taken, in the open directory `parent`.
    pub fn before_create(&mut self, parent: &File, name: &Name, kind: Kind) -> io::Result<Ticket> {
        self.directory(parent, name.parent())?;
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
    pub fn born(&mut self, name: &Name, file: BorrowedFd<'_>) -> io::Result<u32> {
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
    pub fn made(&mut self, dir: &File) {
        if let Ok(stat) = fstat(dir) {
            self.directories.insert(FileId::of(&stat));
        }
    }

    /// A name is about to go.
    pub fn before_remove(&mut self, parent: &File, name: &Name, leaving: &Leaving<'_>) -> io::Result<Ticket> {
        self.directory(parent, name.parent())?;
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
        self.directory(from.0, from.1.parent())?;
        self.directory(to.0, to.1.parent())?;
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

    /// What was recorded was not done.
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

/// How many names a file has. (The field's type differs between architectures, hence the cast.)
#[allow(clippy::unnecessary_cast)]
pub(super) fn links(stat: &Stat) -> u64 {
    stat.st_nlink as u64
}

/// When a file was last changed, attributes included, in nanoseconds since 1970.
#[allow(clippy::unnecessary_cast)]
pub(super) fn changed_at(stat: &Stat) -> u64 {
    u64::try_from(stat.st_ctime as i64)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(stat.st_ctime_nsec as u64)
}

/// Begins a journal's file, and removes what another of its number has kept.
fn begin_file(dir: &File, lineage: Lineage, roots: &[Root], durable: bool) -> io::Result<(File, u64)> {
    let id = |root: &Root| {
        let stat = root.dir.as_ref().and_then(|dir| fstat(dir).ok())?;
        Some(FileId::of(&stat))
    };
    let header = Header {
        module: lineage.module,
        base: lineage.base,
        continues: lineage.continues,
        grants: roots.iter().map(|r| (r.guest.clone(), id(r))).collect(),
    };
    files::remove_keep(dir, &keep_name(lineage.number))?;
    files::remove(dir, &seen_name(lineage.number))?;
    // Aside first: a journal of this name that is empty already is never without its header.
    let temporary = format!(".dunlin-{}-undo.tmp", std::process::id());
    let file = files::open(dir, &temporary, true)?;
    file.set_len(0)?;
    let bytes = record::beginning(&header).map_err(io::Error::other)?;
    let begun = file.write_all_at(&bytes, 0);
    let begun = begun.and_then(|()| {
        Ok(rustix::fs::renameat(
            dir,
            &*temporary,
            dir,
            journal_name(lineage.number),
        )?)
    });
    if let Err(e) = begun {
        let _ = files::remove(dir, &temporary);
        return Err(e);
    }
    if durable {
        rustix::fs::fsync(&file)?;
        rustix::fs::fsync(dir.as_fd())?;
    }
    Ok((file, bytes.len() as u64))
}
