//! Functions with more variables than SSA form can hold: which of them reside in memory instead.
//!
//! A variable costs a block parameter, and an argument on every edge, wherever paths meet while it is alive. Few are
//! alive at once in ordinary functions, however long they are; but thousands of them times thousands of branches would
//! keep the front end and the register allocator busy for minutes. In such a function, the variables that are used
//! least for what they cost are *in memory*: every read loads them, every write stores them, and nothing is to be done
//! where paths meet. The same holds for variables that are alive at once in straight code, if they are so many that
//! nearly all of them are in memory anyway. They are in their homes if they have one; those that live across no
//! migration point are in a stack slot that no snapshot knows.
//!
//! For [`super::merge_states`], what is in memory is never in a register and always clean. Points, homes and live sets
//! don't depend on it.

use super::merge_states::MergeStates;
use crate::limits::{
    CHANGED_COST, LARGE_MERGE_PART, LOOPS_PER_CHANGED_COST, MAX_CHEAP_TARGETS, MAX_COST_PER_EDGE, MAX_FREE_COST,
    MAX_LIVENESS_BITS, MAX_SAMPLED_PAIRS, MAX_SSA_ENTRIES, MAX_VARIABLE_COST,
};
use crate::uniform::bitset::{BitTable, Bits, members};
use crate::uniform::liveness::most_alive;
use crate::uniform::record::Record;
use crate::uniform::scan::{Block, Event, Scan};
use crate::uniform::{BlockId, CTX, Var};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;

/// The variables of a function that are in memory all the time.
#[derive(Debug, Default)]
pub(crate) struct MemoryResidents {
    /// The variables; no words at all if there are none.
    set: Bits,
    /// Byte offsets in the stack slot, of those without a home.
    offsets: FxHashMap<Var, u32>,
    /// Bytes of the stack slot; 0 if there is none.
    pub size: u32,
}

impl MemoryResidents {
    /// Whether a variable is in memory.
    pub(crate) fn has(&self, v: Var) -> bool {
        !self.is_empty() && self.set.has(v)
    }

    /// Whether all variables are in registers or in the record, as in ordinary functions.
    pub(crate) fn is_empty(&self) -> bool {
        self.set.words().is_empty()
    }

    /// The words of the set; none if it is empty.
    pub(crate) fn words(&self) -> &[u64] {
        self.set.words()
    }

    /// Byte offset in the stack slot of a variable without a home; none for all others.
    pub(crate) fn offset(&self, v: Var) -> Option<u32> {
        self.offsets.get(&v).copied()
    }

    /// The variables of `set`; those without a home get a place in the stack slot.
    fn new(s: &Scan, record: &Record, set: Bits) -> MemoryResidents {
        let mut list: Vec<Var> = members(set.words()).filter(|&v| record.home(v).is_none()).collect();
        let size = |v: Var| s.vars[v as usize].ty.size();
        // The largest first, so that all are aligned.
        list.sort_by_key(|&v| (Reverse(size(v)), v));
        let mut at = 0;
        let mut offsets = FxHashMap::default();
        for v in list {
            offsets.insert(v, at);
            at += size(v);
        }
        MemoryResidents {
            set,
            offsets,
            size: at.next_multiple_of(16),
        }
    }
}

/// Whether a function without migration points might have too many variables: only then must be found out what is live
/// in it.
pub(crate) fn possible(s: &Scan, max_alive: usize) -> bool {
    let weights: u64 = merges(s, &from_tables(s)).map(|m| m.weight).sum();
    too_much(edges(s), weights * s.vars.len() as u64 * (CHANGED_COST + 1))
        || too_many_blocks(s)
        || s.vars.len() > max_alive
}

/// Whether a table over blocks and variables is too large to be made.
pub(crate) fn too_large(s: &Scan) -> bool {
    s.blocks.len() as u64 * s.vars.len() as u64 > MAX_LIVENESS_BITS
}

/// All variables but the context pointer.
pub(crate) fn everything(s: &Scan, record: &Record) -> MemoryResidents {
    let mut all = Bits::empty(s.vars.len());
    (0..s.vars.len() as Var).filter(|&v| v != CTX).for_each(|v| all.add(v));
    MemoryResidents::new(s, record, all)
}

