//! What the program has made, changed and removed travels with `--carry`, open or not; and nobody's change of a file is
//! missed.

use crate::carry::tree;
use crate::guest::*;
use dunlin_migrate::state::files::{CHUNK, GrantMode, NodeKind};
use dunlin_migrate::state::wasi::WasiState;
use dunlin_runtime::wasi::{Obstacle, Wasi};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::time::Duration;
use tempfile::tempdir;

fn carry(dir: &Path) -> dunlin_interface::options::WasiConfig {
    carrying(dir, GrantMode::Carry)
}

fn paths(state: &WasiState) -> Vec<&str> {
    state.files.nodes.iter().map(|n| n.path.as_str()).collect()
}

/// Writes a file and closes it.
fn put(g: &mut Guest, path: &str, bytes: &[u8]) {
    let f = g.open(ROOT, path, CREAT | TRUNC, WRITE, 0).unwrap();
    assert_eq!(g.write(f, bytes), Ok(bytes.len() as u32));
    g.call("fd_close", &[f]);
}

fn rename(g: &mut Guest, from: &str, to: &str) -> u64 {
    let ([a, b], [c, d]) = (g.string(PATH, from), g.string(PATH2, to));
    g.call("path_rename", &[ROOT, a, b, ROOT, c, d])
}

fn link(g: &mut Guest, from: &str, to: &str) -> u64 {
    let ([a, b], [c, d]) = (g.string(PATH, from), g.string(PATH2, to));
    g.call("path_link", &[ROOT, 0, a, b, ROOT, c, d])
}

fn names(dir: &Path) -> Vec<String> {
    tree(dir).into_iter().map(|n| n.0).collect()
}

#[test]
fn what_was_written_and_closed_travels() {
    let (here, there) = (tempdir().unwrap(), tempdir().unwrap());
    fs::write(here.path().join("stranger"), "left alone").unwrap();
    fs::write(here.path().join("read"), "only read").unwrap();
    fs::write(here.path().join("changed"), "before").unwrap();
    let mut g = Guest::with(&carry(here.path()));
    let f = g.open(ROOT, "read", 0, READ, 0).unwrap();
    g.call("fd_close", &[f]);
    put(&mut g, "new", b"new");
    let f = g.open(ROOT, "changed", 0, WRITE, 0).unwrap();
    g.write(f, b"after").unwrap();
    g.call("fd_close", &[f]);
    assert_eq!(g.path_call("path_create_directory", ROOT, "d"), 0);
    put(&mut g, "d/../d/./in", b"in");
    put(&mut g, "tmp", b"renamed");
    assert_eq!(rename(&mut g, "tmp", "d/moved"), 0);
    assert_eq!(link(&mut g, "d/moved", "second"), 0);
    let ([t, tn], [p, pn]) = (g.string(PATH, "d/in"), g.string(PATH2, "link"));
    assert_eq!(g.call("path_symlink", &[t, tn, ROOT, p, pn]), 0);
    put(&mut g, "gone", b"gone");
    assert_eq!(g.path_call("path_unlink_file", ROOT, "gone"), 0);
    assert_eq!(
        paths(&g.state()),
        ["changed", "d", "d/in", "d/moved", "link", "new", "second"]
    );
    let mut g = g.moved(&carry(there.path()));
    assert_eq!(fs::read(there.path().join("changed")).unwrap(), b"aftere");
    let inode = |name: &str| fs::metadata(there.path().join(name)).unwrap().ino();
    assert_eq!(inode("d/moved"), inode("second"));
    // And on: what came along is the program's there, too; and what it removes goes when it comes back.
    assert_eq!(g.path_call("path_unlink_file", ROOT, "d/in"), 0);
    assert_eq!(g.path_call("path_unlink_file", ROOT, "link"), 0);
    assert_eq!(g.path_call("path_unlink_file", ROOT, "changed"), 0);
    put(&mut g, "d/later", b"later");
    let g = g.moved(&carry(here.path()));
    assert_eq!(
        names(here.path()),
        ["d", "d/later", "d/moved", "new", "read", "second", "stranger"]
    );
    assert_eq!(names(there.path()), ["d", "d/later", "d/moved", "new", "second"]);
    assert_eq!(
        g.state().files.removed,
        ["changed", "d/in", "link"].map(|p| (0, p.to_owned()))
    );
}

