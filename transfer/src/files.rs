//! Files over a connection: announced with their length, in chunks, with a checksum at the end.

use crate::link::{Link, LinkError};
use crate::wire::{FileKind, Frame, MOST_CHUNK};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Why a file didn't come, or go.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The connection ended, or the other side didn't keep to the protocol.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It can't be read or written here.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is not what was sent.
    #[error("it was damaged on the way")]
    Damaged,
}

/// Sends a file. `sent` hears how many bytes have gone, and may end it by returning false.
pub fn send(link: &Link, kind: FileKind, path: &Path, sent: &mut dyn FnMut(u64) -> bool) -> Result<u64, FileError> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    link.send(&Frame::File { kind, len })?;
    let mut crc = crc32fast::Hasher::new();
    let mut left = len;
    let mut buffer = vec![0; MOST_CHUNK];
    while left > 0 {
        let n = left.min(MOST_CHUNK as u64) as usize;
        file.read_exact(&mut buffer[..n])?;
        crc.update(&buffer[..n]);
        link.send(&Frame::Chunk(buffer[..n].to_vec()))?;
        left -= n as u64;
        if !sent(len - left) {
            return Err(FileError::Link(LinkError::Closed));
        }
    }
    let crc = crc.finalize();
    link.send(&Frame::FileEnd { crc })?;
    Ok(len)
}

/// Receives the file that was announced with this length, and makes it durable (but for its directory's entry). It is a
/// new one that only this user can read, or run if `mode` says so.
pub fn receive(link: &Link, len: u64, path: &Path, mode: u32) -> Result<(), FileError> {
    Ok(receive_volatile(link, len, path, mode)?.sync_all()?)
}

/// The same, but what comes is not durable yet. It is open for reading only, so that others may rely on it.
pub fn receive_volatile(link: &Link, len: u64, path: &Path, mode: u32) -> Result<File, FileError> {
    crate::records::remove_if_there(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let mut crc = crc32fast::Hasher::new();
    let mut left = len;
    loop {
        match link.receive()? {
            Frame::Chunk(bytes) if bytes.len() as u64 <= left && !bytes.is_empty() => {
                crc.update(&bytes);
                file.write_all(&bytes)?;
                left -= bytes.len() as u64;
            }
            Frame::FileEnd { crc: theirs } if left == 0 => {
                return match theirs == crc.finalize() {
                    true => {
                        drop(file);
                        Ok(File::open(path)?)
                    }
                    false => Err(FileError::Damaged),
                };
            }
            _ => return Err(FileError::Link(LinkError::Unexpected)),
        }
    }
}

/// Bytes of a file that was refused that are still read, at most, so that the other side hears why.
const MOST_IGNORED: u64 = 1 << 30;

/// Reads the rest of a file that is not wanted, and keeps nothing of it.
pub fn ignore(link: &Link) -> Result<(), LinkError> {
    let mut ignored = 0;
    while ignored < MOST_IGNORED {
        match link.receive()? {
            Frame::Chunk(bytes) => ignored += bytes.len() as u64,
            Frame::FileEnd { .. } => return Ok(()),
            _ => break,
        }
    }
    Err(LinkError::Unexpected)
}
