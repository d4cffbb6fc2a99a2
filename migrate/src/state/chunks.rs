//! Carried contents by chunk: each file's contents are a sequence of chunks and holes, and each chunk, named by its
//! hash, is there once.
//!
//! Whoever captures cuts files at multiples of [`CHUNK`]; a reader takes chunks of any length. A log that grows by a
//! line costs its last chunk, and what is all zero (or was never written) costs nothing.

use super::files::{ContentHash, FilesError, MAX_CONTENTS, MAX_NODES};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// Where files are cut, in bytes: every multiple of it begins a chunk.
pub const CHUNK: u64 = 64 << 10;
/// Most chunks that one snapshot names: 512 GiB of data, holes not counted. Their list takes 36 bytes each.
pub const MAX_CHUNKS: usize = 1 << 23;

/// A map by hashes that this process has computed itself: they need not be hashed again. Not for what a snapshot says.
pub type ByHash<V> = HashMap<ContentHash, V, BuildHasherDefault<FirstBytes>>;

/// Takes the first bytes of a [`ContentHash`] for its hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // An array begins with its length.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A piece of one or more carried files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The SHA-256 of its bytes.
    pub hash: ContentHash,
    /// Its length in bytes, not zero.
    pub len: u64,
    /// Whether the bytes are in this snapshot; if not, whoever resumes must have them from an earlier one of the same
    /// run.
    pub stored: bool,
}

/// Chunks that follow one another in a file, as they do in the list of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Part {
    /// Zero bytes before them, which are not stored.
    pub hole: u64,
    /// Index of the first.
    pub first: u32,
    /// How many, not zero.
    pub count: u32,
}

/// The contents of one or more carried files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Content {
    /// Their length in bytes. What no part reaches is zero.
    pub len: u64,
    /// What they consist of, in order.
    pub parts: Vec<Part>,
}

impl Content {
    /// Its chunks, each with the place in the file where it begins. Chunks that the list doesn't have are left out.
    pub fn chunks<'a>(&'a self, list: &'a [Chunk]) -> impl Iterator<Item = (u64, &'a Chunk)> {
        let mut at = 0u64;
        self.parts.iter().flat_map(move |part| {
            at = at.saturating_add(part.hole);
            let first = part.first as usize;
            let chunks = list
                .get(first..first.saturating_add(part.count as usize))
                .unwrap_or_default();
            let mut next = at;
            at = chunks.iter().fold(at, |at, c| at.saturating_add(c.len));
            chunks.iter().map(move |chunk| {
                let begin = next;
                next = next.saturating_add(chunk.len);
                (begin, chunk)
            })
        })
    }

    /// Its length without its holes, in bytes. Saturates.
    pub fn data_len(&self, list: &[Chunk]) -> u64 {
        self.chunks(list).fold(0, |sum, (_, c)| sum.saturating_add(c.len))
    }
}

/// Makes a list of chunks, and contents that consist of them, each once.
#[derive(Clone, Debug, Default)]
pub struct ChunkList {
    chunks: Vec<Chunk>,
    by_hash: ByHash<u32>,
    contents: Vec<Content>,
    by_content: HashMap<Content, u32>,
}

impl ChunkList {
    /// Adds contents of a length, which consist of chunks: the place, hash and length of each, ascending. Returns their
    /// index; `None` if there would be more than [`MAX_CHUNKS`] chunks.
    pub fn add(&mut self, len: u64, chunks: impl IntoIterator<Item = (u64, ContentHash, u64)>) -> Option<u32> {
        let mut content = Content { len, parts: Vec::new() };
        let mut end = 0;
        let chunks = chunks.into_iter();
        self.by_hash.reserve(chunks.size_hint().0);
        self.chunks.reserve(chunks.size_hint().0);
        for (at, hash, len) in chunks {
            let index = match self.by_hash.get(&hash) {
                Some(&index) => index,
                None if self.chunks.len() >= MAX_CHUNKS => return None,
                None => {
                    let index = self.chunks.len() as u32;
                    self.by_hash.insert(hash, index);
                    self.chunks.push(Chunk {
                        hash,
                        len,
                        stored: true,
                    });
                    index
                }
            };
            match content.parts.last_mut() {
                Some(part) if at == end && part.first + part.count == index => part.count += 1,
                _ => content.parts.push(Part {
                    hole: at.saturating_sub(end),
                    first: index,
                    count: 1,
                }),
            }
            end = at + len;
        }
        let next = self.contents.len() as u32;
        let index = *self.by_content.entry(content).or_insert_with_key(|content| {
            self.contents.push(content.clone());
            next
        });
        Some(index)
    }

