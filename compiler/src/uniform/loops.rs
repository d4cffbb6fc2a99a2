//! What the body of each loop touches.

use super::bitset::Bits;
use super::scan::{Event, Scan};
use rustc_hash::FxHashMap;

/// What the body of a loop touches.
#[derive(Clone, Debug)]
pub(crate) struct LoopInfo {
    /// Whether it contains a call.
    pub has_call: bool,
    /// Operators in its body.
    pub num_ops: u32,
    /// Variables its body reads or writes.
    pub accessed: Bits,
    /// Variables its body writes.
    pub assigned: Bits,
}

/// What every loop's body touches, by the `loop` operator. Each event counts for its innermost loop, and a loop's whole
/// for the loop around it.
pub(crate) fn loop_infos(s: &Scan) -> FxHashMap<u32, LoopInfo> {
    let n = s.vars.len();
    let mut starts: Vec<(u32, u32, u32)> = s.loop_events.iter().map(|(&op, r)| (r.start, r.end, op)).collect();
    // Outer loops first among those that start together.
    starts.sort_by_key(|&(start, end, op)| (start, std::cmp::Reverse(end), op));
    let mut infos = FxHashMap::default();
    let mut open: Vec<(u32, u32, LoopInfo)> = vec![];
    let mut next = starts.into_iter().peekable();
    for at in 0..=s.events.len() as u32 {
        while open.last().is_some_and(|&(end, ..)| end <= at) {
            let Some((_, op, info)) = open.pop() else { break };
            if let Some((_, _, outer)) = open.last_mut() {
                outer.has_call |= info.has_call;
                outer.accessed.union(&info.accessed);
                outer.assigned.union(&info.assigned);
            }
            infos.insert(op, info);
        }
        while let Some((_, end, op)) = next.next_if(|&(start, ..)| start <= at) {
            let num_ops = s.end_of.get(&op).map_or(0, |e| e - op);
            let info = LoopInfo {
                has_call: false,
                num_ops,
                accessed: Bits::empty(n),
                assigned: Bits::empty(n),
            };
            open.push((end, op, info));
        }
        let (Some(e), Some((_, _, info))) = (s.events.get(at as usize), open.last_mut()) else {
            continue;
        };
        match *e {
            Event::Use(v) => info.accessed.add(v),
            Event::Def(v) => {
                info.accessed.add(v);
                info.assigned.add(v);
            }
            Event::Call(_) => info.has_call = true,
            _ => {}
        }
    }
    // A loop without events ends where it starts.
    infos.extend(open.into_iter().map(|(_, op, info)| (op, info)));
    infos
}
