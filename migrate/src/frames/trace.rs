//! Backtraces of trapped programs: best effort, never a failure.

use super::{FrameMaps, Stack};

/// Innermost frames that a backtrace keeps.
const INNERMOST: usize = 48;
/// Outermost frames that a backtrace keeps, if there are more than [`INNERMOST`].
const OUTERMOST: usize = 16;

/// One line of a backtrace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceFrame {
    /// Function index.
    pub func: u32,
    /// Byte offset of the instruction in the module's binary, if known.
    pub offset: Option<u32>,
}

/// The frames of a trapped program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backtrace {
    /// The innermost frames, innermost first.
    pub innermost: Vec<TraceFrame>,
    /// How many frames between the two ends are left out.
    pub elided: u64,
    /// The frames outside of those, outermost last.
    pub outermost: Vec<TraceFrame>,
}

/// The call chain of a program that trapped at `pc` with frame pointer `fp`. `stack` are the bytes of the stack from
/// address `stack_base` on.
///
/// The innermost frame may stand at a trapping instruction, at a call, or at neither (a fault in a guard page): then
/// its offset is that of the nearest site before, if any. If the fault is in a function's prologue, `fp` is still its
/// caller's, so the caller itself is missing. The chain ends at the trampoline, or where it stops making sense.
pub fn backtrace(maps: &FrameMaps<'_>, stack_base: u64, stack: &[u8], fp: u64, pc: u64) -> Backtrace {
    let stack = Stack::new(maps, stack_base, stack);
    let mut trace = Collector::default();
    if let Some((func, text)) = maps.find(pc).filter(|&(func, _)| func < maps.num_funcs()) {
        let offset = maps.function(func).ok().and_then(|f| {
            let exact = f.code.trap_at(text).map(|(_, wasm)| wasm);
            exact.or_else(|| f.code.site_before(text).map(|s| s.wasm))
        });
        trace.push(TraceFrame { func, offset });
    }
    let mut fp = fp;
    while let Some((caller_fp, pc)) = stack.frame(fp) {
        let Some((func, text)) = maps.find_return(pc).filter(|&(func, _)| func < maps.num_funcs()) else {
            break;
        };
        let Ok(function) = maps.function(func) else { break };
        trace.push(TraceFrame {
            func,
            offset: function.code.call_at(text).map(|s| s.wasm),
        });
        // Upwards only: a damaged chain can't loop.
        if caller_fp <= fp {
            break;
        }
        fp = caller_fp;
    }
    trace.finish()
}

/// Keeps both ends of a chain.
#[derive(Default)]
struct Collector {
    innermost: Vec<TraceFrame>,
    /// The last frames; once full, the next to be overwritten is `beyond % OUTERMOST`.
    ring: Vec<TraceFrame>,
    /// Frames outside of the innermost ones.
    beyond: usize,
}

impl Collector {
    fn push(&mut self, frame: TraceFrame) {
        if self.innermost.len() < INNERMOST {
            self.innermost.push(frame);
            return;
        }
        if self.ring.len() < OUTERMOST {
            self.ring.push(frame);
        } else {
            self.ring[self.beyond % OUTERMOST] = frame;
        }
        self.beyond += 1;
    }

    fn finish(mut self) -> Backtrace {
        let elided = (self.beyond - self.ring.len()) as u64;
        if elided > 0 {
            self.ring.rotate_left(self.beyond % OUTERMOST);
        }
        Backtrace {
            innermost: self.innermost,
            elided,
            outermost: self.ring,
        }
    }
}
