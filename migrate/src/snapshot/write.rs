//! Writes a snapshot as a stream: no copy of the memories is made.

use super::contents::{Contents, NoContents, copy_contents};
use super::header::{self, Section, flag, id};
use super::pages::{PAGE_SIZE, PageIndex};
use super::{MAX_FILES, MAX_INDEX, MAX_STATE, SnapshotError};
use crate::state::State;
use std::io::Write;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteStats {
    /// Length of the snapshot in bytes.
    pub bytes: u64,
    /// Length of the encoded state in bytes.
    pub state_bytes: u64,
    /// Pages stored.
    pub stored_pages: u64,
    /// Pages left out because they are zero.
    pub zero_pages: u64,
    /// Length of the carried files' contents in bytes.
    pub contents: u64,
}

/// Writes a snapshot of a program at rest. `memories` are the bytes of its linear memories.
///
/// Reads the memories twice: once for zero pages and checksums, once to write them, a run of pages per `write` call.
pub fn write(out: &mut impl Write, state: &State, memories: &[&[u8]]) -> Result<WriteStats, SnapshotError> {
    write_sparse(out, state, memories, &|_, _| true)
}

/// As [`write()`], for large memories of which little was touched: where `may_be_used(memory index, page)` is false, the page is
/// taken for zero without being read. The result is the same if that is true.
pub fn write_sparse(
    out: &mut impl Write,
    state: &State,
    memories: &[&[u8]],
    may_be_used: &dyn Fn(u32, u64) -> bool,
) -> Result<WriteStats, SnapshotError> {
    write_with(out, state, memories, may_be_used, &NoContents)
}

/// As [`write_sparse`], for a program with carried files: `contents` has what the state says is stored, and is read while it is
/// written.
pub fn write_with(
    out: &mut impl Write,
    state: &State,
    memories: &[&[u8]],
    may_be_used: &dyn Fn(u32, u64) -> bool,
    contents: &dyn Contents,
) -> Result<WriteStats, SnapshotError> {
    check_sizes(state, memories)?;
    let total_pages: u64 = state.memories.iter().map(|m| m.pages).sum();
    let index = PageIndex::scan(memories, may_be_used);
    let state_bytes = postcard::to_stdvec(state).map_err(SnapshotError::State)?;
    let index_bytes = index.encode();
    // Most programs have none, and no section for them.
    let exceptions = if state.exceptions.is_empty() {
        None
    } else {
        Some(postcard::to_stdvec(&state.exceptions).map_err(SnapshotError::State)?)
    };
    let exceptions_len = exceptions.as_ref().map_or(0, Vec::len);
    limit("state", &state_bytes, MAX_STATE)?;
    limit("pages", &index_bytes, MAX_INDEX)?;
    limit("exceptions", exceptions.as_deref().unwrap_or_default(), MAX_STATE)?;

    // A program without files to speak of has no sections for them.
    let files = &state.wasi.files;
    let files_bytes = match files.is_empty() {
        true => None,
        false => Some(postcard::to_stdvec(files).map_err(SnapshotError::FilesCode)?),
    };
    if let Some(bytes) = &files_bytes {
        limit("files", bytes, MAX_FILES)?;
    }

    let count = 3 + usize::from(exceptions.is_some()) + if files_bytes.is_some() { 2 } else { 0 };
    let state_at = header::HEADER_LEN + count * header::ENTRY_LEN;
    let exceptions_at = (state_at + state_bytes.len()).next_multiple_of(16);
    let index_at = (exceptions_at + exceptions_len).next_multiple_of(16);
    let index_end = index_at + index_bytes.len();
    // Without a stored page there is nothing to align.
    let data_at = if index.stored() == 0 {
        index_end
    } else {
        index_end.next_multiple_of(PAGE_SIZE)
    };
    let data_len = index.stored() * PAGE_SIZE as u64;
    let section = |id, bytes: &[u8], at: usize| {
        let (crc, len) = (crc32fast::hash(bytes), bytes.len() as u64);
        Section {
            id,
            version: 1,
            flags: 0,
            crc,
            offset: at as u64,
            len,
        }
    };
    let mut sections = vec![section(id::STATE, &state_bytes, state_at)];
    sections.extend(exceptions.as_ref().map(|bytes| section(id::EXCEPTIONS, bytes, exceptions_at)));
    sections.extend([
        section(id::PAGES, &index_bytes, index_at),
        Section {
            id: id::DATA,
            version: 1,
            flags: flag::CHECKED_ELSEWHERE,
            crc: 0,
            offset: data_at as u64,
            len: data_len,
        },
    ]);
    let mut bytes = data_at as u64 + data_len;
    if let Some(files_bytes) = &files_bytes {
        // Behind the data, of which the pages are aligned.
        let files_at = usize::try_from(bytes).map_err(|_| SnapshotError::Damaged("it is too large"))?;
        sections.push(section(id::FILES, files_bytes, files_at));
        bytes += files_bytes.len() as u64;
        sections.push(Section {
            id: id::CONTENTS,
            version: 1,
            flags: flag::CHECKED_ELSEWHERE,
            crc: 0,
            offset: bytes,
            len: files.stored_len(),
        });
        bytes = bytes.saturating_add(files.stored_len());
    }
    let mut head = header::encode(state.module, bytes, &sections);
    head.reserve_exact(data_at - head.len());
    head.extend_from_slice(&state_bytes);
    head.resize(exceptions_at, 0);
    head.extend_from_slice(exceptions.as_deref().unwrap_or_default());
    head.resize(index_at, 0);
    head.extend_from_slice(&index_bytes);
    head.resize(data_at, 0);

    let failed = || SnapshotError::io("write the snapshot");
    out.write_all(&head).map_err(failed())?;
    for run in index.runs(0) {
        let start = run.first as usize * PAGE_SIZE;
        let pages = &memories[run.memory as usize][start..start + run.len() as usize];
        out.write_all(pages).map_err(failed())?;
    }
    if let Some(files_bytes) = &files_bytes {
        out.write_all(files_bytes).map_err(failed())?;
        for content in files.contents.iter().filter(|c| c.stored) {
            copy_contents(contents, content, out)?;
        }
    }
    out.flush().map_err(failed())?;
    let stored_pages = index.stored();
    Ok(WriteStats {
        bytes,
        state_bytes: state_bytes.len() as u64,
        stored_pages,
        zero_pages: total_pages - stored_pages,
        contents: files.stored_len(),
    })
}

fn check_sizes(state: &State, memories: &[&[u8]]) -> Result<(), SnapshotError> {
    if state.memories.len() != memories.len() {
        let memory = state.memories.len().min(memories.len());
        let expected = state
            .memories
            .get(memory)
            .map_or(0, |m| m.pages.saturating_mul(PAGE_SIZE as u64));
        return Err(SnapshotError::MemorySize {
            memory,
            expected,
            found: memories.get(memory).map_or(0, |m| m.len() as u64),
        });
    }
    for (memory, (state, bytes)) in state.memories.iter().zip(memories).enumerate() {
        let (expected, found) = (state.pages.saturating_mul(PAGE_SIZE as u64), bytes.len() as u64);
        if expected != found {
            return Err(SnapshotError::MemorySize { memory, expected, found });
        }
    }
    Ok(())
}

fn limit(section: &'static str, bytes: &[u8], limit: u64) -> Result<(), SnapshotError> {
    let len = bytes.len() as u64;
    if len > limit {
        Err(SnapshotError::TooLarge { section, len, limit })
    } else {
        Ok(())
    }
}
