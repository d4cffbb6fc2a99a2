//! What `dunlin serve` may do: `$XDG_CONFIG_HOME/dunlin/serve.toml` (`~/.config/dunlin/serve.toml`).
//!
//! ```toml
//! listen = ["[::]:7746"]          # where it listens
//! executables = "compiled-here"   # what runs; with "paired", executables that paired devices send, too
//! max-programs = 64               # programs that came and run at the same time
//! total-memory = "4G"             # of all of them together; then each has a max-memory
//! max-executable = "256M"         # of a module or executable that comes
//! max-state = "16G"               # of a program's state that comes; with all rounds before it, twice that
//! max-connections = 64            # of paired devices at the same time
//! name = "attic"                  # what others are told that this device is called
//! emulator = "aarch64=qemu-aarch64"
//!
//! [programs]                      # what each of them may use: the options of `dunlin receive`
//! dir = ["/srv/data::/data"]
//! max-memory = "1G"
//! ```
//!
//! What isn't known there is refused, with its line.

use crate::moving::devices::PORT;
use crate::show;
use dunlin_interface::options::{Group, TABLE};
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Which executables run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Executables {
    /// Those that this device has compiled itself, or that its user has installed.
    #[default]
    CompiledHere,
    /// Also those that paired devices send.
    Paired,
}

/// What is said in the file, or by flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// Where to listen; the default if empty.
    pub listen: Vec<SocketAddr>,
    /// What others are told that this device is called.
    pub name: Option<String>,
    /// Which executables run.
    pub executables: Option<Executables>,
    /// Programs that came and run at the same time.
    pub max_programs: Option<u64>,
    /// Memory of all of them together, in bytes.
    pub total_memory: Option<u64>,
    /// Bytes of a module or executable that comes.
    pub max_executable: Option<u64>,
    /// Bytes of a program's state that comes.
    pub max_state: Option<u64>,
    /// Connections of paired devices at the same time.
    pub max_connections: Option<u64>,
    /// ARCH=COMMAND.
    pub emulator: Option<String>,
    /// The options of `dunlin receive`, as words.
    pub programs: Vec<OsString>,
}

/// Where it is; `None` if the environment names no home.
pub(crate) fn place() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(base.join("dunlin/serve.toml"))
}

/// Reads a size: bytes, or with K, M, G or T.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let why = || format!("{} is no size (such as 65536, 512M or 4G)", show::clean(text));
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        Some((at, 'T' | 't')) => (&text[..at], 40),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| why())?;
    number.checked_mul(1 << shift).ok_or_else(why)
}

