//! Unwind information (DWARF call frame information), by which debuggers and profilers walk through WebAssembly frames.
//!
//! An executable gets it as `.debug_frame`, which is not loaded: nothing at run time unwinds by tables. A relocatable object gets
//! it as `.eh_frame`, the form that linkers know how to merge.

use crate::error::Error;
use crate::image::LinkedImage;
use crate::isa;
use crate::settings::OptLevel;
use cranelift_codegen::isa::unwind::UnwindInfo;
use dunlin_migrate::arch::Arch;
use dunlin_migrate::image::TEXT_ADDR;
use gimli::constants::{DW_EH_PE_pcrel, DW_EH_PE_sdata4};
use gimli::write::{
    Address, CommonInformationEntry, DebugFrame, EhFrame, EndianVec, FrameTable, RelocateWriter, Relocation, RelocationTarget,
};
use gimli::{DwEhPe, LittleEndian};

/// Alignment of both sections in bytes.
pub const ALIGN: u64 = 8;

/// The section `.debug_frame` for an image at its fixed address, behind the entries that the section already holds (offsets in it
/// count from its start).
pub fn debug_frame(image: &LinkedImage, existing: &[u8]) -> Result<Vec<u8>, Error> {
    let table = frame_table(image, None, |start| Address::Constant(TEXT_ADDR + u64::from(start)))?;
    let mut existing = existing.to_vec();
    existing.resize(existing.len().next_multiple_of(ALIGN as usize), 0);
    let mut out = EndianVec::new(LittleEndian);
    gimli::write::Writer::write(&mut out, &existing).map_err(|e| Error::write(".debug_frame", e))?;
    let mut section = DebugFrame(out);
    table.write_debug_frame(&mut section).map_err(|e| Error::write(".debug_frame", e))?;
    Ok(section.0.into_vec())
}

/// A field of `.eh_frame` to be relocated: a 32-bit displacement to a place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EhReloc {
    /// Byte offset in the section.
    pub offset: u64,
    /// Byte offset in the text.
    pub text: i64,
}

/// The section `.eh_frame`, with its relocations.
pub fn eh_frame(image: &LinkedImage) -> Result<(Vec<u8>, Vec<EhReloc>), Error> {
    let encoding = DwEhPe(DW_EH_PE_pcrel.0 | DW_EH_PE_sdata4.0);
    let text = |start| Address::Symbol { symbol: 0, addend: i64::from(start) };
    let table = frame_table(image, Some(encoding), text)?;
    let mut section = EhFrame(Relocatable { bytes: EndianVec::new(LittleEndian), relocs: Vec::new() });
    table.write_eh_frame(&mut section).map_err(|e| Error::write(".eh_frame", e))?;
    Ok((section.0.bytes.into_vec(), section.0.relocs))
}

fn frame_table(image: &LinkedImage, encoding: Option<DwEhPe>, address: impl Fn(u32) -> Address) -> Result<FrameTable, Error> {
    let mut cie = common_entry(image.arch)?;
    if let Some(encoding) = encoding {
        cie.fde_address_encoding = encoding;
    }
    let mut table = FrameTable::default();
    let cie = table.add_cie(cie);
    for (start, info) in &image.unwind {
        // The other variants are those of other systems' formats.
        if let UnwindInfo::SystemV(info) = info {
            table.add_fde(cie, info.to_fde(address(*start)));
        }
    }
    Ok(table)
}

/// What all functions have in common: where the frame and the return address are at a function's first instruction.
fn common_entry(arch: Arch) -> Result<CommonInformationEntry, Error> {
    let cie = isa::isa(arch, OptLevel::default())?.create_systemv_cie();
    cie.ok_or_else(|| Error::write("unwind information", "the code generator offers none"))
}

/// Collects bytes and relocations.
struct Relocatable {
    bytes: EndianVec<LittleEndian>,
    relocs: Vec<EhReloc>,
}

impl RelocateWriter for Relocatable {
    type Writer = EndianVec<LittleEndian>;

    fn writer(&self) -> &Self::Writer {
        &self.bytes
    }

    fn writer_mut(&mut self) -> &mut Self::Writer {
        &mut self.bytes
    }

    fn relocate(&mut self, relocation: Relocation) {
        // The only relocated fields are functions' addresses: symbol 0 stands for the text.
        debug_assert_eq!((relocation.target, relocation.size), (RelocationTarget::Symbol(0), 4));
        self.relocs.push(EhReloc { offset: relocation.offset as u64, text: relocation.addend });
    }
}
