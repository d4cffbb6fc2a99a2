//! What both kinds of handshake share: Noise's parameters, reading until a moment and no longer, and silence.

use snow::Builder;
use snow::params::NoiseParams;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The first byte of a caller who is paired.
pub(crate) const CALL: u8 = 1;

/// The first byte of a caller who wants to be paired.
pub(crate) const PAIR: u8 = 2;

/// Bytes that are read of a caller who isn't answered, at most.
const MOST_IGNORED: usize = 1 << 20;

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The other side says nothing, or nothing that its key would say.
    #[error("it does not answer as a device that is paired with this one")]
    Silent,
    /// The connection fails.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The handshake's own.
    #[error("the handshake fails: {0}")]
    Noise(#[from] snow::Error),
}

/// A handshake of this pattern. `prologue` is what both sides must agree on besides: another version is a stranger.
pub(crate) fn builder<'a>(pattern: &str, prologue: &'a [u8]) -> Result<Builder<'a>, Refused> {
    let params: NoiseParams = format!("Noise_{pattern}_25519_AESGCM_SHA256").parse()?;
    Ok(Builder::new(params).prologue(prologue)?)
}

/// A connection whose handshake must be over at some moment.
pub(crate) struct Hurried<'a> {
    pub stream: &'a TcpStream,
    until: Instant,
}

impl<'a> Hurried<'a> {
    pub(crate) fn new(stream: &'a TcpStream, until: Instant) -> Hurried<'a> {
        Hurried { stream, until }
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(ErrorKind::TimedOut.into()),
            false => Ok(left),
        }
    }

    fn read_some(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            self.stream.set_read_timeout(Some(self.left()?))?;
            match self.stream.read(bytes) {
                // Also when the time is up: then the next look at it says so.
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                other => return other,
            }
        }
    }

    /// Reads so many bytes, however they come.
    pub(crate) fn read<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        let mut filled = 0;
        while filled < N {
            match self.read_some(&mut bytes[filled..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => filled += n,
            }
        }
        Ok(bytes)
    }

    /// Writes all of it.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write_all(bytes)
    }

    /// Says nothing until the time is up, whatever comes, or the caller hangs up.
    pub(crate) fn ignore(&mut self) {
        let mut bytes = [0; 4096];
        let mut ignored = 0;
        while ignored < MOST_IGNORED {
            match self.read_some(&mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(n) => ignored += n,
            }
        }
        // Who sends more than that is not read any more; the moment stays the same.
        if ignored >= MOST_IGNORED
            && let Ok(left) = self.left()
        {
            std::thread::sleep(left);
        }
    }
}
