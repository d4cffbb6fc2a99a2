//! Telling the process that started this one that the program is about to run.

use std::fs::OpenOptions;
use std::io::{self, Write};

/// Names a descriptor, a pipe, into which a byte is written as soon as the program is whole and before the first of its
/// instructions runs. Whoever started this process knows then that it has been resumed; the end of the pipe without a
/// byte means that it has not and will not.
const VARIABLE: &str = "DUNLIN_STARTED_FD";

/// Says so, if somebody wants to know. After an error nothing may run.
pub(crate) fn tell() -> io::Result<()> {
    let Some(number) = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()) else {
        return Ok(());
    };
    let number = number.to_str().and_then(|n| n.parse::<u32>().ok());
    let number =
        number.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{VARIABLE} is no number")))?;
    let mut pipe = OpenOptions::new().write(true).open(format!("/proc/self/fd/{number}"))?;
    pipe.write_all(b"r")
}
