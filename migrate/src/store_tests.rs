//! The store: what is kept, what is taken from earlier snapshots, and what is left after failures.

use super::*;
use crate::snapshot::{NoContents, PAGE_SIZE};
use crate::state::files::{CHUNK, Chunk, ContentHash};
use crate::state::{MemoryState, State};
use crate::testing;
use crate::transfer::MemoryAtRest;
use std::io::Write;

/// A program of so many pages, and its memory.
struct Toy {
    state: State,
    memory: Vec<u8>,
}

impl Toy {
    fn new(pages: usize) -> Toy {
        let mut state = testing::state();
        state.memories = vec![MemoryState { pages: pages as u64 }];
        let mut memory = vec![0; pages * PAGE_SIZE];
        memory
            .iter_mut()
            .enumerate()
            .for_each(|(n, b)| *b = (n / 251) as u8 ^ 0x55);
        Toy { state, memory }
    }

    fn touch(&mut self, pages: &[usize], value: u8) {
        pages.iter().for_each(|p| self.memory[p * PAGE_SIZE + 7] = value);
    }

    fn write(&self, store: &Store, base: Option<&str>) -> Written {
        let number = store.next_number().unwrap();
        store
            .write(
                number,
                base,
                &self.at_rest(&[MemoryAtRest::new(&self.memory)], &NoContents),
            )
            .unwrap()
    }

    /// Is this what the snapshot holds?
    #[track_caller]
    fn is_in(&self, path: &Path) {
        let snapshot = open_file(path).unwrap();
        snapshot.verify_pages().unwrap();
        let mut page = [0; PAGE_SIZE];
        for (n, bytes) in (0..).zip(self.memory.chunks(PAGE_SIZE)) {
            snapshot.read_page(0, n, &mut page).unwrap();
            assert!(page == bytes, "page {n} of {}", path.display());
        }
    }
}

fn names(store: &Store) -> Vec<u64> {
    list(store.directory()).unwrap().into_iter().map(|(n, _)| n).collect()
}

#[test]
fn only_changed_pages_are_stored_and_every_snapshot_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("new"), 100).unwrap();
    let mut toy = Toy::new(20);
    toy.memory[5 * PAGE_SIZE..6 * PAGE_SIZE].fill(0);
    let first = toy.write(&store, None);
    assert_eq!(
        (first.stats.stored_pages, first.stats.base_pages, first.stats.zero_pages),
        (19, 0, 1)
    );
    let mut base = first.name;
    let mut versions = vec![];
    for n in 1..12u8 {
        toy.touch(&[usize::from(n), 3], n);
        if n == 6 {
            toy.memory[9 * PAGE_SIZE..10 * PAGE_SIZE].fill(0);
        }
        let written = toy.write(&store, Some(&base));
        assert!(written.stats.stored_pages <= 4, "{written:?}");
        versions.push((store.directory().join(&written.name), toy.memory.clone()));
        base = written.name;
    }
    for (path, memory) in versions {
        let state = toy.state.clone();
        Toy { state, memory }.is_in(&path);
    }
}

#[test]
fn pruning_keeps_the_newest_and_their_bases() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 2).unwrap();
    let mut toy = Toy::new(40);
    let mut base = None;
    for n in 1..=30 {
        toy.touch(&[usize::from(n % 10), 11], n);
        let written = toy.write(&store, base.as_deref());
        toy.is_in(&dir.path().join(&written.name));
        base = Some(written.name);
        let present = names(&store);
        // The two newest, and the bases of both.
        assert!(present.len() <= 2 + 8 + 1, "{present:?}");
        for (_, path) in list(dir.path()).unwrap().iter().take(2) {
            open_file(path).unwrap().verify_pages().unwrap();
        }
    }
    assert!(names(&store).contains(&1), "most of it has never changed");
    // Everything changes: nothing earlier is needed once two such are there.
    for n in 31..=32 {
        toy.memory.iter_mut().step_by(64).for_each(|b| *b = n);
        base = Some(toy.write(&store, base.as_deref()).name);
    }
    assert_eq!(names(&store), [32, 31]);
    store.clear(toy.state.module).unwrap();
    assert!(names(&store).is_empty());
}

