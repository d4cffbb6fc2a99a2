//! A small disk that can be filled and emptied.

use crate::program::scratch;
use rustix::fs::statvfs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A file system in memory of a given size; goes away when dropped.
#[derive(Debug)]
pub struct Disk {
    at: TempDir,
}

impl Disk {
    /// A new one. `Err` says why it can't be had: mounting needs privileges.
    pub fn new(megabytes: u64) -> Result<Disk, String> {
        let disk = Disk { at: scratch() };
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "dunlin-test"])
            .arg(disk.at.path())
            .output()
            .map_err(|e| format!("cannot run mount: {e}"))?;
        match mounted.status.success() {
            true => Ok(disk),
            false => Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned()),
        }
    }

    /// Its root.
    pub fn path(&self) -> &Path {
        self.at.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Fills it, but for about so many bytes.
    pub fn fill(&self, leave: u64) {
        let stat = statvfs(self.path()).expect("it is mounted");
        let file = File::create(self.ballast()).expect("it takes a name");
        let len = (stat.f_bavail * stat.f_frsize).saturating_sub(leave);
        // Whoever writes meanwhile may be quicker.
        let none = rustix::fs::FallocateFlags::empty();
        if len > 0 && rustix::fs::fallocate(&file, none, 0, len).is_err() {
            let _ = rustix::fs::fallocate(&file, none, 0, len / 2);
        }
    }

    /// Makes room again.
    pub fn free(&self) {
        let _ = std::fs::remove_file(self.ballast());
    }

    /// Is it filled?
    pub fn is_full(&self) -> bool {
        self.ballast().exists()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.at.path()).output();
    }
}
