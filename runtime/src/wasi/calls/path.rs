//! The `path_*` functions other than `path_open`.
//!
//! Every path is resolved by cap-primitives, relative to an open directory: with `openat2` and `RESOLVE_BENEATH` where
//! the kernel has it, else component by component. Neither `..` nor a symbolic link nor a rename behind our back leads
//! out of that directory.

use crate::journal::Kind;
use crate::wasi::calls::fd::timestamps;
use crate::wasi::changes::place::Dir;
use crate::wasi::errno::Errno;
use crate::wasi::host::{FileType, Stat};
use crate::wasi::mem::Memory;
use crate::wasi::rights::{
    PATH_CREATE_DIRECTORY, PATH_FILESTAT_GET, PATH_FILESTAT_SET_TIMES, PATH_LINK_SOURCE, PATH_LINK_TARGET,
    PATH_READLINK, PATH_REMOVE_DIRECTORY, PATH_RENAME_SOURCE, PATH_RENAME_TARGET, PATH_SYMLINK, PATH_UNLINK_FILE,
};
use crate::wasi::table::{Directory, Resource};
use crate::wasi::{Abi, Done, Wasi};
use cap_primitives::fs::{self as sandbox, FollowSymlinks, OpenOptions, OpenOptionsExt};
use rustix::fs::{AtFlags, OFlags};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path in the program's memory: pointer and length.
pub(in crate::wasi) type GuestPath = (u32, u32);

/// `lookupflags`: follow a symbolic link in the last component.
const SYMLINK_FOLLOW: u32 = 1;

/// Checked `lookupflags`.
pub(in crate::wasi) fn follow(flags: u32) -> Result<FollowSymlinks, Errno> {
    match flags {
        0 => Ok(FollowSymlinks::No),
        SYMLINK_FOLLOW => Ok(FollowSymlinks::Yes),
        _ => Err(Errno::Inval),
    }
}

impl Wasi {
    /// The open directory of a number, if it has a right.
    pub(in crate::wasi) fn directory(&self, fd: u32, right: u64) -> Result<&Directory, Errno> {
        let d = self.table.get(fd)?;
        match &d.resource {
            Resource::Directory(dir) => d.need(right).map(|()| dir),
            _ => Err(Errno::NotDir),
        }
    }

    pub(in crate::wasi) fn path_create_directory(&mut self, m: &Memory<'_>, fd: u32, path: GuestPath) -> Done {
        let dir = Dir::of(self.directory(fd, PATH_CREATE_DIRECTORY)?);
        let path = m.string(path.0, path.1)?;
        let place = self.changes.free_place(&self.grants, &dir, &path);
        let naming = self.changes.create(place.as_ref(), Kind::Directory)?;
        let done = sandbox::create_dir(&dir.file, Path::new(&path), &sandbox::DirOptions::new());
        if done.is_ok() {
            self.changes.made_directory(place.as_ref());
        }
        self.changes.finish(naming, done.is_ok());
        Ok(done?)
    }

    pub(in crate::wasi) fn path_filestat_get(
        &mut self,
        m: &mut Memory<'_>,
        abi: Abi,
        fd: u32,
        flags: u32,
        path: GuestPath,
        out: u32,
    ) -> Done {
        let dir = self.directory(fd, PATH_FILESTAT_GET)?;
        let path = m.string(path.0, path.1)?;
        let stat = stat(&dir.file, &path, follow(flags)?)?;
        self.set_filestat(m, abi, out, &stat)
    }

    pub(in crate::wasi) fn path_filestat_set_times(
        &mut self,
        m: &Memory<'_>,
        fd: u32,
        flags: u32,
        path: GuestPath,
        times: (u64, u64),
        fstflags: u32,
    ) -> Done {
        let dir = Dir::of(self.directory(fd, PATH_FILESTAT_SET_TIMES)?);
        let path = m.string(path.0, path.1)?;
        let times = timestamps(times.0, times.1, fstflags)?;
        // An O_PATH descriptor needs no permission on the file and never blocks; the link to it in /proc leads nowhere
        // else.
        let mut options = OpenOptions::new();
        options
            .read(true)
            ._cap_fs_ext_follow(follow(flags)?)
            .custom_flags(OFlags::PATH.bits() as i32);
        let file = sandbox::open(&dir.file, Path::new(&path), &options)?;
        let link = proc_path(file.as_fd());
        let change = || Ok(rustix::fs::utimensat(rustix::fs::CWD, link, &times, AtFlags::empty())?);
        Ok(self.changes.attributes(&self.grants, dir.grant, &file, change)?)
    }

