//! Files: opening, positions, flags, rights, attributes, renumbering, and what becomes of bad arguments.

use crate::guest::*;
use std::fs;
use std::os::unix::fs::symlink;
use tempfile::tempdir;

#[test]
fn arguments_and_environment() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    assert_eq!(g.call("args_sizes_get", &[0, 4]), 0);
    assert_eq!((g.u32(0), g.u32(4)), (2, 5 + 5));
    assert_eq!(g.call("args_get", &[0x100, 0x200]), 0);
    assert_eq!((g.u32(0x100), g.u32(0x104)), (0x200, 0x205));
    assert_eq!(g.bytes(0x200, 10), "prog\0é x\0".as_bytes());
    assert_eq!(g.call("environ_sizes_get", &[0, 4]), 0);
    assert_eq!((g.u32(0), g.u32(4)), (1, 4));
    assert_eq!(g.call("environ_get", &[0x100, 0x200]), 0);
    assert_eq!(g.bytes(0x200, 4), b"A=1\0");
    assert_eq!(g.call("args_get", &[0x100, 0xffff_fff0]), FAULT);
    assert_eq!(g.call("args_sizes_get", &[0, 0xffff_ffff]), FAULT);
}

#[test]
fn clocks_and_random_numbers() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    for clock in 0..4 {
        assert_eq!(g.call("clock_res_get", &[clock, OUT.into()]), 0);
        assert!((1..=1_000_000_000).contains(&g.u64(OUT)));
        assert_eq!(g.call("clock_time_get", &[clock, 0, OUT.into()]), 0);
    }
    assert_eq!(g.call("clock_time_get", &[4, 0, OUT.into()]), INVAL);
    assert_eq!(g.call("clock_time_get", &[0, 0, OUT.into()]), 0);
    assert!(g.u64(OUT) > 1_600_000_000_000_000_000);
    let (a, b) = (g.monotonic(), g.monotonic());
    assert!(a <= b && b < 60_000_000_000);
    assert_eq!(g.call("random_get", &[DATA.into(), 10_000]), 0);
    assert!(g.bytes(DATA, 10_000).iter().filter(|&&b| b == 0).count() < 200);
    assert_eq!(g.call("random_get", &[DATA.into(), 0xffff_ffff]), FAULT);
    assert_eq!(g.call("random_get", &[0, 0]), 0);
}

#[test]
fn writing_seeking_and_reading() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    let f = g.open(ROOT, "f", CREAT, READ | WRITE, 0).unwrap();
    assert_eq!(f, 4);
    assert_eq!(g.write(f, b"hello world"), Ok(11));
    assert_eq!(g.call("fd_tell", &[f, OUT.into()]), 0);
    assert_eq!(g.u64(OUT), 11);
    assert_eq!(g.read(f, 5), Ok(vec![]));
    assert_eq!(g.seek(f, -5, 2), Ok(6));
    assert_eq!(g.read(f, 100), Ok(b"world".to_vec()));
    assert_eq!(g.seek(f, -100, 1), Err(INVAL));
    assert_eq!(g.seek(f, -1, 0), Err(INVAL));
    assert_eq!(g.seek(f, 0, 3), Err(INVAL));
    assert_eq!(g.seek(f, 2, 0), Ok(2));
    let [iovs, count] = g.buffer(3);
    assert_eq!(g.call("fd_pread", &[f, iovs, count, 6, OUT.into()]), 0);
    assert_eq!(g.bytes(DATA, 3), b"wor");
    g.set(DATA, b"WOR");
    assert_eq!(g.call("fd_pwrite", &[f, iovs, count, 6, OUT.into()]), 0);
    assert_eq!(g.call("fd_pread", &[f, iovs, count, u64::MAX, OUT.into()]), INVAL);
    assert_eq!(g.call("fd_sync", &[f]), 0);
    assert_eq!(g.call("fd_datasync", &[f]), 0);
    assert_eq!(g.call("fd_advise", &[f, 0, 10, 2]), 0);
    assert_eq!(g.call("fd_advise", &[f, 0, 10, 6]), INVAL);
    assert_eq!(g.read(f, 100), Ok(b"llo WORld".to_vec()));
    assert_eq!(g.call("fd_close", &[f]), 0);
    assert_eq!(g.call("fd_close", &[f]), BADF);
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"hello WORld");
}

