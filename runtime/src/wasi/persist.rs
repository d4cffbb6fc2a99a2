//! Taking the state out, and putting it back on another machine.
//!
//! What is captured names no resource of the host; what is restored decides nothing about the host. A restored state is hostile: it
//! may name any grant, path, right and number. So a grant is found only among those of the person who resumes; a path is resolved
//! with the sandbox that serves the program itself, and never creates or truncates; what it names must be a regular file or a
//! directory again; rights are cut to what a fresh program could have; numbers are checked before they are used.

use super::clock::{Clock, Clocks};
use super::dir::Listing;
use super::errno::Errno;
use super::host::{HostKind, Stat};
use super::open::{Access, open_directory, open_existing};
use super::path::{proc_path, stat};
use super::rights::{self, FD_READ, FD_WRITE};
use super::table::{ALL_FLAGS, Descriptor, Directory, Resource, Table};
use super::{GrantedDir, Wasi, open_grant};
use crate::options::WasiConfig;
use cap_primitives::fs::FollowSymlinks;
use dunlin_migrate::state::wasi::{self as state, FileTimes, MAX_DESCRIPTORS, Stdio, Times, WasiState};
use rustix::fs::SeekFrom;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

/// The program has something that can't move; [`Wasi::blockers`] says what before it comes to this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the program can't be moved now: {}", .0.join("; "))]
pub struct CaptureError(pub Vec<String>);

/// A state can't be put back on this machine; every reason at once.
#[derive(Debug, thiserror::Error)]
#[error("{}", list(.0))]
pub struct RestoreError(pub Vec<RestoreProblem>);

fn list(problems: &[RestoreProblem]) -> String {
    problems.iter().map(RestoreProblem::to_string).collect::<Vec<_>>().join("; ")
}

