//! The architectures Dunlin emits code for, and how frames lie on their stacks: those of machines, and those of
//! Cranelift's portable interpreter, Pulley.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An architecture of code. The discriminant is what the image header stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u32)]
pub enum Arch {
    /// x86-64, System V ABI.
    X86_64 = 1,
    /// AArch64, AAPCS64.
    Aarch64 = 2,
    /// Pulley bytecode for little-endian machines with 64-bit pointers.
    Pulley64 = 3,
    /// Pulley bytecode for little-endian machines with 32-bit pointers.
    Pulley32 = 4,
}

impl Arch {
    /// Every machine's own architecture, in a fixed order.
    pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

    /// The interpreter's architectures, in a fixed order: the code is the same for every machine of that pointer width.
    pub const PORTABLE: [Arch; 2] = [Arch::Pulley64, Arch::Pulley32];

    /// The architecture of the machine that this program itself runs on, if Dunlin supports it.
    pub fn host() -> Option<Arch> {
        if cfg!(target_arch = "x86_64") {
            Some(Arch::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Arch::Aarch64)
        } else {
            None
        }
    }

    /// The architecture of the code that the interpreter runs on this machine, if there is any: none where numbers
    /// begin with their highest byte.
    pub fn portable_host() -> Option<Arch> {
        if cfg!(not(target_endian = "little")) {
            None
        } else if cfg!(target_pointer_width = "64") {
            Some(Arch::Pulley64)
        } else if cfg!(target_pointer_width = "32") {
            Some(Arch::Pulley32)
        } else {
            None
        }
    }

    /// Whether its code is the interpreter's, rather than a machine's.
    pub fn is_portable(self) -> bool {
        matches!(self, Arch::Pulley64 | Arch::Pulley32)
    }

    /// The name used in file suffixes and options (`uname -m`'s for machines, Cranelift's for Pulley).
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
            Arch::Pulley64 => "pulley64",
            Arch::Pulley32 => "pulley32",
        }
    }

    /// Every architecture of code, machines' first.
    pub fn every() -> impl Iterator<Item = Arch> {
        Arch::ALL.into_iter().chain(Arch::PORTABLE)
    }

    /// The inverse of [`Arch::name`].
    pub fn from_name(name: &str) -> Option<Arch> {
        Arch::every().find(|a| a.name() == name)
    }

    /// The inverse of `arch as u32`.
    pub fn from_u32(n: u32) -> Option<Arch> {
        Arch::every().find(|a| *a as u32 == n)
    }
}

impl Arch {
    /// The shape of its frames.
    pub fn frame_shape(self) -> FrameShape {
        match self {
            // Cranelift pushes the same pair on all of them: the caller's frame pointer, and above it the return
            // address.
            Arch::X86_64 | Arch::Aarch64 => FrameShape {
                word: 8,
                link: 16,
                above: 16,
                caller_fp: 0,
                return_address: 8,
                align: 16,
                own_sp: None,
                order: ByteOrder::Little,
            },
            // The stack pointer is one of the registers that a function with `try_call` saves, x16 to x31.
            Arch::Pulley64 => FrameShape {
                own_sp: Some(120),
                ..Arch::X86_64.frame_shape()
            },
            // The pair is half as large, and what lies below it is still a multiple of 16.
            Arch::Pulley32 => FrameShape {
                word: 4,
                link: 8,
                above: 8,
                return_address: 4,
                align: 8,
                ..Arch::Pulley64.frame_shape()
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
    /// Bytes from `fp` down to the 64 bits in which a function that handles exceptions keeps its own stack pointer, if
    /// it does: the lowest byte of its frame. It is read when the function returns.
    pub own_sp: Option<u8>,
    /// Byte order of everything in a frame: of those words, and of the values in a record.
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
    fn names_and_numbers_come_back() {
        for arch in Arch::every() {
            assert_eq!(Arch::from_name(arch.name()), Some(arch));
            assert_eq!(Arch::from_u32(arch as u32), Some(arch));
            assert_eq!(arch.is_portable(), Arch::PORTABLE.contains(&arch));
        }
        assert_eq!(Arch::from_u32(0), None);
    }

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
