//! WASI rights: what a descriptor may be used for.
//!
//! A granted directory has every right that makes sense. Opening gives what wasmtime gives: `FD_READ` and `FD_WRITE`
//! (with what only a writer may do) if they were asked for, and every other right that the directory hands on and that
//! fits what was opened. From then on rights are kept: `fd_fdstat_set_rights` can only take them away, and every
//! function checks them.

pub(in crate::wasi) const FD_DATASYNC: u64 = 1 << 0;
pub(in crate::wasi) const FD_READ: u64 = 1 << 1;
pub(in crate::wasi) const FD_SEEK: u64 = 1 << 2;
pub(in crate::wasi) const FD_FDSTAT_SET_FLAGS: u64 = 1 << 3;
pub(in crate::wasi) const FD_SYNC: u64 = 1 << 4;
pub(in crate::wasi) const FD_TELL: u64 = 1 << 5;
pub(in crate::wasi) const FD_WRITE: u64 = 1 << 6;
pub(in crate::wasi) const FD_ADVISE: u64 = 1 << 7;
pub(in crate::wasi) const FD_ALLOCATE: u64 = 1 << 8;
pub(in crate::wasi) const PATH_CREATE_DIRECTORY: u64 = 1 << 9;
pub(in crate::wasi) const PATH_CREATE_FILE: u64 = 1 << 10;
pub(in crate::wasi) const PATH_LINK_SOURCE: u64 = 1 << 11;
pub(in crate::wasi) const PATH_LINK_TARGET: u64 = 1 << 12;
pub(in crate::wasi) const PATH_OPEN: u64 = 1 << 13;
pub(in crate::wasi) const FD_READDIR: u64 = 1 << 14;
pub(in crate::wasi) const PATH_READLINK: u64 = 1 << 15;
pub(in crate::wasi) const PATH_RENAME_SOURCE: u64 = 1 << 16;
pub(in crate::wasi) const PATH_RENAME_TARGET: u64 = 1 << 17;
pub(in crate::wasi) const PATH_FILESTAT_GET: u64 = 1 << 18;
pub(in crate::wasi) const PATH_FILESTAT_SET_SIZE: u64 = 1 << 19;
pub(in crate::wasi) const PATH_FILESTAT_SET_TIMES: u64 = 1 << 20;
pub(in crate::wasi) const FD_FILESTAT_GET: u64 = 1 << 21;
pub(in crate::wasi) const FD_FILESTAT_SET_SIZE: u64 = 1 << 22;
pub(in crate::wasi) const FD_FILESTAT_SET_TIMES: u64 = 1 << 23;
pub(in crate::wasi) const PATH_SYMLINK: u64 = 1 << 24;
pub(in crate::wasi) const PATH_REMOVE_DIRECTORY: u64 = 1 << 25;
pub(in crate::wasi) const PATH_UNLINK_FILE: u64 = 1 << 26;
pub(in crate::wasi) const POLL_FD_READWRITE: u64 = 1 << 27;
pub(in crate::wasi) const SOCK_SHUTDOWN: u64 = 1 << 28;
pub(in crate::wasi) const SOCK_ACCEPT: u64 = 1 << 29;

/// Every right there is.
pub(in crate::wasi) const ALL: u64 = (1 << 30) - 1;

/// What makes sense for a directory.
pub(in crate::wasi) const DIRECTORY: u64 = FD_DATASYNC
    | FD_FDSTAT_SET_FLAGS
    | FD_SYNC
    | PATH_CREATE_DIRECTORY
    | PATH_CREATE_FILE
    | PATH_LINK_SOURCE
    | PATH_LINK_TARGET
    | PATH_OPEN
    | FD_READDIR
    | PATH_READLINK
    | PATH_RENAME_SOURCE
    | PATH_RENAME_TARGET
    | PATH_FILESTAT_GET
    | PATH_FILESTAT_SET_SIZE
    | PATH_FILESTAT_SET_TIMES
    | FD_FILESTAT_GET
    | FD_FILESTAT_SET_TIMES
    | PATH_SYMLINK
    | PATH_REMOVE_DIRECTORY
    | PATH_UNLINK_FILE
    | POLL_FD_READWRITE;

/// What makes sense for a regular file.
pub(in crate::wasi) const FILE: u64 = FD_DATASYNC
    | FD_READ
    | FD_SEEK
    | FD_FDSTAT_SET_FLAGS
    | FD_SYNC
    | FD_TELL
    | FD_WRITE
    | FD_ADVISE
    | FD_ALLOCATE
    | FD_FILESTAT_GET
    | FD_FILESTAT_SET_SIZE
    | FD_FILESTAT_SET_TIMES
    | POLL_FD_READWRITE;

/// What only makes sense for a file open for writing.
pub(in crate::wasi) const WRITER: u64 = FD_WRITE | FD_ALLOCATE | FD_FILESTAT_SET_SIZE;

/// What makes sense for something that isn't a file: a pipe, a terminal, a device.
pub(in crate::wasi) const STREAM: u64 = FD_READ | FD_FDSTAT_SET_FLAGS | FD_WRITE | FD_FILESTAT_GET | POLL_FD_READWRITE;

/// What makes sense for a connected socket.
pub(in crate::wasi) const CONNECTION: u64 = STREAM | SOCK_SHUTDOWN;

/// What makes sense for a listening socket.
pub(in crate::wasi) const LISTENER: u64 = FD_FDSTAT_SET_FLAGS | FD_FILESTAT_GET | POLL_FD_READWRITE | SOCK_ACCEPT;

/// The rights of standard input before [`STREAM`] or another mask is applied.
pub(in crate::wasi) const STDIN: u64 = (FILE & !WRITER) | SOCK_SHUTDOWN | SOCK_ACCEPT;

/// The rights of standard output and standard error before a mask is applied. A socket is open in both directions.
pub(in crate::wasi) const STDOUT: u64 = (FILE & !FD_READ) | SOCK_SHUTDOWN;
