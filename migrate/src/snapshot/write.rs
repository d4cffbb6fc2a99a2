//! Writes a snapshot as a stream: no copy of the memories is made.

use super::header::{self, Section, flag, id};
use super::increment::{Earlier, Plan};
use super::pages::{PAGE_SIZE, PageIndex};
use super::{MAX_DIGESTS, MAX_INDEX, MAX_STATE, SnapshotError};
use crate::state::State;
use std::io::Write;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteStats {
    /// Length of the snapshot in bytes.
    pub bytes: u64,
    /// Length of the encoded state in bytes.
    pub state_bytes: u64,
    /// Pages stored.
    pub stored_pages: u64,
    /// Pages taken from earlier snapshots.
    pub base_pages: u64,
    /// Pages left out because they are zero.
    pub zero_pages: u64,
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
    check_sizes(state, memories)?;
    let plan = Plan {
        index: PageIndex::scan(memories, may_be_used),
        ..Plan::default()
    };
    write_planned(out, state, memories, &plan, &[])
}

/// As [`write_sparse`], but pages that are as in `earlier` are taken from there, and a later snapshot can do the same with this one.
pub fn write_incremental(
    out: &mut impl Write,
    state: &State,
    memories: &[&[u8]],
    may_be_used: &dyn Fn(u32, u64) -> bool,
    earlier: &Earlier,
) -> Result<WriteStats, SnapshotError> {
    check_sizes(state, memories)?;
    let plan = Plan::new(memories, may_be_used, earlier);
    let mut extra = Vec::new();
    if plan.bases.pages() > 0 {
        extra.push((id::BASES, 0, plan.bases.encode()));
    }
    let digests = plan.digests.iter().flat_map(|d| d.to_le_bytes()).collect();
    extra.push((id::DIGESTS, flag::OPTIONAL, digests));
    for (id, _, bytes) in &extra {
        let (name, most) = if *id == id::BASES {
            ("bases", MAX_INDEX)
        } else {
            ("digests", MAX_DIGESTS)
        };
        limit(name, bytes, most)?;
    }
    write_planned(out, state, memories, &plan, &extra)
}

/// Writes what was planned. `extra` sections (id, flags, bytes) come between the index and the pages.
fn write_planned(
    out: &mut impl Write,
    state: &State,
    memories: &[&[u8]],
    plan: &Plan,
    extra: &[(u32, u32, Vec<u8>)],
) -> Result<WriteStats, SnapshotError> {
    let total_pages: u64 = state.memories.iter().map(|m| m.pages).sum();
    let index = &plan.index;
    let state_bytes = postcard::to_stdvec(state).map_err(SnapshotError::State)?;
    let index_bytes = index.encode();
    limit("state", &state_bytes, MAX_STATE)?;
    limit("pages", &index_bytes, MAX_INDEX)?;

    let state_at = header::HEADER_LEN + (3 + extra.len()) * header::ENTRY_LEN;
    let index_at = (state_at + state_bytes.len()).next_multiple_of(16);
    let mut index_end = index_at + index_bytes.len();
    let extra_at: Vec<usize> = extra
        .iter()
        .map(|(_, _, bytes)| {
            let at = index_end.next_multiple_of(16);
            index_end = at + bytes.len();
            at
        })
        .collect();
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
    let mut sections = vec![
        section(id::STATE, &state_bytes, state_at),
        section(id::PAGES, &index_bytes, index_at),
    ];
    for ((id, flags, bytes), at) in extra.iter().zip(&extra_at) {
        sections.push(Section {
            flags: *flags,
            ..section(*id, bytes, *at)
        });
    }
    sections.push(Section {
        id: id::DATA,
        version: 1,
        flags: flag::CHECKED_ELSEWHERE,
        crc: 0,
        offset: data_at as u64,
        len: data_len,
    });
    let bytes = data_at as u64 + data_len;
    let mut head = header::encode(state.module, bytes, &sections);
    head.reserve_exact(data_at - head.len());
    head.extend_from_slice(&state_bytes);
    head.resize(index_at, 0);
    head.extend_from_slice(&index_bytes);
    for ((_, _, bytes), at) in extra.iter().zip(&extra_at) {
        head.resize(*at, 0);
        head.extend_from_slice(bytes);
    }
    head.resize(data_at, 0);

    let failed = || SnapshotError::io("write the snapshot");
    out.write_all(&head).map_err(failed())?;
    for run in index.runs(0) {
        let start = run.first as usize * PAGE_SIZE;
        let pages = &memories[run.memory as usize][start..start + run.len() as usize];
        out.write_all(pages).map_err(failed())?;
    }
    out.flush().map_err(failed())?;
    let (stored_pages, base_pages) = (index.stored(), plan.bases.pages());
    Ok(WriteStats {
        bytes,
        state_bytes: state_bytes.len() as u64,
        stored_pages,
        base_pages,
        zero_pages: total_pages - stored_pages - base_pages,
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
