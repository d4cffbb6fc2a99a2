//! Where values are at merges and loop headers: in a register, in the record, or both.
//!
//! The translation keeps, per variable, two facts: is its value *in a register* (an SSA value exists), and is its home
//! *clean* (equal to its value)? A live variable always has at least one of them. A call stores what is not clean
//! before it, and leaves nothing in registers; afterwards a variable is loaded at its first use. Where several paths
//! meet they must agree, and this pass decides on what. It only chooses: the translation makes every edge fit what was
//! chosen (loads, stores), so a bad choice here costs time, never correctness.
//!
//! The choices, each measured in the design's prototype on QuickJS, SQLite, Lua, CoreMark and PolyBench:
//! - after a merge a variable is in a register if it was on all paths, or on some and it is read on every path before
//!   the next call, or its home is not clean;
//! - at the header of a loop with calls, a variable the loop doesn't assign is stored once, before the loop, and stays
//!   clean;
//! - at the header of a very large loop with calls (an interpreter's), what is not read before the next call lives in
//!   the record;
//! - at the header of a loop that polls, what the loop doesn't touch stays in the record when many values are live;
//! - where hundreds of branches from the same code meet other paths, what has a home is in the record only
//!   (`fanout.rs`);
//! - at the header of a loop with hundreds of branches back, so is the context.

use super::fanout;
use super::memory_residents::MemoryResidents;
use crate::limits::{
    MAX_LIVE_THROUGH_LOOP, MAX_LOOP_EDGES, MAX_LOOP_OPERATORS, MAX_LOOP_REGISTERS, MAX_MERGE_EDGES, MAX_MERGE_LOADS,
};
use crate::uniform::bitset::{BitTable, Bits, has, members};
use crate::uniform::liveness::events;
use crate::uniform::loops::LoopInfo;
use crate::uniform::record::Record;
use crate::uniform::scan::Event;
use crate::uniform::{Analysis, BlockId, CTX, Var};
use rustc_hash::{FxHashMap, FxHashSet};

/// What holds of each variable at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Variables whose value is in a register.
    pub reg: Bits,
    /// Variables whose home equals their value.
    pub clean: Bits,
}

impl State {
    /// At the function's entry: everything in registers, nothing in the record; but for what is in memory all the
    /// time.
    pub(crate) fn entry(vars: usize, residents: &MemoryResidents) -> State {
        let mut state = State {
            reg: Bits::full(vars),
            clean: Bits::empty(vars),
        };
        state.clean.add_all(residents.words());
        state.reg.remove_all(residents.words());
        state
    }
}

/// The chosen states; none in a function without points.
#[derive(Debug, Default)]
pub(crate) struct MergeStates {
    /// State at the start of every block that several paths reach, and of loop headers.
    pub at: FxHashMap<BlockId, State>,
    /// The merges at which what has a home is in the record only, since too many have the same predecessors.
    pub crowded: FxHashSet<BlockId>,
}

/// What the paths that have come to a block so far have in common.
struct Meet {
    /// Variables in a register on some path.
    any_reg: Bits,
    /// What holds on all paths.
    all: State,
}

/// Chooses, for a function with points. `anticipated` has the variables that are read on every path from a block before
/// the next call, and `loops` what is known of each loop, by its operator.
pub(crate) fn choose(
    an: &Analysis<'_>,
    anticipated: &BitTable,
    loops: &FxHashMap<u32, LoopInfo>,
    residents: &MemoryResidents,
) -> MergeStates {
    let (s, record, live_in) = (&an.scan, &an.record, &an.live_in);
    let n = s.vars.len();
    let mut states = MergeStates {
        crowded: fanout::crowded_merges(s),
        ..MergeStates::default()
    };
    let mut live = an.live.walk(n);
    let mut homes = Bits::empty(n);
    if !states.crowded.is_empty() {
        (0..n as Var)
            .filter(|&v| record.home(v).is_some())
            .for_each(|v| homes.add(v));
    }
    let mut incoming: FxHashMap<BlockId, Meet> = FxHashMap::default();
    for &b in &s.order {
        let block = &s.blocks[b as usize];
        let met = incoming.remove(&b);
        let mut st = match (met, block.loop_op) {
            (None, _) => State::entry(n, residents),
            (Some(m), Some(op)) => {
                let mut st = loop_header(
                    m.all,
                    live_in.row(b),
                    anticipated.row(b),
                    &loops[&op],
                    record,
                    residents,
                );
                // As with one value and many merges (`fanout.rs`), so with many values and one merge.
                if block.preds > MAX_LOOP_EDGES && record.home(CTX).is_some() {
                    st.reg.remove(CTX);
                    st.clean.add(CTX);
                }
                states.at.insert(b, st.clone());
                st
            }
            (Some(m), None) if block.preds > 1 => {
                let mut st = merge(m, block.preds, live_in.row(b), anticipated.row(b), record);
                if states.crowded.contains(&b) {
                    st.reg.remove_all(homes.words());
                    st.clean.union(&homes);
                }
                states.at.insert(b, st.clone());
                st
            }
            (Some(m), None) => m.all,
        };
        for e in events(s, b) {
            match *e {
                Event::Use(v) | Event::Def(v) if residents.has(v) => {}
                Event::Use(v) => st.reg.add(v),
                Event::Def(v) => {
                    st.reg.add(v);
                    st.clean.remove(v);
                }
                Event::Call(p) => {
                    st.reg.clear();
                    st.clean.add_all(live.at(p as usize));
                }
                _ => {}
            }
        }
        for &t in &block.succs {
            // Back edges come later than their header, and are made to fit it.
            if s.blocks[t as usize].loop_op.is_some() && states.at.contains_key(&t) {
                continue;
            }
            match incoming.get_mut(&t) {
                None => {
                    incoming.insert(
                        t,
                        Meet {
                            any_reg: st.reg.clone(),
                            all: st.clone(),
                        },
                    );
                }
                Some(m) => {
                    m.any_reg.union(&st.reg);
                    m.all.reg.intersect(&st.reg);
                    m.all.clean.intersect(&st.clean);
                }
            }
        }
    }
    states
}

