//! The machine architectures Dunlin emits code for, and how frames lie on their stacks.

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

impl Arch {
    /// The shape of its frames.
    pub fn frame_shape(self) -> FrameShape {
        match self {
            // Cranelift pushes the same pair on both: the caller's frame pointer, and above it the return address.
            Arch::X86_64 | Arch::Aarch64 => FrameShape {
                word: 8,
                link: 16,
                above: 16,
                caller_fp: 0,
                return_address: 8,
                align: 16,
                order: ByteOrder::Little,
            },
        }
    }
}

/// How the frames of compiled code lie on a stack. All stacks grow towards lower addresses; `fp` is a frame pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameShape {
    /// Size of a frame pointer and of a return address on the stack, in bytes: 4 or 8.
    pub word: u8,
    /// Bytes between the lowest byte of a frame, where the stack pointer is at a call, and the callee's `fp`.
    pub link: u8,
    /// Bytes between the stack's top and the outermost frame's `fp`.
    pub above: u8,
    /// Bytes from `fp` up to the word that holds the caller's `fp`.
    pub caller_fp: u8,
    /// Bytes from `fp` up to the return address.
    pub return_address: u8,
    /// Every `fp`, and the stack's top, is a multiple of so many bytes.
    pub align: u8,
    /// Byte order of everything in a frame: of those two words, and of the values in a record.
    pub order: ByteOrder,
}

/// Which byte of a number lies at the lowest address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// The lowest eight bits.
    Little,
    /// The highest eight bits.
    Big,
}

impl ByteOrder {
    /// The number that these bytes hold, of which there are at most 16.
    pub fn read(self, bytes: &[u8]) -> u128 {
        let mut number = [0; 16];
        match self {
            ByteOrder::Little => {
                number[..bytes.len()].copy_from_slice(bytes);
                u128::from_le_bytes(number)
            }
            ByteOrder::Big => {
                number[16 - bytes.len()..].copy_from_slice(bytes);
                u128::from_be_bytes(number)
            }
        }
    }

    /// Puts the lowest bits of a number into bytes, of which there are at most 16.
    pub fn write(self, number: u128, bytes: &mut [u8]) {
        match self {
            ByteOrder::Little => bytes.copy_from_slice(&number.to_le_bytes()[..bytes.len()]),
            ByteOrder::Big => bytes.copy_from_slice(&number.to_be_bytes()[16 - bytes.len()..]),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_value_in_both_orders() {
        for (order, expected) in [(ByteOrder::Little, [4, 3, 2, 1]), (ByteOrder::Big, [1, 2, 3, 4])] {
            let mut bytes = [0; 4];
            order.write(0xff_0102_0304, &mut bytes);
            assert_eq!((bytes, order.read(&bytes)), (expected, 0x0102_0304));
            let mut wide = [0; 16];
            order.write(u128::MAX - 5, &mut wide);
            assert_eq!(order.read(&wide), u128::MAX - 5);
        }
    }
}