#[test]
fn several_buffers_and_bad_ones() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    let f = g.open(ROOT, "f", CREAT, READ | WRITE, 0).unwrap();
    let list = |g: &mut Guest, buffers: &[(u32, u32)]| {
        for (i, (buf, len)) in (0u32..).zip(buffers) {
            g.set(IOV + 8 * i, &buf.to_le_bytes());
            g.set(IOV + 8 * i + 4, &len.to_le_bytes());
        }
        buffers.len() as u64
    };
    g.set(DATA, b"abcdefgh");
    let n = list(&mut g, &[(DATA + 4, 4), (DATA, 0), (DATA, 4), (DATA, 8)]);
    assert_eq!(g.call("fd_write", &[f, IOV.into(), n, OUT.into()]), 0);
    assert_eq!(g.u32(OUT), 16);
    g.seek(f, 0, 0).unwrap();
    g.memory[DATA as usize..][..64].fill(0);
    let n = list(&mut g, &[(DATA + 32, 3), (DATA + 8, 5)]);
    assert_eq!(g.call("fd_read", &[f, IOV.into(), n, OUT.into()]), 0);
    assert_eq!(
        (g.u32(OUT), g.bytes(DATA + 32, 3), g.bytes(DATA + 8, 5)),
        (8, &b"efg"[..], &b"habcd"[..])
    );
    // Nothing is read when the result could not be stored, and nothing written from outside.
    let n = list(&mut g, &[(DATA, 4)]);
    assert_eq!(g.call("fd_read", &[f, IOV.into(), n, 0xffff_ffff]), FAULT);
    assert_eq!(g.seek(f, 0, 1), Ok(8));
    let n = list(&mut g, &[(DATA, 4), (0xffff_fff0, 4)]);
    assert_eq!(g.call("fd_write", &[f, IOV.into(), n, OUT.into()]), FAULT);
    assert_eq!(g.call("fd_write", &[f, 0xffff_fff0, 9, OUT.into()]), FAULT);
    assert_eq!(g.call("fd_write", &[f, 0, 0, OUT.into()]), 0);
    assert_eq!(fs::metadata(dir.path().join("f")).unwrap().len(), 16);
    // A full table is no reason to lose a file, and a bad pointer opens nothing.
    let [p, len] = g.string(PATH, "g");
    assert_eq!(
        g.call("path_open", &[ROOT, 0, p, len, CREAT, READ, 0, 0, 0xffff_ffff]),
        FAULT
    );
    assert!(!dir.path().join("g").exists());
}

#[test]
fn appending_and_changing_flags() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    fs::write(dir.path().join("f"), "one").unwrap();
    let f = g.open(ROOT, "f", 0, READ | WRITE, APPEND).unwrap();
    assert_eq!(g.write(f, b"two"), Ok(3));
    g.seek(f, 0, 0).unwrap();
    assert_eq!(g.write(f, b"three"), Ok(5));
    assert_eq!(g.call("fd_fdstat_set_flags", &[f, NONBLOCK]), 0);
    g.seek(f, 0, 0).unwrap();
    assert_eq!(g.write(f, b"ONE"), Ok(3));
    assert_eq!(g.call("fd_fdstat_get", &[f, OUT.into()]), 0);
    assert_eq!((g.u8(OUT), g.u16(OUT + 2)), (4, NONBLOCK as u16));
    assert_eq!(g.call("fd_fdstat_set_flags", &[f, APPEND]), 0);
    assert_eq!(g.write(f, b"!"), Ok(1));
    assert_eq!(g.call("fd_fdstat_set_flags", &[f, SYNC]), INVAL);
    assert_eq!(g.call("fd_fdstat_set_flags", &[f, 0x20]), INVAL);
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"ONEtwothree!");
    let s = g.open(ROOT, "f", 0, WRITE, APPEND | SYNC).unwrap();
    assert_eq!(g.call("fd_fdstat_get", &[s, OUT.into()]), 0);
    assert_eq!(g.u16(OUT + 2), (APPEND | SYNC) as u16);
    assert_eq!(g.call("fd_fdstat_set_flags", &[s, SYNC | NONBLOCK]), 0);
    assert_eq!(g.call("fd_fdstat_set_flags", &[s, 0]), 0);
}

