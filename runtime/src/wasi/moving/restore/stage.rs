//! Writing carried files to their places, all of them or none.
//!
//! New contents are written and checked beside their place, in a directory of ours at the top of the grant; only when
//! all are there do they get their names, each by one `rename`. What had a name before is kept in that directory until
//! everything has succeeded: if anything fails, now or later in the restore, it all goes back.

use super::attributes::{Installed, set_mode, set_modified};
use super::placement::{Gone, Item, Placement};
use super::problem::{Problems, RestoreProblem, said};
use crate::wasi::GrantedDir;
use crate::wasi::calls::path::stat;
use crate::wasi::changes::hidden::is_reserved;
use crate::wasi::errno::Errno;
use crate::wasi::host::{FileType, Stat};
use cap_primitives::fs::{self as sandbox, DirOptions, FollowSymlinks, OpenOptions, OpenOptionsExt};
use dunlin_migrate::snapshot::{Contents, SnapshotError, write_contents};
use dunlin_migrate::state::files::{Content, Files, NodeKind, parent};
use dunlin_migrate::state::wasi::WasiState;
use rustix::fs::{AtFlags, FlockOperation, Mode, flock};
use std::collections::btree_map::Entry;
use std::collections::hash_map;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How the names of our directories begin; a process id and a number follow.
const PREFIX: &str = ".dunlin-restore-";

/// A directory of ours at the top of a grant, for what is on its way in or out. Its lock tells others that it is in
/// use.
struct Workspace {
    root: Arc<File>,
    /// The grant's own time of modification before.
    modified: u64,
    opened: File,
    name: String,
    next: u32,
}

impl Workspace {
    fn make(root: Arc<File>) -> io::Result<Workspace> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let modified = Stat::of_fd(root.as_fd()).map_or(0, |s| s.modified);
        clear_killed_restores(&root);
        let name = loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PREFIX}{}-{number}", std::process::id());
            match rustix::fs::mkdirat(&root, &*name, Mode::RWXU) {
                Ok(()) => break name,
                Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        };
        let opened = crate::wasi::calls::open::readable(sandbox::open_dir_nofollow(&root, Path::new(&name))?);
        // File systems without locks are not cleared by others either.
        let _ = flock(&opened, FlockOperation::NonBlockingLockExclusive);
        Ok(Workspace {
            root,
            modified,
            opened,
            name,
            next: 0,
        })
    }

    fn new_name(&mut self) -> String {
        self.next += 1;
        format!("old-{}", self.next)
    }
}

/// The directories that restores have left that were killed: names, and the directories, opened and locked.
fn killed_restores(root: &File) -> Vec<(String, File)> {
    let Ok(entries) = rustix::fs::Dir::read_from(root) else {
        return Vec::new();
    };
    let names = entries.filter_map(|e| Some(e.ok()?.file_name().to_str().ok()?.to_owned()));
    let opened = names
        .filter(|n| n.starts_with(PREFIX) && is_reserved(n))
        .filter_map(|name| {
            let dir = sandbox::open_dir_nofollow(root, Path::new(&name)).ok()?;
            Some((name, crate::wasi::calls::open::readable(dir)))
        });
    opened
        .filter(|(_, dir)| flock(dir, FlockOperation::NonBlockingLockExclusive).is_ok())
        .collect()
}

/// Removes what a restore that was killed has left.
pub(in crate::wasi) fn clear_killed_restores(root: &File) {
    for (name, _lock) in killed_restores(root) {
        let _ = sandbox::remove_dir_all(root, Path::new(&name));
    }
}

/// Bytes that are free once that is removed.
#[allow(clippy::unnecessary_cast)]
pub(super) fn room_in_killed_restores(root: &File) -> u64 {
    let mut room = 0u64;
    for (_, dir) in killed_restores(root) {
        let entries = rustix::fs::Dir::read_from(&dir).into_iter().flatten();
        let stats =
            entries.filter_map(|e| rustix::fs::statat(&dir, e.ok()?.file_name(), AtFlags::SYMLINK_NOFOLLOW).ok());
        let files = stats.filter(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_file() && s.st_nlink == 1);
        room = files.fold(room, |room, s| room.saturating_add(512 * s.st_blocks as u64));
    }
    room
}

