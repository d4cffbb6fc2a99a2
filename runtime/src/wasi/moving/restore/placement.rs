//! Carried files and the directories granted for them: what is there already, what has to be written or removed, and
//! what is in its way. Nothing here changes anything; `stage` does.
//!
//! Everything goes through the sandbox that serves the program itself, so that neither a forged path nor a link nor a
//! race leads out of a grant: whoever forges a snapshot gains nothing that the program's own calls couldn't do. A file
//! that has the right contents already is left as it is, so that going back costs nothing.

use super::problem::{Problems, RestoreProblem, said};
use super::stage::room_in_killed_restores;
use crate::wasi::calls::open::{Access, open_existing, readable};
use crate::wasi::calls::path::stat;
use crate::wasi::changes::chunked;
use crate::wasi::changes::identity::{is_racy, keep_access_time};
use crate::wasi::errno::Errno;
use crate::wasi::host::{FileType, Stat};
use crate::wasi::{GrantedDir, Wasi};
use cap_primitives::fs::{self as sandbox, FollowSymlinks};
use dunlin_interface::options::WasiConfig;
use dunlin_migrate::snapshot::SnapshotError;
use dunlin_migrate::state::files::{Content, Files, GrantMode, Node, NodeKind, parent};
use dunlin_migrate::state::wasi::WasiState;
use rustix::fs::AtFlags;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// Names of files that a warning shows.
const SHOWN: usize = 5;

/// A carried node, the directory that it belongs into, and what is in its place now.
#[derive(Debug)]
pub(super) struct Item<'a> {
    /// The node's index in the state.
    pub(super) index: u32,
    pub(super) node: &'a Node,
    pub(super) guest: &'a str,
    pub(super) root: Arc<File>,
    pub(super) there: Option<Stat>,
    /// What is there is not yet what should be.
    pub(super) differs: bool,
    /// The next change of what is there may leave it with the time that it has.
    pub(super) racy: bool,
}

impl Item<'_> {
    pub(super) fn path(&self) -> &Path {
        Path::new(&self.node.path)
    }

    /// What writing its contents came to.
    pub(super) fn write_problem(&self, e: SnapshotError) -> RestoreProblem {
        match e {
            SnapshotError::Io { source, .. } => self.problem(source),
            e => e.into(),
        }
    }

    pub(super) fn problem(&self, why: impl ToString) -> RestoreProblem {
        RestoreProblem::put(self.guest, &self.node.path, why)
    }

    /// Others have changed what is in its place.
    pub(super) fn of_others(&self) -> RestoreProblem {
        RestoreProblem::Others {
            guest: self.guest.to_owned(),
            path: self.node.path.clone(),
        }
    }

    /// The contents that have to be written for it.
    pub(super) fn missing<'f>(&self, files: &'f Files) -> Option<&'f Content> {
        match self.node.kind {
            NodeKind::File { content } if self.differs => files.contents.get(content as usize),
            _ => None,
        }
    }
}

/// Something that the program has removed since an earlier snapshot brought it here, and that is there.
#[derive(Debug)]
pub(super) struct Gone<'a> {
    pub(super) grant: u32,
    pub(super) guest: &'a str,
    pub(super) root: Arc<File>,
    pub(super) path: &'a str,
    directory: bool,
}

/// What is to be done with carried files.
#[derive(Debug, Default)]
pub(super) struct Placement<'a> {
    /// Every node whose directory is granted, in the state's order: what lies in a directory comes after it.
    pub(super) items: Vec<Item<'a>>,
    /// Indices of items in whose place others have put what is to get another name first.
    pub(super) set_aside: Vec<usize>,
    /// What is removed, deepest first.
    pub(super) gone: Vec<Gone<'a>>,
    /// The files were taken back before: whatever differs from the state is others'.
    pub(super) back: bool,
}

