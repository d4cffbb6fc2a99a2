//! Makes a module that shows a difference smaller, for as long as it shows one: fewer commands, emptied functions,
//! fewer instructions.
//!
//! Without modes, what is to be shown is that `dunlin build` crashes.

use crate::case::{Case, NoCase};
use crate::dunlin::{RunError, Runtimes, Workshop};
use crate::judge::{Judge, Mode};
use crate::keep;
use crate::rewrite::{bodies, with_bodies};
use wasmparser::{BinaryReaderError, Validator, WasmFeatures};

/// Why nothing was reduced.
#[derive(Debug, thiserror::Error)]
pub enum ReduceError {
    /// The seed has no module.
    #[error(transparent)]
    NoCase(#[from] NoCase),
    /// Dunlin can't be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The module can't be read.
    #[error(transparent)]
    Read(#[from] BinaryReaderError),
    /// There is nothing to keep.
    #[error("the modes find no difference")]
    Same,
}

struct Reducer<'a> {
    runtimes: Runtimes,
    workshop: Workshop,
    modes: &'a [Mode],
    best: Case,
    message: String,
}

/// Reduces a seed's case with respect to these modes; keeps the result, and says what it shows.
pub fn reduce(seed: u64, modes: &[Mode]) -> Result<String, ReduceError> {
    let mut reducer = Reducer {
        runtimes: Runtimes::load()?,
        workshop: Workshop::new("reduce")?,
        modes,
        best: Case::of(seed)?,
        message: String::new(),
    };
    let case = reducer.best.clone();
    if !reducer.accept(case) {
        return Err(ReduceError::Same);
    }
    loop {
        let before = (reducer.best.reference.len(), reducer.best.commands.len());
        reducer.fewer_commands();
        reducer.emptier_functions()?;
        reducer.fewer_instructions()?;
        if before == (reducer.best.reference.len(), reducer.best.commands.len()) {
            break;
        }
    }
    keep::failure(&reducer.best, "reduced", &reducer.message);
    let at = keep::dir().join(format!("{seed}-reduced.wasm"));
    Ok(format!(
        "{}\n{} bytes: {}",
        reducer.message,
        reducer.best.wasm.len(),
        at.display()
    ))
}

impl Reducer<'_> {
    /// Takes the case if a mode still finds a difference.
    fn accept(&mut self, case: Case) -> bool {
        if self.modes.is_empty() {
            return match self.workshop.crash(&case) {
                Ok(Some(message)) => {
                    (self.best, self.message) = (case, message);
                    true
                }
                _ => false,
            };
        }
        let Ok(mut judge) = Judge::new(&self.runtimes, &self.workshop, &case, self.modes) else {
            return false;
        };
        let differs = |mode: &Mode| judge.compare(*mode).ok().and_then(|compared| compared.difference);
        match self.modes.iter().find_map(differs) {
            Some(difference) => {
                drop(judge);
                self.best = case;
                self.message = difference;
                true
            }
            None => false,
        }
    }

    fn try_module(&mut self, module: Vec<u8>) -> bool {
        if Validator::new_with_features(WasmFeatures::all())
            .validate_all(&module)
            .is_err()
        {
            return false;
        }
        match self.best.with_module(module) {
            Ok(case) => self.accept(case),
            Err(_) => false,
        }
    }

    fn fewer_commands(&mut self) {
        let mut size = self.best.commands.len();
        while size > 0 {
            let mut at = 0;
            while at < self.best.commands.len() {
                let mut case = self.best.clone();
                case.commands.drain(at..(at + size).min(case.commands.len()));
                if !self.accept(case) {
                    at += size;
                }
            }
            size /= 2;
        }
    }

    fn emptier_functions(&mut self) -> Result<(), BinaryReaderError> {
        let count = bodies(&self.best.reference)?.len();
        for func in 0..count {
            // No locals; unreachable; end.
            let body = vec![0, 0x00, 0x0b];
            self.try_body(func, body)?;
        }
        Ok(())
    }

    fn try_body(&mut self, func: usize, body: Vec<u8>) -> Result<bool, BinaryReaderError> {
        let module = self.best.reference.clone();
        let mut all: Vec<Vec<u8>> = bodies(&module)?
            .iter()
            .map(|b| join(b.locals, b.ops.iter().map(|op| op.1)))
            .collect();
        if all[func].len() <= body.len() {
            return Ok(false);
        }
        all[func] = body;
        Ok(self.try_module(with_bodies(&module, &all)?))
    }

    fn fewer_instructions(&mut self) -> Result<(), BinaryReaderError> {
        let count = bodies(&self.best.reference)?.len();
        for func in 0..count {
            let mut size = bodies(&self.best.reference)?[func].ops.len() / 2;
            while size > 0 {
                let mut at = 0;
                loop {
                    let module = self.best.reference.clone();
                    let body = &bodies(&module)?[func];
                    // The last `end` stays.
                    if at + size >= body.ops.len() {
                        break;
                    }
                    let rest = |middle: &'static [u8]| {
                        let (before, after) = (&body.ops[..at], &body.ops[at + size..]);
                        let ops = before
                            .iter()
                            .map(|op| op.1)
                            .chain([middle])
                            .chain(after.iter().map(|op| op.1));
                        join(body.locals, ops)
                    };
                    // Nothing; drop; i32.const 0; i64.const 0; unreachable.
                    let stand_ins: [&[u8]; 5] = [&[], &[0x1a], &[0x41, 0], &[0x42, 0], &[0x00]];
                    let mut done = false;
                    for middle in stand_ins {
                        if self.try_body(func, rest(middle))? {
                            done = true;
                            break;
                        }
                    }
                    if !done {
                        at += size;
                    } else if size == 1 {
                        at += 1;
                    }
                }
                size /= 2;
            }
        }
        Ok(())
    }
}

fn join<'a>(locals: &[u8], ops: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut body = locals.to_vec();
    ops.for_each(|op| body.extend_from_slice(op));
    body
}
