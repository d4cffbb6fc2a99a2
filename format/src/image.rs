//! The image: one module's metadata for one architecture, as it lies in an executable's metadata segment beside the
//! text.
//!
//! ```text
//!   0    Header, 80 bytes, readable alone     magic, version, architecture, module, flags, lengths, checksum
//!   80   section table                        { id u32, reserved u32, offset u64, length u64 } each
//!        sections, 16-byte aligned            module, data, names, points, code, seal
//! ```
//!
//! All numbers are little-endian. Sections are read in place: opening an image costs the header's checksum and the
//! section table. The two segments have fixed addresses ([`META_ADDR`], [`TEXT_ADDR`]) in every executable; the runtime
//! is linked with placeholders there, and `dunlin build` points their program headers at the image.
//!
//! The seal is a SHA-256 over the other sections, the text, and what the header says of them ([`seal`]): by it `dunlin`
//! finds out before it starts an executable that the header's module hash stands for other contents. It is no
//! signature: who can forge an image can seal it, too. Images of earlier builds have none; readers that don't know it
//! skip it.

mod elf;
mod names;
mod portable;
mod seal;

pub use elf::{FileImage, Seal, find_in_elf};
pub use names::{Names, NamesBuilder};
pub use portable::{PORTABLE_SUFFIX, find_in_portable, write_portable};
pub use seal::{SEAL_LEN, Sealer};

use crate::arch::Arch;
use crate::bytes::{Reader, u32_at, u64_at};
use crate::framemap::{Code, MapError, Points};
use crate::module::{ModuleHash, ModuleInfo};

/// Address of the metadata segment in an executable.
pub const META_ADDR: u64 = 0x2000_0000;
/// Address of the text segment in an executable.
pub const TEXT_ADDR: u64 = 0x4000_0000;
/// ELF section of the metadata.
pub const META_SECTION: &str = ".dunlin.meta";
/// ELF section of the text.
pub const TEXT_SECTION: &str = ".dunlin.text";
/// Alignment of both segments, in the file and in memory: the largest page of any supported kernel.
pub const SEGMENT_ALIGN: u64 = 0x1_0000;
/// First bytes of the metadata.
pub const MAGIC: [u8; 8] = *b"DUNLIN\0I";
/// Version of the image format. Runtime and image of one executable come from one `dunlin`, so only this one is read.
pub const VERSION: u32 = 1;
/// Size of the fixed header in bytes.
pub const HEADER_LEN: usize = 80;

const FLAG_MIGRATABLE: u32 = 1;
const SECTION_ENTRY: usize = 24;
const MAX_SECTIONS: u32 = 64;

/// Id of the optional section that holds the seal.
const SEAL: u32 = 6;

/// Sections by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Section {
    Module = 1,
    Data = 2,
    Names = 3,
    Points = 4,
    Code = 5,
}

impl Section {
    const ALL: [Section; 5] = [
        Section::Module,
        Section::Data,
        Section::Names,
        Section::Points,
        Section::Code,
    ];
}

/// Why an image can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No program was added to this runtime, or the bytes are something else.
    #[error("this executable carries no program: build one with `dunlin build`")]
    NoImage,
    /// Written by another version of Dunlin.
    #[error(
        "the image has format version {found}, this runtime reads {VERSION}: build the executable again with `dunlin build`"
    )]
    Version {
        /// The image's version.
        found: u32,
    },
    /// The architecture's number is unknown.
    #[error("the image is for an unknown architecture (number {0})")]
    UnknownArch(u32),
    /// The header or the section table is damaged.
    #[error("the image is damaged: {0}")]
    Damaged(&'static str),
    /// The module section doesn't decode.
    #[error("the module section of the image is damaged: {0}")]
    Module(postcard::Error),
    /// Another section doesn't decode.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A file of portable code has none for this machine.
    #[error("it holds no code for {0}")]
    Missing(Arch),
    /// The executable can't be read.
    #[error("cannot read the executable: {0}")]
    Io(#[from] std::io::Error),
}

/// The fixed part of an image, readable alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The architecture its code is for.
    pub arch: Arch,
    /// The module it was compiled from.
    pub module: ModuleHash,
    /// Whether it has migration points (it was not built with `--no-migration`).
    pub migratable: bool,
    /// Length of the text in bytes.
    pub text_len: u64,
    /// Length of the whole metadata in bytes.
    pub total_len: u64,
    sections: u32,
}

