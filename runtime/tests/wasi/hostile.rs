//! Forged states: whatever the bytes say, a restore reaches nothing that the person who resumes did not grant.

use crate::guest::*;
use dunlin_migrate::state::wasi::{Descriptor, FileTimes, MAX_DESCRIPTORS, Resource, Stdio, Times, WasiState};
use dunlin_runtime::wasi::{RestoreProblem, Wasi};
use std::fs;
use std::os::unix::fs::symlink;
use tempfile::{TempDir, tempdir};

/// Rights of a directory, and of a file that is open for both.
const OF_DIRECTORY: u64 = 0x0fbf_fe19;
const OF_FILE: u64 = 0x08e0_01ff;

fn file(fd: u32, path: &str) -> Descriptor {
    let resource = Resource::File {
        grant: 0,
        path: path.into(),
        offset: 0,
        size: 4,
    };
    Descriptor {
        fd,
        rights: OF_FILE,
        inheriting: 0,
        flags: 0,
        resource,
    }
}

fn directory(fd: u32, path: &str, preopened: bool, listing: Option<Vec<Vec<u8>>>) -> Descriptor {
    let resource = Resource::Directory {
        grant: 0,
        path: path.into(),
        preopened,
        listing,
    };
    Descriptor {
        fd,
        rights: OF_DIRECTORY,
        inheriting: (1 << 30) - 1,
        flags: 0,
        resource,
    }
}

fn state(descriptors: Vec<Descriptor>) -> WasiState {
    WasiState {
        grants: vec!["/".into()],
        descriptors,
        ..WasiState::default()
    }
}

fn sandbox() -> TempDir {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    fs::create_dir(dir.path().join("in/d")).unwrap();
    fs::write(dir.path().join("in/f"), "mine").unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    symlink("../secret", dir.path().join("in/link")).unwrap();
    symlink("..", dir.path().join("in/up")).unwrap();
    symlink("f", dir.path().join("in/inner")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("in/p"), rustix::fs::Mode::RUSR).unwrap();
    dir
}

fn restore(dir: &TempDir, state: &WasiState) -> Result<Wasi, Vec<RestoreProblem>> {
    Wasi::restore(state, &config(&[(&dir.path().join("in"), "/")])).map_err(|e| e.0)
}

#[test]
fn paths_can_not_leave_the_grant() {
    let dir = sandbox();
    let absolute = dir.path().join("secret");
    for path in [
        "../secret",
        "/etc/passwd",
        absolute.to_str().unwrap(),
        "link",
        "up/secret",
        "d/../../secret",
        "d/..",
        ".",
        "./f",
        "f/",
        "d//f",
        "",
        "f\0",
        "inner",
        "d",
        "p",
        "none",
        "none/f",
        "f/x",
        "\u{fffd}",
    ] {
        assert!(
            restore(&dir, &state(vec![file(3, path)])).is_err(),
            "{path:?} was opened as a file"
        );
    }
    for path in [
        "..", "../in", "/", "up", "up/in", "link", "inner", "f", "p", "d/.", "d/../d", "none",
    ] {
        assert!(
            restore(&dir, &state(vec![directory(3, path, false, None)])).is_err(),
            "{path:?} was opened as a directory"
        );
        assert!(
            restore(&dir, &state(vec![directory(3, path, true, None)])).is_err(),
            "{path:?} was preopened"
        );
    }
    assert!(
        restore(
            &dir,
            &state(vec![
                file(3, "f"),
                directory(4, "d", false, None),
                directory(5, "", true, None)
            ])
        )
        .is_ok()
    );
    assert!(restore(&dir, &state(vec![directory(5, "d", true, None)])).is_err());
    assert_eq!(
        fs::read_dir(dir.path().join("in")).unwrap().count(),
        6,
        "nothing was created"
    );
}

