//! The contents of carried files: named by hash, streamed, and checked on the way.

use super::SnapshotError;
use crate::state::files::Content;
use sha2::{Digest, Sha256};
use std::io::{self, Write};

/// Something that has contents: a program's files, a snapshot, an earlier snapshot of the same run.
pub trait Contents {
    /// Writes the contents with this hash and length; false, and nothing written, if they are not here. Whoever reads checks them.
    fn copy(&self, content: &Content, out: &mut dyn Write) -> io::Result<bool>;
}

/// Nothing at all.
#[derive(Clone, Copy, Debug)]
pub struct NoContents;

impl Contents for NoContents {
    fn copy(&self, _: &Content, _: &mut dyn Write) -> io::Result<bool> {
        Ok(false)
    }
}

/// The first that has them.
impl Contents for [&dyn Contents] {
    fn copy(&self, content: &Content, out: &mut dyn Write) -> io::Result<bool> {
        for place in self {
            if place.copy(content, out)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Copies contents, and checks length and hash: fails with [`SnapshotError::Content`] unless they are what they are called.
pub fn copy_contents(from: &(impl Contents + ?Sized), content: &Content, out: &mut dyn Write) -> Result<(), SnapshotError> {
    let mut checked = Checked {
        out,
        hash: Sha256::new(),
        left: content.len,
        exceeded: false,
    };
    let wrong = |what| SnapshotError::Content {
        hash: content.hash,
        what,
    };
    match from.copy(content, &mut checked) {
        Err(_) if checked.exceeded => Err(wrong("they are longer than was said")),
        Err(source) => Err(SnapshotError::Io {
            doing: format!("copy the contents {:.16}", content.hash.to_string()),
            source,
        }),
        Ok(false) => Err(wrong("they are missing; an earlier snapshot of the same run may have them")),
        Ok(true) if checked.left > 0 => Err(wrong("they are shorter than was said")),
        Ok(true) if checked.hash.finalize()[..] != content.hash.0 => Err(wrong("they have another hash")),
        Ok(true) => Ok(()),
    }
}

/// Passes bytes on, and counts and hashes them.
struct Checked<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
    left: u64,
    exceeded: bool,
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            self.exceeded = true;
            return Err(io::Error::other("longer than was said"));
        }
        let n = self.out.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.left -= n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::files::ContentHash;

    struct Bytes(&'static [u8]);

    impl Contents for Bytes {
        fn copy(&self, _: &Content, out: &mut dyn Write) -> io::Result<bool> {
            out.write_all(self.0).map(|()| true)
        }
    }

    fn content(bytes: &[u8]) -> Content {
        Content {
            hash: ContentHash::of(bytes),
            len: bytes.len() as u64,
            stored: true,
        }
    }

    #[test]
    fn only_the_very_contents_are_taken() {
        let mut out = Vec::new();
        copy_contents(&Bytes(b"text"), &content(b"text"), &mut out).unwrap();
        assert_eq!(out, b"text");
        copy_contents(&Bytes(b""), &content(b""), &mut out).unwrap();
        for (bytes, part) in [(&b"tex"[..], "shorter"), (b"texts", "longer"), (b"test", "hash")] {
            let error = copy_contents(&Bytes(bytes), &content(b"text"), &mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        let error = copy_contents(&NoContents, &content(b"text"), &mut out).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
        let places: [&dyn Contents; 2] = [&NoContents, &Bytes(b"text")];
        copy_contents(&places[..], &content(b"text"), &mut out).unwrap();
        assert_eq!(out, b"texttext");
    }
}
