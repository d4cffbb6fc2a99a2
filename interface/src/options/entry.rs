//! What an entry of the table of options says.

use super::{BadValue, Options, TABLE};
use std::ffi::{OsStr, OsString};

/// Who takes an option besides `DUNLIN_OPTS`, and under which heading `--help` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What a program may use of this machine: `dunlin run`, `dunlin resume` and `dunlin check` take it.
    Host,
    /// What a program is started with, and has in its snapshots from then on: `dunlin run` takes it.
    Start,
    /// Which snapshot to go on from: for `DUNLIN_OPTS` only, `dunlin resume` has arguments of its own for it.
    Resume,
    /// For `DUNLIN_OPTS` only, and not for people: what `dunlin` and tests want of an executable.
    Internal,
}

impl Group {
    /// The heading in the help of `dunlin`; `None` if its commands don't take the group's options.
    pub fn heading(self) -> Option<&'static str> {
        match self {
            Group::Host => Some("What the program may use (also in DUNLIN_OPTS)"),
            Group::Start => Some("What the program is given (also in DUNLIN_OPTS)"),
            Group::Resume | Group::Internal => None,
        }
    }
}

/// An option.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name, without dashes.
    pub name: &'static str,
    /// What help calls its value; `None` of an option without one.
    pub value: Option<&'static str>,
    /// Who takes it.
    pub group: Group,
    /// What it does, as a line of `--help`.
    pub help: &'static str,
    /// Options, with what they take, one of which must be given with this one.
    pub(super) needs: &'static [&'static str],
    /// Names of options that can't be given with this one.
    pub(super) conflicts: &'static [&'static str],
    field: Field,
}

/// Where an option's values go in [`Options`], and come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// A command line may have it several times.
    pub(super) repeatable: bool,
    /// Takes in a value (an empty one, if the option has none).
    pub(super) set: fn(&mut Options, &OsStr) -> Result<(), BadValue>,
    /// The values that there are, each with its place among those of other options that go to the same list.
    pub(super) values: fn(&Options) -> Vec<(usize, OsString)>,
}

/// An option without a value.
pub(super) const fn flag(name: &'static str, group: Group, help: &'static str, field: Field) -> Entry {
    Entry {
        name,
        value: None,
        group,
        help,
        needs: &[],
        conflicts: &[],
        field,
    }
}

/// An option with a value.
pub(super) const fn option(
    name: &'static str,
    value: &'static str,
    group: Group,
    help: &'static str,
    field: Field,
) -> Entry {
    Entry {
        value: Some(value),
        ..flag(name, group, help, field)
    }
}

impl Entry {
    /// With options, and what they take, one of which must be given with this one.
    pub(super) const fn needs(self, needs: &'static [&'static str]) -> Entry {
        Entry { needs, ..self }
    }

    /// With names of options that can't be given with this one.
    pub(super) const fn conflicts(self, conflicts: &'static [&'static str]) -> Entry {
        Entry { conflicts, ..self }
    }

    /// The option of a name.
    pub(super) fn of(name: &str) -> Option<&'static Entry> {
        TABLE.iter().find(|entry| entry.name == name)
    }

    /// May a command line have it several times?
    pub fn is_repeatable(&self) -> bool {
        self.field.repeatable
    }

    /// Takes in a value: an empty one, if the option has none.
    pub(super) fn set(&self, options: &mut Options, value: &OsStr) -> Result<(), BadValue> {
        (self.field.set)(options, value)
    }

    /// The values given, each with its place among those of other options that go to the same list. An empty one, if
    /// the option has none and is given.
    pub(super) fn values(&self, options: &Options) -> Vec<(usize, OsString)> {
        (self.field.values)(options)
    }

    pub(super) fn is_given(&self, options: &Options) -> bool {
        !self.values(options).is_empty()
    }
}
