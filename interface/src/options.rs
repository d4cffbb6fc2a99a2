//! The runtime's options: `DUNLIN_OPTS`, which are also those of `dunlin run`, and the configuration made from them.

pub use crate::grants::Grant;
use crate::grants::parse_listen;
use crate::signals::Signal;
use dunlin_migrate::state::files::GrantMode;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

/// The environment variable that holds the options.
pub const OPTS_VARIABLE: &str = "DUNLIN_OPTS";

/// Size of the WebAssembly stack unless `--stack-size` says otherwise, in bytes: that of a Linux main thread.
pub const DEFAULT_STACK_SIZE: u64 = 8 << 20;

/// Least size of the WebAssembly stack, in bytes.
pub const MIN_STACK_SIZE: u64 = 16 << 10;

/// Greatest size of the WebAssembly stack, in bytes.
pub const MAX_STACK_SIZE: u64 = 64 << 30;

/// Shortest and longest time between periodic checkpoints, in milliseconds: 10 ms, and a year.
const MIN_EVERY_MS: u64 = 10;
const MAX_EVERY_MS: u64 = 8760 * 3_600_000;

/// The most snapshots that `--keep` keeps.
const MAX_KEEP: u32 = 1000;

/// What a program may see of its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WasiConfig {
    /// The guest's arguments, `argv[0]` included.
    pub args: Vec<String>,
    /// The guest's environment.
    pub env: Vec<(String, String)>,
    /// Addresses that the guest listens on, in the order given: its descriptors 3, 4, ...
    pub listen: Vec<SocketAddr>,
    /// Granted directories, in the order given: the descriptors after those.
    pub grants: Vec<Grant>,
    /// On resuming, take a shared file as it is, though it isn't as it was.
    pub accept_changed: bool,
    /// The files were taken back to the snapshot that the program goes on from: what isn't as it says was changed by
    /// others.
    pub back: bool,
    /// Where the program's own snapshots go, and whether that is a directory: the program itself shall not find it.
    pub snapshots: Option<(PathBuf, bool)>,
}

/// An environment variable for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value; `None` takes the host's at start.
    pub value: Option<String>,
}

/// The runtime's options, as given; nothing is looked up on the host yet.
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
    /// `--commands` (tests): serve commands from standard input instead of running the program.
    pub commands: bool,
    /// `--host-calls` (tests): with `commands`, tell every call of a host function.
    pub host_calls: bool,
}

/// Why options were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// `DUNLIN_OPTS` is not a list of shell words.
    #[error("DUNLIN_OPTS is not a list of shell words: a quote or backslash is not closed")]
    Quoting,
    /// An option that doesn't exist, a value where none belongs, or none where one does.
    #[error("{0} (the options are those of `dunlin run --help`)")]
    Syntax(String),
    /// A word that is no option.
    #[error("unexpected argument '{0}': options only; the program's own arguments go on its command line")]
    Positional(String),
    /// A value that its option can't take.
    #[error("--{option}: '{value}' {problem}")]
    Value {
        /// The option's name.
        option: &'static str,
        /// The value given.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An option that says nothing alone, and what has to be added, with what it takes.
    #[error("--{0} does nothing alone: add --{1}")]
    Needs(&'static str, &'static str),
    /// Two options that contradict each other.
    #[error("--{0} and --{1} can't be used together")]
    Conflict(&'static str, &'static str),
    /// `--env NAME` without a value, and the host has none either.
    #[error("--env {0}: no such variable in the environment; give it a value: --env {0}=VALUE")]
    NoSuchVariable(String),
    /// Something that WebAssembly programs can't be given.
    #[error("{what} is not UTF-8: {value}")]
    NotUtf8 {
        /// What it is.
        what: &'static str,
        /// The value, made printable.
        value: String,
    },
    /// A variable that turns on a test mode is not a positive number.
    #[error("{variable} must be a positive number, not '{value}'")]
    NotPositive {
        /// The variable.
        variable: &'static str,
        /// Its value, made printable.
        value: String,
    },
}

fn bad(option: &'static str, value: &OsStr, problem: impl Into<String>) -> OptionError {
    OptionError::Value {
        option,
        value: value.to_string_lossy().into_owned(),
        problem: problem.into(),
    }
}

