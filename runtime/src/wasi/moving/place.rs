//! Carried files and the directories granted for them: what is there already, what has to be put, and what is in its
//! way.
//!
//! Everything goes through the sandbox that serves the program itself, so that neither a forged path nor a link nor a
//! race leads out of a grant: whoever forges a snapshot gains nothing that the program's own calls couldn't do. A file
//! that has the right contents already is left as it is, so that going back costs nothing. `stage` does the putting.

use crate::wasi::calls::open::{Access, open_existing};
use crate::wasi::calls::path::stat;
use crate::wasi::changes::chunked;
use crate::wasi::changes::identity::{quiet, settled};
use crate::wasi::errno::Errno;
use crate::wasi::host::{FileType, Stat};
use crate::wasi::moving::restore::RestoreProblem;
use crate::wasi::moving::stage::Stage;
use crate::wasi::{GrantedDir, Wasi};
use cap_primitives::fs::{self as sandbox, FollowSymlinks};
use dunlin_interface::options::WasiConfig;
use dunlin_migrate::snapshot::{Contents, SnapshotError, copy_chunk};
use dunlin_migrate::state::files::{Content, Files, GrantMode, Node, NodeKind, parent};
use dunlin_migrate::state::wasi::WasiState;
use rustix::fs::AtFlags;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// Names of files that a warning shows.
const SHOWN: usize = 5;

pub(in crate::wasi) type Problems = Vec<RestoreProblem>;

/// A carried node, the directory that it belongs into, and what is in its place now.
pub(in crate::wasi) struct Item<'a> {
    pub(in crate::wasi) index: u32,
    pub(in crate::wasi) node: &'a Node,
    pub(in crate::wasi) guest: &'a str,
    pub(in crate::wasi) root: Arc<File>,
    pub(in crate::wasi) there: Option<Stat>,
    /// What is there is not yet what should be.
    pub(in crate::wasi) differs: bool,
    /// The next change of what is there will give it another time than it has.
    pub(in crate::wasi) settled: bool,
}

impl Item<'_> {
    pub(in crate::wasi) fn path(&self) -> &Path {
        Path::new(&self.node.path)
    }

    pub(in crate::wasi) fn problem(&self, why: impl ToString) -> RestoreProblem {
        put_problem(self.guest, &self.node.path, why)
    }

    /// The contents that have to be written for it.
    pub(in crate::wasi) fn missing<'f>(&self, files: &'f Files) -> Option<&'f Content> {
        match self.node.kind {
            NodeKind::File { content } if self.differs => files.contents.get(content as usize),
            _ => None,
        }
    }
}

pub(in crate::wasi) fn put_problem(guest: &str, path: &str, why: impl ToString) -> RestoreProblem {
    RestoreProblem::Put {
        guest: guest.to_owned(),
        path: path.to_owned(),
        why: why.to_string(),
    }
}

pub(in crate::wasi) fn said(errno: Errno) -> String {
    match errno {
        Errno::Perm => "its path leads out of the directory".into(),
        errno => errno.to_string(),
    }
}

