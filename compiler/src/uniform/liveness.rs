//! Liveness of variables at blocks and migration points, and which of them are *anticipated*: read on every path before
//! the next call. Both are backward dataflow problems over the blocks of the scan.

use super::bitset::{BitTable, has, members};
use super::scan::{Event, Scan};
use super::{BlockId, NONE, Var};
use dunlin_format::framemap::LiveSets;
use std::collections::BinaryHeap;
use std::ops::Range;

/// Live-in sets of all blocks.
pub(crate) fn live_in(s: &Scan) -> BitTable {
    let table = BitTable::new(s.blocks.len(), s.vars.len(), 0);
    solve(s, table, |table, b, row| {
        live_out(s, table, b, row);
        events(s, b).iter().rev().for_each(|e| step(e, row));
    })
}

/// Anticipated-in sets of all blocks.
pub(crate) fn anticipated_in(s: &Scan) -> BitTable {
    let table = BitTable::new(s.blocks.len(), s.vars.len(), !0);
    solve(s, table, |table, b, row| {
        let succs = &s.blocks[b as usize].succs;
        // Where the function ends, nothing is read any more.
        row.fill(if succs.is_empty() { 0 } else { !0 });
        for &t in succs {
            row.iter_mut().zip(table.row(t)).for_each(|(a, b)| *a &= b);
        }
        for e in events(s, b).iter().rev() {
            match *e {
                Event::Call(_) => row.fill(0),
                e => step(&e, row),
            }
        }
    })
}

/// Computes the row of every block with `transfer` until none changes any more. A block is looked at again only if one
/// of its successors has changed, last blocks first: structured control is settled by the first sweep but for loops.
fn solve(s: &Scan, mut table: BitTable, transfer: impl Fn(&BitTable, BlockId, &mut [u64])) -> BitTable {
    let mut row = vec![0u64; table.width()];
    let mut queue = BinaryHeap::new();
    let mut visit = |b: BlockId| {
        transfer(&table, b, &mut row);
        let changed = table.row(b) != &row[..];
        if changed {
            table.row_mut(b).copy_from_slice(&row);
        }
        changed
    };
    let mut loops = false;
    for (at, &b) in s.order.iter().enumerate().rev() {
        if visit(b) && s.blocks[b as usize].loop_op.is_some() {
            loops = true;
            queue.push(at as u32);
        }
    }
    if !loops {
        return table;
    }
    // What is in the queue has changed since its predecessors were looked at.
    let (position, preds) = (positions(s), Preds::new(s));
    let mut waiting = vec![false; s.order.len()];
    while let Some(at) = queue.pop() {
        waiting[at as usize] = false;
        for &p in preds.of(s.order[at as usize]) {
            let at = position[p as usize];
            if at != NONE && visit(p) && !std::mem::replace(&mut waiting[at as usize], true) {
                queue.push(at);
            }
        }
    }
    table
}

/// Each block's position in code order; [`NONE`] for those that nothing reaches.
fn positions(s: &Scan) -> Vec<u32> {
    let mut position = vec![NONE; s.blocks.len()];
    (0..).zip(&s.order).for_each(|(at, &b)| position[b as usize] = at);
    position
}

/// Predecessors of all blocks, in one list.
struct Preds {
    starts: Vec<u32>,
    list: Vec<BlockId>,
}

impl Preds {
    fn new(s: &Scan) -> Preds {
        let mut starts = vec![0u32; s.blocks.len() + 1];
        s.blocks
            .iter()
            .flat_map(|b| &b.succs)
            .for_each(|&t| starts[t as usize + 1] += 1);
        for k in 1..starts.len() {
            starts[k] += starts[k - 1];
        }
        let mut next = starts.clone();
        let mut list = vec![NONE; starts[s.blocks.len()] as usize];
        for (b, block) in (0..).zip(&s.blocks) {
            for &t in &block.succs {
                list[next[t as usize] as usize] = b;
                next[t as usize] += 1;
            }
        }
        Preds { starts, list }
    }

