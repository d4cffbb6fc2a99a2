//! Snapshots come back; damaged ones and lies are typed errors; nothing panics.

use super::header::{ENTRY_LEN, HEADER_LEN, flag};
use super::*;
use crate::state::{MemoryState, State};
use crate::testing;
use crate::transfer::{AtRest, MemoryAtRest, Sink};
use std::fs;
use std::io::{Cursor, Write as _};

type Bytes = Vec<u8>;

/// Memory of `pages` pages, with a byte set in each of `used`.
fn memory(pages: usize, used: &[usize]) -> Bytes {
    let mut memory = vec![0; pages * PAGE_SIZE];
    for (n, page) in used.iter().enumerate() {
        memory[page * PAGE_SIZE + n * 4099 % PAGE_SIZE] = n as u8 + 1;
    }
    memory
}

fn snapshot(state: &State, memories: &[&[u8]]) -> (Bytes, WriteStats) {
    let mut out = Vec::new();
    let stats = write(&mut out, state, memories).unwrap();
    assert_eq!(out.len() as u64, stats.bytes);
    (out, stats)
}

fn open(bytes: &[u8]) -> Result<Snapshot<Cursor<&[u8]>>, SnapshotError> {
    Snapshot::open(Cursor::new(bytes))
}

/// The usual state, with memory 0 in which three pages of five are used.
fn sample() -> (State, Bytes, Bytes) {
    let (state, memory) = (testing::state(), memory(5, &[0, 1, 4]));
    let (bytes, _) = snapshot(&state, &[&memory]);
    (state, memory, bytes)
}

/// Makes all checksums right again after a change.
pub(super) fn reseal(bytes: &mut [u8]) {
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let long = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let sections = word(bytes, 12).min(8) as usize;
    for at in (0..sections).map(|n| HEADER_LEN + n * ENTRY_LEN) {
        let (offset, len) = (long(bytes, at + 16), long(bytes, at + 24));
        let body = offset.checked_add(len).and_then(|end| bytes.get(offset..end));
        if let Some(body) = body.filter(|_| word(bytes, at + 8) & flag::CHECKED_ELSEWHERE == 0) {
            let crc = crc32fast::hash(body);
            bytes[at + 12..at + 16].copy_from_slice(&crc.to_le_bytes());
        }
    }
    let table = crc32fast::hash(&bytes[HEADER_LEN..HEADER_LEN + sections * ENTRY_LEN]);
    bytes[56..60].copy_from_slice(&table.to_le_bytes());
    let header = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&header.to_le_bytes());
}

/// What is said about the sample after a change, with right checksums.
#[track_caller]
fn says(change: impl Fn(&mut Bytes), part: &str) {
    let (_, _, mut bytes) = sample();
    change(&mut bytes);
    reseal(&mut bytes);
    let error = open(&bytes)
        .and_then(|s| s.verify_pages())
        .expect_err("the lie went unnoticed")
        .to_string();
    assert!(error.contains(part), "{error:?} doesn't say {part:?}");
}