/// Chooses the variables that are to be in memory. At a merge all that is live counts, or of that what is in registers
/// there. `max_alive` is [`crate::Settings::max_alive`].
pub(crate) fn choose(
    s: &Scan,
    live_in: &BitTable,
    states: &MergeStates,
    record: &Record,
    max_alive: usize,
) -> MemoryResidents {
    let held = |b: BlockId| {
        let reg = states.at.get(&b).map(|st| st.reg.words());
        let live = live_in.row(b).iter().enumerate();
        live.map(move |(k, &live)| live & reg.map_or(!0, |reg| reg[k]))
    };
    let count = |b: BlockId| held(b).map(|w| u64::from(w.count_ones())).sum::<u64>();
    let tables = from_tables(s);
    let arguments: u64 = merges(s, &tables).map(|m| m.weight * count(m.block)).sum();
    let too_many_alive = too_many_alive(s, live_in, max_alive);
    let too_many = too_many_blocks(s) || too_many_alive;
    if !too_much(edges(s), arguments * (CHANGED_COST + 1)) && !too_many {
        return MemoryResidents::default();
    }
    // Whether it is too much depends on what is held in registers; but what could be held instead counts when variables
    // are chosen.
    let (mut costs, mut cost) = (0, vec![0u64; s.vars.len()]);
    let mut looked_at = 0;
    let held_by_all: u64 = merges(s, &tables).map(|m| count(m.block)).sum();
    let (step, mut at) = (held_by_all / MAX_SAMPLED_PAIRS + 1, 0);
    each_merge(s, &tables, |m, loops, assigned| {
        let Merge {
            block: b,
            edges,
            weight,
        } = m;
        let changed_cost = CHANGED_COST * (loops / LOOPS_PER_CHANGED_COST + 1);
        let changed = held(b)
            .zip(assigned.words())
            .map(|(h, a)| u64::from((h & a).count_ones()))
            .sum::<u64>();
        let held = count(b);
        costs += weight * (held + changed_cost * changed);
        at += 1;
        if at % step == 0 || weight * held > arguments / LARGE_MERGE_PART {
            // What they may cost altogether doesn't grow with their weight.
            looked_at += edges;
            members(live_in.row(b))
                .for_each(|v| cost[v as usize] += weight * if assigned.has(v) { changed_cost + 1 } else { 1 });
        }
    });
    if !too_much(edges(s), costs) && !too_many {
        return MemoryResidents::default();
    }
    let uses = uses(s);
    let mut order: Vec<Var> = (0..s.vars.len() as Var).filter(|&v| v != CTX).collect();
    // Those that are worth most first.
    order.sort_by_key(|&v| (Reverse((uses[v as usize] << 20) / (cost[v as usize] + 1)), v));
    let mut left = looked_at * MAX_COST_PER_EDGE;
    let mut room = MAX_SSA_ENTRIES / s.blocks.len() as u64;
    if too_many_alive {
        room = room.min(max_alive as u64 / 2);
    }
    let mut set = Bits::empty(s.vars.len());
    for v in order {
        let cost = cost[v as usize];
        if room > 0 && cost <= left && cost * step <= MAX_VARIABLE_COST {
            left -= cost;
            room -= 1;
        } else {
            set.add(v);
        }
    }
    MemoryResidents::new(s, record, set)
}

/// Whether variables at merges cost so much that the function needs variables in memory.
fn too_much(edges: u64, cost: u64) -> bool {
    cost > edges * MAX_COST_PER_EDGE + MAX_FREE_COST
}

/// Whether blocks times variables are more than the front end has room for.
fn too_many_blocks(s: &Scan) -> bool {
    s.blocks.len() as u64 * s.vars.len() as u64 > MAX_SSA_ENTRIES
}

/// Whether more than `max_alive` variables are alive at once somewhere.
fn too_many_alive(s: &Scan, live_in: &BitTable, max_alive: usize) -> bool {
    s.vars.len() > max_alive && most_alive(s, live_in) > max_alive
}

/// A block where paths meet: a merge or a loop's header.
#[derive(Clone, Copy)]
struct Merge {
    block: BlockId,
    /// Number of edges to it.
    edges: u64,
    /// Number of ordinary edges that they cost as much as.
    weight: u64,
}

/// Visits all merges, with the number of loops around each and the variables that are written within the construct:
/// only those can have several values.
fn each_merge(s: &Scan, tables: &FxHashMap<BlockId, u64>, mut what: impl FnMut(Merge, u64, &Bits)) {
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

/// The blocks where paths meet. `tables` is what [`from_tables`] found.
fn merges<'a>(s: &'a Scan<'_>, tables: &'a FxHashMap<BlockId, u64>) -> impl Iterator<Item = Merge> + 'a {
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

/// Number of edges to all merges.
fn edges(s: &Scan) -> u64 {
    merges(s, &FxHashMap::default()).map(|m| m.edges).sum()
}

/// Additional weight of each block that is a target of a `br_table` with more than [`MAX_CHEAP_TARGETS`].
fn from_tables(s: &Scan) -> FxHashMap<BlockId, u64> {
    let mut more = FxHashMap::default();
    for b in &s.blocks {
        if b.succs.len() > MAX_CHEAP_TARGETS {
            let each = (b.succs.len() / MAX_CHEAP_TARGETS) as u64;
            b.succs.iter().for_each(|&t| *more.entry(t).or_default() += each);
        }
    }
    more
}

/// How often each variable is read and written, if every loop goes round eight times (and no more than five nest).
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
