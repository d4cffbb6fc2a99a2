//! What the two sides send each other, and its encoding: per frame a length (u32, little-endian) and that many bytes
//! of postcard. Nothing longer than [`MOST_FRAME`] is read.

use dunlin_format::arch::Arch;
use dunlin_migrate::preflight::{Finding, Needs};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// The version of the protocol; the two sides must agree.
pub const VERSION: u32 = 2;

/// Bytes of an encoded frame, at most: a chunk of a file, and some.
pub const MOST_FRAME: usize = MOST_CHUNK + 1024;

/// Bytes of a file in one frame, at most.
pub const MOST_CHUNK: usize = 256 << 10;

/// Bytes of the descriptions ([`About`], [`Terms`]) in one frame, at most: what is longer is refused by whoever would
/// send it.
pub const MOST_DESCRIPTION: usize = MOST_CHUNK;

/// The program that is to come, before anything of it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The name that it was built under.
    pub name: String,
    /// SHA-256 of its module.
    pub module: [u8; 32],
    /// [`Needs`] as JSON: what it needs of the machine.
    pub needs: String,
}

impl About {
    /// What it needs; `None` if that is not understood.
    pub fn needs(&self) -> Option<Needs> {
        serde_json::from_str(&self.needs).ok()
    }
}

/// What the receiver answers to [`About`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The architecture whose executable it runs.
    pub arch: String,
    /// That executable is there already.
    pub has_executable: bool,
    /// If it isn't, it may come; else only the module, which is compiled there.
    pub takes_executables: bool,
    /// What stands in the way ([`Finding`]s as kind, what, fix). Empty: the program may come.
    pub findings: Vec<(String, String, String)>,
}

impl Terms {
    /// What stands in the way.
    pub fn findings(&self) -> Vec<Finding> {
        let of = |(kind, what, fix): &(String, String, String)| Finding::new(kind, what, fix);
        self.findings.iter().map(of).collect()
    }

    /// The architecture, if it is one that Dunlin knows.
    pub fn arch(&self) -> Option<Arch> {
        Arch::ALL.into_iter().find(|a| a.name() == self.arch)
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// The program's executable for the receiver's architecture.
    Executable,
    /// Its state. It may take pages from the rounds that came before.
    Snapshot,
    /// A round of pre-copy, by number: a snapshot from while the program ran, which later ones take pages from.
    Round(u32),
    /// Its module, for a receiver that compiles it itself.
    Module,
}

/// One thing that is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Frame {
    /// The first thing that either side sends.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The side's store of records ([`dunlin_handover::Transfer::store`]).
        store: [u8; 16],
    },
    /// To the receiver.
    About(About),
    /// To the sender.
    Terms(Terms),
    /// A message of [`dunlin_handover`], in its own encoding.
    Handover(Vec<u8>),
    /// A file begins; its chunks follow.
    File {
        /// What it is.
        kind: FileKind,
        /// Its length in bytes.
        len: u64,
    },
    /// The next bytes of the file.
    Chunk(#[serde(with = "whole")] Vec<u8>),
    /// The file is whole.
    FileEnd {
        /// CRC-32 of its bytes.
        crc: u32,
    },
    /// To the sender: this round is durable.
    RoundKept(u32),
    /// The side is at work; nothing else.
    Working,
    /// Why the side gives up, for a person; the last thing that it sends, but for what [`dunlin_handover`] has to say.
    Error(String),
    /// To the sender: the program runs there as this process, its output goes to that file.
    Runs {
        /// Process id.
        pid: u32,
        /// The file on the receiver.
        log: String,
    },
    /// To the sender: the executable or module that came is accepted, and compiled.
    Admitted,
}

/// Bytes all at once: serde's own way is one by one, which took more time than all the rest. The encoding is the same.
mod whole {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};
    use std::fmt;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

/// Sends one frame.
pub fn write_frame(out: &mut impl Write, frame: &Frame) -> io::Result<()> {
    let mut whole = postcard::to_extend(frame, vec![0; 4]).map_err(io::Error::other)?;
    let len = whole.len() - 4;
    if len > MOST_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is too long to be sent"));
    }
    whole[..4].copy_from_slice(&(len as u32).to_le_bytes());
    out.write_all(&whole)?;
    out.flush()
}

/// Reads one frame; `None` at the end of the connection. What is no frame is [`io::ErrorKind::InvalidData`].
pub fn read_frame(from: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut len = [0; 4];
    match from.read_exact(&mut len) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let len = u32::from_le_bytes(len) as usize;
    if len > MOST_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut bytes = vec![0; len];
    from.read_exact(&mut bytes)?;
    match postcard::take_from_bytes(&bytes) {
        Ok((frame, [])) => Ok(Some(frame)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is no frame of this protocol",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_nothing_else_does() {
        let frames = [
            Frame::Hello {
                version: VERSION,
                store: [7; 16],
            },
            Frame::Chunk(vec![7; MOST_CHUNK]),
            Frame::File {
                kind: FileKind::Snapshot,
                len: 1 << 40,
            },
            Frame::File {
                kind: FileKind::Round(7),
                len: 9,
            },
            Frame::RoundKept(7),
            Frame::Error("no".into()),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            write_frame(&mut bytes, frame).unwrap();
        }
        let mut from = &bytes[..];
        for frame in frames {
            assert_eq!(read_frame(&mut from).unwrap(), Some(frame));
        }
        assert_eq!(read_frame(&mut from).unwrap(), None);
        let long = Frame::Chunk(vec![7; MOST_FRAME]);
        assert_eq!(
            write_frame(&mut Vec::new(), &long).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        for bad in [&[255; 8][..], &[1, 0, 0, 0, 99], &[2, 0, 0, 0, 8, 7]] {
            assert_eq!(
                read_frame(&mut &bad[..]).unwrap_err().kind(),
                io::ErrorKind::InvalidData,
                "{bad:?}"
            );
        }
        assert!(read_frame(&mut &[9, 0, 0, 0, 1][..]).is_err(), "cut off");
    }

    /// Bytes in any order are read or refused, within the memory of one frame.
    #[test]
    fn noise_is_refused() {
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..seed % 64 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                bytes.push((seed >> 33) as u8);
            }
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut framed = (bytes.len() as u32).to_le_bytes().to_vec();
            framed.extend(&bytes);
            let _ = read_frame(&mut &framed[..]);
            let _ = read_frame(&mut &bytes[..]);
        }
    }
}
