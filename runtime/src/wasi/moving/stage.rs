//! Putting carried files in their places, all of them or none.
//!
//! New contents are written and checked beside their place, in a directory of ours at the top of the grant; only when
//! all are there do they get their names, each by one `rename`. What had a name before is kept in that directory until
//! everything has succeeded: if anything fails, now or later in the restore, it all goes back.

use crate::wasi::calls::path::stat;
use crate::wasi::changes::hidden::is_ours;
use crate::wasi::errno::Errno;
use crate::wasi::host::{FileType, Stat};
use crate::wasi::moving::place::{Item, Problems, extra, put_problem, said, write_problem};
use crate::wasi::moving::settle::{Placed, set_mode, set_modified};
use crate::wasi::{GrantedDir, Wasi};
use cap_primitives::fs::{self as sandbox, DirOptions, FollowSymlinks, OpenOptions, OpenOptionsExt};
use dunlin_migrate::snapshot::{Contents, SnapshotError, write_contents};
use dunlin_migrate::state::files::{Content, Files, NodeKind, parent};
use dunlin_migrate::state::wasi::WasiState;
use rustix::fs::{FlockOperation, Mode, flock};
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

/// A directory of ours in a grant. Its lock tells others that it is in use.
struct Aside {
    root: Arc<File>,
    /// The grant's own time of modification before.
    modified: u64,
    opened: File,
    name: String,
    next: u32,
}

