//! Bit sets over variables.

/// A set of small numbers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// The empty set, with room for numbers below `n`.
    pub fn empty(n: usize) -> Bits {
        Bits(vec![0; n.div_ceil(64)])
    }

    /// The set of all numbers below `n` (and up to the next multiple of 64).
    pub fn full(n: usize) -> Bits {
        Bits(vec![!0; n.div_ceil(64)])
    }

    /// Is `i` in the set?
    pub fn has(&self, i: u32) -> bool {
        has(&self.0, i)
    }

    /// Puts `i` in.
    pub fn add(&mut self, i: u32) {
        self.0[(i >> 6) as usize] |= 1 << (i & 63);
    }

    /// Takes `i` out.
    pub fn remove(&mut self, i: u32) {
        self.0[(i >> 6) as usize] &= !(1 << (i & 63));
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Adds all of `other`.
    pub fn union(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    /// Adds all in the set of these words.
    pub fn add_all(&mut self, words: &[u64]) {
        self.0.iter_mut().zip(words).for_each(|(a, b)| *a |= b);
    }

    /// Takes out all in the set of these words.
    pub fn remove_all(&mut self, words: &[u64]) {
        self.0.iter_mut().zip(words).for_each(|(a, b)| *a &= !b);
    }

    /// Keeps what is in `other` too.
    pub fn intersect(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= b);
    }

    /// The words of the set.
    pub fn words(&self) -> &[u64] {
        &self.0
    }

    /// The words of the set, to change.
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }
}

/// Is `i` in the set of these words?
pub fn has(words: &[u64], i: u32) -> bool {
    words[(i >> 6) as usize] >> (i & 63) & 1 != 0
}

/// The members of the set of these words, ascending.
pub fn members(words: &[u64]) -> impl Iterator<Item = u32> + '_ {
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

/// Equally wide sets, one after another.
#[derive(Clone, Debug, Default)]
pub struct BitTable {
    words: Vec<u64>,
    width: usize,
}

impl BitTable {
    /// `rows` sets with room for numbers below `n`, each word set to `fill`.
    pub fn new(rows: usize, n: usize, fill: u64) -> BitTable {
        let width = n.div_ceil(64);
        BitTable {
            words: vec![fill; rows * width],
            width,
        }
    }

    /// One set.
    pub fn row(&self, r: u32) -> &[u64] {
        &self.words[r as usize * self.width..][..self.width]
    }

    /// One set, to change.
    pub fn row_mut(&mut self, r: u32) -> &mut [u64] {
        &mut self.words[r as usize * self.width..][..self.width]
    }

    /// Words per set.
    pub fn width(&self) -> usize {
        self.width
    }
}