impl Header {
    /// Reads the header from the first [`HEADER_LEN`] bytes of the metadata.
    pub fn parse(bytes: &[u8]) -> Result<Header, ImageError> {
        let damaged = ImageError::Damaged("it is shorter than its header");
        if bytes.get(..8) != Some(&MAGIC) {
            return Err(ImageError::NoImage);
        }
        let bytes = bytes.get(..HEADER_LEN).ok_or(damaged)?;
        let word = |at| u32_at(bytes, at).unwrap_or(0);
        let long = |at| u64_at(bytes, at).unwrap_or(0);
        if word(8) != VERSION {
            return Err(ImageError::Version { found: word(8) });
        }
        if crc32fast::hash(&bytes[..HEADER_LEN - 4]) != word(HEADER_LEN - 4) {
            return Err(ImageError::Damaged("the header's checksum is wrong"));
        }
        let arch = Arch::from_u32(word(12)).ok_or(ImageError::UnknownArch(word(12)))?;
        let mut module = [0; 32];
        module.copy_from_slice(&bytes[16..48]);
        let header = Header {
            arch,
            module: ModuleHash(module),
            migratable: word(48) & FLAG_MIGRATABLE != 0,
            sections: word(52),
            text_len: long(56),
            total_len: long(64),
        };
        if word(48) & !FLAG_MIGRATABLE != 0 || word(72) != 0 || header.sections > MAX_SECTIONS {
            return Err(ImageError::Damaged("the header has impossible values"));
        }
        Ok(header)
    }

    fn bytes(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&(self.arch as u32).to_le_bytes());
        out[16..48].copy_from_slice(&self.module.0);
        out[48..52].copy_from_slice(&(if self.migratable { FLAG_MIGRATABLE } else { 0 }).to_le_bytes());
        out[52..56].copy_from_slice(&self.sections.to_le_bytes());
        out[56..64].copy_from_slice(&self.text_len.to_le_bytes());
        out[64..72].copy_from_slice(&self.total_len.to_le_bytes());
        let sum = crc32fast::hash(&out[..HEADER_LEN - 4]);
        out[HEADER_LEN - 4..].copy_from_slice(&sum.to_le_bytes());
        out
    }
}

/// Everything an image is made of. [`ImageBuilder::finish`] gives its bytes.
#[derive(Clone, Copy, Debug)]
pub struct ImageBuilder<'a> {
    /// The architecture the code is for.
    pub arch: Arch,
    /// Identity of the module.
    pub module_hash: ModuleHash,
    /// Whether the code has migration points.
    pub migratable: bool,
    /// The text, beside which the image will lie.
    pub text: &'a [u8],
    /// The module.
    pub module: &'a ModuleInfo,
    /// The bytes of the data segments ([`crate::module::Data::bytes`] are ranges of it).
    pub data: &'a [u8],
    /// The section of function names, from [`NamesBuilder::finish`].
    pub names: &'a [u8],
    /// The section of migration points, from [`crate::framemap::PointsBuilder::finish`].
    pub points: &'a [u8],
    /// The section of code sites, from [`crate::framemap::CodeBuilder::finish`].
    pub code: &'a [u8],
}

