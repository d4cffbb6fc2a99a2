//! Whose a file is: an executable that was only found, not named, is run only if no one but the user (and root) can
//! have made it what it is. A file that can be opened is opened without waiting, if it is one.
//!
//! An executable that lies beside a snapshot in a shared directory may be anyone's, and says itself which module it was
//! built from. It is run unasked if it, and every directory above it, belongs to this user or to root and can't be
//! written to by others. Of the file that is meant in the end, that is: symbolic links are followed first, and it is
//! that file which is run. A directory with the sticky bit, such as /tmp, doesn't count as writable: what belongs to
//! this user or to root there, nobody else can replace. A group may write if it is root's, or the user's own (it has
//! the number of the user, as where each user has a group), and no access control list says otherwise.

use rustix::fs::{Mode, OFlags};
use std::fs::{self, File, FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The file to run where `path` leads, if nobody else can have put it there; otherwise why not, as in "it ...".
pub(crate) fn own(path: &Path) -> Result<PathBuf, String> {
    let found = path
        .canonicalize()
        .map_err(|e| format!("can't be found out about: {e}"))?;
    for part in found.ancestors() {
        let metadata = fs::symlink_metadata(part).map_err(|e| format!("can't be found out about: {e}"))?;
        // Nothing but the file itself and directories is left, unless someone is changing it right now.
        let whose = if part == found {
            String::new()
        } else {
            format!("its directory {} ", crate::show::path(part))
        };
        if let Some(why) = foreign(part, &metadata) {
            return Err(if whose.is_empty() {
                why
            } else {
                format!("lies where others can put files: {whose}{why}")
            });
        }
    }
    Ok(found)
}

/// Why a file or directory may be what another user made of it.
fn foreign(path: &Path, metadata: &Metadata) -> Option<String> {
    let user = rustix::process::geteuid().as_raw();
    let (owner, group, mode) = (metadata.uid(), metadata.gid(), metadata.mode());
    if owner != user && owner != 0 {
        return Some(format!("belongs to another user (number {owner})"));
    }
    if metadata.is_dir() && mode & 0o1000 != 0 {
        return None;
    }
    let private = group == 0 || (group == user && rustix::process::getegid().as_raw() == group);
    let listed = || rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 0][..]).is_ok_and(|len| len > 0);
    if mode & 0o002 != 0 || (mode & 0o020 != 0 && (!private || listed())) {
        return Some(format!("can be written to by others (mode {:o})", mode & 0o7777));
    }
    None
}

/// Opens a file to read it. Anything but a regular file is refused: a named pipe would be waited for, perhaps for ever.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    regular(&fs::metadata(path)?)?;
    // It may have been replaced this moment.
    let file = File::from(rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    regular(&file.metadata()?)?;
    Ok(file)
}

/// As [`open`], to let others open it by its name.
pub(crate) fn check_regular(path: &Path) -> io::Result<()> {
    open(path).map(drop)
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    match what(metadata.file_type()) {
        None => Ok(()),
        Some(what) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("it is {what}, not a file"),
        )),
    }
}

/// What it is, if it is no regular file.
fn what(kind: FileType) -> Option<&'static str> {
    match kind {
        _ if kind.is_file() => None,
        _ if kind.is_dir() => Some("a directory"),
        _ if kind.is_fifo() => Some("a named pipe"),
        _ if kind.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_can_write_to_is_not_ones_own() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, file) = (dir.path().join("d"), dir.path().join("d/p"));
        fs::create_dir(&inner).unwrap();
        fs::write(&file, "").unwrap();
        mode(&file, 0o755);
        assert_eq!(own(&file).unwrap(), file.canonicalize().unwrap());
        let link = dir.path().join("link");
        symlink(&file, &link).unwrap();
        assert_eq!(own(&link).unwrap(), file.canonicalize().unwrap());
        mode(&file, 0o757);
        assert!(
            own(&link).unwrap_err().contains("can be written to by others"),
            "{:?}",
            own(&link)
        );
        mode(&file, 0o755);
        mode(&inner, 0o777);
        assert!(own(&file).unwrap_err().contains("its directory"), "{:?}", own(&file));
        mode(&inner, 0o1777);
        assert!(own(&file).is_ok(), "sticky, as /tmp");
        assert!(own(&dir.path().join("none")).is_err());
    }

    #[test]
    fn pipes_and_directories_are_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert_eq!(open(&pipe).unwrap_err().to_string(), "it is a named pipe, not a file");
        assert_eq!(
            open(dir.path()).unwrap_err().to_string(),
            "it is a directory, not a file"
        );
        assert_eq!(
            open(Path::new("/dev/null")).unwrap_err().to_string(),
            "it is a device, not a file"
        );
        assert_eq!(
            open(&dir.path().join("none")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
