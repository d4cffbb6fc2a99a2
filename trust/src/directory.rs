//! The private directory in which a device keeps its key and those of others, and how files change there.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a file there, at most.
const MOST_BYTES: u64 = 1 << 20;

/// The directory.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

/// Held while files are read and changed; others wait.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "it is held")] File);

impl Directory {
    /// The directory `trust` in one that belongs to the user's state. It is made if need be; one that others can use is
    /// refused.
    pub fn open(state: &Path) -> io::Result<Directory> {
        let path = state.join("trust");
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let found = fs::symlink_metadata(&path)?;
        if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o077 != 0 {
            let why = format!(
                "{} must be a directory of your own that nobody else can use",
                path.display()
            );
            return Err(io::Error::new(ErrorKind::PermissionDenied, why));
        }
        Ok(Directory(path))
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Waits until nobody else changes files here.
    pub(crate) fn lock(&self) -> io::Result<Lock> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600);
        let file = file.open(self.file("lock"))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Lock(file))
    }

    /// Reads a file; `None` if there is none. One that others can read or write is refused: what it says may be known
    /// to them, or by them.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.file(name);
        let file = match File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let found = file.metadata()?;
        if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o077 != 0 {
            let why = format!(
                "{} can be used by others (mode {:o}): what it says may be theirs. If it was never so on this device, \
                 `chmod 600` it; else remove it, and pair again",
                path.display(),
                found.mode() & 0o7777
            );
            return Err(io::Error::new(ErrorKind::PermissionDenied, why));
        }
        let mut bytes = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Writes a file that nobody has yet; its name is for a moment only.
    pub(crate) fn write_new(&self, name: &str, bytes: &[u8]) -> io::Result<(PathBuf, File)> {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let path = self.file(&format!(".{name}.{:016x}", u64::from_le_bytes(random)));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.inspect_err(|_| drop(fs::remove_file(&path)))?;
        Ok((path, file))
    }

    /// Replaces a file as a whole, durably. Returns it, open.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<File> {
        let (new, file) = self.write_new(name, bytes)?;
        fs::rename(&new, self.file(name)).inspect_err(|_| drop(fs::remove_file(&new)))?;
        File::open(&self.0)?.sync_all()?;
        Ok(file)
    }

    /// Makes a file unless there is one already, durably.
    pub(crate) fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (new, _) = self.write_new(name, bytes)?;
        // Two at once: whoever links first makes it.
        let linked = fs::hard_link(&new, self.file(name));
        let _ = fs::remove_file(&new);
        match linked {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e),
            _ => File::open(&self.0)?.sync_all(),
        }
    }

    /// Removes a file that may not be there; was it?
    pub(crate) fn remove(&self, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.file(name)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }
}