/// One reason why a state can't be put back on this machine.
#[derive(Debug, thiserror::Error)]
pub enum RestoreProblem {
    /// A grant that the program uses is not among this machine's.
    #[error("the program uses the directory '{0}': say which one that is here with --dir HOST::{0}")]
    MissingGrant(String),
    /// A granted directory can't be opened.
    #[error(transparent)]
    Grant(#[from] super::WasiError),
    /// An open file or directory isn't there or may not be opened.
    #[error("'{path}' in the directory '{guest}' was open and can't be opened again: {why}")]
    Open {
        /// The grant's name.
        guest: String,
        /// The path below it.
        path: String,
        /// Why.
        why: String,
    },
    /// An open file is something else here.
    #[error("'{path}' in the directory '{guest}' was open as a {was} and is none here")]
    Kind {
        /// The grant's name.
        guest: String,
        /// The path below it.
        path: String,
        /// What it was.
        was: &'static str,
    },
    /// The state contradicts itself: it is damaged or forged.
    #[error("the state's descriptor {fd} is invalid: {what}")]
    Invalid {
        /// The descriptor's number.
        fd: u32,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Wasi {
    /// All that stands in the way of moving the program now, in words for a person; empty if it can be moved.
    pub fn blockers(&self) -> Vec<String> {
        self.table
            .iter()
            .filter_map(|(fd, d)| self.capture_descriptor(fd, d).err())
            .collect()
    }

    /// The state. Nothing changes; the program may go on here.
    pub fn capture(&self) -> Result<WasiState, CaptureError> {
        let (mut descriptors, mut files, mut blockers) = (Vec::new(), Vec::new(), Vec::new());
        for (fd, d) in self.table.iter() {
            match self.capture_descriptor(fd, d) {
                Err(blocker) => blockers.push(blocker),
                Ok((resource, stat)) => {
                    let (rights, inheriting, flags) = (d.rights, d.inheriting, d.flags);
                    descriptors.push(state::Descriptor {
                        fd,
                        rights,
                        inheriting,
                        flags,
                        resource,
                    });
                    files.extend(stat.map(|s| FileTimes {
                        fd,
                        modified: s.modified,
                        inode: self.inode(s.dev, s.ino),
                    }));
                }
            }
        }
        if !blockers.is_empty() {
            return Err(CaptureError(blockers));
        }
        let times = Times {
            monotonic: self.clocks.now(Clock::Monotonic),
            process_cpu: self.clocks.now(Clock::ProcessCpu),
            thread_cpu: self.clocks.now(Clock::ThreadCpu),
            poll_started: self.poll_started,
            files,
        };
        let grants = self.grants.iter().map(|g| g.guest.clone()).collect();
        Ok(WasiState {
            args: self.args.clone(),
            env: self.env.clone(),
            grants,
            descriptors,
            times,
        })
    }

    /// One descriptor's state and, of a file or directory, its attributes; or why it can't move.
    fn capture_descriptor(&self, fd: u32, d: &Descriptor) -> Result<(state::Resource, Option<Stat>), String> {
        let position = || rustix::fs::tell(d.host()).map_err(|e| format!("descriptor {fd}: its position is unknown: {e}"));
        match &d.resource {
            Resource::Stdio(stream) => {
                let offset = (*stream == Stdio::Stdin && d.kind == HostKind::Regular)
                    .then(position)
                    .transpose()?;
                Ok((state::Resource::Stdio { stream: *stream, offset }, None))
            }
            Resource::Directory(dir) => {
                let (path, stat) = match dir.preopened {
                    true => (String::new(), d.stat().map_err(|e| format!("descriptor {fd}: {e}"))?),
                    false => self.path_of(fd, dir.grant, d.host())?,
                };
                let listing = dir.listing.as_ref().map(Listing::names);
                Ok((
                    state::Resource::Directory {
                        grant: dir.grant,
                        path,
                        preopened: dir.preopened,
                        listing,
                    },
                    Some(stat),
                ))
            }
            Resource::File { grant, .. } => {
                if d.kind != HostKind::Regular {
                    return Err(format!("descriptor {fd} is an open device or named pipe, which can't move"));
                }
                let (path, stat) = self.path_of(fd, *grant, d.host())?;
                Ok((
                    state::Resource::File {
                        grant: *grant,
                        path,
                        offset: position()?,
                        size: stat.size,
                    },
                    Some(stat),
                ))
            }
            Resource::Listener(_) => Err(format!("descriptor {fd} is a listening socket, which can't move yet")),
            Resource::Connection(_) => Err(format!("descriptor {fd} is a connected socket, which can't move")),
        }
    }

    /// The path below its grant under which an open file or directory can be found again, checked by finding it; or why there is
    /// none. The kernel knows the path even if the file was renamed since it was opened.
    fn path_of(&self, fd: u32, grant: u32, file: BorrowedFd<'_>) -> Result<(String, Stat), String> {
        let Some(GrantedDir { guest, dir: Some(root) }) = self.grants.get(grant as usize) else {
            return Err(format!(
                "descriptor {fd} was opened through a directory that isn't granted any more"
            ));
        };
        let real = |file: BorrowedFd<'_>| {
            let path = rustix::fs::readlink(proc_path(file), Vec::new());
            path.map(std::ffi::CString::into_bytes)
                .map_err(|e| format!("descriptor {fd}: /proc/self/fd can't be read: {e}"))
        };
        let stat_now = Stat::of_fd(file).map_err(|e| format!("descriptor {fd}: {e}"))?;
        let (root_path, path) = (real(root.as_fd())?, real(file)?);
        let shown = String::from_utf8_lossy(&path).into_owned();
        if stat_now.links == 0 {
            let name = shown.strip_suffix(" (deleted)").unwrap_or(&shown);
            return Err(format!(
                "descriptor {fd}: {name} is open but deleted, so it can't be opened again elsewhere"
            ));
        }
        let below = match path.strip_prefix(&root_path[..]) {
            Some([]) => Some(Vec::new()),
            Some([b'/', rest @ ..]) => Some(rest.to_vec()),
            Some(rest) if root_path == b"/" => Some(rest.to_vec()),
            _ => None,
        };
        let below = below.ok_or_else(|| format!("descriptor {fd}: {shown} is no longer inside the directory '{guest}'"))?;
        let below = std::ffi::OsString::from_vec(below).into_string().map_err(|_| {
            format!("descriptor {fd}: the name of {shown} is not UTF-8, which a snapshot can't hold; rename it or close it")
        })?;
        let found = stat(root, if below.is_empty() { "." } else { &below }, FollowSymlinks::No);
        match found {
            Ok(found) if (found.dev, found.ino) == (stat_now.dev, stat_now.ino) => Ok((below, stat_now)),
            _ => Err(format!(
                "descriptor {fd}: {shown} can't be found again in the directory '{guest}' (deleted or replaced?)"
            )),
        }
    }

    /// Puts a state back: the program's own arguments and environment, the grants of `config`.
    pub fn restore(state: &WasiState, config: &WasiConfig) -> Result<Wasi, RestoreError> {
        let mut problems = Vec::new();
        let mut restore = Restore {
            state,
            grants: open_grants(state, config, &mut problems),
            warnings: Vec::new(),
        };
        let mut table = Table::default();
        let known: HashMap<u32, u64> = state.times.files.iter().map(|t| (t.fd, t.inode)).collect();
        let mut aliases = HashMap::new();
        for d in &state.descriptors {
            match restore.descriptor(d) {
                Err(problem) => problems.extend(problem),
                Ok(descriptor) => {
                    if let (Ok(stat), Some(&inode)) = (descriptor.stat(), known.get(&d.fd)) {
                        aliases.insert((stat.dev, stat.ino), inode);
                    }
                    if !table.insert_at(d.fd, descriptor) {
                        problems.push(RestoreProblem::Invalid {
                            fd: d.fd,
                            what: "its number is too great or occurs twice",
                        });
                    }
                }
            }
        }
        if !problems.is_empty() {
            return Err(RestoreError(problems));
        }
        // What isn't a file has inode 0, which means nothing.
        aliases.remove(&(0, 0));
        let (warnings, grants) = (restore.warnings, restore.grants);
        Ok(Wasi {
            args: state.args.clone(),
            env: state.env.clone(),
            grants,
            table,
            clocks: Clocks::from(&state.times),
            poll_started: state.times.poll_started,
            aliases,
            warnings,
        })
    }
}

/// Opens the grants that the state's descriptors refer to: those of the same name among this machine's, the first for the first.
fn open_grants(state: &WasiState, config: &WasiConfig, problems: &mut Vec<RestoreProblem>) -> Vec<GrantedDir> {
    let used = state.descriptors.iter().filter_map(|d| match &d.resource {
        state::Resource::Directory { grant, .. } | state::Resource::File { grant, .. } => Some(*grant),
        state::Resource::Stdio { .. } => None,
    });
    let used: HashSet<u32> = used.collect();
    let mut taken = vec![false; config.grants.len()];
    let mut open = |(index, guest): (u32, &String)| {
        let mut granted = GrantedDir {
            guest: guest.clone(),
            dir: None,
        };
        let ours = config
            .grants
            .iter()
            .zip(&mut taken)
            .find(|(g, taken)| g.guest == *guest && !**taken);
        let ours = ours.map(|(g, taken)| {
            *taken = true;
            g
        });
        let used = used.contains(&index);
        match (ours.map(open_grant), used) {
            (Some(Ok(dir)), _) => granted.dir = Some(Arc::new(dir)),
            (Some(Err(e)), true) => problems.push(e.into()),
            (None, true) => problems.push(RestoreProblem::MissingGrant(guest.clone())),
            (Some(Err(_)) | None, false) => {}
        }
        granted
    };
    (0u32..).zip(&state.grants).map(&mut open).collect()
}

struct Restore<'a> {
    state: &'a WasiState,
    grants: Vec<GrantedDir>,
    warnings: Vec<String>,
}

impl Restore<'_> {
    /// One descriptor. An error without a problem has been reported with its grant.
    fn descriptor(&mut self, d: &state::Descriptor) -> Result<Descriptor, Option<RestoreProblem>> {
        let invalid = |what| Err(Some(RestoreProblem::Invalid { fd: d.fd, what }));
        if d.fd >= MAX_DESCRIPTORS {
            return invalid("its number is too great");
        }
        if d.flags & !ALL_FLAGS != 0 {
            return invalid("unknown flags");
        }
        match &d.resource {
            state::Resource::Stdio { stream, offset } => {
                let mut descriptor = Descriptor::stdio(*stream);
                descriptor.rights &= d.rights;
                descriptor.flags = d.flags;
                if let (Stdio::Stdin, HostKind::Regular, Some(offset)) = (stream, descriptor.kind, offset) {
                    self.advance_stdin(&descriptor, *offset);
                }
                Ok(descriptor)
            }
            state::Resource::Directory {
                grant,
                path,
                preopened,
                listing,
            } => {
                if !valid_path(path) || (*preopened && !path.is_empty()) {
                    return invalid("not a path below a granted directory");
                }
                let listing = match listing.as_deref().map(Listing::from_names) {
                    Some(None) => return invalid("a directory can't have such names in it"),
                    Some(listing) => listing,
                    None => None,
                };
                let root = self.grant(d.fd, *grant)?;
                let file = match path.is_empty() {
                    true => root,
                    false => {
                        let dir = open_directory(&root, path, FollowSymlinks::No);
                        Arc::new(dir.map_err(|e| match e {
                            Errno::NotDir | Errno::Loop => self.kind(*grant, path, "directory"),
                            e => self.open_failed(*grant, path, e),
                        })?)
                    }
                };
                Ok(Descriptor {
                    resource: Resource::Directory(Directory {
                        grant: *grant,
                        preopened: *preopened,
                        file,
                        listing,
                    }),
                    kind: HostKind::Directory,
                    rights: d.rights & rights::DIRECTORY,
                    inheriting: d.inheriting & rights::ALL,
                    flags: d.flags,
                })
            }
            state::Resource::File {
                grant,
                path,
                offset,
                size,
            } => {
                if !valid_path(path) || path.is_empty() {
                    return invalid("not a path below a granted directory");
                }
                if i64::try_from(*offset).is_err() {
                    return invalid("its position is too great");
                }
                let root = self.grant(d.fd, *grant)?;
                let (read, write) = (d.rights & FD_READ != 0, d.rights & FD_WRITE != 0);
                let access = Access {
                    read,
                    write,
                    flags: d.flags,
                    follow: FollowSymlinks::No,
                };
                let file = open_existing(&root, path, access).map_err(|e| match e {
                    Errno::Loop | Errno::IsDir => self.kind(*grant, path, "file"),
                    e => self.open_failed(*grant, path, e),
                })?;
                if HostKind::of(file.as_fd()) != HostKind::Regular {
                    return Err(self.kind(*grant, path, "file"));
                }
                self.seek(*grant, path, &file, *offset, *size)?;
                let unused = if write { 0 } else { rights::WRITER };
                let rights = d.rights & rights::FILE & !unused;
                let resource = Resource::File { grant: *grant, file };
                Ok(Descriptor {
                    resource,
                    kind: HostKind::Regular,
                    rights,
                    inheriting: 0,
                    flags: d.flags,
                })
            }
        }
    }

