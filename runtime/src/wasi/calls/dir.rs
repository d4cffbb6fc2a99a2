//! `fd_readdir`: listings whose cookies stay valid while the directory changes and while the program moves.
//!
//! A listing is taken whole when the program begins one (cookie 0), sorted by name so that it is equal on every
//! machine, and kept until it has been read to its end. A cookie is a position in it. `.` and `..` have the first two.

use crate::wasi::errno::Errno;
use crate::wasi::host::{FileType, Stat, shown_inode};
use crate::wasi::mem::Memory;
use crate::wasi::rights::FD_READDIR;
use crate::wasi::table::Resource;
use crate::wasi::{Done, Wasi};
use rustix::fs::AtFlags;
use std::collections::HashMap;
use std::fs::File;

/// Size of a `dirent`, which its name follows.
const DIRENT_SIZE: usize = 24;

/// A directory's names at one moment, without `.` and `..`, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::wasi) struct Listing {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: Vec<u8>,
    /// Type and the host's inode number, if the directory said them. A restored listing has only names.
    known: Option<(FileType, u64)>,
}

impl Listing {
    fn take(dir: &File) -> Result<Listing, Errno> {
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let known = FileType::from_entry(entry.file_type()).map(|ty| (ty, entry.ino()));
                entries.push(Entry {
                    name: name.to_owned(),
                    known,
                });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Listing { entries })
    }

    /// The names, in order: what a state holds of a listing.
    pub(in crate::wasi) fn names(&self) -> Vec<Vec<u8>> {
        self.entries.iter().map(|e| e.name.clone()).collect()
    }

    /// A listing from its names, if each could be a name in a directory.
    pub(in crate::wasi) fn from_names(names: &[Vec<u8>]) -> Option<Listing> {
        let valid = |n: &[u8]| {
            !n.is_empty() && n.len() <= 255 && n != b"." && n != b".." && !n.contains(&b'/') && !n.contains(&0)
        };
        let entries = names.iter().map(|n| {
            valid(n).then(|| Entry {
                name: n.clone(),
                known: None,
            })
        });
        entries.collect::<Option<Vec<_>>>().map(|entries| Listing { entries })
    }
}

impl Wasi {
    pub(in crate::wasi) fn fd_readdir(
        &mut self,
        m: &mut Memory<'_>,
        fd: u32,
        buf: u32,
        len: u32,
        cookie: u64,
        out: u32,
    ) -> Done {
        m.range(out, 4)?;
        let buffer = m.range(buf, len)?;
        let d = self.table.get(fd)?;
        let may = d.need(FD_READDIR);
        let Resource::Directory(dir) = &d.resource else {
            return Err(Errno::NotDir.into());
        };
        may?;
        let begun = match cookie == 0 || dir.listing.is_none() {
            true => {
                let here = self.name_of_directory(dir.grant, &dir.file);
                let mut listing = Listing::take(&dir.file)?;
                listing.entries.retain(|entry| self.shows(&here, &entry.name));
                Some(listing)
            }
            false => None,
        };
        let Resource::Directory(dir) = &mut self.table.get_mut(fd)?.resource else {
            return Err(Errno::NotDir.into());
        };
        if begun.is_some() {
            dir.listing = begun;
        }
        let entries = dir.listing.as_ref().map_or(&[][..], |l| &l.entries);
        let here = Stat::of_fd(rustix::fd::AsFd::as_fd(&dir.file))?;
        let mut used = Vec::with_capacity(buffer.len().min(1 << 16));
        let mut next = usize::try_from(cookie).unwrap_or(usize::MAX);
        while used.len() < buffer.len() && next < entries.len() + 2 {
            let (name, ty, ino) = match next {
                // The parent's number would tell of what lies outside the grant.
                0 => (&b"."[..], FileType::Directory, inode(&self.aliases, here.dev, here.ino)),
                1 => (
                    &b".."[..],
                    FileType::Directory,
                    inode(&self.aliases, here.dev, here.ino),
                ),
                n => {
                    let entry = &entries[n - 2];
                    let known = match entry.known {
                        Some((ty, ino)) => Some((ty, inode(&self.aliases, here.dev, ino))),
                        None => {
                            look_up(&dir.file, &entry.name).map(|s| (s.file_type, inode(&self.aliases, s.dev, s.ino)))
                        }
                    };
                    match known {
                        Some((ty, ino)) => (&entry.name[..], ty, ino),
                        // It is gone by now.
                        None => {
                            next += 1;
                            continue;
                        }
                    }
                }
            };
            next += 1;
            let mut dirent = [0; DIRENT_SIZE];
            dirent[0..8].copy_from_slice(&(next as u64).to_le_bytes());
            dirent[8..16].copy_from_slice(&ino.to_le_bytes());
            dirent[16..20].copy_from_slice(&(name.len() as u32).to_le_bytes());
            dirent[20] = ty as u8;
            used.extend_from_slice(&dirent);
            used.extend_from_slice(name);
        }
        // A full buffer tells the program to ask for more, with the cookie of the last entry that fits whole.
        let end = used.len() < buffer.len();
        used.truncate(buffer.len());
        if end {
            dir.listing = None;
        }
        m.set(buf, &used)?;
        Ok(m.set_u32(out, used.len() as u32)?)
    }

    /// The inode number the program knows a host's file by.
    pub(in crate::wasi) fn inode(&self, dev: u64, ino: u64) -> u64 {
        inode(&self.aliases, dev, ino)
    }
}

fn inode(aliases: &HashMap<(u64, u64), u64>, dev: u64, ino: u64) -> u64 {
    aliases
        .get(&(dev, ino))
        .copied()
        .unwrap_or_else(|| shown_inode(dev, ino))
}

/// The attributes of a name in a directory, itself and nothing it links to.
fn look_up(dir: &File, name: &[u8]) -> Option<Stat> {
    use std::os::unix::ffi::OsStrExt;
    let stat = rustix::fs::statat(dir, std::ffi::OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(Stat::of_host(&stat))
}
