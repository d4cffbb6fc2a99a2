//! The options that `dunlin run` and `dunlin resume` hand on to an executable in `DUNLIN_OPTS`.
//!
//! They are declared here once more for `--help`; their meaning and their checks are the runtime's own
//! ([`dunlin_interface::options`]), so that both ways of giving them are refused or accepted alike.

use crate::failure::{Failure, usage};
use clap::Args;
use dunlin_interface::options::{OPTS_VARIABLE, OptionError, Options};
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What a program is started with; a resumed one has it in its snapshot.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What the program is given (also in DUNLIN_OPTS)")]
pub struct StartArgs {
    /// Set an environment variable of the program, or pass this command's own on; repeatable
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// The program's argv[0], instead of the name it was built under
    #[arg(long, value_name = "NAME")]
    argv0: Option<OsString>,
    /// Call this export instead of _start; the arguments are its own
    #[arg(long, value_name = "NAME")]
    invoke: Option<OsString>,
}

/// What a program may use of this machine.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What the program may use (also in DUNLIN_OPTS)")]
pub struct HostArgs {
    /// Grant a directory, under the name GUEST if given; repeatable
    #[arg(long, value_name = "HOST[::GUEST]")]
    dir: Vec<OsString>,
    /// As --dir, and the files the program has open there travel inside its snapshots; repeatable
    #[arg(long, value_name = "HOST[::GUEST]")]
    carry: Vec<OsString>,
    /// As --dir, and all that is in it travels inside the snapshots; repeatable
    #[arg(long, value_name = "HOST[::GUEST]")]
    carry_all: Vec<OsString>,
    /// On resuming, go on though a shared file (of --dir) is not as it was; where files go back with the program, what
    /// others have changed since is kept under another name
    #[arg(long)]
    accept_changed: bool,
    /// With --checkpoint-every: leave files as they are when the program goes back to a snapshot
    #[arg(long, conflicts_with = "durable")]
    no_rollback: bool,
    /// With --checkpoint-every: make files go back with the program even after a power cut, at the cost of waiting for
    /// the disk
    #[arg(long)]
    durable: bool,
    /// Let the program accept connections there; repeatable
    #[arg(long, value_name = "ADDRESS:PORT")]
    tcplisten: Vec<OsString>,
    /// Write a snapshot and exit (code 85) when one of these signals arrives, such as TERM or TERM,USR1
    #[arg(long, value_name = "SIGNAL[,SIGNAL]", requires = "checkpoint_to")]
    checkpoint_on: Option<OsString>,
    /// The snapshot that --checkpoint-on writes; if it exists at the start, the program goes on from it. With
    /// --checkpoint-every: the directory of the snapshots, made if missing; the program goes on from the newest one
    /// that is sound
    #[arg(long, value_name = "FILE|DIR")]
    checkpoint_to: Option<OsString>,
    /// Write a snapshot so often, such as 500ms, 30s, 5m or 1h, and run on; only changed memory is stored again
    #[arg(long, value_name = "TIME", requires = "checkpoint_to")]
    checkpoint_every: Option<OsString>,
    /// How many of these snapshots stay, besides earlier ones that they need (default 3)
    #[arg(long, value_name = "N", requires = "checkpoint_every")]
    keep: Option<OsString>,
    /// Size of the WebAssembly stack, such as 64M (default 8M)
    #[arg(long, value_name = "BYTES")]
    stack_size: Option<OsString>,
    /// The most that linear memories, tables and exceptions may take together, such as 512M
    #[arg(long, value_name = "BYTES")]
    max_memory: Option<OsString>,
    /// Don't listen for `dunlin ps` and `dunlin checkpoint`
    #[arg(long)]
    no_control: bool,
}

/// Collects `--NAME=VALUE` words.
#[derive(Debug, Default)]
struct Words(Vec<OsString>);

impl Words {
    fn put<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a OsString>) {
        for value in values {
            let mut word = OsString::from(format!("--{name}="));
            word.push(value);
            self.0.push(word);
        }
    }
}

/// The checked options: those of `DUNLIN_OPTS`, if it is set, then those of the command line.
pub fn options(start: Option<&StartArgs>, host: &HostArgs, doing: &str) -> Result<Options, Failure> {
    let before = env::var_os(OPTS_VARIABLE).unwrap_or_default();
    combine(&before, start, host).map_err(|e| usage(format!("{doing}: {e}")))
}

