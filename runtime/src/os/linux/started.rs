//! Telling the process that started this one what becomes of it: that the program is about to run; before that, if it
//! waits for its state, what it answers to orders.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

/// Names a descriptor and a file, `FD:PATH`. As soon as the program is whole, and before the first of its instructions
/// runs, the file is made, and a byte written into the descriptor, a pipe. Whoever started this process knows then that
/// the program goes on; whoever comes later sees the file. As long as there is none, not one instruction has run, and
/// if the process ends, none will.
const VARIABLE: &str = "DUNLIN_STARTED";

/// The pipe and the file, if somebody wants to know.
fn named() -> io::Result<Option<(File, PathBuf)>> {
    let Some(value) = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    let parts = value.to_str().and_then(|v| v.split_once(':'));
    let parts = parts.and_then(|(fd, path)| Some((fd.parse::<u32>().ok()?, path)));
    let (fd, path) =
        parts.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{VARIABLE} is not FD:PATH")))?;
    let pipe = OpenOptions::new().write(true).open(format!("/proc/self/fd/{fd}"))?;
    Ok(Some((pipe, path.into())))
}

/// Does somebody wait for the program's start?
pub(crate) fn is_awaited() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|v| !v.is_empty())
}

/// Says that the program runs, if somebody wants to know. After an error nothing may run.
pub(crate) fn tell() -> io::Result<()> {
    let Some((mut pipe, path)) = named()? else {
        return Ok(());
    };
    File::create_new(path)?;
    // If nobody reads it any more, the file says so.
    let _ = pipe.write_all(b"r");
    Ok(())
}

/// The pipe alone, for answers to orders.
pub(crate) fn answers() -> io::Result<File> {
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, format!("{VARIABLE} is not set"));
    named()?.map(|(pipe, _)| pipe).ok_or_else(missing)
}

/// Takes standard input for orders: the program will find nothing there.
pub(crate) fn orders() -> io::Result<File> {
    let orders = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(orders.into())
}
