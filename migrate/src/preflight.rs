//! What stands in the way of a move, found out before anything is paused: what a program needs, what a machine has, and
//! what is missing. Both descriptions are plain JSON, so that they can be sent ahead.

use crate::snapshot::{PAGE_SIZE, SectionKind, Snapshot, SnapshotError, VERSION};
use crate::state::State;
use crate::state::wasi::{Descriptor, Resource};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The largest page of a machine that memories can be mapped with, in bytes: WebAssembly's own.
const MAX_PAGE: u64 = 64 << 10;

/// One thing that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing, for scripts: `grant`, `file`, `memory`, `disk`, `module`, `executable`, `descriptor`,
    /// `listener`, `format`, `damage`, `arguments`, `limit`, `page-size` or `state`.
    pub kind: String,
    /// What it is, for a person.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Finding {
    /// A snapshot that can't be read.
    pub fn of_snapshot_error(e: &SnapshotError) -> Finding {
        let (kind, fix) = match e {
            SnapshotError::Version { .. } | SnapshotError::UnknownSection(_) => ("format", "install it here"),
            _ => ("damage", "copy it again, or use an earlier one"),
        };
        Finding::new(kind, e.to_string(), fix)
    }

    /// A finding.
    pub fn new(kind: &str, what: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding {
            kind: kind.into(),
            what: what.into(),
            fix: fix.into(),
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.fix)
    }
}

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
    /// Directories that it uses, by the names it knows.
    pub grants: Vec<String>,
    /// Those of them of which files are brought: under which option they were.
    #[serde(default)]
    pub carried: BTreeMap<String, String>,
    /// Sockets that it listens on.
    #[serde(default)]
    pub listeners: u32,
    /// Version of the snapshot's format.
    pub snapshot_format: u32,
    /// Sections of the snapshot that a reader must know.
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

    /// The needs of a state of which `used` bytes of memory hold something, in a snapshot of this size.
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

/// A machine that a program may go on on. What is absent is unknown, and not judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Memory that a program can have, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The most linear memory that will be allowed (`--max-memory`), in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<u64>,
    /// Room for the snapshot, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Size of a page of the machine in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_size: Option<u64>,
    /// Directories that will be granted, by the names the program knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<String>>,
    /// Addresses that will be listened on (`--tcplisten`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listeners: Option<u32>,
    /// Greatest version of the snapshot's format that is read there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_format: Option<u32>,
    /// Sections of a snapshot that are known there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sections: Option<Vec<u32>>,
}

impl Target {
    /// Parses a description: a JSON object, or `KEY=VALUE` separated by commas (numbers with K, M or G; grants
    /// separated by `:`).
    pub fn parse(text: &str) -> Result<Target, String> {
        let text = text.trim();
        if text.starts_with('{') {
            return serde_json::from_str(text).map_err(|e| e.to_string());
        }
        let mut target = Target::default();
        for pair in text.split(',').filter(|p| !p.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("'{pair}' is not KEY=VALUE"))?;
            let number =
                || parse_size(value).ok_or_else(|| format!("'{value}' is not a number (such as 65536, 512M or 4G)"));
            match key {
                "arch" => target.arch = Some(value.into()),
                "memory" => target.memory_bytes = Some(number()?),
                "max-memory" => target.max_memory = Some(number()?),
                "disk" => target.disk_bytes = Some(number()?),
                "page-size" => target.page_size = Some(number()?),
                "grants" => {
                    target.grants = Some(value.split(':').filter(|g| !g.is_empty()).map(String::from).collect())
                }
                "listeners" => {
                    target.listeners = Some(u32::try_from(number()?).map_err(|_| format!("'{value}' is too great"))?)
                }
                "snapshot-format" => {
                    target.snapshot_format =
                        Some(u32::try_from(number()?).map_err(|_| format!("'{value}' is too great"))?);
                }
                _ => {
                    let keys = "arch, memory, max-memory, disk, page-size, grants, listeners, snapshot-format";
                    return Err(format!("'{key}' is none of {keys}"));
                }
            }
        }
        Ok(target)
    }

    /// What stands in the way of a program's going on there.
    pub fn obstacles(&self, needs: &Needs) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut short = |kind: &str, name: &str, need: u64, have: Option<u64>, fix: &str| {
            if let Some(have) = have.filter(|&have| have < need) {
                found.push(Finding::new(
                    kind,
                    format!("{name}: {need} bytes are needed, {have} are there"),
                    fix,
                ));
            }
        };
        short(
            "memory",
            "too little memory",
            needs.memory_bytes,
            self.memory_bytes,
            "free some, or add swap",
        );
        let fix = "allow more with --max-memory";
        short(
            "limit",
            "the limit of linear memory is too low",
            needs.linear_bytes,
            self.max_memory,
            fix,
        );
        short(
            "disk",
            "too little room on the disk",
            needs.snapshot_bytes,
            self.disk_bytes,
            "make room for the snapshot",
        );
        if let Some(size) = self.page_size.filter(|&size| size > MAX_PAGE) {
            let what = format!("the machine's pages of {size} bytes are larger than WebAssembly's");
            found.push(Finding::new(
                "page-size",
                what,
                "use a kernel with pages of at most 64 KiB",
            ));
        }
        if let Some(grants) = &self.grants {
            for missing in needs.grants.iter().filter(|g| !grants.contains(g)) {
                let what = format!("the program uses the directory '{missing}', which is not granted");
                let option = needs.carried.get(missing).map_or("dir", String::as_str);
                found.push(Finding::new(
                    "grant",
                    what,
                    format!("say which one that is there: --{option} HOST::{missing}"),
                ));
            }
        }
        if self.listeners.is_some_and(|have| have < needs.listeners) {
            let what = format!(
                "the program listens on {} addresses, and fewer are given",
                needs.listeners
            );
            found.push(Finding::new("listener", what, "listen there with --tcplisten"));
        }
        let newer = self.snapshot_format.is_some_and(|v| v < needs.snapshot_format)
            || self
                .sections
                .as_ref()
                .is_some_and(|known| needs.sections.iter().any(|s| !known.contains(s)));
        if newer {
            let what = "the snapshot is of a newer format than Dunlin reads there";
            found.push(Finding::new("format", what, "install a newer Dunlin there"));
        }
        found
    }
}

