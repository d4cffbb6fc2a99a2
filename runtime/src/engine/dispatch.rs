//! The Rust side of the leave thunk: every call that compiled code makes of the runtime.

use crate::engine::running::{Flow, Running};
use crate::engine::trap::{self, Fault};
use crate::instance::Instance;
use crate::instance::context;
use crate::instance::instantiate::{memory_init, table_copy, table_fill, table_init};
use crate::instance::memory::{Memory, WASM_PAGE};
use crate::instance::stopped::Stopped;
use crate::program::host::HostFunc;
use crate::wasi::Outcome;
use dunlin_format::hostcalls::{
    CAUGHT, DATA_DROP, ELEM_DROP, IMPORT_BASE, MEMORY_GROW, MEMORY_INIT, PASS_ON, POLL, TABLE_COPY, TABLE_FILL,
    TABLE_GROW, TABLE_INIT, THROW_BASE, THROW_REF, Trap,
};
use dunlin_format::types::{ValType, Value};
use dunlin_interface::exit::{Ending, FAILED, Failure, NO_PROGRAM};
use std::ptr::null_mut;

/// Most parameters of an imported function.
const MAX_ARGS: usize = 16;

/// Serves a call that came through the leave thunk; returns the context to go on with, or null if the program has
/// ended.
///
/// # Safety
///
/// Called by the leave thunk only: `ctx` is the context of the instance that runs, and nothing else refers to its
/// [`Running`].
pub(super) unsafe extern "C" fn dispatch(ctx: *mut u8, call: u32) -> *mut u8 {
    // SAFETY: the context's header is mapped, and `Running::enter` put the address of the `Running` there that it
    // borrows exclusively until compiled code returns.
    let running = unsafe { &mut *((*context::header(ctx)).runtime as *mut Running) };
    match running.serve_call(call) {
        Flow::Go => running.instance.ctx(),
        Flow::End => null_mut(),
    }
}

impl Running {
    fn serve_call(&mut self, call: u32) -> Flow {
        let arg = |n: u32| self.instance.slot(n) as u32;
        let address = |n: u32| self.instance.slot(n) as u64;
        let result = match call {
            POLL => return self.at_point(),
            MEMORY_GROW => {
                let old = self.grow_memory(arg(0), address(1));
                self.instance.set_slot(0, u128::from(old));
                Ok(())
            }
            MEMORY_INIT => {
                let (memory, segment, dst, src, len) = (arg(0), arg(1), address(2), address(3), address(4));
                memory_init(&mut self.instance, memory, segment, dst, src, len)
            }
            DATA_DROP => {
                let segment = arg(0);
                if let Some(dropped) = self.instance.dropped_data.get_mut(segment as usize) {
                    *dropped = true;
                }
                Ok(())
            }
            TABLE_INIT => {
                let (table, segment, dst, src, len) = (arg(0), arg(1), address(2), address(3), address(4));
                table_init(&mut self.instance, table, segment, dst, src, len)
            }
            ELEM_DROP => {
                let segment = arg(0);
                if let Some(dropped) = self.instance.dropped_elements.get_mut(segment as usize) {
                    *dropped = true;
                }
                Ok(())
            }
            TABLE_COPY => {
                let (to, from, dst, src, len) = (arg(0), arg(1), address(2), address(3), address(4));
                table_copy(&mut self.instance, to, from, dst, src, len)
            }
            TABLE_GROW => {
                let (table, value, delta) = (arg(0), self.reference(arg(0), 1), address(2));
                let old = self.instance.grow_table(table, value, delta).unwrap_or(u64::MAX);
                self.instance.set_slot(0, u128::from(old));
                Ok(())
            }
            TABLE_FILL => {
                let (table, at, value, len) = (arg(0), address(1), self.reference(arg(0), 2), address(3));
                table_fill(&mut self.instance, table, at, value, len)
            }
            CAUGHT => {
                self.instance.exception_caught();
                Ok(())
            }
            THROW_REF => return self.thrown(Instance::throw_again),
            PASS_ON => return self.thrown(Instance::pass_exception_on),
            _ if call >= THROW_BASE => return self.thrown(|instance| instance.throw(call - THROW_BASE)),
            _ if call >= IMPORT_BASE => {
                return match self.at_point() {
                    Flow::Go => self.call_import(call - IMPORT_BASE),
                    Flow::End => Flow::End,
                };
            }
            _ => {
                return self.end(Ending::Failed(Failure::new(
                    NO_PROGRAM,
                    format!("the program makes an unknown call, number {call}"),
                )));
            }
        };
        match result {
            Ok(()) => Flow::Go,
            Err(trap) => self.trap(trap, trap.message()),
        }
    }

