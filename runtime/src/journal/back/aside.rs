//! What others have changed gets another name, so that going back overwrites nothing of theirs.

use super::conflict::{Conflict, Difference, path, stat_name};
use super::host::parent_of;
use super::undo::Undo;
use crate::journal::files::{self, copy_range, keep_name, open_dir};
use crate::journal::record::Name;
use cap_primitives::fs::{self as sandbox, FollowSymlinks, OpenOptions};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;

impl Undo<'_> {
    /// Gives what others have put under a name another one, which a person is told.
    pub(super) fn set_aside(&mut self, name: &Name, how: Difference) -> io::Result<()> {
        let Some(root) = self.root(name) else { return Ok(()) };
        let aside = self.free_name(name)?;
        sandbox::rename(root, path(name), root, path(&aside))?;
        self.notices
            .push(format!("'{name}' {}; it is now '{aside}'", how.text()));
        Ok(())
    }

    /// Copies a file that others have changed, before what the program has changed in it is undone.
    pub(super) fn copy_aside(&mut self, conflict: &Conflict) -> io::Result<()> {
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
        files::remove(&dir, &temporary)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let to = File::from(rustix::fs::openat(&dir, &*temporary, flags, Mode::RUSR | Mode::WUSR)?);
        let copied = copy_range(&from, 0, &to, 0, u64::MAX)
            .and_then(|_| to.set_permissions(from.metadata()?.permissions()))
            .and_then(|()| Ok(rustix::fs::fsync(&to)?))
            .and_then(|()| Ok(rustix::fs::renameat(&dir, &*temporary, &dir, &leaf[..])?));
        if let Err(e) = copied {
            let _ = files::remove(&dir, &temporary);
            return Err(e);
        }
        self.notices.push(format!(
            "'{name}' {}; what is in it now was copied to '{aside}'",
            Difference::Changed.text()
        ));
        Ok(())
    }

    fn free_name(&self, name: &Name) -> io::Result<Name> {
        for n in 1u32.. {
            let aside = Name {
                grant: name.grant,
                path: [&name.path[..], b".aside-", n.to_string().as_bytes()].concat(),
            };
            if stat_name(self.roots, &aside)?.is_none() {
                return Ok(aside);
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}
