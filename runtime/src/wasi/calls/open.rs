//! `path_open`, and the sandboxed opening that it shares with restoring a state.

use crate::journal::Kind;
use crate::wasi::calls::fd::fdflags;
use crate::wasi::calls::path::{GuestPath, follow};
use crate::wasi::changes::change::Opened;
use crate::wasi::changes::place::{Dir, followed};
use crate::wasi::errno::Errno;
use crate::wasi::host::HostKind;
use crate::wasi::mem::Memory;
use crate::wasi::rights::{self, FD_READ, FD_WRITE, PATH_CREATE_FILE, PATH_FILESTAT_SET_SIZE, PATH_OPEN};
use crate::wasi::table::{APPEND, DSYNC, Descriptor, Directory, RSYNC, Resource, SYNC};
use crate::wasi::{Done, Wasi};
use cap_primitives::fs::{self as sandbox, FollowSymlinks, OpenOptions, OpenOptionsExt};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// `oflags`: create the file if it doesn't exist.
const CREAT: u32 = 1 << 0;
/// `oflags`: fail unless it is a directory.
const DIRECTORY: u32 = 1 << 1;
/// `oflags`: with `CREAT`, fail if it exists.
const EXCL: u32 = 1 << 2;
/// `oflags`: truncate it.
const TRUNC: u32 = 1 << 3;

/// `statfs`'s `f_type` of the proc file system.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// The parameters of `path_open` after the directory.
pub(in crate::wasi) struct Open {
    pub(in crate::wasi) lookup: u32,
    pub(in crate::wasi) path: GuestPath,
    pub(in crate::wasi) oflags: u32,
    pub(in crate::wasi) rights: u64,
    pub(in crate::wasi) fdflags: u32,
    pub(in crate::wasi) out: u32,
}

/// How to open something that exists.
#[derive(Clone, Copy, Debug)]
pub(in crate::wasi) struct Access {
    pub(in crate::wasi) read: bool,
    pub(in crate::wasi) write: bool,
    /// WASI `fdflags`.
    pub(in crate::wasi) flags: u16,
    pub(in crate::wasi) follow: FollowSymlinks,
}

impl Wasi {
    pub(in crate::wasi) fn path_open(&mut self, m: &mut Memory<'_>, fd: u32, open: &Open) -> Done {
        let inheriting = self.table.get(fd)?.inheriting;
        let dir = self.directory(fd, PATH_OPEN)?;
        let path = m.string(open.path.0, open.path.1)?;
        m.range(open.out, 4)?;
        let flags = fdflags(open.fdflags)?;
        if open.oflags & !(CREAT | DIRECTORY | EXCL | TRUNC) != 0 {
            return Err(Errno::Inval.into());
        }
        if open.oflags & CREAT != 0 {
            self.directory(fd, PATH_CREATE_FILE)?;
        }
        if open.oflags & TRUNC != 0 {
            self.directory(fd, PATH_FILESTAT_SET_SIZE)?;
        }
        let wanted = open.rights & (FD_READ | FD_WRITE);
        if wanted & !inheriting != 0 {
            return Err(Errno::NotCapable.into());
        }
        let access = Access {
            read: wanted & FD_READ != 0,
            write: wanted & FD_WRITE != 0,
            flags,
            follow: follow(open.lookup)?,
        };
        let dir = Dir::of(dir);
        let file = match self.changes.wanted() {
            true => self.open_recorded(&dir, &path, open.oflags, access)?,
            false => open_file(&dir.file, &path, open.oflags, access)?,
        };
        let descriptor = new_descriptor(dir.grant, file, wanted, inheriting, flags)?;
        let fd = self.table.insert(descriptor)?;
        Ok(m.set_u32(open.out, fd)?)
    }
}

impl Wasi {
    /// As [`open_file`], telling of what is created or loses its contents.
    fn open_recorded(&mut self, dir: &Dir, path: &str, oflags: u32, access: Access) -> Result<File, Errno> {
        if oflags & DIRECTORY != 0 || oflags & (CREAT | TRUNC) == 0 {
            return open_file(&dir.file, path, oflags, access);
        }
        /// How often someone else may create and remove the same name meanwhile.
        const TRIES: usize = 8;
        let (exclusive, truncate) = (oflags & EXCL != 0, oflags & TRUNC != 0);
        let existing = Access {
            write: access.write || truncate,
            ..access
        };
        for _ in 0..TRIES {
            if oflags & CREAT == 0 || !exclusive {
                match open_existing(&dir.file, path, existing) {
                    Err(Errno::NoEnt) if oflags & CREAT != 0 => {}
                    Err(e) => return Err(e),
                    Ok(file) => {
                        match HostKind::of(file.as_fd()) {
                            HostKind::Directory => return Err(Errno::IsDir),
                            HostKind::Regular if truncate => self.changes.truncate(&self.grants, dir.grant, &file)?,
                            _ => {}
                        }
                        return Ok(file);
                    }
                }
            }
            let follow = if exclusive { FollowSymlinks::No } else { access.follow };
            let place = followed(&self.grants, dir, path, follow).filter(|place| place.stat().is_none());
            let Some(place) = place else {
                // Whatever the host says to it; nothing is created by that.
                match exclusive {
                    true => return open_file(&dir.file, path, oflags, access),
                    false => match open_existing(&dir.file, path, existing) {
                        Err(Errno::NoEnt) => return Err(Errno::NoEnt),
                        _ => continue,
                    },
                }
            };
            if path.ends_with('/') {
                return Err(Errno::IsDir);
            }
            let naming = self.changes.create(Some(&place), Kind::File)?;
            let mut options = options(access);
            options
                .write(true)
                .create_new(true)
                ._cap_fs_ext_follow(FollowSymlinks::No);
            let leaf = Path::new(std::ffi::OsStr::from_bytes(place.leaf.to_bytes()));
            match sandbox::open(&place.parent, leaf, &options).map_err(Errno::from) {
                Ok(file) => {
                    self.changes.created(&place, &file, naming)?;
                    return checked(file, true);
                }
                Err(e) => {
                    self.changes.finish(naming, false);
                    if e != Errno::Exist || exclusive {
                        return Err(e);
                    }
                }
            }
        }
        Err(Errno::Again)
    }
}

