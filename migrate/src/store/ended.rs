//! The marker of a directory whose program has ended: whoever was killed while it removed the snapshots has left it.

use super::UNDO_MAGIC;
use crate::snapshot::header_only;
use dunlin_format::module::ModuleHash;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::Path;

/// Name of the marker that is there while what a program that has ended leaves is removed. It holds the module's hash;
/// where there was no room for that, it is one of the files that are to be removed, renamed.
pub(super) const MARKER: &str = ".ended";

/// Why nobody may go on from the snapshots of a directory of which [`has_ended`] holds, as in "cannot resume from DIR:
/// ..."
pub const ENDED: &str = "the program in it has ended, and only the removal of its snapshots was interrupted; start it \
                         anew (with --checkpoint-to as before, it removes what is left)";

/// Length of a module's hash in bytes.
const HASH: usize = size_of::<ModuleHash>();

/// Whose end a marker notes.
pub(super) enum Ended {
    /// That of a program of this module.
    Of(ModuleHash),
    /// A program's of which only an undo journal was left, which doesn't name the module.
    Unnamed,
    /// Nobody's: the marker is not whole, so nothing has been removed yet.
    Nobody,
}

impl Ended {
    /// Reads a directory's marker; `None` if it has none.
    pub(super) fn read(directory: &Path) -> io::Result<Option<Ended>> {
        let path = directory.join(MARKER);
        // A named pipe would be waited for, perhaps for ever.
        if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
            let why = format!("{MARKER} in it is no regular file");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mut file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut begins = Vec::new();
        (&file).take(HASH as u64 + 1).read_to_end(&mut begins)?;
        if begins.starts_with(&UNDO_MAGIC) {
            return Ok(Some(Ended::Unnamed));
        }
        if let Ok(module) = <[u8; HASH]>::try_from(&begins[..]) {
            return Ok(Some(Ended::Of(ModuleHash(module))));
        }
        file.rewind()?;
        let header = header_only(&mut file);
        Ok(Some(header.map_or(Ended::Nobody, |header| Ended::Of(header.module))))
    }
}

/// Has the program of this module (or any, if none is given) ended whose snapshots lie in a directory? They are then
/// about to be removed by [`super::Store::clear`], or that was interrupted: nobody may go on from them.
pub fn has_ended(directory: &Path, module: Option<ModuleHash>) -> io::Result<bool> {
    Ok(match Ended::read(directory)? {
        None | Some(Ended::Nobody) => false,
        Some(Ended::Of(other)) => module.is_none_or(|module| module == other),
        // In doubt, it stands still.
        Some(Ended::Unnamed) => true,
    })
}
