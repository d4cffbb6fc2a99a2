//! `random_get`: always the host's own source, so that a program and its moved or copied self never draw the same
//! numbers.

use crate::os::wake::Wake;
use crate::wasi::mem::Memory;
use crate::wasi::wait::{Work, retry};
use crate::wasi::{Done, Wasi};
use rustix::rand::{GetRandomFlags, getrandom};

/// Bytes between two looks for a migration request: about a millisecond's.
const SLICE: usize = 256 << 10;

impl Wasi {
    pub(in crate::wasi) fn random_get(&mut self, m: &mut Memory<'_>, wake: &Wake, buf: u32, len: u32) -> Done {
        let work = Work::begin(wake, self.undone);
        let mut rest = m.bytes_mut(buf, len)?;
        while !rest.is_empty() {
            let slice = rest.len().min(SLICE);
            let n = retry(|| getrandom(&mut rest[..slice], GetRandomFlags::empty()))?;
            rest = &mut rest[n..];
            if !rest.is_empty() {
                // What was drawn so far is written over when the call is issued again.
                work.pause()?;
            }
        }
        Ok(())
    }
}
