//! The messages between the `dunlin` command and a running executable, over a private unix socket: one JSON object a line, one
//! request and one reply per connection.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What the command asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Who are you?
    Info,
    /// Write a snapshot, then exit (code 85) or go on.
    Checkpoint {
        /// Absolute path of the snapshot.
        to: PathBuf,
        /// Go on running afterwards.
        leave_running: bool,
    },
}

/// What the executable answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Info`].
    Info(Info),
    /// The snapshot is written and synced.
    Checkpointed(Checkpointed),
    /// The request failed; the program runs on as if it had not been asked.
    Failed {
        /// Why, for a person.
        error: String,
    },
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
    /// Microseconds to capture, write and sync.
    pub write_us: u64,
}
