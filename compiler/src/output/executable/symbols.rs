//! The symbol table of the executable: the runtime's symbols, and the program's functions.
//!
//! The program's symbols are local, below a file symbol with the program's name: they mustn't clash with the runtime's
//! own `main` or `malloc`, which tools would then mix up.

use super::runtime_file::RuntimeFile;
use crate::error::Error;
use crate::limits::MAX_SYMBOL_NAME_BYTES;
use crate::output::LinkedImage;
use dunlin_format::arch::Arch;
use dunlin_format::image::TEXT_ADDR;
use object::elf::{SHN_ABS, SHT_SYMTAB, STB_LOCAL, STT_FILE, STT_FUNC, STT_NOTYPE, Sym64};
use object::pod::slice_from_all_bytes;
use object::read::elf::Sym as _;
use object::{LittleEndian as LE, U16, U32, U64};

/// The names and the symbols, local ones first.
pub(super) fn merge(runtime: &RuntimeFile<'_>, image: &LinkedImage) -> Result<(Vec<u8>, Vec<Sym64<LE>>), Error> {
    let (mut strings, mut symbols) = (vec![0], vec![Sym64::default()]);
    let mut globals = Vec::new();
    if let Some(table) = runtime.sections.iter().find(|s| s.header.sh_type.get(LE) == SHT_SYMTAB) {
        let damaged = || Error::Runtime("its symbol table is damaged".into());
        let names = runtime
            .sections
            .get(table.header.sh_link.get(LE) as usize)
            .ok_or_else(damaged)?;
        strings = names.data.to_vec();
        let old: &[Sym64<LE>] = slice_from_all_bytes(table.data).map_err(|()| damaged())?;
        // The placeholders' own symbols would name the program's first function, or declare it data.
        let placeholders = [runtime.meta.section as u16, runtime.text.section as u16];
        for symbol in old
            .iter()
            .skip(1)
            .filter(|s| !placeholders.contains(&s.st_shndx.get(LE)))
        {
            if symbol.is_local() {
                symbols.push(*symbol)
            } else {
                globals.push(*symbol)
            }
        }
    }
    let mut add = |name: &str, kind: u8, section: u16, value: u64, size: u64| {
        let mut symbol = Sym64::default();
        symbol.set_st_info(STB_LOCAL, kind);
        symbol.st_name = U32::new(LE, strings.len() as u32);
        symbol.st_shndx = U16::new(LE, section);
        symbol.st_value = U64::new(LE, value);
        symbol.st_size = U64::new(LE, size);
        strings.extend(name.bytes().map(|b| if b < b' ' { b'?' } else { b }));
        strings.push(0);
        symbols.push(symbol);
    };
    let text = runtime.text.section as u16;
    add(&image.name, STT_FILE, SHN_ABS, 0, 0);
    if image.arch == Arch::Aarch64 {
        add("$x", STT_NOTYPE, text, TEXT_ADDR, 0); // "code from here on", in the ABI's words
    }
    // The interpreter's code is no machine's: a debugger would show nonsense.
    for symbol in image.symbols.iter().filter(|s| s.len > 0 && !image.arch.is_portable()) {
        add(
            &symbol.name,
            STT_FUNC,
            text,
            TEXT_ADDR + u64::from(symbol.start),
            symbol.len.into(),
        );
    }
    symbols.append(&mut globals);
    let (size, max) = (strings.len() as u64, MAX_SYMBOL_NAME_BYTES);
    if size > max {
        let what = "its symbol names".into();
        return Err(Error::TooLarge { what, size, max });
    }
    Ok((strings, symbols))
}
