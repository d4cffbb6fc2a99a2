//! What a snapshot is read from, and how much of what it claims is read: a sparse file can claim any number of zeros.

use super::header::Section;
use super::{SectionKind, SnapshotError};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};

/// Bytes of a sparse file's `state` section that may be holes: zeros that take no room on the disk, but would in
/// memory, many times over.
const MAX_HOLES_OF_STATE: u64 = 1 << 20;
/// The same, of other sections.
const MAX_HOLES: u64 = 64 << 10;
/// Unit in which holes are found: the block of most file systems.
const BLOCK: usize = 4096;

/// The place that a snapshot is read from: a file, or bytes in memory.
pub trait Origin: Read + Seek {
    /// Tells whether it takes less room than its length says. Then its zeros cost whoever made it nothing, and are not
    /// believed in any number.
    fn is_sparse(&self) -> bool;

    /// Fills a buffer with the bytes at an offset, wherever reading stands.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Origin for File {
    fn is_sparse(&self) -> bool {
        self.metadata().is_ok_and(|m| m.blocks().saturating_mul(512) < m.size())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl Origin for &File {
    fn is_sparse(&self) -> bool {
        Origin::is_sparse(*self)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        Origin::read_at(*self, buffer, offset)
    }
}

impl<T: AsRef<[u8]>> Origin for io::Cursor<T> {
    fn is_sparse(&self) -> bool {
        false
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let range = || {
            let start = usize::try_from(offset).ok()?;
            Some(start..start.checked_add(buffer.len())?)
        };
        let bytes = range().and_then(|range| self.get_ref().as_ref().get(range));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// The bytes of a section, checked against its checksum.
pub(super) fn load(reader: &mut impl Origin, section: &Section, kind: SectionKind) -> Result<Vec<u8>, SnapshotError> {
    if section.len > kind.max_len() {
        return Err(SnapshotError::TooLarge {
            section: kind.name(),
            len: section.len,
            limit: kind.max_len(),
        });
    }
    let failed = || SnapshotError::io("read the snapshot");
    reader.seek(SeekFrom::Start(section.offset)).map_err(failed())?;
    let most = match kind {
        SectionKind::State => MAX_HOLES_OF_STATE,
        _ => MAX_HOLES,
    };
    let holes = reader.is_sparse().then_some(most);
    let bytes = read_dense(&mut reader.take(section.len), holes).map_err(failed())?;
    let bytes = bytes.ok_or(SnapshotError::Sparse { section: kind.name() })?;
    if bytes.len() as u64 != section.len || crc32fast::hash(&bytes) != section.crc {
        return Err(SnapshotError::Checksum(kind.title()));
    }
    Ok(bytes)
}

/// Reads all there is, block by block: a length that is only claimed costs nothing. `None` if more bytes than `holes`
/// allows lie in blocks of zeros.
fn read_dense(reader: &mut impl Read, holes: Option<u64>) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let Some(most) = holes else {
        return reader.read_to_end(&mut bytes).map(|_| Some(bytes));
    };
    let mut zeros = 0;
    loop {
        let before = bytes.len();
        if reader.by_ref().take(BLOCK as u64).read_to_end(&mut bytes)? == 0 {
            return Ok(Some(bytes));
        }
        let block = &bytes[before..];
        if block.iter().all(|&b| b == 0) {
            zeros += block.len() as u64;
        }
        if zeros > most {
            return Ok(None);
        }
    }
}