/// Everything that is to be put, its contents written and checked beside its place. Until [`Stage::put`] nothing has
/// its name. Also returns what a person should know.
pub(in crate::wasi) fn prepare<'a>(
    state: &'a WasiState,
    grants: &[GrantedDir],
    contents: &dyn Contents,
    config: &WasiConfig,
) -> Result<(Stage<'a>, Vec<String>), Problems> {
    let items = look(state, grants)?;
    let mut problems = hindrances(&state.files, &items);
    let others = if config.back { of_others(&items) } else { Vec::new() };
    if !config.accept_changed {
        problems.extend(others.iter().map(|(_, guest, path)| RestoreProblem::Others {
            guest: guest.clone(),
            path: path.clone(),
        }));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let stage = Stage::filled(state, items, grants, contents)?;
    let mut told = Vec::new();
    for (root, guest, path) in others {
        let aside = set_aside(&root, &path).map_err(|e| vec![put_problem(&guest, &path, e)])?;
        told.push(format!(
            "'{path}' in the directory '{guest}' was changed by someone else since the snapshot; what was there is now '{aside}'"
        ));
    }
    Ok((stage, told))
}

/// What others have changed where all files should be as the snapshot says: what is there and differs. Directory, its
/// name, and path.
fn of_others(items: &[Item<'_>]) -> Vec<(Arc<File>, String, String)> {
    let differing = items
        .iter()
        .filter(|i| i.differs && i.there.is_some_and(|s| s.file_type != FileType::Directory));
    differing
        .map(|i| (i.root.clone(), i.guest.to_owned(), i.node.path.clone()))
        .collect()
}

/// Gives what is there another name, which nothing has; returns that.
fn set_aside(root: &File, path: &str) -> io::Result<String> {
    for n in 1u32.. {
        let aside = format!("{path}.aside-{n}");
        if matches!(stat(root, &aside, FollowSymlinks::No), Err(Errno::NoEnt)) {
            return sandbox::rename(root, Path::new(path), root, Path::new(&aside)).map(|()| aside);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// All for which [`prepare`] would fail. Nothing is changed.
pub(in crate::wasi) fn obstacles(state: &WasiState, grants: &[GrantedDir], contents: &dyn Contents) -> Problems {
    let items = match look(state, grants) {
        Ok(items) => items,
        Err(problems) => return problems,
    };
    let files = &state.files;
    let mut problems = hindrances(files, &items);
    let nameless = files
        .unlinked
        .iter()
        .filter_map(|u| files.contents.get(u.content as usize));
    let mut seen = HashSet::new();
    let missing = items.iter().filter_map(|i| i.missing(files)).chain(nameless);
    for (_, chunk) in missing.flat_map(|content| content.chunks(&files.chunks)) {
        if seen.insert(chunk.hash) {
            problems.extend(
                copy_chunk(contents, chunk, &mut io::sink())
                    .err()
                    .map(RestoreProblem::from),
            );
        }
    }
    problems
}

/// What is at each place now; every place where something else is in the way.
fn look<'a>(state: &'a WasiState, grants: &[GrantedDir]) -> Result<Vec<Item<'a>>, Problems> {
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
                problems.push(put_problem(guest, &node.path, said(e)));
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
            settled: there.is_some_and(|s| settled(&s)),
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
    match problems.is_empty() {
        true => Ok(items),
        false => Err(problems),
    }
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
        quiet(&file);
        let stat = Stat::of_fd(file.as_fd()).ok()?;
        chunked::has(&file, stat.size, content, &files.chunks).ok()
    };
    same() == Some(true)
}

/// What keeps files from being put that can be told without trying: directories that may not be written, too little
/// room.
fn hindrances(files: &Files, items: &[Item<'_>]) -> Problems {
    let mut problems = Vec::new();
    let mut seen = HashSet::new();
    for item in items.iter().filter(|i| i.differs) {
        // Where it will be, and where it is made.
        for directory in [parent(&item.node.path), ""] {
            if !seen.insert((item.node.grant, directory)) {
                continue;
            }
            if let Some(e) = unwritable(&item.root, directory) {
                problems.push(put_problem(item.guest, &item.node.path, said(e)));
                break;
            }
        }
    }
    // By file system: which grant needs it first, how much is needed, and how much is there.
    let mut needed: HashMap<u64, (&str, u64, u64)> = HashMap::new();
    for (item, content) in items.iter().filter_map(|i| Some((i, i.missing(files)?))) {
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
    let short = needed.into_values().filter(|(_, need, free)| need > free);
    problems.extend(short.map(|(guest, need, free)| RestoreProblem::Room {
        guest: guest.to_owned(),
        need,
        free,
    }));
    problems
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

/// What writing contents into a file came to.
pub(in crate::wasi) fn write_problem(item: &Item<'_>, e: SnapshotError) -> RestoreProblem {
    match e {
        SnapshotError::Io { source, .. } => item.problem(source),
        e => e.into(),
    }
}

/// Warnings about what lies in the top of a directory that should be as it was, and isn't the program's. It is left
/// alone.
pub(in crate::wasi) fn extra(files: &Files, wasi: &Wasi) -> Vec<String> {
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
