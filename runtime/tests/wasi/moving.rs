//! States taken out and put back, here and in a directory that stands for another machine's.

use crate::guest::*;
use dunlin_migrate::state::wasi::{Resource, Stdio};
use dunlin_runtime::wasi::{Obstacle, RestoreProblem, Wasi};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::tempdir;

/// Another machine's copy of a directory.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => {
                fs::create_dir(&to).unwrap();
                copy(&entry.path(), &to);
            }
            false => drop(fs::copy(entry.path(), &to).unwrap()),
        }
    }
}

#[test]
fn open_files_go_on_where_they_were() {
    let (here, there) = (tempdir().unwrap(), tempdir().unwrap());
    fs::create_dir_all(here.path().join("a/b")).unwrap();
    fs::write(here.path().join("a/b/read"), "0123456789").unwrap();
    fs::write(here.path().join("log"), "one\n").unwrap();
    let mut g = Guest::new(here.path());
    let read = g.open(ROOT, "a/../a/b/read", 0, READ, 0).unwrap();
    assert_eq!(g.read(read, 4), Ok(b"0123".to_vec()));
    let log = g.open(ROOT, "log", 0, WRITE, APPEND).unwrap();
    g.write(log, b"two\n").unwrap();
    let a = g.open(ROOT, "a", DIRECTORY, 0, 0).unwrap();
    let new = g.open(a, "new", CREAT | EXCL, READ | WRITE, 0).unwrap();
    g.write(new, b"xxxx").unwrap();
    g.seek(new, 100, 0).unwrap();
    assert_eq!(g.call("fd_renumber", &[new, 0]), 0);
    assert_eq!(g.call("fd_close", &[2]), 0);
    let inode = g.stat(ROOT, false, "a/b/read").unwrap().0;
    copy(here.path(), there.path());

    let state = g.state();
    let files = state.descriptors.iter().filter_map(|d| match &d.resource {
        Resource::File {
            path,
            offset,
            size,
            grant: 0,
        } => Some((u64::from(d.fd), path.as_str(), *offset, *size)),
        _ => None,
    });
    let files = files.collect::<Vec<_>>();
    assert_eq!(
        files,
        [(0, "a/new", 100, 4), (read, "a/b/read", 4, 10), (log, "log", 8, 8)]
    );
    let text = format!("{state:?}");
    assert!(
        !text.contains(here.path().to_str().unwrap()),
        "a host's path is in the state: {text}"
    );

    let before = g.monotonic();
    let mut g = g.moved(&config(&[(there.path(), "/")]));
    assert!(g.monotonic() >= before);
    assert_eq!(g.read(read, 100), Ok(b"456789".to_vec()));
    assert_eq!(g.write(read, b"x"), Err(BADF));
    g.write(log, b"three\n").unwrap();
    g.write(0, b"yyyy").unwrap();
    assert_eq!(g.seek(0, 0, 1), Ok(104));
    assert_eq!(g.call("fd_fdstat_get", &[2, OUT.into()]), BADF);
    assert_eq!(g.open(a, "b/read", 0, READ, 0), Ok(2), "the lowest free number");
    // The program knows the file by the same number as before, though it is another file.
    assert_eq!(g.call("fd_filestat_get", &[read, OUT.into()]), 0);
    assert_eq!(g.u64(OUT + 8), inode);
    assert_eq!(g.stat(ROOT, false, "a/b/read").unwrap().0, inode);
    g.readdir(a, 1000, 2).unwrap();
    assert_eq!(fs::read(there.path().join("log")).unwrap(), b"one\ntwo\nthree\n");
    assert_eq!(fs::read(here.path().join("log")).unwrap(), b"one\ntwo\n");
    assert_eq!(fs::metadata(there.path().join("a/new")).unwrap().len(), 104);
    assert_eq!(g.wasi.warnings(), Vec::<String>::new());
}

#[test]
fn a_state_moves_any_number_of_times_unchanged() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/f"), "text").unwrap();
    let config = config(&[(dir.path(), "/"), (dir.path(), "/"), (&dir.path().join("d"), "d")]);
    let mut g = Guest::with(&config);
    let f = g.open(5, "f", 0, READ | WRITE, SYNC | NONBLOCK).unwrap();
    g.seek(f, 3, 0).unwrap();
    let d = g.open(4, "d", DIRECTORY, 0, 0).unwrap();
    g.readdir(d, 30, 0).unwrap();
    let (base, inheriting) = g.rights(d);
    assert_eq!(
        g.call("fd_fdstat_set_rights", &[d, base & !(1 << 10), inheriting & !WRITE]),
        0
    );
    let rights = g.rights(1).0;
    assert_eq!(g.call("fd_fdstat_set_rights", &[1, rights & !(1 << 3), 0]), 0);
    let first = g.state();
    assert_eq!(first.grants, ["/", "/", "d"]);
    for _ in 0..3 {
        g = g.moved(&config);
        let state = g.state();
        assert_eq!(state.without_times(), first.without_times());
        assert_eq!(state.times.files, first.times.files);
    }
    assert_eq!(g.call("fd_fdstat_get", &[f, OUT.into()]), 0);
    assert_eq!(g.u16(OUT + 2), (SYNC | NONBLOCK) as u16);
    assert_eq!(g.open(d, "new", CREAT, READ, 0), Err(NOTCAPABLE));
    assert_eq!(g.open(d, "f", 0, WRITE, 0), Err(NOTCAPABLE));
    assert_eq!(g.call("fd_fdstat_set_flags", &[1, NONBLOCK]), NOTCAPABLE);
}

