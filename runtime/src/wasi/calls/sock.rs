//! `sock_accept`, `sock_recv`, `sock_send`, `sock_shutdown`, on sockets the program was given: as standard streams or
//! as listeners.

use crate::os::wake::Wake;
use crate::wasi::calls::fd::fdflags;
use crate::wasi::calls::io::{send, wait_unless_nonblocking};
use crate::wasi::errno::Errno;
use crate::wasi::host::HostKind;
use crate::wasi::mem::Memory;
use crate::wasi::rights::{CONNECTION, FD_READ, FD_WRITE, SOCK_ACCEPT, SOCK_SHUTDOWN};
use crate::wasi::table::{Descriptor, NONBLOCK, Resource};
use crate::wasi::wait::{Stop, Wait};
use crate::wasi::{Done, Wasi};
use rustix::event::PollFlags;
use rustix::net::{RecvFlags, Shutdown, SocketFlags};
use std::os::fd::OwnedFd;

/// `riflags`: leave the data where it is.
const PEEK: u32 = 1 << 0;
/// `riflags`: wait until the buffers are full.
const WAITALL: u32 = 1 << 1;

impl Wasi {
    /// Gives the program a listening socket, which is called `address` in its state; returns its descriptor's number.
    pub fn add_listener(&mut self, listener: OwnedFd, address: String) -> Option<u32> {
        let index = self.listeners.len() as u32;
        self.listeners.push(address);
        self.table.insert(Descriptor::listener(index, listener)).ok()
    }

    fn socket(&self, fd: u32) -> Result<&Descriptor, Errno> {
        let d = self.table.get(fd)?;
        match d.kind {
            HostKind::Socket => Ok(d),
            _ => Err(Errno::NotSock),
        }
    }

    pub(in crate::wasi) fn sock_accept(
        &mut self,
        m: &mut Memory<'_>,
        wake: &Wake,
        fd: u32,
        flags: u32,
        out: u32,
    ) -> Done {
        let d = self.socket(fd)?;
        d.need(SOCK_ACCEPT)?;
        m.range(out, 4)?;
        let flags = fdflags(flags)?;
        if flags & !NONBLOCK != 0 {
            return Err(Errno::Inval.into());
        }
        // A standard stream hands nothing on: what it accepts gets what a listener's connection gets.
        let rights = if matches!(d.resource, Resource::Stdio(_)) {
            CONNECTION
        } else {
            d.inheriting
        };
        let connection = loop {
            if wait_unless_nonblocking(d, PollFlags::IN, wake)? == Wait::Woken {
                return Err(Stop::Interrupted);
            }
            match rustix::net::accept_with(d.host(), SocketFlags::CLOEXEC) {
                Ok(fd) => break fd,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN | rustix::io::Errno::CONNABORTED) => {}
                Err(e) => return Err(e.into()),
            }
        };
        let resource = Resource::Connection(connection);
        let fd = self.table.insert(Descriptor {
            resource,
            kind: HostKind::Socket,
            rights,
            inheriting: 0,
            flags,
        })?;
        Ok(m.set_u32(out, fd)?)
    }

    pub(in crate::wasi) fn sock_recv(
        &mut self,
        m: &mut Memory<'_>,
        wake: &Wake,
        fd: u32,
        iovs: (u32, u32),
        flags: u32,
        out: (u32, u32),
    ) -> Done {
        let d = self.socket(fd)?;
        d.need_io(FD_READ)?;
        if flags & !(PEEK | WAITALL) != 0 {
            return Err(Errno::Inval.into());
        }
        m.range(out.0, 4)?;
        m.range(out.1, 2)?;
        let buffers = m.buffers(iovs.0, iovs.1)?;
        let mut host_flags = RecvFlags::DONTWAIT;
        host_flags.set(RecvFlags::PEEK, flags & PEEK != 0);
        let mut done = 0;
        // Peeking twice would see the same bytes twice.
        let all = flags & (PEEK | WAITALL) == WAITALL;
        'buffers: for slice in m.slices_mut(&buffers) {
            let mut at = 0;
            while at < slice.len() {
                match wait_unless_nonblocking(d, PollFlags::IN, wake) {
                    Ok(Wait::Ready) => {}
                    Ok(Wait::Woken) if done == 0 => return Err(Stop::Interrupted),
                    Err(e) if done == 0 => return Err(e.into()),
                    Ok(Wait::Woken) | Err(_) => break 'buffers,
                }
                match rustix::net::recv(d.host(), &mut slice[at..], host_flags) {
                    Ok((0, _)) => break 'buffers,
                    Ok((n, _)) => {
                        at += n;
                        done += n;
                        if !all {
                            break 'buffers;
                        }
                    }
                    Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                    Err(e) if done == 0 => return Err(e.into()),
                    Err(_) => break 'buffers,
                }
            }
        }
        m.set_u16(out.1, 0)?;
        Ok(m.set_u32(out.0, done as u32)?)
    }

    pub(in crate::wasi) fn sock_send(
        &mut self,
        m: &mut Memory<'_>,
        wake: &Wake,
        fd: u32,
        iovs: (u32, u32),
        flags: u32,
        out: u32,
    ) -> Done {
        let d = self.socket(fd)?;
        d.need_io(FD_WRITE)?;
        if flags != 0 {
            return Err(Errno::Inval.into());
        }
        m.range(out, 4)?;
        let buffers = m.buffers(iovs.0, iovs.1)?;
        let mut done = 0;
        'buffers: for slice in m.slices(&buffers) {
            let mut rest = slice;
            while !rest.is_empty() {
                match wait_unless_nonblocking(d, PollFlags::OUT, wake) {
                    Ok(Wait::Ready) => {}
                    Ok(Wait::Woken) if done == 0 => return Err(Stop::Interrupted),
                    Err(e) if done == 0 => return Err(e.into()),
                    Ok(Wait::Woken) | Err(_) => break 'buffers,
                }
                match send(d.host(), rest) {
                    Ok(n) => {
                        done += n;
                        rest = &rest[n..];
                    }
                    Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                    Err(e) if done == 0 => return Err(e.into()),
                    Err(_) => break 'buffers,
                }
            }
        }
        Ok(m.set_u32(out, done as u32)?)
    }

    pub(in crate::wasi) fn sock_shutdown(&mut self, fd: u32, how: u32) -> Done {
        let d = self.socket(fd)?;
        d.need(SOCK_SHUTDOWN)?;
        let how = match how {
            1 => Shutdown::Read,
            2 => Shutdown::Write,
            3 => Shutdown::Both,
            _ => return Err(Errno::Inval.into()),
        };
        Ok(rustix::net::shutdown(d.host(), how)?)
    }
}