#[test]
fn opening_as_asked() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("f"), "text").unwrap();
    symlink("f", dir.path().join("l")).unwrap();
    symlink("d", dir.path().join("ld")).unwrap();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    let mut g = Guest::new(dir.path());
    assert_eq!(g.open(ROOT, "f", CREAT | EXCL, READ, 0), Err(EXIST));
    assert_eq!(g.open(ROOT, "none", 0, READ, 0), Err(NOENT));
    assert_eq!(g.open(ROOT, "", 0, READ, 0), Err(NOENT));
    assert_eq!(g.open(ROOT, "f", DIRECTORY, READ, 0), Err(NOTDIR));
    assert_eq!(g.open(ROOT, "f/", 0, READ, 0), Err(NOTDIR));
    assert_eq!(g.open(ROOT, "f/x", 0, READ, 0), Err(NOTDIR));
    assert_eq!(g.open(ROOT, "d", CREAT, 0, 0), Err(ISDIR));
    assert_eq!(g.open(ROOT, "d", 0, READ | WRITE, 0), Err(ISDIR));
    assert_eq!(g.open(ROOT, "d", DIRECTORY, READ | WRITE, 0), Err(ISDIR));
    assert_eq!(g.open(ROOT, "d", DIRECTORY | CREAT, 0, 0), Err(INVAL));
    assert_eq!(g.open(ROOT, "f", 16, READ, 0), Err(INVAL));
    assert_eq!(g.open(ROOT, "f", 0, READ, 32), Err(INVAL));
    assert_eq!(g.open_with(ROOT, 2, "f", 0, READ, 0), Err(INVAL));
    assert_eq!(g.open(ROOT, b"f\0", 0, READ, 0), Err(INVAL));
    assert_eq!(g.open(ROOT, b"\xff", 0, READ, 0), Err(ILSEQ));
    assert_eq!(g.open(ROOT, "x".repeat(300), 0, READ, 0), Err(NAMETOOLONG));
    assert_eq!(g.open_with(ROOT, 0, "l", 0, READ, 0), Err(LOOP));
    assert_eq!(g.open_with(ROOT, 0, "dangling", 0, READ, 0), Err(LOOP));
    assert_eq!(g.open_with(ROOT, 0, "ld", DIRECTORY, 0, 0), Err(NOTDIR));
    assert_eq!(g.open(ROOT, "dangling", 0, READ, 0), Err(NOENT));
    for path in ["f", "l", "d/../f", "ld/../f", ".//d/./../l"] {
        let f = g.open(ROOT, path, 0, READ, 0).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(g.read(f, 9), Ok(b"text".to_vec()), "{path}");
        g.call("fd_close", &[f]);
    }
    for (path, oflags) in [("d", 0), ("d/", 0), ("ld", DIRECTORY), ("ld/", DIRECTORY), (".", 0)] {
        let d = g
            .open(ROOT, path, oflags, 0, 0)
            .unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(g.open(d, "x", 0, READ, 0), Err(NOENT));
        assert_eq!(g.read(d, 9), Err(ISDIR));
        assert_eq!(g.write(d, b"x"), Err(ISDIR));
        assert_eq!(g.seek(d, 0, 1), Err(ISDIR));
        g.call("fd_close", &[d]);
    }
    let t = g.open(ROOT, "f", TRUNC, 0, 0).unwrap();
    assert_eq!(g.call("fd_filestat_get", &[t, OUT.into()]), 0);
    assert_eq!(g.u64(OUT + 32), 0);
    // A file is no directory, and neither is a standard stream.
    assert_eq!(g.open(t, "x", CREAT, READ, 0), Err(NOTDIR));
    assert_eq!(g.open(1, "x", CREAT, READ, 0), Err(NOTDIR));
    assert_eq!(g.open(99, "x", CREAT, READ, 0), Err(BADF));
    // Creating through a dangling link creates its target.
    let f = g.open(ROOT, "dangling", CREAT, WRITE, 0).unwrap();
    assert_eq!(g.write(f, b"x"), Ok(1));
    assert_eq!(fs::read(dir.path().join("nowhere")).unwrap(), b"x");
}

