//! What is live at each of a function's points.
//!
//! A function may have thousands of points and thousands of homes that are live at most of them. So only what changes
//! from point to point is kept, and now and then a whole set, from which the sets behind it are found.

/// Changes after which a whole set is kept, if there aren't more homes than that.
const FEWEST: usize = 256;

/// A list of sets of numbers (homes, variables), each near to the one before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveSets {
    /// What the sets differ in, each set's from the one before it; ascending within a set.
    changes: Vec<u32>,
    /// Where each set's changes end.
    ends: Vec<u32>,
    /// Some of the sets: number and members.
    whole: Vec<(u32, Vec<u64>)>,
    /// The last set.
    last: Vec<u64>,
}

impl LiveSets {
    /// Appends the set that differs from the last one in `changed` members, ascending.
    pub fn push(&mut self, changed: &[u32]) {
        debug_assert!(changed.is_sorted_by(|a, b| a < b));
        if let Some(&most) = changed.last() {
            self.last.resize(self.last.len().max(most as usize / 64 + 1), 0);
        }
        toggle(&mut self.last, changed);
        self.changes.extend_from_slice(changed);
        self.ends.push(self.changes.len() as u32);
        let at = self
            .whole
            .last()
            .map_or(0, |&(set, _)| self.ends[set as usize] as usize);
        if self.changes.len() - at > FEWEST.max(64 * self.last.len()) {
            self.whole.push((self.ends.len() as u32 - 1, self.last.clone()));
        }
    }

    /// Appends a set, given by its members, ascending.
    pub fn push_members(&mut self, members: &[u32]) {
        let changed = difference(&ones(&self.last), members);
        self.push(&changed);
    }

    /// What set number `n` and the one before it differ in.
    pub fn changes(&self, n: usize) -> &[u32] {
        let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.changes[start as usize..self.ends[n] as usize]
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Everything that is in some set; some of it several times.
    pub fn ever(&self) -> &[u32] {
        &self.changes
    }

    /// The members of set number `n`, ascending.
    pub fn get(&self, n: usize) -> Vec<u32> {
        ones(self.walk(64 * self.last.len()).at(n))
    }

    /// Begins a walk from set to set, all of whose members must be below `width`.
    pub fn walk(&self, width: usize) -> Walk<'_> {
        Walk {
            sets: self,
            words: vec![0; width.div_ceil(64).max(self.last.len())],
            next: 0,
        }
    }
}

/// Goes from set to set: cheapest in their order.
#[derive(Debug)]
pub struct Walk<'s> {
    sets: &'s LiveSets,
    words: Vec<u64>,
    /// The set behind the one that `words` is; before the first one it is empty.
    next: usize,
}

impl Walk<'_> {
    /// Set number `n`, as words of 64 bits.
    pub fn at(&mut self, n: usize) -> &[u64] {
        let LiveSets {
            changes, ends, whole, ..
        } = self.sets;
        let known = whole.partition_point(|&(set, _)| set as usize <= n);
        let known = known.checked_sub(1).map(|k| &whole[k]);
        let nearest = known.map_or(0, |(set, _)| *set as usize + 1);
        if n + 1 < self.next || nearest > self.next {
            self.words.fill(0);
            self.next = nearest;
            if let Some((_, words)) = known {
                self.words[..words.len()].copy_from_slice(words);
            }
        }
        let end = |set: usize| set.checked_sub(1).map_or(0, |before| ends[before] as usize);
        toggle(&mut self.words, &changes[end(self.next)..end(n + 1)]);
        self.next = n + 1;
        &self.words
    }
}

fn toggle(set: &mut [u64], homes: &[u32]) {
    homes.iter().for_each(|&h| set[h as usize / 64] ^= 1 << (h % 64));
}

fn ones(set: &[u64]) -> Vec<u32> {
    let mut out = Vec::with_capacity(set.iter().map(|w| w.count_ones() as usize).sum());
    for (n, &word) in (0..).zip(set) {
        let mut word = word;
        while word != 0 {
            out.push(64 * n + word.trailing_zeros());
            word &= word - 1;
        }
    }
    out
}

/// The numbers that are in exactly one of two ascending lists, ascending.
fn difference(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut out = Vec::new();
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    loop {
        match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x == y => {
                a.next();
                b.next();
            }
            (Some(x), Some(y)) => out.extend(if x < y { a.next() } else { b.next() }),
            (Some(_), None) => out.extend(a.by_ref()),
            (None, Some(_)) => out.extend(b.by_ref()),
            (None, None) => return out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_come_back() {
        let (mut seed, mut sets, mut expected) = (7u64, LiveSets::default(), vec![]);
        let mut set = std::collections::BTreeSet::new();
        for n in 0..5000 {
            for _ in 0..n % 4 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let home = (seed >> 33) as u32 % 700;
                if !set.remove(&home) {
                    set.insert(home);
                }
            }
            let members: Vec<u32> = set.iter().copied().collect();
            sets.push_members(&members);
            expected.push(members);
        }
        assert!(sets.whole.len() > 5, "{} whole sets", sets.whole.len());
        let (mut onwards, mut backwards) = (sets.walk(1000), sets.walk(700));
        for (n, members) in expected.iter().enumerate() {
            assert_eq!(&sets.get(n), members, "set {n}");
            assert_eq!(&ones(onwards.at(n)), members, "set {n}");
            assert_eq!(&ones(onwards.at(n)), members, "set {n} again");
            let back = expected.len() - 1 - n;
            assert_eq!(ones(backwards.at(back)), expected[back], "set {back}");
        }
        let mut again = LiveSets::default();
        (0..5000).for_each(|n| again.push(sets.changes(n)));
        assert_eq!(again, sets);
    }

    /// Memory follows the changes, not sets times members.
    #[test]
    fn large_sets_are_shared() {
        let mut sets = LiveSets::default();
        sets.push(&(0..50_000).collect::<Vec<_>>());
        (0..100_000).for_each(|n| sets.push(&[n % 50_000]));
        assert!(sets.whole.len() < 4, "{} whole sets", sets.whole.len());
        assert_eq!(sets.get(1).len(), 49_999);
        assert!(sets.get(50_000).is_empty());
        assert_eq!(sets.get(100_000).len(), 50_000);
    }
}