fn utf8(what: &'static str, value: OsString) -> Result<String, OptionError> {
    value.into_string().map_err(|v| OptionError::NotUtf8 {
        what,
        value: v.to_string_lossy().into_owned(),
    })
}

impl Options {
    /// The options in `DUNLIN_OPTS`; defaults if it is unset.
    pub fn from_env() -> Result<Options, OptionError> {
        match std::env::var_os(OPTS_VARIABLE) {
            Some(opts) => Options::parse_opts(&opts),
            None => Ok(Options::default()),
        }
    }

    /// Parses the text of `DUNLIN_OPTS`: shell words, options only.
    pub fn parse_opts(opts: &OsStr) -> Result<Options, OptionError> {
        let words = shlex::bytes::split(opts.as_bytes()).ok_or(OptionError::Quoting)?;
        let (options, rest) = Options::parse_leading(words.into_iter().map(OsString::from_vec))?;
        match rest.first() {
            None => Ok(options),
            Some(word) => Err(OptionError::Positional(word.to_string_lossy().into_owned())),
        }
    }

    /// Parses options up to the first word that is none (or up to `--`); returns them and the words from there on.
    pub fn parse_leading(words: impl IntoIterator<Item = OsString>) -> Result<(Options, Vec<OsString>), OptionError> {
        use lexopt::prelude::*;
        let syntax = |e: lexopt::Error| OptionError::Syntax(e.to_string());
        let mut parser = lexopt::Parser::from_args(words);
        let mut o = Options::default();
        let mut rest = Vec::new();
        while let Some(arg) = parser.next().map_err(syntax)? {
            match arg {
                Long("dir") => o
                    .dirs
                    .push(Grant::parse(GrantMode::Shared, &parser.value().map_err(syntax)?)?),
                Long("carry") => o
                    .dirs
                    .push(Grant::parse(GrantMode::Carry, &parser.value().map_err(syntax)?)?),
                Long("carry-all") => o
                    .dirs
                    .push(Grant::parse(GrantMode::CarryAll, &parser.value().map_err(syntax)?)?),
                Long("tcplisten") => o.listen.push(parse_listen(&parser.value().map_err(syntax)?)?),
                Long("accept-changed") => o.accept_changed = true,
                Long("no-rollback") => o.no_rollback = true,
                Long("durable") => o.durable = true,
                Long("env") => o.env.push(parse_env(parser.value().map_err(syntax)?)?),
                Long("argv0") => o.argv0 = Some(parse_guest_string("argv0", parser.value().map_err(syntax)?)?),
                Long("checkpoint-on") => {
                    let value = parser.value().map_err(syntax)?;
                    for name in value.to_string_lossy().split(',') {
                        let signal = Signal::from_name(name).ok_or_else(|| {
                            let known: Vec<_> = Signal::ALL.iter().map(|s| s.name()).collect();
                            bad(
                                "checkpoint-on",
                                OsStr::new(name),
                                format!("is not a signal to use here; use one of {}", known.join(", ")),
                            )
                        })?;
                        if !o.checkpoint_on.contains(&signal) {
                            o.checkpoint_on.push(signal);
                        }
                    }
                }
                Long("checkpoint-to") => {
                    o.checkpoint_to = Some(parse_path("checkpoint-to", parser.value().map_err(syntax)?)?)
                }
                Long("checkpoint-every") => {
                    o.checkpoint_every = Some(parse_duration("checkpoint-every", &parser.value().map_err(syntax)?)?);
                }
                Long("keep") => {
                    let value = parser.value().map_err(syntax)?;
                    let number = value
                        .to_str()
                        .and_then(|v| v.parse().ok())
                        .filter(|n| (1..=MAX_KEEP).contains(n));
                    o.keep = Some(number.ok_or_else(|| bad("keep", &value, "is not a number from 1 to 1000"))?);
                }
                Long("resume-latest") => {
                    o.resume_latest = Some(parse_path("resume-latest", parser.value().map_err(syntax)?)?);
                }
                Long("check") => o.check = true,
                Long("resume") => o.resume = Some(parse_path("resume", parser.value().map_err(syntax)?)?),
                Long("invoke") => o.invoke = Some(utf8("the name after --invoke", parser.value().map_err(syntax)?)?),
                Long("stack-size") => {
                    let value = parser.value().map_err(syntax)?;
                    let size = parse_size("stack-size", &value)?;
                    if !(MIN_STACK_SIZE..=MAX_STACK_SIZE).contains(&size) {
                        return Err(bad("stack-size", &value, "is out of range: from 16K to 64G"));
                    }
                    o.stack_size = Some(size);
                }
                Long("max-memory") => o.max_memory = Some(parse_size("max-memory", &parser.value().map_err(syntax)?)?),
                Long("no-control") => o.no_control = true,
                Long("commands") => o.commands = true,
                Long("host-calls") => o.host_calls = true,
                Value(word) => {
                    rest.push(word);
                    rest.extend(parser.raw_args().map_err(syntax)?);
                    break;
                }
                Short(_) | Long(_) => return Err(syntax(arg.unexpected())),
            }
        }
        o.check()?;
        Ok((o, rest))
    }

