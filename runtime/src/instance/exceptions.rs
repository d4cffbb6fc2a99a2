//! Exceptions: those that references may refer to, and how a throw finds its handler.
//!
//! An exception lives from its throw until it is caught without a reference to it being kept; those to which references
//! were made are collected when many have gathered. All of this depends on the program alone, so that the state is
//! equal on every architecture.

use crate::instance::Instance;
use crate::instance::stopped::Stopped;
use dunlin_format::hostcalls::{EXCEPTION_SLOT, PAYLOAD_SLOT, TAG_SLOT, Trap};
use dunlin_format::types::{NULL_REF, ValType, Value};
use dunlin_migrate::frames;
use dunlin_migrate::state::Exception;
use std::collections::BTreeSet;

/// Exceptions that gather before the first collection.
const FIRST_COLLECTION: usize = 1024;

/// The exceptions that references may refer to, by index.
#[derive(Debug)]
pub(crate) struct Exceptions {
    all: Vec<Option<Exception>>,
    /// Indices without an exception; the lowest is used first.
    free: BTreeSet<u32>,
    /// Number of live exceptions that causes a collection.
    limit: usize,
    /// Bytes that they take.
    size: u64,
}

/// Bytes that an exception takes.
fn size(exception: &Exception) -> u64 {
    let values = exception.values.len().saturating_mul(size_of::<Value>());
    (size_of::<Option<Exception>>() + values) as u64
}

impl Exceptions {
    /// The exceptions of a state, by index.
    pub(crate) fn new(all: Vec<Option<Exception>>) -> Exceptions {
        let free = (0..).zip(&all).filter(|(_, e)| e.is_none()).map(|(n, _)| n).collect();
        let limit = FIRST_COLLECTION.max(2 * all.len());
        let size = all.iter().flatten().map(size).sum();
        Exceptions { all, free, limit, size }
    }

    /// The exceptions as a state holds them: without free indices at the end.
    pub(crate) fn state(&self) -> Vec<Option<Exception>> {
        let used = self.all.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.all[..used].to_vec()
    }

    /// Bytes that all of them take.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    fn add(&mut self, exception: Exception) -> u32 {
        self.size += size(&exception);
        if let Some(n) = self.free.pop_first() {
            self.all[n as usize] = Some(exception);
            return n;
        }
        self.all.push(Some(exception));
        self.all.len() as u32 - 1
    }

    fn get(&mut self, n: u32) -> Option<&mut Exception> {
        self.all.get_mut(n as usize)?.as_mut()
    }

    fn forget(&mut self, n: u32) {
        if let Some(exception) = self.all.get_mut(n as usize).and_then(Option::take) {
            self.size -= size(&exception);
            self.free.insert(n);
        }
    }

    fn is_full(&self) -> bool {
        self.all.len() - self.free.len() >= self.limit
    }

    /// Forgets all that can't be reached from `roots`.
    fn collect(&mut self, roots: Vec<u32>) {
        let mut reached = vec![false; self.all.len()];
        let mut todo = roots;
        while let Some(n) = todo.pop() {
            let Some(Some(exception)) = self.all.get(n as usize) else {
                continue;
            };
            if !std::mem::replace(&mut reached[n as usize], true) {
                todo.extend(exception.values.iter().filter_map(|v| match v {
                    Value::ExnRef(n) => *n,
                    _ => None,
                }));
            }
        }
        for (n, _) in (0..).zip(reached).filter(|(_, reached)| !reached) {
            self.forget(n);
        }
        self.limit = FIRST_COLLECTION.max(2 * (self.all.len() - self.free.len()));
    }
}

impl Instance {
    /// `throw`: an exception of this tag, whose payload is in the slots.
    pub(crate) fn throw(&mut self, tag: u32) -> Result<(), Stopped> {
        let module = &self.program.module;
        let ty = module
            .tags
            .get(tag as usize)
            .and_then(|&ty| module.types.get(ty as usize));
        let params = ty.map_or(&[][..], |ty| &ty.params);
        let values = (0..)
            .zip(params)
            .map(|(slot, &ty)| Value::from_bits(ty, self.slot(slot)));
        let exception = Exception {
            tag,
            values: values.collect(),
            referenced: false,
        };
        let size = size(&exception);
        if self.exceptions.is_full() || self.allow(size).is_err() {
            self.collect_exceptions(&exception)?;
            self.allow(size).map_err(|e| Stopped::Limit(e.to_string()))?;
        }
        let n = self.exceptions.add(exception);
        self.unwind(n)
    }

