//! Hostile and damaged lists of carried files, and contents that aren't what they are called.

use super::*;
use crate::state::State;
use crate::state::files::{Chunk, Content, ContentHash, Files, GrantMode, Node, NodeKind, Part};
use crate::testing;
use crate::transfer::{AtRest, MemoryAtRest, Sink};
use std::io::{Cursor, Write};

const TEXT: &[u8] = b"some text that is carried";

struct Text;

impl Contents for Text {
    fn copy(&self, _: &Chunk, out: &mut dyn Write) -> io::Result<bool> {
        out.write_all(TEXT).map(|()| true)
    }
}

fn state() -> State {
    let mut state = testing::state();
    state.wasi.grants = vec!["/data".into()];
    state.wasi.files = Files {
        modes: vec![GrantMode::Carry],
        chunks: vec![Chunk {
            hash: ContentHash::of(TEXT),
            len: TEXT.len() as u64,
            stored: true,
        }],
        contents: vec![Content {
            len: TEXT.len() as u64 + 3,
            parts: vec![Part {
                hole: 3,
                first: 0,
                count: 1,
            }],
        }],
        nodes: vec![Node {
            grant: 0,
            path: "f".into(),
            kind: NodeKind::File { content: 0 },
            mode: 0o644,
            modified: 1,
        }],
        ..Files::default()
    };
    state
}

fn written(state: &State) -> Result<Vec<u8>, SnapshotError> {
    let memory = vec![0; state.memories.iter().map(|m| m.pages as usize * PAGE_SIZE).sum()];
    let mut out = Vec::new();
    SnapshotSink::whole(&mut out).take(&AtRest {
        state,
        memories: &[MemoryAtRest::new(&memory)],
        contents: &Text,
    })?;
    Ok(out)
}

fn open(bytes: Vec<u8>) -> Result<Snapshot<Cursor<Vec<u8>>>, SnapshotError> {
    Snapshot::open(Cursor::new(bytes))
}

#[test]
fn carried_contents_come_back() {
    let snapshot = open(written(&state()).unwrap()).unwrap();
    assert_eq!(snapshot.state(), &state());
    snapshot.verify_contents().unwrap();
    assert_eq!(snapshot.stored_contents().count(), 1);
}

#[test]
fn contents_that_change_while_they_are_written_are_noticed() {
    let mut state = state();
    state.wasi.files.chunks[0].len += 1;
    assert!(matches!(written(&state), Err(SnapshotError::Content { .. })));
    state.wasi.files.chunks[0].len -= 1;
    state.wasi.files.chunks[0].hash.0[0] ^= 1;
    assert!(matches!(written(&state), Err(SnapshotError::Content { .. })));
}

#[test]
fn a_forged_list_of_files_is_refused() {
    let mut state = state();
    state.wasi.files.nodes[0].path = "../f".into();
    assert!(matches!(open(written(&state).unwrap()), Err(SnapshotError::Files(_))));
}

#[test]
fn every_damaged_byte_is_noticed() {
    let good = written(&state()).unwrap();
    let files = good.len() - TEXT.len() - postcard::to_stdvec(&state().wasi.files).unwrap().len();
    for at in files..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        let found = open(bad).and_then(|s| s.verify_contents());
        assert!(found.is_err(), "byte {at} of {}", good.len());
        assert!(open(good[..at].to_vec()).is_err(), "cut off at {at}");
    }
}