    /// Refuses combinations that say nothing or contradict each other.
    pub fn check(&self) -> Result<(), OptionError> {
        let to = self.checkpoint_to.is_some();
        let every = self.checkpoint_every.is_some();
        let from = self.resume.is_some() || self.resume_latest.is_some();
        let needs = [
            (
                "checkpoint-on",
                !self.checkpoint_on.is_empty(),
                "checkpoint-to FILE",
                to,
            ),
            ("checkpoint-every", every, "checkpoint-to DIR", to),
            ("keep", self.keep.is_some(), "checkpoint-every TIME", every),
            ("check", self.check, "resume FILE", from),
            ("host-calls", self.host_calls, "commands", self.commands),
        ];
        if let Some((this, _, other, _)) = needs.iter().find(|(_, given, _, other)| *given && !other) {
            return Err(OptionError::Needs(this, other));
        }
        let conflicts = [
            ("commands", self.commands, "resume-latest", self.resume_latest.is_some()),
            ("commands", self.commands, "invoke", self.invoke.is_some()),
            (
                "resume",
                self.resume.is_some(),
                "resume-latest",
                self.resume_latest.is_some(),
            ),
            ("no-rollback", self.no_rollback, "durable", self.durable),
        ];
        match conflicts.iter().find(|(_, this, _, other)| *this && *other) {
            Some((this, _, other, _)) => Err(OptionError::Conflict(this, other)),
            None => Ok(()),
        }
    }

    /// The same options as one string for `DUNLIN_OPTS`; [`Options::parse_opts`] is the inverse. Empty for the
    /// defaults.
    pub fn to_opts_string(&self) -> OsString {
        let mut words: Vec<Vec<u8>> = Vec::new();
        let mut put = |name: &str, value: &[u8]| words.push([b"--", name.as_bytes(), b"=", value].concat());
        for dir in &self.dirs {
            put(dir.mode.option(), dir.value().as_bytes());
        }
        for address in &self.listen {
            put("tcplisten", address.to_string().as_bytes());
        }
        for var in &self.env {
            match &var.value {
                Some(value) => put("env", format!("{}={value}", var.name).as_bytes()),
                None => put("env", var.name.as_bytes()),
            }
        }
        if !self.checkpoint_on.is_empty() {
            let names: Vec<_> = self.checkpoint_on.iter().map(|s| s.name()).collect();
            put("checkpoint-on", names.join(",").as_bytes());
        }
        let paths = [
            ("checkpoint-to", &self.checkpoint_to),
            ("resume", &self.resume),
            ("resume-latest", &self.resume_latest),
        ];
        for (name, path) in paths {
            if let Some(path) = path {
                put(name, path.as_os_str().as_bytes());
            }
        }
        for (name, value) in [("argv0", &self.argv0), ("invoke", &self.invoke)] {
            if let Some(value) = value {
                put(name, value.as_bytes());
            }
        }
        if let Some(every) = self.checkpoint_every {
            put("checkpoint-every", format!("{}ms", every.as_millis()).as_bytes());
        }
        let numbers = [
            ("stack-size", self.stack_size),
            ("max-memory", self.max_memory),
            ("keep", self.keep.map(u64::from)),
        ];
        for (name, value) in numbers {
            if let Some(value) = value {
                put(name, value.to_string().as_bytes());
            }
        }
        let flags = [
            ("no-control", self.no_control),
            ("accept-changed", self.accept_changed),
            ("no-rollback", self.no_rollback),
            ("durable", self.durable),
            ("check", self.check),
            ("commands", self.commands),
            ("host-calls", self.host_calls),
        ];
        for (name, on) in flags {
            if on {
                words.push(format!("--{name}").into_bytes());
            }
        }
        // A NUL can't occur: no argument or path of a process holds one, and the parser refuses it elsewhere.
        let joined = shlex::bytes::Quoter::new()
            .allow_nul(true)
            .join(words.iter().map(Vec::as_slice));
        OsString::from_vec(joined.unwrap_or_default())
    }

