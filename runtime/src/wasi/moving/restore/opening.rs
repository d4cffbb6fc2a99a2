//! Descriptors: what is opened for each one of a state, with which flags and at which position.

use super::plan::Plan;
use super::problem::{RestoreProblem, said};
use super::unlinked;
use crate::wasi::calls::dir::Listing;
use crate::wasi::calls::open::{Access, open_directory, open_existing};
use crate::wasi::changes::change::Opened;
use crate::wasi::errno::Errno;
use crate::wasi::host::{HostKind, Stat};
use crate::wasi::rights::{self, FD_READ};
use crate::wasi::table::{ALL_FLAGS, Descriptor, Directory, Resource};
use cap_primitives::fs::FollowSymlinks;
use dunlin_migrate::state::files::is_below;
use dunlin_migrate::state::wasi::{self as state, MAX_DESCRIPTORS, Stdio, WasiState};
use rustix::fs::SeekFrom;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

/// A descriptor that will be there again. What the state says of it is allowed; what is on this machine may still be
/// something else.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    pub(super) of: &'a state::Descriptor,
    pub(super) what: What<'a>,
}

/// What is opened for a descriptor.
#[derive(Debug)]
pub(super) enum What<'a> {
    Stdio {
        stream: Stdio,
        /// Where standard input was, if it was a file.
        offset: Option<u64>,
    },
    Directory {
        root: Arc<File>,
        grant: u32,
        /// Below the root; empty for the root itself.
        path: &'a str,
        preopened: bool,
        listing: Option<Listing>,
    },
    File {
        root: Arc<File>,
        grant: u32,
        path: &'a str,
        access: Access,
        offset: u64,
        /// Its size in the state.
        size: u64,
    },
    /// One of the state's files without a name, by its index.
    Unlinked {
        grant: u32,
        index: usize,
        access: Access,
        offset: u64,
    },
    Listener {
        index: u32,
        address: SocketAddr,
    },
}

/// Whether a descriptor can only be opened once carried files are there.
pub(super) fn needs_carried_files(state: &WasiState, d: &state::Descriptor) -> bool {
    match &d.resource {
        state::Resource::Unlinked { .. } => true,
        state::Resource::File { grant, .. } => state.files.mode(*grant).carries(),
        state::Resource::Directory { grant, path, .. } => state.files.mode(*grant).carries() && !path.is_empty(),
        _ => false,
    }
}

