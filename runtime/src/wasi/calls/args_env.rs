//! `args_get`, `environ_get` and their sizes.

use crate::wasi::errno::Errno;
use crate::wasi::mem::Memory;
use crate::wasi::{Done, Wasi};

impl Wasi {
    pub(in crate::wasi) fn args_get(&mut self, m: &mut Memory<'_>, pointers: u32, bytes: u32) -> Done {
        Ok(set_strings(
            m,
            pointers,
            bytes,
            self.args.iter().map(|a| a.as_bytes().to_vec()),
        )?)
    }

    pub(in crate::wasi) fn args_sizes_get(&mut self, m: &mut Memory<'_>, count: u32, size: u32) -> Done {
        Ok(set_sizes(m, count, size, self.args.iter().map(String::len))?)
    }

    pub(in crate::wasi) fn environ_get(&mut self, m: &mut Memory<'_>, pointers: u32, bytes: u32) -> Done {
        Ok(set_strings(
            m,
            pointers,
            bytes,
            self.env
                .iter()
                .map(|(name, value)| format!("{name}={value}").into_bytes()),
        )?)
    }

    pub(in crate::wasi) fn environ_sizes_get(&mut self, m: &mut Memory<'_>, count: u32, size: u32) -> Done {
        Ok(set_sizes(
            m,
            count,
            size,
            self.env.iter().map(|(name, value)| name.len() + 1 + value.len()),
        )?)
    }
}

/// Writes strings, each with its NUL, one after the other, and an array of pointers to them.
fn set_strings(
    m: &mut Memory<'_>,
    mut pointers: u32,
    mut bytes: u32,
    strings: impl Iterator<Item = Vec<u8>>,
) -> Result<(), Errno> {
    for mut string in strings {
        string.push(0);
        m.set(bytes, &string)?;
        m.set_u32(pointers, bytes)?;
        bytes = bytes.checked_add(string.len() as u32).ok_or(Errno::Fault)?;
        pointers = pointers.checked_add(4).ok_or(Errno::Fault)?;
    }
    Ok(())
}

/// Writes how many strings there are, and how many bytes they take with their NULs.
fn set_sizes(
    m: &mut Memory<'_>,
    count: u32,
    size: u32,
    lengths: impl ExactSizeIterator<Item = usize>,
) -> Result<(), Errno> {
    m.range(size, 4)?;
    m.set_u32(count, u32::try_from(lengths.len()).map_err(|_| Errno::Overflow)?)?;
    let total: usize = lengths.map(|len| len + 1).sum();
    m.set_u32(size, u32::try_from(total).map_err(|_| Errno::Overflow)?)
}
