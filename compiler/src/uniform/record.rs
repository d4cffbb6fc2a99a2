//! The record: homes of the variables that are live across some migration point.

use super::scan::{Scan, VarInfo};
use super::{CTX, Var};
use dunlin_format::framemap::{FunctionPoints, Home, HomeKind, LiveSets, Point};
use dunlin_format::point::Slot;

/// Layout of a function's record. A function of the WebAssembly alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Size in bytes, a multiple of 16.
    pub size: u32,
    /// Per variable, its home's byte offset.
    offsets: Vec<Option<u32>>,
}

impl Record {
    /// Gives homes to all `vars` that `needed` names: the context first, then by falling size so that all are aligned,
    /// then by slot.
    pub(crate) fn new(vars: &[VarInfo], needed: &[Var]) -> Record {
        let mut offsets = vec![None; vars.len()];
        let mut list: Vec<Var> = needed.to_vec();
        list.sort_unstable();
        list.dedup();
        list.sort_by_key(|&v| (v != CTX, std::cmp::Reverse(vars[v as usize].ty.size()), v));
        let mut at = 0u32;
        for v in list {
            let size = vars[v as usize].ty.size();
            at = at.next_multiple_of(size);
            offsets[v as usize] = Some(at);
            at += size;
        }
        Record {
            size: at.next_multiple_of(16),
            offsets,
        }
    }

    /// Where a variable's home is, if it has one.
    pub(crate) fn home(&self, v: Var) -> Option<u32> {
        self.offsets[v as usize]
    }
}

/// The frame map's architecture-independent half.
pub(crate) fn frame_map(s: &Scan, record: &Record, live: &LiveSets) -> FunctionPoints {
    let mut home_index = vec![0u32; s.vars.len()];
    let mut homes: Vec<(Var, Home)> = vec![];
    for (v, info) in s.vars.iter().enumerate() {
        if let Some(offset) = record.home(v as Var) {
            homes.push((
                v as Var,
                Home {
                    kind: info.kind,
                    ty: info.ty,
                    offset,
                },
            ));
        }
    }
    // By slot: the context, locals, stack positions.
    homes.sort_by_key(|(_, h)| (slot_key(h.kind), h.ty));
    for (k, (v, _)) in homes.iter().enumerate() {
        home_index[*v as usize] = k as u32;
    }
    let homes = homes.into_iter().map(|(_, h)| h).collect();
    let mut map = FunctionPoints::new(record.size, homes);
    let mut changed: Vec<u32> = vec![];
    for (n, p) in s.points.iter().enumerate() {
        changed.clear();
        changed.extend(live.changes(n).iter().map(|&v| home_index[v as usize]));
        changed.sort_unstable();
        let point = Point {
            offset: p.offset,
            kind: p.kind,
            callee: p.callee,
        };
        map.push_changed(point, &changed);
    }
    map
}

/// The order of homes in frame maps: the context, locals, stack positions.
fn slot_key(kind: HomeKind) -> (u8, u32) {
    match kind {
        HomeKind::Context => (0, 0),
        HomeKind::Slot(Slot::Local(i)) => (1, i),
        HomeKind::Slot(Slot::Stack(i)) => (2, i),
    }
}
