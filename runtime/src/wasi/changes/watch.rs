//! Tells [`super::touched::Touched`] what each call changes: looked at from outside, before and after it, so that no
//! function need know of that.
//!
//! Only what a call has really done counts: a snapshot is never taken in the middle of one.

use crate::journal::Name;
use crate::wasi::Wasi;
use crate::wasi::calls::path::{GuestPath, stat};
use crate::wasi::changes::place::{Dir, below, place};
use crate::wasi::errno::Errno;
use crate::wasi::func::{Args, Function};
use crate::wasi::host::{FileType, HostKind};
use crate::wasi::mem::Memory;
use crate::wasi::rights::FD_WRITE;
use crate::wasi::table::{APPEND, Directory, Resource};
use cap_primitives::fs::FollowSymlinks;
use rustix::fs::AtFlags;

/// `oflags` of `path_open` that matter here.
const CREAT: u32 = 1;
const TRUNC: u32 = 8;

/// What a call is about to do.
pub(in crate::wasi) enum Watch {
    /// Nothing that matters, or nothing that could be told before.
    Nothing,
    /// To write to a file from a place on (if it is not the end); the number of bytes will be there.
    Write { file: u32, at: Option<u64>, out: u32 },
    /// To give a file a size.
    Resize { file: u32, from: u64, to: u64 },
    /// To open something, whose descriptor will be there.
    Open { out: u32, writes: bool, created: bool },
    /// To make a name.
    Create(Option<Name>),
    /// To remove one.
    Remove(Option<Name>),
    /// To move one.
    Rename(Option<Name>, Option<Name>),
    /// To change the attributes of what has a name.
    Attributes(Option<Name>),
}

impl Wasi {
    /// Notes what a call is about to change, before it is made.
    pub(in crate::wasi) fn before_call(&mut self, f: Function, a: &Args<'_>, m: &Memory<'_>) -> Watch {
        match f {
            Function::FdWrite => self.watch_write(a.int(0), None, a.int(3)),
            Function::FdPwrite => self.watch_write(a.int(0), Some(a.long(3)), a.int(4)),
            Function::FdAllocate => self.watch_write(a.int(0), None, u32::MAX),
            Function::FdFilestatSetSize => match self.begin(a.int(0)) {
                Some((file, from)) => Watch::Resize {
                    file,
                    from,
                    to: a.long(1),
                },
                None => Watch::Nothing,
            },
            Function::FdFilestatSetTimes => {
                self.begin(a.int(0));
                Watch::Attributes(self.open_name(a.int(0)))
            }
            Function::FdClose => self.forget(a.int(0)),
            Function::FdRenumber => {
                self.forget(a.int(0));
                self.forget(a.int(1))
            }
            Function::PathOpen => {
                let (oflags, path) = (a.int(4), a.pair(2));
                let created = oflags & CREAT != 0 && self.is_free(m, a.int(0), a.int(1), path);
                Watch::Open {
                    out: a.int(8),
                    writes: oflags & (CREAT | TRUNC) != 0 || a.long(5) & FD_WRITE != 0,
                    created,
                }
            }
            Function::PathCreateDirectory => Watch::Create(self.name(m, a.int(0), a.pair(1))),
            Function::PathSymlink => Watch::Create(self.name(m, a.int(2), a.pair(3))),
            Function::PathLink => {
                self.begin_named(m, a.int(0), a.pair(2));
                Watch::Create(self.name(m, a.int(4), a.pair(5)))
            }
            Function::PathRemoveDirectory => Watch::Remove(self.name(m, a.int(0), a.pair(1))),
            Function::PathUnlinkFile => {
                self.begin_named(m, a.int(0), a.pair(1));
                Watch::Remove(self.name(m, a.int(0), a.pair(1)))
            }
            Function::PathRename => {
                self.begin_named(m, a.int(0), a.pair(1));
                self.begin_named(m, a.int(3), a.pair(4));
                let (from, to) = (self.name(m, a.int(0), a.pair(1)), self.name(m, a.int(3), a.pair(4)));
                Watch::Rename(from, to)
            }
            Function::PathFilestatSetTimes => {
                self.begin_named(m, a.int(0), a.pair(2));
                Watch::Attributes(self.name(m, a.int(0), a.pair(2)))
            }
            _ => Watch::Nothing,
        }
    }