fn stdio(fd: u32, stream: Stdio, rights: u64) -> Descriptor {
    Descriptor {
        fd,
        rights,
        inheriting: 0,
        flags: 0,
        resource: Resource::Stdio { stream, offset: None },
    }
}

#[test]
fn rights_beyond_a_fresh_programs_are_refused() {
    let dir = sandbox();
    let mut fresh = Guest::new(&dir.path().join("in"));
    fresh.open(ROOT, "f", 0, READ | WRITE, 0).unwrap();
    fresh.open(ROOT, "f", 0, READ, 0).unwrap();
    fresh.open(ROOT, "d", DIRECTORY, 0, 0).unwrap();
    let good = fresh.state();
    assert_eq!(
        (good.descriptors[3].rights, good.descriptors[4].rights),
        (OF_DIRECTORY, OF_FILE)
    );
    let back = Guest {
        wasi: restore(&dir, &good).unwrap(),
        ..Guest::new(dir.path())
    };
    assert_eq!(back.state().descriptors, good.descriptors);
    // Each right that a descriptor hasn't, one by one.
    let mut refused = 0;
    for n in 0..good.descriptors.len() {
        for bit in 0..64 {
            let mut forged = good.clone();
            let d = &mut forged.descriptors[n];
            // What a file is open for is the snapshot's to say, and the resumer's file system has the last word.
            if d.rights >> bit & 1 == 0 && !(d.fd == 5 && OF_FILE >> bit & 1 == 1) {
                d.rights |= 1 << bit;
                assert!(restore(&dir, &forged).is_err(), "right {bit} of descriptor {n}");
                refused += 1;
            }
            let mut forged = good.clone();
            let d = &mut forged.descriptors[n];
            if d.inheriting >> bit & 1 == 0 {
                d.inheriting |= 1 << bit;
                assert!(
                    restore(&dir, &forged).is_err(),
                    "inherited right {bit} of descriptor {n}"
                );
                refused += 1;
            }
        }
    }
    assert!(refused > 500, "{refused}");
    assert!(restore(&dir, &state(vec![stdio(0, Stdio::Stdin, WRITE)])).is_err());
    assert!(restore(&dir, &state(vec![stdio(1, Stdio::Stdout, READ)])).is_err());
    // Writing was not asked for, so nothing of the file can be changed.
    let mut only_read = good.clone();
    only_read.descriptors[4].rights = good.descriptors[5].rights;
    let mut g = Guest {
        wasi: restore(&dir, &only_read).unwrap(),
        ..Guest::new(dir.path())
    };
    assert_eq!(g.call("fd_filestat_set_size", &[4, 0]), NOTCAPABLE);
    assert_eq!(g.write(4, b"x"), Err(BADF));
    assert_eq!(fs::read(dir.path().join("in/f")).unwrap(), b"mine");
}

#[test]
fn strings_that_no_process_can_have_are_refused() {
    let dir = sandbox();
    let good = state(vec![directory(3, "", true, None)]);
    assert!(restore(&dir, &good).is_ok());
    type Change = fn(&mut WasiState);
    let changes: [Change; 6] = [
        |s| s.args = vec!["prog".into(), "a\0b".into()],
        |s| s.env = vec![("A\0".into(), "1".into())],
        |s| s.env = vec![("A".into(), "1\0B=2".into())],
        |s| s.env = vec![("A=B".into(), "1".into())],
        |s| s.grants.push("/\0".into()),
        |s| s.files.listeners.push("127.0.0.1:1\0".into()),
    ];
    for (n, change) in changes.iter().enumerate() {
        let mut forged = good.clone();
        change(&mut forged);
        let found = restore(&dir, &forged).unwrap_err();
        assert!(matches!(&found[..], [RestoreProblem::State(_)]), "{n}: {found:?}");
    }
}

