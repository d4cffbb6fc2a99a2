//! The snapshot: the uniform state as a file.
//!
//! ```text
//!   0      Header, 64 bytes, readable alone
//!            0   magic "DUNLIN\0S"          8   format version u32       12  number of sections u32
//!            16  module hash, 32 bytes      48  file length u64
//!            56  CRC-32 of the table u32    60  CRC-32 of bytes 0..60 u32
//!   64     section table, 32 bytes per section, ascending by offset
//!            0   id u32    4   version u32    8   flags u32    12  CRC-32 u32    16  offset u64    24  length u64
//!   ...    section 1 `state`: postcard encoding of [`crate::state::State`]
//!   ...    section 2 `pages`: which pages of which memory are stored, in runs; a CRC-32 of each
//!   ...    section 6 `exceptions`, if there are any: postcard encoding of [`crate::state::State::exceptions`]
//!   64 KiB section 3 `data`: the stored pages, in the order of the index; aligned to 64 KiB, so that it can be mapped with
//!          host pages of 4, 16 and 64 KiB
//!   ...    section 4 `files`: postcard encoding of [`crate::state::files::Files`]; only if there is something to say
//!            (version 2; version 1 has contents whole instead of chunks, see [`crate::state::chunks`])
//!   ...    section 5 `contents`: the chunks of carried contents one after another, in the order of `files`, those that are stored
//! ```
//!
//! An incremental snapshot has two more sections before the data: 16 `bases`, the pages that are taken from earlier
//! snapshots in the same directory, and 17 `digests` (which readers may skip), 16 bytes for each page, by which the
//! next one finds what has changed (version 2: XXH3; version 1, of another function, is not used any more).
//!
//! All numbers are little-endian; bytes between sections are zero. A page that holds only zeros is not stored. Equal
//! states give equal bytes: nothing else (time, host, path, architecture) is written.
//!
//! Flags: bit 0: readers that don't know the section may skip it (any other unknown section makes the file unreadable).
//! Bit 1: the section's own CRC-32 is 0, another section has finer ones (`data`: `pages` has one per page; `contents`:
//! `files` has the SHA-256 of each chunk). The format version changes when this layout does; a section's version when
//! its encoding does. Readers know every older version.
//!
//! A reader treats every byte as hostile; see [`Snapshot::open`] for what it has checked. What the state *says* is
//! checked against a module by [`crate::validate`].

mod atomic;
mod bases;
mod contents;
mod digest;
mod fill;
mod header;
mod increment;
mod origin;
mod pages;
mod read;
mod sections;
mod write;

#[cfg(test)]
mod carried_tests;
#[cfg(test)]
mod increment_tests;
#[cfg(test)]
mod sparse_tests;
#[cfg(test)]
mod tests;

pub use atomic::{atomic_write, create_unsynced, replace};
pub use bases::BaseFile;
pub use contents::{Stored, copy_chunk, write_contents};
pub use fill::ReadPages;
pub use header::{Header, Section, VERSION};
pub use increment::Earlier;
pub use origin::Origin;
pub use pages::PageRun;
pub use read::{Snapshot, header_only, open_file};
pub use sections::SectionKind;
pub use write::{SnapshotSink, WriteStats, write};

pub use crate::transfer::{Contents, FirstOf, NoContents, PAGE_SIZE};

use crate::state::files::{ContentHash, FilesError};
use std::io;
use std::path::PathBuf;

/// Why a snapshot can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file begins otherwise.
    #[error("this is not a Dunlin snapshot")]
    NotASnapshot,
    /// Written by a newer Dunlin.
    #[error("the snapshot has {what} version {found}, this Dunlin reads up to {known}: use a newer one")]
    Version {
        /// Of what: the format, or a section.
        what: &'static str,
        /// The file's version.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// It has a section that must not be skipped and isn't known.
    #[error("the snapshot has an unknown section ({0}): use a newer Dunlin")]
    UnknownSection(u32),
    /// The file's length isn't what the header says.
    #[error("the snapshot is {found} bytes long but must be {expected}: it is cut off, or something was appended")]
    Length {
        /// By the header.
        expected: u64,
        /// By the file.
        found: u64,
    },
    /// A checksum is wrong.
    #[error("the snapshot is damaged: wrong checksum of the {0}")]
    Checksum(&'static str),
    /// A page's checksum is wrong.
    #[error("the snapshot is damaged: wrong checksum of page {page} of memory {memory}")]
    PageChecksum {
        /// Memory index.
        memory: u32,
        /// Page number.
        page: u64,
    },
    /// Something contradicts itself or the format.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// A section is larger than any reader accepts.
    #[error("the snapshot's {section} section would be {len} bytes, more than the limit of {limit}")]
    TooLarge {
        /// The section's name.
        section: &'static str,
        /// The section's length in bytes.
        len: u64,
        /// The greatest length.
        limit: u64,
    },
    /// A section of a sparse file consists of holes: it could claim any amount of memory and take none on the disk.
    #[error(
        "most of the snapshot's {section} section is holes in a sparse file; if you trust it, copy it with `cp --sparse=never` and use the copy"
    )]
    Sparse {
        /// The section's name.
        section: &'static str,
    },
    /// What was written can't be read again, so it would have been of no use.
    #[error("the snapshot could not be used: {0}")]
    Unusable(String),
    /// Nobody wants it any more.
    #[error("whoever asked for the snapshot is gone")]
    GivenUp,
    /// The state doesn't decode or encode.
    #[error("the snapshot's state section is damaged: {0}")]
    State(postcard::Error),
    /// The list of carried files doesn't decode or encode.
    #[error("the snapshot's files section is damaged: {0}")]
    FilesCode(postcard::Error),
    /// The list of carried files says what can't be.
    #[error("the snapshot is damaged: {0}")]
    Files(#[from] FilesError),
    /// A chunk of a carried file is not what the snapshot says.
    #[error("the contents {hash:.16} of a carried file can't be had: {what}")]
    Content {
        /// Their hash by the snapshot.
        hash: ContentHash,
        /// What is wrong.
        what: &'static str,
    },
    /// The bytes of a memory that are to be written aren't as many as the state says.
    #[error("memory {memory} has {found} bytes, its state says {expected}")]
    MemorySize {
        /// Memory index.
        memory: usize,
        /// Bytes by the state.
        expected: u64,
        /// Bytes given.
        found: u64,
    },
    /// A buffer for pages has the wrong size.
    #[error("the buffer for {pages} pages has {len} bytes")]
    BufferSize {
        /// Pages to be read or checked.
        pages: u64,
        /// Length of the buffer.
        len: usize,
    },
    /// An earlier snapshot that pages are taken from can't be used.
    #[error("the snapshot needs {name:?}, which it was made from: {why}")]
    Base {
        /// Its file name, in the same directory.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The path of a snapshot names something else than a file.
    #[error("{0} is not a regular file: a snapshot would replace it")]
    NotAFile(PathBuf),
    /// Reading or writing failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// The attempt, as in "cannot {doing}".
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl SnapshotError {
    /// Tells whether the file (or one that it needs) is damaged or missing, so that an earlier one may do. Otherwise it
    /// is sound, but this Dunlin can't use it.
    pub fn is_damage(&self) -> bool {
        !matches!(
            self,
            SnapshotError::Version { .. } | SnapshotError::UnknownSection(_) | SnapshotError::NotAFile(_)
        )
    }

    /// An [`SnapshotError::Io`]: "cannot {doing}: ...".
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> SnapshotError {
        let doing = doing.into();
        move |source| SnapshotError::Io { doing, source }
    }
}
