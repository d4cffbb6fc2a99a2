//! Files that go back: random changes through the program's calls, with an undo journal; then what going back restores,
//! killed at any moment, and what it refuses because others have changed something.

use crate::guest::*;
use dunlin_format::module::ModuleHash;
use dunlin_migrate::state::files::GrantMode;
use dunlin_runtime::moving::rollback::{From, Rollback};
use dunlin_runtime::os::fork::fork;
use rustix::process::{Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;
use tempfile::{TempDir, tempdir, tempdir_in};

/// What a tree holds, by path: kind and contents, permissions, time of modification, and which names are one file.
type Tree = BTreeMap<String, (String, u32, i64, Vec<String>)>;

fn tree(root: &Path) -> Tree {
    fn walk(root: &Path, dir: &Path, found: &mut Tree, inodes: &mut BTreeMap<u64, Vec<String>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let meta = fs::symlink_metadata(&path).unwrap();
            let what = match meta.file_type() {
                t if t.is_dir() => "directory".to_owned(),
                t if t.is_symlink() => {
                    inodes.entry(meta.ino()).or_default().push(name.clone());
                    format!("-> {:?}", fs::read_link(&path).unwrap())
                }
                _ => {
                    inodes.entry(meta.ino()).or_default().push(name.clone());
                    format!(
                        "{:x?}",
                        dunlin_migrate::state::files::ContentHash::of(&fs::read(&path).unwrap())
                    )
                }
            };
            let time = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
            found.insert(name, (format!("{what} {}", meta.size()), meta.mode(), time, Vec::new()));
            if meta.is_dir() {
                walk(root, &path, found, inodes);
            }
        }
    }
    let (mut found, mut inodes) = (Tree::new(), BTreeMap::new());
    walk(root, root, &mut found, &mut inodes);
    for names in inodes.values().filter(|n| n.len() > 1) {
        for name in names {
            let mut names = names.clone();
            names.sort();
            found.get_mut(name).unwrap().3 = names;
        }
    }
    // A directory's size is its file system's own business.
    for (_, (what, ..)) in found.iter_mut() {
        if what.starts_with("directory") {
            "directory".clone_into(what);
        }
    }
    found
}

#[track_caller]
fn same(a: &Tree, b: &Tree, what: &str) {
    for (name, was) in a {
        assert_eq!(b.get(name), Some(was), "{what}: {name:?}");
    }
    let more: Vec<_> = b.keys().filter(|n| !a.contains_key(*n)).collect();
    assert!(more.is_empty(), "{what}: {more:?} should not be there");
}

struct Random(u64);

