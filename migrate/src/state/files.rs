//! The files that travel with a program, and the identity of those that don't.
//!
//! A grant's directory is *shared* (`--dir`: the same files must be at the destination), or *carried* (`--carry`: what
//! the program has open or has changed goes inside the snapshot; `--carry-all`: the directory's whole tree). A file
//! that is open but no longer has a name is carried always. Contents consist of chunks ([`super::chunks`]), which are
//! named by their SHA-256, so that equal ones are there once, and a transport can leave out what the receiver has.
//!
//! This is part of the uniform state, in sections of its own: see [`crate::snapshot`]. [`Files::check`] is what a
//! reader has checked before it believes any of it.

pub use super::chunks::{ByHash, CHUNK, Chunk, ChunkList, Content, MAX_CHUNKS, Part};

use super::chunks::{self, WholeContent};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;

/// Most files, directories and links that one snapshot carries.
pub const MAX_NODES: usize = 1 << 20;
/// Longest path below a grant, in bytes (Linux's `PATH_MAX`).
pub const MAX_PATH: usize = 4096;
/// Greatest total length of carried files, holes included: 16 TiB.
pub const MAX_CONTENTS: u64 = 16 << 40;
/// Most listening sockets.
pub const MAX_LISTENERS: usize = 1 << 10;
/// Permission bits that are carried: set-user-id and its like are not.
pub const MODE_MASK: u16 = 0o777;

/// How the files of a granted directory come to the destination. New variants go to the end: the order is part of the
/// format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantMode {
    /// `--dir`: they are there already.
    #[default]
    Shared,
    /// `--carry`: those that are open, or that the program has changed, are in the snapshot.
    Carry,
    /// `--carry-all`: all are in the snapshot.
    CarryAll,
}

impl GrantMode {
    /// The option that grants a directory so, without its dashes.
    pub fn option(self) -> &'static str {
        match self {
            GrantMode::Shared => "dir",
            GrantMode::Carry => "carry",
            GrantMode::CarryAll => "carry-all",
        }
    }

    /// Are files of it in the snapshot?
    pub fn carries(self) -> bool {
        self != GrantMode::Shared
    }
}

/// The SHA-256 of a chunk, or of a file's contents.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// Of bytes.
    pub fn of(bytes: &[u8]) -> ContentHash {
        ContentHash(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:.16}")
    }
}

/// A carried file, directory or link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Index into the grants.
    pub grant: u32,
    /// Its path below the grant, never empty; see [`is_below`].
    pub path: String,
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits, within [`MODE_MASK`].
    pub mode: u16,
    /// Last modification, in nanoseconds since 1970.
    pub modified: u64,
}

/// What a carried node is. New variants go to the end: the order is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeKind {
    /// A regular file.
    File {
        /// Index into [`Files::contents`].
        content: u32,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it says: a relative path.
        target: String,
    },
    /// Another name of a carried file.
    HardLink {
        /// Index into [`Files::nodes`] of the first name: a file of the same grant, earlier in the list.
        to: u32,
    },
}

/// An open file that has no name any more. Descriptors refer to it by index, because several may have it open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlinked {
    /// Index into the grants: through which it was opened.
    pub grant: u32,
    /// Index into [`Files::contents`].
    pub content: u32,
    /// Permission bits, within [`MODE_MASK`].
    pub mode: u16,
    /// Last modification, in nanoseconds since 1970.
    pub modified: u64,
}

/// What an open file of a shared grant was when the state was captured: a file at the destination is the same if it has
/// the same size and hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The descriptor's number.
    pub fd: u32,
    /// Size in bytes.
    pub size: u64,
    /// Hash of the contents; of a large file, of a sample of them. `None` if the file could not be read: then size and
    /// time count.
    pub hash: Option<ContentHash>,
    /// Last modification, in nanoseconds since 1970.
    pub modified: u64,
    /// Last change of contents or attributes, in nanoseconds since 1970.
    pub changed: u64,
    /// Device and inode number of the capturing host: with equal times, the file need not be read to be known again.
    pub place: (u64, u64),
}

/// The program's files: everything of the state that concerns what is in them. Empty for a program without any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// How each grant's files travel, by index of the grant; those beyond its end are shared.
    pub modes: Vec<GrantMode>,
    /// Open files of shared grants, ascending by descriptor.
    pub identities: Vec<Identity>,
    /// What carried contents consist of, each once.
    pub chunks: Vec<Chunk>,
    /// Carried contents.
    pub contents: Vec<Content>,
    /// Carried files, ascending by grant and path: a directory comes before what is in it.
    pub nodes: Vec<Node>,
    /// What was carried before and is gone since, ascending by grant and path: to be removed where it is still there.
    pub removed: Vec<(u32, String)>,
    /// Open files without a name.
    pub unlinked: Vec<Unlinked>,
    /// Addresses that the program listens on, in the order of its `--tcplisten` options. Descriptors refer to them by
    /// index.
    pub listeners: Vec<String>,
}

/// As version 1 of the section has them.
#[derive(Debug, Serialize, Deserialize)]
struct FilesV1 {
    modes: Vec<GrantMode>,
    identities: Vec<Identity>,
    contents: Vec<WholeContent>,
    nodes: Vec<Node>,
    removed: Vec<(u32, String)>,
    unlinked: Vec<Unlinked>,
    listeners: Vec<String>,
}

