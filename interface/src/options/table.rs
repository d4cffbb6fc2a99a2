//! The table of run-time options. An option is an entry here, a field of [`super::Options`], a row in README.md
//! (tested) and, if its value is of a new kind, a function in `values.rs`.

use super::entry::Group::{Host, Internal, Resume, Start};
use super::entry::{Entry, Field, flag, option};
use super::grants::parse_listen;
use super::values;
use super::{EnvVar, Grant, Signal};
use dunlin_migrate::state::files::GrantMode;
use std::ffi::OsString;
use std::time::Duration;

/// A field that is true if the option is given.
macro_rules! flag {
    ($field:ident) => {
        Field {
            repeatable: false,
            set: |options, _| {
                options.$field = true;
                Ok(())
            },
            values: |options| options.$field.then(|| (0, OsString::new())).into_iter().collect(),
        }
    };
}

/// A field that holds one value or none: how it is read from a word, and written as one.
macro_rules! one {
    ($field:ident, $read:path, $write:expr) => {
        Field {
            repeatable: false,
            set: |options, value| {
                options.$field = Some($read(value)?);
                Ok(())
            },
            values: |options| options.$field.iter().map(|v| (0, OsString::from($write(v)))).collect(),
        }
    };
}

/// A field that holds any number of values: how one is read from a word, and written as one.
macro_rules! many {
    ($field:ident, $read:path, $write:expr) => {
        Field {
            repeatable: true,
            set: |options, value| {
                options.$field.push($read(value)?);
                Ok(())
            },
            values: |options| options.$field.iter().map(|v| (0, OsString::from($write(v)))).collect(),
        }
    };
}

/// Directories that are granted in one way; those of all ways are one list.
macro_rules! grants {
    ($mode:ident) => {
        Field {
            repeatable: true,
            set: |options, value| {
                options.dirs.push(Grant::parse(GrantMode::$mode, value)?);
                Ok(())
            },
            values: |options| {
                let dirs = options.dirs.iter().enumerate();
                let these = dirs.filter(|(_, dir)| dir.mode == GrantMode::$mode);
                these.map(|(place, dir)| (place, dir.value())).collect()
            },
        }
    };
}

