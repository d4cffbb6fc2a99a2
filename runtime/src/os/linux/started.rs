//! Telling the process that started this one that the program is about to run.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

/// Names a descriptor and a file, `FD:PATH`. As soon as the program is whole, and before the first of its instructions
/// runs, the file is made, and a byte written into the descriptor, a pipe. Whoever started this process knows then that
/// the program goes on; whoever comes later sees the file. As long as there is none, not one instruction has run, and
/// if the process ends, none will.
const VARIABLE: &str = "DUNLIN_STARTED";

/// Says so, if somebody wants to know. After an error nothing may run.
pub(crate) fn tell() -> io::Result<()> {
    let Some(value) = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()) else {
        return Ok(());
    };
    let parts = value.to_str().and_then(|v| v.split_once(':'));
    let parts = parts.and_then(|(fd, path)| Some((fd.parse::<u32>().ok()?, path)));
    let (fd, path) =
        parts.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{VARIABLE} is not FD:PATH")))?;
    let mut pipe = OpenOptions::new().write(true).open(format!("/proc/self/fd/{fd}"))?;
    File::create_new(path)?;
    // If nobody reads it any more, the file says so.
    let _ = pipe.write_all(b"r");
    Ok(())
}
