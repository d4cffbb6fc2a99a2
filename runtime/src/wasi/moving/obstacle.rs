//! What can stand in the way of moving a program: each thing it has of its host that a snapshot can't hold.

use crate::wasi::errno::Errno;

/// One thing that keeps a program from being moved now. Its text is for a person: what it is, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// A connection to someone else, who would not follow.
    #[error("descriptor {fd} is a connected socket, which can't move; the program must close it first")]
    Connection {
        /// The descriptor's number.
        fd: u32,
    },
    /// A device or named pipe.
    #[error("descriptor {fd} is an open device or named pipe, which can't move")]
    Special {
        /// The descriptor's number.
        fd: u32,
    },
    /// An open directory that was removed.
    #[error("descriptor {fd}: the directory {path:?} is open but deleted, so it can't be opened again elsewhere")]
    RemovedDirectory {
        /// The descriptor's number.
        fd: u32,
        /// Its path when it was there.
        path: String,
    },
    /// An open file whose name is gone or another's, while it still has a name somewhere.
    #[error("descriptor {fd}: {path:?} can't be found again in the directory '{guest}' (replaced?)")]
    Lost {
        /// The descriptor's number.
        fd: u32,
        /// Its path on this host.
        path: String,
        /// The grant's name.
        guest: String,
    },
    /// Something open was moved out of the granted directory.
    #[error("descriptor {fd}: {path:?} is no longer inside the directory '{guest}'")]
    Outside {
        /// The descriptor's number.
        fd: u32,
        /// Its path on this host.
        path: String,
        /// The grant's name.
        guest: String,
    },
    /// A name that isn't text.
    #[error("the name of {path:?} in the directory '{guest}' is not UTF-8, which a snapshot can't hold; rename it")]
    NotUtf8 {
        /// Its path, made printable.
        path: String,
        /// The grant's name.
        guest: String,
    },
    /// A descriptor of a directory that isn't granted any more.
    #[error("descriptor {fd} was opened through a directory that isn't granted any more")]
    NotGranted {
        /// The descriptor's number.
        fd: u32,
    },
    /// Something in a carried directory that is neither file, directory nor symbolic link.
    #[error(
        "{path:?} in the carried directory '{guest}' is a {what}, which can't be carried; remove it, or grant it with --dir"
    )]
    NotCarriable {
        /// Its path below the grant.
        path: String,
        /// The grant's name.
        guest: String,
        /// What it is.
        what: &'static str,
    },
    /// A file whose contents should be carried can't be read.
    #[error("{path:?} in the directory '{guest}' can't be read, so it can't be carried: {why}")]
    Unreadable {
        /// Its path below the grant; of a file without a name, the descriptor's number.
        path: String,
        /// The grant's name.
        guest: String,
        /// Why.
        why: String,
    },
    /// More files than a snapshot can hold.
    #[error("the directory '{guest}' has more files than a snapshot can carry; grant it with --dir or --carry")]
    TooMany {
        /// The grant's name.
        guest: String,
    },
    /// The host doesn't tell what must be known.
    #[error("descriptor {fd}: {doing}: {why}")]
    Host {
        /// The descriptor's number.
        fd: u32,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        why: String,
    },
}

impl Obstacle {
    /// An [`Obstacle::Host`].
    pub(in crate::wasi) fn host<E: Into<Errno>>(fd: u32, doing: &'static str) -> impl FnOnce(E) -> Obstacle {
        move |why| Obstacle::Host {
            fd,
            doing,
            why: why.into().to_string(),
        }
    }
}
