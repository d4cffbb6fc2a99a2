//! Which bytes of a file have been saved already.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of byte positions, as ranges that neither touch nor overlap: begin to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Saved(BTreeMap<u64, u64>);

impl Saved {
    /// The parts of a range that are not in the set, ascending.
    pub(super) fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        let mut at = range.start;
        let before = self.0.range(..=at).next_back().map(|(_, &end)| end);
        at = at.max(before.unwrap_or(0));
        for (&start, &end) in self.0.range(at..range.end.max(at)) {
            if start > at {
                missing.push(at..start);
            }
            at = end;
        }
        if at < range.end {
            missing.push(at..range.end);
        }
        missing
    }

    /// Adds a range.
    pub(super) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        if let Some((&s, &e)) = self.0.range(..=start).next_back()
            && e >= start
        {
            (start, end) = (s, end.max(e));
        }
        while let Some((&s, &e)) = self.0.range(start..=end).next() {
            self.0.remove(&s);
            end = end.max(e);
        }
        self.0.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_what_was_not_added() {
        let mut random = 12345u32;
        let mut next = |n: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u64::from((random >> 8) % n)
        };
        for _ in 0..200 {
            let (mut saved, mut bits) = (Saved::default(), [false; 72]);
            for _ in 0..12 {
                let start = next(60);
                let range = start..start + next(8);
                let missing: Vec<u64> = saved.missing(range.clone()).into_iter().flatten().collect();
                let expected: Vec<u64> = range.clone().filter(|&n| !bits[n as usize]).collect();
                assert_eq!(missing, expected, "{range:?} of {saved:?}");
                saved.add(range.clone());
                range.for_each(|n| bits[n as usize] = true);
            }
            let joined = saved
                .0
                .iter()
                .zip(saved.0.iter().skip(1))
                .all(|((_, &e), (&s, _))| e < s);
            assert!(joined, "{saved:?}");
        }
    }
}