/// Why the carried files of a snapshot can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// More than any reader accepts.
    #[error("it carries too many {0}")]
    TooMany(&'static str),
    /// Something is wrong with a carried file.
    #[error("its carried file {path:?} is impossible: {what}")]
    Node {
        /// Its path.
        path: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Something else is wrong.
    #[error("its list of files is impossible: {0}")]
    Invalid(&'static str),
}

/// Whether a path is in the one form in which a state names what lies below a grant: names joined by `/`, none of them
/// empty, `.` or `..`. The grant itself is the empty path.
pub fn is_below(path: &str) -> bool {
    path.len() <= MAX_PATH
        && (path.is_empty()
            || path
                .split('/')
                .all(|name| !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains('\0')))
}

/// The path of the directory that something lies in.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Files {
    /// Reads what version 1 of the section said; what is left of the bytes is returned, too. Not yet checked.
    pub fn from_version_1(bytes: &[u8]) -> Result<(Result<Files, FilesError>, &[u8]), postcard::Error> {
        let (v1, rest) = postcard::take_from_bytes::<FilesV1>(bytes)?;
        let files = chunks::from_whole(v1.contents).map(|(chunks, contents)| Files {
            modes: v1.modes,
            identities: v1.identities,
            chunks,
            contents,
            nodes: v1.nodes,
            removed: v1.removed,
            unlinked: v1.unlinked,
            listeners: v1.listeners,
        });
        Ok((files, rest))
    }

    /// Nothing that would have to be written?
    pub fn is_empty(&self) -> bool {
        *self == Files::default()
    }

    /// How a grant's files travel.
    pub fn mode(&self, grant: u32) -> GrantMode {
        self.modes.get(grant as usize).copied().unwrap_or_default()
    }

    /// Total length of the chunks that are in this snapshot, in bytes. Saturates.
    pub fn stored_len(&self) -> u64 {
        let stored = self.chunks.iter().filter(|c| c.stored);
        stored.fold(0, |sum, c| sum.saturating_add(c.len))
    }

    /// Without what differs between machines at the same point: times, and what the host's file system chose.
    pub fn without_times(&self) -> Files {
        let mut files = self.clone();
        for i in &mut files.identities {
            (i.modified, i.changed, i.place) = (0, 0, (0, 0));
        }
        files.nodes.iter_mut().for_each(|n| n.modified = 0);
        files.unlinked.iter_mut().for_each(|u| u.modified = 0);
        files
    }

    /// Checks everything that a hostile snapshot could lie about, but for the contents' hashes. `grants` is the number
    /// of grants.
    pub fn check(&self, grants: usize) -> Result<(), FilesError> {
        let invalid = |what| Err(FilesError::Invalid(what));
        if self.nodes.len() > MAX_NODES || self.removed.len() > MAX_NODES {
            return Err(FilesError::TooMany("files"));
        }
        if self.unlinked.len() > MAX_NODES {
            return Err(FilesError::TooMany("contents"));
        }
        if self.listeners.len() > MAX_LISTENERS || self.listeners.iter().any(|a| a.len() > MAX_PATH) {
            return Err(FilesError::TooMany("listening sockets"));
        }
        if self.modes.len() > grants {
            return invalid("it has more directories than were granted");
        }
        chunks::check(&self.chunks, &self.contents)?;
        if !self.identities.is_sorted_by(|a, b| a.fd < b.fd) {
            return invalid("open files are out of order or occur twice");
        }
        let kinds = self.check_nodes()?;
        if !self.removed.is_sorted_by(|a, b| a < b) {
            return invalid("removed files are out of order or occur twice");
        }
        for (grant, path) in &self.removed {
            if path.is_empty() || !is_below(path) || !self.mode(*grant).carries() {
                return invalid("a removed file doesn't lie in a carried directory");
            }
            if kinds.contains_key(&(*grant, path.as_str())) {
                return invalid("a file is both removed and there");
            }
        }
        for u in &self.unlinked {
            if u.grant as usize >= grants || u.content as usize >= self.contents.len() || u.mode & !MODE_MASK != 0 {
                return invalid("an unlinked file can't be");
            }
        }
        Ok(())
    }

    fn check_nodes(&self) -> Result<BTreeMap<(u32, &str), &NodeKind>, FilesError> {
        let mut kinds: BTreeMap<(u32, &str), &NodeKind> = BTreeMap::new();
        for (index, n) in self.nodes.iter().enumerate() {
            let wrong = |what| {
                Err(FilesError::Node {
                    path: n.path.clone(),
                    what,
                })
            };
            if n.path.is_empty() || !is_below(&n.path) {
                return wrong("it doesn't lie below its directory");
            }
            if !self.mode(n.grant).carries() {
                return wrong("its directory isn't carried");
            }
            if n.mode & !MODE_MASK != 0 {
                return wrong("it has unknown permissions");
            }
            if kinds
                .last_key_value()
                .is_some_and(|(last, _)| *last >= (n.grant, n.path.as_str()))
            {
                return wrong("it is out of order or occurs twice");
            }
            let parent = parent(&n.path);
            if !parent.is_empty() && kinds.get(&(n.grant, parent)) != Some(&&NodeKind::Directory) {
                return wrong("what it lies in is no carried directory");
            }
            match &n.kind {
                NodeKind::File { content } if *content as usize >= self.contents.len() => {
                    return wrong("it has no contents");
                }
                NodeKind::Symlink { target }
                    if target.is_empty() || target.len() > MAX_PATH || target.contains('\0') =>
                {
                    return wrong("it is a link to nothing");
                }
                NodeKind::Symlink { target } if target.starts_with('/') => {
                    return wrong("it is a link to an absolute path");
                }
                NodeKind::HardLink { to } => {
                    let first = self.nodes[..index].get(*to as usize);
                    if !first.is_some_and(|f| f.grant == n.grant && matches!(f.kind, NodeKind::File { .. })) {
                        return wrong("it is another name of nothing");
                    }
                }
                _ => {}
            }
            kinds.insert((n.grant, &n.path), &n.kind);
        }
        Ok(kinds)
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