impl Random {
    fn next(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

fn rollback(saves: &Path, durable: bool) -> Rollback {
    Rollback {
        directory: saves.to_owned(),
        module: ModuleHash([5; 32]),
        durable,
    }
}

/// A program with a journal that leads to its beginning.
fn begin(rollback: &Rollback, data: &Path) -> Guest {
    let config = config(&[(data, "/")]);
    let (lineage, told, _) = rollback.go_back(From::Beginning, &config).unwrap();
    assert!(told.is_empty(), "{told:?}");
    let mut g = Guest::with(&config);
    rollback.record(lineage, &mut g.wasi).map_err(|e| e.message).unwrap();
    g
}

fn path(r: &mut Random) -> String {
    let names = ["a", "b", "c", "d"];
    let mut name = |n: u64| names[r.next(n) as usize];
    let (first, second) = (name(4), name(3));
    match r.next(3) {
        0 => first.to_owned(),
        1 => format!("d/{second}"),
        _ => format!("c/{first}"),
    }
}

/// One random change. What the host refuses is refused, and changes nothing.
fn change(g: &mut Guest, r: &mut Random, open: &mut Vec<u64>) {
    let (p, q) = (path(r), path(r));
    match r.next(19) {
        0..=3 => {
            let oflags = [CREAT, CREAT | TRUNC, CREAT | EXCL, 0, TRUNC][r.next(5) as usize];
            let flags = if r.next(4) == 0 { APPEND } else { 0 };
            if let Ok(fd) = g.open(ROOT, &p, oflags, READ | WRITE, flags) {
                open.push(fd);
            }
        }
        4..=8 if !open.is_empty() => {
            let fd = open[r.next(open.len() as u64) as usize];
            if r.next(2) == 0 {
                let _ = g.seek(fd, r.next(40_000) as i64, 0);
            }
            let len = 1 + r.next(9000) as usize;
            let _ = g.write(fd, &vec![r.next(4) as u8; len]);
        }
        9 if !open.is_empty() => {
            let fd = open[r.next(open.len() as u64) as usize];
            g.call("fd_filestat_set_size", &[fd, r.next(50_000)]);
        }
        10 if !open.is_empty() => {
            let fd = open[r.next(open.len() as u64) as usize];
            g.call("fd_allocate", &[fd, r.next(9000), 1 + r.next(9000)]);
        }
        11 if open.len() > 3 => {
            let fd = open.swap_remove(r.next(open.len() as u64) as usize);
            g.call("fd_close", &[fd]);
        }
        12 => drop(g.path_call("path_unlink_file", ROOT, &p)),
        13 => drop(g.path_call("path_create_directory", ROOT, &p)),
        14 => drop(g.path_call("path_remove_directory", ROOT, &p)),
        15 => {
            let ([a, b], [c, d]) = (g.string(PATH, &p), g.string(PATH2, &q));
            g.call("path_rename", &[ROOT, a, b, ROOT, c, d]);
        }
        16 => {
            let ([a, b], [c, d]) = (g.string(PATH, &p), g.string(PATH2, &q));
            g.call("path_link", &[ROOT, 0, a, b, ROOT, c, d]);
        }
        17 => {
            let ([a, b], [c, d]) = (
                g.string(PATH, ["b", "a", "nowhere"][r.next(3) as usize]),
                g.string(PATH2, &q),
            );
            g.call("path_symlink", &[a, b, ROOT, c, d]);
        }
        _ => {
            let [a, b] = g.string(PATH, &p);
            g.call(
                "path_filestat_set_times",
                &[ROOT, r.next(2), a, b, 0, r.next(1 << 40) * 1000, 4],
            );
        }
    }
}

/// Runs a random program for a while; returns the trees at its snapshots, beginning with number 0. `oldest`: the first
/// snapshot to which one can go back in the end.
fn random_run(g: &mut Guest, data: &Path, seed: u64, oldest: u64) -> Vec<Tree> {
    let mut r = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut trees, mut open) = (vec![tree(data)], Vec::new());
    for _ in 0..3 {
        for _ in 0..r.next(60) {
            change(g, &mut r, &mut open);
        }
        let number = trees.len() as u64;
        let journal = g.wasi.journal().unwrap();
        journal.next(number).unwrap();
        journal.prune(number.min(oldest)).unwrap();
        trees.push(tree(data));
    }
    for _ in 0..r.next(60) {
        change(g, &mut r, &mut open);
    }
    trees
}

/// So many seeds, others each time; `DUNLIN_SEED` begins where it says, and `DUNLIN_SEEDS` takes more.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let now = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs())
    };
    let first = number("DUNLIN_SEED").unwrap_or_else(|| now() * 1000);
    first..first + number("DUNLIN_SEEDS").unwrap_or(count)
}

fn populate(data: &Path) {
    fs::create_dir_all(data.join("d/c")).unwrap();
    fs::write(data.join("a"), vec![7; 30_000]).unwrap();
    fs::write(data.join("d/a"), "text").unwrap();
    fs::write(data.join("d/b"), "").unwrap();
    fs::hard_link(data.join("a"), data.join("d/c/x")).unwrap();
    // Names that no record need tell of.
    fs::create_dir(data.join("c")).unwrap();
    for (file, name) in [("a", "c/d"), ("d/a", "c/b"), ("d/b", "c/a")] {
        fs::hard_link(data.join(file), data.join(name)).unwrap();
    }
    let sparse = fs::File::create(data.join("b")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    sparse.write_all_at(b"end", (3 << 20) - 3).unwrap();
    // Its times must come back too, so they must differ from any that are made now.
    let old = fs::FileTimes::new()
        .set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_nanos(1_500_000_000_123_456_789));
    for name in ["a", "b", "d/a", "d/c", "d"] {
        fs::File::open(data.join(name)).unwrap().set_times(old).unwrap();
    }
}

