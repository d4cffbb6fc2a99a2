//! Options from words, and back.

use super::{Entry, Group, OPTS_VARIABLE, OptionError, Options, TABLE};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

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
        Options::parse(opts, [])
    }

    /// Parses the text of `DUNLIN_OPTS` (shell words), then the words of a command line: options only.
    pub fn parse(opts: &OsStr, more: impl IntoIterator<Item = OsString>) -> Result<Options, OptionError> {
        let words = shlex::bytes::split(opts.as_bytes()).ok_or(OptionError::Quoting)?;
        let syntax = |e: lexopt::Error| OptionError::Syntax(e.to_string());
        let mut parser = lexopt::Parser::from_args(words.into_iter().map(OsString::from_vec).chain(more));
        let mut options = Options::default();
        while let Some(arg) = parser.next().map_err(syntax)? {
            let entry = match &arg {
                lexopt::Arg::Value(word) => return Err(OptionError::Positional(word.to_string_lossy().into_owned())),
                lexopt::Arg::Long(name) => Entry::of(name),
                lexopt::Arg::Short(_) => None,
            };
            let entry = entry.ok_or_else(|| syntax(arg.unexpected()))?;
            let value = match entry.value {
                Some(_) => parser.value().map_err(syntax)?,
                None => OsString::new(),
            };
            entry
                .set(&mut options, &value)
                .map_err(|bad| OptionError::Value(entry.name, bad))?;
        }
        options.check()?;
        Ok(options)
    }

    /// Refuses combinations that say nothing or contradict each other.
    fn check(&self) -> Result<(), OptionError> {
        let name = |with_value: &'static str| with_value.split(' ').next().unwrap_or_default();
        let is_given = |name| Entry::of(name).is_some_and(|entry| entry.is_given(self));
        let given = || TABLE.iter().filter(|entry| entry.is_given(self));
        for entry in given() {
            if let [first, ..] = entry.needs
                && !entry.needs.iter().any(|other| is_given(name(other)))
            {
                return Err(OptionError::Needs(entry.name, first));
            }
        }
        for entry in given() {
            if let Some(other) = entry.conflicts.iter().find(|other| is_given(other)) {
                return Err(OptionError::Conflict(entry.name, other));
            }
        }
        Ok(())
    }

    /// Every option that is given, as often as it is, with its value (an empty one, if it has none).
    fn given(&self) -> Vec<(&'static Entry, OsString)> {
        let of = |entry: &'static Entry| {
            let values = entry.values(self).into_iter();
            values.map(move |(place, value)| (place, entry, value))
        };
        let mut given: Vec<_> = TABLE.iter().flat_map(of).collect();
        // What goes to one list keeps its order there, whichever options it came from.
        given.sort_by_key(|(place, ..)| *place);
        given.into_iter().map(|(_, entry, value)| (entry, value)).collect()
    }

    /// Those of these options that belong to a group.
    pub fn of_group(&self, group: Group) -> Options {
        let mut options = Options::default();
        for (entry, value) in self.given().iter().filter(|(entry, _)| entry.group == group) {
            // What was written from an option can be read again (tested for each).
            let _ = entry.set(&mut options, value);
        }
        options
    }

    /// The same options as one string for `DUNLIN_OPTS`; [`Options::parse_opts`] is the inverse. Empty for the
    /// defaults.
    pub fn to_opts_string(&self) -> OsString {
        let word = |(entry, value): (&Entry, OsString)| {
            let name = [b"--", entry.name.as_bytes()].concat();
            match entry.value {
                Some(_) => [&name[..], b"=", value.as_bytes()].concat(),
                None => name,
            }
        };
        let words: Vec<Vec<u8>> = self.given().into_iter().map(word).collect();
        // A NUL can't occur: no argument or path of a process holds one, and the parser refuses it elsewhere.
        let quoter = shlex::bytes::Quoter::new().allow_nul(true);
        let joined = quoter.join(words.iter().map(Vec::as_slice));
        OsString::from_vec(joined.unwrap_or_default())
    }
}
