//! Native stack to uniform frames.

use super::{FrameError, FrameMaps, FunctionMaps, Stack, can_be_outer};
use crate::state::Frame;
use dunlin_format::arch::ByteOrder;
use dunlin_format::framemap::{HomeKind, Point};
use dunlin_format::types::Value;

/// The uniform frames of a stopped program, outermost first.
///
/// `stack` are the bytes from address `stack_base` up to the stack's top; `leave_fp` is the frame pointer of the leave
/// thunk's frame. Walks outwards until a trampoline. Every frame must stand at a migration point: the innermost at one
/// of kind loop, entry or host, all others at calls.
pub fn capture(maps: &FrameMaps<'_>, stack_base: u64, stack: &[u8], leave_fp: u64) -> Result<Vec<Frame>, FrameError> {
    let stack = Stack::new(maps, stack_base, stack);
    let mut frames = Vec::new();
    let mut fp = leave_fp;
    loop {
        let depth = frames.len();
        let (caller_fp, pc) = stack.frame(fp).ok_or(FrameError::BadFrame { fp, depth })?;
        let (func, text) = maps.find_return(pc).ok_or(FrameError::BadReturn { pc, depth })?;
        let function = maps.function(func)?;
        let site = function.code.call_at(text).ok_or(FrameError::BadReturn { pc, depth })?;
        // The caller's frame lies right above: so every step goes up, and a chain can't loop.
        let damaged = FrameError::BadFrame {
            fp: caller_fp,
            depth: depth + 1,
        };
        let bottom = stack.bottom(fp);
        if caller_fp.checked_sub(function.code.frame_to_fp.into()) != Some(bottom) {
            return Err(damaged);
        }
        if func >= maps.num_funcs() {
            // The trampoline's own frame ends the chain.
            match stack.frame(caller_fp) {
                Some((0, _)) => break,
                _ => return Err(damaged),
            }
        }
        let wanted = if depth == 0 { "a stop" } else { "a call" };
        let point = function
            .points
            .point_at(site.wasm)
            .filter(|p| can_be_outer(p.kind) == (depth > 0));
        let point = point.ok_or(FrameError::NotAPoint {
            func,
            offset: site.wasm,
            wanted,
        })?;
        let record = stack.bytes(
            bottom + u64::from(function.code.record),
            function.points.record_size as usize,
        );
        frames.push(read_frame(
            func,
            function,
            point,
            record.ok_or(damaged)?,
            maps.shape.order,
        )?);
        fp = caller_fp;
    }
    if frames.is_empty() {
        return Err(FrameError::Empty);
    }
    frames.reverse();
    Ok(frames)
}

/// One frame's live values out of its record.
fn read_frame(
    func: u32,
    function: &FunctionMaps,
    point: &Point,
    record: &[u8],
    order: ByteOrder,
) -> Result<Frame, FrameError> {
    let broken = |what| FrameError::BadMap { func, what };
    let live = function.points.live_at(point);
    let mut values = Vec::with_capacity(live.len());
    for index in live {
        let home = function
            .points
            .homes
            .get(index as usize)
            .ok_or_else(|| broken("a live value has no home"))?;
        let HomeKind::Slot(slot) = home.kind else { continue };
        let (start, size) = (home.offset as usize, home.ty.size() as usize);
        let bytes = record
            .get(start..start + size)
            .ok_or_else(|| broken("a home lies outside of the record"))?;
        values.push((slot, Value::from_bits(home.ty, order.read(bytes))));
    }
    if !values.is_sorted_by_key(|v| v.0) {
        values.sort_by_key(|v| v.0);
    }
    if values.windows(2).any(|w| w[0].0 == w[1].0) {
        return Err(broken("a slot is live with two types"));
    }
    Ok(Frame {
        func,
        offset: point.offset,
        kind: point.kind,
        values,
    })
}
