//! Taking the state out. What is captured names no resource of the host; nothing changes, and the program may go on
//! here.

use crate::journal::FileId;
use crate::wasi::calls::clock::Clock;
use crate::wasi::calls::dir::Listing;
use crate::wasi::calls::path::{proc_path, stat};
use crate::wasi::changes::place::strip_root;
use crate::wasi::errno::Errno;
use crate::wasi::host::{FileType, HostKind, Stat};
use crate::wasi::moving::gather::Gathered;
use crate::wasi::moving::obstacle::Obstacle;
use crate::wasi::table::{Descriptor, Resource};
use crate::wasi::{GrantedDir, Wasi};
use cap_primitives::fs::{self as sandbox, FollowSymlinks};
use dunlin_migrate::state::files::Identity;
use dunlin_migrate::state::wasi::{self as state, FileTimes, Stdio, Times, WasiState};
use rustix::fs::AtFlags;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Names looked at to find a file again whose own name is gone, at most.
const MOST_SEARCHED: usize = 1 << 18;

/// The program has something that can't move: everything that is in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the program can't be moved now: {}", list(.0))]
pub struct CaptureError(pub Vec<Obstacle>);

fn list(obstacles: &[Obstacle]) -> String {
    obstacles.iter().map(Obstacle::to_string).collect::<Vec<_>>().join("; ")
}

/// A descriptor's state as far as it is known without reading any file.
enum Described {
    /// All of it, and the attributes of a directory.
    Ready(state::Resource, Option<Stat>),
    /// A file with a name.
    File {
        grant: u32,
        path: String,
        offset: u64,
        stat: Stat,
    },
    /// A file without one.
    Unlinked { grant: u32, offset: u64, stat: Stat },
}

/// Every descriptor's state, the times and identities of open files, and what can't move.
#[derive(Default)]
struct Description {
    descriptors: Vec<state::Descriptor>,
    times: Vec<FileTimes>,
    identities: Vec<Identity>,
    obstacles: Vec<Obstacle>,
}

impl Wasi {
    /// All that stands in the way of moving the program now; empty if it can be moved. No file is read.
    pub fn obstacles(&self) -> Vec<Obstacle> {
        let mut gathered = Gathered::new(self, false);
        let mut obstacles = self.describe_all(&mut gathered).obstacles;
        obstacles.extend(gathered.finish().1);
        obstacles
    }

    /// The state, the list of carried files included. Their contents are read now for their hashes, and again when they
    /// are written: see [`Wasi::contents`].
    pub fn capture(&self) -> Result<WasiState, CaptureError> {
        let (state, obstacles) = self.examine();
        if !obstacles.is_empty() {
            return Err(CaptureError(obstacles));
        }
        self.remember_carried(&state.files);
        Ok(state)
    }

    /// The state without what can't move, and all that can't. A question: nothing is remembered of it.
    pub fn examine(&self) -> (WasiState, Vec<Obstacle>) {
        let mut gathered = Gathered::new(self, true);
        let mut described = self.describe_all(&mut gathered);
        let (mut files, obstacles) = gathered.finish();
        described.obstacles.extend(obstacles);
        files.identities = described.identities;
        files.listeners.clone_from(&self.listeners);
        let times = Times {
            monotonic: self.clocks.now(Clock::Monotonic),
            process_cpu: self.clocks.now(Clock::ProcessCpu),
            thread_cpu: self.clocks.now(Clock::ThreadCpu),
            poll_started: self.poll_started,
            files: described.times,
        };
        let state = WasiState {
            args: self.args.clone(),
            env: self.env.clone(),
            grants: self.grants.iter().map(|g| g.guest.clone()).collect(),
            descriptors: described.descriptors,
            times,
            files,
        };
        (state, described.obstacles)
    }

