//! The file of portable code, `NAME.dunlin`: images of one module for the interpreter, without a runtime.
//!
//! ```text
//!   0    magic "DUNLIN\0P", version u32, number of images u32
//!   16   per image: architecture u32, reserved u32, metadata {offset u64, length u64}, text {offset u64, length u64}
//!        CRC-32 of all that
//!        metadata and texts, each at a multiple of 16
//! ```
//!
//! All numbers are little-endian. Each image has its own seal ([`FileImage::verify`]), as in an executable.

use super::elf::{FileImage, read_at};
use super::{HEADER_LEN, Header, ImageError};
use crate::arch::Arch;
use crate::bytes::{u32_at, u64_at};
use std::io::{Read, Seek};

/// The suffix of such a file's name.
pub const PORTABLE_SUFFIX: &str = "dunlin";

const MAGIC: [u8; 8] = *b"DUNLIN\0P";
const VERSION: u32 = 1;
const FIXED: usize = 16;
const ENTRY: usize = 40;
const ALIGN: usize = 16;

/// The bytes of a file of portable code: for each image its metadata (from [`super::ImageBuilder::finish`]) and text.
/// There are at most as many as there are architectures of the interpreter ([`Arch::PORTABLE`]).
pub fn write_portable(images: &[(Arch, &[u8], &[u8])]) -> Vec<u8> {
    let mut at = FIXED + ENTRY * images.len() + 4;
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((images.len() as u32).to_le_bytes());
    for (arch, meta, text) in images {
        out.extend((*arch as u32).to_le_bytes());
        out.extend(0u32.to_le_bytes());
        for part in [meta, text] {
            at = at.next_multiple_of(ALIGN);
            out.extend((at as u64).to_le_bytes());
            out.extend((part.len() as u64).to_le_bytes());
            at += part.len();
        }
    }
    out.extend(crc32fast::hash(&out).to_le_bytes());
    for part in images.iter().flat_map(|(_, meta, text)| [meta, text]) {
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        out.extend_from_slice(part);
    }
    out
}

/// The image for an architecture in a file of portable code. `None` if the file is something else; an error if it is
/// damaged, or has none for this architecture.
pub fn find_in_portable(file: &mut (impl Read + Seek), arch: Arch) -> Result<Option<FileImage>, ImageError> {
    let Some(fixed) = read_at::<FIXED>(file, 0)?.filter(|fixed| fixed[..8] == MAGIC) else {
        return Ok(None);
    };
    let number = |at| u32_at(&fixed, at).unwrap_or(0);
    if number(8) != VERSION {
        return Err(ImageError::Version { found: number(8) });
    }
    let count = number(12) as usize;
    if count > Arch::PORTABLE.len() {
        return Err(ImageError::Damaged("it has impossibly many images"));
    }
    let cut = || ImageError::Damaged("it is cut off");
    let mut table = fixed.to_vec();
    for n in 0..count {
        table.extend(read_at::<ENTRY>(file, (FIXED + ENTRY * n) as u64)?.ok_or_else(cut)?);
    }
    let sum = read_at::<4>(file, table.len() as u64)?.ok_or_else(cut)?;
    if crc32fast::hash(&table).to_le_bytes() != sum {
        return Err(ImageError::Damaged("the checksum of its table is wrong"));
    }
    let entries = table[FIXED..].chunks_exact(ENTRY);
    let Some(entry) = entries.clone().find(|e| u32_at(e, 0) == Some(arch as u32)) else {
        return Err(ImageError::Missing(arch));
    };
    let long = |at| u64_at(entry, at).unwrap_or(0);
    let (offset, len, text) = (long(8), long(16), (long(24), long(32)));
    let header = Header::parse(&read_at::<HEADER_LEN>(file, offset)?.ok_or_else(cut)?)?;
    if header.arch != arch || header.total_len > len {
        return Err(ImageError::Damaged("its table and an image disagree"));
    }
    Ok(Some(FileImage {
        header,
        machine: None,
        offset,
        text: Some(text),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample_for;
    use super::super::{Seal, find_in_elf};
    use super::*;
    use std::io::Cursor;

    fn file() -> Vec<u8> {
        let text = [0xcc; 28];
        let images = Arch::PORTABLE.map(|arch| (arch, sample_for(arch)));
        let parts: Vec<_> = images
            .iter()
            .map(|(arch, meta)| (*arch, &meta[..], &text[..]))
            .collect();
        write_portable(&parts)
    }

    #[test]
    fn every_image_is_found_and_whole() {
        let mut file = Cursor::new(file());
        for arch in Arch::PORTABLE {
            let found = find_in_portable(&mut file, arch).unwrap().unwrap();
            assert_eq!(found.header.arch, arch);
            assert_eq!(found.read(&mut file).unwrap(), sample_for(arch));
            assert_eq!(found.verify(&mut file).unwrap(), Seal::Whole);
        }
        assert!(matches!(
            find_in_portable(&mut file, Arch::X86_64),
            Err(ImageError::Missing(Arch::X86_64))
        ));
        assert!(find_in_elf(&mut file).unwrap().is_none());
    }

    #[test]
    fn damage_is_found_out() {
        let bytes = file();
        let whole = |bytes: &[u8]| {
            let mut file = Cursor::new(bytes);
            let found = Arch::PORTABLE.map(|arch| {
                let found = find_in_portable(&mut file, arch).ok()??;
                found.verify(&mut file).ok()
            });
            found.iter().all(|seal| *seal == Some(Seal::Whole))
        };
        assert!(whole(&bytes));
        let mut unnoticed = 0;
        for at in 0..bytes.len() {
            assert!(!whole(&bytes[..at]), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            unnoticed += usize::from(whole(&flipped));
        }
        // Padding, between the parts and between an image's sections; and the id of the seal, which makes it unknown,
        // is noticed here as well.
        assert!(unnoticed < 200, "{unnoticed} of {} bytes", bytes.len());
        assert!(
            find_in_portable(&mut Cursor::new(b"\x7fELF"), Arch::Pulley64)
                .unwrap()
                .is_none()
        );
    }
}
