//! Putting carried files into the directories granted for them.
//!
//! Everything goes through the sandbox that serves the program itself, so that neither a forged path nor a link nor a race leads out
//! of a grant: whoever forges a snapshot gains nothing that the program's own calls couldn't do. New contents are written and checked
//! beside their place, in a directory of ours at the top of the grant; only when all are there do they get their names, each by one
//! `rename`. A file that has the right contents already is left as it is, so that going back costs nothing.

use super::GrantedDir;
use super::errno::Errno;
use super::host::{FileType, Stat};
use super::identity::{Hashes, quiet};
use super::open::{Access, host_flags, open_existing};
use super::path::{proc_path, stat};
use super::restore::RestoreProblem;
use cap_primitives::fs::{self as sandbox, DirOptions, FollowSymlinks, OpenOptions, OpenOptionsExt};
use dunlin_migrate::snapshot::{Contents, SnapshotError, copy_contents};
use dunlin_migrate::state::files::{Content, Files, GrantMode, Node, NodeKind, parent};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names of files that a warning shows.
const SHOWN: usize = 5;

/// What was put.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// Directories that were not there before, by index of their node.
    made: HashSet<usize>,
    warnings: Vec<String>,
}

type Problems = Vec<RestoreProblem>;

/// A carried node with its grant's directory, and what is in its place now.
struct Item<'a> {
    index: u32,
    node: &'a Node,
    granted: &'a GrantedDir,
    root: &'a File,
    there: Option<Stat>,
}

impl Item<'_> {
    fn path(&self) -> &Path {
        Path::new(&self.node.path)
    }

    fn problem(&self, why: impl ToString) -> RestoreProblem {
        put_problem(self.granted, &self.node.path, why)
    }

    /// May what is there be removed if it is of another kind?
    fn replaces(&self) -> bool {
        self.granted.mode == GrantMode::CarryAll
    }
}

fn put_problem(granted: &GrantedDir, path: &str, why: impl ToString) -> RestoreProblem {
    RestoreProblem::Put {
        guest: granted.guest.clone(),
        path: path.to_owned(),
        why: why.to_string(),
    }
}

/// Puts every carried file, directory and link in its place. On an error before all contents are there and checked, nothing of the
/// directories has changed.
pub(super) fn place(files: &Files, grants: &[GrantedDir], contents: &dyn Contents) -> Result<Placed, Problems> {
    if files.nodes.is_empty() && files.removed.is_empty() {
        return Ok(Placed::default());
    }
    let items = look(files, grants)?;
    let mut stage = Stage::default();
    let placed = stage.fill(files, &items, contents).and_then(|()| {
        remove_gone(files, grants)?;
        let mut placed = stage.put(files, &items)?;
        placed.warnings = extra(files, grants);
        Ok(placed)
    });
    stage.clear();
    placed
}

/// What is at each place now; every place where something else is in the way.
fn look<'a>(files: &'a Files, grants: &'a [GrantedDir]) -> Result<Vec<Item<'a>>, Problems> {
    let (mut items, mut problems) = (Vec::with_capacity(files.nodes.len()), Vec::new());
    // Directories in whose place something else is: nothing that can be seen below it now is what will be there.
    let mut hidden = HashSet::new();
    for (index, node) in (0u32..).zip(&files.nodes) {
        let Some(granted) = grants.get(node.grant as usize) else {
            continue;
        };
        let Some(root) = granted.dir.as_deref() else { continue };
        let below_hidden = hidden.contains(&(node.grant, parent(&node.path)));
        let there = match stat(root, &node.path, FollowSymlinks::No) {
            _ if below_hidden => None,
            Ok(stat) => Some(stat),
            Err(Errno::NoEnt) => None,
            Err(e) => {
                problems.push(put_problem(granted, &node.path, said(e)));
                continue;
            }
        };
        let item = Item {
            index,
            node,
            granted,
            root,
            there,
        };
        let fits = |s: &Stat| match node.kind {
            NodeKind::Directory => s.file_type == FileType::Directory,
            _ => matches!(s.file_type, FileType::RegularFile | FileType::SymbolicLink),
        };
        if !item.replaces() && there.is_some_and(|s| !fits(&s)) {
            problems.push(item.problem("something else has that name"));
            continue;
        }
        if node.kind == NodeKind::Directory && there.is_none_or(|s| !fits(&s)) {
            hidden.insert((node.grant, node.path.as_str()));
        }
        items.push(item);
    }
    match problems.is_empty() {
        true => Ok(items),
        false => Err(problems),
    }
}

fn said(errno: Errno) -> String {
    match errno {
        Errno::Perm => "its path leads out of the directory".into(),
        errno => errno.to_string(),
    }
}

/// Directories of ours, by grant, with files that have no name of their own yet.
#[derive(Default)]
struct Stage<'a> {
    directories: HashMap<u32, (&'a File, File, String)>,
    /// Nodes whose contents are waiting, by index: their names in the directory.
    waiting: HashMap<u32, String>,
}