    /// `throw_ref`: the exception that slot 0 refers to, again. Others may refer to it, too.
    pub(crate) fn throw_again(&mut self) -> Result<(), Stopped> {
        let n = self.slot(EXCEPTION_SLOT) as u32;
        if let Some(exception) = self.exceptions.get(n) {
            exception.referenced = true;
        }
        self.unwind(n)
    }

    /// A handler whose clauses don't take the exception in slot 0 passes it on.
    pub(crate) fn pass_exception_on(&mut self) -> Result<(), Stopped> {
        self.unwind(self.slot(EXCEPTION_SLOT) as u32)
    }

    /// The exception in slot 0 was caught, and the handler doesn't keep it.
    pub(crate) fn exception_caught(&mut self) {
        let n = self.slot(EXCEPTION_SLOT) as u32;
        if self.exceptions.get(n).is_some_and(|e| !e.referenced) {
            self.exceptions.forget(n);
        }
    }

    /// Leaves for the innermost handler.
    fn unwind(&mut self, n: u32) -> Result<(), Stopped> {
        let Some(exception) = self.exceptions.get(n).cloned() else {
            return Err(Trap::NullException.into());
        };
        let base = self.stack.usable().start;
        let found = frames::handler(&self.program.maps, base, self.stack.bytes(), self.leave_fp())?;
        let Some(handler) = found else {
            return Err(Trap::UncaughtException.into());
        };
        let leave_fp = frames::leave_to(&self.program.maps, base, self.stack.bytes_mut(), handler)?;
        self.set_leave_fp(leave_fp);
        self.set_slot(EXCEPTION_SLOT, u128::from(n));
        self.set_slot(TAG_SLOT, u128::from(exception.tag));
        for (slot, value) in (PAYLOAD_SLOT..).zip(exception.values) {
            self.set_slot(slot, value.to_bits());
        }
        Ok(())
    }

    /// Forgets the exceptions that nothing refers to; `thrown` isn't among them yet.
    fn collect_exceptions(&mut self, thrown: &Exception) -> Result<(), Stopped> {
        let program = self.program;
        if !program.image().migratable() {
            // Without frame maps nobody knows what the stack refers to.
            return Ok(());
        }
        let base = self.stack.usable().start;
        let mut roots = frames::exceptions(&program.maps, base, self.stack.bytes(), self.leave_fp())?;
        let globals = (0..program.module.globals.len() as u32).map(|g| self.global(g));
        roots.extend(globals.chain(thrown.values.iter().copied()).filter_map(|v| match v {
            Value::ExnRef(n) => n,
            _ => None,
        }));
        let tables = program.module.tables.iter().zip(self.tables());
        let tables = tables.filter(|(declared, _)| declared.ty == ValType::ExnRef);
        roots.extend(tables.flat_map(|(_, entries)| entries.iter().map(|e| e.func).filter(|&n| n != NULL_REF)));
        self.exceptions.collect(roots);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(values: Vec<Value>) -> Exception {
        Exception {
            tag: 0,
            values,
            referenced: true,
        }
    }

    #[test]
    fn the_lowest_free_index_is_used_and_survives_a_move() {
        let mut e = Exceptions::new(vec![]);
        assert_eq!([0, 1, 2], [0; 3].map(|_| e.add(exception(vec![]))));
        e.forget(2);
        e.forget(0);
        assert_eq!(e.state().len(), 2);
        let mut moved = Exceptions::new(e.state());
        assert_eq!((moved.add(exception(vec![])), e.add(exception(vec![]))), (0, 0));
        assert_eq!((moved.add(exception(vec![])), e.add(exception(vec![]))), (2, 2));
    }

    #[test]
    fn what_is_referred_to_is_kept() {
        let mut e = Exceptions::new(vec![]);
        let inner = e.add(exception(vec![]));
        let outer = e.add(exception(vec![Value::ExnRef(Some(inner)), Value::ExnRef(None)]));
        let lost = e.add(exception(vec![Value::ExnRef(Some(outer))]));
        e.collect(vec![outer, 99]);
        assert!(e.get(inner).is_some() && e.get(outer).is_some() && e.get(lost).is_none());
        assert_eq!(
            e.size(),
            size(&exception(vec![])) + size(&exception(vec![Value::ExnRef(None); 2]))
        );
        e.collect(vec![]);
        assert!(e.state().is_empty() && e.size() == 0);
    }
}
