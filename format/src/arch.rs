//! The machine architectures Dunlin emits code for.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A target architecture. The discriminant is what the image header stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u32)]
pub enum Arch {
    /// x86-64, System V ABI.
    X86_64 = 1,
    /// AArch64, AAPCS64.
    Aarch64 = 2,
}

impl Arch {
    /// Every architecture, in a fixed order.
    pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

    /// The architecture this program itself runs on, if Dunlin supports it.
    pub fn host() -> Option<Arch> {
        if cfg!(target_arch = "x86_64") {
            Some(Arch::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Arch::Aarch64)
        } else {
            None
        }
    }

    /// The name used in file suffixes and options (`uname -m`'s).
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// The inverse of [`Arch::name`].
    pub fn from_name(name: &str) -> Option<Arch> {
        Arch::ALL.into_iter().find(|a| a.name() == name)
    }

    /// The inverse of `arch as u32`.
    pub fn from_u32(n: u32) -> Option<Arch> {
        Arch::ALL.into_iter().find(|a| *a as u32 == n)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