/// All options, in the order of `--help`.
pub const TABLE: &[Entry] = &[
    option(
        "dir",
        "HOST[::GUEST]",
        Host,
        "Grant a directory, under the name GUEST if given; repeatable",
        grants!(Shared),
    ),
    option(
        "carry",
        "HOST[::GUEST]",
        Host,
        "As --dir, and the files the program has open there travel inside its snapshots; repeatable",
        grants!(Carry),
    ),
    option(
        "carry-all",
        "HOST[::GUEST]",
        Host,
        "As --dir, and all that is in it travels inside the snapshots; repeatable",
        grants!(CarryAll),
    ),
    flag(
        "accept-changed",
        Host,
        "On resuming, go on though a shared file (of --dir) is not as it was; where files go back with the program, \
         what others have changed since is kept under another name",
        flag!(accept_changed),
    ),
    flag(
        "no-rollback",
        Host,
        "With --checkpoint-every: leave files as they are when the program goes back to a snapshot",
        flag!(no_rollback),
    )
    .conflicts(&["durable"]),
    flag(
        "durable",
        Host,
        "With --checkpoint-every: make files go back with the program even after a power cut, at the cost of waiting \
         for the disk",
        flag!(durable),
    ),
    option(
        "tcplisten",
        "ADDRESS:PORT",
        Host,
        "Let the program accept connections there; repeatable",
        many!(listen, parse_listen, ToString::to_string),
    ),
    option(
        "checkpoint-on",
        "SIGNAL[,SIGNAL]",
        Host,
        "Write a snapshot and exit (code 85) when one of these signals arrives, such as TERM or TERM,USR1",
        Field {
            repeatable: false,
            set: |options, value| {
                for signal in values::signals(value)? {
                    if !options.checkpoint_on.contains(&signal) {
                        options.checkpoint_on.push(signal);
                    }
                }
                Ok(())
            },
            values: |options| {
                let names: Vec<&str> = options.checkpoint_on.iter().map(|s| Signal::name(*s)).collect();
                (!names.is_empty())
                    .then(|| (0, names.join(",").into()))
                    .into_iter()
                    .collect()
            },
        },
    )
    .needs(&["checkpoint-to FILE"]),
    option(
        "evacuate-to",
        "HOST",
        Host,
        "When one of the signals of --checkpoint-on arrives (TERM unless given), move to this machine as `dunlin \
         migrate` does; if that fails, write the snapshot. HOST may be followed by options of `dunlin migrate`, such \
         as 'ssh://pi -- --dir /data'",
        one!(evacuate_to, values::machine, |text| text),
    )
    .needs(&["checkpoint-to FILE"])
    .conflicts(&["no-control"]),
    option(
        "evacuate-within",
        "TIME",
        Host,
        "How long that move may take until the snapshot is written instead (default 20s)",
        one!(evacuate_within, values::every, |within: &Duration| format!(
            "{}ms",
            within.as_millis()
        )),
    )
    .needs(&["evacuate-to HOST"]),
    option(
        "checkpoint-to",
        "FILE|DIR",
        Host,
        "The snapshot that --checkpoint-on writes; if it exists at the start, the program goes on from it. With \
         --checkpoint-every: the directory of the snapshots, made if missing; the program goes on from the newest one \
         that is sound",
        one!(checkpoint_to, values::path, |path| path),
    ),
    option(
        "checkpoint-every",
        "TIME",
        Host,
        "Write a snapshot so often, such as 500ms, 30s, 5m or 1h, and run on; only changed memory is stored again",
        one!(checkpoint_every, values::every, |every: &Duration| format!(
            "{}ms",
            every.as_millis()
        )),
    )
    .needs(&["checkpoint-to DIR"]),
    option(
        "keep",
        "N",
        Host,
        "How many of these snapshots stay, besides earlier ones that they need (default 3)",
        one!(keep, values::kept, u32::to_string),
    )
    .needs(&["checkpoint-every TIME"]),
    option(
        "stack-size",
        "BYTES",
        Host,
        "Size of the WebAssembly stack, such as 64M (default 8M)",
        one!(stack_size, values::stack_size, u64::to_string),
    ),
    option(
        "max-memory",
        "BYTES",
        Host,
        "The most that linear memories, tables and exceptions may take together, such as 512M",
        one!(max_memory, values::size, u64::to_string),
    ),
    flag(
        "no-control",
        Host,
        "Don't listen for `dunlin ps` and `dunlin checkpoint`",
        flag!(no_control),
    ),
    option(
        "env",
        "NAME[=VALUE]",
        Start,
        "Set an environment variable of the program, or pass this command's own on; repeatable",
        many!(env, values::variable, EnvVar::word),
    ),
    option(
        "argv0",
        "NAME",
        Start,
        "The program's argv[0], instead of the name it was built under",
        one!(argv0, values::text, |text| text),
    ),
    option(
        "invoke",
        "NAME",
        Start,
        "Call this export instead of _start; the arguments are its own",
        one!(invoke, values::text, |text| text),
    ),
    option(
        "resume",
        "FILE",
        Resume,
        "Go on from this snapshot",
        one!(resume, values::path, |path| path),
    )
    .conflicts(&["resume-latest"]),
    option(
        "resume-latest",
        "DIR",
        Resume,
        "Go on from the newest sound snapshot of a directory of --checkpoint-every",
        one!(resume_latest, values::path, |path| path),
    ),
    flag(
        "check",
        Internal,
        "Print, as JSON, all that stands in the way of going on from the snapshot, and end",
        flag!(check),
    )
    .needs(&["resume FILE", "resume-latest DIR"]),
    flag(
        "standby",
        Internal,
        "Wait for a state to go on from; orders come through standard input",
        flag!(standby),
    )
    .conflicts(&["resume", "resume-latest", "check", "commands", "invoke"]),
    flag(
        "commands",
        Internal,
        "Serve commands from standard input instead of running the program",
        flag!(commands),
    )
    .conflicts(&["resume-latest", "invoke"]),
    flag(
        "host-calls",
        Internal,
        "With --commands: tell every call of a host function",
        flag!(host_calls),
    )
    .needs(&["commands"]),
];
