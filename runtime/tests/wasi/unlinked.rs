//! Open files without a name travel, whatever their grant says.

use crate::guest::*;
use dunlin_migrate::state::files::GrantMode;
use dunlin_runtime::wasi::{RestoreProblem, Wasi};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use tempfile::tempdir;

/// A program with a deleted file open three times: for writing at the end, for reading in the middle, and for both.
fn deleted(g: &mut Guest) -> [u64; 3] {
    let both = g.open(ROOT, "f", CREAT | EXCL, READ | WRITE, 0).unwrap();
    g.write(both, b"0123456789").unwrap();
    let read = g.open(ROOT, "f", 0, READ, 0).unwrap();
    g.seek(read, 4, 0).unwrap();
    let append = g.open(ROOT, "f", 0, WRITE, APPEND | SYNC).unwrap();
    assert_eq!(g.path_call("path_unlink_file", ROOT, "f"), 0);
    [both, read, append]
}

#[test]
fn a_deleted_file_goes_on_without_a_name() {
    for mode in [GrantMode::Shared, GrantMode::Carry, GrantMode::CarryAll] {
        let (here, there) = (tempdir().unwrap(), tempdir().unwrap());
        let mut g = Guest::with(&carrying(here.path(), mode));
        let [both, read, append] = deleted(&mut g);
        assert_eq!(g.wasi.obstacles(), []);
        let mut g = g.moved(&carrying(there.path(), mode));
        assert_eq!(fs::read_dir(there.path()).unwrap().count(), 0);
        assert_eq!(g.read(read, 3), Ok(b"456".to_vec()));
        assert_eq!(g.write(read, b"x"), Err(BADF));
        // They are three descriptors of one file.
        g.write(append, b"end").unwrap();
        g.seek(both, 0, 0).unwrap();
        g.write(both, b"x").unwrap();
        assert_eq!(g.read(append, 1), Err(BADF));
        assert_eq!(g.read(read, 100), Ok(b"789end".to_vec()));
        g.seek(read, 0, 0).unwrap();
        assert_eq!(g.read(read, 2), Ok(b"x1".to_vec()));
        assert_eq!(g.call("fd_fdstat_get", &[append, OUT.into()]), 0);
        assert_eq!(g.u16(OUT + 2), (APPEND | SYNC) as u16);
        assert_eq!(g.call("fd_filestat_get", &[both, OUT.into()]), 0);
        assert_eq!(g.u64(OUT + 24), 0, "links");
        // And again, back.
        g.moved(&carrying(here.path(), mode));
    }
}

#[test]
fn it_keeps_mode_and_inode() {
    let (here, there) = (tempdir().unwrap(), tempdir().unwrap());
    let mut g = Guest::new(here.path());
    let f = g.open(ROOT, "f", CREAT, READ | WRITE, 0).unwrap();
    fs::set_permissions(here.path().join("f"), fs::Permissions::from_mode(0o440)).unwrap();
    g.path_call("path_unlink_file", ROOT, "f");
    assert_eq!(g.call("fd_filestat_get", &[f, OUT.into()]), 0);
    let (inode, modified) = (g.u64(OUT + 8), g.u64(OUT + 48));
    let state = g.state();
    assert_eq!(state.files.unlinked[0].mode, 0o440);
    let mut g = g.moved(&config(&[(there.path(), "/")]));
    assert_eq!(g.call("fd_filestat_get", &[f, OUT.into()]), 0);
    assert_eq!((g.u64(OUT + 8), g.u64(OUT + 48)), (inode, modified));
    assert_eq!(g.write(f, b"still writable"), Ok(14));
}

#[test]
fn it_needs_no_writable_directory() {
    let here = tempdir().unwrap();
    let mut g = Guest::new(here.path());
    let [both, ..] = deleted(&mut g);
    let state = g.state();
    let stored = g.stored(&state);
    // In /proc nothing can be created.
    let config = config(&[(std::path::Path::new("/proc"), "/")]);
    let mut g = Guest {
        wasi: Wasi::restore_with(&state, &config, &stored).unwrap(),
        ..g
    };
    g.seek(both, 0, 0).unwrap();
    assert_eq!(g.read(both, 100), Ok(b"0123456789".to_vec()));
}

#[test]
fn a_forged_reference_is_refused() {
    let here = tempdir().unwrap();
    let mut g = Guest::new(here.path());
    deleted(&mut g);
    let state = g.state();
    let stored = g.stored(&state);
    let config = config(&[(here.path(), "/")]);
    type Forge = fn(&mut dunlin_migrate::state::wasi::WasiState);
    let forgeries: [Forge; 4] = [
        |s| s.files.unlinked.clear(),
        |s| s.files.unlinked[0].grant = 1,
        |s| s.files.unlinked[0].content = 1,
        |s| s.files.chunks[0].hash.0[0] ^= 1,
    ];
    for forge in forgeries {
        let mut bad = state.clone();
        forge(&mut bad);
        assert_eq!(Wasi::restore_with(&bad, &config, &stored).unwrap_err().exit_code(), 86);
    }
}

#[test]
fn a_listening_socket_is_made_again() {
    let here = tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = config(&[(here.path(), "/")]);
    config.listen = vec![free];
    let mut g = Guest::with(&config);
    assert_eq!(
        g.call("fd_prestat_get", &[4, OUT.into()]),
        0,
        "directories come after it"
    );
    assert_eq!(g.call("fd_fdstat_set_flags", &[3, NONBLOCK]), 0);
    let state = g.state();
    assert_eq!(state.files.listeners, [free.to_string()]);
    let mut none = config.clone();
    none.listen.clear();
    let error = Wasi::restore(&state, &none).unwrap_err();
    assert!(matches!(&error.0[..], [RestoreProblem::MissingListener(_)]), "{error}");
    assert!(error.to_string().contains("--tcplisten"), "{error}");
    let mut g = g.moved(&config);
    assert_eq!(g.call("sock_accept", &[3, 0, OUT.into()]), AGAIN);
    let peer = TcpStream::connect(free).unwrap();
    g.subscribe_fd(IOV, 1, 1, 3);
    g.poll(1);
    assert_eq!(g.call("sock_accept", &[3, 0, OUT.into()]), 0);
    let c = u64::from(g.u32(OUT));
    drop(peer);
    assert_eq!(g.read(c, 1), Ok(vec![]));
    assert_eq!(g.wasi.obstacles().len(), 1);
}
