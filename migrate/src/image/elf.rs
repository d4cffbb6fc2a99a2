//! Finds the image in an executable file: an ELF64 program header at [`META_ADDR`], read without an ELF library.

use super::{HEADER_LEN, Header, ImageError, META_ADDR};
use crate::bytes::Reader;
use std::io::{self, Read, Seek, SeekFrom};

const EHDR_LEN: usize = 64;
const PHDR_LEN: usize = 56;
const PT_LOAD: u32 = 1;

/// Greatest size of an image's metadata that [`ElfImage::read`] reads: 1 GiB.
const MAX_META: u64 = 1 << 30;

/// The image of an executable file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElfImage {
    /// Its header.
    pub header: Header,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
}

impl ElfImage {
    /// Reads the whole image, for [`super::Image::parse`].
    pub fn read(&self, file: &mut (impl Read + Seek)) -> Result<Vec<u8>, ImageError> {
        if self.header.total_len > MAX_META {
            return Err(ImageError::Damaged("it is larger than 1 GiB"));
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        // `take` reads on demand: a lie about the length costs no memory.
        file.take(self.header.total_len).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != self.header.total_len {
            return Err(ImageError::Damaged("the executable is cut off"));
        }
        Ok(bytes)
    }
}

/// The image an executable carries: `None` if the file is no 64-bit little-endian ELF file, or has no segment at [`META_ADDR`]
/// that holds an image; an error if it has one that can't be read.
pub fn find_in_elf(file: &mut (impl Read + Seek)) -> Result<Option<ElfImage>, ImageError> {
    let Some(ehdr) = read_at::<EHDR_LEN>(file, 0)? else {
        return Ok(None);
    };
    // e_ident: magic, ELFCLASS64, ELFDATA2LSB, EV_CURRENT.
    if ehdr[..7] != *b"\x7fELF\x02\x01\x01" {
        return Ok(None);
    }
    let phoff = Reader::new(&ehdr[32..]).u64().unwrap_or(0);
    let mut sizes = Reader::new(&ehdr[54..]);
    let mut half = || sizes.array().map_or(0, u16::from_le_bytes);
    let (phentsize, phnum) = (half(), half());
    if usize::from(phentsize) != PHDR_LEN {
        return Ok(None);
    }
    for n in 0..u64::from(phnum) {
        let Some(at) = phoff.checked_add(n * PHDR_LEN as u64) else {
            return Ok(None);
        };
        let Some(phdr) = read_at::<PHDR_LEN>(file, at)? else {
            return Ok(None);
        };
        let mut fields = Reader::new(&phdr);
        let mut next = || fields.u64().unwrap_or(0);
        let (kind, offset, vaddr, _paddr, filesz) = (next() as u32, next(), next(), next(), next());
        if kind != PT_LOAD || vaddr != META_ADDR {
            continue;
        }
        if filesz < HEADER_LEN as u64 {
            return Ok(None);
        }
        let Some(header) = read_at::<HEADER_LEN>(file, offset)? else {
            return Err(ImageError::Damaged("the executable is cut off"));
        };
        let header = match Header::parse(&header) {
            Err(ImageError::NoImage) => return Ok(None),
            header => header?,
        };
        if header.total_len > filesz {
            return Err(ImageError::Damaged("it is larger than its segment"));
        }
        return Ok(Some(ElfImage { header, offset }));
    }
    Ok(None)
}

/// `N` bytes at an offset, or `None` if the file ends before.
fn read_at<const N: usize>(file: &mut (impl Read + Seek), offset: u64) -> Result<Option<[u8; N]>, ImageError> {
    // Offsets beyond what the system can seek to lie behind any file's end.
    if i64::try_from(offset).is_err() {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = [0; N];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;
    use std::io::Cursor;

    fn executable(image: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 0x200];
        out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        out[32..40].copy_from_slice(&64u64.to_le_bytes());
        out[54..56].copy_from_slice(&56u16.to_le_bytes());
        out[56..58].copy_from_slice(&2u16.to_le_bytes());
        for (n, (offset, vaddr, filesz)) in [(0, 0x400000, 0x200), (0x200, META_ADDR, image.len() as u64)]
            .into_iter()
            .enumerate()
        {
            let at = 64 + 56 * n;
            out[at..at + 4].copy_from_slice(&PT_LOAD.to_le_bytes());
            for (field, value) in [(8, offset), (16, vaddr), (32, filesz)] {
                out[at + field..at + field + 8].copy_from_slice(&u64::to_le_bytes(value));
            }
        }
        out.extend_from_slice(image);
        out
    }

    #[test]
    fn finds_the_image() {
        let image = sample();
        let mut file = Cursor::new(executable(&image));
        let found = find_in_elf(&mut file).unwrap().unwrap();
        assert_eq!((found.offset, found.header.total_len), (0x200, image.len() as u64));
        assert_eq!(found.read(&mut file).unwrap(), image);
    }

    #[test]
    fn other_files_have_none() {
        for bytes in [
            &b""[..],
            b"#!/bin/sh\n",
            &[0; 4096],
            b"\x7fELF",
            &executable(&[]),
            &executable(&[0; 128]),
        ] {
            assert!(find_in_elf(&mut Cursor::new(bytes)).unwrap().is_none());
        }
    }

    #[test]
    fn damage_never_panics() {
        let bytes = executable(&sample());
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0xff;
            for bytes in [&bytes[..at], &flipped] {
                let mut file = Cursor::new(bytes);
                if let Ok(Some(found)) = find_in_elf(&mut file) {
                    let _ = found.read(&mut file);
                }
            }
        }
        let cut = &bytes[..0x200 + HEADER_LEN + 1];
        let found = find_in_elf(&mut Cursor::new(cut)).unwrap().unwrap();
        assert!(matches!(found.read(&mut Cursor::new(cut)), Err(ImageError::Damaged(_))));
    }
}
