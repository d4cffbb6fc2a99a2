//! The state of WASI preview1: what the program knows of its host, without any host resource.
//!
//! Nothing here is a descriptor, an address or an absolute path of a host. A file is named by the grant it was opened
//! through and its path below that grant; the machine that resumes decides which directory of its own the grant means.
//!
//! **Equality.** Two machines that stopped the same program at the same point, with equal arguments, grants and files,
//! have equal states but for [`WasiState::times`], which gathers everything that can't be equal: clock readings, and
//! what the host's file system chose (modification times, inode numbers). [`WasiState::without_times`] is what a test
//! of equality compares.
//!
//! A reader treats all of it as hostile: see the runtime's `wasi::persist`.

use super::files::Files;
use serde::{Deserialize, Serialize};

/// Descriptor numbers are below this, in the program and in its state.
pub const MAX_DESCRIPTORS: u32 = 1 << 16;

/// WASI's part of the uniform state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WasiState {
    /// The program's arguments, `argv[0]` included.
    pub args: Vec<String>,
    /// The program's environment.
    pub env: Vec<(String, String)>,
    /// The program's names for its granted directories, in the order in which they were granted. Descriptors refer to
    /// them by index. A name may occur twice: then the first of the state is the first that the resuming machine grants
    /// under it, and so on.
    pub grants: Vec<String>,
    /// Open descriptors, ascending by number.
    pub descriptors: Vec<Descriptor>,
    /// All that differs between machines at the same point.
    pub times: Times,
    /// What is in the program's files. Encoded apart, in sections of its own.
    #[serde(skip)]
    pub files: Files,
}

/// An open descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Its number, below [`MAX_DESCRIPTORS`].
    pub fd: u32,
    /// What may be done with it: WASI `rights` (of standard streams: before what the host's stream can't do is masked
    /// out).
    pub rights: u64,
    /// What may be done with descriptors opened through it: WASI `rights`.
    pub inheriting: u64,
    /// WASI `fdflags`.
    pub flags: u16,
    /// What it refers to.
    pub resource: Resource,
}

/// What a descriptor refers to. New variants go to the end: the order is part of the snapshot format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resource {
    /// A standard stream of whatever process runs the program, under whatever number the program has it now.
    Stdio {
        /// Which.
        stream: Stdio,
        /// Of standard input redirected from a regular file: how far it was read, in bytes.
        offset: Option<u64>,
    },
    /// A directory.
    Directory {
        /// Index into [`WasiState::grants`].
        grant: u32,
        /// Its path below the grant: components joined by `/`, none of them empty, `.` or `..`. The grant itself is the
        /// empty path.
        path: String,
        /// A preopened descriptor: one that `fd_prestat_get` knows. Its path is empty.
        preopened: bool,
        /// The names of a listing that the program has begun to read and not finished, in the order of its cookies,
        /// without `.` and `..` (which always have the first two). The cookie itself is the program's, in its memory.
        listing: Option<Vec<Vec<u8>>>,
    },
    /// A regular file.
    File {
        /// Index into [`WasiState::grants`].
        grant: u32,
        /// Its path below the grant; see [`Resource::Directory`].
        path: String,
        /// Position of the next read or write, in bytes.
        offset: u64,
        /// Size when the state was captured, in bytes: part of the file's identity.
        size: u64,
    },
    /// A regular file that has no name any more.
    Unlinked {
        /// Index into [`Files::unlinked`].
        file: u32,
        /// Position of the next read or write, in bytes.
        offset: u64,
    },
    /// A listening socket that the program was given.
    Listener {
        /// Index into [`Files::listeners`].
        index: u32,
    },
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What differs between machines at the same point: clock readings, and what the host's file system chose. Times are in
/// nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// The program's monotonic clock, which starts at 0 with the program and stands still from the capture to the
    /// resume.
    pub monotonic: u64,
    /// CPU time the program's processes have used so far.
    pub process_cpu: u64,
    /// CPU time the program's thread has used so far.
    pub thread_cpu: u64,
    /// If the state was captured inside an undone `poll_oneoff`: the monotonic clock when that call was first issued.
    /// Its relative timeouts count from there when it is issued again, so that a sleep keeps its deadline.
    pub poll_started: Option<u64>,
    /// The rest of the identity of every open file and directory, ascending by descriptor.
    pub files: Vec<FileTimes>,
}

/// The host-chosen part of an open file's or directory's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTimes {
    /// The descriptor's number.
    pub fd: u32,
    /// Last modification, in nanoseconds since 1970.
    pub modified: u64,
    /// The inode number the program sees. It keeps seeing it after the move, for programs (SQLite is one) that compare
    /// it with a later `stat` to find out whether their file was replaced.
    pub inode: u64,
}

/// Why a state can't be any program's: it is damaged or forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state is impossible: {0}")]
pub struct WasiStateError(pub &'static str);

impl WasiState {
    /// Checks what no program and no machine is needed for. Descriptors are checked one by one, where they are opened
    /// again.
    pub fn check(&self) -> Result<(), WasiStateError> {
        let fail = |what| Err(WasiStateError(what));
        let nul = |s: &String| s.contains('\0');
        // The program reads them up to the first NUL: it must not see others than a person who looks at the snapshot.
        if self.args.iter().any(nul) {
            return fail("a NUL in an argument");
        }
        if self
            .env
            .iter()
            .any(|(name, value)| nul(name) || nul(value) || name.contains('='))
        {
            return fail("a variable that no environment can hold");
        }
        if self.grants.iter().any(nul) || self.files.listeners.iter().any(nul) {
            return fail("a NUL in the name of a directory or an address");
        }
        Ok(())
    }

    /// The state without what differs between machines at the same point.
    pub fn without_times(&self) -> WasiState {
        WasiState {
            times: Times::default(),
            files: self.files.without_times(),
            ..self.clone()
        }
    }
}
