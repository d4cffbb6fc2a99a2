//! Incremental snapshots: what the reader refuses. (That they hold the right pages is tested with [`crate::store`].)

use super::bases::{BaseFile, Bases, Run};
use super::header::{ENTRY_LEN, HEADER_LEN};
use super::pages::PageIndex;
use super::*;
use crate::state::{MemoryState, State};
use crate::testing;
use crate::transfer::{AtRest, LinearMemories, MemoryAtRest, PageSource, Sink};
use std::io::Cursor;

type Bytes = Cursor<Vec<u8>>;

fn state() -> State {
    State {
        memories: vec![MemoryState { pages: 4 }, MemoryState { pages: 2 }],
        ..testing::state()
    }
}

fn memories() -> [Vec<u8>; 2] {
    [vec![1; 4 * PAGE_SIZE], vec![2; 2 * PAGE_SIZE]]
}

fn incremental(memories: &[Vec<u8>; 2], earlier: &Earlier) -> Bytes {
    let mut out = Vec::new();
    let program = AtRest {
        state: &state(),
        memories: &memories.each_ref().map(|bytes| MemoryAtRest::new(bytes)),
        contents: &NoContents,
    };
    SnapshotSink::incremental(&mut out, earlier).take(&program).unwrap();
    Cursor::new(out)
}

/// A snapshot, and one that was made from it after one page of each memory had changed.
fn pair() -> (Bytes, Bytes) {
    let mut memories = memories();
    let first = incremental(&memories, &Earlier::default());
    let earlier = Earlier::of(&Snapshot::open(first.clone()).unwrap(), "first").unwrap();
    memories[0][2 * PAGE_SIZE] = 9;
    memories[1][PAGE_SIZE] = 9;
    (first, incremental(&memories, &earlier))
}

/// What is known not to have changed is taken from earlier files unread, also zero pages, and from little used files.
#[test]
fn unchanged_pages_are_not_read() {
    let mut memories = memories();
    memories[0][3 * PAGE_SIZE..].fill(0);
    let first = incremental(&memories, &Earlier::default());
    let first = Snapshot::open(first).unwrap();
    let take = |memories: &[Vec<u8>; 2], unchanged: [&[bool]; 2], earlier: &Earlier, last: bool| {
        let mut at_rest = memories.each_ref().map(|bytes| MemoryAtRest::new(bytes));
        for (memory, unchanged) in at_rest.iter_mut().zip(unchanged) {
            memory.unchanged = Some(unchanged.to_vec());
        }
        let program = AtRest {
            state: &state(),
            memories: &at_rest,
            contents: &NoContents,
        };
        let mut out = Vec::new();
        let mut sink = match last {
            true => SnapshotSink::last(&mut out, earlier),
            false => SnapshotSink::incremental(&mut out, earlier),
        };
        let stats = sink.take(&program).unwrap();
        (stats, Cursor::new(out), earlier.contradicted(&at_rest))
    };
    // Pages 0, 1 and 3 of the first memory are said to be what they were, but page 1 isn't; 3 is zero. Of the second
    // one, the last page is unknown.
    memories[0][PAGE_SIZE] = 7;
    memories[0][2 * PAGE_SIZE] = 9;
    let unchanged: [&[bool]; 2] = [&[true, true, false, true], &[true]];
    let earlier = Earlier::of(&first, "first").unwrap();
    let (stats, second, contradicted) = take(&memories, unchanged, &earlier, false);
    assert_eq!((stats.stored_pages, stats.base_pages, stats.zero_pages), (1, 4, 1));
    assert_eq!(contradicted, Some((0, 1)));
    let mut second = Snapshot::open(second).unwrap();
    second.attach(0, first.reader().clone()).unwrap();
    let mut page = [0; PAGE_SIZE];
    second.read_page(0, 1, &mut page).unwrap();
    assert_eq!(page[0], 1, "as it was in the first one");
    second.read_page(0, 2, &mut page).unwrap();
    assert_eq!((page[0], page[1]), (9, 1));
    // All but one page have changed: the base is given up, unless all are kept.
    memories.iter_mut().for_each(|bytes| bytes.fill(3));
    memories[0][..PAGE_SIZE].fill(1);
    let unchanged: [&[bool]; 2] = [&[true], &[]];
    let (stats, _, contradicted) = take(&memories, unchanged, &earlier, false);
    assert_eq!((stats.stored_pages, stats.base_pages, contradicted), (6, 0, None));
    let (stats, last, _) = take(&memories, unchanged, &earlier.keeping_all(), true);
    assert_eq!((stats.stored_pages, stats.base_pages), (5, 1));
    assert!(
        Earlier::of(&Snapshot::open(last).unwrap(), "last").is_none(),
        "none can build upon it"
    );
}

