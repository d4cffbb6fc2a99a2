//! `spec-skips.txt`: what of the suite is left out, one line each, with the reason. The list must be exact: an entry
//! that isn't needed fails the tests as surely as one that is missing.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where the list lies.
pub fn path() -> PathBuf {
    crate::tools::root().join("tests/spec-skips.txt")
}

/// The list: id to reason. `DUNLIN_SPEC_SKIPS=write` makes the tests write it anew, to be read over before it is
/// committed.
pub fn read() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    text.lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| {
            let (id, reason) = l
                .split_once(' ')
                .unwrap_or_else(|| panic!("spec-skips.txt: no reason in {l:?}"));
            (id.to_owned(), reason.trim().to_owned())
        })
        .collect()
}

/// Compares the list with what was really left out, or writes it.
#[track_caller]
pub fn check(found: &BTreeMap<String, String>) {
    if std::env::var_os("DUNLIN_SPEC_SKIPS").is_some_and(|v| v == "write") {
        let mut text = String::from(
            "# What of the official test suite is left out, one line each: folder/file.wast:line, and why.\n\
             # The tests fail if an entry is missing or not needed. DUNLIN_SPEC_SKIPS=write writes this file.\n",
        );
        for (id, reason) in found {
            text.push_str(&format!("{id} {reason}\n"));
        }
        std::fs::write(path(), text).expect("spec-skips.txt is writable");
        return;
    }
    let listed = read();
    let missing: Vec<_> = found
        .iter()
        .filter(|(id, why)| listed.get(*id) != Some(*why))
        .map(|(id, why)| format!("{id} {why}"))
        .collect();
    let stale: Vec<_> = listed.keys().filter(|id| !found.contains_key(*id)).cloned().collect();
    assert!(
        missing.is_empty(),
        "left out, but not (so) in spec-skips.txt:\n{}",
        missing.join("\n")
    );
    assert!(
        stale.is_empty(),
        "in spec-skips.txt, but not left out:\n{}",
        stale.join("\n")
    );
}
