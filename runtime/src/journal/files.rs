//! The files of a journal's directory, and copies between files.

use super::Root;
use super::record::{FileId, Name};
use rustix::fs::{Mode, OFlags, openat};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// Bytes copied at once where the kernel can't.
const BUFFER: usize = 256 << 10;

/// The name of a journal.
pub(super) fn journal_name(number: u64) -> String {
    format!("{number:010}.undo")
}

/// The name of a journal's table ([`super::seen`]).
pub(super) fn seen_name(number: u64) -> String {
    format!("{number:010}.seen")
}

/// The name of the directory of the files that a journal keeps.
pub(super) fn keep_name(number: u64) -> String {
    format!("{number:010}.keep")
}

/// The number that a name with this ending has.
pub(super) fn number_of(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    let plain = digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// Opens a file of the directory; `create` makes it, empty, if it isn't there.
pub(super) fn open(dir: impl AsFd, name: &str, create: bool) -> io::Result<File> {
    let mut flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    flags.set(OFlags::CREATE, create);
    Ok(openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Opens a directory in it.
pub(super) fn open_dir(dir: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat(dir, name, flags, Mode::empty())?.into())
}

/// The names in a directory, without `.` and `..`.
pub(super) fn names(dir: impl AsFd) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Removes a directory of ours with the files in it, if it is there.
pub(super) fn remove_keep(dir: impl AsFd, name: &str) -> io::Result<()> {
    use rustix::fs::{AtFlags, unlinkat};
    let keep = match open_dir(&dir, name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        keep => keep?,
    };
    for name in names(&keep)? {
        unlinkat(&keep, name, AtFlags::empty())?;
    }
    Ok(unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Removes a file, if it is there.
pub(super) fn remove(dir: impl AsFd, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Copies bytes from one place to another, sharing them where the file system can. Where `from` ends, so does the copy.
pub(super) fn copy_range(from: &File, at: u64, to: &File, mut to_at: u64, len: u64) -> io::Result<u64> {
    let (mut from_at, mut done) = (at, 0);
    let mut by_kernel = true;
    let mut buffer = Vec::new();
    while done < len {
        if by_kernel {
            let most = usize::try_from(len - done).unwrap_or(usize::MAX).min(1 << 30);
            match rustix::fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), most) {
                Ok(0) => return Ok(done),
                Ok(n) => done += n as u64,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::NOSPC) => return Err(rustix::io::Errno::NOSPC.into()),
                // Another file system, or one that can't.
                Err(_) => by_kernel = false,
            }
            continue;
        }
        buffer.resize(BUFFER, 0);
        let part = &mut buffer[..usize::try_from(len - done).unwrap_or(BUFFER).min(BUFFER)];
        let n = read_some(from, part, from_at)?;
        if n == 0 {
            return Ok(done);
        }
        to.write_all_at(&part[..n], to_at)?;
        (from_at, to_at, done) = (from_at + n as u64, to_at + n as u64, done + n as u64);
    }
    Ok(done)
}

/// Reads as much as there is, up to the buffer's length.
pub(super) fn read_some(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], at + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Directory entries that are looked at, at most, to find another name of a file.
const MOST_ENTRIES: usize = 1 << 20;

/// A name of a file, another than this one, and none in the directory `own` of the journals.
pub(super) fn find_name(roots: &[Root], own: &File, not: Option<&Name>, id: FileId) -> Option<Name> {
    let own = rustix::fs::fstat(own).ok().map(|stat| FileId::of(&stat));
    let mut looked = 0;
    for (grant, root) in (0u32..).zip(roots) {
        let Some(root) = &root.dir else { continue };
        let mut pending = vec![Vec::new()];
        while let Some(path) = pending.pop() {
            let text: &[u8] = if path.is_empty() { b"." } else { &path };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let Ok(dir) = openat(root, text, flags, Mode::empty()) else {
                continue;
            };
            for entry in names(&dir).unwrap_or_default() {
                looked += 1;
                let Ok(stat) = rustix::fs::statat(&dir, &entry, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) else {
                    continue;
                };
                let below = match path.is_empty() {
                    true => entry.to_bytes().to_vec(),
                    false => [&path[..], b"/", entry.to_bytes()].concat(),
                };
                let name = Name { grant, path: below };
                if FileId::of(&stat) == id && Some(&name) != not {
                    return Some(name);
                }
                if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() && Some(FileId::of(&stat)) != own {
                    pending.push(name.path);
                }
            }
            if looked > MOST_ENTRIES {
                return None;
            }
        }
    }
    None
}

/// The same open file once more, for reading.
pub(super) fn for_reading(file: impl AsFd) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}
