//! How much of a suite one run takes: all of it with `DUNLIN_FULL=1` (`ci/test --full`), else a share of it, drawn from
//! a seed that changes with the commit; so breadth comes with time, and what failed fails again for the same commit.
//! `DUNLIN_SLICE_SEED=N` repeats a seed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::Command;
use std::sync::OnceLock;

/// Is all of everything asked for?
pub fn full() -> bool {
    std::env::var_os("DUNLIN_FULL").is_some_and(|value| !value.is_empty())
}

/// The seed: `$DUNLIN_SLICE_SEED`, else the first 32 bits of the commit.
pub fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        if let Ok(text) = std::env::var("DUNLIN_SLICE_SEED") {
            return text.parse().expect("DUNLIN_SLICE_SEED is a number");
        }
        let head = Command::new("git")
            .args(["rev-parse", "HEAD"])
            .current_dir(crate::tools::root())
            .output();
        let head = head
            .ok()
            .filter(|o| o.status.success())
            .map(|o| o.stdout)
            .unwrap_or_default();
        let digits = String::from_utf8_lossy(head.get(..8).unwrap_or(b"0")).into_owned();
        u64::from_str_radix(&digits, 16).unwrap_or(0)
    })
}

/// Is this item among those taken, which are one in `n`?
pub fn takes(item: &str, n: u64) -> bool {
    full() || takes_with(seed(), item, n)
}

/// Which of an item's variants are taken: all, or one.
pub fn variants(item: &str, of: u64) -> Vec<u64> {
    match full() {
        true => (0..of).collect(),
        false => vec![hash(seed(), item) % of],
    }
}

fn takes_with(seed: u64, item: &str, n: u64) -> bool {
    hash(seed, item).is_multiple_of(n)
}

fn hash(seed: u64, item: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, item).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::takes_with;

    #[test]
    fn every_item_has_its_turn() {
        for item in ["a", "b", "many_files"] {
            let turns = (0..1000).filter(|&seed| takes_with(seed, item, 4)).count();
            assert!((200..300).contains(&turns), "{turns}");
        }
    }
}
