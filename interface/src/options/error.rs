//! Why options are refused, in words for the person who gave them.

use std::ffi::OsStr;

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
    #[error("--{0}: {1}")]
    Value(&'static str, BadValue),
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

/// Why an option can't take a value; the option's name is added by whoever knows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{value}' {problem}")]
pub struct BadValue {
    /// The value, or the part of it that is wrong, made printable.
    value: String,
    /// What is wrong with it, as in "VALUE is not a path".
    problem: String,
}

impl BadValue {
    /// A value and what is wrong with it.
    pub(super) fn new(value: &OsStr, problem: impl Into<String>) -> BadValue {
        BadValue {
            value: value.to_string_lossy().into_owned(),
            problem: problem.into(),
        }
    }
}
