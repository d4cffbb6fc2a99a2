//! An exhaustive search, and what can be reached again from everywhere in it.
//!
//! `stateright` was looked at and not taken: its `eventually` overlooks whatever ends in a cycle (its documentation
//! says so), and that the network and the contacts make cycles is the whole point here; it has no way to say *from
//! every state there is a way to*; and it brings a web server, `rand`, `dashmap` and what they need.

use super::steps::{self, Step};
use super::world::{Bounds, World};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{Hash, Hasher};
use xxhash_rust::xxh3::xxh3_128;

/// What a search found.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Different worlds.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// Of the longest shortest way to one.
    pub depth: usize,
    /// A broken promise, and the steps to it.
    pub broken: Option<(&'static str, Vec<Step>)>,
    /// How many states each of the sights was seen in.
    pub sights: Vec<usize>,
}

/// All that is hashed, in a row.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn finish(&self) -> u64 {
        unreachable!("only what was written is looked at")
    }
}

/// A name for a world: 128 bits, so that with 10^8 worlds the odds of taking two for one are 10^-23.
fn name(world: &World) -> u128 {
    let mut bytes = Bytes(Vec::with_capacity(2048));
    world.hash(&mut bytes);
    xxh3_128(&bytes.0)
}

/// Searches all that is reachable within the bounds, up to the first broken promise.
pub(super) fn search(bounds: &Bounds, sights: &[fn(&World) -> bool], most: usize) -> Outcome {
    let start = World::new(bounds);
    let mut known: HashMap<u128, u32> = HashMap::from([(name(&start), 0)]);
    let mut parents: Vec<u32> = vec![0];
    let mut names = vec![name(&start)];
    // Fair steps, backwards.
    let mut fair: Vec<(u32, u32)> = vec![];
    let mut resolved: Vec<u32> = vec![];
    let mut outcome = Outcome {
        states: 0,
        steps: 0,
        depth: 0,
        broken: None,
        sights: vec![0; sights.len()],
    };
    let mut level = vec![(0, start)];
    while !level.is_empty() {
        let mut next_level = vec![];
        for (number, world) in level {
            if let Some(what) = world.violation() {
                outcome.broken = Some((what, way(bounds, &parents, &names, number)));
                outcome.states = parents.len();
                return outcome;
            }
            if world.is_resolved() {
                resolved.push(number);
            }
            for (count, sight) in outcome.sights.iter_mut().zip(sights) {
                *count += usize::from(sight(&world));
            }
            steps::each(&world, bounds, &mut |step, next| {
                outcome.steps += 1;
                let next_name = name(&next);
                let next_number = match known.entry(next_name) {
                    Entry::Occupied(entry) => *entry.get(),
                    Entry::Vacant(entry) => {
                        let new = parents.len() as u32;
                        entry.insert(new);
                        parents.push(number);
                        names.push(next_name);
                        next_level.push((new, next));
                        new
                    }
                };
                if step.is_fair(bounds) {
                    fair.push((next_number, number));
                }
            });
        }
        outcome.depth += usize::from(!next_level.is_empty());
        level = next_level;
        assert!(parents.len() <= most, "more than {most} states with {bounds:?}");
    }
    outcome.states = parents.len();
    if let Some(stuck) = unresolved(parents.len(), &mut fair, resolved) {
        outcome.broken = Some(("never resolved", way(bounds, &parents, &names, stuck)));
    }
    outcome
}

/// The first state from which no fair steps lead to a resolved one.
fn unresolved(states: usize, fair: &mut [(u32, u32)], resolved: Vec<u32>) -> Option<u32> {
    fair.sort_unstable();
    let mut good = vec![false; states];
    let mut pending = resolved;
    pending.iter().for_each(|&r| good[r as usize] = true);
    while let Some(to) = pending.pop() {
        let first = fair.partition_point(|&(t, _)| t < to);
        for &(_, from) in fair[first..].iter().take_while(|&&(t, _)| t == to) {
            if !std::mem::replace(&mut good[from as usize], true) {
                pending.push(from);
            }
        }
    }
    good.iter().position(|&g| !g).map(|at| at as u32)
}

/// The steps to a state.
fn way(bounds: &Bounds, parents: &[u32], names: &[u128], to: u32) -> Vec<Step> {
    let mut numbers = vec![to];
    while numbers.last() != Some(&0) {
        numbers.push(parents[numbers[numbers.len() - 1] as usize]);
    }
    let mut world = World::new(bounds);
    let mut way = vec![];
    for &number in numbers.iter().rev().skip(1) {
        let mut taken = None;
        steps::each(&world, bounds, &mut |step, next| {
            if taken.is_none() && name(&next) == names[number as usize] {
                taken = Some((step, next));
            }
        });
        let (step, next) = taken.expect("the way was gone before");
        way.push(step);
        world = next;
    }
    way
}
