//! Writes executables: a prebuilt static runtime with an image added.
//!
//! The runtime is linked with two tiny placeholder segments at fixed addresses. The executable is
//!
//! ```text
//!   everything of the runtime that is loaded, unchanged but for two program headers
//!   metadata                 at a multiple of 64 KiB, as is
//!   text                     the text: kernels with any page size up to 64 KiB can map both
//!   sections that aren't loaded: the runtime's, .symtab and .strtab with the program's functions, .debug_frame
//!   section headers
//! ```
//!
//! Nothing that is loaded moves, so no address in the runtime needs correcting.

mod elf;
mod symtab;
#[cfg(test)]
mod tests;

use crate::debug;
use crate::error::Error;
use crate::image::LinkedImage;
use dunlin_migrate::image::{META_ADDR, SEGMENT_ALIGN, TEXT_ADDR};
use elf::{NewSection, Placeholder, Runtime, Section};
use object::LittleEndian as LE;
use object::elf::{SHN_LORESERVE, SHT_NOBITS, SHT_PROGBITS, SHT_STRTAB, SHT_SYMTAB, SectionHeader64};
use object::pod::{bytes_of, bytes_of_slice};
use object::{U16, U32, U64};

/// Writes an executable: `runtime` is the prebuilt static runtime of the image's architecture.
pub fn write_executable(runtime: &[u8], image: &LinkedImage) -> Result<Vec<u8>, Error> {
    let mut runtime = Runtime::parse(runtime, image.arch)?;
    for (placeholder, addr, len) in [(runtime.meta, META_ADDR, image.meta.len()), (runtime.text, TEXT_ADDR, image.text.len())] {
        runtime.check_free(placeholder, addr, len as u64)?;
    }

    let mut out = runtime.data[..runtime.loaded_end as usize].to_vec();
    for (placeholder, bytes) in [(runtime.meta, &image.meta), (runtime.text, &image.text)] {
        pad(&mut out, SEGMENT_ALIGN);
        runtime.place(placeholder, out.len() as u64, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }

    let headers = write_sections(&mut out, &runtime, image)?;
    pad(&mut out, 8);
    let mut header = runtime.header;
    header.e_shoff = U64::new(LE, out.len() as u64);
    header.e_shnum = U16::new(LE, headers.len() as u16);
    header.e_shentsize = U16::new(LE, size_of::<SectionHeader64<LE>>() as u16);
    header.e_shstrndx = U16::new(LE, headers.len() as u16 - 1);
    out.extend_from_slice(bytes_of_slice(&headers));
    out[..size_of_val(&header)].copy_from_slice(bytes_of(&header));
    let segments = bytes_of_slice(&runtime.segments);
    let at = runtime.header.e_phoff.get(LE) as usize;
    out[at..at + segments.len()].copy_from_slice(segments);
    Ok(out)
}

/// Appends every section that isn't loaded, and returns all section headers; the last one is that of the names.
fn write_sections(out: &mut Vec<u8>, runtime: &Runtime<'_>, image: &LinkedImage) -> Result<Vec<SectionHeader64<LE>>, Error> {
    // The runtime's sections keep their numbers (symbols refer to them); its name table goes last and is made anew.
    let find = |kind: u32| runtime.sections.iter().position(|s| s.header.sh_type.get(LE) == kind);
    let names_at = runtime.header.e_shstrndx.get(LE) as usize;
    let symbols_at = find(SHT_SYMTAB);
    let strings_at = symbols_at.map(|at| runtime.sections[at].header.sh_link.get(LE) as usize);
    let frames_at = runtime.sections.iter().position(|s| s.name == b".debug_frame" && s.header.sh_type.get(LE) != SHT_NOBITS);

    let symbols = symtab::merge(runtime, symbols_at, strings_at, image)?;
    let frames = debug::debug_frame(image, frames_at.map_or(&[][..], |at| runtime.sections[at].data))?;

    let mut table = Table { headers: Vec::new(), names: vec![0] };
    let count = runtime.sections.len() + 4;
    if count >= SHN_LORESERVE as usize {
        return Err(Error::Runtime(format!("it has {count} sections")));
    }
    for (n, section) in runtime.sections.iter().enumerate() {
        if n == names_at && n != 0 {
            // Its number must stay taken; `write_executable` refers to the new one.
            table.unused();
        } else if Some(n) == symbols_at {
            let strings = strings_at.unwrap_or_default() as u32;
            table.add(out, &symbols.section(strings), None);
        } else if Some(n) == strings_at {
            table.add(out, &symbols.strings(), None);
        } else if Some(n) == frames_at {
            table.add(out, &frame_section(&frames), None);
        } else if section.is_loaded() || section.data.is_empty() {
            table.keep(section, section.header.sh_offset.get(LE));
        } else {
            pad(out, section.header.sh_addralign.get(LE).max(1));
            let offset = out.len() as u64;
            out.extend_from_slice(section.data);
            table.keep(section, offset);
        }
    }
    if symbols_at.is_none() {
        let strings = table.headers.len() as u32 + 1;
        table.add(out, &symbols.section(strings), None);
        table.add(out, &symbols.strings(), None);
    }
    if frames_at.is_none() {
        table.add(out, &frame_section(&frames), None);
    }
    table.add_names(out);
    Ok(table.headers)
}

fn frame_section(bytes: &[u8]) -> NewSection<'_> {
    NewSection { name: b".debug_frame", kind: SHT_PROGBITS, link: 0, info: 0, align: debug::ALIGN, entry: 0, bytes }
}

/// Fills the file with zeros up to a multiple of `align`.
fn pad(out: &mut Vec<u8>, align: u64) {
    out.resize(out.len().next_multiple_of(align as usize), 0);
}
