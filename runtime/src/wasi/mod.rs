//! WASI preview1: our own implementation, whose state can be taken out, carried elsewhere and put back.
//!
//! Everything of `wasi_snapshot_preview1` is there, and its predecessor `wasi_unstable` with its own layouts. One
//! thread, no async runtime: a function that blocks polls its descriptor and the migration request at once (see
//! `wait`); a request that comes first undoes the call, and it is issued again after the move.
//!
//! | file | functions |
//! |------|-----------|
//! | `args_env` | `args_get`, `args_sizes_get`, `environ_get`, `environ_sizes_get` |
//! | `clock` | `clock_res_get`, `clock_time_get` (realtime, monotonic, process and thread CPU time) |
//! | `random` | `random_get` |
//! | `io` | `fd_read`, `fd_pread`, `fd_write`, `fd_pwrite` |
//! | `fd` | the other `fd_*` but for `fd_readdir` |
//! | `dir` | `fd_readdir` |
//! | `open` | `path_open` |
//! | `path` | the other `path_*` |
//! | `poll` | `poll_oneoff` |
//! | `sock` | `sock_accept`, `sock_recv`, `sock_send`, `sock_shutdown` |
//! | `proc` | `proc_raise`, `sched_yield`; `proc_exit` is in `func` |
//!
//! No function returns `ENOSYS`. Limits, all visible to the program as errors: `fd_fdstat_set_flags` can't turn
//! synchronous writes on after opening (`EINVAL`, as on Linux); `proc_raise` can't stop the program (`ENOTSUP`);
//! `poll_oneoff` knows no CPU clocks (`ENOTSUP`). What can't move is listed by [`Wasi::obstacles`].
//!
//! What changes files or names passes `change`, on its way to the undo journal.
//!
//! The state: `capture` takes it out, with `gather` finding the files that go along and `identity` what the others are;
//! `touched`, `writes` and `chunked` know what of them has to be read, because `watch` sees what calls do; `restore`
//! puts it back: `plan` finds all that hinders and is then committed, with `placement` looking where carried files go,
//! `stage` writing them and `attributes` giving them their permissions and times.

mod calls;
mod changes;
mod errno;
mod func;
mod host;
mod listen;
mod mem;
mod moving;
mod rights;
mod table;
mod wait;

pub use changes::hidden::NotApart;
pub use func::{WasiFunc, resolve};
pub use moving::capture::CaptureError;
pub use moving::obstacle::Obstacle;
pub use moving::restore::plan::Plan;
pub use moving::restore::problem::{RestoreError, RestoreProblem};

use crate::journal::{Journal, Root};
use calls::clock::Clocks;
use changes::carried::CarriedNames;
use changes::identity::Hashes;
use changes::touched::Touched;
use dunlin_interface::options::{Grant, WasiConfig};
use dunlin_migrate::state::files::GrantMode;
use dunlin_migrate::state::wasi::{Stdio, Times};
use func::Abi;
use std::collections::HashMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use table::{Descriptor, Table};

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It returns this value (an errno, zero for success).
    Return(u64),
    /// It returns, and has no result.
    ReturnNothing,
    /// The program ends with this code.
    Exit(u32),
    /// Nothing has happened, because a migration was requested: issue the same call again, here or elsewhere.
    Interrupted,
    /// The program ends with this message, as a trap does.
    Trap(String),
}

/// Inside, a call either is done or stops; [`Wasi::call`] makes an [`Outcome`] of it.
type Done = Result<(), wait::Stop>;

/// A granted directory.
#[derive(Debug)]
struct GrantedDir {
    /// The program's name for it.
    guest: String,
    /// The directory; `None` if nothing refers to it and it could not be opened again after a move.
    dir: Option<Arc<File>>,
    /// How its files travel.
    mode: GrantMode,
}

/// The host as one program sees it.
#[derive(Debug)]
pub struct Wasi {
    args: Vec<String>,
    env: Vec<(String, String)>,
    grants: Vec<GrantedDir>,
    /// Addresses of the listening sockets that the program was given.
    listeners: Vec<String>,
    table: Table,
    clocks: Clocks,
    /// See [`Times::poll_started`].
    poll_started: Option<u64>,
    /// How many times in a row the last call was undone, here.
    undone: u32,
    /// Files, by the host's device and inode, that the program knew by another inode number before it was moved here.
    aliases: HashMap<(u64, u64), u64>,
    /// Hashes of files already read.
    hashes: Hashes,
    /// What snapshots of this run have carried so far, by grant and path: what of it is gone when the next one is taken
    /// was removed.
    carried: Mutex<CarriedNames>,
    /// What the program has written, made and removed.
    touched: Touched,
    changes: changes::change::Changes,
    hidden: changes::hidden::Hidden,
    warnings: Vec<String>,
}

