//! A trap as the program's end: where it was raised, and the backtrace that leads there.

use crate::instance::Instance;
use crate::program::Program;
use dunlin_format::hostcalls::Trap;
use dunlin_migrate::frames::{TraceFrame, backtrace};
use std::fmt::Write;

/// A trap, and where the stack stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The kind of trap.
    pub trap: Trap,
    /// The faulting instruction's address; 0 if it is none of compiled code.
    pub pc: u64,
    /// The frame pointer.
    pub fp: u64,
    /// A return address that no frame holds yet, because the fault is in a function's first instruction; 0 if there is
    /// none.
    pub pending_return: u64,
}

/// The lines of a backtrace from a fault, innermost frame first.
pub(super) fn describe(instance: &Instance, fault: &Fault) -> String {
    let program = instance.program;
    let (base, stack) = (instance.stack.usable().start, instance.stack.bytes());
    let mut lines = Lines::default();
    // A function that hasn't pushed its frame is in nobody's chain.
    let mut pc = fault.pc;
    if fault.pending_return != 0 {
        if let Some((func, _)) = program.maps.find(fault.pc) {
            lines.add(program, &TraceFrame { func, offset: None });
        }
        pc = fault.pending_return;
    }
    let trace = backtrace(&program.maps, base, stack, fault.fp, pc);
    trace.innermost.iter().for_each(|frame| lines.add(program, frame));
    if trace.elided > 0 {
        let _ = writeln!(lines.text, "  ... {} more frames", trace.elided);
        lines.number += trace.elided;
    }
    trace.outermost.iter().for_each(|frame| lines.add(program, frame));
    lines.text
}

#[derive(Default)]
struct Lines {
    text: String,
    number: u64,
}

impl Lines {
    fn add(&mut self, program: &Program, frame: &TraceFrame) {
        // An imported function's frame is glue that the user didn't write.
        if (frame.func as usize) < program.module.imports.len() {
            return;
        }
        let _ = writeln!(self.text, "  {}: {}", self.number, program.describe(frame));
        self.number += 1;
    }
}
