//! Bit sets over variables, in words that are shared with [`dunlin_format::framemap::LiveSets`].

/// A set of numbers below a limit that is given when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// The empty set, with room for numbers below `n`.
    pub(crate) fn empty(n: usize) -> Bits {
        Bits(vec![0; n.div_ceil(64)])
    }

    /// The set of all numbers below `n` (and up to the next multiple of 64).
    pub(crate) fn full(n: usize) -> Bits {
        Bits(vec![!0; n.div_ceil(64)])
    }

    /// Whether `i` is in the set.
    pub(crate) fn has(&self, i: u32) -> bool {
        has(&self.0, i)
    }

    /// Adds `i`.
    pub(crate) fn add(&mut self, i: u32) {
        self.0[(i >> 6) as usize] |= 1 << (i & 63);
    }

    /// Removes `i`.
    pub(crate) fn remove(&mut self, i: u32) {
        self.0[(i >> 6) as usize] &= !(1 << (i & 63));
    }

    /// Removes all members.
    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Adds the members of `other`.
    pub(crate) fn union(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    /// Adds the members of the set of these words (none for no words).
    pub(crate) fn add_all(&mut self, words: &[u64]) {
        self.0.iter_mut().zip(words).for_each(|(a, b)| *a |= b);
    }

    /// Removes the members of the set of these words (none for no words).
    pub(crate) fn remove_all(&mut self, words: &[u64]) {
        self.0.iter_mut().zip(words).for_each(|(a, b)| *a &= !b);
    }

    /// Removes what is not in `other`.
    pub(crate) fn intersect(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= b);
    }

    /// The words of the set.
    pub(crate) fn words(&self) -> &[u64] {
        &self.0
    }

    /// The words of the set, to change.
    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }
}

/// Whether `i` is in the set of these words.
pub(crate) fn has(words: &[u64], i: u32) -> bool {
    words[(i >> 6) as usize] >> (i & 63) & 1 != 0
}

/// The members of the set of these words, ascending.
pub(crate) fn members(words: &[u64]) -> impl Iterator<Item = u32> + '_ {
    words.iter().enumerate().flat_map(|(k, &w)| {
        let mut w = w;
        std::iter::from_fn(move || {
            if w == 0 {
                return None;
            }
            let t = w.trailing_zeros();
            w &= w - 1;
            Some(k as u32 * 64 + t)
        })
    })
}

/// Sets of the same width in one allocation: rows of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct BitTable {
    words: Vec<u64>,
    width: usize,
}

impl BitTable {
    /// `rows` sets with room for numbers below `n`, each word set to `fill`.
    pub(crate) fn new(rows: usize, n: usize, fill: u64) -> BitTable {
        let width = n.div_ceil(64);
        BitTable {
            words: vec![fill; rows * width],
            width,
        }
    }

    /// The words of the `r`th set.
    pub(crate) fn row(&self, r: u32) -> &[u64] {
        &self.words[r as usize * self.width..][..self.width]
    }

    /// The words of the `r`th set, to change.
    pub(crate) fn row_mut(&mut self, r: u32) -> &mut [u64] {
        &mut self.words[r as usize * self.width..][..self.width]
    }

    /// Number of words of each set.
    pub(crate) fn width(&self) -> usize {
        self.width
    }
}
