//! `DUNLIN_CHECK_WRITES=N`: at every Nth migration point, what the system tells of the program's writes is compared
//! with all of its memories; a page that has changed unseen ends the process. With `DUNLIN_CHECK_WRITES=N:unheard`
//! nothing of what it tells is heard: then a program that writes must end so.

use crate::engine::running::Running;
use crate::instance::memory::{Memory, WASM_PAGE};
use crate::moving::tracking::Tracking;
use crate::os::messages::complain;
use std::hash::{DefaultHasher, Hasher};

/// The environment variable that turns it on.
const VARIABLE: &str = "DUNLIN_CHECK_WRITES";

/// Compares, as often as was asked for.
#[derive(Debug)]
pub(crate) struct Writes {
    every: u64,
    unheard: bool,
    passed: u64,
    tracking: Option<Tracking>,
    /// A hash of each page at the last look.
    pages: Vec<Vec<u64>>,
}

impl Writes {
    /// As the environment asks for.
    pub(crate) fn from_env() -> Option<Writes> {
        let value = std::env::var(VARIABLE).ok()?;
        let (every, how) = value.split_once(':').unwrap_or((&value, ""));
        Some(Writes {
            every: every.parse().ok().filter(|&n| n > 0)?,
            unheard: how == "unheard",
            passed: 0,
            tracking: None,
            pages: Vec::new(),
        })
    }

    /// A migration point is passed.
    pub(crate) fn pass(&mut self, running: &Running) {
        self.passed += 1;
        if !self.passed.is_multiple_of(self.every) {
            return;
        }
        let now: Vec<Vec<u64>> = running.instance.memories().map(hashes).collect();
        let told = self.tracking.as_ref().and_then(|tracking| tracking.look(running));
        match told {
            Some(written) => {
                for (memory, (before, now)) in self.pages.iter().zip(&now).enumerate() {
                    let changed = before
                        .iter()
                        .zip(now)
                        .enumerate()
                        .filter(|(_, (before, now))| before != now);
                    let seen = |page: usize| !self.unheard && written[memory][page];
                    if let Some((page, _)) = changed.into_iter().find(|(page, _)| !seen(*page)) {
                        complain(&format!("page {page} of memory {memory} was written to unseen"));
                        std::process::abort();
                    }
                }
            }
            None => {
                self.tracking = Tracking::begin(running);
                // Where it can't be told at all there is nothing to compare.
                if self.tracking.as_ref().and_then(|t| t.look(running)).is_none() {
                    self.tracking = None;
                }
            }
        }
        self.pages = now;
    }
}

fn hashes(memory: &Memory) -> Vec<u64> {
    let hash = |page: &[u8]| {
        let mut hasher = DefaultHasher::new();
        hasher.write(page);
        hasher.finish()
    };
    memory.bytes().chunks_exact(WASM_PAGE as usize).map(hash).collect()
}
