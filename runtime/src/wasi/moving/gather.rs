//! The files that a snapshot carries: which ones, with what contents.

use crate::wasi::Wasi;
use crate::wasi::calls::open::{Access, open_existing};
use crate::wasi::changes::identity::{keep_access_time, reopen};
use crate::wasi::host::{FileType, Stat};
use crate::wasi::moving::obstacle::Obstacle;
use cap_primitives::fs::{self as sandbox, FollowSymlinks};
use dunlin_migrate::snapshot::Contents;
use dunlin_migrate::state::files::{
    ByHash, Chunk, ChunkList, Files, GrantMode, Identity, MAX_NODES, MODE_MASK, Node, NodeKind, Unlinked, parent,
};
use dunlin_migrate::state::wasi::{self as state, WasiState};
use rustix::fs::AtFlags;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Opens a file of a carried directory for reading; never through a link.
const READ: Access = Access {
    read: true,
    write: false,
    flags: 0,
    follow: FollowSymlinks::No,
};

/// The files and contents found so far that a snapshot has to carry, and the obstacles.
pub(in crate::wasi) struct Gathered<'a> {
    wasi: &'a Wasi,
    /// Contents are read and hashed; else only obstacles are found.
    read: bool,
    found: BTreeMap<(u32, String), Stat>,
    unlinked: Vec<(Stat, Unlinked)>,
    contents: ChunkList,
    obstacles: Vec<Obstacle>,
}

