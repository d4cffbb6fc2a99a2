//! The two layouts: what `wasi_unstable` has otherwise than its successor.

use crate::guest::*;
use dunlin_format::imports::UNSTABLE;
use dunlin_runtime::wasi::Outcome;
use std::fs;
use tempfile::tempdir;

#[test]
fn the_predecessor_has_its_own_numbers_and_layouts() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "12345").unwrap();
    fs::hard_link(dir.path().join("f"), dir.path().join("g")).unwrap();
    let mut g = Guest::new(dir.path());
    let f = g.open(ROOT, "f", 0, READ, 0).unwrap();
    // whence: 0 current, 1 end, 2 start.
    for (offset, whence, expected) in [(4i64, 2, 4), (-1, 0, 3), (-2, 1, 3), (0, 2, 0)] {
        assert_eq!(
            g.outcome_of(UNSTABLE, "fd_seek", &[f, offset as u64, whence, OUT.into()]),
            Outcome::Return(0)
        );
        assert_eq!(g.u64(OUT), expected);
    }
    assert_eq!(
        g.outcome_of(UNSTABLE, "fd_seek", &[f, 0, 3, OUT.into()]),
        Outcome::Return(INVAL)
    );
    // filestat: a link count of 32 bits, 56 bytes in all.
    g.memory[OUT as usize..][..64].fill(0xaa);
    assert_eq!(
        g.outcome_of(UNSTABLE, "fd_filestat_get", &[f, OUT.into()]),
        Outcome::Return(0)
    );
    assert_eq!(
        (g.u8(OUT + 16), g.u32(OUT + 20), g.u64(OUT + 24), g.u64(OUT + 56)),
        (4, 2, 5, 0xaaaa_aaaa_aaaa_aaaa)
    );
    let modified = g.u64(OUT + 40);
    let [p, n] = g.string(PATH, "g");
    assert_eq!(
        g.outcome_of(UNSTABLE, "path_filestat_get", &[ROOT, 0, p, n, OUT.into()]),
        Outcome::Return(0)
    );
    assert_eq!((g.u64(OUT + 24), g.u64(OUT + 40)), (5, modified));
    g.stat(ROOT, false, "g").unwrap();
    assert_eq!((g.u64(OUT + 24), g.u64(OUT + 32), g.u64(OUT + 48)), (2, 5, modified));
    // subscription: 56 bytes, the clock behind an identifier.
    let start = g.monotonic();
    g.memory[IOV as usize..][..112].fill(0);
    for (i, (userdata, timeout)) in [(1u64, 3_600_000_000_000u64), (2, 20_000_000)].into_iter().enumerate() {
        let at = IOV + 56 * i as u32;
        g.set(at, &userdata.to_le_bytes());
        g.set(at + 16, &u64::MAX.to_le_bytes());
        g.set(at + 24, &1u32.to_le_bytes());
        g.set(at + 32, &timeout.to_le_bytes());
    }
    assert_eq!(
        g.outcome_of(UNSTABLE, "poll_oneoff", &[IOV.into(), DATA.into(), 2, OUT.into()]),
        Outcome::Return(0)
    );
    assert_eq!((g.u32(OUT), g.u64(DATA)), (1, 2));
    assert!((20_000_000..10_000_000_000).contains(&(g.monotonic() - start)));
    g.set(IOV + 8, &[1]);
    g.set(IOV + 16, &(f as u32).to_le_bytes());
    assert_eq!(
        g.outcome_of(UNSTABLE, "poll_oneoff", &[IOV.into(), DATA.into(), 1, OUT.into()]),
        Outcome::Return(0)
    );
    assert_eq!((g.u8(DATA + 10), g.u64(DATA + 16)), (1, 5));
}