    /// The predecessors of a block, one for each edge.
    fn of(&self, b: BlockId) -> &[BlockId] {
        &self.list[self.starts[b as usize] as usize..self.starts[b as usize + 1] as usize]
    }
}

/// The sets of variables that are live across every point, in the points' order.
pub(crate) fn at_points(s: &Scan, live_in: &BitTable) -> LiveSets {
    let mut sets = LiveSets::default();
    let mut row = vec![0u64; live_in.width()];
    // What is live at the point before the block, at the point just seen (which is later), and at the block's last one.
    let (mut before, mut later, mut last) = (row.clone(), row.clone(), row.clone());
    // What each of the block's points but the first one differs in from the one before it; the last one's part comes
    // first.
    let (mut changes, mut ends) = (vec![], vec![]);
    for &b in &s.order {
        let events = events(s, b);
        if !events.iter().any(is_point) {
            continue;
        }
        live_out(s, live_in, b, &mut row);
        let mut first = true;
        for e in events.iter().rev() {
            if is_point(e) {
                if first {
                    last.copy_from_slice(&row);
                } else {
                    differences(&row, &later, &mut changes);
                    ends.push(changes.len());
                }
                first = false;
                later.copy_from_slice(&row);
            }
            step(e, &mut row);
        }
        let start = changes.len();
        differences(&before, &later, &mut changes);
        sets.push(&changes[start..]);
        while let Some(end) = ends.pop() {
            sets.push(&changes[ends.last().copied().unwrap_or(0)..end]);
        }
        changes.clear();
        std::mem::swap(&mut before, &mut last);
    }
    debug_assert_eq!(sets.len(), s.points.len());
    sets
}

/// Number of variables alive at once, where they are most.
pub(crate) fn most_alive(s: &Scan, live_in: &BitTable) -> usize {
    let mut row = vec![0u64; live_in.width()];
    let mut most = 0;
    for &b in &s.order {
        live_out(s, live_in, b, &mut row);
        let mut alive: usize = row.iter().map(|w| w.count_ones() as usize).sum();
        most = most.max(alive);
        for e in events(s, b).iter().rev() {
            let (Event::Def(v) | Event::Use(v)) = *e else { continue };
            alive -= usize::from(has(&row, v));
            step(e, &mut row);
            alive += usize::from(has(&row, v));
            most = most.max(alive);
        }
    }
    most
}

/// Whether the event is a migration point.
fn is_point(e: &Event) -> bool {
    matches!(e, Event::Call(_) | Event::Poll(_))
}

/// Appends what is in just one of two sets, ascending.
fn differences(a: &[u64], b: &[u64], out: &mut Vec<Var>) {
    for (k, (a, b)) in (0..).zip(a.iter().zip(b)) {
        if a != b {
            out.extend(members(&[a ^ b]).map(|v| 64 * k + v));
        }
    }
}

/// The events of a block, in program order.
pub(crate) fn events<'s>(s: &'s Scan, b: u32) -> &'s [Event] {
    let Range { start, end } = s.blocks[b as usize].events;
    &s.events[start as usize..end as usize]
}

/// Sets `row` to what is live at the end of a block: at the start of some successor.
fn live_out(s: &Scan, table: &BitTable, b: u32, row: &mut [u64]) {
    row.fill(0);
    for &t in &s.blocks[b as usize].succs {
        row.iter_mut().zip(table.row(t)).for_each(|(a, b)| *a |= b);
    }
}

/// Goes back over an event: a variable that is written is dead before, one that is read is live.
fn step(e: &Event, row: &mut [u64]) {
    match *e {
        Event::Def(v) => row[(v >> 6) as usize] &= !(1 << (v & 63)),
        Event::Use(v) => row[(v >> 6) as usize] |= 1 << (v & 63),
        _ => {}
    }
}