impl<'a> Gathered<'a> {
    pub(in crate::wasi) fn new(wasi: &'a Wasi, read: bool) -> Gathered<'a> {
        Gathered {
            wasi,
            read,
            found: BTreeMap::new(),
            unlinked: Vec::new(),
            contents: ChunkList::default(),
            obstacles: Vec::new(),
        }
    }

    /// The identity of an open file of a shared grant; `None` if only obstacles are looked for.
    pub(in crate::wasi) fn identity(&self, fd: u32, file: BorrowedFd<'_>, stat: &Stat) -> Option<Identity> {
        self.read.then(|| self.wasi.hashes.identity(fd, file, stat))
    }

    /// An open directory: of a grant whose open files are carried, it goes along.
    pub(in crate::wasi) fn directory(&mut self, grant: u32, path: &str) {
        if self.wasi.mode(grant) == GrantMode::Carry && !path.is_empty() {
            self.add(grant, path);
        }
    }

    /// An open file of a carried grant.
    pub(in crate::wasi) fn file(&mut self, grant: u32, path: &str) {
        if self.wasi.mode(grant) == GrantMode::Carry {
            self.add(grant, path);
        }
    }

    /// Something by name, and the directories that it lies in.
    fn add(&mut self, grant: u32, path: &str) {
        let Some(root) = self.root(grant) else { return };
        let mut path = path;
        while !path.is_empty() && !self.found.contains_key(&(grant, path.to_owned())) {
            match crate::wasi::calls::path::stat(root, path, FollowSymlinks::No) {
                Ok(stat) => drop(self.found.insert((grant, path.to_owned()), stat)),
                Err(e) => self.unreadable(grant, path, e),
            }
            path = parent(path);
        }
    }

    /// An open file without a name; returns its index.
    pub(in crate::wasi) fn unlinked(&mut self, fd: u32, grant: u32, file: BorrowedFd<'_>, stat: &Stat) -> u32 {
        let same = |(s, _): &(Stat, Unlinked)| (s.dev, s.ino) == (stat.dev, stat.ino);
        if let Some(index) = self.unlinked.iter().position(same) {
            return index as u32;
        }
        let content = reopen(file).and_then(|file| self.content(&file, stat));
        let content = content.unwrap_or_else(|e| {
            self.unreadable(grant, &format!("the deleted file of descriptor {fd}"), e);
            0
        });
        let unlinked = Unlinked {
            grant,
            content,
            mode: mode(stat),
            modified: stat.modified,
        };
        self.unlinked.push((*stat, unlinked));
        self.unlinked.len() as u32 - 1
    }

    /// Everything that can be carried, and what can't, once all descriptors have been looked at.
    pub(in crate::wasi) fn finish(mut self) -> (Files, Vec<Obstacle>) {
        let wasi = self.wasi;
        for (grant, granted) in (0u32..).zip(&wasi.grants) {
            match granted.mode {
                GrantMode::CarryAll => self.walk(grant, String::new()),
                GrantMode::Carry => self.touched(grant),
                GrantMode::Shared => {}
            }
        }
        let mut nodes = Vec::with_capacity(self.found.len());
        let mut first_names: HashMap<(u32, u64, u64), u32> = HashMap::new();
        for ((grant, path), stat) in std::mem::take(&mut self.found) {
            let here = (grant, stat.dev, stat.ino);
            let kind = match (stat.file_type, first_names.get(&here)) {
                (FileType::RegularFile, Some(&to)) => NodeKind::HardLink { to },
                _ => match self.node(grant, &path, &stat) {
                    Ok(kind) => kind,
                    Err(obstacle) => {
                        self.obstacles.push(obstacle);
                        continue;
                    }
                },
            };
            if stat.links > 1 && stat.file_type == FileType::RegularFile {
                first_names.entry(here).or_insert(nodes.len() as u32);
            }
            nodes.push(Node {
                grant,
                path,
                kind,
                mode: mode(&stat),
                modified: stat.modified,
            });
        }
        let mut modes: Vec<GrantMode> = wasi.grants.iter().map(|g| g.mode).collect();
        while modes.last() == Some(&GrantMode::Shared) {
            modes.pop();
        }
        let (chunks, contents) = self.contents.finish();
        let files = Files {
            modes,
            removed: wasi.gone_since(&nodes),
            nodes,
            chunks,
            contents,
            unlinked: self.unlinked.into_iter().map(|(_, u)| u).collect(),
            ..Files::default()
        };
        (files, self.obstacles)
    }

    /// What the program has made or changed in a grant, as far as it is there and can be carried at all.
    fn touched(&mut self, grant: u32) {
        let Some(root) = self.root(grant) else { return };
        for (path, whole) in self.wasi.touched.there(grant) {
            let Ok(path) = String::from_utf8(path) else { continue };
            // It is gone, or lies behind a link by now.
            let Ok(stat) = crate::wasi::calls::path::stat(root, &path, FollowSymlinks::No) else {
                continue;
            };
            match stat.file_type {
                FileType::Directory if whole => {
                    self.add(grant, &path);
                    self.walk(grant, path);
                }
                FileType::Directory | FileType::RegularFile | FileType::SymbolicLink => self.add(grant, &path),
                _ => {}
            }
        }
        if self.found.len() > MAX_NODES || self.wasi.touched.too_many() == Some(grant) {
            let guest = self.guest(grant);
            self.obstacles.push(Obstacle::TooMany { guest });
        }
    }

    /// Adds all that a directory holds, at every depth.
    fn walk(&mut self, grant: u32, top: String) {
        let Some(root) = self.root(grant) else { return };
        let mut pending = vec![top];
        while let Some(dir) = pending.pop() {
            let opened = match dir.is_empty() {
                true => sandbox::open_dir_nofollow(root, Path::new(".")),
                false => sandbox::open_dir_nofollow(root, Path::new(&dir)),
            };
            let listed = opened
                .map_err(Into::into)
                .and_then(|d| self.list(grant, &d, &dir, &mut pending));
            match listed {
                // It is gone by now.
                Err(crate::wasi::errno::Errno::NoEnt) if !dir.is_empty() => drop(self.found.remove(&(grant, dir))),
                Err(e) => self.unreadable(grant, if dir.is_empty() { "." } else { &dir }, e),
                Ok(()) => {}
            }
            if self.found.len() > MAX_NODES {
                let guest = self.guest(grant);
                return self.obstacles.push(Obstacle::TooMany { guest });
            }
        }
    }

    fn list(
        &mut self,
        grant: u32,
        dir: &File,
        path: &str,
        pending: &mut Vec<String>,
    ) -> Result<(), crate::wasi::errno::Errno> {
        let dir = crate::wasi::calls::open::readable(dir.try_clone()?);
        let here = self.wasi.name_of_directory(grant, &dir);
        for entry in rustix::fs::Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") || !self.wasi.shows(&here, name) {
                continue;
            }
            let Ok(text) = std::str::from_utf8(name) else {
                let shown = String::from_utf8_lossy(name);
                let path = if path.is_empty() {
                    shown.into_owned()
                } else {
                    format!("{path}/{shown}")
                };
                let guest = self.guest(grant);
                self.obstacles.push(Obstacle::NotUtf8 { path, guest });
                continue;
            };
            let below = if path.is_empty() {
                text.to_owned()
            } else {
                format!("{path}/{text}")
            };
            let stat = match rustix::fs::statat(&dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Stat::of_host(&stat),
                Err(rustix::io::Errno::NOENT) => continue,
                Err(e) => {
                    self.unreadable(grant, &below, e);
                    continue;
                }
            };
            if stat.file_type == FileType::Directory {
                pending.push(below.clone());
            }
            self.found.insert((grant, below), stat);
        }
        Ok(())
    }

    /// What a name stands for, its contents included.
    fn node(&mut self, grant: u32, path: &str, stat: &Stat) -> Result<NodeKind, Obstacle> {
        let Some(root) = self.root(grant) else {
            return Ok(NodeKind::Directory);
        };
        let guest = self.guest(grant);
        let unreadable = |why: String| Obstacle::Unreadable {
            path: path.to_owned(),
            guest: guest.clone(),
            why,
        };
        match stat.file_type {
            FileType::Directory => Ok(NodeKind::Directory),
            FileType::SymbolicLink => {
                let target =
                    sandbox::read_link_contents(root, Path::new(path)).map_err(|e| unreadable(e.to_string()))?;
                let target = std::str::from_utf8(target.as_os_str().as_bytes()).map_err(|_| Obstacle::NotUtf8 {
                    path: path.to_owned(),
                    guest: guest.clone(),
                })?;
                match target.starts_with('/') {
                    true => Err(self.not_carriable(grant, path, "link to an absolute path")),
                    false => Ok(NodeKind::Symlink {
                        target: target.to_owned(),
                    }),
                }
            }
            FileType::RegularFile => {
                let file = open_existing(root, path, READ).map_err(|e| unreadable(e.to_string()))?;
                keep_access_time(&file);
                let content = self.content(&file, stat).map_err(|e| unreadable(e.to_string()))?;
                Ok(NodeKind::File { content })
            }
            _ => Err(self.not_carriable(grant, path, "device, socket or named pipe")),
        }
    }

    /// The index of a file's contents.
    fn content(&mut self, file: &File, stat: &Stat) -> io::Result<u32> {
        if !self.read {
            return Ok(0);
        }
        let list = self.wasi.touched.list(file, stat)?;
        let added = self.contents.add(list.len, list.chunks());
        added.ok_or_else(|| io::Error::other("there are too many bytes to carry"))
    }

    fn root(&self, grant: u32) -> Option<&'a File> {
        self.wasi.grants.get(grant as usize)?.dir.as_deref()
    }

    fn guest(&self, grant: u32) -> String {
        self.wasi
            .grants
            .get(grant as usize)
            .map(|g| g.guest.clone())
            .unwrap_or_default()
    }

    fn unreadable(&mut self, grant: u32, path: &str, why: impl ToString) {
        let guest = self.guest(grant);
        self.obstacles.push(Obstacle::Unreadable {
            path: path.to_owned(),
            guest,
            why: why.to_string(),
        });
    }

    fn not_carriable(&self, grant: u32, path: &str, what: &'static str) -> Obstacle {
        Obstacle::NotCarriable {
            path: path.to_owned(),
            guest: self.guest(grant),
            what,
        }
    }
}