/// The descriptor for something that was just opened. `wanted` are the rights among `FD_READ` and `FD_WRITE` that were
/// asked for.
fn new_descriptor(grant: u32, file: File, wanted: u64, inheriting: u64, flags: u16) -> Result<Descriptor, Errno> {
    let kind = HostKind::of(file.as_fd());
    if kind == HostKind::Directory {
        if wanted & FD_WRITE != 0 {
            return Err(Errno::IsDir);
        }
        let resource = Resource::Directory(Directory {
            grant,
            preopened: false,
            file: Arc::new(file),
            listing: None,
        });
        return Ok(Descriptor {
            resource,
            kind,
            rights: inheriting & rights::DIRECTORY,
            inheriting,
            flags,
        });
    }
    let unwanted = match wanted & FD_WRITE {
        0 => (FD_READ | rights::WRITER) & !wanted,
        _ => FD_READ & !wanted,
    };
    let rights = inheriting & kind.rights() & !unwanted;
    Ok(Descriptor {
        resource: Resource::File {
            grant,
            file,
            opened: Opened::new(),
        },
        kind,
        rights,
        inheriting: 0,
        flags,
    })
}

/// Opens, creates or truncates a file, or opens a directory, below `dir`.
fn open_file(dir: &File, path: &str, oflags: u32, access: Access) -> Result<File, Errno> {
    if oflags & DIRECTORY != 0 {
        if oflags & (CREAT | EXCL | TRUNC) != 0 {
            return Err(Errno::Inval);
        }
        return open_directory(dir, path, access.follow);
    }
    // Linux creates without write access, cap-primitives doesn't: try what exists first, so that `CREAT` on a file that
    // may only be read works as it does there.
    let create = oflags & CREAT != 0;
    if create && oflags & (EXCL | TRUNC) == 0 && !access.write {
        match open_existing(dir, path, access) {
            Err(Errno::NoEnt) => {}
            Ok(file) if HostKind::of(file.as_fd()) == HostKind::Directory => return Err(Errno::IsDir),
            result => return result,
        }
    }
    if oflags & (CREAT | TRUNC) == 0 {
        return open_existing(dir, path, access);
    }
    let mut options = options(access);
    options
        .write(true)
        .create(create)
        .create_new(create && oflags & EXCL != 0);
    // What is new is empty; cap-primitives knows no other combination of the two.
    options.truncate(oflags & TRUNC != 0 && oflags & EXCL == 0);
    checked(sandbox::open(dir, Path::new(path), &options)?, true)
}

/// Opens something that exists, below `dir`; never creates and never truncates.
pub(in crate::wasi) fn open_existing(dir: &File, path: &str, access: Access) -> Result<File, Errno> {
    checked(sandbox::open(dir, Path::new(path), &options(access))?, access.write)
}

/// The host's flags for a WASI descriptor's.
pub(in crate::wasi) fn host_flags(fdflags: u16) -> OFlags {
    // Non-blocking, so that opening a named pipe doesn't hang; files don't care, and other kinds are polled before each
    // transfer.
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    for (fdflag, flag) in [
        (APPEND, OFlags::APPEND),
        (DSYNC, OFlags::DSYNC),
        (RSYNC, OFlags::RSYNC),
        (SYNC, OFlags::SYNC),
    ] {
        flags.set(flag, flags.contains(flag) || fdflags & fdflag != 0);
    }
    flags
}

fn options(access: Access) -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(access.read || !access.write)
        .write(access.write)
        ._cap_fs_ext_follow(access.follow);
    options.custom_flags(host_flags(access.flags).bits() as i32);
    options
}

/// Refuses to write to the proc file system: through `/proc/self/mem` a program could leave its sandbox.
fn checked(file: File, write: bool) -> Result<File, Errno> {
    match write && rustix::fs::fstatfs(&file).is_ok_and(|fs| fs.f_type as u64 == PROC_SUPER_MAGIC) {
        true => Err(Errno::Acces),
        false => Ok(file),
    }
}

/// Opens a directory below `dir`; for listing too, if the host allows that.
pub(in crate::wasi) fn open_directory(dir: &File, path: &str, follow: FollowSymlinks) -> Result<File, Errno> {
    let path = Path::new(path);
    let file = match follow {
        FollowSymlinks::Yes => sandbox::open_dir(dir, path)?,
        FollowSymlinks::No => sandbox::open_dir_nofollow(dir, path)?,
    };
    Ok(readable(file))
}

/// The same directory opened for reading, if that is allowed; else as it was: good for looking up names.
pub(in crate::wasi) fn readable(dir: File) -> File {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(&dir, c".", flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(_) => dir,
    }
}
