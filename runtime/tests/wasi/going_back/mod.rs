//! Files that go back with the program: what going back restores, killed at any moment, and what it refuses because
//! others have changed something.

mod hidden;
mod journals;
mod others;
mod random;

use crate::guest::*;
use dunlin_format::module::ModuleHash;
use dunlin_runtime::moving::rollback::{From, Rollback};
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