/// The state at a merge of `preds` edges that isn't a loop's header.
fn merge(m: Meet, preds: u32, live: &[u64], anticipated: &[u64], record: &Record) -> State {
    let mut st = m.all;
    let count = |set: &dyn Fn(usize) -> u64| -> u32 { (0..live.len()).map(|k| set(k).count_ones()).sum() };
    // In a register on some path and read soon. One load behind the merge is less than one on every edge, if those are
    // many.
    let load_each = preds <= MAX_MERGE_EDGES
        || count(&|k| live[k] & anticipated[k] & m.any_reg.words()[k] & !st.reg.words()[k]) <= MAX_MERGE_LOADS;
    let soon = |k: usize| {
        if load_each {
            m.any_reg.words()[k] & anticipated[k]
        } else {
            0
        }
    };
    // Not stored on some path, and not in a register on another.
    let stale = |st: &State, k: usize| live[k] & !st.clean.words()[k] & !st.reg.words()[k] & !soon(k);
    if count(&|k| stale(&st, k)) > MAX_MERGE_LOADS {
        for k in 0..live.len() {
            let stale = [stale(&st, k)];
            let stored = members(&stale).map(|v| 64 * k as u32 + v);
            stored
                .filter(|&v| record.home(v).is_some())
                .for_each(|v| st.clean.add(v));
        }
    }
    for k in 0..live.len() {
        st.reg.words_mut()[k] |= soon(k) | !st.clean.words()[k];
    }
    st
}

/// The state at a loop's header, from what holds before the loop.
fn loop_header(
    mut st: State,
    live: &[u64],
    anticipated: &[u64],
    info: &LoopInfo,
    record: &Record,
    residents: &MemoryResidents,
) -> State {
    let many = live.iter().map(|w| w.count_ones() as usize).sum::<usize>() > MAX_LIVE_THROUGH_LOOP;
    let mut kept = 0;
    for v in members(live).filter(|&v| !residents.has(v)) {
        let assigned = info.assigned.has(v);
        let accessed = info.accessed.has(v);
        if record.home(v).is_none() {
            // Never live across a point.
            st.reg.add(v);
            if assigned {
                st.clean.remove(v);
            }
        } else if info.has_call && info.num_ops > MAX_LOOP_OPERATORS {
            let wanted = has(anticipated, v) || v == CTX;
            if wanted {
                st.reg.add(v);
            } else {
                st.reg.remove(v);
            }
            if wanted && assigned {
                st.clean.remove(v);
            } else {
                st.clean.add(v);
            }
        } else if many && !accessed {
            st.clean.add(v);
            st.reg.remove(v);
        } else {
            if assigned {
                st.clean.remove(v);
            } else if info.has_call {
                st.clean.add(v);
            }
            if accessed || !st.clean.has(v) {
                st.reg.add(v);
            } else if info.has_call {
                st.reg.remove(v);
            }
        }
        if st.reg.has(v) {
            kept += 1;
            if kept > MAX_LOOP_REGISTERS && record.home(v).is_some() {
                st.reg.remove(v);
                st.clean.add(v);
            }
        }
    }
    st
}