#[test]
fn a_directory_that_is_renamed_travels_with_all_that_is_in_it() {
    let (here, there) = (tempdir().unwrap(), tempdir().unwrap());
    fs::create_dir_all(here.path().join("old/deep")).unwrap();
    fs::write(here.path().join("old/deep/f"), "f").unwrap();
    let mut g = Guest::with(&carry(here.path()));
    assert_eq!(g.path_call("path_create_directory", ROOT, "new"), 0);
    assert_eq!(rename(&mut g, "old", "new/is"), 0);
    put(&mut g, "new/is/g", b"g");
    let g = g.moved(&carry(there.path()));
    assert_eq!(
        names(there.path()),
        ["new", "new/is", "new/is/deep", "new/is/deep/f", "new/is/g"]
    );
    drop(g);
}

#[test]
fn temporary_files_leave_nothing_behind() {
    let here = tempdir().unwrap();
    let mut g = Guest::with(&carry(here.path()));
    for n in 0..1000 {
        put(&mut g, &format!("tmp{n}"), b"x");
        assert_eq!(g.path_call("path_unlink_file", ROOT, format!("tmp{n}")), 0);
    }
    let state = g.state();
    assert_eq!((state.files.nodes.len(), state.files.removed.len()), (0, 0));
}

#[test]
fn what_others_did_to_touched_names_is_no_obstacle() {
    let here = tempdir().unwrap();
    let mut g = Guest::with(&carry(here.path()));
    for name in ["gone", "pipe", "away"] {
        put(&mut g, name, b"x");
    }
    fs::remove_file(here.path().join("gone")).unwrap();
    fs::remove_file(here.path().join("pipe")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, here.path().join("pipe"), rustix::fs::Mode::RUSR).unwrap();
    fs::remove_file(here.path().join("away")).unwrap();
    symlink("../away", here.path().join("away")).unwrap();
    assert_eq!(g.wasi.obstacles(), []);
    assert_eq!(paths(&g.state()), ["away"]);
}

/// A file whose name is gone while it has another can be found again by that.
#[test]
fn a_file_is_found_by_any_of_its_names() {
    for mode in [GrantMode::Shared, GrantMode::Carry, GrantMode::CarryAll] {
        let (here, there) = (tempdir().unwrap(), tempdir().unwrap());
        fs::create_dir_all(here.path().join("x/y")).unwrap();
        let mut g = Guest::with(&carrying(here.path(), mode));
        let f = g.open(ROOT, "a", CREAT, READ | WRITE, 0).unwrap();
        g.write(f, b"0123456789").unwrap();
        assert_eq!(link(&mut g, "a", "x/y/b"), 0);
        assert_eq!(g.path_call("path_unlink_file", ROOT, "a"), 0);
        assert_eq!(g.wasi.obstacles(), [], "{mode:?}");
        let there = if mode == GrantMode::Shared {
            here.path()
        } else {
            there.path()
        };
        let mut g = g.moved(&carrying(there, mode));
        g.seek(f, 4, 0).unwrap();
        assert_eq!(g.read(f, 3), Ok(b"456".to_vec()));
        g.write(f, b"x").unwrap();
        assert_eq!(fs::read(there.join("x/y/b")).unwrap(), b"0123456x89", "{mode:?}");
        // What has a name outside of the grant only can't move.
        fs::rename(there.join("x/y/b"), there.join("../dunlin-outside")).unwrap();
        let outside = g.wasi.obstacles();
        fs::remove_file(there.join("../dunlin-outside")).unwrap();
        assert!(matches!(outside[..], [Obstacle::Outside { .. }]), "{outside:?}");
    }
}

