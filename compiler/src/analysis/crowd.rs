//! Functions with more variables alive at once than SSA form can hold: which of them are in memory instead.
//!
//! A variable costs a block parameter, and an argument on every edge, wherever paths meet while it is alive. Few are
//! alive at once in ordinary functions, however long they are; but thousands of them times thousands of branches would
//! keep the front end and the register allocator busy for minutes. In such a function, the variables that are used
//! least for what they cost are *in memory*: every read loads them, every write stores them, and nothing is to be done
//! where paths meet. The same holds for variables that are alive at once in straight code, if they are so many that
//! nearly all of them are in memory anyway. They are in their homes if they have one; those that live across no
//! migration point are in a stack slot that no snapshot knows.
//!
//! For the policy, what is in memory is never in a register and always clean. Points, homes and live sets don't depend
//! on it.

use super::bits::{BitTable, Bits, members};
use super::liveness::most_alive;
use super::policy::Policy;
use super::record::Record;
use super::scan::Scan;
use super::{Block, BlockId, CTX, Event, Var};
use crate::hash::HashMap;
use std::cmp::Reverse;

/// What a variable costs per edge to a merge at which it has several values, to one that only passes by.
const CHANGED: u64 = 32;
/// Loops around a merge beyond which it costs as much more as there are more of them.
const MANY_LOOPS: u64 = 16;
/// Merges that a `br_table` goes to beyond which an edge from it costs as much more as there are more of them: the
/// register allocator joins the range of a value with those of the parameters it becomes one by one, each time going
/// through all it has joined.
const MANY_TARGETS: usize = 512;
/// Costs per edge, on average, that are not too much.
const MANY_PER_EDGE: u64 = 512;
/// Costs beyond that which any function may have.
const MANY: u64 = 4_000_000;
/// What one variable may cost: the register allocator's time grows with the square of it.
const MANY_FOR_ONE: u64 = 2048 * CHANGED;
/// Blocks times variables that the front end has room for: it keeps a table of what each variable is in each block.
const MANY_IN_BLOCKS: u64 = 1 << 25;
/// Variables at merges that are looked at to tell which cost most. Of larger functions, it is a sample ...
const SAMPLE: u64 = 1 << 26;
/// ... and every merge that has more than this part of all arguments.
const LARGE_PART: u64 = 64;
/// Bits of a table that is worth making to find that out.
const MAX_TABLE: u64 = 1 << 32;

/// The variables of a function that are in memory all the time.
#[derive(Debug, Default)]
pub struct InMemory {
    /// Which they are; no words at all if there are none.
    set: Bits,
    /// Where those without a home are in the stack slot.
    offsets: HashMap<Var, u32>,
    /// Size of the stack slot.
    pub size: u32,
}

impl InMemory {
    /// Is a variable in memory?
    pub fn has(&self, v: Var) -> bool {
        !self.is_empty() && self.set.has(v)
    }

    /// Is none of them?
    pub fn is_empty(&self) -> bool {
        self.set.words().is_empty()
    }

    /// The words of the set; none if it is empty.
    pub fn words(&self) -> &[u64] {
        self.set.words()
    }

    /// Where a variable without a home is in the stack slot.
    pub fn offset(&self, v: Var) -> Option<u32> {
        self.offsets.get(&v).copied()
    }

    /// Gives places to those that have no homes.
    fn new(s: &Scan, record: &Record, set: Bits) -> InMemory {
        let mut list: Vec<Var> = members(set.words()).filter(|&v| record.home(v).is_none()).collect();
        let size = |v: Var| s.vars[v as usize].ty.size();
        // The largest first, so that all are aligned.
        list.sort_by_key(|&v| (Reverse(size(v)), v));
        let mut at = 0;
        let mut offsets = HashMap::default();
        for v in list {
            offsets.insert(v, at);
            at += size(v);
        }
        InMemory {
            set,
            offsets,
            size: at.next_multiple_of(16),
        }
    }
}

