//! A fast digest of a page, which tells whether the page has changed since an earlier snapshot.
//!
//! 128 bits from multiply-and-fold lanes, as in wyhash (Wang Yi, public domain): at memory speed, without tables or special
//! instructions, equal on every architecture. It is no protection against forgery, and isn't used as one: whoever could forge a
//! page's digest wrote the program's memory. What a snapshot stores or refers to is checked by CRC-32 besides.

use super::pages::PAGE_SIZE;

/// Random numbers that no program has a reason to hold: a factor of zero would hide the other.
const SECRET: [u64; 8] = [
    0x9362_da5c_c13d_a58b,
    0x8f7b_7676_d015_b0dd,
    0x8a11_9b9e_16bc_1733,
    0x609e_467a_da67_9f81,
    0x0787_c0de_2f96_0063,
    0x19d5_2695_12e7_4f7b,
    0xa712_755f_6cac_e4d5,
    0xba2d_de83_458b_fed1,
];

/// The halves of a product folded together, and the factors, so that one of them is left if the other is zero.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64 ^ a ^ b
}

/// The digest of a page.
pub fn digest(page: &[u8]) -> u128 {
    debug_assert_eq!(page.len(), PAGE_SIZE);
    let mut lanes = [SECRET[4], SECRET[5], SECRET[6], SECRET[7]];
    let (blocks, _) = page.as_chunks::<64>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (n, lane) in lanes.iter_mut().enumerate() {
            let (a, b) = (u64::from_le_bytes(words[2 * n]), u64::from_le_bytes(words[2 * n + 1]));
            *lane = fold(a ^ SECRET[n], b ^ *lane);
        }
    }
    let [a, b, c, d] = lanes;
    let high = fold(a ^ SECRET[0], b ^ SECRET[1]) ^ fold(c ^ SECRET[2], d ^ SECRET[3]);
    let low = fold(a ^ SECRET[5], c ^ SECRET[6]) ^ fold(b ^ SECRET[7], d ^ SECRET[4]);
    u128::from(high) << 64 | u128::from(low)
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

    const DIGEST: u128 = 0xb328_51ab_45fc_5b05_6b1d_c6d0_7caf_78bc;
}
