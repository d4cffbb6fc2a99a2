//! Calls that don't wait, but have work for long: a migration request undoes them, too, and they come to their end all
//! the same.

use crate::guest::*;
use dunlin_runtime::wasi::Outcome;
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// Makes the call while a request is always pending, as often as it is undone; returns how often that was, and the
/// longest time that the request had to wait at first.
fn until_done(g: &mut Guest, name: &str, args: &[u64]) -> (u32, Duration) {
    g.wake.raise();
    let mut first = None;
    for undone in 0..64 {
        let begun = Instant::now();
        let outcome = g.outcome(name, args);
        first.get_or_insert(begun.elapsed());
        if outcome != Outcome::Interrupted {
            assert_eq!(outcome, Outcome::Return(0));
            g.wake.clear();
            return (undone, first.unwrap());
        }
    }
    panic!("{name} never ends");
}

#[test]
fn drawing_random_numbers_gives_way_and_ends() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    const LEN: u32 = 512 << 20;
    g.memory.resize(DATA as usize + LEN as usize, 0);
    let (undone, first) = until_done(&mut g, "random_get", &[DATA.into(), LEN.into()]);
    assert!(undone > 0, "half a gigabyte takes longer than 10 ms");
    assert!(first < Duration::from_millis(500), "{first:?}");
    // All of it was drawn, up to the last byte.
    let end = &g.memory[g.memory.len() - 64..];
    assert!(end.iter().any(|&b| b != 0));
    assert!(g.memory[..DATA as usize].iter().all(|&b| b == 0));
}

#[test]
fn polling_a_million_files_gives_way_and_ends() {
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "x").unwrap();
    let mut g = Guest::new(dir.path());
    let file = g.open(ROOT, "f", 0, READ, 0).unwrap();
    const COUNT: u32 = 1 << 20;
    let events = DATA + 48 * COUNT;
    g.memory.resize((events + 32 * COUNT) as usize, 0);
    for n in 0..COUNT {
        let at = (DATA + 48 * n) as usize;
        g.memory[at + 8] = 1;
        g.memory[at + 16..at + 20].copy_from_slice(&(file as u32).to_le_bytes());
    }
    let args = [DATA.into(), events.into(), COUNT.into(), OUT.into()];
    let (undone, first) = until_done(&mut g, "poll_oneoff", &args);
    assert!(undone > 0, "two million calls of the host take longer than 10 ms");
    assert!(first < Duration::from_millis(500), "{first:?}");
    assert_eq!(g.u32(OUT), COUNT);
}
