//! What compiling one function yields, before anything is laid out or linked.

use cranelift_codegen::isa::unwind::UnwindInfo;
use dunlin_format::arch::Arch;
use dunlin_format::framemap::{FunctionPoints, Site};
use dunlin_format::module::Needs;

/// One function, compiled for every requested architecture.
#[derive(Debug)]
pub(crate) struct CompiledFunction {
    /// Its code index (see [`dunlin_format::framemap`]): a function of the module, or `num_funcs + type` for a
    /// trampoline.
    pub code_index: u32,
    /// Record homes and migration points; equal on every architecture.
    pub points: FunctionPoints,
    /// What the function needs of the runtime.
    pub needs: Needs,
    /// The optimised CLIF, if asked for (`--emit clif`).
    pub clif: Option<String>,
    /// One per requested architecture, in the order of the request.
    pub machine: Vec<MachineFunction>,
}

/// One function's machine code for one architecture.
#[derive(Debug)]
pub(crate) struct MachineFunction {
    /// For which architecture.
    pub arch: Arch,
    /// The code, unrelocated.
    pub bytes: Vec<u8>,
    /// Required alignment in bytes.
    pub align: u32,
    /// Relocations against other functions of the image.
    pub relocs: Vec<Reloc>,
    /// See [`dunlin_format::framemap::FunctionCode::frame_to_fp`].
    pub frame_to_fp: u32,
    /// See [`dunlin_format::framemap::FunctionCode::record`].
    pub record: u32,
    /// Return addresses and trapping instructions.
    pub sites: Vec<Site>,
    /// Unwind information, for debuggers.
    pub unwind: Option<UnwindInfo>,
    /// Assembly text, if asked for (`--emit asm`).
    pub asm: Option<String>,
}

/// A place to patch with the address of another function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reloc {
    /// Byte offset in the function's code.
    pub offset: u32,
    /// How to patch.
    pub kind: RelocKind,
    /// Code index of the function referred to.
    pub target: u32,
    /// Added to the target's address.
    pub addend: i64,
}

/// Kinds of relocation the pipeline produces; all are between functions of one text, so they are resolved at build
/// time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelocKind {
    /// 32-bit PC-relative displacement (`R_X86_64_PC32` / `PLT32`).
    X86Rel32,
    /// 26-bit branch (`R_AARCH64_CALL26`).
    Arm64Call26,
    /// 32-bit displacement, counted from the start of the instruction: what the place holds already is added.
    PulleyRel32,
}