/// Journals in the same file system as the files, or in another one.
fn places(other: bool) -> (TempDir, TempDir) {
    let data = tempdir().unwrap();
    let saves = match other {
        true => tempdir_in("/dev/shm").unwrap(),
        false => tempdir().unwrap(),
    };
    (data, saves)
}

#[test]
fn everything_goes_back_to_any_snapshot() {
    for seed in seeds(100) {
        let (data, saves) = places(seed % 4 == 3);
        let (data, saves) = (data.path(), saves.path());
        populate(data);
        let way = rollback(saves, seed % 40 == 0);
        let mut g = begin(&way, data);
        let trees = random_run(&mut g, data, seed, if seed % 3 == 0 { seed % 4 } else { 0 });
        drop(g);
        let number = seed % 4;
        let from = if number == 0 {
            From::Beginning
        } else {
            From::Own(number)
        };
        let (lineage, told, _) = way
            .go_back(from, &config(&[(data, "/")]))
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(told.is_empty(), "seed {seed}: {told:?}");
        assert_eq!(lineage.number, number);
        let linked = true;
        let strip = |t: &Tree| -> Tree {
            let one = |(n, (w, m, t, l)): (&String, &(String, u32, i64, Vec<String>))| {
                (
                    n.clone(),
                    (w.clone(), *m, *t, if linked { l.clone() } else { Vec::new() }),
                )
            };
            t.iter().map(one).collect()
        };
        same(
            &strip(&trees[number as usize]),
            &strip(&tree(data)),
            &format!("seed {seed}"),
        );
        let own = format!("{number:010}");
        let mut left: Vec<_> = fs::read_dir(saves)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.retain(|name| *name >= own);
        assert_eq!(left, [own + ".undo"], "seed {seed}");
    }
}

#[test]
fn going_back_may_be_killed_at_any_moment() {
    let mut kills = 0;
    for seed in seeds(30) {
        let (data, saves) = places(seed % 4 == 3);
        let (data, saves) = (data.path(), saves.path());
        populate(data);
        let way = rollback(saves, false);
        let mut g = begin(&way, data);
        let trees = random_run(&mut g, data, seed, seed % 2);
        drop(g);
        let mut r = Random(seed);
        let back = || way.go_back(From::Own(1), &config(&[(data, "/")]));
        for _ in 0..6 {
            let mut child = fork(false, || match back() {
                Ok((_, told, _)) => told.join("; ").into_bytes(),
                Err(e) => e.to_string().into_bytes(),
            })
            .unwrap();
            std::thread::sleep(Duration::from_micros(100 + r.next(2500)));
            let _ = kill_process(child.pid(), Signal::KILL);
            let said = child.result().unwrap();
            assert!(said.is_empty(), "seed {seed}: {}", String::from_utf8_lossy(&said));
            kills += u32::from(child.reap().is_err());
        }
        let (_, told, _) = back().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(told.is_empty(), "seed {seed}: {told:?}");
        let (mut was, mut is) = (trees[1].clone(), tree(data));
        if seed % 4 == 3 {
            was.values_mut().chain(is.values_mut()).for_each(|v| v.3.clear());
        }
        same(&was, &is, &format!("seed {seed}"));
    }
    assert!(kills > 20, "only {kills} were killed in time");
}