/// Memories of the runtime, as a source sees them.
struct Filled([Vec<u8>; 2]);

impl LinearMemories for Filled {
    fn bytes_mut(&mut self, memory: u32) -> Option<&mut [u8]> {
        self.0.get_mut(memory as usize).map(Vec::as_mut_slice)
    }
}

#[test]
fn pages_of_a_snapshot_and_its_base_fill_memories_and_are_checked() {
    let (first, second) = pair();
    let mut snapshot = Snapshot::open(second).unwrap();
    let empty = || Filled([vec![0; 4 * PAGE_SIZE], vec![0; 2 * PAGE_SIZE]]);
    assert!(matches!(
        ReadPages(&snapshot).fill(&mut empty()),
        Err(SnapshotError::Base { .. })
    ));
    snapshot.attach(0, first.clone()).unwrap();
    let mut filled = empty();
    ReadPages(&snapshot).fill(&mut filled).unwrap();
    let mut expected = memories();
    expected[0][2 * PAGE_SIZE] = 9;
    expected[1][PAGE_SIZE] = 9;
    assert!(filled.0 == expected);
    // A memory that is smaller than the state says.
    let mut small = Filled([vec![0; 4 * PAGE_SIZE], vec![]]);
    assert!(matches!(
        ReadPages(&snapshot).fill(&mut small),
        Err(SnapshotError::Damaged(_))
    ));
    // The last page of the base, which is one that it is needed for.
    let mut damaged = first.into_inner();
    let end = Snapshot::open(Cursor::new(damaged.clone()))
        .unwrap()
        .runs()
        .last()
        .unwrap()
        .offset as usize;
    damaged[end] ^= 1;
    snapshot.attach(0, Cursor::new(damaged)).unwrap();
    let page = SnapshotError::PageChecksum { memory: 1, page: 0 }.to_string();
    assert_eq!(ReadPages(&snapshot).fill(&mut empty()).unwrap_err().to_string(), page);
}

/// A snapshot of a Dunlin that had another function for digests is read, and no base for what has not changed.
#[test]
fn digests_of_another_function_tell_nothing() {
    let (first, _) = pair();
    let earlier = |bytes: &Bytes| Earlier::of(&Snapshot::open(bytes.clone()).unwrap(), "first").is_some();
    assert!(earlier(&first));
    let mut old = first.into_inner();
    let id = SectionKind::Digests.id().to_le_bytes();
    let entry = old[HEADER_LEN..HEADER_LEN + 8 * ENTRY_LEN]
        .chunks(ENTRY_LEN)
        .position(|e| e[..4] == id);
    let at = HEADER_LEN + entry.expect("it has digests") * ENTRY_LEN;
    // Nor of a later one: whoever may skip a section needn't know its version.
    for version in [1u32, 99] {
        old[at + 4..at + 8].copy_from_slice(&version.to_le_bytes());
        tests::reseal(&mut old);
        assert!(!earlier(&Cursor::new(old.clone())), "version {version}");
    }
}

#[test]
fn pages_come_from_where_they_are() {
    let (first, second) = pair();
    let mut snapshot = Snapshot::open(second).unwrap();
    assert_eq!((snapshot.stored_pages(), snapshot.base_pages()), (2, 4));
    assert_eq!(
        (snapshot.bases()[0].name.as_str(), snapshot.pages_from(0)),
        ("first", 4)
    );
    let error = snapshot.verify_pages().unwrap_err();
    assert!(matches!(error, SnapshotError::Base { .. }), "not attached: {error}");
    snapshot.attach(0, first).unwrap();
    snapshot.verify_pages().unwrap();
    let mut page = [0; PAGE_SIZE];
    let mut begins = |memory, n| {
        snapshot.read_page(memory, n, &mut page).unwrap();
        (page[0], page[1])
    };
    assert_eq!(
        [begins(0, 1), begins(0, 2), begins(1, 0), begins(1, 1)],
        [(1, 1), (9, 1), (2, 2), (9, 2)]
    );
}

#[test]
fn another_file_is_no_base() {
    let (first, second) = pair();
    let mut snapshot = Snapshot::open(second.clone()).unwrap();
    for other in [second, Cursor::new(vec![]), Cursor::new(vec![0; 100])] {
        assert!(matches!(snapshot.attach(0, other), Err(SnapshotError::Base { .. })));
    }
    assert!(snapshot.attach(1, first).is_err(), "there is no second base");
}