impl<'a> Plan<'a> {
    /// What is to be opened for a descriptor. An error without a problem has been reported with its grant.
    pub(super) fn opening(&self, d: &'a state::Descriptor) -> Result<Opening<'a>, Option<RestoreProblem>> {
        let invalid = |what| Err(Some(RestoreProblem::Invalid { fd: d.fd, what }));
        let position = |offset: u64| match i64::try_from(offset) {
            Ok(_) => Ok(offset),
            Err(_) => Err(bad_position(d.fd)),
        };
        if d.fd >= MAX_DESCRIPTORS {
            return invalid("its number is too great");
        }
        if d.flags & !ALL_FLAGS != 0 {
            return invalid("unknown flags");
        }
        let (rights, inheriting) = most_rights(d);
        if d.rights & !rights != 0 || d.inheriting & !inheriting != 0 {
            return invalid("rights that nothing of its kind can have");
        }
        let what = match &d.resource {
            state::Resource::Stdio { stream, offset } => What::Stdio {
                stream: *stream,
                offset: *offset,
            },
            state::Resource::Directory {
                grant,
                path,
                preopened,
                listing,
            } => {
                if !is_below(path) || (*preopened && !path.is_empty()) {
                    return invalid("not a path below a granted directory");
                }
                let listing = match listing.as_deref().map(Listing::from_names) {
                    Some(None) => return invalid("a directory can't have such names in it"),
                    Some(listing) => listing,
                    None => None,
                };
                What::Directory {
                    root: self.root(d.fd, *grant)?,
                    grant: *grant,
                    path,
                    preopened: *preopened,
                    listing,
                }
            }
            state::Resource::File {
                grant,
                path,
                offset,
                size,
            } => {
                if !is_below(path) || path.is_empty() {
                    return invalid("not a path below a granted directory");
                }
                What::File {
                    root: self.root(d.fd, *grant)?,
                    grant: *grant,
                    path,
                    access: access(d),
                    offset: position(*offset)?,
                    size: *size,
                }
            }
            state::Resource::Unlinked { file, offset } => {
                let index = *file as usize;
                let Some(unlinked) = self.state.files.unlinked.get(index) else {
                    return invalid("no such file without a name in the state");
                };
                What::Unlinked {
                    grant: unlinked.grant,
                    index,
                    access: access(d),
                    offset: position(*offset)?,
                }
            }
            state::Resource::Listener { index } => {
                let Some(was) = self.state.files.listeners.get(*index as usize) else {
                    return invalid("no such listening socket in the state");
                };
                let Some(address) = self.config.listen.get(*index as usize) else {
                    return Err(Some(RestoreProblem::MissingListener(was.clone())));
                };
                What::Listener {
                    index: *index,
                    address: *address,
                }
            }
        };
        Ok(Opening { of: d, what })
    }

    /// Opens it. `unlinked`: the files without a name, if they have been made.
    pub(super) fn open(
        &mut self,
        opening: &Opening<'_>,
        unlinked: &[File],
    ) -> Result<Descriptor, Option<RestoreProblem>> {
        let d = opening.of;
        match &opening.what {
            What::Stdio { stream, offset } => {
                let mut descriptor = Descriptor::stdio(*stream);
                (descriptor.rights, descriptor.flags) = (d.rights, d.flags);
                if let (Stdio::Stdin, HostKind::Regular, Some(offset)) = (stream, descriptor.kind, offset) {
                    self.stdin = Some(*offset);
                }
                Ok(descriptor)
            }
            What::Directory {
                root,
                grant,
                path,
                preopened,
                listing,
            } => {
                let file = match path.is_empty() {
                    true => root.clone(),
                    false => {
                        let dir = open_directory(root, path, FollowSymlinks::No);
                        Arc::new(dir.map_err(|e| match e {
                            Errno::NotDir | Errno::Loop => self.wrong_kind(*grant, path, "directory"),
                            e => self.open_failed(*grant, path, e),
                        })?)
                    }
                };
                Ok(Descriptor {
                    resource: Resource::Directory(Directory {
                        grant: *grant,
                        preopened: *preopened,
                        file,
                        listing: listing.clone(),
                    }),
                    kind: HostKind::Directory,
                    rights: d.rights,
                    inheriting: d.inheriting,
                    flags: d.flags,
                })
            }
            What::File {
                root,
                grant,
                path,
                access,
                offset,
                size,
            } => {
                let file = open_existing(root, path, *access).map_err(|e| match e {
                    Errno::Loop | Errno::IsDir => self.wrong_kind(*grant, path, "file"),
                    e => self.open_failed(*grant, path, e),
                })?;
                if HostKind::of(file.as_fd()) != HostKind::Regular {
                    return Err(self.wrong_kind(*grant, path, "file"));
                }
                seek(d.fd, &file, *offset)?;
                self.compare(d.fd, *grant, path, &file, *size)?;
                Ok(opened_file(d, *grant, file))
            }
            What::Unlinked {
                grant,
                index,
                access,
                offset,
            } => {
                let original = unlinked.get(*index).ok_or(Errno::NoEnt);
                let file = original.and_then(|original| unlinked::reopen(original, *access));
                let file = file.map_err(|e| {
                    let path = format!("the deleted file of descriptor {}", d.fd);
                    Some(RestoreProblem::put(&self.guest(*grant), &path, e))
                })?;
                seek(d.fd, &file, *offset)?;
                Ok(opened_file(d, *grant, file))
            }
            What::Listener { index, address } => {
                let socket = crate::wasi::listen::listen(address).map_err(|e| Some(e.into()))?;
                Ok(Descriptor {
                    rights: d.rights,
                    inheriting: d.inheriting,
                    flags: d.flags,
                    ..Descriptor::listener(*index, socket)
                })
            }
        }
    }

    fn root(&self, fd: u32, grant: u32) -> Result<Arc<File>, Option<RestoreProblem>> {
        match self.wasi.grants.get(grant as usize) {
            Some(granted) => granted.dir.clone().ok_or(None),
            None => Err(Some(RestoreProblem::Invalid {
                fd,
                what: "no such granted directory in the state",
            })),
        }
    }

    /// Refuses a shared file that isn't what it was, unless that is accepted.
    fn compare(
        &mut self,
        fd: u32,
        grant: u32,
        path: &str,
        file: &File,
        size: u64,
    ) -> Result<(), Option<RestoreProblem>> {
        if self.state.files.mode(grant).carries() {
            return Ok(());
        }
        let now = Stat::of_fd(file.as_fd()).map_err(|e| self.open_failed(grant, path, e))?;
        // Sorted, as `Files::check` has seen.
        let identities = &self.state.files.identities;
        let how = match identities.binary_search_by_key(&fd, |i| i.fd) {
            Ok(found) => self.wasi.hashes.difference(&identities[found], file.as_fd(), &now),
            // Of version 1, which knew no more.
            Err(_) => (now.size != size).then(|| format!("it has {} bytes, and had {size}", now.size)),
        };
        let Some(how) = how else { return Ok(()) };
        let (guest, path) = (self.guest(grant), path.to_owned());
        match self.config.accept_changed {
            true => {
                let warning = format!("'{path}' in the directory '{guest}' is not the file that was open: {how}");
                self.wasi.warnings.push(warning);
                Ok(())
            }
            false => Err(Some(RestoreProblem::Changed { guest, path, how })),
        }
    }

    fn guest(&self, grant: u32) -> String {
        self.state.grants.get(grant as usize).cloned().unwrap_or_default()
    }

    fn open_failed(&self, grant: u32, path: &str, errno: Errno) -> Option<RestoreProblem> {
        let (guest, path) = (self.guest(grant), path.to_owned());
        Some(match errno {
            Errno::Mfile | Errno::Nfile => RestoreProblem::Descriptors { guest, path },
            errno => RestoreProblem::Open {
                guest,
                path,
                why: said(errno),
            },
        })
    }

    pub(super) fn wrong_kind(&self, grant: u32, path: &str, was: &'static str) -> Option<RestoreProblem> {
        Some(RestoreProblem::Kind {
            guest: self.guest(grant),
            path: path.to_owned(),
            was,
        })
    }
}

/// What a descriptor was open for.
fn access(d: &state::Descriptor) -> Access {
    Access {
        read: d.rights & FD_READ != 0,
        // A program that has given up writing may still resize.
        write: d.rights & rights::WRITER != 0,
        flags: d.flags,
        follow: FollowSymlinks::No,
    }
}

/// The most rights that a program can have on a descriptor of this kind, and hand on: those of a fresh program.
fn most_rights(d: &state::Descriptor) -> (u64, u64) {
    match &d.resource {
        state::Resource::Stdio { stream, .. } => (Descriptor::stdio(*stream).rights, 0),
        state::Resource::Directory { .. } => (rights::DIRECTORY, rights::ALL),
        state::Resource::Listener { .. } => (rights::LISTENER, rights::CONNECTION),
        // It is opened again with what these say, and its file system has the last word.
        state::Resource::File { .. } | state::Resource::Unlinked { .. } => (rights::FILE, 0),
    }
}

/// A descriptor of a file that was opened again.
fn opened_file(d: &state::Descriptor, grant: u32, file: File) -> Descriptor {
    Descriptor {
        resource: Resource::File {
            grant,
            file,
            opened: Opened::new(),
        },
        kind: HostKind::Regular,
        rights: d.rights,
        inheriting: 0,
        flags: d.flags,
    }
}

fn seek(fd: u32, file: &File, offset: u64) -> Result<(), Option<RestoreProblem>> {
    let moved = rustix::fs::seek(file, SeekFrom::Start(offset));
    moved.map(drop).map_err(|_| bad_position(fd))
}

fn bad_position(fd: u32) -> Option<RestoreProblem> {
    let what = "its position is too great";
    Some(RestoreProblem::Invalid { fd, what })
}
