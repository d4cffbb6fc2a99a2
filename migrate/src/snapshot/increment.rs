//! What an incremental snapshot stores, and what it takes from earlier ones.

use super::PAGE_SIZE;
use super::bases::{BaseFile, Bases};
use super::digest::digest;
use super::pages::PageIndex;
use super::read::Snapshot;
use crate::state::files::{ContentHash, Files};
use crate::transfer::MemoryAtRest;
use std::collections::HashMap;

/// The most bases that are written. One more, and the one of which least is used is given up.
const BASES: usize = 8;
/// A base is given up if less than one part in so many of what it stores is still used: it would only take room.
const LEAST_USE: u64 = 4;

/// A page that an earlier snapshot holds.
#[derive(Clone, Copy, Debug)]
struct Known {
    digest: u128,
    crc: u32,
    file: u32,
    at: u64,
}

/// The pages that an earlier snapshot holds or refers to, by memory and page.
#[derive(Clone, Debug, Default)]
pub struct Earlier {
    files: Vec<BaseFile>,
    /// The file (an index of `files`) that stores a chunk of carried contents.
    contents: HashMap<ContentHash, usize>,
    /// Bytes of carried contents that each of them stores.
    sizes: Vec<u64>,
    pages: Vec<Vec<Option<Known>>>,
    /// No base is given up for being little used.
    keeps_all: bool,
}

impl Earlier {
    /// What can be taken from the snapshot in the file `name` and from its bases, which must be attached. `None` if it
    /// was written without digests.
    pub fn of<R>(snapshot: &Snapshot<R>, name: &str) -> Option<Earlier> {
        let digests = snapshot.digests()?;
        let mut files = vec![BaseFile {
            name: name.to_owned(),
            identity: snapshot.identity(),
            pages: snapshot.stored_pages(),
        }];
        files.extend_from_slice(snapshot.bases());
        let mut stored = vec![0u64; files.len()];
        let mut contents = HashMap::new();
        let own = snapshot.stored_contents().map(|(chunk, _)| (0, chunk));
        for (file, chunk) in own.chain(snapshot.base_contents().map(|(nth, chunk, _)| (nth + 1, chunk))) {
            stored[file] = stored[file].saturating_add(chunk.len);
            contents.entry(chunk.hash).or_insert(file);
        }
        let sizes = snapshot.state().memories.iter().map(|m| m.pages);
        // A memory's size is only a number in the file: room is made for pages that are there.
        let mut pages: Vec<Vec<Option<Known>>> = sizes.map(|_| Vec::new()).collect();
        let mut digests = digests.iter();
        for run in snapshot.runs() {
            let memory = pages.get_mut(run.memory as usize)?;
            for (n, (&crc, &digest)) in run.crcs.iter().zip(&mut digests).enumerate() {
                let page = usize::try_from(run.first).ok()? + n;
                if memory.len() <= page {
                    memory.resize(page + 1, None);
                }
                memory[page] = Some(Known {
                    digest,
                    crc,
                    file: run.file,
                    at: run.at + n as u64,
                });
            }
        }
        Some(Earlier {
            files,
            contents,
            sizes: stored,
            pages,
            keeps_all: false,
        })
    }

    /// Takes pages from every earlier file, however little of one is used: what is stored already is not stored again,
    /// and what is unchanged never read. For files that all go away soon, and of which there are no more than a
    /// snapshot can name: with more it can't be read.
    pub fn keeping_all(self) -> Earlier {
        Earlier {
            keeps_all: true,
            ..self
        }
    }

    /// The first page that is said to be unchanged and isn't: memory and number. Reads all of them, for tests.
    pub fn contradicted(&self, memories: &[MemoryAtRest<'_>]) -> Option<(usize, u64)> {
        let changed = |(nth, memory): (usize, &MemoryAtRest<'_>)| {
            let unchanged = memory.unchanged.as_deref().unwrap_or_default();
            let pages = memory.bytes.chunks_exact(PAGE_SIZE).zip(unchanged).enumerate();
            let differs = |n: usize, bytes: &[u8]| match self.get(nth, n) {
                Some(known) => known.digest != digest(bytes),
                None => bytes.iter().any(|&b| b != 0),
            };
            let mut wrong = pages.filter(|(n, (bytes, same))| **same && differs(*n, bytes));
            wrong.next().map(|(n, _)| (nth, n as u64))
        };
        memories.iter().enumerate().find_map(changed)
    }

    /// Whether a chunk of carried contents is stored already.
    pub fn has_content(&self, hash: &ContentHash) -> bool {
        self.contents.contains_key(hash)
    }

    fn get(&self, memory: usize, page: usize) -> Option<&Known> {
        self.pages.get(memory)?.get(page)?.as_ref()
    }
}

/// A page that isn't zero.
#[derive(Clone, Copy, Debug)]
struct Found {
    memory: u32,
    page: u64,
    digest: u128,
    earlier: Option<Known>,
}

/// The pages and digests that go into a snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub index: PageIndex,
    pub bases: Bases,
    /// Of the stored pages, then of those in bases.
    pub digests: Vec<u128>,
}

