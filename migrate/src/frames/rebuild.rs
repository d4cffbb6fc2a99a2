//! Uniform frames to native stack.

use super::{FrameError, FrameMaps, FunctionMaps, StackMut, can_be_outer};
use crate::state::Frame;
use dunlin_format::arch::FrameShape;
use dunlin_format::framemap::{HomeKind, Point, Site, SiteKind};

/// The value of every byte of a rebuilt frame that no one may read.
pub const POISON: u8 = 0xde;

/// The surroundings of the frames: the stack's top, the trampoline above the outermost one, the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where the stack begins, aligned as [`FrameShape`] says: the trampoline's frame pointer is `above` bytes below.
    pub top: u64,
    /// Return address into the enter thunk.
    pub enter_return: u64,
    /// Code index of the trampoline: the module's number of functions + the outermost function's type index.
    pub trampoline: u32,
    /// The context pointer that every record gets.
    pub ctx: u64,
}

/// Bytes of stack, from its top, that [`rebuild`] fills for these frames (`trampoline`: as in [`Entry`]). The program
/// needs room for its own growth below.
pub fn stack_needed(maps: &FrameMaps<'_>, trampoline: u32, frames: &[Frame]) -> Result<u64, FrameError> {
    // Every function's frame is linked to its caller's, and the leave thunk's.
    let FrameShape { above, link, .. } = maps.shape;
    let mut needed = u64::from(above) + u64::from(link) + u64::from(maps.function(trampoline)?.code.frame_to_fp);
    for frame in frames {
        needed += u64::from(link) + u64::from(maps.function(frame.func)?.code.frame_to_fp);
    }
    Ok(needed)
}

/// Builds the native frames of `frames` (outermost first) on a fresh stack whose bytes lie at `stack_base`, and below
/// them the leave thunk's frame, whose frame pointer it returns: go on there, as if the leave thunk returned.
///
/// Only live homes and context homes are filled; every other byte of the frames is [`POISON`]. Nothing below the leave
/// thunk's frame is touched.
pub fn rebuild(
    maps: &FrameMaps<'_>,
    stack_base: u64,
    stack: &mut [u8],
    entry: &Entry,
    frames: &[Frame],
) -> Result<u64, FrameError> {
    let Some(innermost) = frames.len().checked_sub(1) else {
        return Err(FrameError::Empty);
    };
    let needed = stack_needed(maps, entry.trampoline, frames)?;
    let top = entry.top.checked_sub(stack_base).and_then(|n| usize::try_from(n).ok());
    let Some(top) = top.filter(|&n| n <= stack.len() && entry.top.is_multiple_of(maps.shape.align.into())) else {
        return Err(FrameError::BadFrame {
            fp: entry.top,
            depth: frames.len(),
        });
    };
    let Some(lowest) = usize::try_from(needed).ok().and_then(|n| top.checked_sub(n)) else {
        return Err(FrameError::TooSmall {
            needed,
            available: top as u64,
        });
    };
    let mut writer = StackMut {
        base: stack_base + lowest as u64,
        bytes: &mut stack[lowest..top],
        shape: maps.shape,
    };
    writer.bytes.fill(POISON);

    if entry.trampoline < maps.num_funcs() {
        return Err(FrameError::BadMap {
            func: entry.trampoline,
            what: "a function is no trampoline",
        });
    }
    let trampoline = maps.function(entry.trampoline)?;
    let mut calls = trampoline.code.sites.iter().filter(|s| s.kind == SiteKind::Call);
    let (Some(call), None) = (calls.next(), calls.next()) else {
        return Err(FrameError::BadMap {
            func: entry.trampoline,
            what: "a trampoline must have exactly one call",
        });
    };
    let fp = entry.top - u64::from(maps.shape.above);
    writer.link(fp, 0, entry.enter_return)?;
    writer.contexts(trampoline, fp, entry.ctx)?;
    let mut caller = Caller {
        fp,
        distance: trampoline.code.frame_to_fp + u32::from(maps.shape.link),
        pc: return_address(maps, trampoline, call.text),
    };

    for (n, frame) in frames.iter().enumerate() {
        let &Frame {
            func,
            offset,
            kind,
            values: _, // What is live of them is taken below.
        } = frame;
        if func >= maps.num_funcs() {
            return Err(FrameError::NoFunction(func));
        }
        let function = maps.function(func)?;
        let wanted = if n == innermost { "a stop" } else { "a call" };
        let point = function
            .points
            .point_at(offset)
            .filter(|p| p.kind == kind && can_be_outer(kind) == (n < innermost));
        let point = point.ok_or(FrameError::NotAPoint { func, offset, wanted })?;
        let text = function.return_of(offset).ok_or(FrameError::NoSite { func, offset })?;
        let fp = caller.callee_fp();
        writer.link(fp, caller.fp, caller.pc)?;
        writer.own_sp(function, fp)?;
        writer.contexts(function, fp, entry.ctx)?;
        writer.values(function, point, fp, frame)?;
        caller = Caller {
            fp,
            distance: function.code.frame_to_fp + u32::from(maps.shape.link),
            pc: return_address(maps, function, text),
        };
    }
    let leave_fp = caller.callee_fp();
    writer.link(leave_fp, caller.fp, caller.pc)?;
    Ok(leave_fp)
}

