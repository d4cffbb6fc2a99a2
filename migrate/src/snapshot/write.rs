//! Writes a snapshot as a stream: no copy of the memories is made.

use super::contents::copy_chunk;
use super::header::{self, Section, flag};
use super::increment::{Earlier, Plan};
use super::pages::PageIndex;
use super::{NoContents, PAGE_SIZE, SectionKind, SnapshotError};
use crate::state::State;
use crate::state::files::Files;
use crate::transfer::{AtRest, MemoryAtRest, Sink};
use serde::{Deserialize, Serialize};
use std::io::Write;

/// Sizes of a snapshot that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteStats {
    /// Length of the snapshot in bytes.
    pub bytes: u64,
    /// Length of the encoded state in bytes.
    pub state_bytes: u64,
    /// Number of pages stored.
    pub stored_pages: u64,
    /// Number of pages taken from earlier snapshots.
    pub base_pages: u64,
    /// Number of pages left out because they are zero.
    pub zero_pages: u64,
    /// Length of the carried files' contents that are stored, in bytes.
    pub contents: u64,
}

/// A snapshot's bytes as a [`Sink`]: written as a stream, without a copy of the memories.
///
/// Reads the memories twice: once for zero pages and checksums, once to write them, a run of pages per `write` call.
/// Contents are read while they are written.
#[derive(Debug)]
pub struct SnapshotSink<'a, W> {
    out: W,
    earlier: Option<&'a Earlier>,
    digests: bool,
}

impl<W: Write> SnapshotSink<'static, W> {
    /// A snapshot that needs no other.
    pub fn whole(out: W) -> SnapshotSink<'static, W> {
        SnapshotSink {
            out,
            earlier: None,
            digests: false,
        }
    }
}