/// Might a function without migration points have too many? Only then must be found out what is live in it.
pub fn possible(s: &Scan, max_alive: usize) -> bool {
    let weights: u64 = merges(s, &from_tables(s)).map(|m| m.weight).sum();
    too_much(edges(s), weights * s.vars.len() as u64 * (CHANGED + 1)) || too_many_blocks(s) || s.vars.len() > max_alive
}

/// Is a table over blocks and variables too large to be made?
pub fn too_large(s: &Scan) -> bool {
    s.blocks.len() as u64 * s.vars.len() as u64 > MAX_TABLE
}

/// Puts everything into memory.
pub fn everything(s: &Scan, record: &Record) -> InMemory {
    let mut all = Bits::empty(s.vars.len());
    (0..s.vars.len() as Var).filter(|&v| v != CTX).for_each(|v| all.add(v));
    InMemory::new(s, record, all)
}

/// Chooses. At a merge all that is live counts, or what the policy has in registers there. `max_alive` is
/// [`crate::Settings`]'.
pub fn choose(s: &Scan, live_in: &BitTable, policy: &Policy, record: &Record, max_alive: usize) -> InMemory {
    let held = |b: BlockId| {
        let reg = policy.at.get(&b).map(|st| st.reg.words());
        let live = live_in.row(b).iter().enumerate();
        live.map(move |(k, &live)| live & reg.map_or(!0, |reg| reg[k]))
    };
    let count = |b: BlockId| held(b).map(|w| u64::from(w.count_ones())).sum::<u64>();
    let tables = from_tables(s);
    let arguments: u64 = merges(s, &tables).map(|m| m.weight * count(m.block)).sum();
    let too_many_alive = too_many_alive(s, live_in, max_alive);
    let too_many = too_many_blocks(s) || too_many_alive;
    if !too_much(edges(s), arguments * (CHANGED + 1)) && !too_many {
        return InMemory::default();
    }
    // Whether it is too much depends on what the policy holds; but what it could hold instead counts when variables are
    // chosen.
    let (mut costs, mut cost) = (0, vec![0u64; s.vars.len()]);
    let mut looked_at = 0;
    let held_by_all: u64 = merges(s, &tables).map(|m| count(m.block)).sum();
    let (step, mut at) = (held_by_all / SAMPLE + 1, 0);
    each_merge(s, &tables, |m, loops, assigned| {
        let Merge {
            block: b,
            edges,
            weight,
        } = m;
        let changed_cost = CHANGED * (loops / MANY_LOOPS + 1);
        let changed = held(b)
            .zip(assigned.words())
            .map(|(h, a)| u64::from((h & a).count_ones()))
            .sum::<u64>();
        let held = count(b);
        costs += weight * (held + changed_cost * changed);
        at += 1;
        if at % step == 0 || weight * held > arguments / LARGE_PART {
            // What they may cost altogether doesn't grow with their weight.
            looked_at += edges;
            members(live_in.row(b))
                .for_each(|v| cost[v as usize] += weight * if assigned.has(v) { changed_cost + 1 } else { 1 });
        }
    });
    if !too_much(edges(s), costs) && !too_many {
        return InMemory::default();
    }
    let uses = uses(s);
    let mut order: Vec<Var> = (0..s.vars.len() as Var).filter(|&v| v != CTX).collect();
    // Those that are worth most first.
    order.sort_by_key(|&v| (Reverse((uses[v as usize] << 20) / (cost[v as usize] + 1)), v));
    let mut left = looked_at * MANY_PER_EDGE;
    let mut room = MANY_IN_BLOCKS / s.blocks.len() as u64;
    if too_many_alive {
        room = room.min(max_alive as u64 / 2);
    }
    let mut set = Bits::empty(s.vars.len());
    for v in order {
        let cost = cost[v as usize];
        if room > 0 && cost <= left && cost * step <= MANY_FOR_ONE {
            left -= cost;
            room -= 1;
        } else {
            set.add(v);
        }
    }
    InMemory::new(s, record, set)
}

fn too_much(edges: u64, cost: u64) -> bool {
    cost > edges * MANY_PER_EDGE + MANY
}

