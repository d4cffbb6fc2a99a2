//! What the host says of a file, in WASI's terms.

use crate::journal::FileId;
use crate::wasi::errno::Errno;
use crate::wasi::rights;
use cap_primitives::fs::MetadataExt as _;
use std::os::fd::BorrowedFd;

/// WASI's `filetype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::wasi) enum FileType {
    Unknown = 0,
    BlockDevice = 1,
    CharacterDevice = 2,
    Directory = 3,
    RegularFile = 4,
    SocketStream = 6,
    SymbolicLink = 7,
}

impl FileType {
    /// From the file type bits of a host's `st_mode`. Sockets in a file system can't be told apart; pipes have no name
    /// in WASI.
    pub(in crate::wasi) fn from_mode(mode: u32) -> FileType {
        match mode & libc::S_IFMT {
            libc::S_IFBLK => FileType::BlockDevice,
            libc::S_IFCHR => FileType::CharacterDevice,
            libc::S_IFDIR => FileType::Directory,
            libc::S_IFREG => FileType::RegularFile,
            libc::S_IFSOCK => FileType::SocketStream,
            libc::S_IFLNK => FileType::SymbolicLink,
            _ => FileType::Unknown,
        }
    }

    /// From a directory entry; `None` if the file system doesn't say.
    pub(in crate::wasi) fn from_entry(ty: rustix::fs::FileType) -> Option<FileType> {
        match ty {
            rustix::fs::FileType::Unknown => None,
            ty => Some(FileType::from_mode(ty.as_raw_mode())),
        }
    }
}

/// How an open descriptor of the host behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wasi) enum HostKind {
    /// Has a position and never blocks for long.
    Regular,
    Directory,
    /// A pipe, named or not.
    Stream,
    Terminal,
    /// Another device.
    Device,
    Socket,
    /// Nothing: a standard stream that this process was started without.
    Closed,
}

impl HostKind {
    /// Of an open descriptor.
    pub(in crate::wasi) fn of(fd: BorrowedFd<'_>) -> HostKind {
        match rustix::fs::fstat(fd) {
            Err(_) => HostKind::Closed,
            Ok(stat) => match FileType::from_mode(stat.st_mode) {
                FileType::RegularFile | FileType::BlockDevice => HostKind::Regular,
                FileType::Directory => HostKind::Directory,
                FileType::CharacterDevice if rustix::termios::isatty(fd) => HostKind::Terminal,
                FileType::CharacterDevice => HostKind::Device,
                FileType::SocketStream => HostKind::Socket,
                FileType::Unknown | FileType::SymbolicLink => HostKind::Stream,
            },
        }
    }

    /// Whether a transfer may have to wait for someone else.
    pub(in crate::wasi) fn blocks(self) -> bool {
        matches!(
            self,
            HostKind::Stream | HostKind::Terminal | HostKind::Device | HostKind::Socket
        )
    }

    /// The rights that make sense for it.
    pub(in crate::wasi) fn rights(self) -> u64 {
        match self {
            HostKind::Regular => rights::FILE,
            HostKind::Directory => rights::DIRECTORY,
            HostKind::Stream | HostKind::Terminal | HostKind::Device => rights::STREAM,
            HostKind::Socket => rights::CONNECTION | rights::LISTENER,
            HostKind::Closed => 0,
        }
    }

    /// What the program is told it is.
    pub(in crate::wasi) fn file_type(self) -> FileType {
        match self {
            HostKind::Regular => FileType::RegularFile,
            HostKind::Directory => FileType::Directory,
            HostKind::Terminal | HostKind::Device => FileType::CharacterDevice,
            HostKind::Socket => FileType::SocketStream,
            HostKind::Stream | HostKind::Closed => FileType::Unknown,
        }
    }
}

/// A file's attributes. Times are nanoseconds since 1970; earlier ones are 0.
#[derive(Clone, Copy, Debug)]
pub(in crate::wasi) struct Stat {
    pub(in crate::wasi) dev: u64,
    pub(in crate::wasi) ino: u64,
    pub(in crate::wasi) file_type: FileType,
    /// Permission bits, set-user-id and its like included.
    pub(in crate::wasi) mode: u16,
    pub(in crate::wasi) links: u64,
    pub(in crate::wasi) size: u64,
    pub(in crate::wasi) accessed: u64,
    pub(in crate::wasi) modified: u64,
    pub(in crate::wasi) changed: u64,
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> u64 {
    match u64::try_from(seconds) {
        Ok(s) => s
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::try_from(nanoseconds).unwrap_or(0)),
        Err(_) => 0,
    }
}

impl Stat {
    /// Which file it is of.
    pub(in crate::wasi) fn id(&self) -> FileId {
        FileId {
            dev: self.dev,
            ino: self.ino,
        }
    }

    /// From the metadata that a sandboxed look-up returned.
    pub(in crate::wasi) fn of_path(m: &cap_primitives::fs::Metadata) -> Stat {
        Stat {
            dev: m.dev(),
            ino: m.ino(),
            file_type: FileType::from_mode(m.mode()),
            mode: (m.mode() & 0o7777) as u16,
            links: m.nlink(),
            size: m.size(),
            accessed: nanoseconds(m.atime(), m.atime_nsec()),
            modified: nanoseconds(m.mtime(), m.mtime_nsec()),
            changed: nanoseconds(m.ctime(), m.ctime_nsec()),
        }
    }

    /// Of an open descriptor.
    pub(in crate::wasi) fn of_fd(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
        Ok(Stat::of_host(&rustix::fs::fstat(fd)?))
    }

    /// From the host's structure. (The fields' types differ between architectures, hence the casts.)
    #[allow(clippy::unnecessary_cast)]
    pub(in crate::wasi) fn of_host(m: &rustix::fs::Stat) -> Stat {
        Stat {
            dev: m.st_dev as u64,
            ino: m.st_ino as u64,
            file_type: FileType::from_mode(m.st_mode as u32),
            mode: (m.st_mode & 0o7777) as u16,
            links: m.st_nlink as u64,
            size: m.st_size as u64,
            accessed: nanoseconds(m.st_atime as i64, m.st_atime_nsec as i64),
            modified: nanoseconds(m.st_mtime as i64, m.st_mtime_nsec as i64),
            changed: nanoseconds(m.st_ctime as i64, m.st_ctime_nsec as i64),
        }
    }

    /// Of something that has no attributes but its kind.
    pub(in crate::wasi) fn unknown(kind: HostKind) -> Stat {
        Stat {
            dev: 0,
            ino: 0,
            file_type: kind.file_type(),
            mode: 0,
            links: 0,
            size: 0,
            accessed: 0,
            modified: 0,
            changed: 0,
        }
    }
}

/// The inode number shown for a host's file. The program sees one device, 1, whatever file systems its grants lie on;
/// so the number is a mixture of the host's device and inode (two rounds of the finaliser of MurmurHash3).
pub(in crate::wasi) fn shown_inode(dev: u64, ino: u64) -> u64 {
    fn mix(mut x: u64) -> u64 {
        x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        x ^ (x >> 33)
    }
    mix(mix(dev).wrapping_add(ino)).max(1)
}