#[test]
fn a_base_that_is_damaged_missing_or_another_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 9).unwrap();
    let toy = Toy::new(8);
    let first = toy.write(&store, None).name;
    let second = toy.write(&store, Some(&first));
    assert_eq!(second.stats.base_pages, 8);
    let (first_path, second_path) = (dir.path().join(&first), dir.path().join(&second.name));
    let whole = fs::read(&first_path).unwrap();

    // A byte of a page: found when the page is read, and named.
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&first_path, &damaged).unwrap();
    let error = open_file(&second_path).unwrap().verify_pages().unwrap_err();
    assert!(
        matches!(error, SnapshotError::PageChecksum { memory: 0, page: 7 }),
        "{error}"
    );
    // A byte of the header, a cut, another snapshot, none at all: found at once.
    let mut header = whole.clone();
    header[60] ^= 1;
    for bad in [
        &header[..],
        &whole[..whole.len() - 1],
        &fs::read(&second_path).unwrap(),
        &[],
    ] {
        fs::write(&first_path, bad).unwrap();
        let error = open_file(&second_path).unwrap_err();
        assert!(
            matches!(&error, SnapshotError::Base { name, .. } if *name == first),
            "{error}"
        );
    }
    fs::remove_file(&first_path).unwrap();
    let error = open_file(&second_path).unwrap_err().to_string();
    assert!(error.contains(&first) && error.contains("same directory"), "{error}");
    // The next one is complete by itself.
    let third = toy.write(&store, Some(&second.name));
    assert_eq!((third.stats.base_pages, third.stats.stored_pages), (0, 8));
    toy.is_in(&dir.path().join(third.name));
}

#[test]
fn the_directory_is_one_writers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d");
    let store = Store::open(&path, 3).unwrap();
    assert!(matches!(Store::open(&path, 3), Err(StoreError::InUse(_))));
    drop(store);
    fs::write(path.join(".dunlin-4294967295-0.tmp"), "torn").unwrap();
    fs::write(path.join(format!(".dunlin-{}-0.tmp", std::process::id())), "under way").unwrap();
    fs::write(path.join("mine.txt"), "mine").unwrap();
    let store = Store::open(&path, 3).unwrap();
    let mut left: Vec<_> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left.len(), 3, "{left:?}");
    assert_eq!(store.next_number().unwrap(), 1);
    assert!(matches!(
        Store::open(&dir.path().join("no/such"), 3),
        Err(StoreError::Directory(..))
    ));
}

#[test]
fn names_are_numbers() {
    assert_eq!(number(&file_name(7)), Some(7));
    assert_eq!(number(&file_name(u64::MAX)), Some(u64::MAX));
    for other in [
        "1.snap",
        "000000000x.snap",
        "+000000001.snap",
        "0000000001",
        "99999999999999999999999.snap",
    ] {
        assert_eq!(number(other), None, "{other}");
    }
}

/// Contents of carried files, in memory.
struct InMemory(Vec<Vec<u8>>);

impl Contents for InMemory {
    fn copy(&self, chunk: &Chunk, out: &mut dyn Write) -> io::Result<bool> {
        let chunks = self.0.iter().flat_map(|bytes| bytes.chunks(CHUNK as usize));
        match chunks.into_iter().find(|bytes| ContentHash::of(bytes) == chunk.hash) {
            Some(bytes) => out.write_all(bytes).map(|()| true),
            None => Ok(false),
        }
    }
}

impl Toy {
    /// Gives it these files.
    fn carry(&mut self, files: &[&[u8]]) {
        use crate::state::files::{ChunkList, Files, GrantMode, Node, NodeKind};
        self.state.wasi.grants = vec!["/data".into()];
        let mut list = ChunkList::default();
        let content: Vec<u32> = files
            .iter()
            .map(|bytes| {
                let chunks = (0..).step_by(CHUNK as usize).zip(bytes.chunks(CHUNK as usize));
                let chunks = chunks.map(|(at, bytes)| (at, ContentHash::of(bytes), bytes.len() as u64));
                list.add(bytes.len() as u64, chunks).unwrap()
            })
            .collect();
        let (chunks, contents) = list.finish();
        let node = |n: u32| Node {
            grant: 0,
            path: format!("{n:04}"),
            kind: NodeKind::File {
                content: content[n as usize],
            },
            mode: 0o644,
            modified: 1,
        };
        self.state.wasi.files = Files {
            modes: vec![GrantMode::CarryAll],
            chunks,
            contents,
            nodes: (0..files.len() as u32).map(node).collect(),
            ..Files::default()
        };
    }

    fn at_rest<'a>(&'a self, memories: &'a [MemoryAtRest<'a>], contents: &'a dyn Contents) -> AtRest<'a> {
        AtRest {
            state: &self.state,
            memories,
            contents,
        }
    }

    fn write_with(&self, store: &Store, base: Option<&str>, contents: &dyn Contents) -> Result<Written, SnapshotError> {
        let number = store.next_number().unwrap();
        store.write(
            number,
            base,
            &self.at_rest(&[MemoryAtRest::new(&self.memory)], contents),
        )
    }

    /// Are all of its files in the snapshot, or in one that it needs?
    #[track_caller]
    fn files_are_in(&self, path: &Path) {
        let snapshot = open_file(path).unwrap();
        let places = Stored::of(&snapshot);
        for chunk in &self.state.wasi.files.chunks {
            crate::snapshot::copy_chunk(&places, chunk, &mut io::sink()).unwrap();
        }
    }
}

