//! Putting a state back on another machine.
//!
//! A restored state is hostile: it may name any grant, path, right and number. So a grant is found only among those of
//! the person who resumes; a path is resolved with the sandbox that serves the program itself, and opening never
//! creates or truncates; what it names must be a regular file or a directory again, and the same one; rights may be no
//! more than a fresh program could have; numbers are checked before they are used. Carried files are written (by
//! `place`) only into directories granted for that, and only after all else that can be checked has been.

use crate::wasi::calls::dir::Listing;
use crate::wasi::calls::open::{Access, open_directory, open_existing};
use crate::wasi::changes::change::Opened;
use crate::wasi::changes::touched::Touched;
use crate::wasi::errno::Errno;
use crate::wasi::host::{HostKind, Stat};
use crate::wasi::moving::place;
use crate::wasi::moving::settle;
use crate::wasi::rights::{self, FD_READ};
use crate::wasi::table::{ALL_FLAGS, Descriptor, Directory, Resource};
use crate::wasi::{GrantedDir, Wasi, WasiError, open_grant};
use cap_primitives::fs::FollowSymlinks;
use dunlin_interface::exit::{BAD_SNAPSHOT, NOT_HERE};
use dunlin_interface::options::WasiConfig;
use dunlin_migrate::snapshot::{Contents, NoContents, SnapshotError};
use dunlin_migrate::state::files::{FilesError, GrantMode, Identity, is_below};
use dunlin_migrate::state::wasi::{self as state, MAX_DESCRIPTORS, Stdio, WasiState, WasiStateError};
use rustix::fs::SeekFrom;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

/// A state can't be put back on this machine; every reason at once.
#[derive(Debug, thiserror::Error)]
#[error("{}", list(.0))]
pub struct RestoreError(pub Vec<RestoreProblem>);

impl RestoreError {
    /// The exit code: is the state itself bad, or does this machine lack something?
    pub fn exit_code(&self) -> i32 {
        let bad = |p: &RestoreProblem| {
            matches!(
                p,
                RestoreProblem::Invalid { .. }
                    | RestoreProblem::State(_)
                    | RestoreProblem::Files(_)
                    | RestoreProblem::Contents(_)
            )
        };
        if self.0.iter().any(bad) { BAD_SNAPSHOT } else { NOT_HERE }
    }
}

