//! The run-time options: what an executable takes from `DUNLIN_OPTS`, and `dunlin run` and `dunlin resume` from their
//! command lines.
//!
//! `table.rs` lists each option once: from it come the parser and the printer (`words.rs`), and the help of the
//! `dunlin` command. `values.rs`, `grants.rs` and `signals.rs` have the kinds of values, `config.rs` what the program
//! gets to see.

mod config;
mod entry;
mod error;
mod grants;
mod signals;
mod table;
mod values;
mod words;

pub use config::WasiConfig;
pub use entry::{Entry, Group};
pub use error::{BadValue, OptionError};
pub use grants::Grant;
pub use signals::Signal;
pub use table::TABLE;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The environment variable that holds the options.
pub const OPTS_VARIABLE: &str = "DUNLIN_OPTS";

/// Size of the WebAssembly stack unless `--stack-size` says otherwise, in bytes: that of a Linux main thread.
pub const DEFAULT_STACK_SIZE: u64 = 8 << 20;

/// An environment variable of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value; `None` takes the one that the executable's own process has at start.
    pub value: Option<String>,
}

impl EnvVar {
    /// As `--env` takes it.
    fn word(&self) -> String {
        match &self.value {
            Some(value) => format!("{}={value}", self.name),
            None => self.name.clone(),
        }
    }
}

/// The run-time options, as given: nothing is looked up on the host yet, and what is `None` has the runtime's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--dir`, `--carry` and `--carry-all` `HOST[::GUEST]`: granted directories.
    pub dirs: Vec<Grant>,
    /// `--tcplisten ADDRESS:PORT`: sockets the program may accept connections on.
    pub listen: Vec<SocketAddr>,
    /// `--accept-changed`: go on though a shared file is not as it was.
    pub accept_changed: bool,
    /// `--no-rollback`: files stay as they are when the program goes back to a snapshot.
    pub no_rollback: bool,
    /// `--durable`: what undoes a change of a file is on the disk before the change.
    pub durable: bool,
    /// `--env NAME[=VALUE]`: the guest's environment.
    pub env: Vec<EnvVar>,
    /// `--argv0 NAME`: the guest's `argv[0]`.
    pub argv0: Option<String>,
    /// `--checkpoint-on SIGNAL[,SIGNAL]`: signals that make the program write `checkpoint_to` and exit.
    pub checkpoint_on: Vec<Signal>,
    /// `--evacuate-to HOST`: where the program goes on these signals, if it can: words for `dunlin migrate`.
    pub evacuate_to: Option<String>,
    /// `--evacuate-within DURATION`: how long that may take.
    pub evacuate_within: Option<Duration>,
    /// `--checkpoint-every DURATION`: how often the program writes a snapshot into `checkpoint_to`, and runs on.
    pub checkpoint_every: Option<Duration>,
    /// `--checkpoint-to FILE`: the snapshot to write, and to go on from if it exists at start. With
    /// `--checkpoint-every`: the directory of the snapshots.
    pub checkpoint_to: Option<PathBuf>,
    /// `--keep N`: how many snapshots stay in the directory.
    pub keep: Option<u32>,
    /// `--resume FILE`: the snapshot to go on from.
    pub resume: Option<PathBuf>,
    /// `--resume-latest DIR`: go on from the newest sound snapshot in a directory.
    pub resume_latest: Option<PathBuf>,
    /// `--invoke NAME`: the export to call instead of `_start`; the guest's arguments are its own.
    pub invoke: Option<String>,
    /// `--stack-size BYTES`: size of the WebAssembly stack.
    pub stack_size: Option<u64>,
    /// `--max-memory BYTES`: the most that linear memories, tables and exceptions may take together.
    pub max_memory: Option<u64>,
    /// `--no-control`: no control socket.
    pub no_control: bool,
    /// `--check`: with `resume` or `resume_latest`, say (as JSON) whether the program could go on, and end.
    pub check: bool,
    /// `--standby`: with nothing to go on from yet; orders come through standard input
    /// ([`dunlin_migrate::standby`]).
    pub standby: bool,
    /// `--commands` (tests): serve commands from standard input instead of running the program.
    pub commands: bool,
    /// `--host-calls` (tests): with `commands`, tell every call of a host function.
    pub host_calls: bool,
}

impl Options {
    /// The signals on which the program saves itself or goes elsewhere.
    pub fn signals(&self) -> Vec<Signal> {
        match self.evacuate_to {
            Some(_) if self.checkpoint_on.is_empty() => vec![Signal::Term],
            _ => self.checkpoint_on.clone(),
        }
    }

    /// What `dunlin migrate` is given besides the program's process id when the program has to go.
    pub fn evacuate_words(&self) -> Option<Vec<String>> {
        shlex::split(self.evacuate_to.as_deref()?)
    }
}

#[cfg(test)]
mod tests;