fn mode(stat: &Stat) -> u16 {
    stat.mode & MODE_MASK
}

impl Wasi {
    /// How a grant's files travel.
    pub(in crate::wasi) fn mode(&self, grant: u32) -> GrantMode {
        self.grants.get(grant as usize).map_or(GrantMode::Shared, |g| g.mode)
    }

    /// What isn't there any more: of directories that are carried whole what was carried before, of others what the
    /// program removed.
    fn gone_since(&self, nodes: &[Node]) -> Vec<(u32, String)> {
        let carried = self.carried.lock().unwrap_or_else(|e| e.into_inner());
        let there = |known: &(u32, String)| {
            nodes
                .binary_search_by(|n| (n.grant, n.path.as_str()).cmp(&(known.0, known.1.as_str())))
                .is_ok()
        };
        let whole = |known: &&(u32, String)| self.mode(known.0) == GrantMode::CarryAll;
        let mut gone: Vec<(u32, String)> = carried.iter().filter(whole).cloned().collect();
        gone.extend(self.touched.gone());
        gone.retain(|known| !there(known));
        gone.sort();
        gone
    }

    /// Remembers what is carried, to notice later what is gone.
    pub(in crate::wasi) fn remember_carried(&self, files: &Files) {
        let mut carried = self.carried.lock().unwrap_or_else(|e| e.into_inner());
        let whole = |grant: u32| self.mode(grant) == GrantMode::CarryAll;
        let nodes = files
            .nodes
            .iter()
            .filter(|n| whole(n.grant))
            .map(|n| (n.grant, n.path.clone()));
        carried.note(nodes, files.removed.iter().filter(|r| whole(r.0)).cloned());
        self.touched.brought(files);
    }