impl ImageBuilder<'_> {
    /// The image's bytes.
    pub fn finish(&self) -> Result<Vec<u8>, ImageError> {
        let module = postcard::to_stdvec(self.module).map_err(ImageError::Module)?;
        let mut header = Header {
            arch: self.arch,
            module: self.module_hash,
            migratable: self.migratable,
            text_len: self.text.len() as u64,
            total_len: 0,
            sections: 6,
        };
        let sealed: [&[u8]; 5] = [&module, self.data, self.names, self.points, self.code];
        let mut sealer = Sealer::new(&header, &sealed);
        sealer.text(self.text);
        let seal = sealer.finish();
        let ids = Section::ALL.map(|section| section as u32).into_iter().chain([SEAL]);
        let bodies = || sealed.into_iter().chain([&seal[..]]);
        let mut out = vec![0; HEADER_LEN];
        let mut offset = HEADER_LEN + SECTION_ENTRY * header.sections as usize;
        for (id, body) in ids.zip(bodies()) {
            offset = offset.next_multiple_of(16);
            out.extend(id.to_le_bytes());
            out.extend(0u32.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            out.extend((body.len() as u64).to_le_bytes());
            offset += body.len();
        }
        for body in bodies() {
            out.resize(out.len().next_multiple_of(16), 0);
            out.extend_from_slice(body);
        }
        header.total_len = out.len() as u64;
        out[..HEADER_LEN].copy_from_slice(&header.bytes());
        Ok(out)
    }
}

/// An image, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    header: Header,
    sections: [&'a [u8]; 5],
    seal: Option<[u8; SEAL_LEN]>,
}

impl<'a> Image<'a> {
    /// Reads the header and the section table. `bytes` may go on behind the image (a mapped segment ends at a page's
    /// end).
    pub fn parse(bytes: &'a [u8]) -> Result<Image<'a>, ImageError> {
        let header = Header::parse(bytes)?;
        let len = usize::try_from(header.total_len).ok();
        let bytes = len
            .and_then(|n| bytes.get(..n))
            .ok_or(ImageError::Damaged("it is shorter than its header says"))?;
        let mut table = Reader::new(bytes.get(HEADER_LEN..).unwrap_or_default());
        let mut sections = [None; 5];
        let mut seal = None;
        for _ in 0..header.sections {
            let (id, body) =
                section_entry(&mut table, bytes).ok_or(ImageError::Damaged("a section lies outside of it"))?;
            if let Some(n) = Section::ALL.iter().position(|&s| s as u32 == id)
                && sections[n].replace(body).is_some()
            {
                return Err(ImageError::Damaged("a section occurs twice"));
            }
            if id == SEAL {
                let body = <[u8; SEAL_LEN]>::try_from(body)
                    .map_err(|_| ImageError::Damaged("its seal has an impossible length"))?;
                if seal.replace(body).is_some() {
                    return Err(ImageError::Damaged("a section occurs twice"));
                }
            }
        }
        let mut found = [&[][..]; 5];
        for (found, section) in found.iter_mut().zip(sections) {
            *found = section.ok_or(ImageError::Damaged("a section is missing"))?;
        }
        Ok(Image {
            header,
            sections: found,
            seal,
        })
    }

    fn section(&self, section: Section) -> &'a [u8] {
        self.sections[section as usize - 1]
    }

    /// Its seal, if it has one.
    pub fn seal(&self) -> Option<[u8; SEAL_LEN]> {
        self.seal
    }

    /// What would be its seal; the text is still to be added.
    pub fn sealer(&self) -> Sealer {
        Sealer::new(&self.header, &self.sections)
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The architecture its code is for.
    pub fn arch(&self) -> Arch {
        self.header.arch
    }

    /// The module it was compiled from.
    pub fn module_hash(&self) -> ModuleHash {
        self.header.module
    }

    /// Whether it has migration points.
    pub fn migratable(&self) -> bool {
        self.header.migratable
    }

    /// Length of the text in bytes.
    pub fn text_len(&self) -> u64 {
        self.header.text_len
    }

    /// Decodes the module.
    pub fn module(&self) -> Result<ModuleInfo, ImageError> {
        postcard::from_bytes(self.section(Section::Module)).map_err(ImageError::Module)
    }

    /// The bytes of the data segments.
    pub fn data(&self) -> &'a [u8] {
        self.section(Section::Data)
    }