/// A program that has changed some files since its snapshot 1, and is gone.
fn changed() -> (TempDir, TempDir, Rollback, Tree) {
    let (data, saves) = places(false);
    populate(data.path());
    fs::write(data.path().join("d/gone"), "text").unwrap();
    fs::hard_link(data.path().join("d/gone"), data.path().join("d/keeps")).unwrap();
    let way = rollback(saves.path(), false);
    let mut g = begin(&way, data.path());
    g.wasi.journal().unwrap().next(1).unwrap();
    let was = tree(data.path());
    let fd = g.open(ROOT, "a", 0, READ | WRITE, 0).unwrap();
    g.write(fd, b"mine").unwrap();
    let fd = g.open(ROOT, "new", CREAT, READ | WRITE, 0).unwrap();
    g.write(fd, b"mine, too").unwrap();
    assert_eq!(g.path_call("path_unlink_file", ROOT, "d/b"), 0);
    assert_eq!(g.path_call("path_create_directory", ROOT, "made"), 0);
    let ([a, b], [c, d]) = (g.string(PATH, "a"), g.string(PATH2, "link"));
    assert_eq!(g.call("path_symlink", &[a, b, ROOT, c, d]), 0);
    // A removed file that has another name.
    let fd = g.open(ROOT, "d/gone", 0, READ | WRITE, 0).unwrap();
    g.write(fd, b"TEXT").unwrap();
    g.seek(fd, 0, 0).unwrap();
    g.write(fd, b"text").unwrap();
    assert_eq!(g.path_call("path_unlink_file", ROOT, "d/gone"), 0);
    (data, saves, way, was)
}

/// What someone else does meanwhile, which name is said to have changed, and what is kept of it under which name.
type Meddling = (fn(&Path), &'static str, Option<(&'static str, &'static str)>);

const MEDDLING: [Meddling; 9] = [
    (|d| append(&d.join("a")), "a", None),
    (
        |d| append(&d.join("new")),
        "new",
        Some(("new.aside-1", "mine, toomore")),
    ),
    (
        |d| fs::write(d.join("d/b"), "other").unwrap(),
        "d/b",
        Some(("d/b.aside-1", "other")),
    ),
    (
        |d| {
            fs::write(d.join("x"), "other").unwrap();
            fs::rename(d.join("x"), d.join("new")).unwrap();
        },
        "new",
        Some(("new.aside-1", "other")),
    ),
    (
        |d| fs::write(d.join("made/in"), "other").unwrap(),
        "made/in",
        Some(("made.aside-1/in", "other")),
    ),
    (|d| fs::write(d.join("a"), "").unwrap(), "a", Some(("a.aside-1", ""))),
    // Through another name of a file that the program has removed.
    (
        |d| append(&d.join("d/keeps")),
        "d/gone",
        Some(("d/gone.aside-1", "textmore")),
    ),
    // A link that the program has made leads elsewhere.
    (
        |d| {
            fs::write(d.join("mine"), "other").unwrap();
            fs::remove_file(d.join("link")).unwrap();
            std::os::unix::fs::symlink("mine", d.join("link")).unwrap();
        },
        "link",
        Some(("link.aside-1", "other")),
    ),
    // A file has become a link; its number may be the same.
    (
        |d| {
            fs::copy(d.join("a"), d.join("d/copy")).unwrap();
            fs::remove_file(d.join("new")).unwrap();
            std::os::unix::fs::symlink("d/a", d.join("new")).unwrap();
        },
        "new",
        Some(("new.aside-1", "text")),
    ),
];

fn append(path: &Path) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(b"more").unwrap();
}

#[test]
fn what_others_have_changed_is_told_and_kept() {
    for (meddle, name, kept) in MEDDLING {
        let (data, _saves, way, was) = changed();
        let data = data.path();
        std::thread::sleep(Duration::from_millis(20));
        meddle(data);
        let before = tree(data);
        let mut config = config(&[(data, "/")]);
        let error = way.go_back(From::Own(1), &config).expect_err(name);
        assert_eq!(error.exit_code(), 89);
        assert!(
            error.to_string().contains(&format!("'{name}' in the directory '/'")),
            "{name}: {error}"
        );
        same(&before, &tree(data), "a refusal touches nothing");
        config.accept_changed = true;
        let (_, told, _) = way.go_back(From::Own(1), &config).unwrap();
        let part = name.trim_end_matches("/in");
        assert!(told.iter().any(|t| t.contains(part)), "{name}: {told:?}");
        if let Some((aside, contents)) = kept {
            let top = aside.trim_end_matches("/in");
            assert!(told.iter().any(|t| t.contains(top)), "{name}: {told:?}");
            assert_eq!(fs::read_to_string(data.join(aside)).unwrap(), contents);
        }
        let now = tree(data);
        assert_eq!(now.get("d/b"), was.get("d/b"));
        assert!(!now.contains_key("new"), "{name}");
    }
}

