//! Finds the image in an executable file: ELF64 program headers at [`META_ADDR`] and [`TEXT_ADDR`], read without an ELF
//! library.

use super::{HEADER_LEN, Header, Image, ImageError, META_ADDR, TEXT_ADDR};
use crate::arch::Arch;
use crate::bytes::Reader;
use std::io::{self, Read, Seek, SeekFrom};

const EHDR_LEN: usize = 64;
const PHDR_LEN: usize = 56;
const PT_LOAD: u32 = 1;
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

/// Greatest size of an image's metadata that [`FileImage::read`] reads: 1 GiB.
const MAX_META: u64 = 1 << 30;

/// An image in a file: an executable, or one of portable code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileImage {
    /// Its header.
    pub header: Header,
    /// The machine whose code the runtime is: that of the image, unless it is interpreted. `None`: an unknown one, or
    /// there is no runtime.
    pub machine: Option<Arch>,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// Where the text begins in the file, and how long its segment is there, in bytes.
    pub text: Option<(u64, u64)>,
}

/// What an image's seal has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// The contents are those that were sealed.
    Whole,
    /// There is no seal: an earlier `dunlin` wrote the image.
    None,
}

impl FileImage {
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

    /// Reads all of the image and of the text, and compares them with the seal. An error if they aren't what was
    /// sealed, or can't be decoded.
    pub fn verify(&self, file: &mut (impl Read + Seek)) -> Result<Seal, ImageError> {
        let bytes = self.read(file)?;
        let image = Image::parse(&bytes)?;
        if *image.header() != self.header {
            return Err(ImageError::Damaged("it changes while it is read"));
        }
        image.module()?;
        let cut = ImageError::Damaged("the executable's code is cut off");
        let Some((offset, _)) = self.text.filter(|&(_, len)| len >= self.header.text_len) else {
            return Err(cut);
        };
        let mut sealer = image.sealer();
        file.seek(SeekFrom::Start(offset))?;
        let mut left = self.header.text_len;
        let mut buffer = vec![0; 1 << 18];
        while left > 0 {
            let part = left.min(buffer.len() as u64) as usize;
            let n = file.read(&mut buffer[..part])?;
            if n == 0 {
                return Err(cut);
            }
            sealer.text(&buffer[..n]);
            left -= n as u64;
        }
        match image.seal() {
            None => Ok(Seal::None),
            Some(seal) if seal == sealer.finish() => Ok(Seal::Whole),
            Some(_) => Err(ImageError::Damaged("its contents are not those that it was built with")),
        }
    }
}

/// The image an executable carries: `None` if the file is no 64-bit little-endian ELF file, or has no segment at
/// [`META_ADDR`] that holds an image; an error if it has one that can't be read.
pub fn find_in_elf(file: &mut (impl Read + Seek)) -> Result<Option<FileImage>, ImageError> {
    let Some(ehdr) = read_at::<EHDR_LEN>(file, 0)? else {
        return Ok(None);
    };
    // e_ident: magic, ELFCLASS64, ELFDATA2LSB, EV_CURRENT.
    if ehdr[..7] != *b"\x7fELF\x02\x01\x01" {
        return Ok(None);
    }
    let machine = match u16::from_le_bytes([ehdr[18], ehdr[19]]) {
        EM_X86_64 => Some(Arch::X86_64),
        EM_AARCH64 => Some(Arch::Aarch64),
        _ => None,
    };
    let phoff = Reader::new(&ehdr[32..]).u64().unwrap_or(0);
    let mut sizes = Reader::new(&ehdr[54..]);
    let mut half = || sizes.array().map_or(0, u16::from_le_bytes);
    let (phentsize, phnum) = (half(), half());
    if usize::from(phentsize) != PHDR_LEN {
        return Ok(None);
    }
    let (mut image, mut text) = (None, None);
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
        if kind == PT_LOAD && vaddr == TEXT_ADDR && text.is_none() {
            text = Some((offset, filesz));
        }
        if kind != PT_LOAD || vaddr != META_ADDR || image.is_some() {
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
        image = Some((header, offset));
    }
    Ok(image.map(|(header, offset)| FileImage {
        header,
        machine,
        offset,
        text,
    }))
}

/// `N` bytes at an offset, or `None` if the file ends before.
pub(super) fn read_at<const N: usize>(
    file: &mut (impl Read + Seek),
    offset: u64,
) -> Result<Option<[u8; N]>, ImageError> {
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

    /// An executable of an image, and of the text that it was sealed with.
    fn executable(image: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 0x200];
        let text_at = 0x200 + image.len() as u64;
        out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        out[32..40].copy_from_slice(&64u64.to_le_bytes());
        out[54..56].copy_from_slice(&56u16.to_le_bytes());
        out[56..58].copy_from_slice(&3u16.to_le_bytes());
        let segments = [
            (0, 0x400000, 0x200),
            (0x200, META_ADDR, image.len() as u64),
            (text_at, TEXT_ADDR, 28),
        ];
        for (n, (offset, vaddr, filesz)) in segments.into_iter().enumerate() {
            let at = 64 + 56 * n;
            out[at..at + 4].copy_from_slice(&PT_LOAD.to_le_bytes());
            for (field, value) in [(8, offset), (16, vaddr), (32, filesz)] {
                out[at + field..at + field + 8].copy_from_slice(&u64::to_le_bytes(value));
            }
        }
        out.extend_from_slice(image);
        out.extend_from_slice(&[0xcc; 28]);
        out
    }

    /// A header that claims another module, with the right checksum.
    fn claim(executable: &mut [u8], module: &[u8; 32]) {
        let header = &mut executable[0x200..0x200 + HEADER_LEN];
        header[16..48].copy_from_slice(module);
        let sum = crc32fast::hash(&header[..HEADER_LEN - 4]);
        header[HEADER_LEN - 4..].copy_from_slice(&sum.to_le_bytes());
    }

    #[test]
    fn a_module_hash_over_other_contents_is_found_out() {
        let verify = |bytes: &[u8]| {
            let mut file = Cursor::new(bytes);
            find_in_elf(&mut file).unwrap().unwrap().verify(&mut file)
        };
        let bytes = executable(&sample());
        assert_eq!(verify(&bytes).unwrap(), Seal::Whole);
        let mut claimed = bytes.clone();
        claim(&mut claimed, &[7; 32]);
        assert!(
            verify(&claimed)
                .unwrap_err()
                .to_string()
                .contains("not those that it was built with")
        );
        // A byte of the data section, and every byte of the text.
        let data = bytes.windows(5).position(|w| w == b"hello").unwrap();
        for at in (bytes.len() - 28..bytes.len()).chain([data]) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(verify(&flipped).is_err(), "byte {at}");
        }
        assert!(verify(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn an_image_without_a_seal_is_usable() {
        let mut image = sample();
        // The last entry of the table: an id that nobody knows, as a reader without seals sees it.
        let at = HEADER_LEN + 24 * 5;
        assert_eq!(image[at], 6);
        image[at] = 63;
        let bytes = executable(&image);
        let mut file = Cursor::new(&bytes);
        let found = find_in_elf(&mut file).unwrap().unwrap();
        assert_eq!(found.verify(&mut file).unwrap(), Seal::None);
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
