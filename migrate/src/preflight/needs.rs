//! What a program needs where it goes on.

use super::MAX_PAGE;
use crate::snapshot::{PAGE_SIZE, SectionKind, Snapshot, VERSION};
use crate::state::State;
use crate::state::wasi::{Descriptor, Resource};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a program needs where it goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// SHA-256 of its module, in hexadecimal.
    pub module: String,
    /// Bytes of memory that hold something now: pages that aren't zero, and tables. (The stack is small beside them.)
    pub memory_bytes: u64,
    /// Size of its linear memories in bytes.
    pub linear_bytes: u64,
    /// Size of its snapshot in bytes, at most.
    pub snapshot_bytes: u64,
    /// Directories that it uses, by the names that the program knows.
    pub grants: Vec<String>,
    /// Those of them whose files are in the snapshot, each with the option that granted it (without dashes).
    #[serde(default)]
    pub carried: BTreeMap<String, String>,
    /// Number of sockets that it listens on.
    #[serde(default)]
    pub listeners: u32,
    /// Version of the snapshot's format.
    pub snapshot_format: u32,
    /// Ids of the snapshot's sections that a reader must know.
    pub sections: Vec<u32>,
}

impl Needs {
    /// What a snapshot needs where it goes on.
    pub fn of_snapshot<R>(snapshot: &Snapshot<R>) -> Needs {
        let pages = snapshot.stored_pages().saturating_add(snapshot.base_pages());
        let used = pages.saturating_mul(PAGE_SIZE as u64);
        let incremental = !snapshot.bases().is_empty();
        Needs::of(snapshot.state(), used, snapshot.header().total_len, incremental)
    }

    /// The needs of a state. `used`: bytes of its memories that aren't zero; `snapshot_bytes`: the size of its
    /// snapshot; `incremental`: whether that takes pages from earlier ones.
    pub fn of(state: &State, used: u64, snapshot_bytes: u64, incremental: bool) -> Needs {
        let elements: usize = state.tables.iter().map(|t| t.elements.len()).sum();
        let files = &state.wasi.files;
        let of_descriptors = state.wasi.descriptors.iter().filter_map(|d| match d.resource {
            Resource::Directory { grant, .. } | Resource::File { grant, .. } => Some(grant),
            Resource::Unlinked { file, .. } => files.unlinked.get(file as usize).map(|u| u.grant),
            Resource::Stdio { .. } | Resource::Listener { .. } => None,
        });
        let used_grants: BTreeSet<u32> = of_descriptors.chain(files.nodes.iter().map(|n| n.grant)).collect();
        let name = |grant: &u32| state.wasi.grants.get(*grant as usize).cloned();
        let listens = |d: &&Descriptor| matches!(d.resource, Resource::Listener { .. });
        let has = |kind: &SectionKind| match kind {
            SectionKind::State | SectionKind::Pages | SectionKind::Data => true,
            SectionKind::Bases => incremental,
            SectionKind::Files | SectionKind::Contents => !files.is_empty(),
            SectionKind::Exceptions => !state.exceptions.is_empty(),
            // What may be skipped is not needed.
            SectionKind::Digests => false,
        };
        Needs {
            module: state.module.to_string(),
            memory_bytes: used.saturating_add(16 * elements as u64),
            linear_bytes: state
                .memories
                .iter()
                .fold(0, |sum, m| m.pages.saturating_mul(MAX_PAGE).saturating_add(sum)),
            snapshot_bytes,
            grants: used_grants
                .iter()
                .filter_map(name)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            carried: used_grants
                .iter()
                .filter(|&&g| files.mode(g).carries())
                .filter_map(|g| Some((name(g)?, files.mode(*g).option().to_owned())))
                .collect(),
            listeners: state.wasi.descriptors.iter().filter(listens).count() as u32,
            snapshot_format: VERSION,
            sections: SectionKind::ALL.into_iter().filter(has).map(SectionKind::id).collect(),
        }
    }
}