impl Configuration {
    /// The file that is named, or the user's own, which need not be there.
    pub(crate) fn read(named: Option<&Path>) -> Result<Configuration, String> {
        let Some(path) = named.map(Path::to_owned).or_else(place) else {
            return Ok(Configuration::default());
        };
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound && named.is_none() => return Ok(Configuration::default()),
            other => other.map_err(|e: io::Error| format!("{}: {e}", show::path(&path)))?,
        };
        Configuration::parse(&text).map_err(|why| format!("{}: {why}", show::path(&path)))
    }

    /// Reads the text of the file. An error tells the line.
    pub(crate) fn parse(text: &str) -> Result<Configuration, String> {
        let table = DeTable::parse(text).map_err(|e| at(text, e.span().unwrap_or_default(), e.message()))?;
        let mut found = Configuration::default();
        for (key, value) in table.get_ref() {
            let set = found.set(key.get_ref(), value);
            set.map_err(|(span, why)| at(text, span.unwrap_or_else(|| key.span()), &why))?;
        }
        Ok(found)
    }

    /// Takes in one entry. An error has its own place, or is about the key.
    fn set(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<(), (Option<Range<usize>>, String)> {
        let wrong = |why: String| (Some(value.span()), why);
        let word = || word(value).map_err(wrong);
        let amount = || word().and_then(|w| size(&w).map_err(wrong));
        match key {
            "listen" => {
                for word in words(value).map_err(wrong)? {
                    let address = word
                        .parse()
                        .map_err(|_| wrong(format!("{} is not ADDRESS:PORT", show::clean(&word))))?;
                    self.listen.push(address);
                }
            }
            "name" => self.name = Some(word()?),
            "emulator" => self.emulator = Some(word()?),
            "executables" => {
                self.executables = Some(match word()?.as_str() {
                    "compiled-here" => Executables::CompiledHere,
                    "paired" => Executables::Paired,
                    _ => return Err(wrong("it is \"compiled-here\" or \"paired\"".into())),
                });
            }
            "max-programs" => self.max_programs = Some(amount()?),
            "total-memory" => self.total_memory = Some(amount()?),
            "max-executable" => self.max_executable = Some(amount()?),
            "max-state" => self.max_state = Some(amount()?),
            "max-connections" => self.max_connections = Some(amount()?),
            "programs" => {
                let DeValue::Table(table) = value.get_ref() else {
                    return Err(wrong("it is a table: [programs]".into()));
                };
                for (key, value) in table {
                    self.option(key.get_ref(), value)
                        .map_err(|why| (Some(key.span()), why))?;
                }
            }
            _ => return Err((None, format!("{} is not known", show::clean(key)))),
        }
        Ok(())
    }

    /// One of the options of `dunlin receive`.
    fn option(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<(), String> {
        let known = |e: &&dunlin_interface::options::Entry| e.group == Group::Host && e.name == key;
        let Some(entry) = TABLE.iter().find(known) else {
            return Err(format!("{} is no option of programs", show::clean(key)));
        };
        match (entry.value, value.get_ref()) {
            (None, DeValue::Boolean(true)) => self.programs.push(format!("--{key}").into()),
            (None, DeValue::Boolean(false)) => {}
            (None, _) => return Err(format!("{key} is true or false")),
            (Some(_), DeValue::Array(_)) if !entry.is_repeatable() => return Err(format!("{key} has one value")),
            (Some(_), _) => {
                let words = words(value).map_err(|why| format!("{key}: {why}"))?;
                self.programs
                    .extend(words.iter().map(|w| format!("--{key}={w}").into()));
            }
        }
        Ok(())
    }

    /// Where to listen.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        match self.listen.is_empty() {
            false => self.listen.clone(),
            // Where there is no IPv6, the second one is meant.
            true => vec![
                (Ipv6Addr::UNSPECIFIED, PORT).into(),
                (Ipv4Addr::UNSPECIFIED, PORT).into(),
            ],
        }
    }
}

fn word(value: &Spanned<DeValue<'_>>) -> Result<String, String> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        _ => Err("it is a text or a number".into()),
    }
}

/// One text, or a list of them.
fn words(value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, String> {
    match value.get_ref() {
        DeValue::Array(list) => list.iter().map(word).collect(),
        _ => Ok(vec![word(value)?]),
    }
}

/// What is wrong, with its line.
fn at(text: &str, span: Range<usize>, why: &str) -> String {
    let before = text.get(..span.start).unwrap_or(text);
    let line = 1 + before.matches('\n').count();
    format!("line {line}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in this file's documentation.
    fn example() -> String {
        let text = include_str!("configuration.rs");
        let from = text.find("```toml\n").unwrap() + 8;
        let text = &text[from..];
        let lines = text.lines().take_while(|l| *l != "//! ```");
        lines
            .map(|l| format!("{}\n", l.trim_start_matches("//!").trim_start()))
            .collect()
    }

    #[test]
    fn the_example_is_read() {
        let found = Configuration::parse(&example()).unwrap();
        assert_eq!(found.listen, ["[::]:7746".parse().unwrap()]);
        assert_eq!(found.executables, Some(Executables::CompiledHere));
        assert_eq!(found.total_memory, Some(4 << 30));
        assert_eq!(found.max_programs, Some(64));
        assert_eq!(found.programs, ["--dir=/srv/data::/data", "--max-memory=1G"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, why) in [
            ("\nmax-program = 3", 2, "max-program is not known"),
            ("name = \"a\"\n\n[programs]\ndir = \"/a\"\nfoo = 1", 5, "foo"),
            ("[programs]\nresume = \"x\"", 2, "resume"),
            ("total-memory = \"4X\"", 1, "no size"),
            ("total-memory = \"99999999T\"", 1, "no size"),
            ("listen = [\"pi\"]", 1, "ADDRESS:PORT"),
            ("executables = \"all\"", 1, "compiled-here"),
            ("a = \n", 1, ""),
            ("name = \"a\"\nname = \"b\"", 2, ""),
            ("programs = 1", 1, "table"),
            ("[programs]\ndurable = 1", 2, "true or false"),
            ("[programs]\nmax-memory = [1, 2]", 2, "one value"),
        ] {
            let told = Configuration::parse(text).unwrap_err();
            assert!(
                told.starts_with(&format!("line {line}: ")) && told.contains(why),
                "{text}: {told}"
            );
        }
        assert_eq!(Configuration::parse("").unwrap(), Configuration::default());
    }
}
