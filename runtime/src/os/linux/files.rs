//! Dunlin's own files, where the standard library doesn't do: opened safely, looked at for holes; what errors mean.

use rustix::fs::{Mode, OFlags, SeekFrom, seek};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a file for reading. Anything else, such as a pipe that someone has put there, is an error, and isn't waited
/// for.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

/// Opens the file that is locked for something, which is made if it isn't there: its owner's alone, no symbolic link.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// Makes a file be standard output, and with `errors` standard error, too.
pub(crate) fn become_output(file: &File, errors: bool) -> io::Result<()> {
    rustix::stdio::dup2_stdout(file)?;
    if errors {
        rustix::stdio::dup2_stderr(file)?;
    }
    Ok(())
}

/// Tells whether these bytes of a file take no room on the disk: they are zeros then.
pub(crate) fn is_hole(file: &File, range: Range<u64>) -> bool {
    match seek(file, SeekFrom::Data(range.start)) {
        Ok(data) => data >= range.end,
        // Nothing behind it either.
        Err(e) => e == rustix::io::Errno::NXIO,
    }
}

/// Tells whether an error says that this process, or the machine, has as many descriptors as it may have.
pub(crate) fn no_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Tells whether an error may pass by itself: no descriptors, no memory, no room.
pub(crate) fn may_pass(error: &io::Error) -> bool {
    let transient = [libc::ENOMEM, libc::ENOBUFS, libc::ENOSPC, libc::EDQUOT];
    no_descriptors(error) || error.raw_os_error().is_some_and(|code| transient.contains(&code))
}