    /// The lists, for [`super::files::Files`].
    pub fn finish(self) -> (Vec<Chunk>, Vec<Content>) {
        (self.chunks, self.contents)
    }
}

/// Checks everything that a hostile list could lie about, but for the chunks' hashes. Takes no longer than the list.
pub(super) fn check(chunks: &[Chunk], contents: &[Content]) -> Result<(), FilesError> {
    if chunks.len() > MAX_CHUNKS {
        return Err(FilesError::TooMany("chunks"));
    }
    if contents.len() > 2 * MAX_NODES {
        return Err(FilesError::TooMany("contents"));
    }
    // Where each chunk would begin if they lay one after another.
    let mut begins = Vec::with_capacity(chunks.len() + 1);
    let mut end = 0u64;
    begins.push(end);
    let mut hashes = HashSet::with_capacity(chunks.len());
    for chunk in chunks {
        if chunk.len == 0 {
            return Err(FilesError::Invalid("a chunk is empty"));
        }
        if !hashes.insert(chunk.hash) {
            return Err(FilesError::Invalid("a chunk occurs twice"));
        }
        end = end.checked_add(chunk.len).ok_or(FilesError::TooMany("bytes"))?;
        begins.push(end);
    }
    let total = contents.iter().try_fold(0u64, |sum, c| sum.checked_add(c.len));
    if end > MAX_CONTENTS || total.is_none_or(|total| total > MAX_CONTENTS) {
        return Err(FilesError::TooMany("bytes"));
    }
    // Whoever goes through all of them shall come to an end: as many as there are if none but a file's last is short.
    let most = MAX_CONTENTS / CHUNK + contents.len() as u64;
    let mut named = 0u64;
    for content in contents {
        let mut at = 0u64;
        for part in &content.parts {
            named = named.saturating_add(part.count.into());
            if named > most {
                return Err(FilesError::TooMany("chunks"));
            }
            let last = (part.first as usize).saturating_add(part.count as usize);
            let (Some(begin), Some(end)) = (begins.get(part.first as usize), begins.get(last)) else {
                return Err(FilesError::Invalid("contents consist of chunks that are not there"));
            };
            if part.count == 0 {
                return Err(FilesError::Invalid("a part of contents is empty"));
            }
            // No overflow: each is at most 16 TiB, but for the hole.
            at = at
                .checked_add(part.hole)
                .map_or(u64::MAX, |at| at.saturating_add(end - begin));
        }
        if at > content.len {
            return Err(FilesError::Invalid("contents are longer than they say"));
        }
    }
    Ok(())
}

/// The list as version 1 had it: contents are stored whole, and named by the hash of all of them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct WholeContent {
    hash: ContentHash,
    len: u64,
    stored: bool,
}

