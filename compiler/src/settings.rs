//! What to compile for, and how.

use crate::limits::MAX_ALIVE;
use dunlin_format::arch::Arch;

/// How hard to optimise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum OptLevel {
    /// Not at all, and with the one-pass register allocator: compile fast.
    O0,
    /// Without Cranelift's mid-end, but with the full register allocator.
    O1,
    /// Everything, for speed.
    #[default]
    O2,
}

impl OptLevel {
    /// The inverse of the number in `-O0`, `-O1`, `-O2`.
    pub fn from_number(n: u32) -> Option<OptLevel> {
        [OptLevel::O0, OptLevel::O1, OptLevel::O2].get(n as usize).copied()
    }
}

/// Settings of the function compiler and its driver. The output depends on all of them but `threads`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Architectures to emit code for, each once.
    pub targets: Vec<Arch>,
    /// How hard to optimise.
    pub opt_level: OptLevel,
    /// Emit migration points. Without them the same code can't be checkpointed: the honest baseline.
    pub migration: bool,
    /// Make every NaN that arithmetic produces the canonical one, so that results are equal, bit for bit, on every
    /// architecture.
    pub deterministic: bool,
    /// Keep the optimised CLIF's text (`--emit clif`).
    pub want_clif: bool,
    /// Keep the assembly's text (`--emit asm`).
    pub want_asm: bool,
    /// Variables of a function that may be alive at once; in one with more, half as many stay in registers as far as
    /// those go, the others are in memory. Changes neither migration points nor snapshots.
    pub max_alive: usize,
    /// Threads to compile on; by default all cores.
    pub threads: Option<usize>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            targets: Arch::ALL.to_vec(),
            opt_level: OptLevel::default(),
            migration: true,
            deterministic: false,
            want_clif: false,
            want_asm: false,
            max_alive: MAX_ALIVE,
            threads: None,
        }
    }
}
