//! The contents of carried files, chunk by chunk: named by hash, streamed, and checked on the way.

use super::origin::Origin;
use super::read::Snapshot;
use super::{Contents, SnapshotError};
use crate::state::files::{Chunk, Content, ContentHash, Files};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

/// The chunks of carried contents that a snapshot and its bases store.
pub struct Stored<'a, R>(HashMap<ContentHash, (&'a R, u64)>);

/// Bytes of a chunk that are copied at once.
const COPIED_AT_ONCE: u64 = 1 << 18;

impl<'a, R: Origin> Stored<'a, R> {
    /// The chunks of a snapshot, and of its bases as far as they are attached.
    pub fn of(snapshot: &'a Snapshot<R>) -> Stored<'a, R> {
        Stored(snapshot.content_places())
    }

    /// One chunk, at its place in a file.
    pub(super) fn one(hash: ContentHash, reader: &'a R, offset: u64) -> Stored<'a, R> {
        Stored(HashMap::from([(hash, (reader, offset))]))
    }
}

impl<R: Origin> Contents for Stored<'_, R> {
    fn copy(&self, chunk: &Chunk, out: &mut dyn Write) -> io::Result<bool> {
        let Some(&(reader, mut offset)) = self.0.get(&chunk.hash) else {
            return Ok(false);
        };
        let mut buffer = vec![0; chunk.len.min(COPIED_AT_ONCE) as usize];
        let end = offset.saturating_add(chunk.len);
        while offset < end {
            let part = &mut buffer[..(end - offset).min(COPIED_AT_ONCE) as usize];
            reader.read_at(part, offset)?;
            out.write_all(part)?;
            offset += part.len() as u64;
        }
        Ok(true)
    }
}

/// Copies a chunk, and checks length and hash: fails with [`SnapshotError::Content`] unless it is what it is called.
pub fn copy_chunk(from: &(impl Contents + ?Sized), chunk: &Chunk, out: &mut dyn Write) -> Result<(), SnapshotError> {
    let mut checked = Checked {
        out,
        hash: Sha256::new(),
        left: chunk.len,
        exceeded: false,
    };
    let wrong = |what| SnapshotError::Content { hash: chunk.hash, what };
    match from.copy(chunk, &mut checked) {
        Err(_) if checked.exceeded => Err(wrong("they are longer than was said")),
        Err(source) => Err(SnapshotError::Io {
            doing: format!("copy the contents {:.16}", chunk.hash.to_string()),
            source,
        }),
        Ok(false) => Err(wrong(
            "they are missing; an earlier snapshot of the same run may have them",
        )),
        Ok(true) if checked.left > 0 => Err(wrong("they are shorter than was said")),
        Ok(true) if checked.hash.finalize()[..] != chunk.hash.0 => Err(wrong("they have another hash")),
        Ok(true) => Ok(()),
    }
}

/// Writes contents into a new file, and checks every chunk. Where they have holes the file gets holes.
pub fn write_contents(
    from: &(impl Contents + ?Sized),
    content: &Content,
    chunks: &[Chunk],
    file: &File,
) -> Result<(), SnapshotError> {
    for (at, chunk) in content.chunks(chunks) {
        copy_chunk(from, chunk, &mut At(file, at))?;
    }
    file.set_len(content.len).map_err(SnapshotError::io("write a file"))
}

/// Writes to a file from a place on.
struct At<'a>(&'a File, u64);

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.0.write_at(bytes, self.1)?;
        self.1 += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The list of files from its bytes, not checked.
pub(super) fn files_of(bytes: &[u8], version: u32) -> Result<Files, SnapshotError> {
    let (files, rest) = match version {
        1 => {
            let (files, rest) = Files::from_version_1(bytes).map_err(SnapshotError::FilesCode)?;
            (files?, rest)
        }
        _ => postcard::take_from_bytes::<Files>(bytes).map_err(SnapshotError::FilesCode)?,
    };
    match rest {
        [] => Ok(files),
        _ => Err(SnapshotError::Damaged("there are bytes behind the list of files")),
    }
}

/// Where the chunks that are stored lie, of which the first is at an offset.
pub(super) fn places(files: &Files, first: u64) -> impl Iterator<Item = (Chunk, u64)> {
    let mut next = first;
    files.chunks.iter().filter(|c| c.stored).map(move |&chunk| {
        let offset = next;
        next = next.saturating_add(chunk.len);
        (chunk, offset)
    })
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
    use crate::snapshot::{FirstOf, NoContents};
    use crate::state::files::Part;
    use std::os::unix::fs::MetadataExt;

    struct Bytes(&'static [u8]);

    impl Contents for Bytes {
        fn copy(&self, _: &Chunk, out: &mut dyn Write) -> io::Result<bool> {
            out.write_all(self.0).map(|()| true)
        }
    }

    fn chunk(bytes: &[u8]) -> Chunk {
        Chunk {
            hash: ContentHash::of(bytes),
            len: bytes.len() as u64,
            stored: true,
        }
    }

    #[test]
    fn only_the_very_contents_are_taken() {
        let mut out = Vec::new();
        copy_chunk(&Bytes(b"text"), &chunk(b"text"), &mut out).unwrap();
        assert_eq!(out, b"text");
        copy_chunk(&Bytes(b""), &chunk(b""), &mut out).unwrap();
        for (bytes, part) in [(&b"tex"[..], "shorter"), (b"texts", "longer"), (b"test", "hash")] {
            let error = copy_chunk(&Bytes(bytes), &chunk(b"text"), &mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        let error = copy_chunk(&NoContents, &chunk(b"text"), &mut out).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
        let places: [&dyn Contents; 2] = [&NoContents, &Bytes(b"text")];
        copy_chunk(&FirstOf(&places), &chunk(b"text"), &mut out).unwrap();
        assert_eq!(out, b"texttext");
    }

    #[test]
    fn holes_stay_holes() {
        let (file, far) = (tempfile::tempfile().unwrap(), 1 << 30);
        let bytes = vec![7; 1 << 16];
        let chunks = [chunk(&bytes), chunk(b"end")];
        let memory = HashMap::from([(chunks[0].hash, bytes.clone()), (chunks[1].hash, b"end".to_vec())]);
        let part = |hole, first| Part { hole, first, count: 1 };
        let content = Content {
            len: 2 * far,
            parts: vec![part(0, 0), part(far - (1 << 16), 1)],
        };
        write_contents(&memory, &content, &chunks, &file).unwrap();
        let mut end = [0; 4];
        file.read_exact_at(&mut end, far).unwrap();
        assert_eq!((&end, file.metadata().unwrap().len()), (b"end\0", 2 * far));
        assert!(file.metadata().unwrap().blocks() * 512 < 1 << 20);
        let lacking = HashMap::from([(chunks[0].hash, bytes)]);
        assert!(write_contents(&lacking, &content, &chunks, &file).is_err());
    }
}