/// So many bytes of which no two chunks are equal.
fn log(len: u32) -> Vec<u8> {
    (0..len / 4).flat_map(u32::to_le_bytes).collect()
}

#[test]
fn of_a_log_that_grows_only_its_end_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 2).unwrap();
    let mut toy = Toy::new(1);
    let mut base: Option<String> = None;
    let mut first = 0;
    for n in 0..40u32 {
        let log = log(8_000_000 + 100_000 * n);
        toy.carry(&[&log]);
        // What is in an earlier snapshot can't be read any more.
        let begin = if n == 0 { 0 } else { log.len() - 200_000 };
        let begin = begin / CHUNK as usize * CHUNK as usize;
        let written = toy
            .write_with(&store, base.as_deref(), &InMemory(vec![log[begin..].to_vec()]))
            .unwrap();
        match n {
            0 => first = written.stats.bytes,
            // Its last chunks, and at times those of a base that is given up.
            _ => assert!(written.stats.contents < 2_000_000, "{n}: {:?}", written.stats),
        }
        let path = dir.path().join(&written.name);
        toy.files_are_in(&path);
        open_file(&path).unwrap().verify_contents().unwrap();
        base = Some(written.name);
    }
    let all: u64 = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    assert!(all < 2 * first, "{all} bytes in all, of {first}");
}

#[test]
fn only_changed_files_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 2).unwrap();
    let mut toy = Toy::new(20);
    let (large, small) = (log(3_000_000), |n: u32| n.to_le_bytes().repeat(500));
    let mut base: Option<String> = None;
    for n in 0..30 {
        toy.touch(&[n as usize % 10], n as u8);
        toy.carry(&[&large, &small(n)]);
        // The file that hasn't changed need not be read again.
        let source = InMemory(if n == 0 {
            vec![large.clone(), small(n)]
        } else {
            vec![small(n)]
        });
        let written = toy.write_with(&store, base.as_deref(), &source).unwrap();
        assert_eq!(written.stats.contents, if n == 0 { 3_002_000 } else { 2_000 }, "{n}");
        let path = dir.path().join(&written.name);
        toy.files_are_in(&path);
        toy.is_in(&path);
        base = Some(written.name);
    }
    assert!(names(&store).contains(&1), "the first has the large file");
    assert!(names(&store).len() <= 2 + 8 + 1, "{:?}", names(&store));
    // What can't be had from its base is missed.
    fs::remove_file(dir.path().join(file_name(1))).unwrap();
    let error = open_file(&dir.path().join(file_name(30))).unwrap_err();
    assert!(error.to_string().contains("0000000001.snap"), "{error}");
}

#[test]
fn a_base_that_is_hardly_used_is_given_up_with_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 1).unwrap();
    let mut toy = Toy::new(20);
    toy.carry(&[&[1; 100_000]]);
    let source = InMemory(vec![vec![1; 100_000]]);
    let first = toy.write_with(&store, None, &source).unwrap();
    toy.memory.iter_mut().for_each(|b| *b ^= 0xff);
    let second = toy.write_with(&store, Some(&first.name), &NoContents).unwrap();
    assert_eq!((second.stats.stored_pages, second.stats.contents), (20, 100_000));
    assert_eq!(names(&store), [2]);
    toy.files_are_in(&dir.path().join(&second.name));
}

#[test]
fn files_that_are_damaged_in_a_base_are_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 1).unwrap();
    let mut toy = Toy::new(2);
    toy.carry(&[&[1; 1000]]);
    let source = InMemory(vec![vec![1; 1000]]);
    let first = toy.write_with(&store, None, &source).unwrap();
    let path = dir.path().join(&first.name);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 500;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    // Nothing else of it is used.
    toy.memory.iter_mut().for_each(|b| *b ^= 0xff);
    toy.carry(&[&[1; 1000], &[2; 3]]);
    let source = InMemory(vec![vec![1; 1000], vec![2; 3]]);
    let second = toy.write_with(&store, Some(&first.name), &source).unwrap();
    toy.files_are_in(&dir.path().join(&second.name));
}

#[test]
fn what_dead_writers_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let left = |pid: u32| dir.path().join(format!(".dunlin-{pid}-0.tmp"));
    // A process that has ended and that nobody has waited for.
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    while lives(&ended.id().to_string()) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Path::new("/proc").join(ended.id().to_string()).exists());
    let (own, none) = (std::process::id(), u32::MAX);
    [ended.id(), own, none]
        .iter()
        .for_each(|&pid| fs::write(left(pid), "").unwrap());
    let store = Store::open(dir.path(), 1).unwrap();
    assert_eq!(
        [ended.id(), own, none].map(|pid| left(pid).exists()),
        [false, true, false]
    );
    fs::write(left(ended.id()), "").unwrap();
    store.clear(Toy::new(1).state.module).unwrap();
    assert_eq!([ended.id(), own].map(|pid| left(pid).exists()), [false, true]);
    ended.wait().unwrap();
}

