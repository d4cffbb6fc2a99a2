//! Sparse files claim any number of zeros and take no room: what they claim costs no memory either.

use super::header::{self, Section, flag};
use super::*;
use dunlin_format::module::ModuleHash;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// A file whose section `which` begins with `start`, and goes on with zeros up to `len`, none of which take room.
/// Checksums are right.
fn forged(which: Option<SectionKind>, start: &[u8], len: usize) -> File {
    let file = tempfile::tempfile().unwrap();
    let sound = postcard::to_stdvec(&crate::testing::state()).unwrap();
    let zeros = vec![0; 1 << 20];
    let mut at = 4096;
    let mut sections = Vec::new();
    for section in [
        SectionKind::State,
        SectionKind::Pages,
        SectionKind::Exceptions,
        SectionKind::Data,
        SectionKind::Files,
    ] {
        let (bytes, len) = match section {
            _ if Some(section) == which => (start, len),
            SectionKind::State => (&sound[..], sound.len()),
            SectionKind::Pages => (&[1, 0, 0, 0, 0, 0, 0, 0][..], 8),
            _ => (&[][..], 0),
        };
        if len == 0 && section != SectionKind::Data {
            continue;
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(bytes);
        let mut left = len - bytes.len();
        while left > 0 {
            crc.update(&zeros[..left.min(zeros.len())]);
            left -= left.min(zeros.len());
        }
        let elsewhere = section == SectionKind::Data;
        sections.push(Section {
            id: section.id(),
            version: 1,
            flags: if elsewhere { flag::CHECKED_ELSEWHERE } else { 0 },
            crc: if elsewhere { 0 } else { crc.finalize() },
            offset: at,
            len: len as u64,
        });
        file.write_all_at(bytes, at).unwrap();
        at += len as u64;
    }
    let head = header::encode(crate::testing::state().module, at, &sections);
    file.write_all_at(&head, 0).unwrap();
    file.set_len(at).unwrap();
    file
}

#[test]
fn sections_of_holes_are_refused_before_they_are_read() {
    // A list of so many exceptions, descriptors or names would be some gigabytes large.
    let mut count = Vec::new();
    let mut n = 60_u32 << 20;
    while n >= 0x80 {
        count.push(n as u8 | 0x80);
        n >>= 7;
    }
    count.push(n as u8);
    let mut state = ModuleHash([0; 32]).0.to_vec();
    // Invoked: the start function; then frames.
    state.push(0);
    state.extend_from_slice(&count);
    for (which, start) in [
        (SectionKind::State, &state),
        (SectionKind::Exceptions, &count),
        (SectionKind::Files, &count),
        (SectionKind::Pages, &count),
    ] {
        let file = forged(Some(which), start, 64 << 20);
        assert!(Origin::is_sparse(&file));
        let error = Snapshot::open(file).unwrap_err();
        assert!(matches!(error, SnapshotError::Sparse { .. }), "{which:?}: {error}");
        assert!(error.to_string().contains("--sparse=never"));
    }
}

#[test]
fn a_few_holes_are_no_harm() {
    let sound = Snapshot::open(forged(None, &[], 0)).unwrap();
    assert_eq!(sound.state(), &crate::testing::state());
    sound.verify_pages().unwrap();
    // A dense file is believed as before: it is as large as what it says.
    let mut state = crate::testing::state();
    state.tables[0].elements.resize(3 << 20, None);
    let bytes = postcard::to_stdvec(&state).unwrap();
    let nulls = bytes.iter().rev().take_while(|b| **b == 0).count();
    assert!(nulls < bytes.len());
    let file = forged(Some(SectionKind::State), &bytes, bytes.len());
    assert!(!Origin::is_sparse(&file));
    assert_eq!(Snapshot::open(&file).unwrap().state(), &state);
    // The same with holes where the nulls are is refused, and says what to do.
    let holes = tempfile::tempfile().unwrap();
    let mut copy = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut copy, 0).unwrap();
    for (n, block) in copy.chunks(4096).enumerate() {
        if block.iter().any(|&b| b != 0) {
            holes.write_all_at(block, n as u64 * 4096).unwrap();
        }
    }
    holes.set_len(copy.len() as u64).unwrap();
    assert!(matches!(
        Snapshot::open(&holes).unwrap_err(),
        SnapshotError::Sparse { section: "state" }
    ));
}
