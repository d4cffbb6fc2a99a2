//! WASI's error numbers, and the host's errors translated into them.

use std::{fmt, io};

macro_rules! errnos {
    ($($name:ident = $n:literal $($host:ident)?;)*) => {
        /// A WASI `errno`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub(crate) enum Errno {
            $($name = $n,)*
        }

        impl Errno {
            /// The number that stands for a host's `errno`; `Io` for one that WASI doesn't know.
            pub(crate) fn from_host(raw: i32) -> Errno {
                match raw {
                    $($(libc::$host => Errno::$name,)?)*
                    _ => Errno::Io,
                }
            }

            /// The host's `errno` of the same meaning.
            fn to_host(self) -> Option<i32> {
                match self {
                    $($(Errno::$name => Some(libc::$host),)?)*
                    _ => None,
                }
            }
        }
    };
}

// `Success` is never a failure and has no host number. Where the host has two names for one number (EAGAIN and
// EWOULDBLOCK, ENOTSUP and EOPNOTSUPP, EDEADLK and EDEADLOCK), one is listed.
errnos! {
    Success = 0;
    TooBig = 1 E2BIG;
    Acces = 2 EACCES;
    AddrInUse = 3 EADDRINUSE;
    AddrNotAvail = 4 EADDRNOTAVAIL;
    AfNoSupport = 5 EAFNOSUPPORT;
    Again = 6 EAGAIN;
    Already = 7 EALREADY;
    Badf = 8 EBADF;
    BadMsg = 9 EBADMSG;
    Busy = 10 EBUSY;
    Canceled = 11 ECANCELED;
    Child = 12 ECHILD;
    ConnAborted = 13 ECONNABORTED;
    ConnRefused = 14 ECONNREFUSED;
    ConnReset = 15 ECONNRESET;
    Deadlk = 16 EDEADLK;
    DestAddrReq = 17 EDESTADDRREQ;
    Dom = 18 EDOM;
    Dquot = 19 EDQUOT;
    Exist = 20 EEXIST;
    Fault = 21 EFAULT;
    Fbig = 22 EFBIG;
    HostUnreach = 23 EHOSTUNREACH;
    Idrm = 24 EIDRM;
    IlSeq = 25 EILSEQ;
    InProgress = 26 EINPROGRESS;
    Intr = 27 EINTR;
    Inval = 28 EINVAL;
    Io = 29 EIO;
    IsConn = 30 EISCONN;
    IsDir = 31 EISDIR;
    Loop = 32 ELOOP;
    Mfile = 33 EMFILE;
    Mlink = 34 EMLINK;
    MsgSize = 35 EMSGSIZE;
    Multihop = 36 EMULTIHOP;
    NameTooLong = 37 ENAMETOOLONG;
    NetDown = 38 ENETDOWN;
    NetReset = 39 ENETRESET;
    NetUnreach = 40 ENETUNREACH;
    Nfile = 41 ENFILE;
    NoBufs = 42 ENOBUFS;
    NoDev = 43 ENODEV;
    NoEnt = 44 ENOENT;
    NoExec = 45 ENOEXEC;
    NoLck = 46 ENOLCK;
    NoLink = 47 ENOLINK;
    NoMem = 48 ENOMEM;
    NoMsg = 49 ENOMSG;
    NoProtoOpt = 50 ENOPROTOOPT;
    NoSpc = 51 ENOSPC;
    NoSys = 52 ENOSYS;
    NotConn = 53 ENOTCONN;
    NotDir = 54 ENOTDIR;
    NotEmpty = 55 ENOTEMPTY;
    NotRecoverable = 56 ENOTRECOVERABLE;
    NotSock = 57 ENOTSOCK;
    NotSup = 58 EOPNOTSUPP;
    NoTty = 59 ENOTTY;
    Nxio = 60 ENXIO;
    Overflow = 61 EOVERFLOW;
    OwnerDead = 62 EOWNERDEAD;
    Perm = 63 EPERM;
    Pipe = 64 EPIPE;
    Proto = 65 EPROTO;
    ProtoNoSupport = 66 EPROTONOSUPPORT;
    Prototype = 67 EPROTOTYPE;
    Range = 68 ERANGE;
    Rofs = 69 EROFS;
    Spipe = 70 ESPIPE;
    Srch = 71 ESRCH;
    Stale = 72 ESTALE;
    TimedOut = 73 ETIMEDOUT;
    TxtBsy = 74 ETXTBSY;
    Xdev = 75 EXDEV;
    NotCapable = 76;
}

/// In words for a person; the program itself only gets the number.
impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_host() {
            Some(raw) => io::Error::from_raw_os_error(raw).fmt(f),
            None => write!(f, "{self:?}"),
        }
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(e: rustix::io::Errno) -> Errno {
        Errno::from_host(e.raw_os_error())
    }
}

impl From<io::Error> for Errno {
    fn from(e: io::Error) -> Errno {
        match (e.raw_os_error(), e.kind()) {
            (Some(raw), _) => Errno::from_host(raw),
            // cap-primitives' own verdict: the path would leave the granted directory.
            (None, io::ErrorKind::PermissionDenied) => Errno::Perm,
            (None, io::ErrorKind::InvalidInput) => Errno::Inval,
            (None, io::ErrorKind::NotFound) => Errno::NoEnt,
            (None, _) => Errno::Io,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_errors_keep_their_meaning() {
        assert_eq!(Errno::from(rustix::io::Errno::NOENT), Errno::NoEnt);
        assert_eq!(Errno::from(io::Error::from_raw_os_error(libc::ENOTSUP)), Errno::NotSup);
        assert_eq!(
            Errno::from(io::Error::from_raw_os_error(libc::EWOULDBLOCK)),
            Errno::Again
        );
        assert_eq!(Errno::from_host(99_999), Errno::Io);
        assert_eq!(Errno::NotCapable as u16, 76);
    }
}