/// Where there is no room for the note that a program has ended, something that is to go is that note.
#[test]
fn clearing_is_gone_on_with_whatever_marks_it() {
    let marks: [fn(&Path); 5] = [
        |dir| fs::write(dir.join(MARKER), Toy::new(4).state.module.0).unwrap(),
        |dir| fs::rename(dir.join(file_name(2)), dir.join(MARKER)).unwrap(),
        |dir| {
            fs::remove_file(dir.join(file_name(1))).unwrap();
            fs::remove_file(dir.join(file_name(2))).unwrap();
            fs::rename(dir.join("0000000000.undo"), dir.join(MARKER)).unwrap();
        },
        // Killed before it was whole: nothing has been removed.
        |dir| fs::write(dir.join(MARKER), b"").unwrap(),
        |dir| fs::write(dir.join(MARKER), [7; 31]).unwrap(),
    ];
    for (nth, mark) in marks.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 2).unwrap();
        let toy = Toy::new(4);
        toy.write(&store, None);
        toy.write(&store, None);
        fs::write(dir.path().join("0000000000.undo"), UNDO_MAGIC).unwrap();
        fs::create_dir(dir.path().join("0000000000.keep")).unwrap();
        drop(store);
        mark(dir.path());
        let ended = |module| has_ended(dir.path(), module).unwrap();
        let (own, other) = (Some(toy.state.module), Some(ModuleHash([0xee; 32])));
        assert_eq!([None, own].map(ended), [nth < 3; 2], "mark {nth}");
        assert_eq!(
            ended(other),
            nth == 2,
            "mark {nth}: only a journal doesn't say whose it is"
        );
        let store = Store::open(dir.path(), 2).unwrap();
        let left = fs::read_dir(dir.path()).unwrap().count();
        let want = if nth < 3 { 1 } else { 5 };
        assert_eq!(left, want, "mark {nth}: {:?}", names(&store));
        assert!(!has_ended(dir.path(), None).unwrap(), "mark {nth}");
    }
}

/// What is renamed to be the note that a program has ended must say so to whoever opens the directory next: a snapshot
/// that is damaged is it only where nothing is whole.
#[test]
fn a_damaged_snapshot_marks_no_end_where_a_whole_one_does() {
    let toy = Toy::new(4);
    let module = toy.state.module;
    let prepared = |damaged: &[u64], undo: bool| {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 3).unwrap();
        for _ in 0..2 {
            toy.write(&store, None);
        }
        for &number in damaged {
            let path = dir.path().join(file_name(number));
            let mut bytes = fs::read(&path).unwrap();
            // Not in the header: it says whose it is, and no more is true.
            let middle = bytes.len() / 2;
            bytes.truncate(middle);
            fs::write(&path, bytes).unwrap();
            assert!(store.is_ours(&path, module) && open_file(&path).is_err());
        }
        if undo {
            fs::write(dir.path().join("0000000000.undo"), UNDO_MAGIC).unwrap();
        }
        // Nothing can be written there, as on a full disk.
        std::os::unix::fs::symlink("none/none", dir.path().join(MARKER)).unwrap();
        (dir, store)
    };
    for (damaged, undo, marker) in [
        (&[2][..], true, "0000000001.snap"),
        (&[1], true, "0000000002.snap"),
        (&[1, 2], true, "0000000000.undo"),
    ] {
        let (dir, store) = prepared(damaged, undo);
        let expected = fs::read(dir.path().join(marker)).unwrap();
        store.mark_ended(module).unwrap();
        assert!(!dir.path().join(marker).exists(), "{marker}, {damaged:?} damaged");
        assert!(fs::read(dir.path().join(MARKER)).unwrap() == expected, "{marker}");
        // Whoever is killed then is gone on for.
        drop(store);
        Store::open(dir.path(), 3).unwrap();
        let left: Vec<u64> = list(dir.path())
            .unwrap()
            .into_iter()
            .map(|(number, _)| number)
            .collect();
        let journal = dir.path().join("0000000000.undo").exists();
        // Of a journal it is only known that the files don't go back any more.
        let want: &[u64] = if marker.ends_with("undo") { &[2, 1] } else { &[] };
        assert!(left == want && !journal, "{marker}: {left:?}");
    }
    // Nothing is whole: no note is needed, and all is removed.
    let (dir, store) = prepared(&[1, 2], false);
    store.clear(module).unwrap();
    assert_eq!(list(dir.path()).unwrap(), []);
    assert!(fs::symlink_metadata(dir.path().join(MARKER)).is_err());
}
