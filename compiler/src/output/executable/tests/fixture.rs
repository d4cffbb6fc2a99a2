//! A runtime of a few instructions, with everything the executable writer looks at: placeholders, symbols, a section
//! that isn't loaded. Written by the `object` crate's own ELF writer.

use dunlin_format::arch::Arch;
use dunlin_format::image::{META_ADDR, TEXT_ADDR};
use object::Endianness;
use object::elf::{
    EM_AARCH64, EM_X86_64, ET_EXEC, PF_R, PF_X, PT_LOAD, SHF_ALLOC, SHF_EXECINSTR, SHT_PROGBITS, STB_GLOBAL, STB_LOCAL,
    STT_FUNC, STT_NOTYPE,
};
use object::write::elf::{FileHeader, ProgramHeader, SectionHeader, Sym, Writer};

/// Where `_start` is.
pub(super) const START_ADDR: u64 = 0x40_1000;

/// A static executable that calls the text and exits with what it returns.
pub(super) fn runtime(arch: Arch) -> Vec<u8> {
    let (machine, start): (u16, Vec<u8>) = match arch {
        // mov eax, TEXT; call rax; mov edi, eax; mov eax, exit; syscall
        Arch::X86_64 => (
            EM_X86_64,
            vec![
                0xb8, 0, 0, 0, 0x40, 0xff, 0xd0, 0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05,
            ],
        ),
        // movz x1, TEXT >> 16, lsl 16; blr x1; mov x8, exit; svc 0
        Arch::Aarch64 => (
            EM_AARCH64,
            [0xd2a8_0001u32, 0xd63f_0020, 0xd280_0ba8, 0xd400_0001]
                .iter()
                .flat_map(|w| w.to_le_bytes())
                .collect(),
        ),
        Arch::Pulley64 | Arch::Pulley32 => unreachable!("no machine"),
    };
    let mut out = Vec::new();
    let mut w = Writer::new(Endianness::Little, true, &mut out);

    let names =
        [".text", ".dunlin.meta", ".dunlin.text", ".comment"].map(|name| (w.add_section_name(name.as_bytes()), name));
    w.reserve_null_section_index();
    let indices = names.map(|_| w.reserve_section_index());
    w.reserve_symtab_section_index();
    w.reserve_strtab_section_index();
    w.reserve_shstrtab_section_index();
    let symbols = [
        ("$d", STB_LOCAL, STT_NOTYPE, 2, TEXT_ADDR),
        ("here", STB_LOCAL, STT_FUNC, 0, START_ADDR),
    ];
    let symbols = [
        &symbols[..],
        &[
            ("dunlin_text", STB_GLOBAL, STT_NOTYPE, 2, TEXT_ADDR),
            ("_start", STB_GLOBAL, STT_FUNC, 0, START_ADDR),
        ],
    ];
    let symbols = symbols
        .concat()
        .into_iter()
        .map(|(name, bind, kind, section, value)| Sym {
            name: Some(w.add_string(name.as_bytes())),
            section: Some(indices[section]),
            st_info: bind << 4 | kind,
            st_other: 0,
            st_shndx: 0,
            st_value: value,
            st_size: 0,
        });
    let symbols: Vec<Sym> = symbols.collect();
    w.reserve_null_symbol_index();
    for symbol in &symbols {
        w.reserve_symbol_index(symbol.section);
    }

    w.reserve_file_header();
    w.reserve_program_headers(3);
    let contents: [&[u8]; 4] = [&start, &[0; 16], &[0; 16], b"made by hand\0"];
    let places = [
        (START_ADDR, PF_R | PF_X),
        (META_ADDR, PF_R),
        (TEXT_ADDR, PF_R | PF_X),
        (0, 0),
    ];
    let offsets = [0, 1, 2, 3].map(|n| w.reserve(contents[n].len(), if n < 3 { 0x1000 } else { 1 }));
    w.reserve_symtab();
    w.reserve_strtab();
    w.reserve_shstrtab();
    w.reserve_section_headers();

    let header = FileHeader {
        os_abi: 0,
        abi_version: 0,
        e_type: ET_EXEC,
        e_machine: machine,
        e_entry: START_ADDR,
        e_flags: 0,
    };
    w.write_file_header(&header).unwrap();
    w.write_align_program_headers();
    for (n, (addr, p_flags)) in places.into_iter().enumerate().take(3) {
        let (p_offset, len) = (offsets[n] as u64, contents[n].len() as u64);
        w.write_program_header(&ProgramHeader {
            p_type: PT_LOAD,
            p_flags,
            p_offset,
            p_vaddr: addr,
            p_paddr: addr,
            p_filesz: len,
            p_memsz: len,
            p_align: 0x1000,
        });
    }
    for (offset, bytes) in offsets.into_iter().zip(contents) {
        w.pad_until(offset);
        w.write(bytes);
    }
    w.write_null_symbol();
    symbols.iter().for_each(|s| w.write_symbol(s));
    w.write_strtab();
    w.write_shstrtab();
    w.write_null_section_header();
    for n in 0..4 {
        let flags = if places[n].1 & PF_X != 0 {
            SHF_ALLOC | SHF_EXECINSTR
        } else {
            SHF_ALLOC
        };
        w.write_section_header(&SectionHeader {
            name: Some(names[n].0),
            sh_type: SHT_PROGBITS,
            sh_flags: if n < 3 { flags.into() } else { 0 },
            sh_addr: places[n].0,
            sh_offset: offsets[n] as u64,
            sh_size: contents[n].len() as u64,
            sh_link: 0,
            sh_info: 0,
            sh_addralign: 1,
            sh_entsize: 0,
        });
    }
    w.write_symtab_section_header(3);
    w.write_strtab_section_header();
    w.write_shstrtab_section_header();
    out
}
