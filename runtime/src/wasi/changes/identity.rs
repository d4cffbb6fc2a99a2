//! When is a file still the same? By size and contents; and the hashes once taken, so that an unchanged file is not
//! read again.

use crate::wasi::calls::path::proc_path;
use crate::wasi::host::Stat;
use dunlin_migrate::state::files::{ContentHash, Identity};
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

/// Files up to this size are hashed whole, in bytes. Of larger ones a sample counts, with size and modification time.
pub(in crate::wasi) const WHOLE: u64 = 64 << 20;
/// Blocks of a sample.
const BLOCKS: u64 = 1024;
/// Size of a block of a sample, in bytes: a sample is as large as the largest file that is hashed whole.
const BLOCK: u64 = WHOLE / BLOCKS;
/// Bytes read at once.
const CHUNK: usize = 256 << 10;
/// Hashes remembered, at most.
const REMEMBERED: usize = 1 << 20;

/// Hashes of files, by what the host said of them at the time.
#[derive(Debug, Default)]
pub(in crate::wasi) struct Hashes(Mutex<HashMap<(u64, u64), Known>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    version: [u64; 3],
    whole: Option<ContentHash>,
    sample: Option<ContentHash>,
}

impl Hashes {
    /// The hash of a file's whole contents. `file` must be open for reading.
    pub(in crate::wasi) fn whole(&self, file: &File, stat: &Stat) -> io::Result<ContentHash> {
        self.remembered(file, stat, |k| &mut k.whole, hash_whole)
    }

    /// The hash that identifies a file: of all of it if it isn't large, else of a sample.
    fn identifying(&self, file: &File, stat: &Stat) -> io::Result<ContentHash> {
        match stat.size > WHOLE {
            false => self.whole(file, stat),
            true => self.remembered(file, stat, |k| &mut k.sample, hash_sample),
        }
    }

    fn remembered(
        &self,
        file: &File,
        stat: &Stat,
        which: impl Fn(&mut Known) -> &mut Option<ContentHash>,
        hash: impl Fn(&File, u64) -> io::Result<ContentHash>,
    ) -> io::Result<ContentHash> {
        let lock = || self.0.lock().unwrap_or_else(|e| e.into_inner());
        let place = (stat.dev, stat.ino);
        let version = [stat.size, stat.modified, stat.changed];
        if let Some(known) = lock().get_mut(&place).filter(|k| k.version == version)
            && let Some(hash) = *which(known)
        {
            return Ok(hash);
        }
        let racy = is_racy(stat);
        let hash = hash(file, stat.size)?;
        let mut all = lock();
        if !racy {
            if all.len() >= REMEMBERED {
                all.clear();
            }
            let fresh = Known {
                version,
                whole: None,
                sample: None,
            };
            let known = all.entry(place).and_modify(|k| {
                if k.version != version {
                    *k = fresh;
                }
            });
            *which(known.or_insert(fresh)) = Some(hash);
        }
        Ok(hash)
    }

    /// The identity of an open file. A file that can't be read has no hash.
    pub(in crate::wasi) fn identity(&self, fd: u32, file: BorrowedFd<'_>, stat: &Stat) -> Identity {
        let hash = reopen(file).and_then(|file| self.identifying(&file, stat)).ok();
        Identity {
            fd,
            size: stat.size,
            hash,
            modified: stat.modified,
            changed: stat.changed,
            place: (stat.dev, stat.ino),
        }
    }

    /// In what a file differs from what it was; `None` if it is the same.
    pub(in crate::wasi) fn difference(&self, was: &Identity, file: BorrowedFd<'_>, now: &Stat) -> Option<String> {
        if now.size != was.size {
            return Some(format!("it has {} bytes, and had {}", now.size, was.size));
        }
        // The very same file, untouched. (`changed` can't be set by anyone.)
        if (now.dev, now.ino) == was.place && (now.modified, now.changed) == (was.modified, was.changed) {
            return None;
        }
        if let Some(hash) = was.hash {
            match reopen(file).and_then(|file| self.identifying(&file, now)) {
                Err(e) => return Some(format!("it can't be read to compare it: {e}")),
                Ok(found) if found != hash => return Some("its contents are others".into()),
                Ok(_) if now.size <= WHOLE => return None,
                Ok(_) => {}
            }
        }
        match same_time(was.modified, now.modified) {
            true => None,
            false => {
                Some("it was modified at another time, and is too large or can't be read to compare all of it".into())
            }
        }
    }
}

/// Copying tools may keep whole seconds only.
fn same_time(a: u64, b: u64) -> bool {
    const SECOND: u64 = 1_000_000_000;
    a == b || ((a.is_multiple_of(SECOND) || b.is_multiple_of(SECOND)) && a / SECOND == b / SECOND)
}

/// Was the last change so short a time ago that the next one may get the same time, and not be noticed by it? File
/// systems keep times no finer than a tick of the kernel (10 ms at most), or whole seconds (two on FAT).
pub(in crate::wasi) fn is_racy(stat: &Stat) -> bool {
    let last = stat.changed.max(stat.modified);
    let margin = if last.is_multiple_of(1_000_000_000) {
        2_500_000_000
    } else {
        25_000_000
    };
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let now = u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000) + now.tv_nsec.unsigned_abs() as u64;
    last.saturating_add(margin) >= now
}