    /// Every descriptor's state, with the times and identities of open files; what has to be carried goes to
    /// `gathered`.
    fn describe_all(&self, gathered: &mut Gathered<'_>) -> Description {
        let mut all = Description::default();
        for (fd, d) in self.table.iter() {
            let described = match self.describe(fd, d) {
                Ok(described) => described,
                Err(obstacle) => {
                    all.obstacles.push(obstacle);
                    continue;
                }
            };
            let (resource, stat) = match described {
                Described::Ready(resource, stat) => {
                    if let state::Resource::Directory { grant, path, .. } = &resource {
                        gathered.directory(*grant, path);
                    }
                    (resource, stat)
                }
                Described::File {
                    grant,
                    path,
                    offset,
                    stat,
                } => {
                    match self.mode(grant).carries() {
                        true => gathered.file(grant, &path),
                        false => all.identities.extend(gathered.identity(fd, d.host(), &stat)),
                    }
                    let size = stat.size;
                    let resource = state::Resource::File {
                        grant,
                        path,
                        offset,
                        size,
                    };
                    (resource, Some(stat))
                }
                Described::Unlinked { grant, offset, stat } => {
                    let file = gathered.unlinked(fd, grant, d.host(), &stat);
                    (state::Resource::Unlinked { file, offset }, Some(stat))
                }
            };
            all.descriptors.push(state::Descriptor {
                fd,
                rights: d.rights,
                inheriting: d.inheriting,
                flags: d.flags,
                resource,
            });
            all.times.extend(stat.map(|s| FileTimes {
                fd,
                modified: s.modified,
                inode: self.inode(s.dev, s.ino),
            }));
        }
        all
    }

    /// One descriptor; or why it can't move.
    fn describe(&self, fd: u32, d: &Descriptor) -> Result<Described, Obstacle> {
        let position = || rustix::fs::tell(d.host()).map_err(Obstacle::host(fd, "its position is unknown"));
        match &d.resource {
            Resource::Stdio(stream) => {
                let offset = (*stream == Stdio::Stdin && d.kind == HostKind::Regular)
                    .then(position)
                    .transpose()?;
                Ok(Described::Ready(
                    state::Resource::Stdio {
                        stream: *stream,
                        offset,
                    },
                    None,
                ))
            }
            Resource::Directory(dir) => {
                let (path, stat) = match dir.preopened {
                    true => {
                        let stat = d.stat().map_err(Obstacle::host(fd, "its attributes are unknown"))?;
                        (String::new(), stat)
                    }
                    false => self.path_of(fd, dir.grant, d.host())?,
                };
                let resource = state::Resource::Directory {
                    grant: dir.grant,
                    path,
                    preopened: dir.preopened,
                    listing: dir.listing.as_ref().map(Listing::names),
                };
                Ok(Described::Ready(resource, Some(stat)))
            }
            Resource::File { grant, .. } => {
                if d.kind != HostKind::Regular {
                    return Err(Obstacle::Special { fd });
                }
                let grant = *grant;
                let stat = d.stat().map_err(Obstacle::host(fd, "its attributes are unknown"))?;
                let offset = position()?;
                let (dev, ino) = (stat.dev, stat.ino);
                if self.changes.links(FileId { dev, ino }, stat.links) == 0 {
                    self.root(fd, grant)?;
                    return Ok(Described::Unlinked { grant, offset, stat });
                }
                let (path, stat) = self.path_of(fd, grant, d.host())?;
                Ok(Described::File {
                    grant,
                    path,
                    offset,
                    stat,
                })
            }
            Resource::Listener { index, .. } => Ok(Described::Ready(state::Resource::Listener { index: *index }, None)),
            Resource::Connection(_) => Err(Obstacle::Connection { fd }),
        }
    }

    fn root(&self, fd: u32, grant: u32) -> Result<(&str, &File), Obstacle> {
        match self.grants.get(grant as usize) {
            Some(GrantedDir {
                guest, dir: Some(root), ..
            }) => Ok((guest, root)),
            _ => Err(Obstacle::NotGranted { fd }),
        }
    }