impl<'a> Stage<'a> {
    fn directory(&mut self, grant: u32, root: &'a File) -> io::Result<&File> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        match self.directories.entry(grant) {
            Entry::Occupied(found) => Ok(&found.into_mut().1),
            Entry::Vacant(place) => {
                let name = loop {
                    let number = NEXT.fetch_add(1, Ordering::Relaxed);
                    let name = format!(".dunlin-restore-{}-{number}", std::process::id());
                    match rustix::fs::mkdirat(root, &*name, Mode::RWXU) {
                        Ok(()) => break name,
                        Err(rustix::io::Errno::EXIST) => {}
                        Err(e) => return Err(e.into()),
                    }
                };
                let opened = sandbox::open_dir_nofollow(root, Path::new(&name))?;
                Ok(&place.insert((root, opened, name)).1)
            }
        }
    }

    /// Writes and checks the contents of every file that hasn't got them already.
    fn fill(&mut self, files: &Files, items: &[Item<'a>], contents: &dyn Contents) -> Result<(), Problems> {
        for item in items {
            let NodeKind::File { content } = item.node.kind else {
                continue;
            };
            let Some(content) = files.contents.get(content as usize) else {
                continue;
            };
            if has(item, content) {
                continue;
            }
            let dir = self
                .directory(item.node.grant, item.root)
                .map_err(|e| vec![item.problem(e)])?;
            let name = item.index.to_string();
            write_new(dir, &name, content, contents).map_err(|e| {
                vec![match e {
                    SnapshotError::Io { source, .. } => item.problem(source),
                    e => e.into(),
                }]
            })?;
            self.waiting.insert(item.index, name);
        }
        Ok(())
    }

    /// Gives everything its name.
    fn put(&mut self, files: &Files, items: &[Item<'a>]) -> Result<Placed, Problems> {
        let mut placed = Placed::default();
        for item in items {
            let made = self.put_one(files, item).map_err(|e| vec![item.problem(said(e))])?;
            if made {
                placed.made.insert(item.index as usize);
            }
        }
        Ok(placed)
    }

    /// Tells whether a directory was made.
    fn put_one(&mut self, files: &Files, item: &Item<'a>) -> Result<bool, Errno> {
        let (root, path) = (item.root, item.path());
        let there = match stat(root, &item.node.path, FollowSymlinks::No) {
            Ok(stat) => Some(stat.file_type),
            Err(Errno::NoEnt) => None,
            Err(e) => return Err(e),
        };
        let is_directory = item.node.kind == NodeKind::Directory;
        match there {
            Some(FileType::Directory) if is_directory => return Ok(false),
            Some(FileType::Directory) => sandbox::remove_dir(root, path)?,
            Some(_) if is_directory => sandbox::remove_file(root, path)?,
            _ => {}
        }
        let grant = item.node.grant;
        match &item.node.kind {
            NodeKind::Directory => {
                sandbox::create_dir(root, path, &DirOptions::new())?;
                return Ok(true);
            }
            NodeKind::File { .. } => {
                if let Some(name) = self.waiting.remove(&item.index) {
                    let dir = self.directory(grant, root)?;
                    sandbox::rename(dir, Path::new(&name), root, path)?;
                } else if there != Some(FileType::RegularFile) {
                    // It had the right contents a moment ago.
                    return Err(Errno::NoEnt);
                }
            }
            NodeKind::Symlink { target } => {
                let same = |t: std::path::PathBuf| t == Path::new(target);
                if sandbox::read_link(root, path).is_ok_and(same) {
                    return Ok(false);
                }
                let dir = self.directory(grant, root)?;
                // cap-primitives refuses absolute targets, as for the program itself.
                sandbox::symlink(Path::new(target), dir, Path::new("link"))?;
                sandbox::rename(dir, Path::new("link"), root, path)?;
            }
            NodeKind::HardLink { to } => {
                let Some(first) = files.nodes.get(*to as usize) else {
                    return Err(Errno::NoEnt);
                };
                let dir = self.directory(grant, root)?;
                sandbox::hard_link(root, Path::new(&first.path), dir, Path::new("name"))?;
                sandbox::rename(dir, Path::new("name"), root, path)?;
                // Where both were names of one file before, `rename` has done nothing.
                let _ = sandbox::remove_file(dir, Path::new("name"));
            }
        }
        Ok(false)
    }

    fn clear(self) {
        for (root, _, name) in self.directories.into_values() {
            // What can't be removed is in nobody's way.
            let _ = sandbox::remove_dir_all(root, Path::new(&name));
        }
    }
}

/// Does the file that is there have these contents?
fn has(item: &Item<'_>, content: &Content) -> bool {
    if !item
        .there
        .is_some_and(|s| s.file_type == FileType::RegularFile && s.size == content.len)
    {
        return false;
    }
    let read = Access {
        read: true,
        write: false,
        flags: 0,
        follow: FollowSymlinks::No,
    };
    let hash = || -> Option<_> {
        let file = open_existing(item.root, &item.node.path, read).ok()?;
        quiet(&file);
        let stat = Stat::of_fd(file.as_fd()).ok()?;
        Hashes::default().whole(&file, &stat).ok()
    };
    hash() == Some(content.hash)
}

fn write_new(dir: &File, name: &str, content: &Content, contents: &dyn Contents) -> Result<(), SnapshotError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let file = sandbox::open(dir, Path::new(name), &options).map_err(SnapshotError::io("create a file"))?;
    let mut out = BufWriter::with_capacity(1 << 18, file);
    copy_contents(contents, content, &mut out)?;
    out.flush().map_err(SnapshotError::io("write a file"))
}