impl Plan {
    /// Compares the memories and carried contents with what earlier snapshots hold; chunks that are taken from there
    /// are no longer `stored`.
    pub(super) fn new(memories: &[MemoryAtRest<'_>], earlier: &Earlier, files: &mut Files) -> Plan {
        let mut found = Vec::new();
        for (memory, at_rest) in (0..).zip(memories) {
            let unchanged = at_rest.unchanged.as_deref().unwrap_or_default();
            let mut pages = at_rest.pages_but(unchanged).peekable();
            let mut read = |until: u64, found: &mut Vec<Found>| {
                while let Some((page, bytes)) = pages.next_if(|(page, _)| *page < until) {
                    let digest = digest(bytes);
                    let same = earlier
                        .get(memory as usize, page as usize)
                        .filter(|k| k.digest == digest);
                    found.push(Found {
                        memory,
                        page,
                        digest,
                        earlier: same.copied(),
                    });
                }
            };
            // One that hasn't changed and that no file holds is zero.
            let same = (0..).zip(unchanged).take(at_rest.bytes.len() / PAGE_SIZE);
            for (page, _) in same.filter(|(_, same)| **same) {
                read(page, &mut found);
                if let Some(&known) = earlier.get(memory as usize, page as usize) {
                    found.push(Found {
                        memory,
                        page,
                        digest: known.digest,
                        earlier: Some(known),
                    });
                }
            }
            read(u64::MAX, &mut found);
        }
        let mut uses = vec![0u64; earlier.files.len()];
        for known in found.iter().filter_map(|f| f.earlier) {
            uses[known.file as usize] += PAGE_SIZE as u64;
        }
        for chunk in &files.chunks {
            if let Some(&file) = earlier.contents.get(&chunk.hash) {
                uses[file] = uses[file].saturating_add(chunk.len);
            }
        }
        let numbers = numbers(earlier, &uses);
        for chunk in &mut files.chunks {
            let file = earlier.contents.get(&chunk.hash);
            chunk.stored = file.is_none_or(|&file| numbers[file].is_none());
        }
        let mut plan = Plan {
            index: PageIndex::of(memories.len() as u32),
            ..Plan::default()
        };
        let used = earlier.files.iter().zip(&numbers).filter(|(_, n)| n.is_some());
        plan.bases.files = used.map(|(f, _)| f.clone()).collect();
        let mut taken = Vec::new();
        for f in &found {
            let place = f.earlier.and_then(|k| Some((k, (*numbers.get(k.file as usize)?)?)));
            match place {
                Some((known, number)) => {
                    plan.bases.push(f.memory, f.page, number, known.at, known.crc);
                    taken.push(f.digest);
                }
                None => {
                    let start = f.page as usize * PAGE_SIZE;
                    let bytes = &memories[f.memory as usize].bytes[start..start + PAGE_SIZE];
                    plan.index.push(f.memory, f.page, crc32fast::hash(bytes));
                    plan.digests.push(f.digest);
                }
            }
        }
        plan.digests.append(&mut taken);
        plan
    }
}

/// The new number of each file that remains a base. `uses`: how many bytes of each are still used.
fn numbers(earlier: &Earlier, uses: &[u64]) -> Vec<Option<u32>> {
    let files = &earlier.files;
    let size = |n: usize| {
        files[n]
            .pages
            .saturating_mul(PAGE_SIZE as u64)
            .saturating_add(earlier.sizes[n])
    };
    let worth = |&n: &usize| uses[n] > 0 && (earlier.keeps_all || uses[n].saturating_mul(LEAST_USE) >= size(n));
    let mut kept: Vec<usize> = (0..files.len()).filter(worth).collect();
    kept.sort_by_key(|&n| std::cmp::Reverse(uses[n]));
    if !earlier.keeps_all {
        kept.truncate(BASES);
    }
    kept.sort_unstable();
    let mut numbers = vec![None; files.len()];
    for (number, file) in (0..).zip(kept) {
        numbers[file] = Some(number);
    }
    numbers
}
