//! Directories: making, removing, renaming, linking, and listings with their cookies.

use crate::guest::*;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use tempfile::tempdir;

fn rename(g: &mut Guest, old: &str, new: &str) -> u64 {
    let [p, n] = g.string(PATH, old);
    let [q, k] = g.string(PATH2, new);
    g.call("path_rename", &[ROOT, p, n, ROOT, q, k])
}

fn link(g: &mut Guest, flags: u64, old: &str, new: &str) -> u64 {
    let [p, n] = g.string(PATH, old);
    let [q, k] = g.string(PATH2, new);
    g.call("path_link", &[ROOT, flags, p, n, ROOT, q, k])
}

fn make_link(g: &mut Guest, target: &str, new: &str) -> u64 {
    let [p, n] = g.string(PATH, target);
    let [q, k] = g.string(PATH2, new);
    g.call("path_symlink", &[p, n, ROOT, q, k])
}

#[test]
fn making_and_removing() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    assert_eq!(g.path_call("path_create_directory", ROOT, "d"), 0);
    assert_eq!(g.path_call("path_create_directory", ROOT, "d/e/"), 0);
    assert_eq!(g.path_call("path_create_directory", ROOT, "d"), EXIST);
    assert_eq!(g.path_call("path_create_directory", ROOT, "x/y"), NOENT);
    assert_eq!(g.path_call("path_remove_directory", ROOT, "d"), NOTEMPTY);
    assert_eq!(g.path_call("path_unlink_file", ROOT, "d"), ISDIR);
    assert_eq!(g.path_call("path_unlink_file", ROOT, "d/"), ISDIR);
    assert_eq!(g.path_call("path_remove_directory", ROOT, "d/e/"), 0);
    fs::write(dir.path().join("f"), "").unwrap();
    assert_eq!(g.path_call("path_remove_directory", ROOT, "f"), NOTDIR);
    assert_eq!(g.path_call("path_remove_directory", ROOT, "f/"), NOTDIR);
    assert_eq!(g.path_call("path_unlink_file", ROOT, "f/"), NOTDIR);
    assert_eq!(g.path_call("path_unlink_file", ROOT, "f"), 0);
    assert_eq!(g.path_call("path_unlink_file", ROOT, "f"), NOENT);
    assert_eq!(g.path_call("path_remove_directory", ROOT, "d"), 0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn renaming() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::create_dir(dir.path().join("e")).unwrap();
    fs::write(dir.path().join("f"), "f").unwrap();
    fs::write(dir.path().join("e/g"), "g").unwrap();
    assert_eq!(rename(&mut g, "d", "e"), NOTEMPTY);
    assert_eq!(rename(&mut g, "f", "d"), ISDIR);
    assert_eq!(rename(&mut g, "d", "f"), NOTDIR);
    assert_eq!(rename(&mut g, "none", "x"), NOENT);
    assert_eq!(rename(&mut g, "f", "e/g"), 0);
    assert_eq!(rename(&mut g, "d/", "h/"), 0);
    assert_eq!(fs::read(dir.path().join("e/g")).unwrap(), b"f");
    assert!(dir.path().join("h").is_dir());
}