/// A random program, and others that write into its files now and then: what is carried is always what is there.
#[test]
fn what_is_carried_is_what_is_there() {
    for mode in [GrantMode::Carry, GrantMode::CarryAll] {
        let here = tempdir().unwrap();
        let mut g = Guest::with(&carrying(here.path(), mode));
        let mut seed = mode as u64 + 7;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        let mut open: Vec<u64> = Vec::new();
        for step in 0..1500 {
            let name = format!("f{}", random(4));
            match random(20) {
                0 | 1 => {
                    let flags = [CREAT, CREAT | TRUNC, 0][random(3) as usize];
                    if let Ok(f) = g.open(ROOT, &name, flags, READ | WRITE, random(2) * APPEND) {
                        open.push(f);
                    }
                }
                2 => drop(g.path_call("path_unlink_file", ROOT, &name)),
                3 => drop(rename(&mut g, &name, "f0")),
                4 => drop(link(&mut g, &name, "f1")),
                5 if open.len() > 3 => {
                    let f = open.swap_remove(random(open.len() as u64) as usize);
                    g.call("fd_close", &[f]);
                }
                // Others, in a tick of their own.
                6 if step % 10 == 0 => {
                    std::thread::sleep(Duration::from_millis(15));
                    if let Ok(f) = fs::File::options().write(true).open(here.path().join(&name)) {
                        f.write_all_at(b"others", random(6) * CHUNK).unwrap();
                    }
                    std::thread::sleep(Duration::from_millis(15));
                }
                7 => check(&g, here.path()),
                _ if open.is_empty() => {}
                n => {
                    let f = open[random(open.len() as u64) as usize];
                    match n {
                        8 => drop(g.call("fd_filestat_set_size", &[f, random(5 * CHUNK)])),
                        9 => drop(g.call("fd_allocate", &[f, random(5 * CHUNK), 100])),
                        10 => drop(g.seek(f, random(5 * CHUNK) as i64, 0)),
                        11 => drop(g.call("fd_filestat_set_times", &[f, 0, 12345, 4])),
                        12 => {
                            g.set(DATA, &[step as u8; 9]);
                            let [iovs, count] = g.buffer(9);
                            g.call("fd_pwrite", &[f, iovs, count, random(5 * CHUNK), OUT.into()]);
                        }
                        13 => drop(g.write(f, &vec![0; random(2 * CHUNK) as usize])),
                        _ => drop(g.write(f, &vec![step as u8; random(9000) as usize])),
                    }
                }
            }
        }
        check(&g, here.path());
    }
}

/// Compares what a state says of each file with the file.
#[track_caller]
fn check(g: &Guest, dir: &Path) {
    let state = g.state();
    let stored = g.stored(&state);
    let there = tempdir().unwrap();
    drop(Wasi::restore_with(&state, &carrying(there.path(), GrantMode::CarryAll), &stored).unwrap());
    let all = |dir: &Path| {
        tree(dir)
            .into_iter()
            .map(|(name, _, _, bytes)| (name, bytes))
            .collect::<BTreeMap<_, _>>()
    };
    let (was, is) = (all(dir), all(there.path()));
    for node in &state.files.nodes {
        assert!(matches!(node.kind, NodeKind::File { .. } | NodeKind::HardLink { .. }));
        assert!(was[&node.path] == is[&node.path], "{} differs", node.path);
    }
    assert_eq!(was.keys().collect::<Vec<_>>(), is.keys().collect::<Vec<_>>());
}

#[test]
fn sparse_files_stay_sparse() {
    for mode in [GrantMode::Carry, GrantMode::CarryAll] {
        let (here, there) = (tempdir().unwrap(), tempdir().unwrap());
        let mut g = Guest::with(&carrying(here.path(), mode));
        let far = 3 << 30;
        for name in ["sparse", "nameless"] {
            let f = g.open(ROOT, name, CREAT, READ | WRITE, 0).unwrap();
            g.write(f, b"begin").unwrap();
            g.seek(f, far, 0).unwrap();
            g.write(f, b"middle").unwrap();
            assert_eq!(g.call("fd_filestat_set_size", &[f, 2 * far as u64]), 0);
        }
        assert_eq!(g.path_call("path_unlink_file", ROOT, "nameless"), 0);
        let state = g.state();
        assert!(state.files.stored_len() <= 2 * CHUNK, "{}", state.files.stored_len());
        let mut g = g.moved(&carrying(there.path(), mode));
        let meta = fs::metadata(there.path().join("sparse")).unwrap();
        assert_eq!(meta.len(), 2 * far as u64);
        assert!(meta.blocks() * 512 <= 4 * CHUNK, "{} blocks", meta.blocks());
        for f in [4, 5] {
            g.seek(f, far - 2, 0).unwrap();
            assert_eq!(g.read(f, 10), Ok(b"\0\0middle\0\0".to_vec()));
            assert_eq!(g.seek(f, 0, 2), Ok(2 * far as u64));
        }
    }
}