/// An open file once more, for reading, whatever it was opened for.
pub(in crate::wasi) fn reopen(file: BorrowedFd<'_>) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(proc_path(file), flags, Mode::empty())?.into();
    keep_access_time(&file);
    Ok(file)
}

/// Makes reading a file leave no trace in its access time, which the program may look at. Only the file's owner may ask
/// for that.
pub(in crate::wasi) fn keep_access_time(file: &File) {
    if let Ok(flags) = rustix::fs::fcntl_getfl(file) {
        let _ = rustix::fs::fcntl_setfl(file, flags | OFlags::NOATIME);
    }
}

fn hash_whole(file: &File, size: u64) -> io::Result<ContentHash> {
    let mut hash = Sha256::new();
    hash_range(&mut hash, file, 0, size)?;
    Ok(ContentHash(hash.finalize().into()))
}

fn hash_sample(file: &File, size: u64) -> io::Result<ContentHash> {
    let mut hash = Sha256::new();
    let last = size.saturating_sub(BLOCK);
    for n in 0..BLOCKS {
        let at = u128::from(last) * u128::from(n) / u128::from(BLOCKS - 1);
        hash_range(&mut hash, file, at as u64, BLOCK)?;
    }
    Ok(ContentHash(hash.finalize().into()))
}

pub(in crate::wasi) fn hash_range(hash: &mut Sha256, file: &File, mut at: u64, mut len: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK.min(usize::try_from(len).unwrap_or(CHUNK)).max(1)];
    while len > 0 {
        let want = buffer.len().min(usize::try_from(len).unwrap_or(CHUNK));
        match file.read_at(&mut buffer[..want], at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                hash.update(&buffer[..n]);
                at += n as u64;
                len -= n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::time::{Duration, SystemTime};

    fn stat(file: &File) -> Stat {
        Stat::of_fd(file.as_fd()).unwrap()
    }

    #[test]
    fn a_file_is_known_by_its_contents() {
        let hashes = Hashes::default();
        let mut a = tempfile::tempfile().unwrap();
        a.write_all(b"contents").unwrap();
        let was = hashes.identity(7, a.as_fd(), &stat(&a));
        assert_eq!((was.fd, was.size, was.hash), (7, 8, Some(ContentHash::of(b"contents"))));
        assert_eq!(hashes.difference(&was, a.as_fd(), &stat(&a)), None);
        // A copy, later.
        let mut b = tempfile::tempfile().unwrap();
        b.write_all(b"contents").unwrap();
        b.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(9)).unwrap();
        assert_eq!(hashes.difference(&was, b.as_fd(), &stat(&b)), None);
        b.write_all_at(b"C", 0).unwrap();
        let said = hashes.difference(&was, b.as_fd(), &stat(&b)).unwrap();
        assert!(said.contains("contents"), "{said}");
        b.write_all(b"s").unwrap();
        let said = hashes.difference(&was, b.as_fd(), &stat(&b)).unwrap();
        assert!(said.contains("9 bytes"), "{said}");
    }

    #[test]
    fn a_change_of_equal_size_within_a_tick_is_seen() {
        let hashes = Hashes::default();
        let f = tempfile::tempfile().unwrap();
        for n in 0..200u8 {
            f.write_all_at(&[n], 0).unwrap();
            assert_eq!(hashes.whole(&f, &stat(&f)).unwrap(), ContentHash::of(&[n]));
        }
    }

    #[test]
    fn an_unchanged_file_is_not_read_again() {
        let hashes = Hashes::default();
        let f = tempfile::tempfile().unwrap();
        f.write_all_at(b"x", 0).unwrap();
        let place = (stat(&f).dev, stat(&f).ino);
        hashes.whole(&f, &stat(&f)).unwrap();
        std::thread::sleep(Duration::from_millis(2600));
        assert!(!is_racy(&stat(&f)));
        hashes.whole(&f, &stat(&f)).unwrap();
        // Had it been read, this would be replaced.
        hashes.0.lock().unwrap().get_mut(&place).unwrap().whole = Some(ContentHash([7; 32]));
        assert_eq!(hashes.whole(&f, &stat(&f)).unwrap(), ContentHash([7; 32]));
        f.write_all_at(b"y", 0).unwrap();
        assert_eq!(hashes.whole(&f, &stat(&f)).unwrap(), ContentHash::of(b"y"));
    }

    #[test]
    fn a_large_file_is_known_by_a_sample_and_its_time() {
        let hashes = Hashes::default();
        let large = |tail: &[u8]| {
            let f = tempfile::tempfile().unwrap();
            f.set_len(WHOLE + 1000).unwrap();
            f.write_all_at(tail, WHOLE + 1000 - tail.len() as u64).unwrap();
            f.set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(5_000_000_007))
                .unwrap();
            f
        };
        let (a, b, c) = (large(b"end"), large(b"end"), large(b"END"));
        let was = hashes.identity(3, a.as_fd(), &stat(&a));
        assert_eq!(hashes.difference(&was, b.as_fd(), &stat(&b)), None);
        assert!(hashes.difference(&was, c.as_fd(), &stat(&c)).is_some());
        b.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(5)).unwrap();
        assert_eq!(
            hashes.difference(&was, b.as_fd(), &stat(&b)),
            None,
            "whole seconds were kept"
        );
        b.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(6)).unwrap();
        let said = hashes.difference(&was, b.as_fd(), &stat(&b)).unwrap();
        assert!(said.contains("time"), "{said}");
    }
}
