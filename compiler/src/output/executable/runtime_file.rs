//! The prebuilt runtime, read and checked: it comes with `dunlin`, but a stale or foreign file must give an error, not
//! a broken executable.

use crate::error::Error;
use dunlin_format::arch::Arch;
use dunlin_format::image::{META_ADDR, META_SECTION, SEGMENT_ALIGN, TEXT_ADDR, TEXT_SECTION};
use object::LittleEndian as LE;
use object::elf::{
    EM_AARCH64, EM_X86_64, ET_EXEC, FileHeader64, PF_R, PF_X, PT_LOAD, ProgramHeader64, SHF_ALLOC, SHF_TLS, SHT_NOBITS,
    SHT_NULL, SHT_PROGBITS, SectionHeader64,
};
use object::read::StringTable;
use object::read::elf::{FileHeader as _, SectionHeader as _};
use object::{U32, U64};

/// A runtime's ELF file. `segments` and `sections` are copies that may be changed.
pub(super) struct RuntimeFile<'a> {
    /// The architecture of the code that will be added.
    arch: Arch,
    /// The whole file.
    pub data: &'a [u8],
    /// The ELF header.
    pub header: FileHeader64<LE>,
    /// Byte offset of the program headers.
    pub segments_at: usize,
    /// Program headers, in the file's order.
    pub segments: Vec<ProgramHeader64<LE>>,
    /// Sections, the null section included.
    pub sections: Vec<Section<'a>>,
    /// The placeholder of the metadata.
    pub meta: Placeholder,
    /// The placeholder of the text.
    pub text: Placeholder,
    /// Where the last loaded byte of anything but the placeholders ends in the file.
    pub loaded_end: usize,
}

/// A section of the runtime.
#[derive(Clone)]
pub(super) struct Section<'a> {
    pub name: &'a [u8],
    pub header: SectionHeader64<LE>,
    /// Its bytes in the file; empty if it has none.
    pub data: &'a [u8],
}

/// Numbers of the segment and the section that an image's part takes over.
#[derive(Clone, Copy)]
pub(super) struct Placeholder {
    pub segment: usize,
    pub section: usize,
}

impl Section<'_> {
    /// Whether it is part of the running program (and thus in some segment).
    pub(crate) fn is_loaded(&self) -> bool {
        self.header.sh_flags.get(LE) & u64::from(SHF_ALLOC) != 0
    }

    /// The section's type, one of `SHT_`.
    fn kind(&self) -> u32 {
        self.header.sh_type.get(LE)
    }
}

