//! Executables made from a tiny hand-made runtime, whose `_start` calls the text and exits with what it returns.

mod fixture;

use super::write_executable;
use crate::error::Error;
use crate::output::image::{LinkedImage, Symbol};
use dunlin_format::arch::Arch;
use dunlin_format::image::{META_ADDR, SEGMENT_ALIGN, TEXT_ADDR};
use object::LittleEndian as LE;
use object::elf::{FileHeader64, PF_R, PF_X, PT_LOAD};
use object::read::elf::{ElfFile64, ProgramHeader as _, SectionHeader as _, Sym as _};
use object::read::{Object as _, ObjectSection as _, ObjectSymbol as _};
use std::os::unix::fs::PermissionsExt;

/// An image whose text returns the metadata's byte 100, which is 42.
fn image(arch: Arch) -> LinkedImage {
    let text: Vec<u8> = match arch {
        // movzx eax, byte [META + 100]; ret
        Arch::X86_64 => vec![0x0f, 0xb6, 0x04, 0x25, 100, 0, 0, 0x20, 0xc3],
        // movz x0, META >> 16, lsl 16; ldrb w0, [x0, #100]; ret
        Arch::Aarch64 => [0xd2a4_0000u32, 0x3941_9000, 0xd65f_03c0]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect(),
        Arch::Pulley64 | Arch::Pulley32 => unreachable!("no machine"),
    };
    let mut meta = vec![7; 123_456];
    meta[100] = 42;
    let len = text.len() as u32;
    let symbols = vec![
        Symbol {
            name: "main".into(),
            start: 0,
            len,
        },
        Symbol {
            name: "odd\nname\0".into(),
            start: 0,
            len,
        },
        Symbol {
            name: "absent".into(),
            start: len,
            len: 0,
        },
    ];
    LinkedImage {
        arch,
        name: "prog".into(),
        text,
        meta,
        symbols,
        unwind: Vec::new(),
    }
}

fn parse(bytes: &[u8]) -> ElfFile64<'_, LE> {
    ElfFile64::parse(bytes).unwrap()
}

#[test]
fn segments_hold_the_image() {
    for arch in Arch::ALL {
        let image = image(arch);
        let out = write_executable(&fixture::runtime(arch), &image).unwrap();
        let elf = parse(&out);
        for (addr, flags, bytes) in [(META_ADDR, PF_R, &image.meta), (TEXT_ADDR, PF_R | PF_X, &image.text)] {
            let segment = elf
                .elf_program_headers()
                .iter()
                .find(|p| p.p_vaddr(LE) == addr)
                .unwrap();
            assert_eq!((segment.p_type(LE), segment.p_flags(LE)), (PT_LOAD, flags));
            assert_eq!(segment.data(LE, &out[..]).unwrap(), &bytes[..]);
            assert_eq!(segment.p_memsz(LE), bytes.len() as u64);
            assert_eq!(
                (segment.p_offset(LE) % SEGMENT_ALIGN, segment.p_align(LE)),
                (0, SEGMENT_ALIGN)
            );
        }
        let text = elf.section_by_name(".dunlin.text").unwrap();
        assert_eq!((text.address(), text.data().unwrap()), (TEXT_ADDR, &image.text[..]));
        let meta = elf.section_by_name(".dunlin.meta").unwrap();
        assert_eq!((meta.address(), meta.data().unwrap()), (META_ADDR, &image.meta[..]));
        assert_eq!(
            elf.section_by_name(".comment").unwrap().data().unwrap(),
            b"made by hand\0"
        );
        let start = &fixture::runtime(arch)[..];
        let start = parse(start).section_by_name(".text").unwrap().data().unwrap().to_vec();
        assert_eq!(elf.section_by_name(".text").unwrap().data().unwrap(), start);
    }
}

