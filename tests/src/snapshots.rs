//! Snapshots as values, to look into them and to forge them.

use dunlin_migrate::snapshot::{Snapshot, write};
use dunlin_migrate::state::State;
use std::io::Cursor;
use std::path::Path;

/// A snapshot with its memories' bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The state.
    pub state: State,
    /// The memories.
    pub memories: Vec<Vec<u8>>,
}

/// Reads a snapshot that must be sound.
#[track_caller]
pub fn load(path: &Path) -> Loaded {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
    let snapshot = Snapshot::open(Cursor::new(bytes)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let sizes: Vec<usize> = snapshot
        .state()
        .memories
        .iter()
        .map(|m| (m.pages << 16) as usize)
        .collect();
    let mut memories: Vec<Vec<u8>> = sizes.iter().map(|&size| vec![0; size]).collect();
    let runs: Vec<(u32, u64, u64)> = snapshot.runs().map(|r| (r.memory, r.first, r.len())).collect();
    for (nth, &(memory, first, len)) in runs.iter().enumerate() {
        let at = (first * dunlin_migrate::snapshot::PAGE_SIZE as u64) as usize;
        let bytes = &mut memories[memory as usize][at..at + len as usize];
        snapshot
            .read_run(nth, bytes)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    Loaded {
        state: snapshot.state().clone(),
        memories,
    }
}

impl Loaded {
    /// Writes it as a well-formed file, checksums included, whatever it says.
    #[track_caller]
    pub fn store(&self, path: &Path) {
        let mut out = Cursor::new(Vec::new());
        let memories: Vec<&[u8]> = self.memories.iter().map(Vec::as_slice).collect();
        write(&mut out, &self.state, &memories).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
        std::fs::write(path, out.into_inner()).expect("scratch space is writable");
    }
}
