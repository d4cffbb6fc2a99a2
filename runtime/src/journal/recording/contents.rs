//! Bytes of files: those that the program is about to overwrite or cut off are saved, once for each snapshot.

use super::writer::{Journal, changed_at};
use crate::journal::files::{copy_range, for_reading, read_some};
use crate::journal::record::{MOST_CONTENTS, Record};
use crate::journal::seen::now;
use rustix::fs::{SeekFrom, fstat};
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

/// What is saved at once is a multiple of this, in bytes; with `--durable`, where each time costs a `fsync`, of
/// [`DURABLE_BLOCK`].
const BLOCK: u64 = 4 << 10;

/// See [`BLOCK`].
const DURABLE_BLOCK: u64 = 64 << 10;

/// From this length on, in bytes, contents are kept in a file of their own, which shares them where the file system
/// can.
const COPIED: u64 = 8 << 20;

impl Journal {
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
}