#[test]
fn symbols_are_merged() {
    for arch in Arch::ALL {
        let out = write_executable(&fixture::runtime(arch), &image(arch)).unwrap();
        let elf = parse(&out);
        let names: Vec<&str> = elf.symbols().map(|s| s.name().unwrap()).collect();
        let mapping: &[&str] = if arch == Arch::Aarch64 { &["$x"] } else { &[] };
        assert_eq!(
            names,
            [&["here", "prog"][..], mapping, &["main", "odd?name?", "_start"]].concat()
        );
        let main = elf.symbol_by_name("main").unwrap();
        assert_eq!(
            (main.address(), main.size(), main.is_local()),
            (TEXT_ADDR, image(arch).text.len() as u64, true)
        );
        assert_eq!(
            main.section_index(),
            Some(elf.section_by_name(".dunlin.text").unwrap().index())
        );
        // Local symbols come first, and the section's header says how many.
        let table = elf
            .elf_section_table()
            .iter()
            .find(|s| s.sh_type(LE) == object::elf::SHT_SYMTAB)
            .unwrap();
        let symbols = elf.elf_symbol_table().symbols();
        let locals = symbols.iter().take_while(|s| s.is_local()).count();
        assert_eq!(table.sh_info(LE) as usize, locals);
        assert!(symbols[locals..].iter().all(|s| !s.is_local()));
    }
}

#[test]
fn the_executable_runs() {
    let Some(arch) = Arch::host() else { return };
    let out = write_executable(&fixture::runtime(arch), &image(arch)).unwrap();
    let path = std::env::temp_dir().join(format!("dunlin-executable-test-{}", std::process::id()));
    std::fs::write(&path, out).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let status = std::process::Command::new(&path).status();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(status.unwrap().code(), Some(42));
}

#[test]
fn a_stripped_runtime_gets_a_symbol_table() {
    let arch = Arch::X86_64;
    let mut runtime = fixture::runtime(arch);
    // Without section headers there are no placeholders: an error. Without only the symbol table: fine.
    let headers = parse(&runtime).elf_header().e_shoff.get(LE) as usize;
    let symtab = headers + 64 * 5;
    runtime[symtab + 4] = object::elf::SHT_PROGBITS as u8;
    runtime[symtab] = 0; // no name
    let out = write_executable(&runtime, &image(arch)).unwrap();
    assert!(parse(&out).symbol_by_name("main").is_some());
    runtime[60] = 0; // e_shnum
    assert!(matches!(
        write_executable(&runtime, &image(arch)),
        Err(Error::Runtime(_))
    ));
}

#[test]
fn an_unfit_runtime_is_an_error() {
    let refused = |runtime: &[u8], arch| match write_executable(runtime, &image(arch)) {
        Err(Error::Runtime(why)) => why,
        other => panic!("{:?}", other.map(|out| out.len())),
    };
    let x86 = fixture::runtime(Arch::X86_64);
    assert_eq!(refused(&x86, Arch::Aarch64), "it is not for aarch64");
    refused(b"", Arch::X86_64);
    refused(b"#!/bin/sh", Arch::X86_64);

    let phdr = |n: usize| size_of::<FileHeader64<LE>>() + 56 * n;
    let mut pie = x86.clone();
    pie[16] = object::elf::ET_DYN as u8;
    assert_eq!(refused(&pie, Arch::X86_64), "it is not linked to fixed addresses");
    let mut moved = x86.clone();
    moved[phdr(1) + 16 + 2] = 1; // p_vaddr of the metadata
    assert!(refused(&moved, Arch::X86_64).contains(".dunlin.meta"));
    // Something else where the text goes.
    let mut crowded = x86.clone();
    crowded[phdr(0) + 16..phdr(0) + 24].copy_from_slice(&(TEXT_ADDR + 4).to_le_bytes());
    assert!(refused(&crowded, Arch::X86_64).contains("segment 0"));
}

#[test]
fn a_damaged_runtime_never_panics() {
    let runtime = fixture::runtime(Arch::X86_64);
    let image = image(Arch::X86_64);
    for len in 0..runtime.len() {
        assert!(write_executable(&runtime[..len], &image).is_err(), "cut at {len}");
    }
    let headers = parse(&runtime).elf_header().e_shoff.get(LE) as usize;
    for at in (0..64 + 3 * 56).chain(headers..runtime.len()) {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = runtime.clone();
            damaged[at] ^= flip;
            let _ = write_executable(&damaged, &image);
        }
    }
}
