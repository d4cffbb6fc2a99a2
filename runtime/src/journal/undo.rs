//! Undoing records, from the last to the first.
//!
//! Each step may be done again: after it, the journal is cut in front of the record, and whoever is killed between the
//! two does it once more. Contents are put back in any number before the journal is cut, because nothing gets or loses
//! a name meanwhile.

use super::conflict::{Conflict, How, Roots, id_of, look, path, says};
use super::files::{copy_range, keep_name, open_dir, read_some};
use super::marker::Marker;
use super::record::{Attributes, FileId, Kind, Name, Placed, Record, Was};
use super::world::{Expected, Location, World};
use cap_primitives::fs::{self as sandbox, DirOptions, FollowSymlinks, MetadataExt, OpenOptions, OpenOptionsExt};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

/// Bytes of a file after which it is noted that the step goes on.
const COPIED_AT_ONCE: u64 = 64 << 20;

/// A step of going back that failed. The files are between two moments; going back again goes on from here.
#[derive(Debug, thiserror::Error)]
#[error("'{name}' can't be taken back: {source}")]
pub struct UndoError {
    /// What it was about.
    pub name: String,
    /// Why it failed.
    pub source: io::Error,
}

/// Undoes the records of one journal after another.
#[derive(Debug)]
pub struct Undo<'a> {
    dir: &'a File,
    roots: &'a Roots,
    world: &'a mut World,
    /// The file whose contents are being put back.
    opened: Option<((u64, u32), Option<File>)>,
    /// What was made anew, and which file it is now.
    anew: HashMap<FileId, FileId>,
    /// Where steps are noted; nothing is undone before it is there.
    pub marker: Option<Marker>,
    /// What a person should know.
    pub told: Vec<String>,
}

impl<'a> Undo<'a> {
    /// `world` is as all the records make it. `anew`: what was made anew before this was interrupted.
    pub fn new(dir: &'a File, roots: &'a Roots, world: &'a mut World, anew: HashMap<FileId, FileId>) -> Undo<'a> {
        Undo {
            dir,
            roots,
            world,
            opened: None,
            anew,
            marker: None,
            told: Vec::new(),
        }
    }

    /// Undoes all records of a journal, which is cut to its header.
    pub fn journal(
        &mut self,
        number: u64,
        file: &File,
        begins: u64,
        records: &[Placed],
        durable: bool,
    ) -> Result<(), UndoError> {
        let cut = |at: u64, undo: &Undo<'_>| {
            if durable {
                undo.sync();
            }
            file.set_len(at).map_err(|source| UndoError {
                name: super::files::journal_name(number),
                source,
            })
        };
        for placed in records.iter().rev() {
            let busy = self.marker.as_ref().map_or(Ok(()), Marker::busy);
            busy.and_then(|()| self.one(number, file, placed))
                .map_err(|source| UndoError {
                    name: self.name_of(number, &placed.record),
                    source,
                })?;
            if placed.record.is_of_names() {
                self.opened = None;
                cut(placed.at, self)?;
            }
            self.world.revert(number, &placed.record);
        }
        self.opened = None;
        cut(begins, self)
    }

    /// Puts everything that was changed in granted directories on the disk.
    pub fn sync(&self) {
        for root in self.roots.iter().flatten() {
            let _ = rustix::fs::syncfs(root);
        }
    }

    fn name_of(&self, journal: u64, record: &Record) -> String {
        match record {
            Record::Created { name, .. } | Record::Removed { name, .. } | Record::Directory { name, .. } => {
                name.to_string()
            }
            Record::Renamed { to, .. } => to.to_string(),
            Record::File { index, .. }
            | Record::Data { index, .. }
            | Record::Hole { index, .. }
            | Record::Copy { index, .. } => match self.world.file(journal, *index) {
                Some((_, Location::At(name))) => name.to_string(),
                _ => "a removed file".into(),
            },
            Record::Born { name, .. } => name.to_string(),
            Record::Header(_) | Record::Touched { .. } | Record::Restored { .. } => String::new(),
        }
    }

