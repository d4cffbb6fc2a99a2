//! The calls that leave generated code through the leave thunk, by number.
//!
//! Arguments are read from, and results written to, the context's slots from slot 0 on, in WebAssembly order, one value
//! each (integers and floats in the low bytes). Trapping calls don't return.

/// A poll found its flag set: serve whatever is pending (a migration point of kind loop or entry).
pub const POLL: u32 = 0;
/// `memory.grow`: (memory index: i32, delta pages: i64) -> i64 old size in pages, or -1.
pub const MEMORY_GROW: u32 = 1;
/// `memory.init`: (memory: i32, data segment: i32, dst: i64, src: i32, len: i32). Traps out of bounds.
pub const MEMORY_INIT: u32 = 2;
/// `data.drop`: (data segment: i32).
pub const DATA_DROP: u32 = 3;
/// `table.init`: (table: i32, element segment: i32, dst: i64, src: i32, len: i32). Traps out of bounds.
pub const TABLE_INIT: u32 = 4;
/// `elem.drop`: (element segment: i32).
pub const ELEM_DROP: u32 = 5;
/// `table.copy`: (dst table: i32, src table: i32, dst: i64, src: i64, len: i64). Traps out of bounds.
pub const TABLE_COPY: u32 = 6;
/// `table.grow`: (table: i32, reference: i32, delta: i64) -> i64 old size, or -1.
pub const TABLE_GROW: u32 = 7;
/// `table.fill`: (table: i32, dst: i64, reference: i32, len: i64). Traps out of bounds.
pub const TABLE_FILL: u32 = 8;
/// `throw_ref` and the legacy `rethrow`: (exception: i32). Doesn't return: goes on at a handler, or traps.
pub const THROW_REF: u32 = 9;
/// Passes an exception that no clause of a handler caught on: (exception: i32). As [`THROW_REF`].
pub const PASS_ON: u32 = 10;
/// An exception was caught without a reference to it being kept: (exception: i32).
pub const CAUGHT: u32 = 11;
/// `throw` of tag `t` is `THROW_BASE + t`: (the tag's parameters). As [`THROW_REF`].
pub const THROW_BASE: u32 = 0x8000_0000;

/// Slot in which a handler finds a reference to the exception.
pub const EXCEPTION_SLOT: u32 = 0;
/// Slot in which a handler finds the exception's tag.
pub const TAG_SLOT: u32 = 1;
/// First of the slots in which a handler finds what the exception carries.
pub const PAYLOAD_SLOT: u32 = 2;

/// The call of imported function `i` is `IMPORT_BASE + i`. Its one call site is in the import's own wrapper function,
/// whose frame is a migration point of kind host: an undone call leaves the arguments in the wrapper's record.
pub const IMPORT_BASE: u32 = 0x1000;

/// Slots the runtime's own calls need at most.
pub const MAX_SLOTS: u32 = 8;

/// Trap codes, as they are stored in the image's site table and shown to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Trap {
    /// `unreachable` executed.
    Unreachable = 1,
    /// Linear memory accessed out of bounds.
    MemoryOutOfBounds = 2,
    /// Table accessed out of bounds.
    TableOutOfBounds = 3,
    /// `call_indirect` through a null entry.
    IndirectCallToNull = 4,
    /// `call_indirect` with another signature.
    BadSignature = 5,
    /// Integer division by zero.
    IntegerDivisionByZero = 6,
    /// Integer overflow in division or conversion.
    IntegerOverflow = 7,
    /// NaN or infinity converted to an integer.
    BadConversionToInteger = 8,
    /// The call stack is exhausted.
    StackOverflow = 9,
    /// A null reference where one to something is needed.
    NullReference = 10,
    /// `throw_ref` of a null reference.
    NullException = 11,
    /// An exception that nothing catches.
    UncaughtException = 12,
    /// An atomic access whose address is no multiple of its width.
    UnalignedAtomic = 13,
    /// `memory.atomic.wait32` or `wait64` on a memory that is not shared: nobody could end the wait.
    AtomicWaitUnshared = 14,
}

impl Trap {
    /// Every trap.
    pub const ALL: [Trap; 14] = [
        Trap::Unreachable,
        Trap::MemoryOutOfBounds,
        Trap::TableOutOfBounds,
        Trap::IndirectCallToNull,
        Trap::BadSignature,
        Trap::IntegerDivisionByZero,
        Trap::IntegerOverflow,
        Trap::BadConversionToInteger,
        Trap::StackOverflow,
        Trap::NullReference,
        Trap::NullException,
        Trap::UncaughtException,
        Trap::UnalignedAtomic,
        Trap::AtomicWaitUnshared,
    ];

    /// The inverse of `trap as u8`.
    pub fn from_u8(n: u8) -> Option<Trap> {
        Trap::ALL.get((n as usize).wrapping_sub(1)).copied()
    }

    /// The message, in the words of the specification's test suite and of wasmtime.
    pub fn message(self) -> &'static str {
        match self {
            Trap::Unreachable => "wasm `unreachable` instruction executed",
            Trap::MemoryOutOfBounds => "out of bounds memory access",
            Trap::TableOutOfBounds => "undefined element: out of bounds table access",
            Trap::IndirectCallToNull => "uninitialized element",
            Trap::BadSignature => "indirect call type mismatch",
            Trap::IntegerDivisionByZero => "integer divide by zero",
            Trap::IntegerOverflow => "integer overflow",
            Trap::BadConversionToInteger => "invalid conversion to integer",
            Trap::StackOverflow => "call stack exhausted",
            Trap::NullReference => "null reference",
            Trap::NullException => "null exception reference",
            Trap::UncaughtException => "uncaught exception",
            Trap::UnalignedAtomic => "unaligned atomic",
            Trap::AtomicWaitUnshared => "atomic wait on non-shared memory",
        }
    }
}