    /// What the guest may see: `args` are the arguments after `argv[0]`, which is `--argv0` or else `name`.
    pub fn wasi_config(&self, name: &str, args: impl IntoIterator<Item = OsString>) -> Result<WasiConfig, OptionError> {
        let mut config = WasiConfig {
            listen: self.listen.clone(),
            grants: self.dirs.clone(),
            // Whoever wants files to stay as they are takes them as they are.
            accept_changed: self.accept_changed || self.no_rollback,
            snapshots: self
                .checkpoint_to
                .clone()
                .map(|to| (to, self.checkpoint_every.is_some())),
            ..WasiConfig::default()
        };
        config.args.push(self.argv0.clone().unwrap_or_else(|| name.to_owned()));
        for arg in args {
            config.args.push(utf8("an argument of the program", arg)?);
        }
        for var in &self.env {
            let value = match &var.value {
                Some(value) => value.clone(),
                None => {
                    let value =
                        std::env::var_os(&var.name).ok_or_else(|| OptionError::NoSuchVariable(var.name.clone()))?;
                    utf8("an environment variable's value", value)?
                }
            };
            config.env.retain(|(name, _)| *name != var.name);
            config.env.push((var.name.clone(), value));
        }
        Ok(config)
    }
}

fn parse_guest_string(option: &'static str, value: OsString) -> Result<String, OptionError> {
    if value.as_bytes().contains(&0) {
        return Err(bad(option, &value, "contains a NUL byte"));
    }
    value.into_string().map_err(|v| bad(option, &v, "is not UTF-8"))
}

fn parse_path(option: &'static str, value: OsString) -> Result<PathBuf, OptionError> {
    if value.is_empty() || value.as_bytes().contains(&0) {
        return Err(bad(option, &value, "is not a path"));
    }
    Ok(PathBuf::from(value))
}

fn parse_env(value: OsString) -> Result<EnvVar, OptionError> {
    let text = parse_guest_string("env", value)?;
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.clone(), None),
    };
    match name.is_empty() {
        true => Err(bad("env", OsStr::new(&text), "must be NAME=VALUE or NAME")),
        false => Ok(EnvVar { name, value }),
    }
}

/// A number of bytes: decimal, with an optional binary suffix K, M or G.
fn parse_size(option: &'static str, value: &OsStr) -> Result<u64, OptionError> {
    let text = value.to_string_lossy();
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (&text[..], 0),
    };
    let number = digits
        .parse::<u64>()
        .ok()
        .filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
    number.and_then(|n| n.checked_mul(1 << shift)).ok_or_else(|| {
        bad(
            option,
            value,
            "is not a number of bytes (such as 1048576, 1024K, 1M or 4G)",
        )
    })
}

/// A time such as `500ms`, `30s`, `5m` or `1h`.
fn parse_duration(option: &'static str, value: &OsStr) -> Result<Duration, OptionError> {
    let text = value.to_string_lossy();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = number
        .parse::<u64>()
        .ok()
        .zip(unit)
        .and_then(|(n, unit)| n.checked_mul(unit));
    match millis {
        None => Err(bad(option, value, "is not a time (such as 500ms, 30s, 5m or 1h)")),
        Some(n) if !(MIN_EVERY_MS..=MAX_EVERY_MS).contains(&n) => {
            Err(bad(option, value, "is out of range: from 10ms to 8760h"))
        }
        Some(n) => Ok(Duration::from_millis(n)),
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