fn return_address(maps: &FrameMaps<'_>, function: &FunctionMaps, text: u32) -> u64 {
    maps.text_base() + u64::from(function.code.start) + u64::from(text)
}

/// The frame that the next one returns to.
struct Caller {
    fp: u64,
    /// Bytes down to its callee's frame pointer.
    distance: u32,
    pc: u64,
}

impl Caller {
    /// Doesn't underflow: `stack_needed` counted the same bytes.
    fn callee_fp(&self) -> u64 {
        self.fp - u64::from(self.distance)
    }
}

impl StackMut<'_> {
    /// The stack pointer, if the function keeps it for handlers of exceptions.
    fn own_sp(&mut self, function: &FunctionMaps, fp: u64) -> Result<(), FrameError> {
        let handles = |s: &Site| matches!(s.kind, SiteKind::Handler(_));
        match self.shape.own_sp {
            Some(below) if function.code.sites.iter().any(handles) => {
                let sp = fp - u64::from(function.code.frame_to_fp);
                self.put(fp.saturating_sub(below.into()), sp.into(), size_of::<u64>())
            }
            _ => Ok(()),
        }
    }

    /// The context pointer, wherever the record keeps it.
    fn contexts(&mut self, function: &FunctionMaps, fp: u64, ctx: u64) -> Result<(), FrameError> {
        let record = record_of(function, fp);
        for home in function.points.homes.iter().filter(|h| h.kind == HomeKind::Context) {
            self.put(record + u64::from(home.offset), ctx.into(), size_of::<u64>())?;
        }
        Ok(())
    }

    /// The values that are live at the point.
    fn values(&mut self, function: &FunctionMaps, point: &Point, fp: u64, frame: &Frame) -> Result<(), FrameError> {
        let record = record_of(function, fp);
        for index in function.points.live_at(point) {
            let no_home = || FrameError::BadMap {
                func: frame.func,
                what: "a live value has no home",
            };
            let home = function.points.homes.get(index as usize).ok_or_else(no_home)?;
            let HomeKind::Slot(slot) = home.kind else { continue };
            let found = frame
                .values
                .binary_search_by_key(&slot, |v| v.0)
                .ok()
                .map(|n| frame.values[n].1);
            let absent = || FrameError::BadValue {
                func: frame.func,
                offset: frame.offset,
                slot,
                ty: home.ty,
            };
            let value = found.filter(|v| v.ty() == home.ty).ok_or_else(absent)?;
            self.put(
                record + u64::from(home.offset),
                value.to_bits(),
                home.ty.size() as usize,
            )?;
        }
        Ok(())
    }
}

/// Address of a frame's record.
fn record_of(function: &FunctionMaps, fp: u64) -> u64 {
    fp - u64::from(function.code.frame_to_fp) + u64::from(function.code.record)
}