impl<'a> RuntimeFile<'a> {
    /// Reads and checks a runtime for `arch`.
    pub(crate) fn parse(data: &'a [u8], arch: Arch) -> Result<RuntimeFile<'a>, Error> {
        let damaged = |e: object::read::Error| Error::Runtime(e.to_string());
        let header = *FileHeader64::<LE>::parse(data).map_err(damaged)?;
        let endian = header.endian().map_err(damaged)?;
        let machines: &[u16] = match arch {
            Arch::X86_64 => &[EM_X86_64],
            Arch::Aarch64 => &[EM_AARCH64],
            Arch::Pulley64 => &[EM_X86_64, EM_AARCH64],
            // Machines of that width have files of another class.
            Arch::Pulley32 => &[],
        };
        if !machines.contains(&header.e_machine.get(LE)) {
            return Err(Error::Runtime(format!("it is not for {arch}")));
        }
        if header.e_type.get(LE) != ET_EXEC {
            return Err(Error::Runtime("it is not linked to fixed addresses".into()));
        }
        let segments = header.program_headers(endian, data).map_err(damaged)?.to_vec();
        let headers = header.section_headers(endian, data).map_err(damaged)?;
        let names = header.section_strings(endian, data, headers).map_err(damaged)?;
        let read = |header: &SectionHeader64<LE>| section(header, names, data).map_err(damaged);
        let sections = headers.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if header.e_shstrndx.get(LE) as usize >= sections.len() {
            return Err(Error::Runtime("its sections have no names".into()));
        }
        if let Some(section) = sections.iter().find(|s| s.header.sh_addralign.get(LE) > SEGMENT_ALIGN) {
            let name = String::from_utf8_lossy(section.name);
            return Err(Error::Runtime(format!(
                "its section {name} is aligned to {:#x}",
                section.header.sh_addralign.get(LE)
            )));
        }
        let meta = placeholder(&segments, &sections, META_ADDR, META_SECTION)?;
        let text = placeholder(&segments, &sections, TEXT_ADDR, TEXT_SECTION)?;
        let segments_at = header.e_phoff.get(LE) as usize;
        let mut runtime = RuntimeFile {
            arch,
            data,
            header,
            segments_at,
            segments,
            sections,
            meta,
            text,
            loaded_end: 0,
        };
        runtime.loaded_end = runtime.find_loaded_end()?;
        Ok(runtime)
    }

    /// Ends of everything that must stay where it is in the file.
    fn find_loaded_end(&self) -> Result<usize, Error> {
        let other = |own: fn(Placeholder) -> usize, n: usize| n != own(self.meta) && n != own(self.text);
        let segments = self
            .segments
            .iter()
            .enumerate()
            .filter(|(n, _)| other(|p| p.segment, *n));
        let segments = segments.map(|(_, s)| (s.p_offset.get(LE), s.p_filesz.get(LE)));
        let sections = self
            .sections
            .iter()
            .enumerate()
            .filter(|(n, s)| other(|p| p.section, *n) && s.is_loaded());
        let sections = sections.filter_map(|(_, s)| s.header.file_range(LE));
        let headers = (self.segments_at as u64, size_of_val(&self.segments[..]) as u64);
        let end = segments
            .chain(sections)
            .chain([headers])
            .map(|(at, len)| at.saturating_add(len))
            .max();
        let end = end.unwrap_or(0).max(size_of_val(&self.header) as u64);
        let end = usize::try_from(end).ok().filter(|&end| end <= self.data.len());
        end.ok_or_else(|| Error::Runtime("a segment lies outside of the file".into()))
    }

    /// The addresses from the placeholder's up to `end` must belong to nothing else.
    pub(crate) fn check_free(&self, placeholder: Placeholder, end: u64) -> Result<(), Error> {
        let start = self.segments[placeholder.segment].p_vaddr.get(LE);
        let taken = |at: u64, len: u64| at < end && at.saturating_add(len) > start;
        for (n, segment) in self.segments.iter().enumerate() {
            if n != placeholder.segment
                && segment.p_type.get(LE) == PT_LOAD
                && taken(segment.p_vaddr.get(LE), segment.p_memsz.get(LE))
            {
                return Err(Error::Runtime(format!(
                    "its segment {n} lies between {start:#x} and {end:#x}"
                )));
            }
        }
        for (n, section) in self.sections.iter().enumerate() {
            let tls_zeros = section.header.sh_flags.get(LE) & u64::from(SHF_TLS) != 0 && section.kind() == SHT_NOBITS;
            let (at, len) = (section.header.sh_addr.get(LE), section.header.sh_size.get(LE));
            if n != placeholder.section && section.is_loaded() && !tls_zeros && taken(at, len) {
                let name = String::from_utf8_lossy(section.name);
                return Err(Error::Runtime(format!(
                    "its section {name} lies between {start:#x} and {end:#x}"
                )));
            }
        }
        Ok(())
    }

    /// Points the placeholder's headers at `len` bytes at `offset` of the file.
    pub(crate) fn place(&mut self, placeholder: Placeholder, offset: u64, len: u64) {
        let executable = placeholder.segment == self.text.segment && !self.arch.is_portable();
        let segment = &mut self.segments[placeholder.segment];
        segment.p_offset = U64::new(LE, offset);
        segment.p_filesz = U64::new(LE, len);
        segment.p_memsz = U64::new(LE, len);
        segment.p_align = U64::new(LE, SEGMENT_ALIGN);
        segment.p_flags = U32::new(LE, if executable { PF_R | PF_X } else { PF_R });
        let section = &mut self.sections[placeholder.section].header;
        section.sh_offset = U64::new(LE, offset);
        section.sh_size = U64::new(LE, len);
        section.sh_addralign = U64::new(LE, SEGMENT_ALIGN);
        section.sh_type = U32::new(LE, SHT_PROGBITS);
    }
}

/// A section with its name and contents.
fn section<'a>(
    header: &SectionHeader64<LE>,
    names: StringTable<'a>,
    file: &'a [u8],
) -> Result<Section<'a>, object::read::Error> {
    if header.sh_type.get(LE) == SHT_NULL {
        return Ok(Section {
            name: b"",
            header: *header,
            data: &[],
        });
    }
    Ok(Section {
        name: header.name(LE, names)?,
        header: *header,
        data: header.data(LE, file)?,
    })
}

/// The segment and the section that the runtime reserves at an address for a part of the image.
fn placeholder(
    segments: &[ProgramHeader64<LE>],
    sections: &[Section<'_>],
    addr: u64,
    name: &str,
) -> Result<Placeholder, Error> {
    let segment = segments
        .iter()
        .position(|s| s.p_type.get(LE) == PT_LOAD && s.p_vaddr.get(LE) == addr);
    let section = sections
        .iter()
        .position(|s| s.name == name.as_bytes() && s.header.sh_addr.get(LE) == addr);
    match (segment, section) {
        (Some(segment), Some(section)) => Ok(Placeholder { segment, section }),
        _ => Err(Error::Runtime(format!(
            "it has no {name} section in a segment of its own at {addr:#x}"
        ))),
    }
}