    /// Throws: the program goes on at a handler, or ends.
    fn thrown(&mut self, throw: impl FnOnce(&mut Instance) -> Result<(), Stopped>) -> Flow {
        match throw(&mut self.instance) {
            Ok(()) => Flow::Go,
            Err(Stopped::Trap(trap)) => self.trap(trap, trap.message()),
            Err(Stopped::Limit(message)) => self.trap(Trap::Unreachable, &message),
            Err(Stopped::Frames(e)) => self.end(Ending::Failed(Failure::new(
                FAILED,
                format!("an exception was thrown: {e}"),
            ))),
        }
    }

    /// `memory.grow`: the old size in pages, or -1.
    fn grow_memory(&mut self, memory: u32, delta: u64) -> u64 {
        let old = self.instance.memory_at(memory).map_or(0, Memory::size);
        let new = delta.checked_mul(WASM_PAGE).and_then(|bytes| old.checked_add(bytes));
        match new.map(|new| self.instance.grow_memory_to(memory, new)) {
            Some(Ok(())) => {
                self.note_memory_size();
                old / WASM_PAGE
            }
            _ => u64::MAX,
        }
    }

    /// A reference in a slot, of the type of a table's elements.
    fn reference(&self, table: u32, slot: u32) -> Value {
        let ty = self.instance.program.module.tables.get(table as usize);
        Value::from_bits(ty.map_or(ValType::ExternRef, |t| t.ty), self.instance.slot(slot))
    }

    /// Calls an imported function whose arguments are in the slots.
    pub(crate) fn call_import(&mut self, index: u32) -> Flow {
        let program = self.instance.program;
        self.note_call(index);
        let Some(&HostFunc::Wasi(func)) = program.imports.get(index as usize) else {
            return Flow::Go;
        };
        let params = &program.module.func_type(index).params;
        loop {
            let mut args = [0; MAX_ARGS];
            for ((arg, slot), &ty) in args.iter_mut().zip(0..).zip(params) {
                *arg = Value::from_bits(ty, self.instance.slot(slot)).to_bits() as u64;
            }
            let args = &args[..params.len().min(MAX_ARGS)];
            let memory = match self.instance.memory_at_mut(program.wasi_memory) {
                Some(memory) => memory.bytes_mut(),
                None => &mut [],
            };
            match self.wasi.call(func, args, memory, self.wake) {
                Outcome::Return(value) => {
                    self.instance.set_slot(0, value.into());
                    return Flow::Go;
                }
                Outcome::ReturnNothing => return Flow::Go,
                Outcome::Exit(code) => return self.end(Ending::Exited(code)),
                Outcome::Trap(message) => return self.trap(Trap::Unreachable, &message),
                // Nothing has happened. Serve the request; the arguments are in the slots again afterwards.
                Outcome::Interrupted => {
                    if let Flow::End = self.in_host_call() {
                        return Flow::End;
                    }
                }
            }
        }
    }

    /// Ends the program with a trap raised on the host's side.
    fn trap(&mut self, trap: Trap, message: &str) -> Flow {
        let fault = Fault {
            trap,
            pc: 0,
            fp: self.instance.leave_fp(),
            pending_return: 0,
        };
        let backtrace = trap::describe(&self.instance, &fault);
        self.end(Ending::Trapped {
            message: message.to_owned(),
            backtrace,
        })
    }
}