#[test]
fn what_was_removed_by_others_cant_come_back() {
    let (data, _saves, way, _) = changed();
    let data = data.path();
    fs::remove_file(data.join("a")).unwrap();
    let mut config = config(&[(data, "/")]);
    let error = way.go_back(From::Own(1), &config).unwrap_err();
    assert!(
        error.exit_code() == 89 && error.to_string().contains("removed by someone else"),
        "{error}"
    );
    config.accept_changed = true;
    let (_, told, _) = way.go_back(From::Own(1), &config).unwrap();
    assert!(
        told.iter().any(|t| t.contains("can't be brought back whole")),
        "{told:?}"
    );
}

/// What others do between an attempt that was killed and the next one is found, too.
#[test]
fn others_are_noticed_between_two_attempts() {
    let (data, saves, way, was) = changed();
    let data = data.path();
    // Its journal goes on: work that takes a while to undo.
    let back = |way: &Rollback| way.go_back(From::Own(1), &config(&[(data, "/")]));
    for attempt in 0.. {
        assert!(attempt < 50, "it was never killed while going back");
        let mut g = Guest::with(&config(&[(data, "/")]));
        let (lineage, ..) = back(&way).unwrap();
        way.record(lineage, &mut g.wasi).map_err(|e| e.message).unwrap();
        let fd = g.open(ROOT, "a", 0, READ | WRITE, 0).unwrap();
        g.write(fd, b"mine").unwrap();
        for n in 0..2000 {
            let fd = g
                .open(ROOT, format!("many{n}").as_str(), CREAT, READ | WRITE, 0)
                .unwrap();
            g.call("fd_close", &[fd]);
        }
        drop(g);
        let mut child = fork(false, || match back(&way) {
            Ok(_) => Vec::new(),
            Err(e) => e.to_string().into_bytes(),
        })
        .unwrap();
        // Not asleep: it may be over sooner than one wakes.
        let marker = saves.path().join("going-back");
        while !marker.exists() && data.join("many0").exists() {}
        let _ = kill_process(child.pid(), Signal::KILL);
        assert!(child.result().unwrap().is_empty());
        let _ = child.reap();
        if marker.exists() && data.join("many0").exists() {
            break;
        }
    }
    // So long after it, nothing can be its own any more.
    std::thread::sleep(Duration::from_millis(2100));
    append(&data.join("a"));
    fs::write(data.join("many0"), "other").unwrap();
    let before = tree(data);
    let mut config = config(&[(data, "/")]);
    let error = way.go_back(From::Own(1), &config).unwrap_err().to_string();
    assert!(
        error.contains("'a' in the directory") && error.contains("'many0' in the directory"),
        "{error}"
    );
    same(&before, &tree(data), "a refusal touches nothing");
    config.accept_changed = true;
    way.go_back(From::Own(1), &config).unwrap();
    assert_eq!(fs::read_to_string(data.join("many0.aside-1")).unwrap(), "other");
    assert!(fs::read(data.join("a.aside-1")).unwrap().ends_with(b"more"));
    fs::remove_file(data.join("many0.aside-1")).unwrap();
    fs::remove_file(data.join("a.aside-1")).unwrap();
    let strip = |mut t: Tree| {
        // Names that were set aside and removed by this test have changed the directory.
        t.values_mut().for_each(|v| v.2 = 0);
        t
    };
    same(&strip(was), &strip(tree(data)), "gone back");
}