/// A number of bytes: decimal digits, with an optional binary suffix K, M or G.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        _ => return None,
    };
    // The standard parser takes a sign, too.
    let only_digits = digits.bytes().all(|b| b.is_ascii_digit());
    digits
        .parse::<u64>()
        .ok()
        .filter(|_| only_digits)?
        .checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs() -> Needs {
        Needs {
            memory_bytes: 5 << 20,
            linear_bytes: 10 << 20,
            snapshot_bytes: 6 << 20,
            grants: vec!["/a".into(), "/b".into()],
            carried: [("/a".into(), "carry-all".into())].into(),
            listeners: 2,
            snapshot_format: 1,
            sections: vec![1, 2, 3, 16],
            ..Needs::default()
        }
    }

    #[test]
    fn everything_that_is_missing_is_found_at_once() {
        let poor =
            "arch=aarch64,memory=1M,max-memory=9M,disk=5M,page-size=128K,grants=/b:/c,listeners=1,snapshot-format=0";
        let found = Target::parse(poor).unwrap().obstacles(&needs());
        let kinds: Vec<&str> = found.iter().map(|f| f.kind.as_str()).collect();
        assert_eq!(
            kinds,
            ["memory", "limit", "disk", "page-size", "grant", "listener", "format"]
        );
        assert!(found[4].what.contains("'/a'") && found[4].fix.contains("--carry-all HOST::/a"));
        let old = Target::parse(r#"{"sections": [1, 2, 3]}"#).unwrap().obstacles(&needs());
        assert_eq!((old.len(), old[0].kind.as_str()), (1, "format"));
    }

    #[test]
    fn enough_is_enough_and_the_unknown_is_not_judged() {
        let rich = "memory=5M,max-memory=10M,disk=6M,page-size=16K,grants=/a:/b,listeners=2,snapshot-format=1";
        assert_eq!(Target::parse(rich).unwrap().obstacles(&needs()), []);
        assert_eq!(Target::default().obstacles(&needs()), []);
    }

    #[test]
    fn descriptions_come_back_and_nonsense_is_refused() {
        let target = Target::parse("arch=x86_64,memory=2G,grants=/a").unwrap();
        let json = serde_json::to_string(&target).unwrap();
        assert_eq!(Target::parse(&json).unwrap(), target);
        for bad in [
            "x",
            "x=1",
            "memory=1T",
            "memory=+1M",
            "memory=",
            "{",
            r#"{"speed": 1}"#,
            "disk=99999999999G",
            "snapshot-format=5G",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
