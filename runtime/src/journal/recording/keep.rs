//! What a journal keeps of files that lose a name, and when that goes.

use super::names::Leaving;
use super::writer::{Journal, links};
use crate::journal::files::{self, copy_range, keep_name};
use crate::journal::record::{FileId, Name, Record};
use crate::journal::seen::now;
use rustix::fs::{AtFlags, Mode};
use std::fs::File;
use std::io;

/// How a file is kept that loses a name.
pub(super) enum Keeping {
    /// In `.keep/`, under this number; true for the file itself, false for a copy.
    Kept(u32, bool),
    /// Not at all: the file has this name, too.
    Linked(Name),
}

impl Journal {
    /// Removes journals before this number, oldest first, and what they kept: nobody goes back that far. The program
    /// must not run meanwhile: it could see a file's other names go.
    pub fn prune(&mut self, below: u64) -> io::Result<()> {
        /// Longer than that the removal of a name doesn't take, in nanoseconds.
        const SOON: u64 = 1_000_000_000;
        let mut old = Vec::new();
        for name in files::names(&self.dir)? {
            let Ok(name) = name.into_string() else { continue };
            for (nth, ending) in [".undo", ".seen", ".keep"].into_iter().enumerate() {
                if let Some(number) = files::number_of(&name, ending).filter(|n| *n < below) {
                    old.push((number, nth, name.clone()));
                }
            }
        }
        // First what tells that one can go back with it.
        old.sort();
        for (_, nth, name) in old {
            if nth < 2 {
                files::remove(&self.dir, &name)?;
                continue;
            }
            let keep = files::open_dir(&self.dir, &name)?;
            for kept in files::names(&keep)? {
                let stat = rustix::fs::statat(&keep, &kept, AtFlags::SYMLINK_NOFOLLOW)?;
                if links(&stat) > 1 {
                    let (id, until) = (FileId::of(&stat), now() + SOON);
                    self.append(&[(Record::Touched { id, until }, &[])])?;
                }
                rustix::fs::unlinkat(&keep, &kept, AtFlags::empty())?;
            }
            rustix::fs::unlinkat(&self.dir, &name, AtFlags::REMOVEDIR)?;
        }
        self.kept.retain(|_, places| {
            places.retain(|(n, _)| *n >= below);
            !places.is_empty()
        });
        Ok(())
    }

    /// How many of a file's names are the journals'.
    pub fn own_links(&self, id: FileId) -> u64 {
        self.kept.get(&id).map_or(0, |places| places.len() as u64)
    }

    /// A name of a file, wherever it is in the granted directories.
    pub(super) fn find_name(&self, id: FileId) -> Option<Name> {
        files::find_name(&self.roots, &self.dir, None, id)
    }

    /// Another name for what earlier processes have kept.
    pub(super) fn find_kept(&mut self) -> io::Result<()> {
        for name in files::names(&self.dir)? {
            let Some((name, number)) = name
                .to_str()
                .ok()
                .and_then(|n| Some((n, files::number_of(n, ".keep")?)))
            else {
                continue;
            };
            let keep = files::open_dir(&self.dir, name)?;
            for name in files::names(&keep)? {
                let stat = rustix::fs::statat(&keep, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                if links(&stat) > 1
                    && let Some(kept) = name.to_str().ok().and_then(|n| n.parse().ok())
                {
                    self.kept.entry(FileId::of(&stat)).or_default().push((number, kept));
                }
            }
        }
        Ok(())
    }

    /// The directory `.keep/` of this journal, made if it isn't there.
    fn keep(&mut self) -> io::Result<&File> {
        if self.keep.is_none() {
            let name = keep_name(self.lineage.number);
            match rustix::fs::mkdirat(&self.dir, &*name, Mode::RWXU) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
            self.keep = Some(files::open_dir(&self.dir, &name)?);
        }
        self.keep.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A new, empty file in `.keep/`, and its number.
    pub(super) fn new_kept(&mut self) -> io::Result<(u32, File)> {
        let kept = self.next_kept;
        self.next_kept += 1;
        let file = files::open(self.keep()?, &kept.to_string(), true)?;
        file.set_len(0)?;
        Ok((kept, file))
    }

    pub(super) fn sync_kept(&self, copy: &File) -> io::Result<()> {
        if self.durable {
            rustix::fs::fsync(copy)?;
            if let Some(keep) = &self.keep {
                rustix::fs::fsync(keep)?;
            }
        }
        Ok(())
    }

    /// Keeps a file that is about to lose a name: by another name, or else as a copy.
    pub(super) fn keep_file(&mut self, parent: &File, name: &Name, leaving: &Leaving<'_>) -> io::Result<Keeping> {
        if let Some(kept) = self.keep_link(parent, name, leaving)? {
            return Ok(kept);
        }
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
        let from = File::from(rustix::fs::openat(parent, leaving.leaf, flags, Mode::empty())?);
        let (kept, copy) = self.new_kept()?;
        let copied = copy_range(&from, 0, &copy, 0, u64::MAX).and_then(|_| self.sync_kept(&copy));
        if let Err(e) = copied {
            self.remove_kept(kept);
            return Err(e);
        }
        Ok(Keeping::Kept(kept, false))
    }

    /// Keeps a file or symbolic link that is about to lose a name by another one; `None` if it can't have one and has
    /// none.
    pub(super) fn keep_link(
        &mut self,
        parent: &File,
        name: &Name,
        leaving: &Leaving<'_>,
    ) -> io::Result<Option<Keeping>> {
        let (leaf, stat) = (leaving.leaf, leaving.stat);
        let kept = self.next_kept;
        let linked = rustix::fs::linkat(parent, leaf, self.keep()?, kept.to_string(), AtFlags::empty());
        self.next_kept += 1;
        match linked {
            Ok(()) => {
                if self.durable {
                    rustix::fs::fsync(self.keep()?)?;
                }
                self.kept
                    .entry(FileId::of(stat))
                    .or_default()
                    .push((self.lineage.number, kept));
                return Ok(Some(Keeping::Kept(kept, true)));
            }
            Err(
                rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT | rustix::io::Errno::IO | rustix::io::Errno::NOENT,
            ) => {
                return Err(linked.map_or_else(Into::into, |()| io::ErrorKind::Other.into()));
            }
            // Another file system, or a file of someone else's.
            Err(_) => {}
        }
        if links(stat) > 1
            && let Some(other) = files::find_name(&self.roots, &self.dir, Some(name), FileId::of(stat))
        {
            return Ok(Some(Keeping::Linked(other)));
        }
        Ok(None)
    }

    pub(super) fn remove_kept(&self, kept: u32) {
        if let Some(keep) = &self.keep {
            let _ = files::remove(keep, &kept.to_string());
        }
    }
}