#[test]
fn linking() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("f"), "f").unwrap();
    assert_eq!(link(&mut g, 0, "f", "d/h"), 0);
    assert_eq!(link(&mut g, 0, "f", "d/h"), EXIST);
    assert_eq!(link(&mut g, 0, "d", "e"), PERM);
    assert_eq!(link(&mut g, 1, "f", "i"), INVAL);
    assert_eq!(link(&mut g, 0, "f", "i/"), NOENT);
    assert_eq!(make_link(&mut g, "d/h", "l"), 0);
    assert_eq!(make_link(&mut g, "d/h", "l"), EXIST);
    assert_eq!(make_link(&mut g, "x", "none/"), NOENT);
    assert_eq!(make_link(&mut g, "/etc", "abs"), PERM);
    let [p, n] = g.string(PATH, "l");
    assert_eq!(g.call("path_readlink", &[ROOT, p, n, DATA.into(), 100, OUT.into()]), 0);
    assert_eq!((g.u32(OUT), g.bytes(DATA, 3)), (3, &b"d/h"[..]));
    assert_eq!(g.call("path_readlink", &[ROOT, p, n, DATA.into(), 2, OUT.into()]), 0);
    assert_eq!(g.u32(OUT), 2);
    assert_eq!(
        g.call(
            "path_readlink",
            &[ROOT, p, n, DATA.into(), u64::from(u32::MAX), OUT.into()]
        ),
        FAULT
    );
    let [p, n] = g.string(PATH, "f");
    assert_eq!(
        g.call("path_readlink", &[ROOT, p, n, DATA.into(), 100, OUT.into()]),
        INVAL
    );
    // What a link of the host's own names is none of the program's business.
    symlink("/etc/passwd", dir.path().join("host")).unwrap();
    let [p, n] = g.string(PATH, "host");
    assert_eq!(
        g.call("path_readlink", &[ROOT, p, n, DATA.into(), 100, OUT.into()]),
        PERM
    );
}

#[test]
fn listings_are_sorted_and_complete() {
    let dir = tempdir().unwrap();
    let expected: BTreeSet<String> = (0..200).map(|i| format!("file-{i:03}")).collect();
    for name in &expected {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let mut g = Guest::new(dir.path());
    let mut all: Vec<String> = vec![".".into(), "..".into()];
    all.extend(expected);
    for len in [40, 64, 100, 4096, 100_000] {
        assert_eq!(g.names(ROOT, len, 0), all, "buffer of {len} bytes");
    }
    assert_eq!(g.names(ROOT, 100, 150), all[150..]);
    assert_eq!(g.names(ROOT, 100, u64::MAX), Vec::<String>::new());
    // Entries carry type and inode, equal to what stat says; a short buffer is filled to its last byte.
    assert_eq!(g.readdir(ROOT, 10, 0).unwrap(), (vec![], true));
    g.readdir(ROOT, 200, 2).unwrap();
    let (inode, ty) = (g.u64(DATA + 8), g.u8(DATA + 20));
    assert_eq!(g.stat(ROOT, false, "file-000").unwrap(), (inode, ty, 0));
    g.readdir(ROOT, 200, 0).unwrap();
    let inode = g.u64(DATA + 8);
    assert_eq!(g.stat(ROOT, false, ".").unwrap().0, inode);
    assert_eq!(g.readdir(1, 100, 0), Err(NOTDIR));
    assert_eq!(g.readdir(99, 100, 0), Err(BADF));
}

#[test]
fn a_listing_survives_changes_and_a_move() {
    let dir = tempdir().unwrap();
    for i in 0..20 {
        fs::write(dir.path().join(format!("f{i:02}")), "").unwrap();
    }
    let mut g = Guest::new(dir.path());
    let (first, more) = g.readdir(ROOT, 200, 0).unwrap();
    assert!(more);
    let cookie = first.last().unwrap().0;
    // New names before and behind the cookie, and names gone on both sides.
    fs::write(dir.path().join("a"), "").unwrap();
    fs::write(dir.path().join("z"), "").unwrap();
    fs::remove_file(dir.path().join("f00")).unwrap();
    fs::remove_file(dir.path().join("f19")).unwrap();
    let expected: Vec<String> = (cookie - 2..19).map(|i| format!("f{i:02}")).collect();
    let mut moved = g.moved(&config(&[(dir.path(), "/")]));
    assert_eq!(moved.names(ROOT, 4096, cookie), expected);
    // Read to its end: the next listing is new, and the state holds none.
    assert!(moved.names(ROOT, 4096, 0).contains(&"z".to_owned()));
    let state = moved.state();
    assert!(matches!(
        &state.descriptors[3].resource,
        dunlin_migrate::state::wasi::Resource::Directory { listing: None, .. }
    ));
}
