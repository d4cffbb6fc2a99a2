//! One instance of the program: its context, memory, stack and tables. Everything that a migration replaces.

pub(crate) mod context;
pub(crate) mod exceptions;
pub(crate) mod instantiate;
#[cfg(feature = "pulley")]
pub(crate) mod interpreter_stack;
pub(crate) mod memory;
#[cfg(not(feature = "pulley"))]
pub(crate) mod stack;
pub(crate) mod stopped;

use crate::instance::exceptions::Exceptions;
#[cfg(feature = "pulley")]
use crate::instance::interpreter_stack::WasmStack;
use crate::instance::memory::{MAX_PAGES, Memory, MemoryError, RESERVED, WASM_PAGE, reservation64};
#[cfg(not(feature = "pulley"))]
use crate::instance::stack::WasmStack;
use crate::program::Program;
use dunlin_format::context::{ContextHeader, TableEntry};
use dunlin_format::module::{self, ConstExpr};
use dunlin_format::types::{ValType, Value};
use dunlin_interface::options::{DEFAULT_STACK_SIZE, Options};
use dunlin_migrate::transfer::LinearMemories;

/// The most elements a table may have, as in wasmtime.
pub(crate) const MAX_TABLE: u64 = 10_000_000;

/// Size of a table's element in bytes.
const ELEMENT: u64 = size_of::<TableEntry>() as u64;

/// The memory that the user allows a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Size of the WebAssembly stack in bytes.
    pub stack: u64,
    /// The most that linear memories, tables and exceptions may take together, in bytes.
    pub memory: Option<u64>,
}

impl Limits {
    /// The limits that options set.
    pub(crate) fn new(options: &Options) -> Limits {
        Limits {
            stack: options.stack_size.unwrap_or(DEFAULT_STACK_SIZE),
            memory: options.max_memory,
        }
    }
}

/// Why an instance can't be made.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Memory can't be had.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A table can't be had.
    #[error("a table of {0} elements is too large: at most {MAX_TABLE} are possible")]
    Table(u64),
    /// Tables take more than the user allows.
    #[error("the program needs {needed} bytes of memory with its tables, but only {limit} are allowed (--max-memory)")]
    Limit {
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
}

impl LinearMemories for Instance {
    fn bytes_mut(&mut self, memory: u32) -> Option<&mut [u8]> {
        self.memory_at_mut(memory).map(Memory::bytes_mut)
    }
}

/// The code outside of the program that it calls through its context, by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thunks {
    /// See [`ContextHeader::leave`].
    pub leave: u64,
    /// See [`ContextHeader::memmove`].
    pub memmove: u64,
    /// See [`ContextHeader::memset`].
    pub memset: u64,
}

/// An instance. Compiled code knows it by its context pointer.
#[derive(Debug)]
pub(crate) struct Instance {
    /// The program that it is an instance of.
    pub program: &'static Program,
    /// Context and linear memory 0.
    pub memory: Memory,
    /// Linear memories from 1 on.
    pub more: Vec<Memory>,
    /// The stack of its frames.
    pub stack: WasmStack,
    /// Its tables. The context holds their addresses and lengths: [`Instance::write_table`] after every change of
    /// those.
    tables: Vec<Vec<TableEntry>>,
    /// Exceptions that references may refer to.
    pub exceptions: Exceptions,
    /// For each element segment: was it dropped?
    pub dropped_elements: Vec<bool>,
    /// For each data segment: was it dropped?
    pub dropped_data: Vec<bool>,
    /// The most of each memory, in bytes: the lesser of the module's and the machine's limit.
    max_memory: Vec<u64>,
    /// The most of memories, tables and exceptions together, in bytes: the user's limit.
    allowed: u64,
}

impl Instance {
    /// An instance before instantiation: memory of its least size, everything zero or null. `thunks` are what
    /// compiled code calls the runtime by.
    pub(crate) fn new(program: &'static Program, limits: &Limits, thunks: Thunks) -> Result<Instance, InstanceError> {
        let module = &program.module;
        let stack = WasmStack::new(limits.stack as usize)?;
        let reserved = |m: &module::Memory| if m.memory64 { reservation64(m.max) } else { RESERVED };
        let most = |m: &module::Memory| match m.memory64 {
            false => m.max.unwrap_or(MAX_PAGES).min(MAX_PAGES) * WASM_PAGE,
            true if m.max == Some(0) => 0,
            true => reservation64(m.max),
        };
        let memory = Memory::reserve(
            program.layout.size(),
            module.memories.first().map_or(RESERVED, reserved),
        )?;
        let more = module.memories.iter().skip(1).map(|m| Memory::reserve(0, reserved(m)));
        let more = more.collect::<Result<_, _>>()?;
        let mut instance = Instance {
            program,
            memory,
            more,
            stack,
            tables: Vec::with_capacity(module.tables.len()),
            exceptions: Exceptions::new(Vec::new()),
            dropped_elements: vec![false; module.elements.len()],
            dropped_data: vec![false; module.data.len()],
            max_memory: module.memories.iter().map(most).collect(),
            allowed: limits.memory.unwrap_or(u64::MAX),
        };
        instance.write_header(thunks);
        for (index, global) in (0..).zip(&module.globals) {
            instance.set_global(index, Value::zero(global.ty));
        }
        for table in &module.tables {
            instance.add_table(table.ty, table.min)?;
        }
        for (index, memory) in (0..).zip(&module.memories) {
            instance.grow_memory_to(index, memory.min.saturating_mul(WASM_PAGE))?;
        }
        Ok(instance)
    }

