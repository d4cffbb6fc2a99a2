//! The messages between the `dunlin` command and a running executable, over a private unix socket: one JSON object a
//! line, one request and one reply per connection.

use crate::preflight::{Finding, Needs};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What the command asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Who are you?
    Info,
    /// Could you be moved now?
    Check,
    /// Write a snapshot, then exit (code 85) or go on.
    Checkpoint {
        /// Absolute path of the snapshot.
        to: PathBuf,
        /// Go on running afterwards.
        leave_running: bool,
    },
    /// Write a snapshot into a directory while the program runs on, for [`Request::HandOver`] and later rounds there to
    /// take pages from. As long as the connection stays open after the reply (or a newer one of the same directory),
    /// more is to come.
    Round {
        /// Absolute path of the transfer's directory.
        place: PathBuf,
        /// The round's number: 1, and then one more each time.
        number: u32,
    },
    /// Stop, with the state in `state.snap` of a directory, and wait for a [`Verdict`] on the same connection. If that
    /// ends without one, the transfer's record in the directory decides.
    HandOver {
        /// Absolute path of the transfer's directory.
        place: PathBuf,
        /// Whoever asks makes the snapshot and its name durable: the program doesn't wait for that.
        #[serde(default)]
        unsynced: bool,
    },
}

/// What becomes of a program that stands still after [`Request::HandOver`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It goes on here; the answer is [`Reply::GoesOn`].
    GoOn,
    /// It runs elsewhere: here it ends, which is the end of the connection.
    End {
        /// Where it runs, for a person.
        peer: String,
    },
}

/// What the executable answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Info`].
    Info(Info),
    /// The snapshot is written, and synced unless the request said otherwise.
    Checkpointed(Checkpointed),
    /// To [`Request::Round`]: the round is written and synced.
    Round(Round),
    /// To [`Request::Check`].
    Checked(Checked),
    /// To [`Verdict::GoOn`].
    GoesOn,
    /// The request failed; the program runs on as if it had not been asked.
    Failed {
        /// Why, for a person.
        error: String,
        /// What stands in the way, if that was found out before anything was done.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        findings: Vec<Finding>,
    },
}

/// Whether a program could be moved now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// What stands in the way where it runs.
    pub findings: Vec<Finding>,
    /// What it needs elsewhere, if nothing keeps that from being told.
    pub needs: Option<Needs>,
}

/// A running program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Process id.
    pub pid: u32,
    /// The name the program was built under.
    pub name: String,
    /// SHA-256 of its module, in hexadecimal.
    pub module: String,
    /// Architecture it runs on.
    pub arch: String,
    /// Its arguments, `argv[0]` included.
    pub args: Vec<String>,
    /// Seconds since the process started.
    pub uptime_seconds: u64,
    /// Size of its linear memories, in bytes.
    pub memory_bytes: u64,
    /// Whether it can be checkpointed (it was not built with `--no-migration`).
    pub migratable: bool,
    /// Its periodic snapshots, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub periodic: Option<Periodic>,
}

/// How periodic snapshots go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Periodic {
    /// Snapshots written.
    pub written: u64,
    /// Snapshots that failed.
    pub failed: u64,
    /// Size of the last one in bytes.
    pub last_bytes: u64,
    /// Pages stored in the last one.
    pub last_pages: u64,
    /// Microseconds that the program stood still for the last one.
    pub last_pause_us: u64,
    /// Microseconds that it stood still for any, at most.
    pub longest_pause_us: u64,
    /// Microseconds that the last one took to write, while the program ran on.
    pub last_write_us: u64,
    /// Why the last one failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A finished checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpointed {
    /// Size of the snapshot in bytes.
    pub bytes: u64,
    /// Frames captured.
    pub frames: u64,
    /// Microseconds from the request to the program's stop at a migration point.
    pub stop_us: u64,
    /// Microseconds to capture and write, and to sync unless that is left to whoever asked.
    pub write_us: u64,
}

/// A round of pre-copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Size of its file in bytes.
    pub bytes: u64,
    /// Microseconds that the program stood still for it.
    pub pause_us: u64,
    /// Microseconds that it took to write and sync, while the program ran.
    pub write_us: u64,
    /// Whether what the program changes from now on is told by the system, so that a stop needn't read all memory.
    pub tracked: bool,
}
