//! Portable code in a file of its own, and back out of it.

use super::image::LinkedImage;
use dunlin_format::arch::Arch;
use dunlin_format::image::{self, Image, ImageError};

/// The images as a file of portable code ([`image::find_in_portable`] reads it). They are the interpreter's.
pub fn write_portable(images: &[LinkedImage]) -> Vec<u8> {
    let part = |i: &LinkedImage| i.arch.is_portable();
    let parts: Vec<(Arch, &[u8], &[u8])> = images
        .iter()
        .filter(|i| part(i))
        .map(|i| (i.arch, &i.meta[..], &i.text[..]))
        .collect();
    image::write_portable(&parts)
}

impl LinkedImage {
    /// An image whose metadata and text were kept in a file of portable code.
    pub fn from_parts(meta: Vec<u8>, text: Vec<u8>) -> Result<LinkedImage, ImageError> {
        let image = Image::parse(&meta)?;
        let (arch, name) = (image.arch(), image.module()?.name);
        Ok(LinkedImage {
            arch,
            name,
            text,
            meta,
            symbols: Vec::new(),
            unwind: Vec::new(),
        })
    }
}
