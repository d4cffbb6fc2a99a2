//! Random changes through the program's calls, with an undo journal; then what going back restores, killed at any
//! moment.

use super::{Tree, begin, places, populate, rollback, same, tree};
use crate::guest::*;
use dunlin_runtime::moving::rollback::From;
use dunlin_runtime::os::fork::fork;
use rustix::process::{Signal, kill_process};
use std::fs;
use std::path::Path;
use std::time::Duration;

struct Random(u64);

impl Random {
    fn next(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

fn path(r: &mut Random) -> String {
    let names = ["a", "b", "c", "d"];
    let mut name = |n: u64| names[r.next(n) as usize];
    let (first, second) = (name(4), name(3));
    match r.next(3) {
        0 => first.to_owned(),
        1 => format!("d/{second}"),
        _ => format!("c/{first}"),
    }
}

/// One random change. What the host refuses is refused, and changes nothing.
fn change(g: &mut Guest, r: &mut Random, open: &mut Vec<u64>) {
    let (p, q) = (path(r), path(r));
    match r.next(19) {
        0..=3 => {
            let oflags = [CREAT, CREAT | TRUNC, CREAT | EXCL, 0, TRUNC][r.next(5) as usize];
            let flags = if r.next(4) == 0 { APPEND } else { 0 };
            if let Ok(fd) = g.open(ROOT, &p, oflags, READ | WRITE, flags) {
                open.push(fd);
            }
        }
        4..=8 if !open.is_empty() => {
            let fd = open[r.next(open.len() as u64) as usize];
            if r.next(2) == 0 {
                let _ = g.seek(fd, r.next(40_000) as i64, 0);
            }
            let len = 1 + r.next(9000) as usize;
            let _ = g.write(fd, &vec![r.next(4) as u8; len]);
        }
        9 if !open.is_empty() => {
            let fd = open[r.next(open.len() as u64) as usize];
            g.call("fd_filestat_set_size", &[fd, r.next(50_000)]);
        }
        10 if !open.is_empty() => {
            let fd = open[r.next(open.len() as u64) as usize];
            g.call("fd_allocate", &[fd, r.next(9000), 1 + r.next(9000)]);
        }
        11 if open.len() > 3 => {
            let fd = open.swap_remove(r.next(open.len() as u64) as usize);
            g.call("fd_close", &[fd]);
        }
        12 => drop(g.path_call("path_unlink_file", ROOT, &p)),
        13 => drop(g.path_call("path_create_directory", ROOT, &p)),
        14 => drop(g.path_call("path_remove_directory", ROOT, &p)),
        15 => {
            let ([a, b], [c, d]) = (g.string(PATH, &p), g.string(PATH2, &q));
            g.call("path_rename", &[ROOT, a, b, ROOT, c, d]);
        }
        16 => {
            let ([a, b], [c, d]) = (g.string(PATH, &p), g.string(PATH2, &q));
            g.call("path_link", &[ROOT, 0, a, b, ROOT, c, d]);
        }
        17 => {
            let ([a, b], [c, d]) = (
                g.string(PATH, ["b", "a", "nowhere"][r.next(3) as usize]),
                g.string(PATH2, &q),
            );
            g.call("path_symlink", &[a, b, ROOT, c, d]);
        }
        _ => {
            let [a, b] = g.string(PATH, &p);
            g.call(
                "path_filestat_set_times",
                &[ROOT, r.next(2), a, b, 0, r.next(1 << 40) * 1000, 4],
            );
        }
    }
}

/// Runs a random program for a while; returns the trees at its snapshots, beginning with number 0. `oldest`: the first
/// snapshot to which one can go back in the end.
fn random_run(g: &mut Guest, data: &Path, seed: u64, oldest: u64) -> Vec<Tree> {
    let mut r = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut trees, mut open) = (vec![tree(data)], Vec::new());
    for _ in 0..3 {
        for _ in 0..r.next(60) {
            change(g, &mut r, &mut open);
        }
        let number = trees.len() as u64;
        let journal = g.wasi.journal().unwrap();
        journal.next(number).unwrap();
        journal.prune(number.min(oldest)).unwrap();
        trees.push(tree(data));
    }
    for _ in 0..r.next(60) {
        change(g, &mut r, &mut open);
    }
    trees
}

/// So many seeds, others each time; `DUNLIN_SEED` begins where it says, and `DUNLIN_SEEDS` takes more.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let now = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs())
    };
    let first = number("DUNLIN_SEED").unwrap_or_else(|| now() * 1000);
    first..first + number("DUNLIN_SEEDS").unwrap_or(count)
}

#[test]
fn everything_goes_back_to_any_snapshot() {
    for seed in seeds(100) {
        let (data, saves) = places(seed % 4 == 3);
        let (data, saves) = (data.path(), saves.path());
        populate(data);
        let way = rollback(saves, seed % 40 == 0);
        let mut g = begin(&way, data);
        let trees = random_run(&mut g, data, seed, if seed % 3 == 0 { seed % 4 } else { 0 });
        drop(g);
        let number = seed % 4;
        let from = if number == 0 {
            From::Beginning
        } else {
            From::Own(number)
        };
        let (lineage, told, _) = way
            .go_back(from, &config(&[(data, "/")]))
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(told.is_empty(), "seed {seed}: {told:?}");
        assert_eq!(lineage.number, number);
        same(&trees[number as usize], &tree(data), &format!("seed {seed}"));
        let own = format!("{number:010}");
        let mut left: Vec<_> = fs::read_dir(saves)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.retain(|name| *name >= own);
        assert_eq!(left, [own + ".undo"], "seed {seed}");
    }
}

#[test]
fn going_back_may_be_killed_at_any_moment() {
    let mut kills = 0;
    for seed in seeds(30) {
        let (data, saves) = places(seed % 4 == 3);
        let (data, saves) = (data.path(), saves.path());
        populate(data);
        let way = rollback(saves, false);
        let mut g = begin(&way, data);
        let trees = random_run(&mut g, data, seed, seed % 2);
        drop(g);
        let mut r = Random(seed);
        let back = || way.go_back(From::Own(1), &config(&[(data, "/")]));
        for _ in 0..6 {
            let mut child = fork(false, || match back() {
                Ok((_, told, _)) => told.join("; ").into_bytes(),
                Err(e) => e.to_string().into_bytes(),
            })
            .unwrap();
            std::thread::sleep(Duration::from_micros(100 + r.next(2500)));
            let _ = kill_process(child.pid(), Signal::KILL);
            let said = child.result().unwrap();
            assert!(said.is_empty(), "seed {seed}: {}", String::from_utf8_lossy(&said));
            kills += u32::from(child.reap().is_err());
        }
        let (_, told, _) = back().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(told.is_empty(), "seed {seed}: {told:?}");
        let (mut was, mut is) = (trees[1].clone(), tree(data));
        if seed % 4 == 3 {
            was.values_mut().chain(is.values_mut()).for_each(|v| v.3.clear());
        }
        same(&was, &is, &format!("seed {seed}"));
    }
    assert!(kills > 20, "only {kills} were killed in time");
}