    fn one(&mut self, journal: u64, file: &File, placed: &Placed) -> io::Result<()> {
        match &placed.record {
            Record::Header(_) | Record::Born { .. } | Record::Touched { .. } | Record::Restored { .. } => Ok(()),
            Record::Data { index, at } => {
                let (from, len) = placed.contents;
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, from)?;
                match self.contents(journal, *index)? {
                    Some(file) => file.write_all_at(&bytes, *at),
                    None => Ok(()),
                }
            }
            Record::Hole { index, at, len } => match self.contents(journal, *index)? {
                Some(file) => clear(file, *at, *len),
                None => Ok(()),
            },
            Record::Copy { index, at, len, kept } => {
                let keep = open_dir(self.dir, &keep_name(journal))?;
                let copy = super::files::open(&keep, &kept.to_string(), false)?;
                let mut done = 0;
                while done < *len {
                    let part = (*len - done).min(COPIED_AT_ONCE);
                    match self.contents(journal, *index)? {
                        Some(file) => copy_range(&copy, done, file, *at + done, part)?,
                        None => return Ok(()),
                    };
                    self.marker.as_ref().map_or(Ok(()), Marker::busy)?;
                    done += part;
                }
                Ok(())
            }
            Record::File {
                index,
                size,
                attributes,
                ..
            } => {
                // A file that is as it was may be one that can't be written.
                if !self.fits(journal, *index, *size, *attributes)?
                    && let Some(file) = self.contents(journal, *index)?
                {
                    if file.metadata()?.len() != *size {
                        file.set_len(*size)?;
                    }
                    set_attributes(file, *attributes)?;
                }
                self.opened = None;
                Ok(())
            }
            Record::Directory { name, attributes } => match self.root(name) {
                Some(root) => match any(root, name) {
                    // Programs can't change permissions, so those are others' business.
                    Ok(found) if !found.metadata()?.is_file() => set_times(&found, *attributes),
                    Ok(_) => Ok(()),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                    Err(e) => Err(e),
                },
                None => Ok(()),
            },
            Record::Created { name, kind } => self.created(name, *kind),
            Record::Removed {
                name,
                id,
                was,
                attributes,
            } => self.removed(journal, name, *id, was, *attributes),
            Record::Renamed { from, to, id } => {
                let there = look(self.roots, to)?.map(|f| id_of(&f));
                let back = look(self.roots, from)?.map(|f| id_of(&f));
                match (back, there) {
                    // It was never done, or has been undone.
                    (Some(back), _) if self.is(back, *id) => Ok(()),
                    (_, Some(there)) if self.is(there, *id) => {
                        if back.is_some() {
                            self.set_aside(from, How::Appeared)?;
                        }
                        let (Some(a), Some(b)) = (self.root(to), self.root(from)) else {
                            return Ok(());
                        };
                        sandbox::rename(a, path(to), b, path(from))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    fn root(&self, name: &Name) -> Option<&'a File> {
        self.roots.get(name.grant as usize)?.as_deref()
    }

    /// The file whose contents are put back, opened for writing; `None` if it is gone.
    fn contents(&mut self, journal: u64, index: u32) -> io::Result<Option<&File>> {
        let which = (journal, index);
        if self.opened.as_ref().is_none_or(|(opened, _)| *opened != which) {
            let file = self.open(which)?;
            self.opened = Some((which, file));
        }
        Ok(self.opened.as_ref().and_then(|(_, file)| file.as_ref()))
    }

    fn open(&self, (journal, index): (u64, u32)) -> io::Result<Option<File>> {
        let Some((id, location)) = self.world.file(journal, index) else {
            return Ok(None);
        };
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = match location {
            Location::Gone => return Ok(None),
            Location::Kept(number, kept) => open_dir(self.dir, &keep_name(*number)).and_then(|keep| {
                Ok(File::from(rustix::fs::openat(
                    &keep,
                    kept.to_string(),
                    flags,
                    Mode::empty(),
                )?))
            }),
            Location::At(name) => {
                // What others have put there is not ours to change.
                match look(self.roots, name)? {
                    Some(found) if self.is(id_of(&found), id) => {}
                    _ => return Ok(None),
                }
                let Some(root) = self.root(name) else { return Ok(None) };
                writable(root, name)
            }
        };
        match opened {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Is what was found the file that records know as `id`?
    fn is(&self, found: FileId, id: FileId) -> bool {
        found == *self.anew.get(&id).unwrap_or(&id)
    }

    /// What records know as `id` was made anew.
    fn made(&mut self, id: FileId, now: &impl AsFd) -> io::Result<()> {
        let is = FileId::of(&rustix::fs::fstat(now)?);
        if !self.is(is, id) {
            if let Some(marker) = &mut self.marker {
                marker.made(id, is)?;
            }
            self.anew.insert(id, is);
        }
        Ok(())
    }

    /// Does a file have this size and these attributes? Not asked of one that is open: it was just written.
    fn fits(&self, journal: u64, index: u32, size: u64, attributes: Attributes) -> io::Result<bool> {
        if self
            .opened
            .as_ref()
            .is_some_and(|(which, _)| *which == (journal, index))
        {
            return Ok(false);
        }
        let stat = match self.world.file(journal, index) {
            Some((id, Location::At(name))) => match (look(self.roots, name)?, self.root(name)) {
                (Some(found), Some(root)) if self.is(id_of(&found), id) => rustix::fs::fstat(any(root, name)?)?,
                _ => return Ok(true),
            },
            Some((_, Location::Kept(number, kept))) => {
                let stat = open_dir(self.dir, &keep_name(*number))
                    .and_then(|keep| Ok(rustix::fs::statat(&keep, kept.to_string(), AtFlags::SYMLINK_NOFOLLOW)?));
                match stat {
                    // Nobody goes back that far any more, and it had no other name: the snapshot has its contents.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
                    stat => stat?,
                }
            }
            Some((_, Location::Gone)) | None => return Ok(true),
        };
        Ok(u64::try_from(stat.st_size).unwrap_or(0) == size && Attributes::of(&stat) == attributes)
    }

    fn created(&mut self, name: &Name, kind: Kind) -> io::Result<()> {
        let Some(root) = self.root(name) else { return Ok(()) };
        let Some(found) = look(self.roots, name)? else {
            return Ok(());
        };
        if kind == Kind::Directory && found.is_dir() {
            return match sandbox::remove_dir(root, path(name)) {
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => self.set_aside(name, How::Inside),
                removed => removed,
            };
        }
        let ours = match (kind, self.world.names.get(name)) {
            (Kind::Directory, _) => false,
            (Kind::Symlink(target), _) => found.is_symlink() && says(root, name) == Some(target),
            (Kind::Link(id), _) | (Kind::File, Some(&Expected::This(id))) => self.is(id_of(&found), id),
            (Kind::File, _) => found.is_file() && found.len() == 0,
        };
        match ours {
            true => sandbox::remove_file(root, path(name)),
            false => self.set_aside(name, How::Replaced),
        }
    }

    fn removed(&mut self, journal: u64, name: &Name, id: FileId, was: &Was, attributes: Attributes) -> io::Result<()> {
        let Some(root) = self.root(name) else { return Ok(()) };
        let there = look(self.roots, name)?;
        match was {
            Was::New => Ok(()),
            Was::Linked(other) => {
                match there {
                    Some(found) if self.is(id_of(&found), id) => return Ok(()),
                    Some(_) => self.set_aside(name, How::Appeared)?,
                    None => {}
                }
                let Some(beside) = self.root(other) else { return Ok(()) };
                sandbox::hard_link(beside, path(other), root, path(name))
            }
            Was::Kept(kept) => self.put_back((journal, *kept), name, id, attributes),
            Was::Directory => {
                match there {
                    Some(found) if found.is_dir() => {}
                    Some(_) => {
                        self.set_aside(name, How::Appeared)?;
                        sandbox::create_dir(root, path(name), &DirOptions::new())?;
                    }
                    None => sandbox::create_dir(root, path(name), &DirOptions::new())?,
                }
                let dir = sandbox::open_dir_nofollow(root, path(name))?;
                self.made(id, &dir)?;
                set_attributes(&dir, attributes)
            }
            Was::Symlink(_) | Was::Pipe => {
                let same = match (&there, was) {
                    (None, _) => false,
                    (Some(found), Was::Symlink(target)) => {
                        found.is_symlink()
                            && sandbox::read_link_contents(root, path(name))?.as_os_str().as_bytes() == *target
                    }
                    (Some(found), _) => !found.is_file() && !found.is_dir() && !found.is_symlink(),
                };
                if there.is_some() && !same {
                    self.set_aside(name, How::Appeared)?;
                }
                let (dir, leaf) = parent_of(root, name)?;
                match was {
                    _ if same => {}
                    Was::Symlink(target) => rustix::fs::symlinkat(&target[..], &dir, &leaf[..])?,
                    _ => {
                        let mode = Mode::from_raw_mode(attributes.mode & 0o777);
                        rustix::fs::mknodat(&dir, &leaf[..], rustix::fs::FileType::Fifo, mode, 0)?;
                    }
                }
                self.made(id, &any(root, name)?)?;
                // Whoever made it may have been killed before this.
                let times = times(attributes);
                Ok(rustix::fs::utimensat(
                    &dir,
                    &leaf[..],
                    &times,
                    AtFlags::SYMLINK_NOFOLLOW,
                )?)
            }
        }
    }

    /// Gives a file that was kept its name back. `id`: which file it was.
    fn put_back(
        &mut self,
        (journal, kept): (u64, u32),
        name: &Name,
        id: FileId,
        attributes: Attributes,
    ) -> io::Result<()> {
        let Some(root) = self.root(name) else { return Ok(()) };
        let kept = kept.to_string();
        let keep = match open_dir(self.dir, &keep_name(journal)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            keep => keep?,
        };
        let from = match rustix::fs::statat(&keep, &*kept, AtFlags::SYMLINK_NOFOLLOW) {
            // It has been put back.
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            from => FileId::of(&from?),
        };
        if let Some(found) = look(self.roots, name)? {
            // The removal was recorded and not made; or the file was put back as a copy right before this was
            // interrupted.
            let copy = rustix::fs::statat(&keep, &*kept, AtFlags::SYMLINK_NOFOLLOW)?;
            let same = found.len() == u64::try_from(copy.st_size).unwrap_or(0)
                && found.mode() == attributes.mode
                && (found.mtime(), found.mtime_nsec()) == (attributes.modified.0, attributes.modified.1.into());
            if id_of(&found) == id || (self.is(id_of(&found), id) && from != id && same) {
                return super::files::remove(&keep, &kept);
            }
            self.set_aside(name, How::Appeared)?;
        }
        let (dir, leaf) = parent_of(root, name)?;
        if from == id {
            return Ok(rustix::fs::renameat(&keep, &*kept, &dir, &leaf[..])?);
        }
        // A copy, which may lie in another file system.
        // The same each time: what a killed process has left is used again.
        let temporary = format!(".dunlin-back-{journal}-{kept}.tmp");
        super::files::remove(&dir, &temporary)?;
        let from = super::files::open(&keep, &kept, false)?;
        let to = super::files::open(&dir, &temporary, true)?;
        let copied = copy_range(&from, 0, &to, 0, u64::MAX)
            .and_then(|_| set_attributes(&to, attributes))
            // Known before it has its name, so that whoever goes on after a kill knows it.
            .and_then(|()| self.made(id, &to))
            .and_then(|()| Ok(rustix::fs::renameat(&dir, &*temporary, &dir, &leaf[..])?));
        if let Err(e) = copied {
            let _ = super::files::remove(&dir, &temporary);
            return Err(e);
        }
        super::files::remove(&keep, &kept)
    }

    /// Gives what others have put under a name another one, which a person is told.
    pub fn set_aside(&mut self, name: &Name, how: How) -> io::Result<()> {
        let Some(root) = self.root(name) else { return Ok(()) };
        let aside = self.free_name(name)?;
        sandbox::rename(root, path(name), root, path(&aside))?;
        self.told.push(format!("'{name}' {}; it is now '{aside}'", how.text()));
        Ok(())
    }

    /// Copies a file that others have changed, before what the program has changed in it is undone.
    pub fn copy_aside(&mut self, conflict: &Conflict) -> io::Result<()> {
        let name = &conflict.name;
        let Some(root) = self.root(name) else { return Ok(()) };
        let aside = self.free_name(name)?;
        let from = match conflict.kept {
            Some((journal, kept)) => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let keep = open_dir(self.dir, &keep_name(journal))?;
                File::from(rustix::fs::openat(&keep, kept.to_string(), flags, Mode::empty())?)
            }
            None => {
                let mut options = OpenOptions::new();
                options.read(true)._cap_fs_ext_follow(FollowSymlinks::No);
                sandbox::open(root, path(name), &options)?
            }
        };
        let (dir, leaf) = parent_of(root, &aside)?;
        // It gets its name when all of it is there.
        let temporary = format!(".dunlin-aside-{}.tmp", std::process::id());
        super::files::remove(&dir, &temporary)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let to = File::from(rustix::fs::openat(&dir, &*temporary, flags, Mode::RUSR | Mode::WUSR)?);
        let copied = copy_range(&from, 0, &to, 0, u64::MAX)
            .and_then(|_| to.set_permissions(from.metadata()?.permissions()))
            .and_then(|()| Ok(rustix::fs::fsync(&to)?))
            .and_then(|()| Ok(rustix::fs::renameat(&dir, &*temporary, &dir, &leaf[..])?));
        if let Err(e) = copied {
            let _ = super::files::remove(&dir, &temporary);
            return Err(e);
        }
        self.told.push(format!(
            "'{name}' {}; what is in it now was copied to '{aside}'",
            How::Changed.text()
        ));
        Ok(())
    }

    fn free_name(&self, name: &Name) -> io::Result<Name> {
        for n in 1u32.. {
            let aside = Name {
                grant: name.grant,
                path: [&name.path[..], b".aside-", n.to_string().as_bytes()].concat(),
            };
            if look(self.roots, &aside)?.is_none() {
                return Ok(aside);
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// The directory that a name lies in, and the name there.
fn parent_of(root: &File, name: &Name) -> io::Result<(File, Vec<u8>)> {
    let parent = name.parent();
    let dir = sandbox::open_dir_nofollow(root, path(&parent))?;
    let skip = if parent.path.is_empty() {
        0
    } else {
        parent.path.len() + 1
    };
    Ok((dir, name.path.get(skip..).unwrap_or_default().to_vec()))
}

/// Opens whatever has a name, only to be found by it.
fn any(root: &File, name: &Name) -> io::Result<File> {
    let mut any = OpenOptions::new();
    any.read(true)
        ._cap_fs_ext_follow(FollowSymlinks::No)
        .custom_flags(OFlags::PATH.bits() as i32);
    sandbox::open(root, path(name), &any)
}

/// Opens a regular file for writing, even if its permissions are against it and its owner is not.
fn writable(root: &File, name: &Name) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        ._cap_fs_ext_follow(FollowSymlinks::No)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32);
    match sandbox::open(root, path(name), &options) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let file = any(root, name)?;
            let link = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
            rustix::fs::chmodat(rustix::fs::CWD, &*link, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
            sandbox::open(root, path(name), &options)
        }
        opened => opened,
    }
}

#[allow(clippy::unnecessary_cast)]
fn times(attributes: Attributes) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT as _,
        },
        last_modification: Timespec {
            tv_sec: attributes.modified.0 as _,
            tv_nsec: attributes.modified.1 as _,
        },
    }
}

/// Gives an open file or directory its permissions and time of modification back.
fn set_attributes(file: &File, attributes: Attributes) -> io::Result<()> {
    let now = Attributes::of(&rustix::fs::fstat(file)?);
    // A directory may be opened only to be found.
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    if (now.mode ^ attributes.mode) & 0o7777 != 0 {
        let mode = Mode::from_raw_mode(attributes.mode & 0o7777);
        rustix::fs::chmodat(rustix::fs::CWD, &*link, mode, AtFlags::empty())?;
    }
    set_times(file, attributes)
}

/// Gives an open file or directory its time of modification back.
fn set_times(file: &File, attributes: Attributes) -> io::Result<()> {
    if Attributes::of(&rustix::fs::fstat(file)?).modified != attributes.modified {
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::utimensat(rustix::fs::CWD, &*link, &times(attributes), AtFlags::empty())?;
    }
    Ok(())
}

/// Makes a part of a file zero; a hole, where the file system can.
fn clear(file: &File, at: u64, len: u64) -> io::Result<()> {
    let end = at.saturating_add(len).min(file.metadata()?.len());
    if at >= end {
        return Ok(());
    }
    use rustix::fs::{FallocateFlags, fallocate};
    if fallocate(
        file,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        at,
        end - at,
    )
    .is_ok()
    {
        return Ok(());
    }
    let (zeros, mut there) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut at = at;
    while at < end {
        let n = usize::try_from(end - at).unwrap_or(zeros.len()).min(zeros.len());
        // What is zero may be a hole.
        if read_some(file, &mut there[..n], at)? == 0 || there[..n] != zeros[..n] {
            file.write_all_at(&zeros[..n], at)?;
        }
        at += n as u64;
    }
    Ok(())
}