    pub(in crate::wasi) fn path_link(
        &mut self,
        m: &Memory<'_>,
        from: u32,
        flags: u32,
        old: GuestPath,
        to: u32,
        new: GuestPath,
    ) -> Done {
        let source = Dir::of(self.directory(from, PATH_LINK_SOURCE)?);
        let target = Dir::of(self.directory(to, PATH_LINK_TARGET)?);
        let (old, new) = (m.string(old.0, old.1)?, m.string(new.0, new.1)?);
        if follow(flags)? == FollowSymlinks::Yes {
            return Err(Errno::Inval.into());
        }
        let naming = self.changes.link(&self.grants, (&source, &old), (&target, &new))?;
        let done = sandbox::hard_link(&source.file, Path::new(&old), &target.file, Path::new(&new));
        self.changes.finish(naming, done.is_ok());
        Ok(done?)
    }

    pub(in crate::wasi) fn path_readlink(
        &mut self,
        m: &mut Memory<'_>,
        fd: u32,
        path: GuestPath,
        buf: (u32, u32),
        out: u32,
    ) -> Done {
        let dir = self.directory(fd, PATH_READLINK)?;
        let path = m.string(path.0, path.1)?;
        m.range(out, 4)?;
        m.range(buf.0, buf.1)?;
        let target = sandbox::read_link(&dir.file, Path::new(&path))?;
        let bytes = target.as_os_str().as_bytes();
        let bytes = &bytes[..bytes.len().min(buf.1 as usize)];
        m.set(buf.0, bytes)?;
        Ok(m.set_u32(out, bytes.len() as u32)?)
    }

    pub(in crate::wasi) fn path_remove_directory(&mut self, m: &Memory<'_>, fd: u32, path: GuestPath) -> Done {
        let dir = Dir::of(self.directory(fd, PATH_REMOVE_DIRECTORY)?);
        let path = m.string(path.0, path.1)?;
        // cap-primitives takes a trailing slash for a trailing dot, which can't be removed.
        let name = path.trim_end_matches('/');
        let naming = self.changes.remove(&self.grants, &dir, &path, true)?;
        let done = sandbox::remove_dir(&dir.file, Path::new(if name.is_empty() { path.as_str() } else { name }));
        self.changes.finish(naming, done.is_ok());
        Ok(done?)
    }

    pub(in crate::wasi) fn path_rename(
        &mut self,
        m: &Memory<'_>,
        from: u32,
        old: GuestPath,
        to: u32,
        new: GuestPath,
    ) -> Done {
        let source = Dir::of(self.directory(from, PATH_RENAME_SOURCE)?);
        let target = Dir::of(self.directory(to, PATH_RENAME_TARGET)?);
        let (old, new) = (m.string(old.0, old.1)?, m.string(new.0, new.1)?);
        let naming = self.changes.rename(&self.grants, (&source, &old), (&target, &new))?;
        let done = sandbox::rename(&source.file, Path::new(&old), &target.file, Path::new(&new));
        self.changes.finish(naming, done.is_ok());
        Ok(done?)
    }

    pub(in crate::wasi) fn path_symlink(&mut self, m: &Memory<'_>, old: GuestPath, fd: u32, new: GuestPath) -> Done {
        let dir = Dir::of(self.directory(fd, PATH_SYMLINK)?);
        let (old, new) = (m.string(old.0, old.1)?, m.string(new.0, new.1)?);
        let place = self.changes.free_place(&self.grants, &dir, &new);
        let naming = self
            .changes
            .create(place.as_ref(), Kind::Symlink(crc32fast::hash(old.as_bytes())))?;
        // cap-primitives refuses absolute targets.
        let done = sandbox::symlink(Path::new(&old), &dir.file, Path::new(&new));
        self.changes.finish(naming, done.is_ok());
        Ok(done?)
    }

    pub(in crate::wasi) fn path_unlink_file(&mut self, m: &Memory<'_>, fd: u32, path: GuestPath) -> Done {
        let dir = Dir::of(self.directory(fd, PATH_UNLINK_FILE)?);
        let path = m.string(path.0, path.1)?;
        let naming = self.changes.remove(&self.grants, &dir, &path, false)?;
        let done = sandbox::remove_file(&dir.file, Path::new(&path));
        self.changes.finish(naming, done.is_ok());
        Ok(done?)
    }
}

/// The attributes of what a path names below a directory.
pub(in crate::wasi) fn stat(dir: &File, path: &str, follow: FollowSymlinks) -> Result<Stat, Errno> {
    let stat = Stat::of_path(&sandbox::stat(dir, Path::new(path), follow)?);
    match path.ends_with('/') && stat.file_type != FileType::Directory {
        true => Err(Errno::NotDir),
        false => Ok(stat),
    }
}

/// The path under which the kernel shows an open descriptor of this process.
pub(in crate::wasi) fn proc_path(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}
