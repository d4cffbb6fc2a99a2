//! `random_get`: always the host's own source, so that a program and its moved or copied self never draw the same numbers.

use super::mem::Memory;
use super::wait::retry;
use super::{Done, Wasi};
use rustix::rand::{GetRandomFlags, getrandom};

impl Wasi {
    pub(super) fn random_get(&mut self, m: &mut Memory<'_>, buf: u32, len: u32) -> Done {
        let mut rest = m.bytes_mut(buf, len)?;
        while !rest.is_empty() {
            let n = retry(|| getrandom(&mut *rest, GetRandomFlags::empty()))?;
            rest = &mut rest[n..];
        }
        Ok(())
    }
}