#[test]
fn rights_are_kept() {
    const CREATE_FILE: u64 = 1 << 10;
    const SET_SIZE: u64 = 1 << 19;
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "text").unwrap();
    let mut g = Guest::new(dir.path());
    let (base, inheriting) = g.rights(ROOT);
    assert_eq!(
        base & (READ | WRITE | 1 << 2 | 1 << 22),
        0,
        "a directory can't be read, written, sought or resized"
    );
    assert_eq!(inheriting, (1 << 30) - 1);
    let r = g.open(ROOT, "f", 0, READ, 0).unwrap();
    let w = g.open(ROOT, "f", 0, WRITE, 0).unwrap();
    let none = g.open(ROOT, "f", 0, 0, 0).unwrap();
    assert_eq!(
        (
            g.rights(r).0 & (READ | WRITE),
            g.rights(w).0 & (READ | WRITE),
            g.rights(none).0 & (READ | WRITE)
        ),
        (READ, WRITE, 0)
    );
    assert_eq!(
        (g.write(r, b"x"), g.read(w, 1), g.read(none, 1), g.write(none, b"x")),
        (Err(BADF), Err(BADF), Err(BADF), Err(BADF))
    );
    assert_eq!(g.call("fd_filestat_set_size", &[r, 1]), NOTCAPABLE);
    assert_eq!(g.call("fd_allocate", &[r, 0, 1]), NOTCAPABLE);
    // Rights can be dropped and never come back.
    let all = g.rights(w).0;
    assert_eq!(g.call("fd_fdstat_set_rights", &[w, all & !WRITE, 0]), 0);
    assert_eq!(g.write(w, b"x"), Err(BADF));
    assert_eq!(g.call("fd_fdstat_set_rights", &[w, all, 0]), NOTCAPABLE);
    assert_eq!(g.call("fd_fdstat_set_rights", &[w, 0, 1]), NOTCAPABLE);
    // What a directory doesn't hand on can't be had through it.
    let d = g.open(ROOT, ".", DIRECTORY, 0, 0).unwrap();
    let (base, inheriting) = g.rights(d);
    assert_eq!(
        g.call(
            "fd_fdstat_set_rights",
            &[d, base & !(CREATE_FILE | SET_SIZE), inheriting & !WRITE]
        ),
        0
    );
    assert_eq!(g.open(d, "f", 0, WRITE, 0), Err(NOTCAPABLE));
    assert_eq!(g.open(d, "new", CREAT, READ, 0), Err(NOTCAPABLE));
    assert_eq!(g.open(d, "f", TRUNC, READ, 0), Err(NOTCAPABLE));
    let below = g.open(d, ".", DIRECTORY, 0, 0).unwrap();
    assert_eq!(g.open(below, "f", 0, WRITE, 0), Err(NOTCAPABLE));
    assert!(g.open(below, "f", 0, READ, 0).is_ok());
    let f = g.call("fd_fdstat_set_rights", &[d, 0, 0]);
    assert_eq!(f, 0);
    for name in ["path_create_directory", "path_remove_directory", "path_unlink_file"] {
        assert_eq!(g.path_call(name, d, "f"), NOTCAPABLE, "{name}");
    }
    assert_eq!(g.open(d, "f", 0, READ, 0), Err(NOTCAPABLE));
    assert_eq!(g.stat(d, false, "f"), Err(NOTCAPABLE));
    assert_eq!(g.readdir(d, 100, 0), Err(NOTCAPABLE));
    assert_eq!(g.call("fd_filestat_get", &[d, OUT.into()]), NOTCAPABLE);
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"text");
}