fn list(problems: &[RestoreProblem]) -> String {
    problems
        .iter()
        .map(RestoreProblem::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// One reason why a state can't be put back on this machine.
#[derive(Debug, thiserror::Error)]
pub enum RestoreProblem {
    /// A grant that the program uses is not among this machine's.
    #[error("the program uses the directory '{0}': say which one that is here with --dir HOST::{0}")]
    MissingGrant(String),
    /// Files are to be restored into a grant that isn't there, or wasn't given for that.
    #[error(
        "the snapshot brings files of the directory '{guest}': say where to put them here with --{option} HOST::{guest} \
         (files of the same names there are replaced)"
    )]
    NowhereToPut {
        /// The grant's name.
        guest: String,
        /// The option under which they were carried.
        option: &'static str,
    },
    /// The program listens on an address.
    #[error("the program listens on {0}: say where it listens here with --tcplisten ADDRESS:PORT")]
    MissingListener(String),
    /// A shared file is not as it was.
    #[error(
        "'{path}' in the directory '{guest}' is not the file that was open: {how}; put that one there, or go on with this one with \
         --accept-changed"
    )]
    Changed {
        /// The grant's name.
        guest: String,
        /// The path below it.
        path: String,
        /// In what it differs.
        how: String,
    },
    /// Others have changed, since the snapshot, what would be replaced or removed.
    #[error(
        "'{path}' in the directory '{guest}' was changed by someone else since the snapshot, and would be replaced: start the program again \
         with --accept-changed, and what is there now is kept under another name"
    )]
    Others {
        /// The grant's name.
        guest: String,
        /// The path below it.
        path: String,
    },
    /// A carried file can't be put where it belongs.
    #[error("'{path}' can't be put into the directory '{guest}': {why}")]
    Put {
        /// The grant's name.
        guest: String,
        /// The path below it.
        path: String,
        /// Why.
        why: String,
    },
    /// Carried files need more room than there is.
    #[error("the files that the snapshot brings need {need} bytes in the directory '{guest}', and {free} are free")]
    Room {
        /// The grant's name.
        guest: String,
        /// Bytes that are to be written there.
        need: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The state is damaged or forged.
    #[error(transparent)]
    State(#[from] WasiStateError),
    /// The list of carried files is damaged or forged.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A carried file's contents can't be had.
    #[error(transparent)]
    Contents(#[from] SnapshotError),
    /// A granted directory can't be opened.
    #[error(transparent)]
    Grant(#[from] WasiError),
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
    /// There are no descriptors left for what is open.
    #[error(
        "'{path}' in the directory '{guest}' was open, and no more files can be open here (the limit of descriptors is reached)"
    )]
    Descriptors {
        /// The grant's name.
        guest: String,
        /// The path below it.
        path: String,
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
    /// Puts a state back that carries no contents; see [`Wasi::restore_with`].
    pub fn restore(state: &WasiState, config: &WasiConfig) -> Result<Wasi, RestoreError> {
        Wasi::restore_with(state, config, &NoContents)
    }

    /// Puts a state back: the program's own arguments and environment, the grants of `config`, and carried files with
    /// their `contents`.
    pub fn restore_with(state: &WasiState, config: &WasiConfig, contents: &dyn Contents) -> Result<Wasi, RestoreError> {
        let files = &state.files;
        let (mut restore, later) = Restore::begin(state, config)?;
        if !restore.problems.is_empty() {
            return Err(RestoreError(restore.problems));
        }
        let (mut stage, told) = place::prepare(state, &restore.wasi.grants, contents, config).map_err(RestoreError)?;
        restore.wasi.warnings.extend(told);
        restore.unlinked = settle::unlinked(files, &restore.wasi.grants, contents).map_err(RestoreError)?;
        stage.put(&restore.wasi.grants, config.back).map_err(RestoreError)?;
        restore.descriptors(&later);
        let Restore {
            mut wasi,
            problems,
            unlinked,
            stdin,
            ..
        } = restore;
        if !problems.is_empty() {
            // With that, the stage puts everything back.
            return Err(RestoreError(problems));
        }
        let mut placed = stage.finish(files, &wasi);
        wasi.warnings.extend(placed.settle(files, &wasi.grants, &unlinked));
        wasi.warnings.extend(stdin.and_then(advance_stdin));
        wasi.take(state);
        wasi.touched = Touched::new(wasi.grants.iter().map(|g| g.mode));
        wasi.touched.restored(files);
        for (stat, list) in placed.known(files, &wasi.grants) {
            wasi.touched.know(&stat, list);
        }
        wasi.remember(files);
        Ok(wasi)
    }

    /// Refuses a state whose directories are not granted here, or that contradicts itself. No file is looked at: until
    /// they are taken back to where they were, they may be others, and so may a directory that is granted.
    pub fn check_grants(state: &WasiState, config: &WasiConfig) -> Result<(), RestoreError> {
        check(state)?;
        let mut problems = Vec::new();
        open_grants(state, config, &mut problems);
        problems.retain(|p| !matches!(p, RestoreProblem::Grant(_)));
        match problems.is_empty() {
            true => Ok(()),
            false => Err(RestoreError(problems)),
        }
    }

    /// All for which [`Wasi::restore_with`] would refuse a state. Nothing on this machine is changed.
    pub fn restore_problems(state: &WasiState, config: &WasiConfig, contents: &dyn Contents) -> Vec<RestoreProblem> {
        let (mut restore, later) = match Restore::begin(state, config) {
            Ok(begun) => begun,
            Err(RestoreError(problems)) => return problems,
        };
        let brought: HashSet<(u32, &str)> = state.files.nodes.iter().map(|n| (n.grant, n.path.as_str())).collect();
        let is_there = |d: &&state::Descriptor| match &d.resource {
            state::Resource::File { grant, path, .. } | state::Resource::Directory { grant, path, .. } => {
                !brought.contains(&(*grant, path.as_str()))
            }
            _ => false,
        };
        let there: Vec<_> = later.into_iter().filter(is_there).collect();
        restore.descriptors(&there);
        let mut problems = restore.problems;
        problems.extend(place::obstacles(state, &restore.wasi.grants, contents));
        problems
    }
}

/// Refuses a state that contradicts itself.
fn check(state: &WasiState) -> Result<(), RestoreError> {
    state.check().map_err(|e| RestoreError(vec![e.into()]))?;
    let files = state.files.check(state.grants.len());
    files.map_err(|e| RestoreError(vec![e.into()]))
}

/// Whether a descriptor can only be opened once carried files are there.
fn restore_is_carried(state: &WasiState, d: &state::Descriptor) -> bool {
    match &d.resource {
        state::Resource::Unlinked { .. } => true,
        state::Resource::File { grant, .. } => state.files.mode(*grant).carries(),
        state::Resource::Directory { grant, path, .. } => state.files.mode(*grant).carries() && !path.is_empty(),
        _ => false,
    }
}

/// Opens the grants that the state refers to: those of the same name among this machine's, the first for the first.
fn open_grants(state: &WasiState, config: &WasiConfig, problems: &mut Vec<RestoreProblem>) -> Vec<GrantedDir> {
    let files = &state.files;
    let of_descriptors = state.descriptors.iter().filter_map(|d| match &d.resource {
        state::Resource::Directory { grant, .. } | state::Resource::File { grant, .. } => Some(*grant),
        state::Resource::Unlinked { file, .. } => files.unlinked.get(*file as usize).map(|u| u.grant),
        state::Resource::Stdio { .. } | state::Resource::Listener { .. } => None,
    });
    let carrying: HashSet<u32> = files.nodes.iter().map(|n| n.grant).collect();
    let used: HashSet<u32> = of_descriptors.chain(carrying.iter().copied()).collect();
    let mut taken = vec![false; config.grants.len()];
    let mut open = |(index, guest): (u32, &String)| {
        let was = files.mode(index);
        let mut granted = GrantedDir {
            guest: guest.clone(),
            dir: None,
            mode: was,
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
        if let Some(ours) = ours {
            granted.mode = ours.mode;
        }
        let brings = was == GrantMode::CarryAll || carrying.contains(&index);
        if used.contains(&index) && brings && ours.is_none_or(|g| !g.mode.carries()) {
            problems.push(RestoreProblem::NowhereToPut {
                guest: guest.clone(),
                option: was.option(),
            });
            return granted;
        }
        match (ours.map(open_grant), used.contains(&index)) {
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
    config: &'a WasiConfig,
    identities: HashMap<u32, &'a Identity>,
    wasi: Wasi,
    /// Files without a name, by index.
    unlinked: Vec<File>,
    stdin: Option<u64>,
    problems: Vec<RestoreProblem>,
}

impl<'a> Restore<'a> {
    /// Opens everything that must be here already. Returns what can only be opened once carried files are there.
    fn begin(
        state: &'a WasiState,
        config: &'a WasiConfig,
    ) -> Result<(Restore<'a>, Vec<&'a state::Descriptor>), RestoreError> {
        let files = &state.files;
        check(state)?;
        let mut problems = Vec::new();
        let grants = open_grants(state, config, &mut problems);
        let mut restore = Restore {
            state,
            config,
            identities: files.identities.iter().map(|i| (i.fd, i)).collect(),
            wasi: Wasi {
                grants,
                ..Wasi::empty()
            },
            unlinked: Vec::new(),
            stdin: None,
            problems,
        };
        if let Err(e) = restore.wasi.hide_snapshots(config) {
            restore.problems.push(WasiError::from(e).into());
        }
        let carried = |d: &&state::Descriptor| restore_is_carried(state, d);
        let (later, now): (Vec<_>, Vec<_>) = state.descriptors.iter().partition(carried);
        restore.descriptors(&now);
        Ok((restore, later))
    }

    fn descriptors(&mut self, descriptors: &[&state::Descriptor]) {
        for d in descriptors {
            match self.descriptor(d) {
                Err(problem) => self.problems.extend(problem),
                Ok(descriptor) => {
                    if !self.wasi.table.insert_at(d.fd, descriptor) {
                        self.problems.push(RestoreProblem::Invalid {
                            fd: d.fd,
                            what: "its number is too great or occurs twice",
                        });
                    }
                }
            }
        }
    }

    /// One descriptor. An error without a problem has been reported with its grant.
    fn descriptor(&mut self, d: &state::Descriptor) -> Result<Descriptor, Option<RestoreProblem>> {
        let invalid = |what| Err(Some(RestoreProblem::Invalid { fd: d.fd, what }));
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
        match &d.resource {
            state::Resource::Stdio { stream, offset } => {
                let mut descriptor = Descriptor::stdio(*stream);
                (descriptor.rights, descriptor.flags) = (d.rights, d.flags);
                if let (Stdio::Stdin, HostKind::Regular, Some(offset)) = (stream, descriptor.kind, offset) {
                    self.stdin = Some(*offset);
                }
                Ok(descriptor)
            }
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
                    rights: d.rights,
                    inheriting: d.inheriting,
                    flags: d.flags,
                })
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
                let root = self.grant(d.fd, *grant)?;
                let file = open_existing(&root, path, access(d)).map_err(|e| match e {
                    Errno::Loop | Errno::IsDir => self.kind(*grant, path, "file"),
                    e => self.open_failed(*grant, path, e),
                })?;
                if HostKind::of(file.as_fd()) != HostKind::Regular {
                    return Err(self.kind(*grant, path, "file"));
                }
                seek(d.fd, &file, *offset)?;
                self.compare(d.fd, *grant, path, &file, *size)?;
                Ok(opened_file(d, *grant, file))
            }
            state::Resource::Unlinked { file: index, offset } => {
                let (Some(unlinked), Some(original)) = (
                    self.state.files.unlinked.get(*index as usize),
                    self.unlinked.get(*index as usize),
                ) else {
                    return invalid("no such file without a name in the state");
                };
                let file = settle::reopen_unlinked(original, access(d)).map_err(|e| {
                    Some(RestoreProblem::Put {
                        guest: self.guest(unlinked.grant),
                        path: format!("the deleted file of descriptor {}", d.fd),
                        why: e.to_string(),
                    })
                })?;
                seek(d.fd, &file, *offset)?;
                Ok(opened_file(d, unlinked.grant, file))
            }
            state::Resource::Listener { index } => {
                let Some(was) = self.state.files.listeners.get(*index as usize) else {
                    return invalid("no such listening socket in the state");
                };
                let Some(address) = self.config.listen.get(*index as usize) else {
                    return Err(Some(RestoreProblem::MissingListener(was.clone())));
                };
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

    fn grant(&self, fd: u32, grant: u32) -> Result<Arc<File>, Option<RestoreProblem>> {
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
        let how = match self.identities.get(&fd) {
            Some(was) => self.wasi.hashes.difference(was, file.as_fd(), &now),
            // Of version 1, which knew no more.
            None => (now.size != size).then(|| format!("it has {} bytes, and had {size}", now.size)),
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
        let why = match errno {
            Errno::Perm => "its path leads out of the directory".to_owned(),
            errno => errno.to_string(),
        };
        let (guest, path) = (self.guest(grant), path.to_owned());
        Some(match errno {
            Errno::Mfile | Errno::Nfile => RestoreProblem::Descriptors { guest, path },
            _ => RestoreProblem::Open { guest, path, why },
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

/// Standard input that is a file is read on from where the program was, unless whoever started this process has already
/// moved it. Returns a warning.
fn advance_stdin(offset: u64) -> Option<String> {
    let fd = rustix::stdio::stdin();
    let size = Stat::of_fd(fd).map_or(0, |s| s.size);
    if offset > size {
        return Some(format!(
            "standard input has {size} bytes, and the program had already read {offset}"
        ));
    }
    if rustix::fs::tell(fd) == Ok(0) {
        let _ = rustix::fs::seek(fd, SeekFrom::Start(offset));
    }
    None
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
    let what = "its position is too great";
    let invalid = || Some(RestoreProblem::Invalid { fd, what });
    if i64::try_from(offset).is_err() {
        return Err(invalid());
    }
    rustix::fs::seek(file, SeekFrom::Start(offset))
        .map(drop)
        .map_err(|_| invalid())
}