    /// The path below its grant under which an open file or directory can be found again, checked by finding it; or why
    /// there is none. The kernel knows the path even if the file was renamed since it was opened.
    fn path_of(&self, fd: u32, grant: u32, file: BorrowedFd<'_>) -> Result<(String, Stat), Obstacle> {
        let (guest, root) = self.root(fd, grant)?;
        let guest = guest.to_owned();
        let real = |file: BorrowedFd<'_>| {
            let path = rustix::fs::readlink(proc_path(file), Vec::new());
            path.map(std::ffi::CString::into_bytes)
                .map_err(Obstacle::host(fd, "/proc/self/fd can't be read"))
        };
        let stat_now = Stat::of_fd(file).map_err(Obstacle::host::<Errno>(fd, "its attributes are unknown"))?;
        let (root_path, path) = (real(root.as_fd())?, real(file)?);
        let shown = String::from_utf8_lossy(&path).into_owned();
        if stat_now.links == 0 {
            let path = shown.strip_suffix(" (deleted)").unwrap_or(&shown).to_owned();
            return Err(Obstacle::RemovedDirectory { fd, path });
        }
        let Some(below) = strip_root(&root_path, &path) else {
            return Err(Obstacle::Outside { fd, path: shown, guest });
        };
        let Ok(below) = String::from_utf8(below.to_vec()) else {
            return Err(Obstacle::NotUtf8 { path: shown, guest });
        };
        let found = stat(root, if below.is_empty() { "." } else { &below }, FollowSymlinks::No);
        let same = |found: &Stat| (found.dev, found.ino) == (stat_now.dev, stat_now.ino);
        if found.is_ok_and(|found| same(&found)) {
            return Ok((below, stat_now));
        }
        // The kernel knows the name that it was opened by; a file may have others.
        match self.another_name(grant, root, &stat_now) {
            Some(path) => Ok((path, stat_now)),
            None => Err(Obstacle::Lost { fd, path: shown, guest }),
        }
    }

    /// Any name of a file below a grant: among those that the program has touched, or wherever it is.
    fn another_name(&self, grant: u32, root: &File, file: &Stat) -> Option<String> {
        if file.file_type != FileType::RegularFile {
            return None;
        }
        let same = |found: &Stat| (found.dev, found.ino) == (file.dev, file.ino);
        let touched = self.touched.there(grant).into_iter();
        let mut touched = touched.filter_map(|(path, _)| String::from_utf8(path).ok());
        let is_name = |path: &String| stat(root, path, FollowSymlinks::No).is_ok_and(|found| same(&found));
        touched.find(is_name).or_else(|| self.find(grant, root, &same))
    }
    /// Looks through all of a grant for a file, but for what is hidden in it; gives up when there are very many.
    fn find(&self, grant: u32, root: &File, is_it: &dyn Fn(&Stat) -> bool) -> Option<String> {
        let mut left = MOST_SEARCHED;
        let mut pending = vec![String::new()];
        while let Some(path) = pending.pop() {
            let dir = sandbox::open_dir_nofollow(root, Path::new(if path.is_empty() { "." } else { &path }));
            let Ok(dir) = dir.map(crate::wasi::calls::open::readable) else {
                continue;
            };
            let Ok(names) = rustix::fs::Dir::read_from(&dir) else {
                continue;
            };
            let here = self.name_of_directory(grant, &dir);
            let mut names: Vec<_> = names.filter_map(Result::ok).collect();
            // The same one each time.
            names.sort_by(|a, b| a.file_name().cmp(b.file_name()));
            for entry in names {
                left = left.checked_sub(1)?;
                let (name, found) = (
                    entry.file_name(),
                    rustix::fs::statat(&dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW),
                );
                let (Ok(name), Ok(found)) = (name.to_str(), found.map(|s| Stat::of_host(&s))) else {
                    continue;
                };
                if matches!(name, "." | "..") || !self.shows(&here, name.as_bytes()) {
                    continue;
                }
                let below = if path.is_empty() {
                    name.to_owned()
                } else {
                    format!("{path}/{name}")
                };
                match found.file_type {
                    FileType::RegularFile if is_it(&found) => return Some(below),
                    FileType::Directory => pending.push(below),
                    _ => {}
                }
            }
        }
        None
    }
}
