//! Open files that have no name: made anew, with the contents that the snapshot brings.

use super::problem::{Problems, RestoreProblem};
use crate::wasi::GrantedDir;
use crate::wasi::calls::open::{Access, host_flags};
use crate::wasi::calls::path::proc_path;
use crate::wasi::errno::Errno;
use dunlin_migrate::snapshot::{Contents, write_contents};
use dunlin_migrate::state::files::{Files, Unlinked};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// Makes all of them, each with its contents, in the grant's file system where that can be.
pub(super) fn make(files: &Files, grants: &[GrantedDir], contents: &dyn Contents) -> Result<Vec<File>, Problems> {
    let one = |u: &Unlinked| {
        let granted = grants.get(u.grant as usize);
        let (Some(granted), Some(content)) = (granted, files.contents.get(u.content as usize)) else {
            return Err(vec![]);
        };
        let file = without_name(granted.dir.as_deref())
            .map_err(|e| vec![RestoreProblem::put(&granted.guest, "a deleted file", e)])?;
        write_contents(contents, content, &files.chunks, &file).map_err(|e| vec![e.into()])?;
        Ok(file)
    };
    files.unlinked.iter().map(one).collect()
}

/// A new file without a name.
fn without_name(root: Option<&File>) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let here = root.map(|root| rustix::fs::openat(root, c".", flags, Mode::RUSR | Mode::WUSR));
    match here {
        Some(Ok(fd)) => Ok(fd.into()),
        // A file system that can't, or a directory that may not be written: in memory then.
        _ => Ok(rustix::fs::memfd_create(c"deleted", rustix::fs::MemfdFlags::CLOEXEC)?.into()),
    }
}

/// Opens one of them once more, as a descriptor of the program had it.
pub(super) fn reopen(file: &File, access: Access) -> Result<File, Errno> {
    let mut flags = OFlags::CLOEXEC | host_flags(access.flags);
    flags |= match (access.read, access.write) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        _ => OFlags::RDONLY,
    };
    Ok(rustix::fs::open(proc_path(file.as_fd()), flags, Mode::empty())?.into())
}
