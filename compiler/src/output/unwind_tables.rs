//! Unwind information (DWARF call frame information), by which debuggers and profilers walk through WebAssembly frames.
//!
//! An executable gets it as `.debug_frame`, which is not loaded: nothing at run time unwinds by tables. A relocatable
//! object gets it as `.eh_frame`, the form that linkers know how to merge.

use super::image::LinkedImage;
use crate::error::Error;
use crate::native::isa;
use crate::settings::Settings;
use cranelift_codegen::isa::unwind::UnwindInfo;
use dunlin_format::arch::Arch;
use dunlin_format::image::TEXT_ADDR;
use gimli::constants::{DW_EH_PE_pcrel, DW_EH_PE_sdata4};
use gimli::write::{
    Address, CommonInformationEntry, DebugFrame, EhFrame, EndianVec, FrameTable, RelocateWriter, Relocation,
    RelocationTarget,
};
use gimli::{DwEhPe, LittleEndian};

/// Alignment of both sections in bytes.
pub(crate) const ALIGN: u64 = 8;

/// The section `.debug_frame` for an image at its fixed address, behind the entries that the section already holds
/// (offsets in it count from its start).
pub(crate) fn debug_frame(image: &LinkedImage, existing: &[u8]) -> Result<Vec<u8>, Error> {
    if image.arch.is_portable() {
        // Debuggers see the interpreter's own frames, not the program's.
        return Ok(existing.to_vec());
    }
    let table = frame_table(image, None, |start| Address::Constant(TEXT_ADDR + u64::from(start)))?;
    let mut existing = existing.to_vec();
    existing.resize(existing.len().next_multiple_of(ALIGN as usize), 0);
    let mut out = EndianVec::new(LittleEndian);
    gimli::write::Writer::write(&mut out, &existing).map_err(|e| Error::write(".debug_frame", e))?;
    let mut section = DebugFrame(out);
    table
        .write_debug_frame(&mut section)
        .map_err(|e| Error::write(".debug_frame", e))?;
    Ok(section.0.into_vec())
}

/// A field of `.eh_frame` to be relocated: a 32-bit displacement to a place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EhReloc {
    /// Byte offset in the section.
    pub offset: u64,
    /// Byte offset in the text.
    pub text: i64,
}

/// The section `.eh_frame`, with its relocations.
pub(crate) fn eh_frame(image: &LinkedImage) -> Result<(Vec<u8>, Vec<EhReloc>), Error> {
    let encoding = DwEhPe(DW_EH_PE_pcrel.0 | DW_EH_PE_sdata4.0);
    let text = |start| Address::Symbol {
        symbol: 0,
        addend: i64::from(start),
    };
    let table = frame_table(image, Some(encoding), text)?;
    let mut section = EhFrame(Relocatable {
        bytes: EndianVec::new(LittleEndian),
        relocs: Vec::new(),
    });
    table
        .write_eh_frame(&mut section)
        .map_err(|e| Error::write(".eh_frame", e))?;
    Ok((section.0.bytes.into_vec(), section.0.relocs))
}

/// The entries of an image's functions. `address` makes a function's address of its place in the text.
fn frame_table(
    image: &LinkedImage,
    encoding: Option<DwEhPe>,
    address: impl Fn(u32) -> Address,
) -> Result<FrameTable, Error> {
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
    let cie = isa::isa(arch, &Settings::default())?.create_systemv_cie();
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
        self.relocs.push(EhReloc {
            offset: relocation.offset as u64,
            text: relocation.addend,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CompileOptions, compile};
    use gimli::read::{BaseAddresses, CieOrFde, DebugFrame as ReadFrame, EhFrame as ReadEh, UnwindSection as _};
    use gimli::{CfaRule, Register, UnwindContext};

    fn images() -> Vec<LinkedImage> {
        let text = "(module (func $f (param i32) (if (local.get 0) (then (call $f (local.get 0))))) (func (call $f (i32.const 1))))";
        compile(text.as_bytes(), &CompileOptions::default()).unwrap().images
    }

    /// Every function has an entry, and inside of it the frame is found by the frame pointer.
    #[test]
    fn every_function_can_be_unwound() {
        for image in images() {
            let (frame_pointer, return_address) = match image.arch {
                Arch::X86_64 => (Register(6), Register(16)),
                Arch::Aarch64 => (Register(29), Register(30)),
                Arch::Pulley64 | Arch::Pulley32 => unreachable!("no default target"),
            };
            let bytes = debug_frame(&image, &[]).unwrap();
            let mut section = ReadFrame::new(&bytes, LittleEndian);
            section.set_address_size(8);
            let bases = BaseAddresses::default();
            // A trampoline that nothing is entered through has no code.
            for symbol in image.symbols.iter().filter(|s| s.len > 0) {
                let start = TEXT_ADDR + u64::from(symbol.start);
                let fde = section
                    .fde_for_address(&bases, start, ReadFrame::cie_from_offset)
                    .unwrap();
                assert_eq!(
                    (fde.initial_address(), fde.len()),
                    (start, symbol.len.into()),
                    "{}",
                    symbol.name
                );
                let mut context = UnwindContext::new();
                let row = fde
                    .unwind_info_for_address(&section, &bases, &mut context, start + 16)
                    .unwrap();
                assert_eq!(
                    *row.cfa(),
                    CfaRule::RegisterAndOffset {
                        register: frame_pointer,
                        offset: 16
                    },
                    "{}",
                    symbol.name
                );
                assert_eq!(
                    row.register(return_address),
                    Some(gimli::RegisterRule::Offset(-8)),
                    "{}",
                    symbol.name
                );
            }
        }
    }

    #[test]
    fn existing_entries_are_kept() {
        let images = images();
        let first = debug_frame(&images[0], &[]).unwrap();
        let both = debug_frame(&images[0], &first).unwrap();
        let section = ReadFrame::new(&both, LittleEndian);
        let bases = BaseAddresses::default();
        let (mut cies, mut fdes, mut entries) = (0, 0, section.entries(&bases));
        while let Some(entry) = entries.next().unwrap() {
            match entry {
                CieOrFde::Cie(_) => cies += 1,
                CieOrFde::Fde(fde) => {
                    fde.parse(ReadFrame::cie_from_offset).unwrap();
                    fdes += 1;
                }
            }
        }
        let functions = images[0].symbols.iter().filter(|s| s.len > 0).count();
        assert_eq!((cies, fdes), (2, 2 * functions));
    }

    #[test]
    fn relocations_name_functions() {
        for image in images() {
            let (mut bytes, relocs) = eh_frame(&image).unwrap();
            let functions = image.symbols.iter().filter(|s| s.len > 0);
            let starts: Vec<i64> = functions.map(|s| s.start.into()).collect();
            assert_eq!(relocs.iter().map(|r| r.text).collect::<Vec<_>>(), starts);
            // Resolved as a linker would, with the text at 0x1000000 and the section at 0.
            for reloc in &relocs {
                let value = (0x100_0000 + reloc.text - reloc.offset as i64) as i32;
                bytes[reloc.offset as usize..][..4].copy_from_slice(&value.to_le_bytes());
            }
            let section = ReadEh::new(&bytes, LittleEndian);
            let bases = BaseAddresses::default().set_eh_frame(0);
            let last = image.symbols.iter().rfind(|s| s.len > 0).unwrap();
            let address = 0x100_0000 + u64::from(last.start);
            let fde = section
                .fde_for_address(&bases, address, ReadEh::cie_from_offset)
                .unwrap();
            assert_eq!((fde.initial_address(), fde.len()), (address, last.len.into()));
        }
    }
}