    /// The contents of the files that a state of this program carries, to be written into a snapshot while the program
    /// is stopped.
    pub fn contents<'a>(&'a self, state: &'a WasiState) -> impl Contents + 'a {
        Carried {
            wasi: self,
            state,
            places: OnceCell::new(),
            opened: RefCell::default(),
        }
    }

    /// The chunks that a state of this program carries and that are not `known`, in memory; `None` if they are more
    /// than `most` bytes.
    pub fn new_contents(
        &self,
        state: &WasiState,
        known: &ByHash<()>,
        most: u64,
    ) -> io::Result<Option<ByHash<Vec<u8>>>> {
        let new: Vec<&Chunk> = state
            .files
            .chunks
            .iter()
            .filter(|c| !known.contains_key(&c.hash))
            .collect();
        if new.iter().fold(0u64, |sum, c| sum.saturating_add(c.len)) > most {
            return Ok(None);
        }
        let hashes: ByHash<()> = new.iter().map(|c| (c.hash, ())).collect();
        let carried = Carried {
            wasi: self,
            state,
            places: OnceCell::from(places(state, &|chunk| hashes.contains_key(&chunk.hash))),
            opened: RefCell::default(),
        };
        let mut read = ByHash::default();
        for chunk in new {
            let mut bytes = Vec::with_capacity(chunk.len as usize);
            carried.copy(chunk, &mut bytes)?;
            read.insert(chunk.hash, bytes);
        }
        Ok(Some(read))
    }
}

/// A file with contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place<'a> {
    Named(u32, &'a str),
    Open(u32),
}

/// Where each of the wanted chunks is: in which file, and at which byte.
fn places<'a>(state: &'a WasiState, wanted: &dyn Fn(&Chunk) -> bool) -> ByHash<(Place<'a>, u64)> {
    let files = &state.files;
    let named = files.nodes.iter().filter_map(|node| match node.kind {
        NodeKind::File { content } => Some((Place::Named(node.grant, &node.path), content)),
        _ => None,
    });
    let open = state.descriptors.iter().filter_map(|d| match d.resource {
        state::Resource::Unlinked { file, .. } => Some((Place::Open(d.fd), files.unlinked.get(file as usize)?.content)),
        _ => None,
    });
    let mut places = ByHash::default();
    for (place, content) in named.chain(open) {
        for (at, chunk) in files
            .contents
            .get(content as usize)
            .iter()
            .flat_map(|c| c.chunks(&files.chunks))
        {
            if wanted(chunk) {
                places.entry(chunk.hash).or_insert((place, at));
            }
        }
    }
    places
}

/// See [`Wasi::contents`].
struct Carried<'a> {
    wasi: &'a Wasi,
    state: &'a WasiState,
    places: OnceCell<ByHash<(Place<'a>, u64)>>,
    /// The file that was read last.
    opened: RefCell<Option<(Place<'a>, File)>>,
}

impl Carried<'_> {
    fn open(&self, place: Place<'_>) -> io::Result<File> {
        let file = match place {
            Place::Open(fd) => {
                let descriptor = self.wasi.table.get(fd).map_err(|_| io::ErrorKind::NotFound)?;
                reopen(descriptor.host())?
            }
            Place::Named(grant, path) => {
                let root = self.wasi.grants.get(grant as usize).and_then(|g| g.dir.as_deref());
                let root = root.ok_or(io::ErrorKind::NotFound)?;
                open_existing(root, path, READ).map_err(|e| io::Error::other(format!("{path:?}: {e}")))?
            }
        };
        keep_access_time(&file);
        Ok(file)
    }
}

impl Contents for Carried<'_> {
    fn copy(&self, chunk: &Chunk, out: &mut dyn Write) -> io::Result<bool> {
        let places = self.places.get_or_init(|| places(self.state, &|_| true));
        let Some(&(place, at)) = places.get(&chunk.hash) else {
            return Ok(false);
        };
        let mut opened = self.opened.borrow_mut();
        let file = match opened.take().filter(|(was, _)| *was == place) {
            Some((_, file)) => file,
            None => self.open(place)?,
        };
        let mut buffer = vec![0; chunk.len.min(1 << 18) as usize];
        let mut done = 0;
        while done < chunk.len {
            let part = &mut buffer[..(chunk.len - done).min(1 << 18) as usize];
            let n = file.read_at(part, at + done)?;
            if n == 0 {
                // It is shorter now: whoever reads notices.
                break;
            }
            out.write_all(&part[..n])?;
            done += n as u64;
        }
        *opened = Some((place, file));
        Ok(true)
    }
}
