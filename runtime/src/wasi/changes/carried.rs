//! The names that snapshots of a run have carried: one that is missing from the next was removed, and is to be removed
//! where an earlier snapshot has put it.
//!
//! Programs make and remove files without end, so the oldest removed names are forgotten: those that no snapshot had
//! for the longest time.

use dunlin_migrate::state::files::MAX_NODES;
use std::collections::BTreeMap;

/// Index of the grant, and the path below it.
type Name = (u32, String);

/// Removed names that are remembered, at most: a list of them must remain one that a reader takes.
const MOST: usize = MAX_NODES / 2;

/// The names that snapshots of this run have carried, and those that they say were removed.
#[derive(Debug, Default)]
pub(in crate::wasi) struct CarriedNames {
    /// When each was last there, counted in snapshots.
    seen: BTreeMap<Name, u64>,
    snapshots: u64,
}

impl CarriedNames {
    /// Notes what a snapshot carries, and what it says was removed.
    pub(in crate::wasi) fn note(&mut self, there: impl Iterator<Item = Name>, removed: impl Iterator<Item = Name>) {
        self.note_up_to(MOST, there, removed);
    }

    fn note_up_to(&mut self, most: usize, there: impl Iterator<Item = Name>, removed: impl Iterator<Item = Name>) {
        self.snapshots += 1;
        let now = self.snapshots;
        self.seen.extend(there.map(|name| (name, now)));
        for name in removed {
            // Of a snapshot that the program was resumed from, it isn't known when.
            self.seen.entry(name).or_insert(0);
        }
        let mut gone: Vec<u64> = self.seen.values().copied().filter(|&seen| seen < now).collect();
        if gone.len() > most {
            let excess = gone.len() - most;
            gone.sort_unstable();
            // All that are older, and as many as it takes of those that are as old.
            let oldest = gone[excess];
            let mut as_old = excess - gone.partition_point(|&seen| seen < oldest);
            self.seen.retain(|_, seen| {
                let forget = *seen < oldest || *seen == oldest && as_old > 0;
                as_old -= usize::from(*seen == oldest && forget);
                !forget
            });
        }
    }

    /// All names.
    pub(in crate::wasi) fn iter(&self) -> impl Iterator<Item = &Name> {
        self.seen.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_removed_names_are_forgotten_and_none_that_is_there() {
        let mut carried = CarriedNames::default();
        let names = |range: std::ops::Range<u32>| range.map(|n| (0, format!("{n:04}")));
        for n in 0..100 {
            // Ten new ones each time, and one that stays.
            let there = names(n * 10..n * 10 + 10).chain([(1, "stays".to_owned())]);
            carried.note_up_to(25, there, std::iter::empty());
            assert!(carried.iter().count() <= 11 + 25);
        }
        let kept: Vec<_> = carried.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!((kept.first(), kept.last()), (Some(&"0965"), Some(&"stays")));
        carried.note_up_to(25, std::iter::empty(), names(5000..5003));
        assert_eq!(carried.iter().count(), 25);
    }
}