    /// Appends a table of nulls and makes it known to compiled code.
    fn add_table(&mut self, ty: ValType, len: u64) -> Result<(), InstanceError> {
        if len > MAX_TABLE {
            return Err(InstanceError::Table(len));
        }
        self.allow(len.saturating_mul(ELEMENT))?;
        let table = vec![self.program.entry(Value::zero(ty)); len as usize];
        let index = self.tables.len() as u32;
        self.tables.push(table);
        self.write_table(index);
        Ok(())
    }

    /// Replaces a table's elements, of any number that validation allows.
    pub(crate) fn set_table(&mut self, index: u32, elements: &[Option<u32>]) -> Result<(), InstanceError> {
        if elements.len() as u64 > MAX_TABLE {
            return Err(InstanceError::Table(elements.len() as u64));
        }
        let old = self.tables.get(index as usize).map_or(0, Vec::len);
        self.allow((elements.len().saturating_sub(old) as u64).saturating_mul(ELEMENT))?;
        if let (Some(table), Some(declared)) = (
            self.tables.get_mut(index as usize),
            self.program.module.tables.get(index as usize),
        ) {
            let entry = |&reference: &Option<u32>| {
                let bits = reference.map_or(Value::zero(declared.ty).to_bits(), u128::from);
                self.program.entry(Value::from_bits(declared.ty, bits))
            };
            *table = elements.iter().map(entry).collect();
            self.write_table(index);
        }
        Ok(())
    }

    /// The elements of every table.
    pub(crate) fn tables(&self) -> &[Vec<TableEntry>] {
        &self.tables
    }

    /// A table's elements.
    pub(crate) fn table_mut(&mut self, index: u32) -> Option<&mut [TableEntry]> {
        self.tables.get_mut(index as usize).map(Vec::as_mut_slice)
    }

    /// Grows a table by `delta` elements of this value; its old length, or `None` if it can't grow so far.
    pub(crate) fn grow_table(&mut self, index: u32, value: Value, delta: u64) -> Option<u64> {
        let declared = self.program.module.tables.get(index as usize)?;
        self.allow(delta.saturating_mul(ELEMENT)).ok()?;
        let entry = self.program.entry(value);
        let table = self.tables.get_mut(index as usize)?;
        let old = table.len() as u64;
        let new = old.checked_add(delta)?;
        if new > declared.max.unwrap_or(u64::MAX).min(MAX_TABLE) || table.try_reserve_exact(delta as usize).is_err() {
            return None;
        }
        table.resize(new as usize, entry);
        self.write_table(index);
        Some(old)
    }

    fn write_table(&mut self, index: u32) {
        let layout = &self.program.layout;
        let table = &mut self.tables[index as usize];
        let (base, len) = (table.as_mut_ptr() as u64, table.len() as u64);
        self.write_context(layout.table_base(index), base.to_le_bytes());
        self.write_context(layout.table_len(index), len.to_le_bytes());
    }

    fn write_header(&mut self, thunks: Thunks) {
        let Thunks { leave, memmove, memset } = thunks;
        let header = ContextHeader {
            runtime: 0,
            host_sp: 0,
            wasm_fp: 0,
            functions: self.program.function_table(),
            reserved64: 0,
            leave,
            memmove,
            memset,
            memory_size: 0,
            poll: 0,
            reserved: 0,
        };
        // SAFETY: the context begins below the base and is this instance's alone; nothing runs on it yet.
        unsafe { context::header(self.memory.base()).write(header) };
    }

    /// Writes bytes of the context at a (negative) offset that its layout gave.
    fn write_context<const N: usize>(&mut self, offset: i32, bytes: [u8; N]) {
        assert!(offset < 0 && offset as i64 >= -(self.program.layout.size() as i64));
        // SAFETY: the offset lies in the context, which is writable and this instance's alone; the program is stopped.
        unsafe {
            self.memory
                .base()
                .wrapping_offset(offset as isize)
                .cast::<[u8; N]>()
                .write_unaligned(bytes)
        };
    }

    fn read_context<const N: usize>(&self, offset: i32) -> [u8; N] {
        assert!(offset < 0 && offset as i64 >= -(self.program.layout.size() as i64));
        // SAFETY: the offset lies in the context, which is readable; the program is stopped.
        unsafe {
            self.memory
                .base()
                .wrapping_offset(offset as isize)
                .cast::<[u8; N]>()
                .read_unaligned()
        }
    }