#[test]
fn equal_states_give_equal_bytes() {
    assert_eq!(pair().1.into_inner(), pair().1.into_inner());
}

#[test]
fn every_byte_counts() {
    let (first, second) = pair();
    let bytes = second.into_inner();
    let data = bytes.len() - 2 * PAGE_SIZE;
    for at in (0..data).filter(|at| bytes[*at] != 0).chain([data, bytes.len() - 1]) {
        let mut bad = bytes.clone();
        bad[at] ^= 0x11;
        let read = Snapshot::open(Cursor::new(bad)).and_then(|mut s| {
            s.attach_all(|_| Ok(first.clone()))?;
            s.verify_pages()
        });
        assert!(read.is_err(), "byte {at} doesn't matter");
    }
}

#[test]
fn lists_of_bases_that_cannot_be_are_refused() {
    let file = |name: &str| BaseFile {
        name: name.into(),
        identity: [7; 32],
        pages: 3,
    };
    let run = |memory, base, first, count, at| Run {
        memory,
        base,
        first,
        count,
        at,
    };
    let mut own = PageIndex::of(2);
    own.push(0, 2, 5);
    let sizes = state().memories;
    let parse = |files: Vec<BaseFile>, runs: Vec<Run>| {
        let crcs = runs.iter().flat_map(|r| vec![1; r.count.min(9) as usize]).collect();
        Bases::parse(&Bases { files, runs, crcs }.encode(), &sizes, &own)
    };
    let one = || vec![file("a")];
    assert!(parse(one(), vec![run(0, 0, 0, 2, 1), run(0, 0, 3, 1, 0), run(1, 0, 0, 2, 0)]).is_ok());
    for name in ["", ".", "..", "/a", "a/b", "a\0", &"x".repeat(256)] {
        assert!(parse(vec![file(name)], vec![]).is_err(), "{name:?}");
    }
    assert!(parse(vec![file("a"), file("a")], vec![]).is_err());
    assert!(parse((0..65).map(|n| file(&n.to_string())).collect(), vec![]).is_err());
    for bad in [
        vec![run(0, 0, 0, 0, 0)],
        vec![run(0, 1, 0, 1, 0)],
        vec![run(2, 0, 0, 1, 0)],
        vec![run(0, 0, 3, 2, 0)],
        vec![run(0, 0, 0, 1, 3)],
        vec![run(0, 0, 0, 1, u64::MAX)],
        vec![run(0, 0, u64::MAX, 1, 0)],
        vec![run(0, 0, 0, u64::MAX, 0)],
        vec![run(0, 0, 1, 2, 0)],
        vec![run(0, 0, 0, 2, 0), run(0, 0, 1, 1, 0)],
        vec![run(1, 0, 0, 1, 0), run(0, 0, 0, 1, 0)],
    ] {
        assert!(parse(one(), bad.clone()).is_err(), "{bad:?}");
    }
    let short = Bases {
        files: one(),
        runs: vec![run(0, 0, 0, 1, 0)],
        crcs: vec![1],
    }
    .encode();
    for len in 0..short.len() {
        assert!(Bases::parse(&short[..len], &sizes, &own).is_err(), "{len} bytes");
    }
    let longer = [&short[..], &[0; 4]].concat();
    assert!(Bases::parse(&longer, &sizes, &own).is_err());
}

#[test]
fn bases_of_little_use_are_given_up() {
    let mut memories = memories();
    let mut files: Vec<(String, Bytes)> = Vec::new();
    for n in 0..20u8 {
        let earlier = files.last().map(|(name, bytes)| {
            let mut snapshot = Snapshot::open(bytes.clone()).unwrap();
            let find = |name: &str| files.iter().find(|(n, _)| n == name).unwrap().1.clone();
            snapshot.attach_all(|name| Ok(find(name))).unwrap();
            snapshot.verify_pages().unwrap();
            assert!(snapshot.bases().len() <= 8);
            for (nth, base) in snapshot.bases().iter().enumerate() {
                assert!(4 * snapshot.pages_from(nth) >= base.pages, "{base:?}");
            }
            Earlier::of(&snapshot, name).unwrap()
        });
        memories[usize::from(n) % 2][usize::from(n) % 2 * PAGE_SIZE] = n;
        files.push((n.to_string(), incremental(&memories, &earlier.unwrap_or_default())));
    }
}
