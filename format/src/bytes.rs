//! Bounds-checked reading and appending of little-endian and LEB128 numbers, for the binary formats.

/// Reads forward through bytes that may be hostile: every read past the end gives `None`, nothing panics.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the first byte.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Where the next read begins.
    pub fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(n)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| b)
    }

    /// A little-endian `u32`.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A little-endian `u64`.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// An unsigned LEB128 number.
    pub fn leb(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return None;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// An unsigned LEB128 number below 2^32.
    pub fn leb32(&mut self) -> Option<u32> {
        self.leb()?.try_into().ok()
    }

    /// A zigzag-encoded signed LEB128 number.
    pub fn zigzag(&mut self) -> Option<i64> {
        let n = self.leb()?;
        Some((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// A count of things that take at least one byte each: never more than the bytes left, so it may size an
    /// allocation.
    pub fn count(&mut self) -> Option<usize> {
        let n = usize::try_from(self.leb()?).ok()?;
        (n <= self.left()).then_some(n)
    }

    /// `base` plus a zigzag-encoded difference, if that is a `u32`.
    pub fn near(&mut self, base: u32) -> Option<u32> {
        i64::from(base).checked_add(self.zigzag()?)?.try_into().ok()
    }
}

/// The little-endian `u32` at `at`.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The little-endian `u64` at `at`.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Appends an unsigned LEB128 number.
pub fn put_leb(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a zigzag-encoded signed LEB128 number.
pub fn put_zigzag(out: &mut Vec<u8>, n: i64) {
    put_leb(out, ((n << 1) ^ (n >> 63)) as u64);
}

/// Appends `n` as a difference to `base`, for [`Reader::near`].
pub fn put_near(out: &mut Vec<u8>, base: u32, n: u32) {
    put_zigzag(out, i64::from(n) - i64::from(base));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut out = Vec::new();
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        let signed = [0, -1, 1, -64, 64, i64::MIN, i64::MAX];
        numbers.iter().for_each(|&n| put_leb(&mut out, n));
        signed.iter().for_each(|&n| put_zigzag(&mut out, n));
        put_near(&mut out, u32::MAX, 3);
        let mut r = Reader::new(&out);
        for n in numbers {
            assert_eq!(r.leb(), Some(n));
        }
        for n in signed {
            assert_eq!(r.zigzag(), Some(n));
        }
        assert_eq!(r.near(u32::MAX), Some(3));
        assert_eq!(r.left(), 0);
    }

    #[test]
    fn bad_numbers_are_refused() {
        assert_eq!(Reader::new(&[]).leb(), None);
        assert_eq!(Reader::new(&[0x80]).leb(), None);
        assert_eq!(Reader::new(&[0xff; 20]).leb(), None, "no end");
        let mut too_large = [0xff; 10];
        too_large[9] = 2;
        assert_eq!(Reader::new(&too_large).leb(), None, "bit 64");
        assert_eq!(Reader::new(&[5, 0, 0]).count(), None, "a count beyond what is left");
        assert_eq!(Reader::new(&[1]).near(0), None, "below zero");
    }
}
