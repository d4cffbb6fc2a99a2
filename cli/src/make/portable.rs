//! Files of portable code: made into an executable for this machine when they are to be run.

use super::compile::{ToRun, hold};
use super::runtimes;
use crate::find::trust;
use dunlin_compiler::{LinkedImage, write_executable};
use dunlin_format::arch::Arch;
use dunlin_format::image::{FileImage, Header, PORTABLE_SUFFIX, find_in_portable};
use std::ffi::OsString;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

/// The interpreter's architecture on this machine.
fn here() -> Result<Arch, String> {
    Arch::portable_host().ok_or_else(|| "portable code can't be interpreted on this machine".into())
}

/// `NAME.dunlin`.
pub(crate) fn with_suffix(base: &Path) -> PathBuf {
    let mut name = OsString::from(base);
    name.push(".");
    name.push(PORTABLE_SUFFIX);
    PathBuf::from(name)
}

/// Is it a file of portable code, sound or damaged?
pub(crate) fn is_portable(path: &Path) -> bool {
    let found = trust::open(path).map(|mut file| find_in_portable(&mut file, Arch::Pulley64));
    !matches!(found, Err(_) | Ok(Ok(None)))
}

/// The header of the image that this machine would interpret, if it is a sound file of portable code as far as can be
/// told from the headers.
pub(crate) fn header(path: &Path) -> Option<Header> {
    let mut file = trust::open(path).ok()?;
    let found = find_in_portable(&mut file, here().ok()?).ok()??;
    Some(found.header)
}

/// An executable of a file of portable code, to be run at once. What is compared with the seal is what is run.
pub(crate) fn to_run(path: &Path) -> Result<ToRun, String> {
    let arch = here()?;
    let mut bytes = Vec::new();
    let read = trust::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|e| e.to_string())?;
    let mut file = Cursor::new(&bytes);
    let found = find_in_portable(&mut file, arch).map_err(|e| e.to_string())?;
    let found = found.ok_or("it is no file of portable code")?;
    found.verify(&mut file).map_err(|e| e.to_string())?;
    let meta = found.read(&mut file).map_err(|e| e.to_string())?;
    let text = text(&found, &bytes).ok_or("its code is cut off")?;
    let image = LinkedImage::from_parts(meta, text.to_vec()).map_err(|e| e.to_string())?;
    let bytes = write_executable(runtimes::runtime(arch), &image).map_err(|e| e.to_string())?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    hold(&name, found.header.module, arch, &bytes)
}

fn text<'a>(image: &FileImage, file: &'a [u8]) -> Option<&'a [u8]> {
    let (start, _) = image.text?;
    let (start, len) = (
        usize::try_from(start).ok()?,
        usize::try_from(image.header.text_len).ok()?,
    );
    file.get(start..start.checked_add(len)?)
}
