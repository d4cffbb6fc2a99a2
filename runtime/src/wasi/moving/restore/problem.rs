//! Why a state can't be put back on this machine.

use crate::wasi::WasiError;
use crate::wasi::errno::Errno;
use dunlin_interface::exit::{BAD_SNAPSHOT, NOT_HERE};
use dunlin_migrate::snapshot::SnapshotError;
use dunlin_migrate::state::files::FilesError;
use dunlin_migrate::state::wasi::WasiStateError;

pub(in crate::wasi) type Problems = Vec<RestoreProblem>;

/// A state can't be put back on this machine; every reason at once.
#[derive(Debug, thiserror::Error)]
#[error("{}", list(.0))]
pub struct RestoreError(pub Vec<RestoreProblem>);

impl RestoreError {
    /// The exit code: is the state itself bad, or does this machine lack something?
    pub fn exit_code(&self) -> i32 {
        let bad = |p: &RestoreProblem| {
            matches!(
                p,
                RestoreProblem::Invalid { .. }
                    | RestoreProblem::State(_)
                    | RestoreProblem::Files(_)
                    | RestoreProblem::Contents(_)
            )
        };
        if self.0.iter().any(bad) { BAD_SNAPSHOT } else { NOT_HERE }
    }
}

fn list(problems: &[RestoreProblem]) -> String {
    problems
        .iter()
        .map(RestoreProblem::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// One reason why a state can't be put back on this machine.
#[derive(Debug, thiserror::Error)]
pub enum RestoreProblem {
    /// A grant that the program uses is not among this machine's.
    #[error("the program uses the directory '{0}': say which one that is here with --dir HOST::{0}")]
    MissingGrant(String),
    /// Files are to be restored into a grant that isn't there, or wasn't given for that.
    #[error(
        "the snapshot brings files of the directory '{guest}': say where to put them here with --{option} HOST::{guest} \
         (files of the same names there are replaced)"
    )]
    NowhereToPut {
        /// The grant's name.
        guest: String,
        /// The option under which they were carried.
        option: &'static str,
    },
    /// The program listens on an address.
    #[error("the program listens on {0}: say where it listens here with --tcplisten ADDRESS:PORT")]
    MissingListener(String),
    /// A shared file that was open is another one here.
    #[error(
        "'{path}' in the directory '{guest}' is not the file that was open: {how}; put that one there, or go on with this one with \
         --accept-changed"
    )]
    Changed {
        /// The grant's name.
        guest: String,
        /// The path below it.
        path: String,
        /// In what it differs.
        how: String,
    },
    /// Others have changed, since the snapshot, what would be replaced or removed.
    #[error(
        "'{path}' in the directory '{guest}' was changed by someone else since the snapshot, and would be replaced: start the program again \
         with --accept-changed, and what is there now is kept under another name"
    )]
    Others {
        /// The grant's name.
        guest: String,
        /// The path below it.
        path: String,
    },
    /// A carried file can't be put where it belongs.
    #[error("'{path}' can't be put into the directory '{guest}': {why}")]
    Put {
        /// The grant's name.
        guest: String,
        /// The path below it.
        path: String,
        /// Why.
        why: String,
    },
    /// Carried files need more room than there is.
    #[error("the files that the snapshot brings need {need} bytes in the directory '{guest}', and {free} are free")]
    Room {
        /// The grant's name.
        guest: String,
        /// Bytes that are to be written there.
        need: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The state is damaged or forged.
    #[error(transparent)]
    State(#[from] WasiStateError),
    /// The list of carried files is damaged or forged.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A carried file's contents can't be had.
    #[error(transparent)]
    Contents(#[from] SnapshotError),
    /// A granted directory can't be opened.
    #[error(transparent)]
    Grant(#[from] WasiError),
    /// An open file or directory isn't there or may not be opened.
    #[error("'{path}' in the directory '{guest}' was open and can't be opened again: {why}")]
    Open {
        /// The grant's name.
        guest: String,
        /// The path below it.
        path: String,
        /// Why.
        why: String,
    },
    /// There are no descriptors left for what is open.
    #[error(
        "'{path}' in the directory '{guest}' was open, and no more files can be open here (the limit of descriptors is reached)"
    )]
    Descriptors {
        /// The grant's name.
        guest: String,
        /// The path below it.
        path: String,
    },
    /// An open file is something else here.
    #[error("'{path}' in the directory '{guest}' was open as a {was} and is none here")]
    Kind {
        /// The grant's name.
        guest: String,
        /// The path below it.
        path: String,
        /// What it was.
        was: &'static str,
    },
    /// The state contradicts itself: it is damaged or forged.
    #[error("the state's descriptor {fd} is invalid: {what}")]
    Invalid {
        /// The descriptor's number.
        fd: u32,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl RestoreProblem {
    /// A [`RestoreProblem::Put`].
    pub(in crate::wasi) fn put(guest: &str, path: &str, why: impl ToString) -> RestoreProblem {
        RestoreProblem::Put {
            guest: guest.to_owned(),
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}

/// What an error of the host says about a path.
pub(in crate::wasi) fn said(errno: Errno) -> String {
    match errno {
        Errno::Perm => "its path leads out of the directory".into(),
        errno => errno.to_string(),
    }
}