impl Aside {
    fn make(root: Arc<File>) -> io::Result<Aside> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let modified = Stat::of_fd(root.as_fd()).map_or(0, |s| s.modified);
        clear_left(&root);
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
        Ok(Aside {
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

/// Removes what a restore that was killed has left.
pub(in crate::wasi) fn clear_left(root: &File) {
    let Ok(entries) = rustix::fs::Dir::read_from(root) else {
        return;
    };
    let names = entries.filter_map(|e| Some(e.ok()?.file_name().to_str().ok()?.to_owned()));
    for name in names.filter(|n| n.starts_with(PREFIX) && is_ours(n)) {
        let opened = sandbox::open_dir_nofollow(root, Path::new(&name)).map(crate::wasi::calls::open::readable);
        if opened.is_ok_and(|dir| flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok()) {
            let _ = sandbox::remove_dir_all(root, Path::new(&name));
        }
    }
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
pub(in crate::wasi) struct Stage<'a> {
    state: &'a WasiState,
    items: Vec<Item<'a>>,
    /// The granted directories.
    roots: Vec<Option<Arc<File>>>,
    asides: HashMap<u32, Aside>,
    /// Nodes whose contents are waiting, by index: their names aside.
    waiting: HashMap<u32, String>,
    steps: Vec<Step<'a>>,
    /// When the directories in which something was done had been modified, by grant and path.
    times: BTreeMap<(u32, &'a str), u64>,
    /// Directories that were not there before, by index of their node.
    made: HashSet<usize>,
    finished: bool,
}

impl<'a> Stage<'a> {
    /// Writes and checks the contents of every file that hasn't got them already.
    pub(in crate::wasi) fn filled(
        state: &'a WasiState,
        items: Vec<Item<'a>>,
        grants: &[GrantedDir],
        contents: &dyn Contents,
    ) -> Result<Stage<'a>, Problems> {
        let mut stage = Stage {
            state,
            items: Vec::new(),
            roots: grants.iter().map(|g| g.dir.clone()).collect(),
            asides: HashMap::new(),
            waiting: HashMap::new(),
            steps: Vec::new(),
            times: BTreeMap::new(),
            made: HashSet::new(),
            finished: false,
        };
        for item in &items {
            let Some(content) = item.missing(&state.files) else {
                continue;
            };
            let aside = stage
                .aside(item.node.grant, &item.root)
                .map_err(|e| vec![item.problem(said(e))])?;
            let name = item.index.to_string();
            write_new(&aside.opened, &name, content, &state.files, contents)
                .map_err(|e| vec![write_problem(item, e)])?;
            stage.waiting.insert(item.index, name);
        }
        stage.items = items;
        Ok(stage)
    }

    fn aside(&mut self, grant: u32, root: &Arc<File>) -> Result<&mut Aside, Errno> {
        match self.asides.entry(grant) {
            hash_map::Entry::Occupied(found) => Ok(found.into_mut()),
            hash_map::Entry::Vacant(place) => Ok(place.insert(Aside::make(root.clone())?)),
        }
    }

    /// Removes what is gone, and gives everything its name. `back`: the files were taken back, so what has a name that
    /// the program had removed is others'.
    pub(in crate::wasi) fn put(&mut self, grants: &[GrantedDir], back: bool) -> Result<(), Problems> {
        if !back {
            self.remove_gone(grants)?;
        }
        let items = std::mem::take(&mut self.items);
        let put = items.iter().filter(|i| i.differs).try_for_each(|item| {
            let put = self.put_one(item);
            put.map_err(|e| vec![item.problem(said(e))])
        });
        self.items = items;
        put
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
        let kept = self.aside(grant, root)?;
        let aside = kept.new_name();
        let (from, to) = (Path::new(path), Path::new(&aside));
        let linked = stays && sandbox::hard_link(root, from, &kept.opened, to).is_ok();
        if !linked {
            sandbox::rename(root, from, &kept.opened, to)?;
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

    fn put_one(&mut self, item: &Item<'a>) -> Result<(), Errno> {
        let (grant, root, node) = (item.node.grant, &item.root, item.node);
        let (path, at) = (node.path.as_str(), item.path());
        let there = match stat(root, path, FollowSymlinks::No) {
            Ok(stat) => Some(stat),
            Err(Errno::NoEnt) => None,
            Err(e) => return Err(e),
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
                self.remove_directory(grant, root, path, s)?;
                false
            }
            Some(_) => {
                self.keep(grant, root, path, !directory)?;
                !directory
            }
        };
        if directory {
            sandbox::create_dir(root, at, &DirOptions::new())?;
        } else {
            self.take_name(item)?;
        }
        if directory {
            self.made.insert(item.index as usize);
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
        let opened = &self.aside(item.node.grant, root)?.opened;
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

    /// Removes what the program has removed since an earlier snapshot brought it here: deepest first.
    fn remove_gone(&mut self, grants: &[GrantedDir]) -> Result<(), Problems> {
        let state = self.state;
        for (grant, path) in state.files.removed.iter().rev() {
            let Some(granted) = grants.get(*grant as usize).filter(|g| g.mode.carries()) else {
                continue;
            };
            let Some(root) = granted.dir.clone() else { continue };
            self.note(*grant, &root, path);
            let removed = match stat(&root, path, FollowSymlinks::No) {
                Err(Errno::NoEnt | Errno::NotDir) => continue,
                Err(e) => Err(e),
                Ok(s) if s.file_type == FileType::Directory => self.remove_directory(*grant, &root, path, s),
                Ok(_) => self.keep(*grant, &root, path, false),
            };
            match removed {
                // Someone else has put something in it: `extra` tells.
                Ok(()) | Err(Errno::NotEmpty | Errno::NoEnt) => {}
                Err(e) => return Err(vec![put_problem(&granted.guest, path, said(e))]),
            }
        }
        Ok(())
    }

    /// It stays so.
    pub(in crate::wasi) fn finish(mut self, files: &Files, wasi: &Wasi) -> Placed {
        self.finished = true;
        let contents = self.items.iter().filter_map(|item| match (item.differs, item.there) {
            (true, _) => Some((item.index, None)),
            (false, Some(there)) if item.settled => Some((item.index, Some(there.changed))),
            (false, _) => None,
        });
        let contents = contents.collect();
        Placed::new(std::mem::take(&mut self.made), contents, extra(files, wasi))
    }

    fn root(&self, grant: u32) -> Option<Arc<File>> {
        self.roots.get(grant as usize).cloned().flatten()
    }

    /// Undoes a step.
    fn undo(&self, step: &Step<'_>) -> Result<(), Errno> {
        let aside = |grant: &u32| self.asides.get(grant).ok_or(Errno::NoEnt);
        let root = |grant: &u32| self.root(*grant).ok_or(Errno::NoEnt);
        match step {
            Step::New { grant, path, directory } => match directory {
                true => sandbox::remove_dir(&*root(grant)?, Path::new(path))?,
                false => sandbox::remove_file(&*root(grant)?, Path::new(path))?,
            },
            Step::Kept {
                grant,
                path,
                aside: name,
            } => {
                let aside = aside(grant)?;
                sandbox::rename(&aside.opened, Path::new(name), &aside.root, Path::new(path))?;
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
        for aside in self.asides.values() {
            // What couldn't be put back stays where it can be found. What can't be removed is in nobody's way.
            if !lost {
                let _ = sandbox::remove_dir_all(&aside.root, Path::new(&aside.name));
            }
            if !self.finished {
                let _ = set_modified(aside.root.as_fd(), aside.modified);
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
