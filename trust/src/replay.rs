//! Which calls of a device have been answered: each has a number, and none is answered twice.
//!
//! Whoever has recorded a call could send it again, and would hear an answer; it could not be read, but it would tell
//! that this device is there, and knows the caller. Numbers only grow: the time in microseconds, or one more than the
//! last one if a clock goes back. Calls that overtake each other are answered, too: the last 64 numbers are told apart.
//! They are remembered of a device that is forgotten, too: it may be paired again.

use crate::directory::Directory;
use crate::identity::Key;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the number of this device's last call is kept.
const CALLS: &str = "calls";

/// Numbers below the greatest one that are told apart.
const WINDOW: u64 = 64;

/// The number of a new call.
pub(crate) fn next(directory: &Directory) -> io::Result<u64> {
    let _lock = directory.lock()?;
    let last = directory.read(CALLS)?;
    let last = last.and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let next = u64::try_from(now.as_micros())
        .unwrap_or(u64::MAX)
        .max(last.saturating_add(1));
    directory.replace(CALLS, &next.to_le_bytes())?;
    Ok(next)
}

/// What is known of a device's calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    greatest: u64,
    /// Bit n: the greatest but n was there.
    bits: u64,
}

impl Seen {
    /// Notes a number; false if it was there before, or is too old to tell.
    fn note(&mut self, number: u64) -> bool {
        if number > self.greatest {
            let by = number - self.greatest;
            self.bits = if by < WINDOW { self.bits << by } else { 0 } | 1;
            self.greatest = number;
            return true;
        }
        let back = self.greatest - number;
        let bit = if back < WINDOW { 1 << back } else { 0 };
        let new = bit != 0 && self.bits & bit == 0;
        self.bits |= bit;
        new
    }
}

fn file(of: Key) -> String {
    format!("calls-of-{of}")
}

/// Is this a call that has not been there? Then it is noted, durably.
pub(crate) fn is_new(directory: &Directory, of: Key, number: u64) -> io::Result<bool> {
    let _lock = directory.lock()?;
    let mut seen = Seen::default();
    if let Some(bytes) = directory.read(&file(of))?
        && let (16, Some(greatest), Some(bits)) = (bytes.len(), bytes.first_chunk(), bytes.last_chunk())
    {
        seen = Seen {
            greatest: u64::from_le_bytes(*greatest),
            bits: u64::from_le_bytes(*bits),
        };
    }
    let new = seen.note(number);
    if new {
        let bytes = [seen.greatest.to_le_bytes(), seen.bits.to_le_bytes()].concat();
        directory.replace(&file(of), &bytes)?;
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_counts_once() {
        let mut seen = Seen::default();
        for number in [1000, 1001, 999, 1063] {
            assert!(seen.note(number), "{number}");
            assert!(!seen.note(number), "{number} again");
        }
        assert!(!seen.note(999), "too old to tell");
        assert!(!seen.note(1000) && seen.note(1002));
        assert!(seen.note(u64::MAX) && !seen.note(1064) && seen.note(u64::MAX - 1));
    }

    #[test]
    fn numbers_grow_even_if_the_clock_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let ahead = 1 << 60;
        directory.replace(CALLS, &u64::to_le_bytes(ahead)).unwrap();
        assert_eq!(next(&directory).unwrap(), ahead + 1);
        assert_eq!(next(&directory).unwrap(), ahead + 2);
        let key = Key([7; 32]);
        assert!(is_new(&directory, key, 5).unwrap());
        assert!(!is_new(&directory, key, 5).unwrap());
        assert!(is_new(&directory, Key([8; 32]), 5).unwrap());
    }
}