    /// The names of functions.
    pub fn names(&self) -> Result<Names<'a>, ImageError> {
        Ok(Names::parse(self.section(Section::Names))?)
    }

    /// The migration points.
    pub fn points(&self) -> Result<Points<'a>, ImageError> {
        Ok(Points::parse(self.section(Section::Points))?)
    }

    /// The code's places and sites.
    pub fn code(&self) -> Result<Code<'a>, ImageError> {
        Ok(Code::parse(self.section(Section::Code))?)
    }
}

/// The next entry of the section table: an id, and the bytes it names.
fn section_entry<'a>(table: &mut Reader<'_>, image: &'a [u8]) -> Option<(u32, &'a [u8])> {
    let id = table.u32()?;
    table.u32()?;
    let (offset, len) = (usize::try_from(table.u64()?).ok()?, usize::try_from(table.u64()?).ok()?);
    Some((id, image.get(offset..offset.checked_add(len)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framemap::{CodeBuilder, FunctionCode, FunctionPoints, PointsBuilder};
    use crate::module::{Export, ExportKind};
    use crate::types::FuncType;

    /// A small image: one exported function and its type's trampoline.
    pub(super) fn sample() -> Vec<u8> {
        sample_for(Arch::Aarch64)
    }

    /// The same for an architecture.
    pub(super) fn sample_for(arch: Arch) -> Vec<u8> {
        let module = ModuleInfo {
            name: "sample".into(),
            types: vec![FuncType::default()],
            funcs: vec![0],
            exports: vec![Export {
                name: "_start".into(),
                kind: ExportKind::Func,
                index: 0,
            }],
            ..Default::default()
        };
        let (mut names, mut points, mut code) = (NamesBuilder::new(), PointsBuilder::new(), CodeBuilder::new());
        names.push(Some("main"));
        for n in 0..2 {
            points.push(&FunctionPoints::default());
            code.push(&FunctionCode {
                start: 16 * n,
                len: 12,
                ..Default::default()
            });
        }
        let builder = ImageBuilder {
            arch,
            module_hash: ModuleHash::of(b"sample"),
            migratable: true,
            text: &[0xcc; 28],
            module: &module,
            data: b"hello",
            names: &names.finish(),
            points: &points.finish(),
            code: &code.finish(),
        };
        builder.finish().unwrap()
    }

    #[test]
    fn comes_back() {
        let mut bytes = sample();
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        let image = Image::parse(&bytes).unwrap();
        assert_eq!(
            (image.arch(), image.module_hash(), image.migratable()),
            (Arch::Aarch64, ModuleHash::of(b"sample"), true)
        );
        assert_eq!((image.text_len(), image.data()), (28, &b"hello"[..]));
        let module = image.module().unwrap();
        assert_eq!(
            (module.name.as_str(), module.exported_func("_start")),
            ("sample", Some(0))
        );
        assert_eq!(image.names().unwrap().get(0), Some("main"));
        assert_eq!(image.points().unwrap().len(), 2);
        assert_eq!(image.code().unwrap().find(20), Some(1));
    }

    #[test]
    fn damage_is_an_error() {
        let bytes = sample();
        for at in 0..bytes.len() {
            assert!(Image::parse(&bytes[..at]).is_err(), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 0xff;
            let parsed = Image::parse(&flipped);
            assert!(at >= HEADER_LEN || parsed.is_err(), "flip at {at}");
            if let Ok(image) = parsed {
                let _ = (
                    image.module().is_ok(),
                    image.names().is_ok(),
                    image.points().is_ok(),
                    image.code().is_ok(),
                );
            }
        }
        let mut other = bytes.clone();
        other[8] = 9;
        assert!(matches!(Image::parse(&other), Err(ImageError::Version { found: 9 })));
        assert!(matches!(Image::parse(&[0; 4096]), Err(ImageError::NoImage)));
    }
}
