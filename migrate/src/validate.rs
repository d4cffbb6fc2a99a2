//! Checks a state against a module: everything that a hostile snapshot could lie about, before anything of it is used.
//!
//! After [`validate`], the runtime may index by every number in the state. Not checked here: the WASI part (it is
//! checked where it is restored, against the machine's own grants), and whether this architecture has code at every
//! point (the optimiser may have proved one unreachable: [`crate::frames::rebuild`] then refuses it).

use crate::frames::{FrameError, FrameMaps};
use crate::state::{Exception, Frame, Invocation, MemoryState, State, TableState};
use dunlin_format::framemap::{Callee, Home, HomeKind};
use dunlin_format::module::ModuleInfo;
use dunlin_format::point::{PointKind, Slot};
use dunlin_format::types::{NULL_REF, ValType, Value};

/// Greatest number of frames that is accepted.
pub const MAX_FRAMES: usize = 1 << 24;
/// Greatest size of a 32-bit memory, in 64 KiB pages.
pub const MAX_PAGES: u64 = 1 << 16;
/// Greatest size of a 64-bit memory, in 64 KiB pages.
pub const MAX_PAGES_64: u64 = 1 << 32;

/// Why a state isn't one of this module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The frame maps of the image can't be used.
    #[error(transparent)]
    Maps(#[from] FrameError),
    /// There is no frame, or there are too many.
    #[error("the snapshot has {0} frames, possible are 1 to {MAX_FRAMES}")]
    FrameCount(usize),
    /// The outermost frame isn't of the function that was invoked.
    #[error("the snapshot's outermost frame is of function {func}, which is not {invoked}")]
    Invocation {
        /// Its function.
        func: u32,
        /// What was invoked.
        invoked: String,
    },
    /// Something is wrong with a frame.
    #[error("the snapshot's frame {depth} (0 is the outermost; function {func} at {offset:#x}) is impossible: {what}")]
    Frame {
        /// Which frame, from the outermost.
        depth: usize,
        /// Its function.
        func: u32,
        /// Its offset.
        offset: u32,
        /// What is wrong.
        what: String,
    },
    /// There are more or fewer globals, memories, tables or segments than the module has.
    #[error("the snapshot has {found} {what}, the module has {expected}")]
    Count {
        /// Of what.
        what: &'static str,
        /// In the module.
        expected: usize,
        /// In the state.
        found: usize,
    },
    /// Something is wrong with a global.
    #[error("the snapshot's global {index} is impossible: {what}")]
    Global {
        /// Which.
        index: usize,
        /// What is wrong.
        what: String,
    },
    /// Something is wrong with an exception.
    #[error("the snapshot's exception {index} is impossible: {what}")]
    Exception {
        /// Which.
        index: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A memory's or table's size is outside the module's limits.
    #[error("the snapshot's {what} {index} has {size} {unit}, possible are {min} to {max}")]
    Size {
        /// Memory or table.
        what: &'static str,
        /// Which.
        index: usize,
        /// Its size.
        size: u64,
        /// In pages or elements.
        unit: &'static str,
        /// Smallest possible.
        min: u64,
        /// Greatest possible.
        max: u64,
    },
    /// A table's element refers to nothing.
    #[error("the snapshot's table {table} refers to function {reference} in element {element}, which doesn't exist")]
    Element {
        /// Which table.
        table: usize,
        /// Which element.
        element: usize,
        /// What it refers to.
        reference: u32,
    },
}

/// Checks `state` against the module it claims to be of, and normalises it: values that aren't live at their frame's
/// point are dropped, so that every frame has exactly the live ones, ascending by slot.
pub fn validate(state: &mut State, module: &ModuleInfo, maps: &FrameMaps<'_>) -> Result<(), StateError> {
    exceptions(state, module)?;
    frames(state, module, maps)?;
    globals(state, module)?;
    // Every field by name: a new one must not be believed unseen.
    let State {
        module: _, // Compared with the header's and the program's by whoever reads the snapshot.
        wasi: _,   // Checked where it is restored.
        // Checked above.
        invocation: _,
        frames: _,
        exceptions: there,
        globals: _,
        memories,
        tables,
        dropped_elements,
        dropped_data,
    } = state;
    count("memories", module.memories.len(), memories.len())?;
    count("tables", module.tables.len(), tables.len())?;
    count("element segments", module.elements.len(), dropped_elements.len())?;
    count("data segments", module.data.len(), dropped_data.len())?;
    for (index, (memory, &mut MemoryState { pages })) in module.memories.iter().zip(memories).enumerate() {
        let most = if memory.memory64 { MAX_PAGES_64 } else { MAX_PAGES };
        let max = memory.max.unwrap_or(most).min(most);
        size("memory", index, pages, "pages", memory.min, max)?;
    }
    for (index, (table, TableState { elements })) in module.tables.iter().zip(tables).enumerate() {
        let max = table.max.unwrap_or(u32::MAX.into()).min(u32::MAX.into());
        size("table", index, elements.len() as u64, "elements", table.min, max)?;
        let references = elements.iter().enumerate().filter_map(|(n, e)| Some((n, (*e)?)));
        for (element, reference) in references {
            if !is_reference(table.ty, reference, module, there) {
                return Err(StateError::Element {
                    table: index,
                    element,
                    reference,
                });
            }
        }
    }
    Ok(())
}

fn count(what: &'static str, expected: usize, found: usize) -> Result<(), StateError> {
    if expected == found {
        Ok(())
    } else {
        Err(StateError::Count { what, expected, found })
    }
}

fn size(what: &'static str, index: usize, size: u64, unit: &'static str, min: u64, max: u64) -> Result<(), StateError> {
    if (min..=max).contains(&size) {
        Ok(())
    } else {
        Err(StateError::Size {
            what,
            index,
            size,
            unit,
            min,
            max,
        })
    }
}

fn globals(state: &State, module: &ModuleInfo) -> Result<(), StateError> {
    count("globals", module.globals.len(), state.globals.len())?;
    for (index, (global, &value)) in module.globals.iter().zip(&state.globals).enumerate() {
        let wrong = |what| Err(StateError::Global { index, what });
        if value.ty() != global.ty {
            return wrong(format!("it is of type {}, not {}", value.ty(), global.ty));
        }
        if !is_value(value, module, &state.exceptions) {
            return wrong("it refers to something that doesn't exist".into());
        }
        // The compiler may have folded a constant into the code: another value would be two values at once.
        let constant = global.init.value(|of| state.globals.get(of as usize).copied());
        if !global.mutable && constant.is_some_and(|c| c != value) {
            return wrong("it is constant, and has another value in the module".into());
        }
    }
    Ok(())
}

/// Whether a value can exist in the module: function references have a function.
fn is_value(value: Value, module: &ModuleInfo, exceptions: &[Option<Exception>]) -> bool {
    match value {
        Value::FuncRef(Some(n)) | Value::ExternRef(Some(n)) | Value::ExnRef(Some(n)) => {
            is_reference(value.ty(), n, module, exceptions)
        }
        Value::FuncRef(None) | Value::ExternRef(None) | Value::ExnRef(None) => true,
        // Any bits are a number.
        Value::I32(_) | Value::I64(_) | Value::F32(_) | Value::F64(_) | Value::V128(_) => true,
    }
}

fn is_reference(ty: ValType, reference: u32, module: &ModuleInfo, exceptions: &[Option<Exception>]) -> bool {
    match ty {
        ValType::FuncRef => (reference as usize) < module.funcs.len(),
        ValType::ExnRef => matches!(exceptions.get(reference as usize), Some(Some(_))),
        // Any number but the one that stands for null.
        ValType::ExternRef => reference != NULL_REF,
        // No references.
        ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64 | ValType::V128 => false,
    }
}

/// Exceptions are of the module's tags, carry values of their types, and refer to what there is.
fn exceptions(state: &State, module: &ModuleInfo) -> Result<(), StateError> {
    let all = state.exceptions.iter().enumerate();
    for (index, exception) in all.filter_map(|(index, e)| Some((index, e.as_ref()?))) {
        let wrong = |what| Err(StateError::Exception { index, what });
        let Exception {
            tag,
            values,
            referenced: _, // Either may be.
        } = exception;
        let ty = module
            .tags
            .get(*tag as usize)
            .and_then(|&ty| module.types.get(ty as usize));
        let Some(ty) = ty else {
            return wrong("its tag doesn't exist");
        };
        if !values.iter().map(|v| v.ty()).eq(ty.params.iter().copied()) {
            return wrong("it carries values of other types than its tag");
        }
        if !values.iter().all(|&v| is_value(v, module, &state.exceptions)) {
            return wrong("it refers to something that doesn't exist");
        }
    }
    Ok(())
}

fn frames(state: &mut State, module: &ModuleInfo, maps: &FrameMaps<'_>) -> Result<(), StateError> {
    let total = state.frames.len();
    let outermost = match state.frames.first() {
        Some(frame) if total <= MAX_FRAMES => frame.func,
        _ => return Err(StateError::FrameCount(total)),
    };
    let (invoked, name) = match &state.invocation {
        Invocation::Start => (module.start, "the start function".into()),
        Invocation::Export(name) => (module.exported_func(name), format!("the exported function {name:?}")),
    };
    if invoked.is_none_or(|f| !may_run(module, Callee::Func(f), outermost)) {
        return Err(StateError::Invocation {
            func: outermost,
            invoked: name,
        });
    }
    let mut wanted = Callee::Func(outermost);
    for (depth, frame) in state.frames.iter_mut().enumerate() {
        let &mut Frame {
            func,
            offset,
            kind,
            ref mut values,
        } = frame;
        let wrong = |what: String| StateError::Frame {
            depth,
            func,
            offset,
            what,
        };
        if func as usize >= module.funcs.len() {
            return Err(wrong("the function doesn't exist".into()));
        }
        if !may_run(module, wanted, func) {
            return Err(wrong(match wanted {
                Callee::Func(called) => format!("its caller called function {called}"),
                Callee::Type(called) => format!("its caller called a function of type {called}"),
                Callee::None => "its caller called nothing".into(),
            }));
        }
        let function = maps.function(func)?;
        let point = function.points.point_at(offset).filter(|p| p.kind == kind);
        let no_point = || {
            format!(
                "there is no migration point of kind {kind} there (other versions of dunlin may put some elsewhere)"
            )
        };
        let point = point.ok_or_else(|| wrong(no_point()))?;
        let innermost = depth + 1 == total;
        if innermost == (point.kind == PointKind::Call) {
            let place = if innermost {
                "the innermost frame"
            } else {
                "a frame that waits for another"
            };
            return Err(wrong(format!("{place} can't be at a point of kind {}", point.kind)));
        }
        normalise(values, &function.points.live_at(point), &function.points.homes).map_err(wrong)?;
        if let Some((slot, _)) = values.iter().find(|v| !is_value(v.1, module, &state.exceptions)) {
            return Err(wrong(format!("{slot} refers to something that doesn't exist")));
        }
        wanted = point.callee;
    }
    Ok(())
}

/// Whether a frame of `func` can lie above one that called `callee`: it is what was called, or, in a module with tail
/// calls, what took its place, which returns values of the same types.
fn may_run(module: &ModuleInfo, callee: Callee, func: u32) -> bool {
    let own = module.funcs.get(func as usize).copied();
    let (same, ty) = match callee {
        Callee::Func(called) => (called == func, module.funcs.get(called as usize).copied()),
        // What `call_indirect` compares: equal types, whatever their indices.
        Callee::Type(called) => (
            own.is_some_and(|own| module.canonical_type(own) == called),
            Some(called),
        ),
        Callee::None => return false,
    };
    same || module.needs.tail_calls && ty.is_some_and(|ty| module.returns_like(func, ty))
}

/// Keeps of a frame's values those of the homes that are live at its point; an error tells what is wrong.
fn normalise(values: &mut Vec<(Slot, Value)>, live: &[u32], homes: &[Home]) -> Result<(), String> {
    if !values.is_sorted_by(|a, b| a.0 < b.0) {
        return Err("its values are out of order, or one occurs twice".into());
    }
    let slots = || {
        let homes = live.iter().filter_map(|&h| homes.get(h as usize));
        homes.filter_map(|h| match h.kind {
            HomeKind::Slot(slot) => Some((slot, h.ty)),
            HomeKind::Context => None,
        })
    };
    // The usual case: a state that was captured, not made up, with homes in the order of slots.
    if !slots().eq(values.iter().map(|v| (v.0, v.1.ty()))) {
        let mut kept = Vec::with_capacity(live.len());
        for (slot, ty) in slots() {
            let found = values
                .binary_search_by_key(&slot, |v| v.0)
                .map_err(|_| format!("{slot} has no value"))?;
            let value = values[found].1;
            if value.ty() != ty {
                return Err(format!("{slot} is of type {}, not {ty}", value.ty()));
            }
            kept.push((slot, value));
        }
        kept.sort_unstable_by_key(|v| v.0);
        *values = kept;
    }
    Ok(())
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
