//! Writes executables: a prebuilt static runtime with an image added.
//!
//! The runtime is linked with two tiny placeholder segments at fixed addresses. The executable is
//!
//! ```text
//!   everything of the runtime that is loaded, unchanged but for two program headers
//!   metadata                 \  each at a multiple of 64 KiB, so that kernels
//!   text                     /  with any page size up to that can map it
//!   sections that aren't loaded: the runtime's, .symtab and .strtab with the program's functions, .debug_frame
//!   section headers
//! ```
//!
//! Nothing that is loaded moves, so no address in the runtime needs correcting.

mod runtime_file;
mod sections;
mod symbols;
#[cfg(test)]
mod tests;

use super::image::LinkedImage;
use super::unwind_tables;
use crate::error::Error;
use dunlin_format::image::{META_ADDR, SEGMENT_ALIGN, TEXT_ADDR};
use object::LittleEndian as LE;
use object::pod::{bytes_of, bytes_of_slice};
use object::{U16, U64};
use runtime_file::RuntimeFile;
use sections::SectionTable;

/// Writes an executable: `runtime` is the prebuilt static runtime of the image's architecture, or for portable code a
/// machine's runtime that interprets.
pub fn write_executable(runtime: &[u8], image: &LinkedImage) -> Result<Vec<u8>, Error> {
    let mut runtime = RuntimeFile::parse(runtime, image.arch)?;
    runtime.check_free(runtime.meta, META_ADDR + image.meta.len() as u64)?;
    runtime.check_free(runtime.text, TEXT_ADDR + image.text.len() as u64)?;

    let mut out = runtime.data[..runtime.loaded_end].to_vec();
    for (placeholder, bytes) in [(runtime.meta, &image.meta), (runtime.text, &image.text)] {
        pad(&mut out, SEGMENT_ALIGN);
        runtime.place(placeholder, out.len() as u64, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }

    let (strings, symbols) = symbols::merge(&runtime, image)?;
    let mut sections = SectionTable::new(&runtime);
    sections.set_symbols(symbols, strings);
    let frames = unwind_tables::debug_frame(image, sections.bytes(b".debug_frame"))?;
    sections.set_progbits(b".debug_frame", frames, unwind_tables::ALIGN);
    let (headers, names_at) = sections.write(&mut out)?;

    pad(&mut out, 8);
    let mut header = runtime.header;
    header.e_shoff = U64::new(LE, out.len() as u64);
    header.e_shnum = U16::new(LE, headers.len() as u16);
    header.e_shentsize = U16::new(LE, size_of_val(&headers[0]) as u16);
    header.e_shstrndx = U16::new(LE, names_at);
    out.extend_from_slice(bytes_of_slice(&headers));
    out[..size_of_val(&header)].copy_from_slice(bytes_of(&header));
    let segments = bytes_of_slice(&runtime.segments);
    out[runtime.segments_at..][..segments.len()].copy_from_slice(segments);
    Ok(out)
}

/// Fills the file with zeros up to a multiple of `align`.
fn pad(out: &mut Vec<u8>, align: u64) {
    out.resize(out.len().next_multiple_of(align.max(1) as usize), 0);
}