    /// The raw bits of a slot.
    pub(crate) fn slot(&self, slot: u32) -> u128 {
        assert!(slot < self.program.layout.num_slots());
        u128::from_le_bytes(self.read_context(self.program.layout.slot(slot)))
    }

    /// Sets the raw bits of a slot.
    pub(crate) fn set_slot(&mut self, slot: u32, bits: u128) {
        assert!(slot < self.program.layout.num_slots());
        self.write_context(self.program.layout.slot(slot), bits.to_le_bytes());
    }

    /// The value of a global.
    pub(crate) fn global(&self, index: u32) -> Value {
        let ty = self.program.module.globals[index as usize].ty;
        Value::from_bits(
            ty,
            u128::from_le_bytes(self.read_context(self.program.layout.global(index))),
        )
    }

    /// Sets the value of a global.
    pub(crate) fn set_global(&mut self, index: u32, value: Value) {
        assert!((index as usize) < self.program.module.globals.len());
        self.write_context(self.program.layout.global(index), value.to_bits().to_le_bytes());
    }

    /// The value of a constant expression.
    pub(crate) fn constant(&self, expr: &ConstExpr) -> Value {
        let value = expr.value(|global| Some(self.global(global)));
        value.expect("validated: a constant expression has a value")
    }

    /// A linear memory.
    pub(crate) fn memory_at(&self, index: u32) -> Option<&Memory> {
        match index {
            0 if self.program.module.memories.is_empty() => None,
            0 => Some(&self.memory),
            n => self.more.get(n as usize - 1),
        }
    }

    /// A linear memory.
    pub(crate) fn memory_at_mut(&mut self, index: u32) -> Option<&mut Memory> {
        match index {
            0 if self.program.module.memories.is_empty() => None,
            0 => Some(&mut self.memory),
            n => self.more.get_mut(n as usize - 1),
        }
    }

    /// Every linear memory, in order.
    pub(crate) fn memories(&self) -> impl Iterator<Item = &Memory> {
        (0..).map_while(|index| self.memory_at(index))
    }

    /// Size of all memories together, in bytes.
    pub(crate) fn memory_size(&self) -> u64 {
        self.memories().map(Memory::size).sum()
    }

    /// Bytes that count for the user's limit: those of linear memories, tables, and exceptions.
    pub(crate) fn used(&self) -> u64 {
        let elements: usize = self.tables.iter().map(Vec::len).sum();
        self.memory_size() + elements as u64 * ELEMENT + self.exceptions.size()
    }

    /// Refuses to let it use this many bytes more than now, if the user's limit doesn't allow that.
    pub(crate) fn allow(&self, more: u64) -> Result<(), InstanceError> {
        let (needed, limit) = (self.used().saturating_add(more), self.allowed);
        match more > 0 && needed > limit {
            true => Err(InstanceError::Limit { needed, limit }),
            false => Ok(()),
        }
    }

    /// Grows a linear memory to this many bytes, and tells compiled code.
    pub(crate) fn grow_memory_to(&mut self, index: u32, bytes: u64) -> Result<(), MemoryError> {
        let limit = self.max_memory.get(index as usize).copied().unwrap_or(0);
        if bytes > limit {
            return Err(MemoryError::Limit { needed: bytes, limit });
        }
        let more = bytes.saturating_sub(self.memory_at(index).map_or(0, Memory::size));
        let needed = self.used().saturating_add(more);
        if more > 0 && needed > self.allowed {
            let limit = self.allowed;
            return Err(MemoryError::Limit { needed, limit });
        }
        let Some(memory) = self.memory_at_mut(index) else {
            return Ok(());
        };
        memory.grow_to(bytes)?;
        let (base, size) = (memory.base().addr() as u64, memory.size());
        let layout = &self.program.layout;
        if index > 0 {
            self.write_context(layout.memory_base(index), base.to_le_bytes());
        }
        self.write_context(layout.memory_size(index), size.to_le_bytes());
        Ok(())
    }

    /// The context pointer.
    pub(crate) fn ctx(&self) -> *mut u8 {
        self.memory.base()
    }

    /// Frame pointer of the leave thunk's frame, while the host runs.
    pub(crate) fn leave_fp(&self) -> u64 {
        // SAFETY: the header lies below the base, and the program is stopped.
        unsafe { (&raw const (*context::header(self.ctx())).wasm_fp).read() }
    }

    /// Sets the frame pointer at which the program goes on.
    pub(crate) fn set_leave_fp(&mut self, fp: u64) {
        // SAFETY: as in `leave_fp`.
        unsafe { (&raw mut (*context::header(self.ctx())).wasm_fp).write(fp) };
    }

    /// The word that compiled code polls.
    pub(crate) fn poll_word(&self) -> *mut u32 {
        // SAFETY: the header lies below the base; no reference to it is made.
        unsafe { &raw mut (*context::header(self.ctx())).poll }
    }
}