impl<'a> Placement<'a> {
    /// Looks at everything, and tells what hinders.
    pub(super) fn new(state: &'a WasiState, grants: &[GrantedDir], config: &WasiConfig) -> (Placement<'a>, Problems) {
        let (items, mut problems) = look(state, grants);
        let mut placement = Placement {
            items,
            back: config.back,
            ..Placement::default()
        };
        match placement.back {
            true => placement.set_aside = of_others(&placement.items),
            // What the program had removed has gone with the journals; what has such a name is others'.
            false => placement.gone = removed(state, grants, &mut problems),
        }
        placement.hindrances(&state.files, grants, &mut problems);
        if !config.accept_changed {
            let others = placement.set_aside.iter().filter_map(|&at| placement.items.get(at));
            problems.extend(others.map(Item::of_others));
        }
        (placement, problems)
    }

    /// Is what has this name here already what it should be?
    pub(super) fn stays(&self, grant: u32, path: &str) -> bool {
        let at = |item: &Item<'_>| (item.node.grant, item.node.path.as_str()).cmp(&(grant, path));
        let found = self.items.binary_search_by(at);
        found.is_ok_and(|at| self.items.get(at).is_some_and(|item| !item.differs))
    }

    /// The contents that have to be written.
    pub(super) fn missing<'f>(&self, files: &'f Files) -> impl Iterator<Item = &'f Content> {
        self.items.iter().filter_map(|item| item.missing(files))
    }
}

impl Placement<'_> {
    /// What keeps files from being put that can be told without trying: directories that may not be written, others
    /// that stand where a file belongs and are not empty, too little room.
    fn hindrances(&self, files: &Files, grants: &[GrantedDir], problems: &mut Problems) {
        let mut seen = HashSet::new();
        let changed = self.items.iter().filter(|i| i.differs);
        let changed = changed.map(|i| (i.node.grant, i.guest, &i.root, i.node.path.as_str(), true));
        let gone = self.gone.iter();
        let gone = gone.map(|g| (g.grant, g.guest, &g.root, g.path, !g.directory));
        for (grant, guest, root, path, passes_top) in changed.chain(gone) {
            // Where it will be or is, and where new contents and what is replaced are until all is done.
            for directory in [Some(parent(path)), passes_top.then_some("")].into_iter().flatten() {
                if !seen.insert((grant, directory)) {
                    continue;
                }
                if let Some(e) = unwritable(root, directory) {
                    problems.push(RestoreProblem::put(guest, path, said(e)));
                    break;
                }
            }
        }
        let gone: HashSet<(u32, &str)> = self.gone.iter().map(|g| (g.grant, g.path)).collect();
        for item in self.items.iter().filter(|i| i.differs) {
            let directory = item.there.is_some_and(|s| s.file_type == FileType::Directory);
            if directory && item.node.kind != NodeKind::Directory && holds_more(item, &gone) {
                problems.push(item.problem(Errno::NotEmpty));
            }
        }
        problems.extend(self.short_of_room(files, grants));
    }

    fn short_of_room(&self, files: &Files, grants: &[GrantedDir]) -> Problems {
        // By file system: which grant needs it first, how much is needed, and how much is there.
        let mut needed: HashMap<u64, (&str, u64, u64)> = HashMap::new();
        for (item, content) in self.items.iter().filter_map(|i| Some((i, i.missing(files)?))) {
            let (Ok(stat), Ok(fs)) = (Stat::of_fd(item.root.as_fd()), rustix::fs::fstatvfs(&item.root)) else {
                continue;
            };
            // A file system that doesn't tell says zero.
            if fs.f_blocks > 0 {
                let free = fs.f_bavail.saturating_mul(fs.f_frsize);
                let entry = needed.entry(stat.dev).or_insert((item.guest, 0, free));
                entry.1 = entry.1.saturating_add(content.data_len(&files.chunks));
            }
        }
        if needed.values().any(|(_, need, free)| need > free) {
            // What a commit clears first counts as free.
            for root in grants
                .iter()
                .filter(|g| g.mode.carries())
                .filter_map(|g| g.dir.as_deref())
            {
                let entry = Stat::of_fd(root.as_fd()).ok().and_then(|s| needed.get_mut(&s.dev));
                entry
                    .into_iter()
                    .for_each(|e| e.2 = e.2.saturating_add(room_in_killed_restores(root)));
            }
        }
        let short = needed.into_values().filter(|(_, need, free)| need > free);
        let problem = |(guest, need, free): (&str, u64, u64)| RestoreProblem::Room {
            guest: guest.to_owned(),
            need,
            free,
        };
        short.map(problem).collect()
    }
}

