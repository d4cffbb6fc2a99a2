//! Runs the passes over one body, in order.

use super::bits::{BitTable, Bits};
use super::crowd::{self, InMemory};
use super::liveness;
use super::policy::{self, Policy};
use super::record::{self, Record};
use super::scan::{self, Request, Scan};
use super::{Analysis, Event, LoopInfo};
use crate::error::Error;
use crate::hash::HashMap;
use dunlin_format::framemap::{FunctionPoints, LiveSets};
use dunlin_format::types::FuncType;
use wasmparser::{FuncValidator, FunctionBody, ValidatorResources};

/// Validates and analyses a body.
pub fn analyze<'a>(
    rq: Request<'_>,
    ty: &FuncType,
    body: &FunctionBody<'a>,
    validator: &mut FuncValidator<ValidatorResources>,
) -> Result<(Analysis<'a>, FunctionPoints), Error> {
    let s = scan::scan(rq, ty, body, validator)?;
    let mut live_in = BitTable::default();
    let mut live = LiveSets::default();
    let mut record = Record::new(&s.vars, &[]);
    let mut policy = Policy::default();
    let mut in_memory = InMemory::default();
    if !s.points.is_empty() {
        check_size(&s, body)?;
        live_in = liveness::live_in(&s);
        live = liveness::at_points(&s, &live_in);
        record = Record::new(&s.vars, live.ever());
        let loops = loop_infos(&s);
        let anticipated = liveness::anticipated_in(&s);
        policy = policy::choose(&s, &live_in, &anticipated, &live, &loops, &record, &in_memory);
        in_memory = crowd::choose(&s, &live_in, &policy, &record, rq.max_alive);
        if !in_memory.is_empty() {
            policy = policy::choose(&s, &live_in, &anticipated, &live, &loops, &record, &in_memory);
        }
    } else if crowd::possible(&s, rq.max_alive) {
        in_memory = match crowd::too_large(&s) {
            true => crowd::everything(&s, &record),
            false => crowd::choose(&s, &liveness::live_in(&s), &policy, &record, rq.max_alive),
        };
    }
    let map = record::frame_map(&s, &record, &live);
    let analysis = Analysis {
        ops: s.ops,
        num_params: s.num_params,
        num_locals: s.num_locals,
        body_offset: s.body_offset,
        vars: s.vars,
        entry_var: s.entry_var,
        block_of_op: s.block_of_op,
        end_of: s.end_of,
        points: s.points,
        point_of_op: s.point_of_op,
        entry_point: s.entry_point,
        live,
        needs: s.needs,
        pad_of_op: s.pad_of_op,
        caught_var: s.caught_var,
        rethrown: s.rethrown,
        live_in,
        record,
        in_memory,
        policy,
    };
    Ok((analysis, map))
}

/// Greatest number of blocks times variables of a function: each of a few tables then takes half a gigabyte.
const MAX_TABLE: u64 = 1 << 32;

/// A function with a million branches *and* tens of thousands of locals is refused rather than tried.
fn check_size(s: &Scan, body: &FunctionBody<'_>) -> Result<(), Error> {
    let (blocks, vars) = (s.blocks.len() as u64, s.vars.len() as u64);
    if blocks * vars > MAX_TABLE {
        let what = format!(
            "the function at {:#x}, which has {blocks} branches times {vars} variables,",
            body.range().start
        );
        return Err(Error::TooLarge {
            what,
            size: blocks * vars / 8,
            max: MAX_TABLE / 8,
        });
    }
    Ok(())
}

/// What every loop's body touches. Each event counts for its innermost loop, and a loop's whole for the loop around it.
fn loop_infos(s: &Scan) -> HashMap<u32, LoopInfo> {
    let n = s.vars.len();
    let mut starts: Vec<(u32, u32, u32)> = s.loop_events.iter().map(|(&op, r)| (r.start, r.end, op)).collect();
    // Outer loops first among those that start together.
    starts.sort_by_key(|&(start, end, op)| (start, std::cmp::Reverse(end), op));
    let mut infos = HashMap::default();
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
