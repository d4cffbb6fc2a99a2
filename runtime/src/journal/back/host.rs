//! Opening what going back changes, and putting its attributes and contents back.

use super::conflict::path;
use crate::journal::files::read_some;
use crate::journal::record::{Attributes, Name};
use cap_primitives::fs::{self as sandbox, FollowSymlinks, OpenOptions, OpenOptionsExt};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

/// The directory that a name lies in, and the name there.
pub(super) fn parent_of(root: &File, name: &Name) -> io::Result<(File, Vec<u8>)> {
    let parent = name.parent();
    let dir = sandbox::open_dir_nofollow(root, path(&parent))?;
    let skip = if parent.path.is_empty() {
        0
    } else {
        parent.path.len() + 1
    };
    Ok((dir, name.path.get(skip..).unwrap_or_default().to_vec()))
}

/// Opens whatever has a name, only to be found by it.
pub(super) fn find(root: &File, name: &Name) -> io::Result<File> {
    let mut any = OpenOptions::new();
    any.read(true)
        ._cap_fs_ext_follow(FollowSymlinks::No)
        .custom_flags(OFlags::PATH.bits() as i32);
    sandbox::open(root, path(name), &any)
}

/// Opens a regular file for writing, even if its permissions are against it and its owner is not.
pub(super) fn writable(root: &File, name: &Name) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        ._cap_fs_ext_follow(FollowSymlinks::No)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32);
    match sandbox::open(root, path(name), &options) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let file = find(root, name)?;
            let link = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
            rustix::fs::chmodat(rustix::fs::CWD, &*link, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
            sandbox::open(root, path(name), &options)
        }
        opened => opened,
    }
}

#[allow(clippy::unnecessary_cast)]
pub(super) fn times(attributes: Attributes) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT as _,
        },
        last_modification: Timespec {
            tv_sec: attributes.modified.0 as _,
            tv_nsec: attributes.modified.1 as _,
        },
    }
}

/// Gives an open file or directory its permissions and time of modification back.
pub(super) fn set_attributes(file: &File, attributes: Attributes) -> io::Result<()> {
    let now = Attributes::of(&rustix::fs::fstat(file)?);
    // A directory may be opened only to be found.
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    if (now.mode ^ attributes.mode) & 0o7777 != 0 {
        let mode = Mode::from_raw_mode(attributes.mode & 0o7777);
        rustix::fs::chmodat(rustix::fs::CWD, &*link, mode, AtFlags::empty())?;
    }
    set_times(file, attributes)
}

/// Gives an open file or directory its time of modification back.
pub(super) fn set_times(file: &File, attributes: Attributes) -> io::Result<()> {
    if Attributes::of(&rustix::fs::fstat(file)?).modified != attributes.modified {
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::utimensat(rustix::fs::CWD, &*link, &times(attributes), AtFlags::empty())?;
    }
    Ok(())
}

/// Makes a part of a file zero; a hole, where the file system can.
pub(super) fn clear(file: &File, at: u64, len: u64) -> io::Result<()> {
    let end = at.saturating_add(len).min(file.metadata()?.len());
    if at >= end {
        return Ok(());
    }
    use rustix::fs::{FallocateFlags, fallocate};
    if fallocate(
        file,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        at,
        end - at,
    )
    .is_ok()
    {
        return Ok(());
    }
    let (zeros, mut there) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut at = at;
    while at < end {
        let n = usize::try_from(end - at).unwrap_or(zeros.len()).min(zeros.len());
        // What is zero may be a hole.
        if read_some(file, &mut there[..n], at)? == 0 || there[..n] != zeros[..n] {
            file.write_all_at(&zeros[..n], at)?;
        }
        at += n as u64;
    }
    Ok(())
}
