//! Programs that are killed at any instant, with their files: after "start again" with the same command, again and
//! again, a program must end as if nothing had happened, and so must its files.

mod blows;
mod disk;
pub mod files;
mod journey;

pub use disk::Disk;
pub use journey::{Journey, Plan, Tally};

use crate::program::Program;
use crate::real::Recipe;
use crate::recipes;
use crate::slice;
use dunlin_format::arch::Arch;
use std::path::Path;
use std::sync::OnceLock;

/// Random numbers from a seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed; equal texts and numbers give equal sequences.
    pub fn new(seed: u64, what: &str, nth: u64) -> Random {
        let mut random = Random(seed ^ nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for byte in what.bytes() {
            random.0 ^= u64::from(byte);
            random.bits();
        }
        random
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    /// Is it so, in `n` of 100 cases?
    pub fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }
}

/// The campaign's seed: `$DUNLIN_UNISON_SEED`, else one that changes with the commit.
pub fn seed() -> u64 {
    match std::env::var("DUNLIN_UNISON_SEED") {
        Ok(text) => text.parse().expect("DUNLIN_UNISON_SEED is a number"),
        Err(_) => slice::seed() % 1_000_000,
    }
}

/// How many kills: `$DUNLIN_UNISON_KILLS`, else `default`, or ten times that when all is asked for.
pub fn kills(default: u64) -> u64 {
    match std::env::var("DUNLIN_UNISON_KILLS") {
        Ok(text) => text.parse().expect("DUNLIN_UNISON_KILLS is a number"),
        Err(_) if slice::full() => 10 * default,
        Err(_) => default,
    }
}

/// How a directory is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// `--dir`
    Dir,
    /// `--carry`
    Carry,
    /// `--carry-all`
    CarryAll,
}

impl Grant {
    /// All of them.
    pub const ALL: [Grant; 3] = [Grant::Dir, Grant::Carry, Grant::CarryAll];

    /// The option, and its value for a directory that the program sees as `/data`.
    pub fn option(self, data: &Path) -> [String; 2] {
        let name = match self {
            Grant::Dir => "--dir",
            Grant::Carry => "--carry",
            Grant::CarryAll => "--carry-all",
        };
        [name.to_owned(), format!("{}::/data", data.display())]
    }
}

/// A program, and what it is to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Guest {
    /// SQLite, with the journal mode.
    Bank(&'static str),
    /// A random file workload.
    Files,
    /// A logger.
    Log,
}

impl Guest {
    /// All of them; the file workload, which finds most, comes oftener.
    pub const ALL: [Guest; 8] = [
        Guest::Files,
        Guest::Bank("delete"),
        Guest::Bank("wal"),
        Guest::Log,
        Guest::Files,
        Guest::Bank("memory"),
        Guest::Bank("truncate"),
        Guest::Bank("persist"),
    ];

    /// Its executables, built once.
    #[track_caller]
    pub fn program(&self) -> &'static Program {
        static PROGRAMS: [OnceLock<Program>; 3] = [const { OnceLock::new() }; 3];
        let (nth, recipe): (usize, fn() -> Recipe) = match self {
            Guest::Bank(_) => (0, recipes::unison_bank),
            Guest::Files => (1, recipes::unison_files),
            Guest::Log => (2, recipes::unison_log),
        };
        PROGRAMS[nth].get_or_init(|| Program::build(&recipe().module()))
    }

    /// Its arguments: a seed, and work for one or two seconds; under an emulator, a fifth of that.
    pub fn args(&self, seed: u64, emulated: bool) -> Vec<String> {
        let share = if emulated { 5 } else { 1 };
        let mut args = vec!["/data".to_owned(), seed.to_string()];
        match self {
            Guest::Bank(journal) => args.extend([(800 / share).to_string(), (*journal).to_owned()]),
            Guest::Files => args.push((20_000 / share).to_string()),
            Guest::Log => args.push((30_000 / share).to_string()),
        }
        args
    }
}

/// Where the legs of a journey run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// All on one architecture.
    Stays(Arch),
    /// Now on one, now on the other; the files and snapshots stay where they are.
    Moves,
}

impl Place {
    /// Where the next leg runs.
    pub fn next(self, random: &mut Random) -> Arch {
        match self {
            Place::Stays(arch) => arch,
            Place::Moves if random.percent(50) => Arch::X86_64,
            Place::Moves => Arch::Aarch64,
        }
    }

    /// Is a part of it emulated?
    pub fn emulated(self) -> bool {
        self != Place::Stays(Arch::X86_64)
    }
}