/// Why a program can't be given what its options say.
#[derive(Debug, thiserror::Error)]
pub enum WasiError {
    /// A directory can't be opened.
    #[error("--{option} {host}::{guest}: cannot open the directory {host}: {error}")]
    Grant {
        /// The option's name.
        option: &'static str,
        /// The directory on the host.
        host: PathBuf,
        /// The program's name for it.
        guest: String,
        /// The host's error.
        error: std::io::Error,
    },
    /// An address can't be listened on.
    #[error("--tcplisten {address}: cannot listen there: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The host's error.
        error: std::io::Error,
    },
    /// The program could write to its own snapshots.
    #[error(transparent)]
    NotApart(#[from] NotApart),
    /// More directories than descriptors.
    #[error("too many --dir, --carry and --tcplisten options")]
    TooManyGrants,
}

impl Wasi {
    /// A program that has nothing.
    fn empty() -> Wasi {
        Wasi {
            args: Vec::new(),
            env: Vec::new(),
            grants: Vec::new(),
            listeners: Vec::new(),
            table: Table::default(),
            clocks: Clocks::from(&Times::default()),
            poll_started: None,
            undone: 0,
            aliases: HashMap::new(),
            hashes: Hashes::default(),
            carried: Mutex::default(),
            touched: Touched::default(),
            changes: changes::change::Changes::default(),
            hidden: changes::hidden::Hidden::default(),
            warnings: Vec::new(),
        }
    }

    /// The host for a program that starts: standard streams as descriptors 0 to 2, from 3 on listening sockets, then
    /// granted directories (wasmtime's order).
    pub fn new(config: &WasiConfig) -> Result<Wasi, WasiError> {
        let mut wasi = Wasi {
            args: config.args.clone(),
            env: config.env.clone(),
            ..Wasi::empty()
        };
        for stream in [Stdio::Stdin, Stdio::Stdout, Stdio::Stderr] {
            let inserted = wasi.table.insert(Descriptor::stdio(stream));
            inserted.map_err(|_| WasiError::TooManyGrants)?;
        }
        for address in &config.listen {
            let socket = listen::listen(address)?;
            let added = wasi.add_listener(socket, address.to_string());
            added.ok_or(WasiError::TooManyGrants)?;
        }
        for (index, grant) in (0u32..).zip(&config.grants) {
            let dir = Arc::new(open_grant(grant)?);
            wasi.grants.push(GrantedDir {
                guest: grant.guest.clone(),
                dir: Some(dir.clone()),
                mode: grant.mode,
            });
            let inserted = wasi.table.insert(Descriptor::preopened(index, dir));
            inserted.map_err(|_| WasiError::TooManyGrants)?;
        }
        wasi.touched = Touched::new(wasi.grants.iter().map(|g| g.mode));
        wasi.clear_killed_restores();
        wasi.hide_snapshots(config)?;
        Ok(wasi)
    }

    /// The granted directories, as an undo journal names them.
    pub fn roots(&self) -> Vec<Root> {
        let root = |grant: &GrantedDir| Root {
            guest: grant.guest.clone(),
            dir: grant.dir.clone(),
            carried: grant.mode.carries(),
        };
        self.grants.iter().map(root).collect()
    }

    /// From now on the program's changes are recorded there, or nowhere.
    pub fn set_journal(&mut self, journal: Option<Journal>) {
        self.changes.journal = journal;
    }

    /// The undo journal, if there is one.
    pub fn journal(&mut self) -> Option<&mut Journal> {
        self.changes.journal.as_mut()
    }

    /// Must a snapshot's files be on the disk before the snapshot?
    pub fn durable(&self) -> bool {
        self.changes.journal.as_ref().is_some_and(Journal::durable)
    }

    /// Puts everything that was written through the grants on the disk.
    pub fn sync_files(&self) {
        if let Some(journal) = &self.changes.journal {
            journal.sync_files();
        }
    }

    /// Takes the undo journal away, to be given to what takes this host's place.
    pub fn take_journal(&mut self) -> Option<Journal> {
        self.changes.journal.take()
    }

    /// What a person should know about a restored program: files that are not as they were when its state was captured.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Opens the directory that the person who runs the program granted.
fn open_grant(grant: &Grant) -> Result<File, WasiError> {
    let authority = cap_primitives::ambient_authority();
    match cap_primitives::fs::open_ambient_dir(&grant.host, authority) {
        Ok(dir) => Ok(calls::open::readable(dir)),
        Err(error) => Err(WasiError::Grant {
            option: grant.mode.option(),
            host: grant.host.clone(),
            guest: grant.guest.clone(),
            error,
        }),
    }
}