/// A file that lost its only name before the oldest snapshot is the snapshot's business: what was kept of it is gone,
/// and nothing hinders.
#[test]
fn what_was_kept_may_be_gone_with_its_journal() {
    let (data, saves) = places(false);
    let (data, saves) = (data.path(), saves.path());
    populate(data);
    let way = rollback(saves, false);
    let mut g = begin(&way, data);
    let files: Vec<u64> = ["b", "c/a"]
        .map(|p| g.open(ROOT, p, 0, READ | WRITE, 0).unwrap())
        .to_vec();
    g.wasi.journal().unwrap().next(1).unwrap();
    for name in ["b", "c/a", "d/b"] {
        assert_eq!(g.path_call("path_unlink_file", ROOT, name), 0);
    }
    g.wasi.journal().unwrap().next(2).unwrap();
    let was = tree(data);
    for &fd in &files {
        assert_eq!(g.call("fd_filestat_set_size", &[fd, 100]), 0);
        g.write(fd, b"more").unwrap();
    }
    let journal = g.wasi.journal().unwrap();
    journal.next(3).unwrap();
    journal.prune(2).unwrap();
    drop(g);
    let (_, told, _) = way.go_back(From::Own(2), &config(&[(data, "/")])).unwrap();
    assert!(told.is_empty(), "{told:?}");
    same(&was, &tree(data), "gone back");
}

