//! The options that `dunlin run`, `resume` and `check` hand on to an executable in `DUNLIN_OPTS`.
//!
//! The table in [`dunlin_interface::options`] has them all; here it becomes arguments of the command line. What they
//! mean and whether they make sense is decided there, too, so that both ways of giving them are refused or accepted
//! alike.

use crate::failure::{Failure, usage};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use dunlin_interface::options::{Entry, Group, OPTS_VARIABLE, Options, TABLE};
use std::env;
use std::ffi::OsString;

/// Run-time options as words, in the order of the command line. `START`: with those that a program is started with.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunTime<const START: bool>(Vec<OsString>);

/// What a program is started with, and what it may use of this machine.
pub(crate) type StartOptions = RunTime<true>;

/// What a program may use of this machine: a resumed one has the rest in its snapshot.
pub(crate) type HostOptions = RunTime<false>;

impl<const START: bool> RunTime<START> {
    /// The entries of the table that are taken.
    fn entries() -> impl Iterator<Item = &'static Entry> {
        let taken = |e: &&Entry| e.group == Group::Host || (START && e.group == Group::Start);
        TABLE.iter().filter(taken)
    }

    /// The words themselves.
    pub(crate) fn words(&self) -> impl Iterator<Item = OsString> {
        self.0.iter().cloned()
    }

    /// The checked options: those of `DUNLIN_OPTS`, if it is set, then these.
    pub(crate) fn checked(&self, doing: &str) -> Result<Options, Failure> {
        let before = env::var_os(OPTS_VARIABLE).unwrap_or_default();
        Options::parse(&before, self.0.clone()).map_err(|e| usage(format!("{doing}: {e}")))
    }
}

/// An entry of the table as clap has it.
fn arg(entry: &Entry) -> Arg {
    let arg = Arg::new(entry.name).long(entry.name).help(entry.help);
    let arg = arg.help_heading(entry.group.heading());
    match entry.value {
        None => arg.action(ArgAction::SetTrue),
        Some(value) => {
            arg.value_name(value)
                .value_parser(value_parser!(OsString))
                .action(match entry.is_repeatable() {
                    true => ArgAction::Append,
                    false => ArgAction::Set,
                })
        }
    }
}

impl<const START: bool> Args for RunTime<START> {
    fn augment_args(command: Command) -> Command {
        command.args(Self::entries().map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const START: bool> FromArgMatches for RunTime<START> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut words: Vec<(usize, OsString)> = Vec::new();
        for entry in Self::entries() {
            if matches.value_source(entry.name) != Some(ValueSource::CommandLine) {
                continue;
            }
            let places = matches.indices_of(entry.name).into_iter().flatten();
            let word = OsString::from(format!("--{}", entry.name));
            if entry.value.is_none() {
                words.extend(places.map(|place| (place, word.clone())));
                continue;
            }
            let values = matches.get_many::<OsString>(entry.name).into_iter().flatten();
            words.extend(places.zip(values).map(|(place, value)| {
                let mut word = word.clone();
                word.push("=");
                word.push(value);
                (place, word)
            }));
        }
        words.sort_by_key(|(place, _)| *place);
        Ok(RunTime(words.into_iter().map(|(_, word)| word).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Run {
        #[command(flatten)]
        options: StartOptions,
    }

    #[derive(Parser)]
    struct Resume {
        #[command(flatten)]
        options: HostOptions,
    }

    fn words(line: &[&str]) -> Vec<OsString> {
        Run::try_parse_from([&["x"], line].concat()).unwrap().options.0
    }

    #[test]
    fn every_option_of_the_table_is_taken_by_the_verbs_of_its_group() {
        for entry in TABLE {
            let word = match entry.value {
                Some(_) => format!("--{}=a b", entry.name),
                None => format!("--{}", entry.name),
            };
            let run = Run::try_parse_from(["x", &word]).map(|c| c.options.0);
            let resume = Resume::try_parse_from(["x", &word]).map(|c| c.options.0);
            let expected = [OsString::from(&word)];
            assert_eq!(
                run.is_ok_and(|w| w == expected),
                entry.group.heading().is_some(),
                "{word}"
            );
            assert_eq!(
                resume.is_ok_and(|w| w == expected),
                entry.group == Group::Host,
                "{word}"
            );
            let twice = Run::try_parse_from(["x", &word, &word]).is_ok();
            assert!(!twice || entry.is_repeatable(), "{word}");
        }
    }

    #[test]
    fn words_keep_their_order_and_their_bytes() {
        let line = [
            "--carry",
            "b",
            "--dir=a::/=",
            "--durable",
            "--carry=c",
            "--env=A=b c",
            "--env",
            "B",
        ];
        let expected = [
            "--carry=b",
            "--dir=a::/=",
            "--durable",
            "--carry=c",
            "--env=A=b c",
            "--env=B",
        ];
        assert_eq!(words(&line), expected);
        assert!(words(&[]).is_empty());
    }
}
