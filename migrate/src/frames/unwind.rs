//! Where a thrown exception is handled, and which exceptions a stack refers to.

use super::{FrameError, FrameMaps, FunctionMaps, Stack, StackMut};
use dunlin_format::types::{NULL_REF, ValType};

/// Where a program goes on after a throw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handler {
    /// The frame pointer there.
    pub fp: u64,
    /// The stack pointer there.
    pub sp: u64,
    /// Address of the handler's code.
    pub pc: u64,
}

/// The innermost handler around the call at which a program stands. `stack` are the bytes of the stack from address
/// `stack_base` on; `leave_fp` is the frame pointer of the leave thunk's frame. `None` if nothing handles exceptions
/// there.
pub fn handler(
    maps: &FrameMaps<'_>,
    stack_base: u64,
    stack: &[u8],
    leave_fp: u64,
) -> Result<Option<Handler>, FrameError> {
    let stack = Stack::new(maps, stack_base, stack);
    let found = walk(maps, stack, leave_fp, |fp, function, text| {
        let at = function.code.handler_at(text)?;
        Some(Handler {
            fp,
            sp: fp - u64::from(function.code.frame_to_fp),
            pc: maps.text_base() + u64::from(function.code.start) + u64::from(at),
        })
    })?;
    // Room for the link of a frame below it, through which the leave thunk returns there.
    Ok(found.filter(|h| h.sp >= stack.bottom(leave_fp)))
}

/// Links the leave thunk's frame to a handler, as if the call there had left: so it returns to the handler. Returns its
/// frame pointer, which isn't below the one that [`handler`] was given.
pub fn leave_to(maps: &FrameMaps<'_>, stack_base: u64, stack: &mut [u8], handler: Handler) -> Result<u64, FrameError> {
    let mut stack = StackMut {
        base: stack_base,
        bytes: stack,
        shape: maps.shape,
    };
    let leave_fp = handler.sp - u64::from(maps.shape.link);
    stack.link(leave_fp, handler.fp, handler.pc)?;
    Ok(leave_fp)
}

/// The exceptions that live values of a stack refer to, in no particular order. Every frame must stand at a migration
/// point.
pub fn exceptions(maps: &FrameMaps<'_>, stack_base: u64, stack: &[u8], leave_fp: u64) -> Result<Vec<u32>, FrameError> {
    let stack = Stack::new(maps, stack_base, stack);
    let mut found = Vec::new();
    let unknown = walk(maps, stack, leave_fp, |fp, function, text| {
        let site = function.code.call_at(text)?;
        let Some(point) = function.points.point_at(site.wasm) else {
            return Some(site.wasm);
        };
        let record = fp - u64::from(function.code.frame_to_fp) + u64::from(function.code.record);
        let live = function.points.live_at(point);
        for home in live.iter().filter_map(|&h| function.points.homes.get(h as usize)) {
            if home.ty == ValType::ExnRef {
                let bytes = stack.bytes(record + u64::from(home.offset), 4);
                let bits = bytes.map(|bytes| maps.shape.order.read(bytes) as u32);
                found.extend(bits.filter(|&n| n != NULL_REF));
            }
        }
        None
    })?;
    match unknown {
        None => Ok(found),
        Some(offset) => Err(FrameError::NotAPoint {
            func: u32::MAX,
            offset,
            wanted: "a call",
        }),
    }
}

/// Walks outwards until `visit` (frame pointer, function, return address as an offset in it) returns something, or to
/// the trampoline.
fn walk<T>(
    maps: &FrameMaps<'_>,
    stack: Stack<'_>,
    leave_fp: u64,
    mut visit: impl FnMut(u64, &FunctionMaps, u32) -> Option<T>,
) -> Result<Option<T>, FrameError> {
    let (mut fp, mut depth) = (leave_fp, 0);
    loop {
        let (caller_fp, pc) = stack.frame(fp).ok_or(FrameError::BadFrame { fp, depth })?;
        let (func, text) = maps.find_return(pc).ok_or(FrameError::BadReturn { pc, depth })?;
        if func >= maps.num_funcs() {
            return Ok(None);
        }
        let function = maps.function(func)?;
        // The caller's frame lies right above: so every step goes up, and a chain can't loop.
        if caller_fp.checked_sub(function.code.frame_to_fp.into()) != Some(stack.bottom(fp)) {
            return Err(FrameError::BadFrame {
                fp: caller_fp,
                depth: depth + 1,
            });
        }
        if let Some(found) = visit(caller_fp, function, text) {
            return Ok(Some(found));
        }
        fp = caller_fp;
        depth += 1;
    }
}