/// Where section `n` of the sample begins.
fn offset_of(bytes: &[u8], n: usize) -> usize {
    let at = HEADER_LEN + n * ENTRY_LEN + 16;
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

#[test]
fn comes_back() {
    let (state, memory, bytes) = sample();
    let header = header_only(&mut &bytes[..64]).unwrap();
    assert_eq!(
        (header.version, header.module, header.total_len),
        (1, state.module, bytes.len() as u64)
    );
    let snapshot = open(&bytes).unwrap();
    assert_eq!(snapshot.state(), &state);
    assert_eq!(snapshot.stored_pages(), 3);
    snapshot.verify_pages().unwrap();

    let runs: Vec<_> = snapshot
        .runs()
        .map(|r| (r.memory, r.first, r.count, r.offset))
        .collect();
    assert_eq!(runs, [(0, 0, 2, 0x1_0000), (0, 4, 1, 0x3_0000)]);
    let mut copy = vec![0; memory.len()];
    for run in snapshot.runs() {
        let (from, to) = (run.offset as usize, run.first as usize * PAGE_SIZE);
        let len = run.len() as usize;
        run.verify(&bytes[from..from + len]).unwrap();
        copy[to..to + len].copy_from_slice(&bytes[from..from + len]);
    }
    assert_eq!(copy, memory);

    let mut buffer = vec![0; 2 * PAGE_SIZE];
    snapshot.read_run(0, &mut buffer).unwrap();
    assert_eq!(buffer, memory[..2 * PAGE_SIZE]);
    assert!(snapshot.read_run(1, &mut buffer).is_err(), "a buffer of another size");
    assert!(snapshot.read_run(2, &mut buffer).is_err(), "no such run");
    let mut page = [1; PAGE_SIZE];
    for n in 0..5 {
        snapshot.read_page(0, n, &mut page).unwrap();
        assert_eq!(page, memory[n as usize * PAGE_SIZE..][..PAGE_SIZE], "page {n}");
    }
    assert_eq!(snapshot.into_parts().0, state);
}

#[test]
fn several_memories_and_none() {
    let sizes = [3, 0, 0, 2, 9];
    let used: [&[usize]; 5] = [&[2], &[], &[], &[0, 1], &[]];
    let memories: Vec<_> = sizes.iter().zip(used).map(|(&n, used)| memory(n, used)).collect();
    let slices: Vec<&[u8]> = memories.iter().map(|m| &m[..]).collect();
    let mut state = State {
        memories: sizes.iter().map(|&n| MemoryState { pages: n as u64 }).collect(),
        ..testing::state()
    };
    let (bytes, stats) = snapshot(&state, &slices);
    assert_eq!((stats.stored_pages, stats.zero_pages), (3, 11));
    let runs: Vec<_> = open(&bytes)
        .unwrap()
        .runs()
        .map(|r| (r.memory, r.first, r.count))
        .collect();
    assert_eq!(runs, [(0, 2, 1), (3, 0, 2)]);
    open(&bytes).unwrap().verify_pages().unwrap();

    state.memories.clear();
    let (bytes, stats) = snapshot(&state, &[]);
    assert!(stats.bytes < 1024, "no pages, no alignment: {stats:?}");
    open(&bytes).unwrap().verify_pages().unwrap();
}

#[test]
fn equal_states_give_equal_bytes() {
    let (state, memory, bytes) = sample();
    assert_eq!(snapshot(&state.clone(), &[&memory]).0, bytes);
    let mut sparse = Vec::new();
    let at_rest = MemoryAtRest {
        touched: Some(vec![true, true, false, false]),
        ..MemoryAtRest::new(&memory)
    };
    let program = AtRest {
        state: &state,
        memories: &[at_rest],
        contents: &NoContents,
    };
    let stats = SnapshotSink::whole(&mut sparse).take(&program).unwrap();
    assert_eq!(sparse, bytes);
    assert_eq!((stats.stored_pages, stats.zero_pages), (3, 2));
}

#[test]
fn memories_must_have_the_states_sizes() {
    let (state, memory, _) = sample();
    let mut out = Vec::new();
    for memories in [&[][..], &[&memory[1..]], &[&memory[..], &memory]] {
        assert!(matches!(
            write(&mut out, &state, memories),
            Err(SnapshotError::MemorySize { .. })
        ));
    }
    assert!(out.is_empty());
}

#[test]
fn every_cut_is_an_error() {
    let (_, _, bytes) = sample();
    let data = offset_of(&bytes, 2);
    for len in (0..1024)
        .chain((1024..bytes.len()).step_by(1021))
        .chain([data - 1, data, data + 1, bytes.len() - 1])
    {
        assert!(open(&bytes[..len]).is_err(), "cut at {len}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(open(&longer), Err(SnapshotError::Length { .. })));
    assert!(matches!(open(b"#!/bin/sh"), Err(SnapshotError::NotASnapshot)));
}

#[test]
fn every_flipped_byte_is_an_error() {
    let (state, _, bytes) = sample();
    // Between sections, bytes have no meaning.
    let end_of = |n: usize| offset_of(&bytes, n) + offset_of(&bytes[8..], n);
    let gaps = [end_of(0)..offset_of(&bytes, 1), end_of(1)..offset_of(&bytes, 2)];
    let data = gaps[1].end;
    for at in (0..gaps[1].start + 64)
        .chain((gaps[1].start..data).step_by(509))
        .chain((data..bytes.len()).step_by(1021))
    {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        let read = open(&bytes).and_then(|s| s.verify_pages().map(|()| s));
        if gaps.iter().any(|gap| gap.contains(&at)) {
            assert_eq!(read.unwrap().state(), &state, "byte {at}");
        } else {
            assert!(read.is_err(), "byte {at}");
        }
    }
}

#[test]
fn hostile_contents_with_right_checksums_never_panic() {
    let (points, arch, module) = (testing::points(), testing::MadeUp::new(1), testing::module());
    let maps = arch.maps(&points);
    let (_, _, bytes) = sample();
    let end = offset_of(&bytes, 1) + 64;
    let mut decoded = 0;
    for at in 0..end {
        for value in [
            0,
            1,
            0x7f,
            0x80,
            0xff,
            bytes[at] ^ 1,
            bytes[at] ^ 0x40,
            bytes[at].wrapping_add(1),
        ] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            if !(56..64).contains(&at) {
                reseal(&mut bytes);
            }
            let Ok(snapshot) = open(&bytes) else { continue };
            decoded += 1;
            let mut state = snapshot.into_parts().0;
            let _ = crate::validate::validate(&mut state, &module, &maps);
        }
    }
    assert!(decoded > 100, "only {decoded} decoded: the test tests nothing");
}

#[test]
fn lies_about_the_container() {
    let put = |at: usize, value: u64| move |b: &mut Bytes| b[at..at + 8].copy_from_slice(&value.to_le_bytes());
    let put32 = |at: usize, value: u32| move |b: &mut Bytes| b[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let entry = |n: usize| HEADER_LEN + n * ENTRY_LEN;
    says(put32(8, 2), "format version 2");
    says(put32(8, 0), "format version 0");
    says(put32(12, 65), "too many sections");
    says(put32(12, 2), "bytes behind the last section");
    says(put32(12, 0), "bytes behind the last section");
    says(put(48, 1 << 40), "must be 1099511627776");
    says(put32(16, 0), "different modules");
    says(put32(entry(0), 99), "unknown section (99)");
    says(put32(entry(0), 2), "occurs twice");
    says(put32(entry(0) + 4, 2), "state section version 2");
    says(put(entry(0) + 16, 0), "overlap");
    says(put(entry(0) + 24, 1 << 20), "ends beyond the file");
    says(put(entry(0) + 24, u64::MAX), "ends beyond the file");
    says(put(entry(1) + 16, 170), "overlap");
    says(put(entry(2) + 16, 0x1_0001), "ends beyond the file");
    says(put32(entry(2) + 8, 0), "checksum of its own");
    // The state's length, one byte less and one more.
    let (_, _, bytes) = sample();
    let len = u64::from_le_bytes(bytes[entry(0) + 24..][..8].try_into().unwrap());
    says(put(entry(0) + 24, len - 1), "state section is damaged");
    says(put(entry(0) + 24, len + 1), "bytes behind the state");
}

#[test]
fn optional_sections_are_skipped() {
    let (state, _, bytes) = sample();
    let mut longer = bytes[..HEADER_LEN + 3 * ENTRY_LEN].to_vec();
    // A fourth entry takes the place of the state's first bytes, so the state moves behind everything.
    let state_len = u64::from_le_bytes(bytes[HEADER_LEN + 24..][..8].try_into().unwrap());
    let total = bytes.len() as u64;
    let reorder = |from: usize| longer[HEADER_LEN + from * ENTRY_LEN..][..ENTRY_LEN].to_vec();
    let (first, second, third) = (reorder(0), reorder(1), reorder(2));
    let mut extra = vec![0; ENTRY_LEN];
    extra[0] = 77;
    extra[8] = flag::OPTIONAL as u8;
    extra[16..24].copy_from_slice(&(total + state_len).to_le_bytes());
    extra[24..32].copy_from_slice(&5u64.to_le_bytes());
    let mut moved = first;
    moved[16..24].copy_from_slice(&total.to_le_bytes());
    longer.truncate(HEADER_LEN);
    [second, third, moved, extra].iter().for_each(|e| longer.extend(e));
    longer.extend(&bytes[longer.len()..]);
    let old = HEADER_LEN + 3 * ENTRY_LEN;
    longer.extend(&bytes[old..old + state_len as usize]);
    longer.extend(b"hello");
    longer[12] = 4;
    let len = longer.len() as u64;
    longer[48..56].copy_from_slice(&len.to_le_bytes());
    reseal(&mut longer);
    assert_eq!(open(&longer).unwrap().state(), &state);
    longer[HEADER_LEN + 3 * ENTRY_LEN + 8] = 0;
    reseal(&mut longer);
    assert!(matches!(open(&longer), Err(SnapshotError::UnknownSection(77))));
}

/// A section whose bytes changed is called what it is.
#[test]
fn a_damaged_section_is_named() {
    let mut state = testing::state();
    state.exceptions = vec![None, None];
    let memory = memory(5, &[0, 1, 4]);
    let mut bytes = Vec::new();
    let program = AtRest {
        state: &state,
        memories: &[MemoryAtRest::new(&memory)],
        contents: &NoContents,
    };
    SnapshotSink::incremental(&mut bytes, &Earlier::default())
        .take(&program)
        .unwrap();
    let sections = open(&bytes).unwrap().sections().to_vec();
    let kinds: Vec<_> = sections.iter().filter_map(|s| SectionKind::of(s.id)).collect();
    let expected = [
        (SectionKind::State, "the state section"),
        (SectionKind::Pages, "the index of pages"),
        (SectionKind::Exceptions, "the exceptions"),
        (SectionKind::Digests, "the list of digests"),
        (SectionKind::Data, "page 0 of memory 0"),
    ];
    assert_eq!(kinds, expected.map(|(kind, _)| kind));
    for (section, (_, title)) in sections.iter().zip(expected) {
        let mut bytes = bytes.clone();
        bytes[section.offset as usize] ^= 1;
        let error = open(&bytes).and_then(|s| s.verify_pages()).unwrap_err().to_string();
        assert_eq!(error, format!("the snapshot is damaged: wrong checksum of {title}"));
    }
}

#[test]
fn lies_about_pages() {
    let index = offset_of(&sample().2, 1);
    let put = |at: usize, value: u64| {
        move |b: &mut Bytes| b[index + at..index + at + 8].copy_from_slice(&value.to_le_bytes())
    };
    let put32 = |at: usize, value: u32| {
        move |b: &mut Bytes| b[index + at..index + at + 4].copy_from_slice(&value.to_le_bytes())
    };
    // u32 memories, u32 runs, {first, count} x 2, crc x 3
    says(put32(0, 2), "another number of memories");
    says(put32(4, 3), "too short");
    says(put32(4, u32::MAX), "too short");
    says(put32(4, 1), "one checksum per page");
    says(put(8, 2), "out of order, overlapping or not joined");
    says(put(16, 0), "runs of pages are empty");
    says(put(16, 4), "out of order, overlapping or not joined");
    says(put(16, 3), "one checksum per page");
    says(put(24, 0), "out of order");
    says(put(24, 5), "beyond its memory");
    says(put(24, u64::MAX), "beyond its memory");
    says(put(32, 2), "beyond its memory");
    says(put(32, u64::MAX), "beyond its memory");
    says(put32(40, 0), "wrong checksum of page 0 of memory 0");
    says(put32(48, 0), "wrong checksum of page 4 of memory 0");
}

#[test]
fn a_claimed_length_costs_no_memory() {
    // States that end after the claim that a string (invocation 1), or a list of frames (invocation 0), of that length
    // follows.
    for (invocation, claim) in [(0, 1 << 60), (1, 1 << 60), (0, 1 << 36), (1, 1 << 36)] {
        let mut bytes = snapshot(
            &State {
                memories: vec![],
                ..testing::state()
            },
            &[],
        )
        .0;
        let place = HEADER_LEN + 3 * ENTRY_LEN + 32;
        let mut lie = vec![invocation];
        dunlin_format::bytes::put_leb(&mut lie, claim);
        bytes[place..place + lie.len()].copy_from_slice(&lie);
        reseal(&mut bytes);
        assert!(matches!(open(&bytes), Err(SnapshotError::State(_))));
    }
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("dunlin-migrate-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir(&path).unwrap();
    path
}

#[test]
fn atomic_writes_replace_or_leave_alone() {
    let directory = scratch("atomic");
    let path = directory.join("a.snap");
    let fill = |text: &'static [u8]| {
        move |file: &mut fs::File| {
            file.write_all(text)
                .map(|()| text.len())
                .map_err(SnapshotError::io("write"))
        }
    };
    assert_eq!(atomic_write(&path, fill(b"one")).unwrap(), 3);
    assert_eq!(atomic_write(&path, fill(b"two!")).unwrap(), 4);
    assert_eq!(fs::read(&path).unwrap(), b"two!");
    let failing = |file: &mut fs::File| {
        file.write_all(b"half").unwrap();
        Err::<(), _>(SnapshotError::io("write the snapshot")(
            io::ErrorKind::StorageFull.into(),
        ))
    };
    assert!(atomic_write(&path, failing).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"two!");
    assert_eq!(
        fs::read_dir(&directory).unwrap().count(),
        1,
        "a temporary file was left behind"
    );

    let link = directory.join("link");
    std::os::unix::fs::symlink("a.snap", &link).unwrap();
    atomic_write(&link, fill(b"three")).unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::read(&path).unwrap(), b"three");

    assert!(matches!(
        atomic_write(&directory, fill(b"")),
        Err(SnapshotError::NotAFile(_))
    ));
    assert!(matches!(
        atomic_write(std::path::Path::new("/dev/null"), fill(b"")),
        Err(SnapshotError::NotAFile(_))
    ));
    assert!(matches!(
        atomic_write(&directory.join("none/x"), fill(b"")),
        Err(SnapshotError::Io { .. })
    ));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_file_that_nobody_wants_is_as_if_it_had_not_been_written() {
    let directory = scratch("unwanted");
    let path = directory.join("a.snap");
    let fill =
        |text: &'static [u8]| move |file: &mut fs::File| file.write_all(text).map_err(SnapshotError::io("write"));
    let names = || fs::read_dir(&directory).unwrap().count();
    assert!(matches!(
        replace(&path, fill(b"one"), |()| false),
        Err(SnapshotError::GivenUp)
    ));
    assert_eq!(names(), 0);
    let there = |()| fs::read(&path).unwrap() == b"one";
    replace(&path, fill(b"one"), |()| there(())).unwrap();
    assert!(matches!(
        replace(&path, fill(b"two"), |()| false),
        Err(SnapshotError::GivenUp)
    ));
    assert_eq!(fs::read(&path).unwrap(), b"one");
    let failing = |_: &mut fs::File| Err::<(), _>(SnapshotError::Damaged("no"));
    assert!(matches!(
        replace(&path, failing, |()| true),
        Err(SnapshotError::Damaged(_))
    ));
    replace(&path, fill(b"three"), |()| true).unwrap();
    assert_eq!((fs::read(&path).unwrap().as_slice(), names()), (b"three".as_slice(), 1));
    fs::remove_dir_all(directory).unwrap();
}
