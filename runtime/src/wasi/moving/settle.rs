//! What comes once everything has its place: files without a name, the permissions and times of carried ones, and what
//! needs no place.

use crate::wasi::calls::clock::Clocks;
use crate::wasi::calls::open::{Access, host_flags};
use crate::wasi::calls::path::proc_path;
use crate::wasi::changes::chunked::List;
use crate::wasi::errno::Errno;
use crate::wasi::host::{FileType, Stat};
use crate::wasi::moving::place::{Problems, put_problem};
use crate::wasi::table::Descriptor;
use crate::wasi::{GrantedDir, Wasi};
use cap_primitives::fs::{self as sandbox, FollowSymlinks, OpenOptions, OpenOptionsExt};
use dunlin_migrate::snapshot::{Contents, write_contents};
use dunlin_migrate::state::files::{Files, GrantMode, Node, NodeKind};
use dunlin_migrate::state::wasi::WasiState;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

impl Wasi {
    /// What of a state needs nothing of this machine.
    pub(in crate::wasi) fn take(&mut self, state: &WasiState) {
        // Every field by name: a new one must not be left out here.
        let WasiState {
            args,
            env,
            grants: _,      // Opened by `open_grants`.
            descriptors: _, // Opened by `Restore::descriptors`.
            times,
            files, // What is on this machine's disks is there already.
        } = state;
        self.args.clone_from(args);
        self.env.clone_from(env);
        self.listeners.clone_from(&files.listeners);
        self.clocks = Clocks::from(times);
        self.poll_started = times.poll_started;
        // Files keep the inode numbers that the program knows them by.
        for times in &times.files {
            if let Ok(stat) = self.table.get(times.fd).and_then(Descriptor::stat) {
                self.aliases.insert((stat.dev, stat.ino), times.inode);
            }
        }
        // What isn't a file has inode 0, which means nothing.
        self.aliases.remove(&(0, 0));
    }
}

/// The open files that have no name: new ones, each with its contents, in the grant's file system where that can be.
pub(in crate::wasi) fn unlinked(
    files: &Files,
    grants: &[GrantedDir],
    contents: &dyn Contents,
) -> Result<Vec<File>, Problems> {
    let one = |u: &dunlin_migrate::state::files::Unlinked| {
        let granted = grants.get(u.grant as usize);
        let (Some(granted), Some(content)) = (granted, files.contents.get(u.content as usize)) else {
            return Err(vec![]);
        };
        let problem = |e: &dyn ToString| vec![put_problem(&granted.guest, "a deleted file", e.to_string())];
        let file = nameless(granted.dir.as_deref()).map_err(|e| problem(&e))?;
        write_contents(contents, content, &files.chunks, &file).map_err(|e| vec![e.into()])?;
        Ok(file)
    };
    files.unlinked.iter().map(one).collect()
}

/// A new file without a name.
fn nameless(root: Option<&File>) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let here = root.map(|root| rustix::fs::openat(root, c".", flags, Mode::RUSR | Mode::WUSR));
    match here {
        Some(Ok(fd)) => Ok(fd.into()),
        // A file system that can't, or a directory that may not be written: in memory then.
        _ => Ok(rustix::fs::memfd_create(c"deleted", rustix::fs::MemfdFlags::CLOEXEC)?.into()),
    }
}

/// Opens a file without a name once more, as a descriptor of the program had it.
pub(in crate::wasi) fn reopen_unlinked(file: &File, access: Access) -> Result<File, Errno> {
    let mut flags = OFlags::CLOEXEC | host_flags(access.flags);
    flags |= match (access.read, access.write) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        _ => OFlags::RDONLY,
    };
    Ok(rustix::fs::open(proc_path(file.as_fd()), flags, Mode::empty())?.into())
}

/// What was put.
#[derive(Debug)]
pub(in crate::wasi) struct Placed {
    /// Directories that were not there before, by index of their node.
    made: HashSet<usize>,
    /// Nodes whose contents are known: those that were written, and those that were there, with their time of change at
    /// that time.
    contents: Vec<(u32, Option<u64>)>,
    warnings: Vec<String>,
}

impl Placed {
    pub(in crate::wasi) fn new(
        made: HashSet<usize>,
        contents: Vec<(u32, Option<u64>)>,
        warnings: Vec<String>,
    ) -> Placed {
        Placed {
            made,
            contents,
            warnings,
        }
    }

    /// The files whose chunks need not be read to be known, once they have their permissions and times.
    pub(in crate::wasi) fn known(&self, files: &Files, grants: &[GrantedDir]) -> Vec<(Stat, List)> {
        let known = |&(index, changed): &(u32, Option<u64>)| {
            let node = files.nodes.get(index as usize)?;
            let NodeKind::File { content } = node.kind else {
                return None;
            };
            let root = grants.get(node.grant as usize)?.dir.as_deref()?;
            let now = crate::wasi::calls::path::stat(root, &node.path, FollowSymlinks::No).ok()?;
            // Whoever has changed it since has changed its times.
            let same = now.file_type == FileType::RegularFile && now.modified == node.modified;
            let same = same && changed.is_none_or(|changed| now.changed == changed);
            let list = List::of(files.contents.get(content as usize)?, &files.chunks)?;
            (same && now.size == list.len).then_some((now, list))
        };
        self.contents.iter().filter_map(known).collect()
    }

    /// Gives files and directories their modes and times, once everything is open. Returns what a person should know.
    pub(in crate::wasi) fn settle(&mut self, files: &Files, grants: &[GrantedDir], nameless: &[File]) -> Vec<String> {
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
            if let Err(e) = settle_named(root, node) {
                self.warnings.push(format!(
                    "'{}' in the directory '{}' can't get its permissions or its time back: {e}",
                    node.path, granted.guest
                ));
            }
        }
        for (file, was) in nameless.iter().zip(&files.unlinked) {
            // Only the program itself can see them.
            let _ = rustix::fs::fchmod(file, Mode::from_raw_mode(was.mode.into()));
            let _ = rustix::fs::futimens(file, &modified(was.modified));
        }
        std::mem::take(&mut self.warnings)
    }
}

fn settle_named(root: &File, node: &Node) -> Result<(), Errno> {
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
    if now.mode & dunlin_migrate::state::files::MODE_MASK != node.mode {
        set_mode(file.as_fd(), node.mode)?;
    }
    Ok(())
}

pub(in crate::wasi) fn set_mode(file: BorrowedFd<'_>, mode: u16) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(mode.into());
    rustix::fs::chmodat(rustix::fs::CWD, proc_path(file), mode, AtFlags::empty())?;
    Ok(())
}

pub(in crate::wasi) fn set_modified(file: BorrowedFd<'_>, time: u64) -> Result<(), Errno> {
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
