//! `fd_read`, `fd_pread`, `fd_write`, `fd_pwrite`.

use crate::os::log;
use crate::os::wake::Wake;
use crate::wasi::errno::Errno;
use crate::wasi::host::HostKind;
use crate::wasi::mem::Memory;
use crate::wasi::rights::{FD_READ, FD_SEEK, FD_WRITE};
use crate::wasi::table::{Descriptor, NONBLOCK, Resource};
use crate::wasi::wait::{Stop, Wait, ready, ready_now, retry};
use crate::wasi::{Done, Wasi};
use rustix::event::PollFlags;
use rustix::fs::OFlags;
use std::io::{IoSlice, IoSliceMut};
use std::ops::Range;
use std::os::fd::BorrowedFd;

/// What a pipe that is ready for writing takes for certain without blocking (POSIX's PIPE_BUF on Linux).
const CERTAIN: usize = 4096;

/// The same for a terminal: it says it is ready when it has this much room.
const CERTAIN_TERMINAL: usize = 256;

impl Wasi {
    pub(in crate::wasi) fn fd_read(
        &mut self,
        m: &mut Memory<'_>,
        wake: &Wake,
        fd: u32,
        iovs: u32,
        count: u32,
        out: u32,
    ) -> Done {
        let d = self.table.get(fd)?;
        d.need_io(FD_READ)?;
        m.range(out, 4)?;
        let buffers = m.buffers(iovs, count)?;
        let n = if buffers.is_empty() {
            0
        } else if d.kind.blocks() {
            read_stream(d, m, &buffers, wake)?
        } else {
            let mut slices: Vec<_> = m.slices_mut(&buffers).into_iter().map(IoSliceMut::new).collect();
            retry(|| rustix::io::readv(d.host(), &mut slices))?
        };
        Ok(m.set_u32(out, n as u32)?)
    }

    pub(in crate::wasi) fn fd_pread(
        &mut self,
        m: &mut Memory<'_>,
        fd: u32,
        iovs: u32,
        count: u32,
        offset: u64,
        out: u32,
    ) -> Done {
        let d = self.table.get(fd)?;
        d.need_io(FD_READ)?;
        d.need_file(FD_SEEK)?;
        m.range(out, 4)?;
        let buffers = m.buffers(iovs, count)?;
        let mut slices: Vec<_> = m.slices_mut(&buffers).into_iter().map(IoSliceMut::new).collect();
        let n = retry(|| rustix::io::preadv(d.host(), &mut slices, signed(offset)?))?;
        Ok(m.set_u32(out, n as u32)?)
    }

    pub(in crate::wasi) fn fd_write(
        &mut self,
        m: &mut Memory<'_>,
        wake: &Wake,
        fd: u32,
        iovs: u32,
        count: u32,
        out: u32,
    ) -> Done {
        let d = self.table.get(fd)?;
        d.need_io(FD_WRITE)?;
        m.range(out, 4)?;
        let mut buffers = m.buffers(iovs, count)?;
        if matches!(d.resource, Resource::Stdio(_)) {
            let most = log::make_room(total(&buffers) as usize);
            cut(&mut buffers, most);
        }
        let n = if buffers.is_empty() {
            0
        } else if d.kind.blocks() {
            write_stream(d, m, &buffers, wake)?
        } else {
            let slices: Vec<_> = m.slices(&buffers).map(IoSlice::new).collect();
            let writing = match self.changes.wanted() {
                true => self.changes.write(d, &self.grants, None, total(&buffers))?,
                false => None,
            };
            let written = retry(|| rustix::io::writev(d.host(), &slices));
            self.changes.written(d, writing, *written.as_ref().unwrap_or(&0) as u64);
            written?
        };
        Ok(m.set_u32(out, n as u32)?)
    }