    /// Notes what it has changed, if it was `done`.
    pub(in crate::wasi) fn after_call(&mut self, watch: Watch, done: bool, m: &Memory<'_>) {
        match watch {
            // Of what is longer than before the end is read in any case.
            Watch::Write {
                file,
                at: Some(at),
                out,
            } if done => {
                let n = m.u32(out).unwrap_or(u32::MAX);
                self.touched.wrote(file, at, n.into());
            }
            Watch::Resize { file, from, to } => self.touched.resized(file, from, to),
            Watch::Open { out, writes, created } if done => {
                if let Ok(fd) = m.u32(out) {
                    self.opened(fd, writes, created);
                }
            }
            Watch::Create(Some(Name { grant, path })) if done => self.touched.created(grant, &path),
            Watch::Remove(Some(Name { grant, path })) if done => self.touched.removed(grant, &path),
            Watch::Attributes(Some(Name { grant, path })) if done => self.touched.changed(grant, &path),
            // Of two names of one file, both stay.
            Watch::Rename(Some(from), _) if done && self.is_there(&from) => {}
            Watch::Rename(from, to) if done => match (from, to) {
                (Some(from), Some(to)) => self.touched.renamed((from.grant, &from.path), (to.grant, &to.path)),
                (Some(Name { grant, path }), None) => self.touched.removed(grant, &path),
                (None, Some(Name { grant, path })) => self.touched.changed(grant, &path),
                (None, None) => {}
            },
            _ => {}
        }
        self.touched.returned();
    }

    /// An open file is about to be changed: its number and size.
    fn begin(&mut self, fd: u32) -> Option<(u32, u64)> {
        let d = self.table.get(fd).ok().filter(|d| d.kind == HostKind::Regular)?;
        let stat = d.stat().ok()?;
        Some((self.touched.begin(&stat)?, stat.size))
    }

    /// What has a name, no link followed, is about to be changed.
    fn begin_named(&mut self, m: &Memory<'_>, fd: u32, path: GuestPath) {
        let Some(dir) = self.open_directory_of(fd) else {
            return;
        };
        if let Ok(path) = m.string(path.0, path.1)
            && let Ok(stat) = stat(&dir.file, &path, FollowSymlinks::No)
            && stat.file_type == FileType::RegularFile
        {
            self.touched.begin(&stat);
        }
    }

    fn watch_write(&mut self, fd: u32, at: Option<u64>, out: u32) -> Watch {
        let Ok(d) = self.table.get(fd) else {
            return Watch::Nothing;
        };
        if d.kind != HostKind::Regular {
            return Watch::Nothing;
        }
        // In append mode even `pwrite` writes to the end, on Linux. So does `fd_allocate`, as far as contents go.
        let at = match at {
            _ if d.flags & APPEND != 0 || out == u32::MAX => None,
            None => rustix::fs::tell(d.host()).ok(),
            at => at,
        };
        match self.touched.begin_write(fd, || d.stat().ok()) {
            Some(file) => Watch::Write { file, at, out },
            None => Watch::Nothing,
        }
    }

    fn forget(&mut self, fd: u32) -> Watch {
        self.touched.closed(fd);
        Watch::Nothing
    }

    /// Something was opened.
    fn opened(&mut self, fd: u32, writes: bool, created: bool) {
        let Ok(d) = self.table.get(fd) else { return };
        if !matches!(d.resource, Resource::File { .. }) {
            return;
        }
        if d.kind == HostKind::Regular
            && let Ok(stat) = d.stat()
        {
            self.touched.opened(&stat);
        }
        if writes && let Some(Name { grant, path }) = self.open_name(fd) {
            match created {
                true => self.touched.created(grant, &path),
                false => self.touched.changed(grant, &path),
            }
        }
    }

    fn open_directory_of(&self, fd: u32) -> Option<&Directory> {
        match &self.table.get(fd).ok()?.resource {
            Resource::Directory(dir) => Some(dir),
            _ => None,
        }
    }

    /// Is there nothing of that name? As `path_open` looks for it.
    fn is_free(&self, m: &Memory<'_>, fd: u32, lookup: u32, path: GuestPath) -> bool {
        let Some(dir) = self.open_directory_of(fd) else {
            return false;
        };
        let follow = crate::wasi::calls::path::follow(lookup).unwrap_or(FollowSymlinks::No);
        let path = m.string(path.0, path.1).unwrap_or_default();
        self.touched.by_name(dir.grant) && matches!(stat(&dir.file, &path, follow), Err(Errno::NoEnt))
    }

    /// The name of what a path names, below its grant; `None` where names don't matter, or if it names nothing.
    fn name(&self, m: &Memory<'_>, fd: u32, path: GuestPath) -> Option<Name> {
        let dir = self.open_directory_of(fd)?;
        let path = m.string(path.0, path.1).ok()?;
        if !self.touched.by_name(dir.grant) {
            return None;
        }
        place(&self.grants, &Dir::of(dir), &path).map(|place| place.name)
    }

    fn is_there(&self, name: &Name) -> bool {
        let root = self.grants.get(name.grant as usize).and_then(|g| g.dir.as_ref());
        root.is_some_and(|root| rustix::fs::statat(root, &name.path[..], AtFlags::SYMLINK_NOFOLLOW).is_ok())
    }

    /// The name of something open.
    fn open_name(&self, fd: u32) -> Option<Name> {
        let d = self.table.get(fd).ok()?;
        let grant = match &d.resource {
            Resource::File { grant, .. } => *grant,
            Resource::Directory(dir) => dir.grant,
            _ => return None,
        };
        let path = self
            .touched
            .by_name(grant)
            .then(|| below(&self.grants, grant, d.host()))?;
        path.ok().map(|path| Name { grant, path })
    }
}