/// Permissions are others' business: a program can't change them.
#[test]
fn permissions_of_directories_stay() {
    use std::os::unix::fs::PermissionsExt;
    let (data, _saves, way, _) = changed();
    fs::set_permissions(data.path().join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    way.go_back(From::Own(1), &config(&[(data.path(), "/")])).unwrap();
    assert_eq!(fs::metadata(data.path().join("d")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn what_was_kept_must_be_there() {
    let (data, saves, way, _) = changed();
    fs::remove_dir_all(saves.path().join("0000000001.keep")).unwrap();
    let mut config = config(&[(data.path(), "/")]);
    let error = way.go_back(From::Own(1), &config).unwrap_err().to_string();
    assert!(error.contains("'d/b' in the directory '/' was kept"), "{error}");
    config.accept_changed = true;
    let (_, told, _) = way.go_back(From::Own(1), &config).unwrap();
    assert!(told.iter().any(|t| t.contains("'d/b' was kept")), "{told:?}");
}

/// On another machine a snapshot brings the carried files, and what lies there is not what journals tell of.
#[test]
fn carried_files_elsewhere_are_not_compared() {
    let (_data, _saves, way, _) = changed();
    let other = tempdir().unwrap();
    let (_, told, _) = way
        .go_back(From::Own(1), &carrying(other.path(), GrantMode::Carry))
        .unwrap();
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_directory_that_is_another_is_not_touched() {
    let (data, _saves, way, _) = changed();
    let copy = tempdir().unwrap();
    populate(copy.path());
    let before = tree(copy.path());
    let error = way.go_back(From::Own(1), &config(&[(copy.path(), "/")])).unwrap_err();
    assert!(
        error.exit_code() == 89 && error.to_string().contains("another directory"),
        "{error}"
    );
    let error = way.go_back(From::Own(1), &config(&[])).unwrap_err();
    assert!(error.to_string().contains("not granted"), "{error}");
    let other = Rollback {
        module: ModuleHash([6; 32]),
        ..way.clone()
    };
    let error = other.go_back(From::Own(1), &config(&[(data.path(), "/")])).unwrap_err();
    assert_eq!(error.exit_code(), 86, "{error}");
    let error = way.go_back(From::Own(7), &config(&[(data.path(), "/")])).unwrap_err();
    assert!(
        error.exit_code() == 89 && error.to_string().contains("--no-rollback"),
        "{error}"
    );
    same(&before, &tree(copy.path()), "untouched");
}

#[test]
fn the_program_sees_no_names_of_the_journals() {
    let (data, saves) = places(false);
    populate(data.path());
    let mut g = begin(&rollback(saves.path(), false), data.path());
    let fd = g.open(ROOT, "d/a", 0, READ, 0).unwrap();
    let links = |g: &mut Guest| {
        assert_eq!(g.call("fd_filestat_get", &[fd, OUT.into()]), 0);
        g.u64(OUT + 24)
    };
    assert_eq!(links(&mut g), 2);
    assert_eq!(g.path_call("path_unlink_file", ROOT, "d/a"), 0);
    assert_eq!(links(&mut g), 1);
    assert_eq!(g.path_call("path_unlink_file", ROOT, "c/b"), 0);
    assert_eq!(links(&mut g), 0);
    assert_eq!(
        g.state().files.unlinked.len(),
        1,
        "a file that has no name travels as one"
    );
    assert_eq!(g.read(fd, 9), Ok(b"text".to_vec()));
}

#[test]
fn snapshots_in_a_granted_directory_are_hidden() {
    let data = tempdir().unwrap();
    let data = data.path();
    populate(data);
    let saves = data.join("d/saves");
    fs::create_dir(&saves).unwrap();
    fs::write(saves.join("0000000001.snap"), "x").unwrap();
    fs::create_dir_all(data.join(".dunlin-restore-1-0")).unwrap();
    fs::write(data.join(".dunlin-notes"), "a person's").unwrap();
    std::os::unix::fs::symlink("d/saves", data.join("link")).unwrap();
    for mode in [GrantMode::Shared, GrantMode::CarryAll] {
        let mut config = carrying(data, mode);
        config.snapshots = Some((saves.clone(), true));
        let mut g = Guest::with(&config);
        let d = g.open(ROOT, "d", DIRECTORY, 0, 0).unwrap();
        assert!(!g.names(d, 4096, 0).contains(&"saves".to_owned()));
        let names = g.names(ROOT, 4096, 0);
        assert!(
            !names.iter().any(|n| n.contains("restore")) && names.contains(&".dunlin-notes".to_owned()),
            "{names:?}"
        );
        let there = [
            "d/saves",
            "d/saves/0000000001.snap",
            "d/../d/saves",
            "link/0000000001.snap",
            "d/saves/",
        ];
        for path in there {
            assert_eq!(g.open(ROOT, path, 0, READ, 0), Err(NOENT), "{path}");
            assert_eq!(g.stat(ROOT, true, path).unwrap_err(), NOENT, "{path}");
            assert_eq!(g.path_call("path_unlink_file", ROOT, path), NOENT, "{path}");
            assert!(g.open(ROOT, path, CREAT, READ | WRITE, 0).is_err(), "{path}");
        }
        assert_eq!(g.open(d, "saves", DIRECTORY, 0, 0), Err(NOENT));
        assert_eq!(g.stat(ROOT, true, "link").unwrap_err(), NOENT);
        assert_eq!(g.path_call("path_create_directory", ROOT, "d/saves/x"), ACCES);
        let rename = |g: &mut Guest, from: &str, to: &str| {
            let ([a, b], [c, d]) = (g.string(PATH, from), g.string(PATH2, to));
            g.call("path_rename", &[ROOT, a, b, ROOT, c, d])
        };
        assert_eq!(rename(&mut g, "d/saves", "y"), NOENT);
        assert_eq!(rename(&mut g, "a", "d/saves/a"), ACCES);
        assert_eq!(rename(&mut g, "d", "e"), BUSY);
        let carried = g.state().files.nodes;
        assert!(
            !carried
                .iter()
                .any(|n| n.path.contains("saves") || n.path.contains("restore")),
            "{carried:?}"
        );
        assert!(saves.join("0000000001.snap").exists());
        assert_eq!(
            data.join(".dunlin-restore-1-0").exists(),
            mode == GrantMode::Shared,
            "what was left is removed"
        );
    }
    for (granted, to) in [(data.to_owned(), data.to_owned()), (saves.clone(), data.join("d"))] {
        let mut config = config(&[(&granted, "/")]);
        config.snapshots = Some((to, true));
        let error = dunlin_runtime::wasi::Wasi::new(&config).unwrap_err().to_string();
        assert!(error.contains("choose a directory of its own"), "{error}");
    }
}