/// Does a directory hold anything that will not be removed before it?
fn holds_more(item: &Item<'_>, gone: &HashSet<(u32, &str)>) -> bool {
    let mut pending = vec![item.node.path.clone()];
    while let Some(path) = pending.pop() {
        let opened = sandbox::open_dir_nofollow(&item.root, Path::new(&path)).map(readable);
        // Whoever can't look will see whether it can be removed.
        let Ok(entries) = opened
            .map_err(Errno::from)
            .and_then(|dir| Ok(rustix::fs::Dir::read_from(&dir)?))
        else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            let Ok(name) = entry.file_name().to_str() else {
                return true;
            };
            if matches!(name, "." | "..") {
                continue;
            }
            let below = format!("{path}/{name}");
            if !gone.contains(&(item.node.grant, below.as_str())) {
                return true;
            }
            pending.push(below);
        }
    }
    false
}
/// Which items have something of others in their place, where all files should be as the state says: what is there and
/// differs.
fn of_others(items: &[Item<'_>]) -> Vec<usize> {
    let others = |i: &Item<'_>| i.differs && i.there.is_some_and(|s| s.file_type != FileType::Directory);
    (0..).zip(items).filter(|(_, i)| others(i)).map(|(at, _)| at).collect()
}

/// What of the removed files is there.
fn removed<'a>(state: &'a WasiState, grants: &[GrantedDir], problems: &mut Problems) -> Vec<Gone<'a>> {
    let mut gone = Vec::new();
    for (grant, path) in state.files.removed.iter().rev() {
        let (Some(granted), Some(guest)) = (grants.get(*grant as usize), state.grants.get(*grant as usize)) else {
            continue;
        };
        let Some(root) = granted.dir.clone().filter(|_| granted.mode.carries()) else {
            continue;
        };
        match stat(&root, path, FollowSymlinks::No) {
            Ok(s) => gone.push(Gone {
                grant: *grant,
                guest,
                root,
                path,
                directory: s.file_type == FileType::Directory,
            }),
            Err(Errno::NoEnt | Errno::NotDir) => {}
            Err(e) => problems.push(RestoreProblem::put(guest, path, said(e))),
        }
    }
    gone
}