#[test]
fn what_a_program_has_given_up_stays_given_up_and_the_rest_stays() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    let f = g.open(ROOT, "f", CREAT, READ | WRITE, 0).unwrap();
    g.write(f, b"text").unwrap();
    let (rights, _) = g.rights(f);
    assert_eq!(g.call("fd_fdstat_set_rights", &[f, rights & !(READ | WRITE), 0]), 0);
    let mut g = g.moved(&config(&[(dir.path(), "/")]));
    assert_eq!(g.rights(f).0, rights & !(READ | WRITE));
    assert_eq!((g.write(f, b"x"), g.read(f, 1)), (Err(BADF), Err(BADF)));
    assert_eq!(g.call("fd_filestat_set_size", &[f, 2]), 0);
    assert_eq!(g.call("fd_allocate", &[f, 0, 9]), 0);
    assert_eq!(fs::metadata(dir.path().join("f")).unwrap().len(), 9);
}

#[test]
fn equal_programs_have_equal_states() {
    let (a, b) = (tempdir().unwrap(), tempdir().unwrap());
    let states = [&a, &b].map(|dir| {
        let mut g = Guest::new(dir.path());
        let f = g.open(ROOT, "f", CREAT, READ | WRITE, 0).unwrap();
        g.write(f, b"text").unwrap();
        g.path_call("path_create_directory", ROOT, "d");
        g.readdir(ROOT, 30, 0).unwrap();
        g.state()
    });
    assert_ne!(states[0].times.files, states[1].times.files, "different files");
    let bytes = states.map(|s| postcard::to_stdvec(&s.without_times()).unwrap());
    assert_eq!(bytes[0], bytes[1]);
}

#[test]
fn renamed_files_are_found_and_deleted_ones_are_told() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    let f = g.open(ROOT, "f", CREAT, READ | WRITE, 0).unwrap();
    g.write(f, b"text").unwrap();
    g.path_call("path_create_directory", ROOT, "d");
    let [p, n] = g.string(PATH, "f");
    let [q, k] = g.string(PATH2, "d/renamed (deleted)");
    assert_eq!(g.call("path_rename", &[ROOT, p, n, ROOT, q, k]), 0);
    let mut g = g.moved(&config(&[(dir.path(), "/")]));
    g.seek(f, 0, 0).unwrap();
    assert_eq!(g.read(f, 9), Ok(b"text".to_vec()));
    assert_eq!(g.wasi.obstacles(), []);
    g.call("fd_close", &[f]);
    // A deleted directory.
    g.path_call("path_create_directory", ROOT, "e");
    let e = g.open(ROOT, "e", DIRECTORY, 0, 0).unwrap();
    assert_eq!(g.path_call("path_remove_directory", ROOT, "e"), 0);
    assert!(matches!(&g.wasi.obstacles()[..], [Obstacle::RemovedDirectory { .. }]));
    let error = g.wasi.capture().unwrap_err().to_string();
    assert!(error.contains("/e\"") && error.contains("deleted"), "{error}");
    assert_eq!(g.call("fd_close", &[e]), 0);
    assert!(g.wasi.capture().is_ok());
    // Replaced by another of the same name.
    let f = g.open(ROOT, "x", CREAT, READ, 0).unwrap();
    fs::write(dir.path().join("y"), "").unwrap();
    let outside = tempdir().unwrap();
    fs::hard_link(dir.path().join("x"), outside.path().join("keep")).unwrap();
    fs::rename(dir.path().join("y"), dir.path().join("x")).unwrap();
    assert!(matches!(&g.wasi.obstacles()[..], [Obstacle::Lost { .. }]));
    g.call("fd_close", &[f]);
    // Moved out of the grant.
    let other = tempdir().unwrap();
    let d = g.open(ROOT, "d", DIRECTORY, 0, 0).unwrap();
    fs::rename(dir.path().join("d"), other.path().join("d")).unwrap();
    assert!(matches!(&g.wasi.obstacles()[..], [Obstacle::Outside { .. }]));
    g.call("fd_close", &[d]);
    assert_eq!(g.wasi.obstacles(), []);
}

#[test]
fn what_is_not_a_file_can_not_move() {
    let dir = tempdir().unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("p"), rustix::fs::Mode::RUSR).unwrap();
    let mut g = Guest::with(&config(&[(dir.path(), "/"), (Path::new("/dev"), "/dev")]));
    g.open(3, "p", 0, READ, 0).unwrap();
    g.open(4, "null", 0, READ | WRITE, 0).unwrap();
    assert_eq!(
        g.wasi.obstacles(),
        [Obstacle::Special { fd: 5 }, Obstacle::Special { fd: 6 }]
    );
}

