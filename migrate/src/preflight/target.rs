//! A machine's description, and what a program misses there.

use super::{Finding, MAX_PAGE, Needs};
use serde::{Deserialize, Serialize};

/// The description of a machine that a program may go on on. What is `None` is unknown, and no obstacle.
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
    /// Number of addresses that will be listened on (`--tcplisten`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listeners: Option<u32>,
    /// Greatest version of the snapshot's format that is read there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_format: Option<u32>,
    /// Ids of the snapshot sections that are known there.
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

    /// What keeps a program of these needs from going on there; empty if nothing does, as far as is known.
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