    fn grant(&self, fd: u32, grant: u32) -> Result<Arc<File>, Option<RestoreProblem>> {
        match self.grants.get(grant as usize) {
            Some(granted) => granted.dir.clone().ok_or(None),
            None => Err(Some(RestoreProblem::Invalid {
                fd,
                what: "no such granted directory in the state",
            })),
        }
    }

    fn seek(&mut self, grant: u32, path: &str, file: &File, offset: u64, size: u64) -> Result<(), Option<RestoreProblem>> {
        rustix::fs::seek(file, SeekFrom::Start(offset)).map_err(|e| self.open_failed(grant, path, e.into()))?;
        match Stat::of_fd(file.as_fd()) {
            Ok(now) if now.size != size => {
                let guest = self.guest(grant);
                self.warnings.push(format!(
                    "'{path}' in the directory '{guest}' has {} bytes, and had {size} when it was open",
                    now.size
                ));
            }
            _ => {}
        }
        Ok(())
    }

    /// Standard input that is a file is read on from where the program was, unless whoever started this process has already moved it.
    fn advance_stdin(&mut self, stdin: &Descriptor, offset: u64) {
        let fd = stdin.host();
        let size = Stat::of_fd(fd).map_or(0, |s| s.size);
        if rustix::fs::tell(fd) == Ok(0) && offset <= size {
            let _ = rustix::fs::seek(fd, SeekFrom::Start(offset));
        } else if offset > size {
            self.warnings.push(format!(
                "standard input has {size} bytes, and the program had already read {offset}"
            ));
        }
    }

    fn guest(&self, grant: u32) -> String {
        self.state.grants.get(grant as usize).cloned().unwrap_or_default()
    }

    fn open_failed(&self, grant: u32, path: &str, errno: Errno) -> Option<RestoreProblem> {
        let why = match errno {
            Errno::Perm => "its path leads out of the directory".to_owned(),
            errno => errno.to_string(),
        };
        Some(RestoreProblem::Open {
            guest: self.guest(grant),
            path: path.to_owned(),
            why,
        })
    }

    fn kind(&self, grant: u32, path: &str, was: &'static str) -> Option<RestoreProblem> {
        Some(RestoreProblem::Kind {
            guest: self.guest(grant),
            path: path.to_owned(),
            was,
        })
    }
}

/// Whether a state's path is in the one form that a captured path has: names joined by `/`.
fn valid_path(path: &str) -> bool {
    path.is_empty()
        || path
            .split('/')
            .all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0'))
}
