//! `going-back`: there while files are being taken back. It tells whoever goes on after a kill until when changes were
//! its own, and what was made anew, so that what others have changed meanwhile is still noticed.
//!
//! ```text
//!   0   when the last step was over, u64 nanoseconds since 1970
//!   8   when the step began that is under way, or 0
//!  16   pairs of files: device and inode number as the journals know it, and as it is now; u64 each
//! ```

use crate::journal::files;
use crate::journal::record::FileId;
use crate::journal::seen::now;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Its name in the journals' directory.
pub(super) const GOING_BACK: &str = "going-back";

/// How long a step may have gone on, in nanoseconds, that was under way when going back was killed; what takes longer
/// says so in between. Others' changes within that time may be taken for our own.
const LONGEST: u64 = 2_000_000_000;

const HEAD: u64 = 16;

/// Length of a pair in bytes.
const PAIR: usize = 32;

/// The file, while files are being taken back.
#[derive(Debug)]
pub(super) struct Marker {
    /// The file, open for writing.
    pub file: File,
    end: u64,
}

/// What a going back that was interrupted has done.
#[derive(Debug, Default)]
pub(super) struct Interrupted {
    /// Until when changes were its own, in nanoseconds since 1970.
    pub until: u64,
    /// What it made anew, and which file that is.
    pub recreated: HashMap<FileId, FileId>,
}

impl Marker {
    /// Of a going back that was begun before. One that isn't whole was put there before anything was taken back.
    pub(super) fn find(dir: &File) -> io::Result<Option<(Marker, Interrupted)>> {
        let file = match files::open(dir, GOING_BACK, false) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0)?;
        let Some((head, rest)) = bytes.split_at_checked(HEAD as usize) else {
            return Ok(None);
        };
        let word = |bytes: &[u8], n: usize| {
            let at = bytes.get(8 * n..8 * n + 8).and_then(|b| b.try_into().ok());
            u64::from_le_bytes(at.unwrap_or_default())
        };
        let pairs = rest.as_chunks::<PAIR>().0;
        let id = |dev, ino| FileId { dev, ino };
        let recreated = pairs
            .iter()
            .map(|p| (id(word(p, 0), word(p, 1)), id(word(p, 2), word(p, 3))));
        let until = match word(head, 1) {
            0 => word(head, 0),
            begun => begun.saturating_add(LONGEST),
        };
        let left = Interrupted {
            until,
            recreated: recreated.collect(),
        };
        let end = HEAD + (pairs.len() * PAIR) as u64;
        Ok(Some((Marker { file, end }, left)))
    }

    /// Begins: from now on the files are between two moments.
    pub(super) fn begin(dir: &File) -> io::Result<Marker> {
        let file = files::open(dir, GOING_BACK, true)?;
        file.set_len(0)?;
        let marker = Marker { file, end: HEAD };
        marker.over()?;
        Ok(marker)
    }

    /// Notes that a step begins or goes on: until it is over, changes are its own.
    pub(super) fn busy(&self) -> io::Result<()> {
        self.file.write_all_at(&now().to_le_bytes(), 8)
    }

    /// Notes that all steps that were begun are over: later changes are others'.
    pub(super) fn over(&self) -> io::Result<()> {
        let mut bytes = [0; HEAD as usize];
        bytes[..8].copy_from_slice(&now().to_le_bytes());
        self.file.write_all_at(&bytes, 0)
    }

    /// Notes that what the journals know as `id` was made anew and is this file now.
    pub(super) fn note_recreated(&mut self, id: FileId, is: FileId) -> io::Result<()> {
        let mut pair = [0; PAIR];
        for (n, word) in [id.dev, id.ino, is.dev, is.ino].into_iter().enumerate() {
            pair[8 * n..8 * n + 8].copy_from_slice(&word.to_le_bytes());
        }
        self.file.write_all_at(&pair, self.end)?;
        self.end += PAIR as u64;
        self.busy()
    }
}