fn too_many_blocks(s: &Scan) -> bool {
    s.blocks.len() as u64 * s.vars.len() as u64 > MANY_IN_BLOCKS
}

fn too_many_alive(s: &Scan, live_in: &BitTable, max_alive: usize) -> bool {
    s.vars.len() > max_alive && most_alive(s, live_in) > max_alive
}

/// A block where paths meet.
#[derive(Clone, Copy)]
struct Merge {
    block: BlockId,
    /// How many edges go there.
    edges: u64,
    /// How many they cost as much as.
    weight: u64,
}

/// All merges, with the loops around them and the variables that are written within the construct: only those can have
/// several values.
fn each_merge(s: &Scan, tables: &HashMap<BlockId, u64>, mut what: impl FnMut(Merge, u64, &Bits)) {
    let mut ranges: Vec<(u32, u32, Merge)> = merges(s, tables)
        .map(|m| {
            let block = &s.blocks[m.block as usize];
            let body = block.loop_op.and_then(|op| s.loop_events.get(&op)).cloned();
            let range = body.unwrap_or(block.since..block.events.start);
            (range.start, range.end, m)
        })
        .collect();
    // Outer constructs first among those that start together.
    ranges.sort_by_key(|&(start, end, m)| (start, Reverse(end), Reverse(m.block)));
    let mut open: Vec<(u32, Merge, Bits)> = vec![];
    let is_loop = |b: BlockId| u64::from(s.blocks[b as usize].loop_op.is_some());
    let mut loops = 0;
    let mut next = ranges.into_iter().peekable();
    for at in 0..=s.events.len() as u32 {
        while let Some((_, m, assigned)) = open.pop_if(|&mut (end, ..)| end <= at) {
            what(m, loops, &assigned);
            loops -= is_loop(m.block);
            if let Some((.., outer)) = open.last_mut() {
                outer.union(&assigned);
            }
        }
        while let Some((_, end, m)) = next.next_if(|&(start, ..)| start <= at) {
            loops += is_loop(m.block);
            open.push((end, m, Bits::empty(s.vars.len())));
        }
        if let (Some(Event::Def(v)), Some((.., assigned))) = (s.events.get(at as usize), open.last_mut()) {
            assigned.add(*v);
        }
    }
}

/// Blocks where paths meet.
fn merges<'a>(s: &'a Scan<'_>, tables: &'a HashMap<BlockId, u64>) -> impl Iterator<Item = Merge> + 'a {
    let meet = |b: &Block| b.preds > 1 || b.loop_op.is_some();
    (0..)
        .zip(&s.blocks)
        .filter(move |(_, b)| meet(b))
        .map(|(block, b)| Merge {
            block,
            edges: u64::from(b.preds),
            weight: u64::from(b.preds) + tables.get(&block).copied().unwrap_or(0),
        })
}

fn edges(s: &Scan) -> u64 {
    merges(s, &HashMap::default()).map(|m| m.edges).sum()
}

/// How much more the edges to each block cost that come from a `br_table` with many targets.
fn from_tables(s: &Scan) -> HashMap<BlockId, u64> {
    let mut more = HashMap::default();
    for b in &s.blocks {
        if b.succs.len() > MANY_TARGETS {
            let each = (b.succs.len() / MANY_TARGETS) as u64;
            b.succs.iter().for_each(|&t| *more.entry(t).or_default() += each);
        }
    }
    more
}

/// How often each variable is read and written, if every loop goes round eight times.
fn uses(s: &Scan) -> Vec<u64> {
    let mut deeper = vec![0i32; s.events.len() + 1];
    for r in s.loop_events.values() {
        deeper[r.start as usize] += 1;
        deeper[r.end as usize] -= 1;
    }
    let mut uses = vec![0u64; s.vars.len()];
    let mut depth = 0;
    for (e, deeper) in s.events.iter().zip(deeper) {
        depth += deeper;
        if let Event::Use(v) | Event::Def(v) = *e {
            uses[v as usize] += 1 << (3 * depth.clamp(0, 5));
        }
    }
    uses
}
