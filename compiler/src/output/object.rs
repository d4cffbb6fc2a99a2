//! Writes an image as a relocatable ELF object (`--emit obj`), for tools that look at code.
//!
//! Calls within the text are resolved already; what remains to be relocated are the functions' addresses in
//! `.eh_frame`. The metadata is in a section of its own, as in an executable.

use super::image::LinkedImage;
use super::unwind_tables;
use crate::error::Error;
use dunlin_format::arch::Arch;
use dunlin_format::image::META_SECTION;
use object::elf::{R_AARCH64_PREL32, R_X86_64_PC32};
use object::write::{Object, Relocation, StandardSection, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};

/// The image as a relocatable object for its architecture.
pub fn write_object(image: &LinkedImage) -> Result<Vec<u8>, Error> {
    let (architecture, pc_relative) = match image.arch {
        Arch::X86_64 => (Architecture::X86_64, R_X86_64_PC32),
        Arch::Aarch64 => (Architecture::Aarch64, R_AARCH64_PREL32),
        Arch::Pulley64 | Arch::Pulley32 => {
            let why = "there are none for the interpreter";
            return Err(Error::write("the object file", why));
        }
    };
    let fail = |e: object::write::Error| Error::write("the object file", e);
    let mut object = Object::new(BinaryFormat::Elf, architecture, Endianness::Little);
    object.add_file_symbol(image.name.clone().into_bytes());

    let text = object.section_id(StandardSection::Text);
    object.append_section_data(text, &image.text, 16);
    for symbol in image.symbols.iter().filter(|s| s.len > 0) {
        object.add_symbol(Symbol {
            name: symbol.name.bytes().map(|b| if b < b' ' { b'?' } else { b }).collect(),
            value: symbol.start.into(),
            size: symbol.len.into(),
            kind: SymbolKind::Text,
            scope: SymbolScope::Compilation,
            weak: false,
            section: SymbolSection::Section(text),
            flags: SymbolFlags::None,
        });
    }

    let meta = object.add_section(Vec::new(), META_SECTION.into(), SectionKind::ReadOnlyData);
    object.append_section_data(meta, &image.meta, 16);

    // Tells linkers that the code needs no executable stack.
    object.add_section(Vec::new(), b".note.GNU-stack".to_vec(), SectionKind::Other);

    let (frames, relocs) = unwind_tables::eh_frame(image)?;
    let eh_frame = object.section_id(StandardSection::EhFrame);
    object.append_section_data(eh_frame, &frames, unwind_tables::ALIGN);
    let symbol = object.section_symbol(text);
    for reloc in relocs {
        let flags = RelocationFlags::Elf { r_type: pc_relative };
        object
            .add_relocation(
                eh_frame,
                Relocation {
                    offset: reloc.offset,
                    symbol,
                    addend: reloc.text,
                    flags,
                },
            )
            .map_err(fail)?;
    }
    object.write().map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CompileOptions, compile};
    use object::read::elf::ElfFile64;
    use object::read::{Object as _, ObjectSection as _, ObjectSymbol as _};

    #[test]
    fn an_object_holds_the_image() {
        let compiled = compile(b"(module (func $loop call $loop))", &CompileOptions::default()).unwrap();
        for image in &compiled.images {
            let bytes = write_object(image).unwrap();
            let elf = ElfFile64::<Endianness>::parse(&bytes[..]).unwrap();
            let text = elf.section_by_name(".text").unwrap();
            assert_eq!(text.data().unwrap(), &image.text[..]);
            assert_eq!(
                elf.section_by_name(META_SECTION).unwrap().data().unwrap(),
                &image.meta[..]
            );
            let symbol = elf.symbol_by_name("loop").unwrap();
            assert_eq!(
                (symbol.address(), symbol.size()),
                (image.symbols[0].start.into(), image.symbols[0].len.into())
            );
            assert_eq!(symbol.section_index(), Some(text.index()));
            let frames = elf.section_by_name(".eh_frame").unwrap();
            let functions = image.symbols.iter().filter(|s| s.len > 0);
            assert_eq!(frames.relocations().count(), functions.count());
        }
    }
}