/// A step that was done.
enum Step<'a> {
    /// Something has a name that nothing had.
    New { grant: u32, path: &'a str, directory: bool },
    /// What had a name is kept aside.
    Kept { grant: u32, path: &'a str, aside: String },
    /// An empty directory was removed.
    Removed { grant: u32, path: &'a str, was: Stat },
}

/// Carried files on their way. Dropped before [`Stage::finish`], everything is as it was.
pub(super) struct Stage<'a> {
    state: &'a WasiState,
    placement: Placement<'a>,
    /// The granted directories.
    roots: Vec<Option<Arc<File>>>,
    workspaces: HashMap<u32, Workspace>,
    /// The names in the workspaces of new contents, by index of their node.
    waiting: HashMap<u32, String>,
    steps: Vec<Step<'a>>,
    /// When the directories in which something was done had been modified, by grant and path.
    times: BTreeMap<(u32, &'a str), u64>,
    /// Directories that were not there before, by index of their node.
    made: HashSet<usize>,
    finished: bool,
}

impl<'a> Stage<'a> {
    /// Writes and checks the contents of every file that hasn't got them already. Nothing has its name yet.
    pub(super) fn write(
        state: &'a WasiState,
        placement: Placement<'a>,
        grants: &[GrantedDir],
        contents: &dyn Contents,
    ) -> Result<Stage<'a>, Problems> {
        let mut stage = Stage {
            state,
            placement: Placement::default(),
            roots: grants.iter().map(|g| g.dir.clone()).collect(),
            workspaces: HashMap::new(),
            waiting: HashMap::new(),
            steps: Vec::new(),
            times: BTreeMap::new(),
            made: HashSet::new(),
            finished: false,
        };
        for item in &placement.items {
            let Some(content) = item.missing(&state.files) else {
                continue;
            };
            let workspace = stage
                .workspace(item.node.grant, &item.root)
                .map_err(|e| vec![item.problem(said(e))])?;
            let name = item.index.to_string();
            write_new(&workspace.opened, &name, content, &state.files, contents)
                .map_err(|e| vec![item.write_problem(e)])?;
            stage.waiting.insert(item.index, name);
        }
        stage.placement = placement;
        Ok(stage)
    }

    /// Gives what others have put in the place of carried files another name. Returns what a person should know.
    pub(super) fn set_aside(&self) -> Result<Vec<String>, Problems> {
        let others = self.placement.set_aside.iter();
        let others = others.filter_map(|&at| self.placement.items.get(at));
        let told = others.map(|item| {
            let path = item.node.path.as_str();
            let aside = rename_aside(&item.root, path).map_err(|e| vec![item.problem(e)])?;
            Ok(format!(
                "'{path}' in the directory '{}' was changed by someone else since the snapshot; what was there is now '{aside}'",
                item.guest
            ))
        });
        told.collect()
    }

    fn workspace(&mut self, grant: u32, root: &Arc<File>) -> Result<&mut Workspace, Errno> {
        match self.workspaces.entry(grant) {
            hash_map::Entry::Occupied(found) => Ok(found.into_mut()),
            hash_map::Entry::Vacant(place) => Ok(place.insert(Workspace::make(root.clone())?)),
        }
    }

    /// Removes what the program has removed, and gives everything its name.
    pub(super) fn install(&mut self) -> Result<(), Problems> {
        let placement = std::mem::take(&mut self.placement);
        let gone = placement.gone.iter().try_for_each(|gone| self.remove_gone(gone));
        let installed = gone.and_then(|()| {
            let mut items = placement.items.iter().filter(|i| i.differs);
            items.try_for_each(|item| self.install_one(item, placement.back))
        });
        self.placement = placement;
        installed.map_err(|problem| vec![problem])
    }

    /// Notes when the directory was modified in which something is about to be done.
    fn note(&mut self, grant: u32, root: &File, path: &'a str) {
        let directory = parent(path);
        if !directory.is_empty()
            && let Entry::Vacant(place) = self.times.entry((grant, directory))
            && let Ok(stat) = stat(root, directory, FollowSymlinks::No)
        {
            place.insert(stat.modified);
        }
    }

    /// Keeps aside what has a name now. If it `stays`, it keeps the name too, until another takes it.
    fn keep(&mut self, grant: u32, root: &Arc<File>, path: &'a str, stays: bool) -> Result<(), Errno> {
        let workspace = self.workspace(grant, root)?;
        let aside = workspace.new_name();
        let (from, to) = (Path::new(path), Path::new(&aside));
        let linked = stays && sandbox::hard_link(root, from, &workspace.opened, to).is_ok();
        if !linked {
            sandbox::rename(root, from, &workspace.opened, to)?;
        }
        self.steps.push(Step::Kept { grant, path, aside });
        Ok(())
    }

    /// Removes a directory, which must be empty.
    fn remove_directory(&mut self, grant: u32, root: &File, path: &'a str, was: Stat) -> Result<(), Errno> {
        sandbox::remove_dir(root, Path::new(path))?;
        self.steps.push(Step::Removed { grant, path, was });
        Ok(())
    }

    fn install_one(&mut self, item: &Item<'a>, back: bool) -> Result<(), RestoreProblem> {
        let failed = |e| item.problem(said(e));
        let (grant, root, node) = (item.node.grant, &item.root, item.node);
        let (path, at) = (node.path.as_str(), item.path());
        let there = match stat(root, path, FollowSymlinks::No) {
            Ok(stat) => Some(stat),
            Err(Errno::NoEnt) => None,
            Err(e) => return Err(failed(e)),
        };
        self.note(grant, root, path);
        let directory = node.kind == NodeKind::Directory;
        let replaces = match there {
            None => false,
            Some(s) if s.file_type == FileType::Directory => {
                // Someone has made it since it was looked for.
                if directory {
                    return Ok(());
                }
                self.remove_directory(grant, root, path, s).map_err(failed)?;
                false
            }
            // What others had put there has been set aside: they have done it again.
            Some(_) if back => return Err(item.of_others()),
            Some(_) => {
                self.keep(grant, root, path, !directory).map_err(failed)?;
                !directory
            }
        };
        if directory {
            sandbox::create_dir(root, at, &DirOptions::new()).map_err(|e| failed(e.into()))?;
            self.made.insert(item.index as usize);
        } else {
            self.take_name(item).map_err(failed)?;
        }
        if !replaces {
            self.steps.push(Step::New { grant, path, directory });
        }
        Ok(())
    }

    /// Gives something that isn't a directory its name, at once.
    fn take_name(&mut self, item: &Item<'a>) -> Result<(), Errno> {
        let (root, state) = (&item.root, self.state);
        let waiting = self.waiting.get(&item.index).cloned();
        let opened = &self.workspace(item.node.grant, root)?.opened;
        let name = match (&item.node.kind, waiting) {
            (NodeKind::File { .. }, Some(name)) => name,
            (NodeKind::Symlink { target }, _) => {
                // cap-primitives refuses absolute targets, as for the program itself.
                sandbox::symlink(Path::new(target), opened, Path::new("link"))?;
                "link".into()
            }
            (NodeKind::HardLink { to }, _) => {
                let first = state.files.nodes.get(*to as usize).ok_or(Errno::NoEnt)?;
                sandbox::hard_link(root, Path::new(&first.path), opened, Path::new("name"))?;
                "name".into()
            }
            _ => return Err(Errno::NoEnt),
        };
        sandbox::rename(opened, Path::new(&name), root, item.path())?;
        // Where both were names of one file before, `rename` has done nothing.
        let _ = sandbox::remove_file(opened, Path::new(&name));
        Ok(())
    }

    fn remove_gone(&mut self, gone: &Gone<'a>) -> Result<(), RestoreProblem> {
        let Gone { grant, root, path, .. } = gone;
        self.note(*grant, root, path);
        let removed = match stat(root, path, FollowSymlinks::No) {
            Err(Errno::NoEnt | Errno::NotDir) => return Ok(()),
            Err(e) => Err(e),
            Ok(s) if s.file_type == FileType::Directory => self.remove_directory(*grant, root, path, s),
            Ok(_) => self.keep(*grant, root, path, false),
        };
        match removed {
            // Someone else has put something in it: `unexpected` tells.
            Ok(()) | Err(Errno::NotEmpty | Errno::NoEnt) => Ok(()),
            Err(e) => Err(RestoreProblem::put(gone.guest, path, said(e))),
        }
    }

    /// Ends it: everything keeps its new place, and what was replaced is removed.
    pub(super) fn finish(mut self) -> Installed {
        self.finished = true;
        let items = self.placement.items.iter();
        let contents = items.filter_map(|item| match (item.differs, item.there) {
            (true, _) => Some((item.index, None)),
            (false, Some(there)) if !item.racy => Some((item.index, Some(there.changed))),
            (false, _) => None,
        });
        let contents = contents.collect();
        Installed {
            made: std::mem::take(&mut self.made),
            contents,
        }
    }

    fn root(&self, grant: u32) -> Option<Arc<File>> {
        self.roots.get(grant as usize).cloned().flatten()
    }

    /// Takes a step back.
    fn undo(&self, step: &Step<'_>) -> Result<(), Errno> {
        let root = |grant: &u32| self.root(*grant).ok_or(Errno::NoEnt);
        match step {
            Step::New { grant, path, directory } => match directory {
                true => sandbox::remove_dir(&*root(grant)?, Path::new(path))?,
                false => sandbox::remove_file(&*root(grant)?, Path::new(path))?,
            },
            Step::Kept { grant, path, aside } => {
                let workspace = self.workspaces.get(grant).ok_or(Errno::NoEnt)?;
                sandbox::rename(&workspace.opened, Path::new(aside), &workspace.root, Path::new(path))?;
            }
            Step::Removed { grant, path, was } => {
                let root = root(grant)?;
                sandbox::create_dir(&root, Path::new(path), &DirOptions::new())?;
                let made = sandbox::open_dir_nofollow(&root, Path::new(path))?;
                set_mode(made.as_fd(), was.mode)?;
                set_modified(made.as_fd(), was.modified)?;
            }
        }
        Ok(())
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        let mut lost = false;
        if !self.finished {
            while let Some(step) = self.steps.pop() {
                if let Err(e) = self.undo(&step) {
                    let (Step::New { path, .. } | Step::Kept { path, .. } | Step::Removed { path, .. }) = step;
                    crate::os::messages::complain(&format!("'{path}' can't be put back as it was: {e}"));
                    lost |= matches!(step, Step::Kept { .. });
                }
            }
        }
        for workspace in self.workspaces.values() {
            // What couldn't be put back stays where it can be found. What can't be removed is in nobody's way.
            if !lost {
                let _ = sandbox::remove_dir_all(&workspace.root, Path::new(&workspace.name));
            }
            if !self.finished {
                let _ = set_modified(workspace.root.as_fd(), workspace.modified);
            }
        }
        if !self.finished {
            for (&(grant, path), &modified) in self.times.iter().rev() {
                let root = self.root(grant);
                if let Some(dir) = root.and_then(|root| sandbox::open_dir_nofollow(&root, Path::new(path)).ok()) {
                    let _ = set_modified(dir.as_fd(), modified);
                }
            }
        }
    }
}

fn write_new(
    dir: &File,
    name: &str,
    content: &Content,
    files: &Files,
    contents: &dyn Contents,
) -> Result<(), SnapshotError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let file = sandbox::open(dir, Path::new(name), &options).map_err(SnapshotError::io("create a file"))?;
    write_contents(contents, content, &files.chunks, &file)
}

/// Gives what is there another name, which nothing has; returns that.
fn rename_aside(root: &File, path: &str) -> io::Result<String> {
    for n in 1u32.. {
        let aside = format!("{path}.aside-{n}");
        if matches!(stat(root, &aside, FollowSymlinks::No), Err(Errno::NoEnt)) {
            return sandbox::rename(root, Path::new(path), root, Path::new(&aside)).map(|()| aside);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_restore_left_counts_as_room_unless_it_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        for (name, len) in [(".dunlin-restore-1-0", 1 << 20), (".dunlin-restore-notes", 1 << 22)] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("0"), vec![7; len]).unwrap();
        }
        let root = File::open(dir.path()).unwrap();
        let room = room_in_killed_restores(&root);
        assert!((1 << 20..1 << 22).contains(&room), "{room}");
        let in_use = File::open(dir.path().join(".dunlin-restore-1-0")).unwrap();
        flock(&in_use, FlockOperation::LockExclusive).unwrap();
        assert_eq!(room_in_killed_restores(&root), 0);
    }
}
