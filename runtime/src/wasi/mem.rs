//! The program's memory as the functions of WASI see it: bounds-checked, little-endian, never a panic.
//!
//! Anything that lies outside is `EFAULT`. Functions check where their results go before they do anything, so that a
//! bad pointer never leaves half a call behind. What is handed out is there: a system call can't wait for memory that
//! is not checked yet ([`crate::os::unverified`]).

use crate::os::unverified;
use crate::wasi::errno::Errno;
use std::ops::Range;

/// The most buffers one read or write takes (Linux's IOV_MAX); a longer list makes a short transfer, which is always
/// allowed.
const MAX_BUFFERS: u32 = 1024;

/// Linear memory 0 during one call.
pub(in crate::wasi) struct Memory<'a> {
    bytes: &'a mut [u8],
}

impl<'a> Memory<'a> {
    pub(in crate::wasi) fn new(bytes: &'a mut [u8]) -> Memory<'a> {
        Memory { bytes }
    }

    /// The range of `len` bytes at `ptr`, if all of it lies in the memory.
    pub(in crate::wasi) fn range(&self, ptr: u32, len: u32) -> Result<Range<usize>, Errno> {
        let range = ptr as usize..(ptr as usize).checked_add(len as usize).ok_or(Errno::Fault)?;
        match range.end <= self.bytes.len() {
            true => Ok(range),
            false => Err(Errno::Fault),
        }
    }

    /// The range of `count` elements of `size` bytes at `ptr`.
    pub(in crate::wasi) fn array(&self, ptr: u32, count: u32, size: u32) -> Result<Range<usize>, Errno> {
        self.range(ptr, count.checked_mul(size).ok_or(Errno::Fault)?)
    }

    pub(in crate::wasi) fn bytes(&self, ptr: u32, len: u32) -> Result<&[u8], Errno> {
        let range = self.range(ptr, len)?;
        unverified::touch(&self.bytes[range.clone()]);
        Ok(&self.bytes[range])
    }

    pub(in crate::wasi) fn bytes_mut(&mut self, ptr: u32, len: u32) -> Result<&mut [u8], Errno> {
        let range = self.range(ptr, len)?;
        unverified::touch(&self.bytes[range.clone()]);
        Ok(&mut self.bytes[range])
    }

    /// A string of WASI: UTF-8, by pointer and length.
    pub(in crate::wasi) fn string(&self, ptr: u32, len: u32) -> Result<String, Errno> {
        std::str::from_utf8(self.bytes(ptr, len)?)
            .map(str::to_owned)
            .map_err(|_| Errno::IlSeq)
    }

    fn get<const N: usize>(&self, ptr: u32) -> Result<[u8; N], Errno> {
        self.bytes(ptr, N as u32)?.try_into().map_err(|_| Errno::Fault)
    }

    pub(in crate::wasi) fn u8(&self, ptr: u32) -> Result<u8, Errno> {
        self.get(ptr).map(u8::from_le_bytes)
    }

    pub(in crate::wasi) fn u16(&self, ptr: u32) -> Result<u16, Errno> {
        self.get(ptr).map(u16::from_le_bytes)
    }

    pub(in crate::wasi) fn u32(&self, ptr: u32) -> Result<u32, Errno> {
        self.get(ptr).map(u32::from_le_bytes)
    }

    pub(in crate::wasi) fn u64(&self, ptr: u32) -> Result<u64, Errno> {
        self.get(ptr).map(u64::from_le_bytes)
    }

    pub(in crate::wasi) fn set(&mut self, ptr: u32, bytes: &[u8]) -> Result<(), Errno> {
        let len = u32::try_from(bytes.len()).map_err(|_| Errno::Overflow)?;
        self.bytes_mut(ptr, len)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(in crate::wasi) fn set_u16(&mut self, ptr: u32, value: u16) -> Result<(), Errno> {
        self.set(ptr, &value.to_le_bytes())
    }

    pub(in crate::wasi) fn set_u32(&mut self, ptr: u32, value: u32) -> Result<(), Errno> {
        self.set(ptr, &value.to_le_bytes())
    }

    pub(in crate::wasi) fn set_u64(&mut self, ptr: u32, value: u64) -> Result<(), Errno> {
        self.set(ptr, &value.to_le_bytes())
    }

    /// The buffers of an array of `iovec` or `ciovec`, without empty ones and without those beyond what one transfer
    /// takes.
    pub(in crate::wasi) fn buffers(&self, ptr: u32, count: u32) -> Result<Vec<Range<usize>>, Errno> {
        self.array(ptr, count, 8)?;
        let mut buffers = Vec::with_capacity(count.min(MAX_BUFFERS) as usize);
        // Results count bytes in 32 bits.
        let mut left = u32::MAX;
        for i in 0..count.min(MAX_BUFFERS) {
            let (buf, len) = (self.u32(ptr + 8 * i)?, self.u32(ptr + 8 * i + 4)?);
            let mut range = self.range(buf, len)?;
            range.end = range.end.min(range.start + left as usize);
            left -= range.len() as u32;
            if !range.is_empty() {
                buffers.push(range);
            }
        }
        Ok(buffers)
    }

    /// The bytes of buffers that [`Memory::buffers`] returned.
    pub(in crate::wasi) fn slices<'s>(&'s self, buffers: &'s [Range<usize>]) -> impl Iterator<Item = &'s [u8]> {
        let slices = buffers.iter().filter_map(|range| self.bytes.get(range.clone()));
        slices.inspect(|bytes| unverified::touch(bytes))
    }

    /// The bytes of buffers that [`Memory::buffers`] returned, to be written. If any two overlap, only the first
    /// buffer: a short transfer.
    pub(in crate::wasi) fn slices_mut(&mut self, buffers: &[Range<usize>]) -> Vec<&mut [u8]> {
        // Cut the memory apart in the order of addresses, then put the pieces in the order asked for.
        let mut order: Vec<usize> = (0..buffers.len()).collect();
        order.sort_by_key(|&i| buffers[i].start);
        if order.windows(2).any(|w| buffers[w[0]].end > buffers[w[1]].start) {
            order = vec![0];
        }
        let mut pieces: Vec<(usize, &mut [u8])> = Vec::with_capacity(order.len());
        let (mut rest, mut at) = (&mut *self.bytes, 0);
        for i in order {
            let range = &buffers[i];
            let Some((_, from)) = std::mem::take(&mut rest).split_at_mut_checked(range.start - at) else {
                break;
            };
            let Some((piece, tail)) = from.split_at_mut_checked(range.len()) else {
                break;
            };
            unverified::touch(piece);
            pieces.push((i, piece));
            (rest, at) = (tail, range.end);
        }
        pieces.sort_by_key(|p| p.0);
        pieces.into_iter().map(|p| p.1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_reached() {
        let mut bytes = [0u8; 16];
        let mut m = Memory::new(&mut bytes);
        assert_eq!(m.set_u64(8, 0x0102_0304_0506_0708), Ok(()));
        assert_eq!(
            (m.u8(8), m.u16(8), m.u32(8), m.u64(8)),
            (Ok(8), Ok(0x0708), Ok(0x0506_0708), Ok(0x0102_0304_0506_0708))
        );
        assert_eq!(m.set_u64(9, 0), Err(Errno::Fault));
        assert_eq!(m.u32(u32::MAX), Err(Errno::Fault));
        assert_eq!(m.bytes(16, 0), Ok(&[][..]));
        assert_eq!(m.bytes(17, 0), Err(Errno::Fault));
        assert_eq!(m.bytes(u32::MAX, u32::MAX), Err(Errno::Fault));
        assert_eq!(m.array(0, 0x4000_0000, 8), Err(Errno::Fault));
    }

    #[test]
    fn buffers_come_in_their_own_order() {
        let mut bytes: Vec<u8> = (0..64).collect();
        let mut m = Memory::new(&mut bytes);
        for (i, (buf, len)) in [(40u32, 4u32), (0, 0), (20, 2)].into_iter().enumerate() {
            m.set_u32(48 + 8 * i as u32, buf)
                .and_then(|()| m.set_u32(52 + 8 * i as u32, len))
                .ok();
        }
        let buffers = m.buffers(48, 2).unwrap();
        assert_eq!((buffers.len(), buffers[0].clone()), (1, 40..44));
        let buffers = [40..44, 20..22];
        assert_eq!(m.slices(&buffers).map(<[u8]>::len).collect::<Vec<_>>(), [4, 2]);
        let pieces = m.slices_mut(&buffers);
        assert_eq!((pieces[0][0], pieces[1][0]), (40, 20));
    }

    #[test]
    fn overlapping_buffers_make_a_short_transfer() {
        let mut bytes = [0u8; 64];
        let mut m = Memory::new(&mut bytes);
        assert_eq!(m.slices_mut(&[0..8, 4..12, 16..20]).len(), 1);
        m.bytes_mut(4, 1).unwrap()[0] = 7;
        let pieces = m.slices_mut(&[4..12, 0..8]);
        assert_eq!((pieces.len(), pieces[0].len(), pieces[0][0]), (1, 8, 7));
        assert_eq!(m.slices_mut(&[8..16, 0..8]).len(), 2);
    }

    #[test]
    fn a_buffer_list_that_reaches_outside_is_a_fault() {
        let mut bytes = [0u8; 32];
        let mut m = Memory::new(&mut bytes);
        assert_eq!(m.buffers(28, 1), Err(Errno::Fault));
        m.set_u32(0, 31).unwrap();
        m.set_u32(4, 2).unwrap();
        assert_eq!(m.buffers(0, 1), Err(Errno::Fault));
        assert_eq!(m.buffers(0, u32::MAX), Err(Errno::Fault));
    }
}
