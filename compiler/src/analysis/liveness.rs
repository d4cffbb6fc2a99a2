//! Liveness of variables at blocks and migration points, and which of them are *anticipated*: read on every path before the next
//! call. Both are backward dataflow problems over the blocks of the scan.

use super::bits::{BitTable, has, members};
use super::scan::Scan;
use super::{Event, Var};
use std::ops::Range;

/// Live-in sets of all blocks.
pub fn live_in(s: &Scan) -> BitTable {
    let n = s.vars.len();
    let mut table = BitTable::new(s.blocks.len(), n, 0);
    let mut row = vec![0u64; table.width()];
    // Structured control: one sweep in reverse code order settles everything but loops, each nesting level one more.
    loop {
        let mut changed = false;
        for &b in s.order.iter().rev() {
            live_out(s, &table, b, &mut row);
            for e in events(s, b).iter().rev() {
                step(e, &mut row);
            }
            if table.row(b) != &row[..] {
                table.row_mut(b).copy_from_slice(&row);
                changed = true;
            }
        }
        if !changed {
            return table;
        }
    }
}

/// Fills in what is live across every point; returns the list the ranges point into.
pub fn at_points(s: &mut Scan, live_in: &BitTable) -> Vec<Var> {
    let mut lists: Vec<Vec<Var>> = vec![vec![]; s.points.len()];
    let mut row = vec![0u64; live_in.width()];
    for &b in &s.order {
        let events = events(s, b);
        if !events.iter().any(|e| matches!(e, Event::Call(_) | Event::Poll(_))) {
            continue;
        }
        live_out(s, live_in, b, &mut row);
        for e in events.iter().rev() {
            if let Event::Call(p) | Event::Poll(p) = *e {
                lists[p as usize] = members(&row).collect();
            }
            step(e, &mut row);
        }
    }
    let mut all = vec![];
    for (p, list) in s.points.iter_mut().zip(lists) {
        p.live = all.len() as u32..(all.len() + list.len()) as u32;
        all.extend(list);
    }
    all
}

/// Anticipated-in sets of all blocks.
pub fn anticipated_in(s: &Scan) -> BitTable {
    let mut table = BitTable::new(s.blocks.len(), s.vars.len(), !0);
    let mut row = vec![0u64; table.width()];
    loop {
        let mut changed = false;
        for &b in s.order.iter().rev() {
            let succs = &s.blocks[b as usize].succs;
            // Where the function ends, nothing is read any more.
            row.fill(if succs.is_empty() { 0 } else { !0 });
            for &t in succs {
                row.iter_mut().zip(table.row(t)).for_each(|(a, b)| *a &= b);
            }
            for e in events(s, b).iter().rev() {
                match *e {
                    Event::Call(_) => row.fill(0),
                    Event::Def(v) => row[(v >> 6) as usize] &= !(1 << (v & 63)),
                    Event::Use(v) => row[(v >> 6) as usize] |= 1 << (v & 63),
                    _ => {}
                }
            }
            if table.row(b) != &row[..] {
                table.row_mut(b).copy_from_slice(&row);
                changed = true;
            }
        }
        if !changed {
            return table;
        }
    }
}

/// Events of a block.
pub fn events<'s>(s: &'s Scan, b: u32) -> &'s [Event] {
    let Range { start, end } = s.blocks[b as usize].events;
    &s.events[start as usize..end as usize]
}

fn live_out(s: &Scan, table: &BitTable, b: u32, row: &mut [u64]) {
    row.fill(0);
    for &t in &s.blocks[b as usize].succs {
        row.iter_mut().zip(table.row(t)).for_each(|(a, b)| *a |= b);
    }
}

fn step(e: &Event, row: &mut [u64]) {
    match *e {
        Event::Def(v) => row[(v >> 6) as usize] &= !(1 << (v & 63)),
        Event::Use(v) if !has(row, v) => row[(v >> 6) as usize] |= 1 << (v & 63),
        _ => {}
    }
}
