//! Old snapshots stay readable: every file in `tests/samples` was written by some version of Dunlin, and must be read by this one.

use dunlin_migrate::module::ModuleHash;
use dunlin_migrate::snapshot::{self, PAGE_SIZE, Snapshot};
use dunlin_migrate::state::wasi::{Descriptor, FileTimes, Resource, Stdio, Times, WasiState};
use dunlin_migrate::state::{Frame, Invocation, MemoryState, PointKind, Slot, State, TableState};
use dunlin_migrate::types::Value;
use std::fs::File;
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name)
}

/// What `v1.snap` holds: every kind of thing that a state can say, once.
fn state() -> State {
    let frame = |func, offset, kind, values| Frame {
        func,
        offset,
        kind,
        values,
    };
    let descriptor = |fd, resource| Descriptor {
        fd,
        rights: 0x1fff_ffff,
        inheriting: 0x2a,
        flags: 1,
        resource,
    };
    let outer = vec![
        (Slot::Local(0), Value::I32(0xffff_fffb)),
        (Slot::Local(1), Value::I64(1 << 63)),
        (Slot::Local(200), Value::F32(0x7fc0_0001)),
        (Slot::Stack(0), Value::F64(0x4009_21fb_5444_2d18)),
        (Slot::Stack(1), Value::V128(u128::MAX - 1)),
        (Slot::Stack(2), Value::FuncRef(Some(300))),
        (Slot::Stack(3), Value::ExternRef(None)),
    ];
    State {
        module: ModuleHash::of(b"sample"),
        invocation: Invocation::Export("_start".into()),
        frames: vec![
            frame(300, 0x1234, PointKind::Call, outer),
            frame(7, 0x20, PointKind::Entry, vec![]),
            frame(8, 0x80, PointKind::Loop, vec![]),
            frame(2, 0, PointKind::Host, vec![(Slot::Local(0), Value::I32(1))]),
        ],
        globals: vec![Value::I32(65536), Value::FuncRef(None)],
        memories: vec![MemoryState { pages: 70 }],
        tables: vec![TableState {
            elements: vec![None, Some(300)],
        }],
        dropped_elements: vec![true],
        dropped_data: vec![false, true],
        wasi: WasiState {
            args: vec!["sample".into(), "größe".into()],
            env: vec![("NAME".into(), "value".into())],
            grants: vec!["/data".into()],
            descriptors: vec![
                descriptor(
                    0,
                    Resource::Stdio {
                        stream: Stdio::Stdin,
                        offset: Some(5),
                    },
                ),
                descriptor(
                    1,
                    Resource::Stdio {
                        stream: Stdio::Stdout,
                        offset: None,
                    },
                ),
                descriptor(
                    2,
                    Resource::Stdio {
                        stream: Stdio::Stderr,
                        offset: None,
                    },
                ),
                descriptor(
                    3,
                    Resource::Directory {
                        grant: 0,
                        path: String::new(),
                        preopened: true,
                        listing: Some(vec![b"a\xff".to_vec()]),
                    },
                ),
                descriptor(
                    4,
                    Resource::File {
                        grant: 0,
                        path: "a/b".into(),
                        offset: 12,
                        size: 100,
                    },
                ),
            ],
            times: Times {
                monotonic: 1_500_000_000,
                process_cpu: 2,
                thread_cpu: 3,
                poll_started: Some(4),
                files: vec![FileTimes {
                    fd: 4,
                    modified: 5,
                    inode: 6,
                }],
            },
        },
        exceptions: vec![],
    }
}

fn memory() -> Vec<u8> {
    let mut memory = vec![0; 70 * PAGE_SIZE];
    memory[69 * PAGE_SIZE..]
        .iter_mut()
        .enumerate()
        .for_each(|(n, b)| *b = (n / 256) as u8);
    memory
}

#[test]
fn v1_is_read() {
    let mut sample = Snapshot::open(File::open(path("v1.snap")).unwrap()).unwrap();
    assert_eq!(sample.state(), &state());
    sample.verify_pages().unwrap();
    let mut page = [0; PAGE_SIZE];
    for n in 0..70 {
        sample.read_page(0, n, &mut page).unwrap();
        assert_eq!(page, memory()[n as usize * PAGE_SIZE..][..PAGE_SIZE], "page {n}");
    }
}

/// While version 1 is the newest, the writer still writes the same bytes, on every architecture: change the version with the format.
#[test]
fn v1_is_written() {
    let mut out = Vec::new();
    snapshot::write(&mut out, &state(), &[&memory()]).unwrap();
    assert_eq!(out, std::fs::read(path("v1.snap")).unwrap());
}

#[test]
#[ignore = "writes the sample of the current version"]
fn write_sample() {
    snapshot::atomic_write(&path("v1.snap"), |file| snapshot::write(file, &state(), &[&memory()])).unwrap();
}