#[test]
fn attributes_and_times() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("f"), "text").unwrap();
    fs::hard_link(dir.path().join("f"), dir.path().join("h")).unwrap();
    symlink("f", dir.path().join("l")).unwrap();
    let mut g = Guest::new(dir.path());
    let file = g.stat(ROOT, false, "f").unwrap();
    assert_eq!((file.1, file.2), (4, 4));
    assert_eq!(g.u64(OUT + 24), 2, "links");
    assert_eq!(g.stat(ROOT, false, "h").unwrap(), file);
    assert_eq!(g.stat(ROOT, true, "l").unwrap(), file);
    assert_eq!(g.stat(ROOT, false, "l").unwrap().1, 7);
    assert_eq!(g.stat(ROOT, false, "d/").unwrap().1, 3);
    assert_eq!(g.stat(ROOT, false, "f/"), Err(NOTDIR));
    assert_eq!(g.stat(ROOT, false, "none"), Err(NOENT));
    let f = g.open(ROOT, "f", 0, READ | WRITE, 0).unwrap();
    assert_eq!(g.call("fd_filestat_get", &[f, OUT.into()]), 0);
    assert_eq!((g.u64(OUT + 8), g.u8(OUT + 16)), (file.0, 4));
    assert_eq!(
        g.call("fd_filestat_set_times", &[f, 1_000_000_001, 2_000_000_002, 1 | 4]),
        0
    );
    g.stat(ROOT, false, "f").unwrap();
    assert_eq!((g.u64(OUT + 40), g.u64(OUT + 48)), (1_000_000_001, 2_000_000_002));
    let [p, n] = g.string(PATH, "l");
    assert_eq!(
        g.call("path_filestat_set_times", &[ROOT, 1, p, n, 0, 3_000_000_003, 4]),
        0
    );
    g.stat(ROOT, false, "f").unwrap();
    assert_eq!((g.u64(OUT + 40), g.u64(OUT + 48)), (1_000_000_001, 3_000_000_003));
    g.stat(ROOT, false, "l").unwrap();
    assert_ne!(g.u64(OUT + 48), 3_000_000_003);
    assert_eq!(
        g.call("path_filestat_set_times", &[ROOT, 0, p, n, 0, 4_000_000_004, 4]),
        0
    );
    g.stat(ROOT, false, "l").unwrap();
    assert_eq!(g.u64(OUT + 48), 4_000_000_004);
    assert_eq!(g.call("path_filestat_set_times", &[ROOT, 1, p, n, 0, 0, 8]), 0);
    g.stat(ROOT, false, "f").unwrap();
    assert!(g.u64(OUT + 48) > 1_600_000_000_000_000_000);
    for flags in [3, 12, 16] {
        assert_eq!(g.call("fd_filestat_set_times", &[f, 0, 0, flags]), INVAL);
    }
    assert_eq!(g.call("fd_filestat_set_size", &[f, 100]), 0);
    match g.call("fd_allocate", &[f, 100, 100]) {
        0 => assert_eq!(fs::metadata(dir.path().join("f")).unwrap().len(), 200),
        errno => assert_eq!(errno, NOTSUP),
    }
    assert_eq!(g.call("fd_filestat_set_size", &[f, u64::MAX]), INVAL);
}

#[test]
fn preopened_directories_and_renumbering() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    assert_eq!(g.call("fd_prestat_get", &[ROOT, OUT.into()]), 0);
    assert_eq!((g.u8(OUT), g.u32(OUT + 4)), (0, 1));
    assert_eq!(g.call("fd_prestat_dir_name", &[ROOT, DATA.into(), 0]), NAMETOOLONG);
    assert_eq!(g.call("fd_prestat_dir_name", &[ROOT, DATA.into(), 2]), 0);
    assert_eq!(g.bytes(DATA, 2), b"/\0");
    assert_eq!(g.call("fd_prestat_get", &[1, OUT.into()]), BADF);
    assert_eq!(g.call("fd_prestat_dir_name", &[1, DATA.into(), 9]), NOTDIR);
    assert_eq!(g.call("fd_prestat_get", &[4, OUT.into()]), BADF);
    let f = g.open(ROOT, "f", CREAT, READ | WRITE, 0).unwrap();
    g.write(f, b"x").unwrap();
    assert_eq!(g.call("fd_renumber", &[f, 9]), BADF);
    assert_eq!(g.call("fd_renumber", &[9, f]), BADF);
    assert_eq!(g.call("fd_renumber", &[f, 0]), 0);
    assert_eq!(g.seek(0, 0, 1), Ok(1));
    assert_eq!(g.call("fd_close", &[f]), BADF);
    assert_eq!(g.call("fd_renumber", &[ROOT, 0]), 0);
    assert_eq!(g.call("fd_prestat_get", &[0, OUT.into()]), 0);
    assert_eq!(g.open(0, "f", 0, READ, 0), Ok(3), "the lowest free number");
}

#[test]
fn signals_and_exits() {
    use dunlin_runtime::wasi::Outcome;
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    assert_eq!(g.outcome("proc_exit", &[300]), Outcome::Exit(300));
    assert_eq!(g.call("proc_raise", &[0]), 0);
    assert_eq!(g.call("proc_raise", &[31]), INVAL);
    assert_eq!(g.call("proc_raise", &[18]), NOTSUP);
    assert!(matches!(g.outcome("proc_raise", &[6]), Outcome::Trap(m) if m.contains("ABRT")));
    assert_eq!(g.call("sched_yield", &[]), 0);
    assert_eq!(g.outcome_of("spectest", "print_i32", &[1]), Outcome::ReturnNothing);
}
