//! A fast digest of a page, which tells whether the page has changed since an earlier snapshot: XXH3 with 128 bits
//! (Yann Collet, xxHash).
//!
//! It is no protection against forgery, and isn't used as one: whoever could forge a page's digest wrote the program's
//! memory. What a snapshot stores or refers to is checked by CRC-32 besides.

use super::PAGE_SIZE;

/// The version of the `digests` section that holds these.
pub(super) const VERSION: u32 = 2;

/// The digest of a page.
pub(super) fn digest(page: &[u8]) -> u128 {
    debug_assert_eq!(page.len(), PAGE_SIZE);
    xxhash_rust::xxh3::xxh3_128(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_bit_counts() {
        let mut page = vec![0; PAGE_SIZE];
        let mut seen = HashSet::from([digest(&page)]);
        for at in (0..PAGE_SIZE).step_by(97) {
            for bit in [0, 7] {
                page[at] ^= 1 << bit;
                assert!(seen.insert(digest(&page)), "bit {bit} of byte {at}");
                page[at] ^= 1 << bit;
            }
        }
        // Swapped words and lanes are other pages.
        page[0] = 1;
        let first = digest(&page);
        page.swap(0, 16);
        assert_ne!(digest(&page), first);
        page.swap(16, 64);
        assert_ne!(digest(&page), first);
    }

    #[test]
    fn it_is_the_same_on_every_architecture_and_in_every_version() {
        let page: Vec<u8> = (0..PAGE_SIZE).map(|n| (n * n / 7) as u8).collect();
        assert_eq!(digest(&page), DIGEST, "{:#x}", digest(&page));
    }

    const DIGEST: u128 = 0xeaa9_3691_d550_403b_1c55_8b24_a68b_ba30;
}
