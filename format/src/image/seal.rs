//! The seal of an image: a hash over all that its program consists of.

use super::Header;
use sha2::{Digest, Sha256};

/// Length of a seal in bytes.
pub const SEAL_LEN: usize = 32;

/// Computes a seal: what the header says, the sections, then the text, as it comes.
#[derive(Clone, Debug)]
pub struct Sealer(Sha256);

impl Sealer {
    /// Begins with the header and the sections but for the seal itself, each with its length.
    pub(super) fn new(header: &Header, sections: &[&[u8]; 5]) -> Sealer {
        let mut hash = Sha256::new();
        hash.update(b"dunlin image seal 1");
        hash.update((header.arch as u32).to_le_bytes());
        hash.update(header.module.0);
        hash.update([u8::from(header.migratable)]);
        hash.update(header.text_len.to_le_bytes());
        for section in sections {
            hash.update((section.len() as u64).to_le_bytes());
            hash.update(section);
        }
        Sealer(hash)
    }

    /// Adds the next bytes of the text.
    pub fn text(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The seal.
    pub fn finish(self) -> [u8; SEAL_LEN] {
        self.0.finalize().into()
    }
}
