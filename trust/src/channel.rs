//! A channel between two devices: bytes in, bytes out, encrypted in records.
//!
//! A record is a length (u16, little-endian) and a Noise message of that many bytes. Its number is in its nonce, so
//! that none can be left out, repeated or moved. An empty one is the end: where the connection ends without, it was cut
//! off.

use crate::identity::Key;
use crate::wire::Refused;
use snow::{HandshakeState, StatelessTransportState};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Bytes of a record without its length, at most.
const MOST_RECORD: usize = 65_535;

/// Bytes of a record's tag.
const TAG: usize = 16;

/// Bytes of the other's that are in a record, at most.
const MOST_PLAIN: usize = MOST_RECORD - TAG;

/// Records that are written in one go.
const TOGETHER: usize = 4;

/// After so many records of one direction, it has a new key: long before AES-GCM wants one (at most 4 GiB with each).
const REKEY: u64 = 1 << 16;

/// How long the other side may take to take anything of what is written: as long as a slow disk may need. Whoever uses
/// the channel notices much earlier if it is gone.
const STUCK: Duration = Duration::from_secs(600);

type Keys = Arc<RwLock<StatelessTransportState>>;

/// A channel that is open.
#[derive(Debug)]
pub struct Channel {
    stream: TcpStream,
    keys: StatelessTransportState,
    peer: Key,
}

impl Channel {
    pub(crate) fn new(stream: TcpStream, noise: HandshakeState, peer: Key) -> Result<Channel, Refused> {
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(Some(STUCK))?;
        let keys = noise.into_stateless_transport_mode()?;
        Ok(Channel { stream, keys, peer })
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Key {
        self.peer
    }

    /// Ends it in order, unused.
    pub fn close(self) -> io::Result<()> {
        self.split().map(drop)
    }

    /// Its two directions, and what ends both at once.
    pub fn split(self) -> io::Result<(Incoming, Outgoing, HangUp)> {
        let (from, end) = (self.stream.try_clone()?, self.stream.try_clone()?);
        let keys = Arc::new(RwLock::new(self.keys));
        let incoming = Incoming {
            stream: from,
            keys: keys.clone(),
            number: 0,
            sealed: Vec::new(),
            at: 0,
            plain: vec![0; MOST_RECORD],
            taken: 0,
            whole: 0,
            ended: false,
        };
        let outgoing = Outgoing {
            stream: self.stream,
            keys,
            number: 0,
            sealed: Vec::new(),
            broken: false,
        };
        Ok((incoming, outgoing, HangUp(end)))
    }
}

/// Ends a channel, from any thread: what is read or written of it fails.
#[derive(Debug)]
pub struct HangUp(TcpStream);

impl HangUp {
    /// Ends it.
    pub fn now(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

fn forged<T>(_: T) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        "what came was changed on the way, or is another's",
    )
}

/// What the other side sends.
#[derive(Debug)]
pub struct Incoming {
    stream: TcpStream,
    keys: Keys,
    number: u64,
    /// What was read of the connection, from `at` on not yet looked at.
    sealed: Vec<u8>,
    at: usize,
    /// The last record's bytes, of which so many are taken, of so many.
    plain: Vec<u8>,
    taken: usize,
    whole: usize,
    ended: bool,
}

impl Incoming {
    /// Reads until a record is whole; returns where its message is.
    fn record(&mut self) -> io::Result<std::ops::Range<usize>> {
        loop {
            let there = &self.sealed[self.at..];
            if let Some(len) = there.first_chunk() {
                let len = usize::from(u16::from_le_bytes(*len));
                if there.len() >= 2 + len {
                    let from = self.at + 2;
                    self.at = from + len;
                    return Ok(from..from + len);
                }
            }
            self.sealed.drain(..self.at);
            self.at = 0;
            let before = self.sealed.len();
            self.sealed.resize(TOGETHER * (2 + MOST_RECORD), 0);
            let read = self.stream.read(&mut self.sealed[before..]);
            self.sealed.truncate(before + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => {
                    let why = "the connection was cut off";
                    return Err(io::Error::new(ErrorKind::ConnectionAborted, why));
                }
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Opens a record into `into`, or, if that is none or too short, into `plain`. Returns the number of its bytes.
    fn open(&mut self, sealed: std::ops::Range<usize>, into: Option<&mut [u8]>) -> io::Result<usize> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let into = into.unwrap_or(&mut self.plain);
        let len = keys
            .read_message(self.number, &self.sealed[sealed], into)
            .map_err(forged)?;
        drop(keys);
        self.number += 1;
        if self.number.is_multiple_of(REKEY) {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            keys.rekey_incoming();
        }
        self.ended |= len == 0;
        Ok(len)
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.taken == self.whole {
            if self.ended {
                return Ok(0);
            }
            let record = self.record()?;
            // Opening needs room for the tag, too.
            if record.len() <= buffer.len() {
                return self.open(record, Some(buffer));
            }
            (self.taken, self.whole) = (0, 0);
            self.whole = self.open(record, None)?;
        }
        let len = buffer.len().min(self.whole - self.taken);
        buffer[..len].copy_from_slice(&self.plain[self.taken..self.taken + len]);
        self.taken += len;
        Ok(len)
    }
}

/// What is sent to the other side. Dropped, it says that this was all.
#[derive(Debug)]
pub struct Outgoing {
    stream: TcpStream,
    keys: Keys,
    number: u64,
    sealed: Vec<u8>,
    /// Something could not be written whole: nothing that comes after it would be understood.
    broken: bool,
}

impl Outgoing {
    /// Adds a record to what is to be written.
    fn seal(&mut self, plain: &[u8]) -> io::Result<()> {
        let from = self.sealed.len();
        let len = plain.len() + TAG;
        self.sealed.extend((len as u16).to_le_bytes());
        self.sealed.resize(from + 2 + len, 0);
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let sealed = keys.write_message(self.number, plain, &mut self.sealed[from + 2..]);
        sealed.map_err(io::Error::other)?;
        drop(keys);
        self.number += 1;
        if self.number.is_multiple_of(REKEY) {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            keys.rekey_outgoing();
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        if self.broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let sent = self.stream.write_all(&self.sealed);
        self.broken = sent.is_err();
        self.sealed.clear();
        sent
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(TOGETHER * MOST_PLAIN)];
        for part in bytes.chunks(MOST_PLAIN) {
            self.seal(part)?;
        }
        self.send()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // After a failed write there is no orderly end.
        if self.seal(&[]).is_ok() && self.send().is_ok() {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }
}
