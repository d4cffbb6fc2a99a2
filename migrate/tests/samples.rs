//! Old snapshots stay readable: every file in `tests/samples` was written by some version of Dunlin, and must be read
//! by this one.

use dunlin_format::module::ModuleHash;
use dunlin_format::point::{PointKind, Slot};
use dunlin_format::types::Value;
use dunlin_migrate::snapshot::{self, Contents, PAGE_SIZE, Snapshot};
use dunlin_migrate::state::files::{
    Chunk, Content, ContentHash, Files, GrantMode, Identity, Node, NodeKind, Part, Unlinked,
};
use dunlin_migrate::state::wasi::{Descriptor, FileTimes, Resource, Stdio, Times, WasiState};
use dunlin_migrate::state::{Frame, Invocation, MemoryState, State, TableState};
use dunlin_migrate::transfer::{AtRest, MemoryAtRest, Sink};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/samples")
        .join(name)
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
            files: Files::default(),
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
    let sample = Snapshot::open(File::open(path("v1.snap")).unwrap()).unwrap();
    assert_eq!(sample.state(), &state());
    sample.verify_pages().unwrap();
    let mut page = [0; PAGE_SIZE];
    for n in 0..70 {
        sample.read_page(0, n, &mut page).unwrap();
        assert_eq!(page, memory()[n as usize * PAGE_SIZE..][..PAGE_SIZE], "page {n}");
    }
}

/// A program without files to speak of is still written as by version 1, byte for byte, on every architecture.
#[test]
fn v1_is_written() {
    let mut out = Vec::new();
    snapshot::write(&mut out, &state(), &[&memory()]).unwrap();
    assert_eq!(out, std::fs::read(path("v1.snap")).unwrap());
}

/// The contents of the carried file in `v2.snap`, and of the one without a name.
const CARRIED: [&[u8]; 2] = [b"carried contents", b"nameless"];

/// Contents in memory.
struct InMemory;

impl Contents for InMemory {
    fn copy(&self, chunk: &Chunk, out: &mut dyn Write) -> std::io::Result<bool> {
        let found = CARRIED.into_iter().find(|bytes| ContentHash::of(bytes) == chunk.hash);
        found.map_or(Ok(false), |bytes| out.write_all(bytes).map(|()| true))
    }
}

fn part(hole: u64, first: u32, count: u32) -> Part {
    Part { hole, first, count }
}

/// What `v2.snap` holds: files that are carried, shared and without a name, and a listening socket. Contents are whole.
fn state_2() -> State {
    let mut state = state();
    let node = |path: &str, kind| Node {
        grant: 1,
        path: path.into(),
        kind,
        mode: 0o750,
        modified: 7,
    };
    let chunk = |bytes: &[u8], stored| Chunk {
        hash: ContentHash::of(bytes),
        len: bytes.len() as u64,
        stored,
    };
    let chunks = vec![
        chunk(CARRIED[0], true),
        chunk(CARRIED[1], true),
        chunk(b"not in this one", false),
    ];
    let whole = |first: u32| Content {
        len: chunks[first as usize].len,
        parts: vec![part(0, first, 1)],
    };
    state.wasi.grants.push("/carried".into());
    let descriptor = |fd, resource| Descriptor {
        fd,
        rights: 0x2a,
        inheriting: 0,
        flags: 4,
        resource,
    };
    state
        .wasi
        .descriptors
        .push(descriptor(5, Resource::Unlinked { file: 0, offset: 3 }));
    state
        .wasi
        .descriptors
        .push(descriptor(6, Resource::Listener { index: 0 }));
    state.wasi.files = Files {
        modes: vec![GrantMode::Shared, GrantMode::CarryAll],
        identities: vec![Identity {
            fd: 4,
            size: 100,
            hash: Some(ContentHash::of(b"shared")),
            modified: 5,
            changed: 6,
            place: (7, 8),
        }],
        contents: (0..3).map(whole).collect(),
        chunks,
        nodes: vec![
            node("d", NodeKind::Directory),
            node("d/f", NodeKind::File { content: 0 }),
            node("d/g", NodeKind::HardLink { to: 1 }),
            node("d/h", NodeKind::File { content: 2 }),
            node("l", NodeKind::Symlink { target: "d/f".into() }),
        ],
        removed: vec![(1, "was".into())],
        unlinked: vec![Unlinked {
            grant: 0,
            content: 1,
            mode: 0o600,
            modified: 9,
        }],
        listeners: vec!["127.0.0.1:8080".into()],
    };
    state
}

/// What `v3.snap` holds: the same by chunk, with holes, and files that share chunks.
fn state_3() -> State {
    let mut state = state_2();
    let files = &mut state.wasi.files;
    files.contents = vec![
        Content {
            len: 1 << 40,
            parts: vec![part(1 << 30, 0, 2), part(0, 1, 1)],
        },
        Content {
            len: 8,
            parts: vec![part(0, 1, 1)],
        },
        Content { len: 0, parts: vec![] },
    ];
    state
}

fn bytes_3() -> Vec<u8> {
    let mut out = Vec::new();
    let memory = memory();
    let program = AtRest {
        state: &state_3(),
        memories: &[MemoryAtRest::new(&memory)],
        contents: &InMemory,
    };
    snapshot::SnapshotSink::whole(&mut out).take(&program).unwrap();
    out
}

fn is_read(name: &str, state: &State) {
    let sample = Snapshot::open(File::open(path(name)).unwrap()).unwrap();
    assert_eq!(sample.state(), state);
    sample.verify_pages().unwrap();
    sample.verify_contents().unwrap();
    for bytes in CARRIED {
        let mut out = Vec::new();
        sample.read_chunk(ContentHash::of(bytes), &mut out).unwrap();
        assert_eq!(out, bytes);
    }
    let lacking = ContentHash::of(b"not in this one");
    assert!(sample.read_chunk(lacking, &mut Vec::new()).is_err());
}

#[test]
fn v2_is_read() {
    is_read("v2.snap", &state_2());
}

#[test]
fn v3_is_read() {
    is_read("v3.snap", &state_3());
}

#[test]
fn v3_is_written() {
    assert_eq!(bytes_3(), std::fs::read(path("v3.snap")).unwrap());
}

#[test]
#[ignore = "writes the sample of the current version"]
fn write_sample() {
    std::fs::write(path("v3.snap"), bytes_3()).unwrap();
}