#[test]
fn missing_things_are_all_told_at_once() {
    let (here, there) = (tempdir().unwrap(), tempdir().unwrap());
    let mut g = Guest::with(&config(&[
        (here.path(), "/data"),
        (here.path(), "/spare"),
        (here.path(), "/unused"),
    ]));
    for name in ["gone", "dir-now", "link-now"] {
        g.open(3, name, CREAT, READ | WRITE, 0).unwrap();
    }
    g.path_call("path_create_directory", 3, "d");
    g.open(3, "d", DIRECTORY, 0, 0).unwrap();
    g.call("fd_close", &[5]);
    fs::create_dir(there.path().join("dir-now")).unwrap();
    symlink("/etc/passwd", there.path().join("link-now")).unwrap();
    fs::write(there.path().join("d"), "").unwrap();
    let state = g.state();
    let error = Wasi::restore(&state, &config(&[(there.path(), "/data")])).unwrap_err();
    assert_eq!(error.0.len(), 5, "{error}");
    let text = error.to_string();
    for part in ["--dir HOST::/spare", "'gone'", "'dir-now'", "'link-now'", "'d'"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert!(!text.contains("/unused"), "nothing refers to it: {text}");
    assert!(!there.path().join("gone").exists(), "a restore creates nothing");
    let error = Wasi::restore(&state, &config(&[])).unwrap_err().to_string();
    assert_eq!(
        error.matches("/data").count(),
        2,
        "each missing grant once (in words and as an option): {error}"
    );
    let error = Wasi::restore(
        &state,
        &config(&[(&there.path().join("nowhere"), "/data"), (there.path(), "/spare")]),
    )
    .unwrap_err();
    assert!(error.to_string().contains("cannot open the directory"), "{error}");
}

#[test]
fn changed_files_are_refused_unless_accepted() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "0123456789").unwrap();
    let mut g = Guest::new(dir.path());
    let f = g.open(ROOT, "f", 0, READ, 0).unwrap();
    g.seek(f, 8, 0).unwrap();
    let state = g.state();
    let mut config = config(&[(dir.path(), "/")]);
    let accessed = fs::metadata(&path).unwrap().accessed().unwrap();
    let old = fs::FileTimes::new().set_accessed(std::time::SystemTime::UNIX_EPOCH);
    fs::File::open(&path).unwrap().set_times(old).unwrap();
    assert!(Wasi::restore(&g.state(), &config).is_ok());
    let looked_at = fs::metadata(&path).unwrap().accessed().unwrap();
    assert_eq!(
        looked_at,
        std::time::SystemTime::UNIX_EPOCH,
        "comparing it left a trace; before: {accessed:?}"
    );
    // Another file with the same contents is the same: times differ between machines.
    fs::rename(&path, dir.path().join("old")).unwrap();
    fs::write(&path, "0123456789").unwrap();
    assert!(Wasi::restore(&state, &config).is_ok());
    for (contents, part) in [("0123456798", "contents"), ("01", "2 bytes")] {
        fs::write(&path, contents).unwrap();
        config.accept_changed = false;
        let error = Wasi::restore(&state, &config).unwrap_err();
        assert!(matches!(&error.0[..], [RestoreProblem::Changed { .. }]), "{error}");
        let text = error.to_string();
        assert!(text.contains(part) && text.contains("--accept-changed"), "{text}");
        assert_eq!(error.exit_code(), 89);
        config.accept_changed = true;
        let wasi = Wasi::restore(&state, &config).unwrap();
        assert!(wasi.warnings()[0].contains("'f'"), "{:?}", wasi.warnings());
        g = Guest { wasi, ..g };
    }
    assert_eq!(g.read(f, 10), Ok(vec![]));
}

#[test]
fn a_file_the_program_writes_is_what_it_was_at_the_snapshot() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    let f = g.open(ROOT, "f", CREAT, WRITE, 0).unwrap();
    g.write(f, b"before").unwrap();
    let config = config(&[(dir.path(), "/")]);
    let state = g.state();
    assert!(Wasi::restore(&state, &config).is_ok());
    // It went on here: the snapshot's file is no more.
    g.write(f, b"after").unwrap();
    assert!(Wasi::restore(&state, &config).is_err());
}

#[test]
fn standard_streams_keep_their_identity_under_any_number() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    let f = g.open(ROOT, "f", CREAT, READ, 0).unwrap();
    assert_eq!(g.call("fd_renumber", &[1, f]), 0);
    assert_eq!(g.call("fd_close", &[0]), 0);
    let g = g.moved(&config(&[(dir.path(), "/")]));
    let state = g.state();
    let streams = state.descriptors.iter().filter_map(|d| match d.resource {
        Resource::Stdio { stream, .. } => Some((d.fd, stream)),
        _ => None,
    });
    assert_eq!(
        streams.collect::<Vec<_>>(),
        [(2, Stdio::Stderr), (f as u32, Stdio::Stdout)]
    );
}