#[test]
fn numbers_are_checked() {
    let dir = sandbox();
    let with = |change: &dyn Fn(&mut WasiState)| {
        let mut s = state(vec![file(3, "f"), directory(4, "", true, None)]);
        change(&mut s);
        restore(&dir, &s)
    };
    assert!(with(&|_| {}).is_ok());
    type Change<'a> = &'a dyn Fn(&mut WasiState);
    let refused: [(&str, Change<'_>); 9] = [
        ("a number too great", &|s| s.descriptors[1].fd = MAX_DESCRIPTORS),
        ("the greatest number", &|s| s.descriptors[1].fd = u32::MAX),
        ("a number twice", &|s| s.descriptors[1].fd = 3),
        ("unknown flags", &|s| s.descriptors[0].flags = 0x20),
        ("no such grant", &|s| {
            s.descriptors[1] = Descriptor {
                resource: Resource::Directory {
                    grant: 1,
                    path: String::new(),
                    preopened: true,
                    listing: None,
                },
                ..s.descriptors[1].clone()
            }
        }),
        ("a position too great", &|s| {
            s.descriptors[0].resource = Resource::File {
                grant: 0,
                path: "f".into(),
                offset: 1 << 63,
                size: 0,
            }
        }),
        ("a name with a slash", &|s| {
            s.descriptors[1] = directory(4, "", true, Some(vec![b"../secret".to_vec()]))
        }),
        ("a name with a NUL", &|s| {
            s.descriptors[1] = directory(4, "", true, Some(vec![b"a\0".to_vec()]))
        }),
        ("dots as a name", &|s| {
            s.descriptors[1] = directory(4, "", true, Some(vec![b"..".to_vec()]))
        }),
    ];
    for (what, change) in refused {
        assert!(with(change).is_err(), "{what} was accepted");
    }
    // Clocks of any reading are harmless.
    let wild = Times {
        monotonic: u64::MAX,
        process_cpu: u64::MAX,
        thread_cpu: u64::MAX,
        poll_started: Some(u64::MAX),
        files: vec![FileTimes {
            fd: 9,
            modified: 0,
            inode: 0,
        }],
    };
    let wasi = with(&|s| s.times = wild.clone()).unwrap();
    let mut g = Guest {
        wasi,
        ..Guest::new(dir.path())
    };
    g.subscribe_clock(IOV, 1, 1, 1_000_000, 0);
    g.poll(1);
    assert_eq!(g.monotonic(), u64::MAX);
}

#[test]
fn a_forged_listing_tells_nothing_of_the_outside() {
    let dir = sandbox();
    let names = ["f", "link", "secret", "none"].map(|n| n.as_bytes().to_vec()).to_vec();
    let wasi = restore(&dir, &state(vec![directory(3, "", true, Some(names))])).unwrap();
    let mut g = Guest {
        wasi,
        ..Guest::new(dir.path())
    };
    assert_eq!(g.names(3, 4096, 2), ["f", "link"]);
}

#[test]
fn damaged_bytes_never_panic() {
    let dir = sandbox();
    let names = Some(vec![b"f".to_vec()]);
    let good = state(vec![
        file(3, "f"),
        directory(4, "", true, names),
        directory(5, "d", false, None),
    ]);
    let bytes = postcard::to_stdvec(&good).unwrap();
    let config = config(&[(&dir.path().join("in"), "/")]);
    let mut decoded = 0;
    for i in 0..bytes.len() {
        for flip in [1u8, 2, 0x10, 0x80, 0xff] {
            let mut bad = bytes.clone();
            bad[i] ^= flip;
            if let Ok(state) = postcard::from_bytes::<WasiState>(&bad) {
                decoded += 1;
                let _ = Wasi::restore(&state, &config);
            }
        }
        let _ = postcard::from_bytes::<WasiState>(&bytes[..i]);
    }
    assert!(decoded > 50, "only {decoded} damaged states could be decoded");
    assert_eq!(fs::read_dir(dir.path().join("in")).unwrap().count(), 6);
    assert_eq!(fs::read(dir.path().join("in/f")).unwrap(), b"mine");
}
