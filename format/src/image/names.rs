//! The `names` section: function names, looked up one at a time.
//!
//! ```text
//!   u64               number of functions n
//!   u32 x (n + 1)     where each name begins (and the last one ends), from the end of this index
//!   UTF-8             the names, one after another; an empty one is absent
//! ```

use crate::bytes::{u32_at, u64_at};
use crate::framemap::MapError;

const SECTION: &str = "names";

/// Writes the `names` section.
#[derive(Debug, Default)]
pub struct NamesBuilder {
    ends: Vec<u32>,
    text: Vec<u8>,
}

impl NamesBuilder {
    /// A builder without names.
    pub fn new() -> NamesBuilder {
        NamesBuilder::default()
    }

    /// Appends the name of the next function index. Names are dropped once they exceed 4 GiB together.
    pub fn push(&mut self, name: Option<&str>) {
        let name = name.unwrap_or_default();
        if u32::try_from(self.text.len() + name.len()).is_ok() {
            self.text.extend_from_slice(name.as_bytes());
        }
        self.ends.push(self.text.len() as u32);
    }

    /// The section's bytes.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12 + 4 * self.ends.len() + self.text.len());
        out.extend((self.ends.len() as u64).to_le_bytes());
        out.extend(0u32.to_le_bytes());
        self.ends.iter().for_each(|e| out.extend(e.to_le_bytes()));
        out.extend(self.text);
        out
    }
}

/// The `names` section of an image.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    bytes: &'a [u8],
    count: u32,
}

impl<'a> Names<'a> {
    /// Checks the section's size; names are checked when they are asked for.
    pub fn parse(bytes: &'a [u8]) -> Result<Names<'a>, MapError> {
        let broken = MapError {
            section: SECTION,
            at: 0,
        };
        let count = u64_at(bytes, 0)
            .and_then(|n| u32::try_from(n).ok())
            .ok_or(broken.clone())?;
        let index = 8 + 4 * (u64::from(count) + 1);
        if index <= bytes.len() as u64 {
            Ok(Names { bytes, count })
        } else {
            Err(broken)
        }
    }

    /// The name of a function, if it has one.
    pub fn get(&self, func: u32) -> Option<&'a str> {
        if func >= self.count {
            return None;
        }
        let at = 8 + 4 * func as usize;
        let (start, end) = (u32_at(self.bytes, at)? as usize, u32_at(self.bytes, at + 4)? as usize);
        let text = self.bytes.get(8 + 4 * (self.count as usize + 1)..)?;
        let name = std::str::from_utf8(text.get(start..end)?).ok()?;
        (!name.is_empty()).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section() -> Vec<u8> {
        let mut names = NamesBuilder::new();
        [Some("main"), None, Some("größe"), Some("")]
            .into_iter()
            .for_each(|n| names.push(n));
        names.finish()
    }

    #[test]
    fn come_back() {
        let bytes = section();
        let names = Names::parse(&bytes).unwrap();
        assert_eq!(
            [0, 1, 2, 3, 4, u32::MAX].map(|n| names.get(n)),
            [Some("main"), None, Some("größe"), None, None, None]
        );
    }

    #[test]
    fn damage_never_panics() {
        let bytes = section();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x81;
            for bytes in [&bytes[..at], &flipped] {
                if let Ok(names) = Names::parse(bytes) {
                    assert!((0..5).all(|n| names.get(n).is_none_or(|name| name.len() <= bytes.len())));
                }
            }
        }
        assert!(Names::parse(&bytes[..20]).is_err());
    }
}