    pub(in crate::wasi) fn fd_pwrite(
        &mut self,
        m: &mut Memory<'_>,
        fd: u32,
        iovs: u32,
        count: u32,
        offset: u64,
        out: u32,
    ) -> Done {
        let d = self.table.get(fd)?;
        d.need_io(FD_WRITE)?;
        d.need_file(FD_SEEK)?;
        m.range(out, 4)?;
        let buffers = m.buffers(iovs, count)?;
        let slices: Vec<_> = m.slices(&buffers).map(IoSlice::new).collect();
        let offset = signed(offset)?;
        let writing = match self.changes.wanted() {
            true => self.changes.write(d, &self.grants, Some(offset), total(&buffers))?,
            false => None,
        };
        // On Linux this appends if the descriptor is in append mode, whatever the offset: so does wasmtime.
        let written = retry(|| rustix::io::pwritev(d.host(), &slices, offset));
        self.changes.written(d, writing, *written.as_ref().unwrap_or(&0) as u64);
        let n = written?;
        Ok(m.set_u32(out, n as u32)?)
    }
}

/// Takes only so many bytes: the program writes the others itself.
fn cut(buffers: &mut Vec<Range<usize>>, mut most: usize) {
    buffers.retain_mut(|buffer| {
        buffer.end = buffer.end.min(buffer.start + most);
        most -= buffer.len();
        buffer.start < buffer.end
    });
}

/// Bytes of all buffers.
fn total(buffers: &[Range<usize>]) -> u64 {
    buffers.iter().map(|b| b.len() as u64).sum()
}

/// An offset that the host can take.
pub(in crate::wasi) fn signed(offset: u64) -> rustix::io::Result<u64> {
    match i64::try_from(offset) {
        Ok(_) => Ok(offset),
        Err(_) => Err(rustix::io::Errno::INVAL),
    }
}

/// Waits until a transfer would not block; fails at once if the descriptor is non-blocking.
pub(in crate::wasi) fn wait_unless_nonblocking(d: &Descriptor, events: PollFlags, wake: &Wake) -> Result<Wait, Errno> {
    if d.flags & NONBLOCK == 0 {
        return ready(d.host(), events, wake);
    }
    match ready_now(d.host(), events)? {
        true => Ok(Wait::Ready),
        false => Err(Errno::Again),
    }
}

fn read_stream(d: &Descriptor, m: &mut Memory<'_>, buffers: &[Range<usize>], wake: &Wake) -> Result<usize, Stop> {
    let mut slices: Vec<_> = m.slices_mut(buffers).into_iter().map(IoSliceMut::new).collect();
    loop {
        if wait_unless_nonblocking(d, PollFlags::IN, wake)? == Wait::Woken {
            return Err(Stop::Interrupted);
        }
        match rustix::io::readv(d.host(), &mut slices) {
            Ok(n) => return Ok(n),
            // Someone else took what was there, or a signal came: wait again.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn write_stream(d: &Descriptor, m: &Memory<'_>, buffers: &[Range<usize>], wake: &Wake) -> Result<usize, Stop> {
    let total: usize = buffers.iter().map(Range::len).sum();
    let mut limit = match d.kind {
        HostKind::Terminal => CERTAIN_TERMINAL,
        HostKind::Socket => usize::MAX,
        _ => CERTAIN,
    };
    // Where the host itself doesn't block, any amount may be tried. Its flag is left as it is: other processes share
    // it.
    if total > limit && rustix::fs::fcntl_getfl(d.host())?.contains(OFlags::NONBLOCK) {
        limit = usize::MAX;
    }
    let mut done = 0;
    for slice in m.slices(buffers) {
        let mut rest = slice;
        while !rest.is_empty() {
            match wait_unless_nonblocking(d, PollFlags::OUT, wake) {
                Ok(Wait::Ready) => {}
                Ok(Wait::Woken) if done == 0 => return Err(Stop::Interrupted),
                Err(e) if done == 0 => return Err(e.into()),
                Ok(Wait::Woken) | Err(_) => return Ok(done),
            }
            match write_some(d, &rest[..rest.len().min(limit)]) {
                Ok(n) => {
                    done += n;
                    rest = &rest[n..];
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(e) if done == 0 => return Err(e.into()),
                // The program learns of the error when it writes the rest.
                Err(_) => return Ok(done),
            }
        }
    }
    Ok(done)
}

fn write_some(d: &Descriptor, bytes: &[u8]) -> rustix::io::Result<usize> {
    match (&d.resource, d.kind) {
        (Resource::Connection(_), _) | (_, HostKind::Socket) => send(d.host(), bytes),
        _ => rustix::io::write(d.host(), bytes),
    }
}

/// Sends what a socket takes now. A closed connection is an error, never a signal.
pub(in crate::wasi) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    use rustix::net::SendFlags;
    rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
}
