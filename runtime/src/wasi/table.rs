//! The descriptor table: what the program's numbers refer to.

use crate::wasi::changes::change::Opened;
use crate::wasi::errno::Errno;
use crate::wasi::host::{HostKind, Stat};
use crate::wasi::rights;
use dunlin_migrate::state::wasi::{MAX_DESCRIPTORS, Stdio};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// What a descriptor refers to on this host.
#[derive(Debug)]
pub(in crate::wasi) enum Resource {
    /// A standard stream of this process.
    Stdio(Stdio),
    /// A directory.
    Directory(Directory),
    /// An opened file: regular, or a device or named pipe that lies in a granted directory.
    File {
        /// Index of the grant it was opened through.
        grant: u32,
        file: File,
        opened: Opened,
    },
    /// A listening socket that the program was given.
    Listener {
        /// Which of them.
        index: u32,
        socket: OwnedFd,
    },
    /// A connected socket.
    Connection(OwnedFd),
}

/// An open directory.
#[derive(Debug)]
pub(in crate::wasi) struct Directory {
    /// Index of the grant it was opened through.
    pub(in crate::wasi) grant: u32,
    /// `fd_prestat_get` knows it.
    pub(in crate::wasi) preopened: bool,
    pub(in crate::wasi) file: Arc<File>,
    /// A listing that was begun and not finished.
    pub(in crate::wasi) listing: Option<crate::wasi::calls::dir::Listing>,
}

/// An open descriptor.
#[derive(Debug)]
pub(in crate::wasi) struct Descriptor {
    pub(in crate::wasi) resource: Resource,
    /// What kind of thing the host has there.
    pub(in crate::wasi) kind: HostKind,
    pub(in crate::wasi) rights: u64,
    pub(in crate::wasi) inheriting: u64,
    /// WASI `fdflags`.
    pub(in crate::wasi) flags: u16,
}

/// `fdflags`: writes go to the end.
pub(in crate::wasi) const APPEND: u16 = 1 << 0;
/// `fdflags`: writes wait until the data is on the disk.
pub(in crate::wasi) const DSYNC: u16 = 1 << 1;
/// `fdflags`: don't wait.
pub(in crate::wasi) const NONBLOCK: u16 = 1 << 2;
/// `fdflags`: reads wait for writes to be on the disk.
pub(in crate::wasi) const RSYNC: u16 = 1 << 3;
/// `fdflags`: writes wait until data and metadata are on the disk.
pub(in crate::wasi) const SYNC: u16 = 1 << 4;
/// Every `fdflags` bit.
pub(in crate::wasi) const ALL_FLAGS: u16 = (1 << 5) - 1;

impl Descriptor {
    /// A standard stream of this process, with the rights it starts with.
    pub(in crate::wasi) fn stdio(stream: Stdio) -> Descriptor {
        let rights = if stream == Stdio::Stdin {
            rights::STDIN
        } else {
            rights::STDOUT
        };
        let resource = Resource::Stdio(stream);
        Descriptor {
            kind: HostKind::of(host_fd(&resource)),
            resource,
            rights,
            inheriting: 0,
            flags: 0,
        }
    }

    /// A granted directory, with every right.
    pub(in crate::wasi) fn preopened(grant: u32, file: Arc<File>) -> Descriptor {
        let resource = Resource::Directory(Directory {
            grant,
            preopened: true,
            file,
            listing: None,
        });
        Descriptor {
            resource,
            kind: HostKind::Directory,
            rights: rights::DIRECTORY,
            inheriting: rights::ALL,
            flags: 0,
        }
    }

    /// A listening socket, with every right.
    pub(in crate::wasi) fn listener(index: u32, socket: OwnedFd) -> Descriptor {
        Descriptor {
            resource: Resource::Listener { index, socket },
            kind: HostKind::Socket,
            rights: rights::LISTENER,
            inheriting: rights::CONNECTION,
            flags: 0,
        }
    }

    /// The host's descriptor.
    pub(in crate::wasi) fn host(&self) -> BorrowedFd<'_> {
        host_fd(&self.resource)
    }

    /// The rights it has now, without what its kind can't do.
    pub(in crate::wasi) fn effective_rights(&self) -> u64 {
        match self.resource {
            Resource::Stdio(_) => self.rights & self.kind.rights(),
            _ => self.rights,
        }
    }

    /// Fails unless it has a right.
    pub(in crate::wasi) fn need(&self, right: u64) -> Result<(), Errno> {
        match self.effective_rights() & right == right {
            true => Ok(()),
            false => Err(Errno::NotCapable),
        }
    }

    /// Fails unless it is something one reads from (`FD_READ`) or writes to (`FD_WRITE`), with the errors of POSIX.
    pub(in crate::wasi) fn need_io(&self, right: u64) -> Result<(), Errno> {
        match self.kind {
            HostKind::Directory => Err(Errno::IsDir),
            HostKind::Closed => Err(Errno::Badf),
            _ => self.need(right).map_err(|_| Errno::Badf),
        }
    }

    /// Fails unless it has a position, with the errors of POSIX; then as [`Descriptor::need`].
    pub(in crate::wasi) fn need_file(&self, right: u64) -> Result<(), Errno> {
        match self.kind {
            HostKind::Directory => Err(Errno::IsDir),
            HostKind::Closed => Err(Errno::Badf),
            HostKind::Regular => self.need(right),
            HostKind::Stream | HostKind::Device | HostKind::Terminal | HostKind::Socket => Err(Errno::Spipe),
        }
    }

    /// What the host says of it; zeros for what isn't a file.
    pub(in crate::wasi) fn stat(&self) -> Result<Stat, Errno> {
        match (&self.resource, self.kind) {
            (Resource::File { .. } | Resource::Directory(_), _) | (_, HostKind::Regular) => Stat::of_fd(self.host()),
            (_, kind) => Ok(Stat::unknown(kind)),
        }
    }
}