impl<'a, W: Write> SnapshotSink<'a, W> {
    /// A snapshot that takes pages and carried contents from `earlier` that are there already, and of which a later one
    /// can do the same.
    pub fn incremental(out: W, earlier: &'a Earlier) -> SnapshotSink<'a, W> {
        SnapshotSink {
            out,
            earlier: Some(earlier),
            digests: true,
        }
    }

    /// As [`SnapshotSink::incremental`], the last one: none can build upon it.
    pub fn last(out: W, earlier: &'a Earlier) -> SnapshotSink<'a, W> {
        SnapshotSink {
            out,
            earlier: Some(earlier),
            digests: false,
        }
    }
}

impl<W: Write> Sink for SnapshotSink<'_, W> {
    type Taken = WriteStats;
    type Error = SnapshotError;

    fn take(&mut self, program: &AtRest<'_>) -> Result<WriteStats, SnapshotError> {
        take(&mut self.out, self.earlier, self.digests, program)
    }
}

/// One function for all that is written to: it is large.
fn take(
    out: &mut dyn Write,
    earlier: Option<&Earlier>,
    digests: bool,
    program: &AtRest<'_>,
) -> Result<WriteStats, SnapshotError> {
    let AtRest { state, memories, .. } = *program;
    check_sizes(state, memories)?;
    let Some(earlier) = earlier else {
        let plan = Plan {
            index: PageIndex::scan(memories),
            ..Plan::default()
        };
        return write_planned(out, program, &state.wasi.files, &plan, &[]);
    };
    let mut files = state.wasi.files.clone();
    let plan = Plan::new(memories, earlier, &mut files);
    let mut extra = Vec::new();
    if !plan.bases.files.is_empty() {
        extra.push(Extra::new(SectionKind::Bases, 0, plan.bases.encode())?);
    }
    if digests {
        let digests = plan.digests.iter().flat_map(|d| d.to_le_bytes()).collect();
        extra.push(Extra::new(SectionKind::Digests, flag::OPTIONAL, digests)?);
    }
    write_planned(out, program, &files, &plan, &extra)
}

/// Writes a snapshot of a program without carried contents.
pub fn write(out: &mut impl Write, state: &State, memories: &[&[u8]]) -> Result<WriteStats, SnapshotError> {
    let memories: Vec<_> = memories.iter().map(|bytes| MemoryAtRest::new(bytes)).collect();
    SnapshotSink::whole(out).take(&AtRest {
        state,
        memories: &memories,
        contents: &NoContents,
    })
}

/// A section that only some snapshots have. It comes before the pages.
struct Extra {
    kind: SectionKind,
    flags: u32,
    bytes: Vec<u8>,
}

impl Extra {
    fn new(kind: SectionKind, flags: u32, bytes: Vec<u8>) -> Result<Extra, SnapshotError> {
        limit(kind, &bytes)?;
        Ok(Extra { kind, flags, bytes })
    }
}

/// Writes what was planned.
fn write_planned(
    out: &mut dyn Write,
    program: &AtRest<'_>,
    files: &Files,
    plan: &Plan,
    extra: &[Extra],
) -> Result<WriteStats, SnapshotError> {
    let AtRest {
        state,
        memories,
        contents,
    } = *program;
    let total_pages: u64 = state.memories.iter().map(|m| m.pages).sum();
    let index = &plan.index;
    let plain = |kind, bytes| Extra::new(kind, 0, bytes);
    let state_bytes = postcard::to_stdvec(state).map_err(SnapshotError::State)?;
    let state_len = state_bytes.len() as u64;
    let mut in_head = vec![
        plain(SectionKind::State, state_bytes)?,
        plain(SectionKind::Pages, index.encode())?,
    ];
    // Most programs have none, and no section for them.
    if !state.exceptions.is_empty() {
        let bytes = postcard::to_stdvec(&state.exceptions).map_err(SnapshotError::State)?;
        in_head.push(plain(SectionKind::Exceptions, bytes)?);
    }
    // A program without files to speak of has no sections for them.
    let files_bytes = match files.is_empty() {
        true => None,
        false => Some(postcard::to_stdvec(files).map_err(SnapshotError::FilesCode)?),
    };
    if let Some(bytes) = &files_bytes {
        limit(SectionKind::Files, bytes)?;
    }

    let count = in_head.len() + extra.len() + 1 + if files_bytes.is_some() { 2 } else { 0 };
    let mut sections = Vec::with_capacity(count);
    let mut end = header::HEADER_LEN + count * header::ENTRY_LEN;
    for part in in_head.iter().chain(extra) {
        let at = end.next_multiple_of(16);
        end = at + part.bytes.len();
        sections.push(section(part.kind, part.flags, &part.bytes, at as u64));
    }
    // Without a stored page there is nothing to align.
    let data_at = if index.stored() == 0 {
        end
    } else {
        end.next_multiple_of(PAGE_SIZE)
    };
    let data_len = index.stored() * PAGE_SIZE as u64;
    sections.push(checked_elsewhere(SectionKind::Data, data_at as u64, data_len));
    let mut bytes = data_at as u64 + data_len;
    if let Some(files_bytes) = &files_bytes {
        // Behind the data, of which the pages are aligned.
        sections.push(section(SectionKind::Files, 0, files_bytes, bytes));
        bytes += files_bytes.len() as u64;
        sections.push(checked_elsewhere(SectionKind::Contents, bytes, files.stored_len()));
        bytes = bytes.saturating_add(files.stored_len());
    }
    let mut head = header::encode(state.module, bytes, &sections);
    head.reserve_exact(data_at - head.len());
    for part in in_head.iter().chain(extra) {
        head.resize(head.len().next_multiple_of(16), 0);
        head.extend_from_slice(&part.bytes);
    }
    head.resize(data_at, 0);

    let failed = || SnapshotError::io("write the snapshot");
    out.write_all(&head).map_err(failed())?;
    for run in index.runs(0) {
        let start = run.first as usize * PAGE_SIZE;
        let pages = &memories[run.memory as usize].bytes[start..start + run.len() as usize];
        out.write_all(pages).map_err(failed())?;
    }
    if let Some(files_bytes) = &files_bytes {
        out.write_all(files_bytes).map_err(failed())?;
        for chunk in files.chunks.iter().filter(|c| c.stored) {
            copy_chunk(contents, chunk, out)?;
        }
    }
    out.flush().map_err(failed())?;
    let (stored_pages, base_pages) = (index.stored(), plan.bases.pages());
    Ok(WriteStats {
        bytes,
        state_bytes: state_len,
        stored_pages,
        base_pages,
        zero_pages: total_pages - stored_pages - base_pages,
        contents: files.stored_len(),
    })
}

fn section(kind: SectionKind, flags: u32, bytes: &[u8], offset: u64) -> Section {
    Section {
        id: kind.id(),
        version: kind.version(),
        flags,
        crc: crc32fast::hash(bytes),
        offset,
        len: bytes.len() as u64,
    }
}

/// A section whose checksums are in another.
fn checked_elsewhere(kind: SectionKind, offset: u64, len: u64) -> Section {
    Section {
        id: kind.id(),
        version: kind.version(),
        flags: flag::CHECKED_ELSEWHERE,
        crc: 0,
        offset,
        len,
    }
}

fn check_sizes(state: &State, memories: &[MemoryAtRest<'_>]) -> Result<(), SnapshotError> {
    if state.memories.len() != memories.len() {
        let memory = state.memories.len().min(memories.len());
        let expected = state
            .memories
            .get(memory)
            .map_or(0, |m| m.pages.saturating_mul(PAGE_SIZE as u64));
        return Err(SnapshotError::MemorySize {
            memory,
            expected,
            found: memories.get(memory).map_or(0, |m| m.bytes.len() as u64),
        });
    }
    for (memory, (state, at_rest)) in state.memories.iter().zip(memories).enumerate() {
        let expected = state.pages.saturating_mul(PAGE_SIZE as u64);
        let found = at_rest.bytes.len() as u64;
        if expected != found {
            return Err(SnapshotError::MemorySize {
                memory,
                expected,
                found,
            });
        }
    }
    Ok(())
}

fn limit(kind: SectionKind, bytes: &[u8]) -> Result<(), SnapshotError> {
    let len = bytes.len() as u64;
    if len > kind.max_len() {
        Err(SnapshotError::TooLarge {
            section: kind.name(),
            len,
            limit: kind.max_len(),
        })
    } else {
        Ok(())
    }
}