/// What version 1 says, in terms of version 2: each of the contents is one chunk.
pub(super) fn from_whole(whole: Vec<WholeContent>) -> Result<(Vec<Chunk>, Vec<Content>), FilesError> {
    let (mut chunks, mut contents) = (Vec::with_capacity(whole.len()), Vec::with_capacity(whole.len()));
    for WholeContent { hash, len, stored } in whole {
        if len == 0 && hash != ContentHash::of(&[]) {
            return Err(FilesError::Invalid("the hash of empty contents is wrong"));
        }
        let first = chunks.len() as u32;
        let part = Part {
            hole: 0,
            first,
            count: 1,
        };
        let parts = if len == 0 { vec![] } else { vec![part] };
        if len > 0 {
            chunks.push(Chunk { hash, len, stored });
        }
        contents.push(Content { len, parts });
    }
    Ok((chunks, contents))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> ContentHash {
        ContentHash([n; 32])
    }

    fn chunk(n: u8, len: u64) -> Chunk {
        Chunk {
            hash: hash(n),
            len,
            stored: true,
        }
    }

    #[test]
    fn each_chunk_and_each_of_the_contents_is_there_once() {
        let mut list = ChunkList::default();
        let log = |n: u64| (0..n).map(|i| (i * CHUNK, hash(i as u8), CHUNK));
        assert_eq!(list.add(3 * CHUNK, log(3)), Some(0));
        assert_eq!(list.add(5 * CHUNK, log(5)), Some(1));
        assert_eq!(list.add(3 * CHUNK, log(3)), Some(0));
        // A hole, a chunk that is known, a hole, another chunk, and a hole at the end.
        let sparse = [(CHUNK, hash(2), CHUNK), (9 * CHUNK, hash(9), 5)];
        assert_eq!(list.add(20 * CHUNK, sparse), Some(2));
        assert_eq!(list.add(0, []), Some(3));
        let (chunks, contents) = list.finish();
        assert_eq!(chunks.len(), 6);
        assert_eq!(check(&chunks, &contents), Ok(()));
        assert_eq!(contents[1].parts.len(), 1, "what follows one another is one part");
        let found: Vec<_> = contents[2].chunks(&chunks).map(|(at, c)| (at, c.hash, c.len)).collect();
        assert_eq!(found, sparse);
        assert_eq!(
            (contents[2].data_len(&chunks), contents[3].data_len(&chunks)),
            (CHUNK + 5, 0)
        );
    }

    #[test]
    fn lists_that_can_not_be_are_refused() {
        let part = |hole, first, count| Part { hole, first, count };
        let content = |len, parts: &[Part]| Content {
            len,
            parts: parts.to_vec(),
        };
        let chunks = [chunk(1, 4), chunk(2, 6)];
        let good = content(20, &[part(5, 0, 2), part(0, 1, 1)]);
        // Its parts end at 5 + 10 + 6.
        assert!(check(&chunks, &[content(21, &good.parts)]).is_ok());
        for bad in [
            good,
            content(20, &[part(0, 1, 2)]),
            content(20, &[part(0, u32::MAX, u32::MAX)]),
            content(20, &[part(0, 0, 0)]),
            content(u64::MAX, &[]),
            content(20, &[part(u64::MAX, 0, 1)]),
            content(20, &[part(u64::MAX, 0, 1), part(u64::MAX, 0, 1)]),
            content(MAX_CONTENTS + 1, &[]),
        ] {
            assert!(check(&chunks, std::slice::from_ref(&bad)).is_err(), "{bad:?}");
        }
        let half = content(MAX_CONTENTS / 2, &[]);
        assert!(check(&[], &[half.clone(), half.clone()]).is_ok());
        assert!(check(&[], &[half.clone(), half, content(1, &[])]).is_err());
        for bad in [
            [chunk(1, 4), chunk(1, 4)],
            [chunk(1, 4), chunk(2, 0)],
            [chunk(1, u64::MAX), chunk(2, 1)],
            [chunk(1, MAX_CONTENTS), chunk(2, 1)],
        ] {
            assert!(check(&bad, &[]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_few_bytes_that_claim_a_lot_are_refused() {
        let part = |count| Part {
            hole: 0,
            first: 0,
            count,
        };
        let chunks: Vec<Chunk> = (0..1u32 << 10)
            .map(|n| {
                let mut hash = [0; 32];
                hash[..4].copy_from_slice(&n.to_le_bytes());
                Chunk {
                    hash: ContentHash(hash),
                    len: 1,
                    stored: false,
                }
            })
            .collect();
        let content = |parts| Content { len: 1 << 40, parts };
        assert!(check(&chunks, &[content(vec![part(1 << 10); 1 << 18])]).is_ok());
        let most = ((MAX_CONTENTS / CHUNK) >> 10) as usize;
        assert!(check(&chunks, &[content(vec![part(1 << 10); most + 1])]).is_err());
    }
}
