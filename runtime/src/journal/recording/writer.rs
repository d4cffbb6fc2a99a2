//! The journal that is being written: its file, and the files that it knows.

use super::saved::Saved;
use crate::journal::Root;
use crate::journal::files::{self, journal_name, keep_name, seen_name};
use crate::journal::record::{self, Attributes, Base, FileId, Header, Name, Record};
use crate::journal::seen::{Seen, now};
use dunlin_format::module::ModuleHash;
use rustix::fs::{Stat, fstat};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

/// Where a journal stands among others, and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The program whose files it undoes.
    pub module: ModuleHash,
    /// Its number: journals are undone from the greatest down. Of [`Base::Own`] it is the snapshot's.
    pub number: u64,
    /// What the files are as at once all of it is undone.
    pub base: Base,
    /// Does it begin where the journal before it ends?
    pub continues: bool,
}

/// A file that the program has changed since the snapshot.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) id: FileId,
    /// Its size at the snapshot; what lies beyond needs no saving. 0 for a file that is new since.
    pub(super) size: u64,
    pub(super) saved: Saved,
    /// Its size as the program left it, if nobody else changes it.
    pub(super) now: u64,
    /// The host's clock was compared with the file system's.
    pub(super) compared: bool,
    pub(super) new: bool,
}

/// The journal that is being written.
#[derive(Debug)]
pub struct Journal {
    pub(super) dir: File,
    pub(super) lineage: Lineage,
    pub(super) durable: bool,
    pub(super) roots: Vec<Root>,
    pub(super) file: File,
    pub(super) end: u64,
    pub(super) seen: Option<Seen>,
    pub(super) tracked: Vec<Tracked>,
    pub(super) by_id: HashMap<FileId, u32>,
    pub(super) directories: HashSet<FileId>,
    pub(super) keep: Option<File>,
    pub(super) next_kept: u32,
    /// Files that have another name in `.keep/` of this journal or an earlier one: journal's number and name there.
    pub(super) kept: HashMap<FileId, Vec<(u64, u32)>>,
    /// The last file that had to be opened again to be read.
    pub(super) reader: Option<(u32, File)>,
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

    /// The journal's number.
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

    pub(super) fn seen(&mut self) -> io::Result<&mut Seen> {
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

    pub(super) fn track_stat(
        &mut self,
        stat: &Stat,
        place: impl FnOnce() -> io::Result<Option<Name>>,
    ) -> io::Result<Option<u32>> {
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

    pub(super) fn add(&mut self, tracked: Tracked) -> u32 {
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
}

/// How many names a file has. (The field's type differs between architectures, hence the cast.)
#[allow(clippy::unnecessary_cast)]
pub(super) fn links(stat: &Stat) -> u64 {
    stat.st_nlink as u64
}

/// When a file was last changed, attributes included, in nanoseconds since 1970.
#[allow(clippy::unnecessary_cast)]
pub(in crate::journal) fn changed_at(stat: &Stat) -> u64 {
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
