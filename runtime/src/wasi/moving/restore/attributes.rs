//! The permissions and times of carried files, once all of them have their places.

use crate::wasi::GrantedDir;
use crate::wasi::calls::path::{proc_path, stat};
use crate::wasi::changes::chunked::List;
use crate::wasi::errno::Errno;
use crate::wasi::host::{FileType, Stat};
use cap_primitives::fs::{self as sandbox, FollowSymlinks, OpenOptions, OpenOptionsExt};
use dunlin_migrate::state::files::{Files, GrantMode, MODE_MASK, Node, NodeKind};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Carried files that have their places.
#[derive(Debug)]
pub(super) struct Installed {
    /// Directories that were not there before, by index of their node.
    pub(super) made: HashSet<usize>,
    /// Nodes whose contents are known: those that were written, and those that were there, with their time of change at
    /// that time.
    pub(super) contents: Vec<(u32, Option<u64>)>,
}

impl Installed {
    /// The files whose chunks need not be read to be known, once they have their permissions and times.
    pub(super) fn known(&self, files: &Files, grants: &[GrantedDir]) -> Vec<(Stat, List)> {
        let known = |&(index, changed): &(u32, Option<u64>)| {
            let node = files.nodes.get(index as usize)?;
            let NodeKind::File { content } = node.kind else {
                return None;
            };
            let root = grants.get(node.grant as usize)?.dir.as_deref()?;
            let now = stat(root, &node.path, FollowSymlinks::No).ok()?;
            // Whoever has changed it since has changed its times.
            let same = now.file_type == FileType::RegularFile && now.modified == node.modified;
            let same = same && changed.is_none_or(|changed| now.changed == changed);
            let list = List::of(files.contents.get(content as usize)?, &files.chunks)?;
            (same && now.size == list.len).then_some((now, list))
        };
        self.contents.iter().filter_map(known).collect()
    }

    /// Gives files and directories their modes and times, once everything is open. Returns what a person should know.
    pub(super) fn set_attributes(&self, files: &Files, grants: &[GrantedDir], unlinked: &[File]) -> Vec<String> {
        let mut warnings = Vec::new();
        // What is in a directory comes first: it changes the directory's time.
        for (index, node) in files.nodes.iter().enumerate().rev() {
            let Some(granted) = grants.get(node.grant as usize) else {
                continue;
            };
            let Some(root) = granted.dir.as_deref() else { continue };
            let whole = granted.mode == GrantMode::CarryAll;
            match node.kind {
                NodeKind::Directory if !whole && !self.made.contains(&index) => continue,
                NodeKind::Symlink { .. } | NodeKind::HardLink { .. } => continue,
                NodeKind::Directory | NodeKind::File { .. } => {}
            }
            if let Err(e) = set_attributes(root, node) {
                warnings.push(format!(
                    "'{}' in the directory '{}' can't get its permissions or its time back: {e}",
                    node.path, granted.guest
                ));
            }
        }
        for (file, was) in unlinked.iter().zip(&files.unlinked) {
            // Only the program itself can see them.
            let _ = rustix::fs::fchmod(file, Mode::from_raw_mode(was.mode.into()));
            let _ = rustix::fs::futimens(file, &modified(was.modified));
        }
        warnings
    }
}

fn set_attributes(root: &File, node: &Node) -> Result<(), Errno> {
    // No permission is needed on the file itself, and its link in /proc leads nowhere else.
    let mut options = OpenOptions::new();
    options
        .read(true)
        ._cap_fs_ext_follow(FollowSymlinks::No)
        .custom_flags(OFlags::PATH.bits() as i32);
    let file = sandbox::open(root, Path::new(&node.path), &options)?;
    let now = Stat::of_fd(file.as_fd())?;
    if !matches!(now.file_type, FileType::RegularFile | FileType::Directory) {
        return Err(Errno::Loop);
    }
    if now.modified != node.modified {
        set_modified(file.as_fd(), node.modified)?;
    }
    if now.mode & MODE_MASK != node.mode {
        set_mode(file.as_fd(), node.mode)?;
    }
    Ok(())
}

pub(super) fn set_mode(file: BorrowedFd<'_>, mode: u16) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(mode.into());
    rustix::fs::chmodat(rustix::fs::CWD, proc_path(file), mode, AtFlags::empty())?;
    Ok(())
}

pub(super) fn set_modified(file: BorrowedFd<'_>, time: u64) -> Result<(), Errno> {
    rustix::fs::utimensat(rustix::fs::CWD, proc_path(file), &modified(time), AtFlags::empty())?;
    Ok(())
}

fn modified(time: u64) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT as _,
        },
        last_modification: Timespec {
            tv_sec: (time / 1_000_000_000) as _,
            tv_nsec: (time % 1_000_000_000) as _,
        },
    }
}