fn host_fd(resource: &Resource) -> BorrowedFd<'_> {
    match resource {
        Resource::Stdio(Stdio::Stdin) => rustix::stdio::stdin(),
        Resource::Stdio(Stdio::Stdout) => rustix::stdio::stdout(),
        Resource::Stdio(Stdio::Stderr) => rustix::stdio::stderr(),
        Resource::Directory(dir) => dir.file.as_fd(),
        Resource::File { file, .. } => file.as_fd(),
        Resource::Listener { socket, .. } | Resource::Connection(socket) => socket.as_fd(),
    }
}

/// Descriptors by number. A new one gets the lowest free number, as in POSIX: numbers are equal on every machine.
#[derive(Debug, Default)]
pub(in crate::wasi) struct Table {
    slots: Vec<Option<Descriptor>>,
}

impl Table {
    pub(in crate::wasi) fn get(&self, fd: u32) -> Result<&Descriptor, Errno> {
        self.slots.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::Badf)
    }

    pub(in crate::wasi) fn get_mut(&mut self, fd: u32) -> Result<&mut Descriptor, Errno> {
        self.slots
            .get_mut(fd as usize)
            .and_then(Option::as_mut)
            .ok_or(Errno::Badf)
    }

    /// Every open descriptor, ascending by number.
    pub(in crate::wasi) fn iter(&self) -> impl Iterator<Item = (u32, &Descriptor)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(fd, d)| Some((fd as u32, d.as_ref()?)))
    }

    /// Adds a descriptor under the lowest free number.
    pub(in crate::wasi) fn insert(&mut self, descriptor: Descriptor) -> Result<u32, Errno> {
        let fd = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if !self.insert_at(fd as u32, descriptor) {
            return Err(Errno::Mfile);
        }
        Ok(fd as u32)
    }

    /// Adds a descriptor under a number; false if the number is taken or too great.
    pub(in crate::wasi) fn insert_at(&mut self, fd: u32, descriptor: Descriptor) -> bool {
        if fd >= MAX_DESCRIPTORS {
            return false;
        }
        if self.slots.len() <= fd as usize {
            self.slots.resize_with(fd as usize + 1, || None);
        }
        let slot = &mut self.slots[fd as usize];
        let free = slot.is_none();
        if free {
            *slot = Some(descriptor);
        }
        free
    }

    /// Closes a descriptor.
    pub(in crate::wasi) fn remove(&mut self, fd: u32) -> Result<Descriptor, Errno> {
        self.slots
            .get_mut(fd as usize)
            .and_then(Option::take)
            .ok_or(Errno::Badf)
    }

    /// Gives the descriptor `from` the number `to`, closing what was there. Both must be open.
    pub(in crate::wasi) fn renumber(&mut self, from: u32, to: u32) -> Result<(), Errno> {
        self.get(from)?;
        self.get(to)?;
        if from != to {
            self.slots.swap(from as usize, to as usize);
            self.remove(from)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_lowest_free_ones() {
        let mut t = Table::default();
        let new = || Descriptor::stdio(Stdio::Stdout);
        assert_eq!(
            (t.insert(new()), t.insert(new()), t.insert(new())),
            (Ok(0), Ok(1), Ok(2))
        );
        t.remove(1).unwrap();
        assert_eq!(t.remove(1).err(), Some(Errno::Badf));
        assert_eq!((t.insert(new()), t.insert(new())), (Ok(1), Ok(3)));
        assert!(!t.insert_at(3, new()) && !t.insert_at(MAX_DESCRIPTORS, new()) && t.insert_at(9, new()));
        assert_eq!(t.insert(new()), Ok(4));
        assert_eq!(t.get(u32::MAX).err(), Some(Errno::Badf));
        while t.slots.len() < MAX_DESCRIPTORS as usize {
            t.slots.push(Some(new()));
        }
        while t.insert(new()).is_ok() {}
        assert_eq!(t.insert(new()), Err(Errno::Mfile));
        t.remove(77).unwrap();
        assert_eq!(t.insert(new()), Ok(77));
    }

    #[test]
    fn renumbering_closes_the_target_and_frees_the_source() {
        let mut t = Table::default();
        t.insert(Descriptor::stdio(Stdio::Stdin)).unwrap();
        t.insert(Descriptor::stdio(Stdio::Stdout)).unwrap();
        assert_eq!(t.renumber(0, 7), Err(Errno::Badf));
        assert_eq!(t.renumber(7, 0), Err(Errno::Badf));
        assert_eq!(t.renumber(1, 1), Ok(()));
        assert_eq!(t.renumber(1, 0), Ok(()));
        assert!(matches!(t.get(0).unwrap().resource, Resource::Stdio(Stdio::Stdout)));
        assert!(t.get(1).is_err());
    }
}
