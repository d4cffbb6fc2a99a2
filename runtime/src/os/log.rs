//! `DUNLIN_LOG_LIMIT`: the file that a received program's output goes to doesn't grow for ever. The program writes to
//! it directly, since nobody who could read a pipe lives as long as it does; so its own process keeps the file short.
//!
//! `FILE` gets at most half of the limit. Then it becomes `FILE.1`, in place of the one before, and a new `FILE` is
//! begun: together they have the newest output, and never more than the limit. Whoever reads meanwhile has the old file
//! open and misses nothing (`dunlin logs` follows, as `tail -F` does). Lines are not torn but where one write is longer
//! than half of the limit.

use super::linux::files::become_output;
use std::fs::{self, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

/// Bytes that the file which is standard output may have, together with the one before it.
const VARIABLE: &str = "DUNLIN_LOG_LIMIT";

static LOG: OnceLock<Option<Mutex<Log>>> = OnceLock::new();

/// The log that standard output goes to.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// Bytes that one file may have.
    most: u64,
    /// Bytes in the file, at least those that this process has written.
    size: u64,
    /// Standard error goes there, too.
    errors: bool,
}

fn same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// The program is about to write so many bytes to standard output or error. Returns how many of them it may write at
/// once.
pub(crate) fn make_room(bytes: usize) -> usize {
    let Some(log) = LOG.get_or_init(|| Log::of_output().map(Mutex::new)) else {
        return bytes;
    };
    let mut log = log.lock().unwrap_or_else(|e| e.into_inner());
    let bytes = bytes.min(usize::try_from(log.most).unwrap_or(usize::MAX));
    if log.size > 0 && log.size + bytes as u64 > log.most {
        log.size = match log.begin_anew() {
            Ok(()) => 0,
            // A full disk, or the directory has gone: it is tried again after another quarter.
            Err(_) => log.most / 2,
        };
    }
    log.size += bytes as u64;
    bytes
}

impl Log {
    /// Standard output as it is now; `None` if it has no limit, or isn't a file.
    fn of_output() -> Option<Log> {
        let limit: u64 = std::env::var(VARIABLE).ok()?.parse().ok()?;
        let output = |fd: i32| fs::metadata(format!("/proc/self/fd/{fd}"));
        let path = fs::read_link("/proc/self/fd/1").ok()?;
        let (file, out) = (fs::metadata(&path).ok()?, output(1).ok()?);
        (file.is_file() && same(&file, &out)).then(|| Log {
            path,
            most: (limit / 2).max(1),
            size: file.len(),
            errors: output(2).is_ok_and(|errors| same(&file, &errors)),
        })
    }

    fn begin_anew(&self) -> io::Result<()> {
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        let mut next = self.path.clone().into_os_string();
        next.push(".new");
        // Under another name first: if there is no room for a file, all stays as it is.
        let new = OpenOptions::new().create(true).append(true).mode(0o600).open(&next)?;
        fs::rename(&self.path, older)?;
        fs::rename(&next, &self.path)?;
        become_output(&new, self.errors)
    }
}