/// What is at each place now; every place where something else is in the way.
fn look<'a>(state: &'a WasiState, grants: &[GrantedDir]) -> (Vec<Item<'a>>, Problems) {
    let files = &state.files;
    let (mut items, mut problems) = (Vec::<Item<'a>>::with_capacity(files.nodes.len()), Vec::new());
    // Directories in whose place something else is: nothing that can be seen below it now is what will be there.
    let mut hidden = HashSet::new();
    // Where a node is among the items.
    let mut places = HashMap::new();
    for (index, node) in (0u32..).zip(&files.nodes) {
        let (Some(granted), Some(guest)) = (grants.get(node.grant as usize), state.grants.get(node.grant as usize))
        else {
            continue;
        };
        let Some(root) = granted.dir.clone() else { continue };
        let below_hidden = hidden.contains(&(node.grant, parent(&node.path)));
        let there = match stat(&root, &node.path, FollowSymlinks::No) {
            _ if below_hidden => None,
            Ok(stat) => Some(stat),
            Err(Errno::NoEnt) => None,
            Err(e) => {
                problems.push(RestoreProblem::put(guest, &node.path, said(e)));
                continue;
            }
        };
        let mut item = Item {
            index,
            node,
            guest,
            root,
            there,
            differs: true,
            racy: there.is_none_or(|s| is_racy(&s)),
        };
        let fits = |s: &Stat| match node.kind {
            NodeKind::Directory => s.file_type == FileType::Directory,
            _ => matches!(s.file_type, FileType::RegularFile | FileType::SymbolicLink),
        };
        // Of a directory whose open files travel, only those are replaced.
        if granted.mode != GrantMode::CarryAll && there.is_some_and(|s| !fits(&s)) {
            problems.push(item.problem("something else has that name"));
            continue;
        }
        if node.kind == NodeKind::Directory && there.is_none_or(|s| !fits(&s)) {
            hidden.insert((node.grant, node.path.as_str()));
        }
        item.differs = match &node.kind {
            NodeKind::Directory => there.is_none_or(|s| !fits(&s)),
            NodeKind::File { content } => files
                .contents
                .get(*content as usize)
                .is_none_or(|c| !has(&item, c, files)),
            NodeKind::Symlink { target } => there.is_none() || !points_to(&item, target),
            NodeKind::HardLink { to } => {
                let first = places.get(to).and_then(|&at: &usize| items.get(at));
                first.is_none_or(|first| first.differs || !same_file(first.there, there))
            }
        };
        places.insert(index, items.len());
        items.push(item);
    }
    (items, problems)
}

fn same_file(a: Option<Stat>, b: Option<Stat>) -> bool {
    a.zip(b).is_some_and(|(a, b)| (a.dev, a.ino) == (b.dev, b.ino))
}

fn points_to(item: &Item<'_>, target: &str) -> bool {
    sandbox::read_link(&item.root, item.path()).is_ok_and(|t| t == Path::new(target))
}

/// Does the file that is there have these contents?
fn has(item: &Item<'_>, content: &Content, files: &Files) -> bool {
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
    let same = || -> Option<bool> {
        let file = open_existing(&item.root, &item.node.path, read).ok()?;
        keep_access_time(&file);
        let stat = Stat::of_fd(file.as_fd()).ok()?;
        chunked::has(&file, stat.size, content, &files.chunks).ok()
    };
    same() == Some(true)
}

/// Why nothing can be made in a directory; `None` also if it isn't there yet.
fn unwritable(root: &File, path: &str) -> Option<Errno> {
    use rustix::fs::Access;
    let path = if path.is_empty() { "." } else { path };
    let dir = sandbox::open_dir_nofollow(root, Path::new(path)).ok()?;
    let may = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(&dir, c".", may, AtFlags::empty())
        .err()
        .map(Errno::from)
}

/// Warnings about what lies in the top of a directory that should be as it was, and isn't the program's. It is left
/// alone.
pub(super) fn unexpected(files: &Files, wasi: &Wasi) -> Vec<String> {
    let mut warnings = Vec::new();
    for (grant, granted) in (0u32..).zip(&wasi.grants) {
        let (true, Some(root)) = (files.mode(grant) == GrantMode::CarryAll, granted.dir.as_deref()) else {
            continue;
        };
        let Ok(entries) = rustix::fs::Dir::read_from(root) else {
            continue;
        };
        let here = wasi.name_of_directory(grant, root);
        let name =
            |e: rustix::io::Result<rustix::fs::DirEntry>| Some(e.ok()?.file_name().to_string_lossy().into_owned());
        let known = |path: &str| {
            files
                .nodes
                .binary_search_by(|n| (n.grant, n.path.as_str()).cmp(&(grant, path)))
                .is_ok()
        };
        let mut names: Vec<String> = entries
            .filter_map(name)
            .filter(|n| n != "." && n != ".." && wasi.shows(&here, n.as_bytes()) && !known(n))
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
