//! Undoing changes of names: what was created goes, what was removed or moved comes back.

use super::conflict::{Difference, id_of, link_checksum, path, stat_name};
use super::expected::Expected;
use super::host::{find, parent_of, set_attributes, times};
use super::undo::Undo;
use crate::journal::files::{self, copy_range, keep_name, open_dir};
use crate::journal::record::{Attributes, FileId, Kind, Name, Was};
use cap_primitives::fs::{self as sandbox, DirOptions, MetadataExt};
use rustix::fs::{AtFlags, Mode};
use std::io;
use std::os::unix::ffi::OsStrExt;

impl Undo<'_> {
    pub(super) fn renamed(&mut self, from: &Name, to: &Name, id: FileId) -> io::Result<()> {
        let there = stat_name(self.roots, to)?.map(|f| id_of(&f));
        let back = stat_name(self.roots, from)?.map(|f| id_of(&f));
        match (back, there) {
            // It was never done, or has been undone.
            (Some(back), _) if self.is(back, id) => Ok(()),
            (_, Some(there)) if self.is(there, id) => {
                if back.is_some() {
                    self.set_aside(from, Difference::Appeared)?;
                }
                let (Some(a), Some(b)) = (self.root(to), self.root(from)) else {
                    return Ok(());
                };
                sandbox::rename(a, path(to), b, path(from))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn created(&mut self, name: &Name, kind: Kind) -> io::Result<()> {
        let Some(root) = self.root(name) else { return Ok(()) };
        let Some(found) = stat_name(self.roots, name)? else {
            return Ok(());
        };
        if kind == Kind::Directory && found.is_dir() {
            return match sandbox::remove_dir(root, path(name)) {
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => self.set_aside(name, Difference::Inside),
                removed => removed,
            };
        }
        let ours = match (kind, self.tree.names.get(name)) {
            (Kind::Directory, _) => false,
            (Kind::Symlink(target), _) => found.is_symlink() && link_checksum(root, name) == Some(target),
            (Kind::Link(id), _) | (Kind::File, Some(&Expected::This(id))) => self.is(id_of(&found), id),
            (Kind::File, _) => found.is_file() && found.len() == 0,
        };
        match ours {
            true => sandbox::remove_file(root, path(name)),
            false => self.set_aside(name, Difference::Replaced),
        }
    }

    pub(super) fn removed(
        &mut self,
        journal: u64,
        name: &Name,
        id: FileId,
        was: &Was,
        attributes: Attributes,
    ) -> io::Result<()> {
        let Some(root) = self.root(name) else { return Ok(()) };
        let there = stat_name(self.roots, name)?;
        match was {
            Was::New => Ok(()),
            Was::Linked(other) => {
                match there {
                    Some(found) if self.is(id_of(&found), id) => return Ok(()),
                    Some(_) => self.set_aside(name, Difference::Appeared)?,
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
                        self.set_aside(name, Difference::Appeared)?;
                        sandbox::create_dir(root, path(name), &DirOptions::new())?;
                    }
                    None => sandbox::create_dir(root, path(name), &DirOptions::new())?,
                }
                let dir = sandbox::open_dir_nofollow(root, path(name))?;
                self.note_recreated(id, &dir)?;
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
                    self.set_aside(name, Difference::Appeared)?;
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
                self.note_recreated(id, &find(root, name)?)?;
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
        if let Some(found) = stat_name(self.roots, name)? {
            // The removal was recorded and not made; or the file was put back as a copy right before this was
            // interrupted.
            let copy = rustix::fs::statat(&keep, &*kept, AtFlags::SYMLINK_NOFOLLOW)?;
            let same = found.len() == u64::try_from(copy.st_size).unwrap_or(0)
                && found.mode() == attributes.mode
                && (found.mtime(), found.mtime_nsec()) == (attributes.modified.0, attributes.modified.1.into());
            if id_of(&found) == id || (self.is(id_of(&found), id) && from != id && same) {
                return files::remove(&keep, &kept);
            }
            self.set_aside(name, Difference::Appeared)?;
        }
        let (dir, leaf) = parent_of(root, name)?;
        if from == id {
            return Ok(rustix::fs::renameat(&keep, &*kept, &dir, &leaf[..])?);
        }
        // A copy, which may lie in another file system.
        // The same each time: what a killed process has left is used again.
        let temporary = format!(".dunlin-back-{journal}-{kept}.tmp");
        files::remove(&dir, &temporary)?;
        let from = files::open(&keep, &kept, false)?;
        let to = files::open(&dir, &temporary, true)?;
        let copied = copy_range(&from, 0, &to, 0, u64::MAX)
            .and_then(|_| set_attributes(&to, attributes))
            // Known before it has its name, so that whoever goes on after a kill knows it.
            .and_then(|()| self.note_recreated(id, &to))
            .and_then(|()| Ok(rustix::fs::renameat(&dir, &*temporary, &dir, &leaf[..])?));
        if let Err(e) = copied {
            let _ = files::remove(&dir, &temporary);
            return Err(e);
        }
        files::remove(&keep, &kept)
    }
}
