//! What `dunlin` and a *standby* say to each other: an executable's process that is started before the program that it
//! is to go on with has come.
//!
//! It is started with the option `--standby`. Orders come through its standard input, a line of JSON each; answers go
//! through the pipe of `DUNLIN_STARTED`, a line each, and after [`Order::Go`] the byte that says that the program runs.
//!
//! ```text
//! dunlin                          standby
//!   | --- Round(path) ------------> |   reads and checks the pages; keeps them in its memory
//!   | <-------------------- Held -- |
//!   | --- State(path) ------------> |   all that --check does, and all that going on needs, but for files
//!   | <------------------- Ready -- |   or No, and its process ends
//!   | --- Go ---------------------> |   files; makes `started`
//!   | <----------------------- r -- |   the program runs
//! ```
//!
//! If standard input ends before `Go`, the process ends, and has changed nothing.

use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::path::PathBuf;

/// Bytes of a line, at most.
const MOST_LINE: usize = 64 << 10;

/// What a standby is told to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Take the pages of this snapshot: the program runs on elsewhere, and later ones replace them.
    Round(PathBuf),
    /// This snapshot is the program's state.
    State(PathBuf),
    /// Go on from it.
    Go,
}

/// What a standby answers to each order but the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It has the pages.
    Held,
    /// It can go on, and waits to be told.
    Ready,
    /// It can't use what it was given, and ends. Others may: `--check` tells all that is wrong.
    No(String),
}

/// A message as a line.
pub fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads a line and what it says; `None` at the end of the stream. Nothing behind the line is read.
pub fn next<M: for<'a> Deserialize<'a>>(stream: &mut impl Read) -> io::Result<Option<M>> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        match stream.read(&mut byte) {
            // A line that was cut off is none.
            Ok(0) => return Ok(None),
            Ok(_) if byte == *b"\n" => return Ok(Some(serde_json::from_slice(&line)?)),
            Ok(_) if line.len() == MOST_LINE => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
            }
            Ok(_) => line.push(byte[0]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_as_they_were_sent_and_nothing_behind_them_is_read() {
        let orders = [Order::Round("/a\n\"b".into()), Order::State("/a b".into()), Order::Go];
        let mut bytes = Vec::new();
        orders.iter().for_each(|o| bytes.extend(line(o).unwrap()));
        bytes.extend(b"r\"Go");
        let mut stream = &bytes[..];
        for order in orders {
            assert_eq!(next(&mut stream).unwrap(), Some(order));
        }
        assert_eq!(stream, b"r\"Go");
        stream = &stream[1..];
        assert_eq!(next::<Order>(&mut stream).unwrap(), None, "it was cut off");
        assert!(next::<Order>(&mut &b"\"Stay\"\n"[..]).is_err());
        assert!(next::<Order>(&mut io::repeat(b' ')).is_err());
    }
}
