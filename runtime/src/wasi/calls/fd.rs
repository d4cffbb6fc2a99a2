//! The `fd_*` functions other than reading, writing and directories: attributes, flags, positions, closing,
//! renumbering.

use crate::journal::FileId;
use crate::wasi::calls::io::signed;
use crate::wasi::errno::Errno;
use crate::wasi::host::Stat;
use crate::wasi::mem::Memory;
use crate::wasi::rights::{
    FD_ADVISE, FD_ALLOCATE, FD_DATASYNC, FD_FDSTAT_SET_FLAGS, FD_FILESTAT_GET, FD_FILESTAT_SET_SIZE,
    FD_FILESTAT_SET_TIMES, FD_SEEK, FD_SYNC, FD_TELL,
};
use crate::wasi::table::{ALL_FLAGS, APPEND, DSYNC, Descriptor, RSYNC, Resource, SYNC};
use crate::wasi::wait::retry;
use crate::wasi::{Abi, Done, Wasi};
use rustix::fs::{OFlags, SeekFrom, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use std::num::NonZeroU64;

impl Wasi {
    pub(in crate::wasi) fn fd_advise(&mut self, fd: u32, offset: u64, len: u64, advice: u32) -> Done {
        use rustix::fs::Advice::*;
        let d = self.table.get(fd)?;
        d.need_file(FD_ADVISE)?;
        let advice = *[Normal, Sequential, Random, WillNeed, DontNeed, NoReuse]
            .get(advice as usize)
            .ok_or(Errno::Inval)?;
        retry(|| rustix::fs::fadvise(d.host(), signed(offset)?, NonZeroU64::new(signed(len)?), advice))?;
        Ok(())
    }

    pub(in crate::wasi) fn fd_allocate(&mut self, fd: u32, offset: u64, len: u64) -> Done {
        let d = self.table.get(fd)?;
        d.need_file(FD_ALLOCATE)?;
        let (offset, len) = (signed(offset)?, signed(len)?);
        let size = Some(offset.saturating_add(len));
        let writing = self.changes.resize(d, &self.grants, size, true)?;
        let done = retry(|| rustix::fs::fallocate(d.host(), rustix::fs::FallocateFlags::empty(), offset, len));
        self.changes.resized(d, writing, true, done.is_ok());
        Ok(done?)
    }

    pub(in crate::wasi) fn fd_close(&mut self, fd: u32) -> Done {
        self.table.remove(fd)?;
        Ok(())
    }

    pub(in crate::wasi) fn fd_sync(&mut self, fd: u32, data_only: bool) -> Done {
        let d = self.table.get(fd)?;
        if d.kind.blocks() {
            return Err(Errno::Inval.into());
        }
        d.need(if data_only { FD_DATASYNC } else { FD_SYNC })?;
        match data_only {
            true => retry(|| rustix::fs::fdatasync(d.host()))?,
            false => retry(|| rustix::fs::fsync(d.host()))?,
        }
        Ok(())
    }

    pub(in crate::wasi) fn fd_fdstat_get(&mut self, m: &mut Memory<'_>, fd: u32, out: u32) -> Done {
        let d = self.table.get(fd)?;
        let mut bytes = [0; 24];
        bytes[0] = d.kind.file_type() as u8;
        bytes[2..4].copy_from_slice(&d.flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&d.effective_rights().to_le_bytes());
        bytes[16..24].copy_from_slice(&d.inheriting.to_le_bytes());
        Ok(m.set(out, &bytes)?)
    }

    pub(in crate::wasi) fn fd_fdstat_set_flags(&mut self, fd: u32, flags: u32) -> Done {
        let d = self.table.get_mut(fd)?;
        d.need(FD_FDSTAT_SET_FLAGS)?;
        let flags = fdflags(flags)?;
        // Linux can't turn synchronous writes on after opening.
        if flags & !d.flags & (SYNC | DSYNC | RSYNC) != 0 {
            return Err(Errno::Inval.into());
        }
        if let (Resource::File { file, .. }, true) = (&d.resource, (flags ^ d.flags) & APPEND != 0) {
            let mut host = rustix::fs::fcntl_getfl(file)?;
            host.set(OFlags::APPEND, flags & APPEND != 0);
            rustix::fs::fcntl_setfl(file, host)?;
        }
        // Non-blocking is ours alone: a host's flag would be shared with other processes.
        d.flags = flags;
        Ok(())
    }

    pub(in crate::wasi) fn fd_fdstat_set_rights(&mut self, fd: u32, rights: u64, inheriting: u64) -> Done {
        let d = self.table.get_mut(fd)?;
        if rights & !d.effective_rights() != 0 || inheriting & !d.inheriting != 0 {
            return Err(Errno::NotCapable.into());
        }
        (d.rights, d.inheriting) = (rights, inheriting);
        Ok(())
    }

    pub(in crate::wasi) fn fd_filestat_get(&mut self, m: &mut Memory<'_>, abi: Abi, fd: u32, out: u32) -> Done {
        let d = self.table.get(fd)?;
        d.need(FD_FILESTAT_GET)?;
        let stat = d.stat()?;
        self.set_filestat(m, abi, out, &stat)
    }

    pub(in crate::wasi) fn fd_filestat_set_size(&mut self, fd: u32, size: u64) -> Done {
        let d = self.table.get(fd)?;
        d.need_file(FD_FILESTAT_SET_SIZE)?;
        let size = signed(size)?;
        let writing = self.changes.resize(d, &self.grants, Some(size), false)?;
        let done = retry(|| rustix::fs::ftruncate(d.host(), size));
        self.changes.resized(d, writing, false, done.is_ok());
        Ok(done?)
    }

    pub(in crate::wasi) fn fd_filestat_set_times(&mut self, fd: u32, accessed: u64, modified: u64, flags: u32) -> Done {
        let d = self.table.get(fd)?;
        d.need(FD_FILESTAT_SET_TIMES)?;
        let times = timestamps(accessed, modified, flags)?;
        let change = || Ok(rustix::fs::futimens(d.host(), &times)?);
        match &d.resource {
            Resource::File { grant, file, .. } => Ok(self.changes.attributes(&self.grants, *grant, file, change)?),
            Resource::Directory(dir) => Ok(self.changes.attributes(&self.grants, dir.grant, &dir.file, change)?),
            _ => Ok(change()?),
        }
    }

    pub(in crate::wasi) fn fd_prestat_get(&mut self, m: &mut Memory<'_>, fd: u32, out: u32) -> Done {
        let name = self.preopened_name(self.table.get(fd)?).ok_or(Errno::Badf)?;
        let mut bytes = [0; 8];
        bytes[4..].copy_from_slice(&(name.len() as u32).to_le_bytes());
        Ok(m.set(out, &bytes)?)
    }

    pub(in crate::wasi) fn fd_prestat_dir_name(&mut self, m: &mut Memory<'_>, fd: u32, out: u32, len: u32) -> Done {
        let name = self.preopened_name(self.table.get(fd)?).ok_or(Errno::NotDir)?;
        if name.len() > len as usize {
            return Err(Errno::NameTooLong.into());
        }
        Ok(m.set(out, name.as_bytes())?)
    }

    fn preopened_name(&self, d: &Descriptor) -> Option<&str> {
        match &d.resource {
            Resource::Directory(dir) if dir.preopened => self.grants.get(dir.grant as usize).map(|g| g.guest.as_str()),
            _ => None,
        }
    }

    pub(in crate::wasi) fn fd_renumber(&mut self, from: u32, to: u32) -> Done {
        Ok(self.table.renumber(from, to)?)
    }

    pub(in crate::wasi) fn fd_seek(
        &mut self,
        m: &mut Memory<'_>,
        abi: Abi,
        fd: u32,
        offset: u64,
        whence: u32,
        out: u32,
    ) -> Done {
        let d = self.table.get(fd)?;
        // Preview1 numbers set, cur, end; its predecessor cur, end, set.
        let whence = match (abi, whence) {
            (Abi::Preview1, 0) | (Abi::Unstable, 2) => 0,
            (Abi::Preview1, 1) | (Abi::Unstable, 0) => 1,
            (Abi::Preview1, 2) | (Abi::Unstable, 1) => 2,
            _ => return Err(Errno::Inval.into()),
        };
        let offset = offset as i64;
        // Asking for the position is not seeking.
        d.need_file(if whence == 1 && offset == 0 { FD_TELL } else { FD_SEEK })?;
        m.range(out, 8)?;
        let to = match whence {
            0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| Errno::Inval)?),
            1 => SeekFrom::Current(offset),
            _ => SeekFrom::End(offset),
        };
        let position = rustix::fs::seek(d.host(), to)?;
        Ok(m.set_u64(out, position)?)
    }

    pub(in crate::wasi) fn fd_tell(&mut self, m: &mut Memory<'_>, fd: u32, out: u32) -> Done {
        let d = self.table.get(fd)?;
        d.need_file(FD_TELL)?;
        Ok(m.set_u64(out, rustix::fs::tell(d.host())?)?)
    }

    /// Writes a `filestat` with the inode number the program knows the file by.
    pub(in crate::wasi) fn set_filestat(&self, m: &mut Memory<'_>, abi: Abi, out: u32, stat: &Stat) -> Done {
        let mut bytes = [0; 64];
        let is_file = (stat.dev, stat.ino) != (0, 0);
        bytes[0..8].copy_from_slice(&u64::from(is_file).to_le_bytes());
        let inode = if is_file { self.inode(stat.dev, stat.ino) } else { 0 };
        bytes[8..16].copy_from_slice(&inode.to_le_bytes());
        bytes[16] = stat.file_type as u8;
        let (dev, ino) = (stat.dev, stat.ino);
        let links = self.changes.links(FileId { dev, ino }, stat.links);
        // Preview1's link count has 64 bits and its own place; its predecessor's 32 bits, in the padding after the
        // type.
        let numbers = [stat.size, stat.accessed, stat.modified, stat.changed];
        let (from, len) = match abi {
            Abi::Preview1 => {
                bytes[24..32].copy_from_slice(&links.to_le_bytes());
                (32, 64)
            }
            Abi::Unstable => {
                bytes[20..24].copy_from_slice(&u32::try_from(links).unwrap_or(u32::MAX).to_le_bytes());
                (24, 56)
            }
        };
        for (i, n) in numbers.into_iter().enumerate() {
            bytes[from + 8 * i..][..8].copy_from_slice(&n.to_le_bytes());
        }
        Ok(m.set(out, &bytes[..len])?)
    }
}

/// Checked `fdflags`.
pub(in crate::wasi) fn fdflags(flags: u32) -> Result<u16, Errno> {
    u16::try_from(flags)
        .ok()
        .filter(|f| f & !ALL_FLAGS == 0)
        .ok_or(Errno::Inval)
}

/// The times to set, from WASI's `fstflags` (1 accessed, 2 accessed now, 4 modified, 8 modified now).
pub(in crate::wasi) fn timestamps(accessed: u64, modified: u64, flags: u32) -> Result<Timestamps, Errno> {
    let one = |time: u64, flags: u32| match flags {
        0 => Ok(Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT as _,
        }),
        1 => Ok(Timespec {
            tv_sec: (time / 1_000_000_000) as _,
            tv_nsec: (time % 1_000_000_000) as _,
        }),
        2 => Ok(Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW as _,
        }),
        _ => Err(Errno::Inval),
    };
    if flags & !15 != 0 {
        return Err(Errno::Inval);
    }
    Ok(Timestamps {
        last_access: one(accessed, flags & 3)?,
        last_modification: one(modified, flags >> 2)?,
    })
}