/// Removes what the program has removed since an earlier snapshot brought it here: deepest first.
fn remove_gone(files: &Files, grants: &[GrantedDir]) -> Result<(), Problems> {
    for (grant, path) in files.removed.iter().rev() {
        let Some(granted) = grants.get(*grant as usize).filter(|g| g.mode == GrantMode::CarryAll) else {
            continue;
        };
        let Some(root) = granted.dir.as_deref() else { continue };
        let removed = match stat(root, path, FollowSymlinks::No) {
            Err(Errno::NoEnt | Errno::NotDir) => continue,
            Ok(s) if s.file_type == FileType::Directory => sandbox::remove_dir(root, Path::new(path)),
            Ok(_) => sandbox::remove_file(root, Path::new(path)),
            Err(e) => return Err(vec![put_problem(granted, path, said(e))]),
        };
        match removed.map_err(Errno::from) {
            // Someone else has put something in it: `extra` tells.
            Ok(()) | Err(Errno::NotEmpty | Errno::NoEnt) => {}
            Err(e) => return Err(vec![put_problem(granted, path, said(e))]),
        }
    }
    Ok(())
}

/// Warnings about what lies in the top of a directory that should be as it was, and isn't the program's. It is left alone.
fn extra(files: &Files, grants: &[GrantedDir]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (grant, granted) in (0u32..).zip(grants) {
        let (true, Some(root)) = (files.mode(grant) == GrantMode::CarryAll, granted.dir.as_deref()) else {
            continue;
        };
        let Ok(entries) = rustix::fs::Dir::read_from(root) else {
            continue;
        };
        let name = |e: rustix::io::Result<rustix::fs::DirEntry>| Some(e.ok()?.file_name().to_string_lossy().into_owned());
        let known = |path: &str| {
            files
                .nodes
                .binary_search_by(|n| (n.grant, n.path.as_str()).cmp(&(grant, path)))
                .is_ok()
        };
        let mut names: Vec<String> = entries
            .filter_map(name)
            .filter(|n| n != "." && n != ".." && !n.starts_with(".dunlin-restore-") && !known(n))
            .collect();
        names.sort();
        if !names.is_empty() {
            let more = names.len().saturating_sub(SHOWN);
            let shown: Vec<String> = names.iter().take(SHOWN).map(|n| format!("{n:?}")).collect();
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            warnings.push(format!(
                "the directory '{}' also holds what was not there when the snapshot was taken: {}{more}; it is left as it is",
                granted.guest,
                shown.join(", ")
            ));
        }
    }
    warnings
}

/// The open files that have no name: new ones, each with its contents, in the grant's file system where that can be.
pub(super) fn unlinked(files: &Files, grants: &[GrantedDir], contents: &dyn Contents) -> Result<Vec<File>, Problems> {
    let one = |u: &dunlin_migrate::state::files::Unlinked| {
        let granted = grants.get(u.grant as usize);
        let (Some(granted), Some(content)) = (granted, files.contents.get(u.content as usize)) else {
            return Err(vec![]);
        };
        let problem = |e: &dyn ToString| vec![put_problem(granted, "a deleted file", e.to_string())];
        let file = nameless(granted.dir.as_deref()).map_err(|e| problem(&e))?;
        let mut out = BufWriter::with_capacity(1 << 18, &file);
        copy_contents(contents, content, &mut out).map_err(|e| vec![e.into()])?;
        out.flush().map_err(|e| problem(&e))?;
        drop(out);
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
pub(super) fn reopen_unlinked(file: &File, access: Access) -> Result<File, Errno> {
    let mut flags = OFlags::CLOEXEC | host_flags(access.flags);
    flags |= match (access.read, access.write) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        _ => OFlags::RDONLY,
    };
    Ok(rustix::fs::open(proc_path(file.as_fd()), flags, Mode::empty())?.into())
}

impl Placed {
    /// Gives files and directories their modes and times, once everything is open. Returns what a person should know.
    pub(super) fn settle(mut self, files: &Files, grants: &[GrantedDir], nameless: &[File]) -> Vec<String> {
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
        self.warnings
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
        rustix::fs::chmodat(
            rustix::fs::CWD,
            proc_path(file.as_fd()),
            Mode::from_raw_mode(node.mode.into()),
            AtFlags::empty(),
        )?;
    }
    Ok(())
}

fn set_modified(file: BorrowedFd<'_>, time: u64) -> Result<(), Errno> {
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