fn combine(before: &OsStr, start: Option<&StartArgs>, host: &HostArgs) -> Result<Options, OptionError> {
    let mut words = Words::default();
    if let Some(start) = start {
        words.put("env", &start.env);
        words.put("argv0", &start.argv0);
        words.put("invoke", &start.invoke);
    }
    words.put("dir", &host.dir);
    words.put("carry", &host.carry);
    words.put("carry-all", &host.carry_all);
    words.put("tcplisten", &host.tcplisten);
    if host.accept_changed {
        words.0.push("--accept-changed".into());
    }
    if host.no_rollback {
        words.0.push("--no-rollback".into());
    }
    if host.durable {
        words.0.push("--durable".into());
    }
    words.put("checkpoint-on", &host.checkpoint_on);
    words.put("checkpoint-to", &host.checkpoint_to);
    words.put("checkpoint-every", &host.checkpoint_every);
    words.put("keep", &host.keep);
    words.put("stack-size", &host.stack_size);
    words.put("max-memory", &host.max_memory);
    if host.no_control {
        words.0.push("--no-control".into());
    }
    let before = shlex::bytes::split(before.as_bytes()).ok_or(OptionError::Quoting)?;
    match Options::parse_leading(before.into_iter().map(OsString::from_vec).chain(words.0))? {
        (options, rest) if rest.is_empty() => Ok(options),
        (_, rest) => Err(OptionError::Positional(rest[0].to_string_lossy().into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::path::PathBuf;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        start: StartArgs,
        #[command(flatten)]
        host: HostArgs,
    }

    fn parse(words: &[&str], before: &str) -> Result<Options, OptionError> {
        let c = Command::try_parse_from([&["x"], words].concat()).unwrap();
        combine(OsStr::new(before), Some(&c.start), &c.host)
    }

    #[test]
    fn every_flag_reaches_the_runtime() {
        let words = [
            "--dir",
            "/data::/d",
            "--dir=.",
            "--carry=c",
            "--carry-all=all::/a",
            "--accept-changed",
            "--tcplisten=127.0.0.1:8080",
            "--env",
            "A=b c",
            "--argv0=x y",
            "--checkpoint-on",
            "TERM,USR1",
            "--checkpoint-to",
            "s.snap",
            "--checkpoint-every",
            "1h",
            "--keep=9",
            "--invoke",
            "f",
            "--stack-size",
            "64M",
            "--max-memory",
            "1G",
            "--no-control",
        ];
        let o = parse(&words, "").unwrap();
        assert_eq!(o.dirs.len(), 4);
        assert_eq!(
            o.dirs.iter().map(|d| d.mode.option()).collect::<Vec<_>>(),
            ["dir", "dir", "carry", "carry-all"]
        );
        assert!(o.accept_changed && o.listen.len() == 1);
        assert_eq!(
            (o.dirs[0].host.clone(), o.dirs[0].guest.as_str()),
            (PathBuf::from("/data"), "/d")
        );
        assert_eq!((o.env[0].name.as_str(), o.env[0].value.as_deref()), ("A", Some("b c")));
        assert_eq!((o.argv0.as_deref(), o.invoke.as_deref()), (Some("x y"), Some("f")));
        assert_eq!(
            (o.checkpoint_on.len(), o.checkpoint_to.clone()),
            (2, Some(PathBuf::from("s.snap")))
        );
        assert_eq!(
            (o.checkpoint_every, o.keep),
            (Some(std::time::Duration::from_secs(3600)), Some(9))
        );
        assert_eq!(
            (o.stack_size, o.max_memory, o.no_control),
            (Some(64 << 20), Some(1 << 30), true)
        );
        assert_eq!(
            Options::parse_opts(&o.to_opts_string()).unwrap(),
            o,
            "what the executable reads is what was given"
        );
    }

    #[test]
    fn the_command_line_comes_after_the_variable() {
        let o = parse(&["--dir", "b", "--max-memory", "2M"], "--dir a --max-memory 1M").unwrap();
        assert_eq!(o.dirs.iter().map(|d| d.guest.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(o.max_memory, Some(2 << 20));
    }

    #[test]
    fn the_runtime_refuses_what_is_wrong() {
        assert!(parse(&["--stack-size", "1"], "").is_err());
        assert!(parse(&["--env", "=x"], "").is_err());
        assert!(matches!(parse(&[], "'"), Err(OptionError::Quoting)));
        assert!(matches!(parse(&[], "--dir a b"), Err(OptionError::Positional(_))));
    }
}
