//! The image inside this executable: where it lies, and the placeholders that keep its place in the bare runtime.
//!
//! `image-sections.ld` places two sections, `.dunlin.meta` and `.dunlin.text`, at fixed addresses, each in a load
//! segment of its own. In the bare runtime they hold a few placeholder bytes. The compiler's executable writer appends
//! the real bytes to the file and points the two program headers at them, so an image's size is that of its segment,
//! not of the section.

use crate::os::machine::load_segment;
use dunlin_format::arch::Arch;
use dunlin_format::image::{Image, ImageError, META_ADDR, TEXT_ADDR};
use std::arch::global_asm;

global_asm!(
    ".pushsection .dunlin.meta, \"aR\", %progbits",
    ".balign 16",
    ".globl dunlin_meta_placeholder",
    "dunlin_meta_placeholder:",
    ".ascii \"no dunlin image\\0\"",
    ".popsection",
    ".pushsection .dunlin.text, \"axR\", %progbits",
    ".balign 16",
    ".globl dunlin_text_placeholder",
    "dunlin_text_placeholder:",
    // Zeros trap on both machines: a store through a null register on x86-64, permanently undefined on AArch64.
    ".zero 16",
    ".popsection",
);

// SAFETY: the assembly above defines these symbols; only their addresses are taken.
unsafe extern "C" {
    static dunlin_meta_placeholder: u8;
    static dunlin_text_placeholder: u8;
}

/// The program in this executable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Embedded {
    /// The metadata of its image.
    pub image: Image<'static>,
    /// The address of its code.
    pub text_start: u64,
}

/// Why this executable has no program to run.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The image is missing or damaged.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image is for another machine, or another kind of runtime.
    #[error("this executable's program is compiled for {0}, its runtime is not")]
    Arch(Arch),
    /// The code is shorter than the image says.
    #[error("the executable is damaged: {found} bytes of code where the image says {expected}")]
    Text {
        /// Bytes mapped.
        found: u64,
        /// Bytes the image names.
        expected: u64,
    },
}

/// The architecture of the code that this runtime runs.
fn runs() -> Option<Arch> {
    match cfg!(feature = "pulley") {
        true => Arch::portable_host(),
        false => Arch::host(),
    }
}

/// Finds and checks the program in this executable. Costs the image's header and section table only.
pub(crate) fn load() -> Result<Embedded, EmbeddedError> {
    // In a test harness the sections are not placed; then there is no image either.
    let placed = (&raw const dunlin_meta_placeholder).addr() as u64 == META_ADDR
        && (&raw const dunlin_text_placeholder).addr() as u64 == TEXT_ADDR;
    if !placed {
        return Err(ImageError::NoImage.into());
    }
    let (Some(meta), Some(text)) = (load_segment(META_ADDR), load_segment(TEXT_ADDR)) else {
        return Err(ImageError::NoImage.into());
    };
    // SAFETY: a read-only load segment of this executable covers the range and stays mapped for the life of the
    // process.
    let bytes = unsafe { std::slice::from_raw_parts(meta.start as *const u8, (meta.end - meta.start) as usize) };
    let image = Image::parse(bytes)?;
    if Some(image.arch()) != runs() {
        return Err(EmbeddedError::Arch(image.arch()));
    }
    let found = text.end - text.start;
    if image.text_len() > found {
        return Err(EmbeddedError::Text {
            found,
            expected: image.text_len(),
        });
    }
    Ok(Embedded {
        image,
        text_start: text.start,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_harness_carries_no_program() {
        assert!(matches!(load(), Err(EmbeddedError::Image(ImageError::NoImage))));
    }

    #[test]
    fn the_linker_script_agrees_with_the_image_format() {
        let script = include_str!("../../image-sections.ld");
        for (section, address) in [
            (dunlin_format::image::META_SECTION, META_ADDR),
            (dunlin_format::image::TEXT_SECTION, TEXT_ADDR),
        ] {
            assert!(
                script.contains(&format!("{section} {address:#x} :")),
                "{section} is not at {address:#x} in image-sections.ld"
            );
        }
    }
}
