//! Writing files so that their names always mean complete ones.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Writes a file so that its name always means a complete one, and so that a program that runs from it is not
/// disturbed.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let path = &follow(path)?;
    let mut temporary = path.file_name().unwrap_or_default().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        drop(file);
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// The file that a path means for a writer: where its symbolic links lead, whether that is there or not. (A rename
/// would replace the link.)
pub(crate) fn follow(path: &Path) -> io::Result<PathBuf> {
    /// As many as the kernel follows.
    const MOST: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST {
        match fs::read_link(&path) {
            Ok(target) => path = path.with_file_name("").join(target),
            // It is no link, or nothing at all.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links lead to one another"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_replaced_whole_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.x86_64");
        fs::write(&path, "old").unwrap();
        write_atomically(&path, b"new", 0o755).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o700, 0o700);
        assert!(write_atomically(dir.path(), b"x", 0o755).is_err());
        assert!(write_atomically(&dir.path().join("none/p"), b"x", 0o755).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_are_followed_and_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (link, there) = (dir.path().join("link"), dir.path().join("there"));
        std::os::unix::fs::symlink("there", &link).unwrap();
        for text in ["dangling before", "not any more"] {
            write_atomically(&link, text.as_bytes(), 0o644).unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read_to_string(&there).unwrap(), text);
        }
        let around = dir.path().join("loop");
        std::os::unix::fs::symlink("loop", &around).unwrap();
        assert!(
            write_atomically(&around, b"x", 0o644)
                .unwrap_err()
                .to_string()
                .contains("links")
        );
        std::os::unix::fs::symlink("none/x", dir.path().join("lost")).unwrap();
        assert!(write_atomically(&dir.path().join("lost"), b"x", 0o644).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }
}
