//! The references: engines that say what a module must do. wasmi interprets, so it shares nothing with Dunlin but the
//! specification; wasmtime does what wasmi can't, with Cranelift's optimiser off and another translator.

#[cfg(feature = "reference")]
mod interpreter;
#[cfg(feature = "reference")]
mod jit;
#[cfg(not(feature = "reference"))]
mod none;
#[cfg(not(feature = "reference"))]
use none as interpreter;
#[cfg(not(feature = "reference"))]
use none as jit;

use crate::case::Case;
use crate::script::show_trap;
use dunlin_format::hostcalls::Trap;
use dunlin_format::types::Value;
use wasmparser::{BinaryReaderError, ExternalKind, Parser, Payload, Validator, WasmFeatures};

/// What wasmi validates.
const INTERPRETED: WasmFeatures = WasmFeatures::WASM1
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::RELAXED_SIMD);

/// Which engine has judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Engine {
    /// wasmi.
    Interpreter,
    /// wasmtime.
    Jit,
}

/// Why the reference has nothing to say.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The module can't be read.
    #[error(transparent)]
    Read(#[from] BinaryReaderError),
    /// The engine refuses the module.
    #[error("{0:?}: {1}")]
    Refused(Engine, String),
    /// The engine ends a call in a way that is neither a result nor a trap.
    #[error("{0:?}: {1}")]
    Ended(Engine, String),
    /// Something isn't exported that is to be compared.
    #[error("{0} {1} is not exported")]
    Hidden(&'static str, usize),
}

/// Why instantiation or a call ended.
enum Stop {
    Trap(Trap),
    #[cfg_attr(not(feature = "reference"), allow(dead_code, reason = "there is no engine"))]
    Engine(String),
}

impl From<Trap> for Stop {
    fn from(trap: Trap) -> Stop {
        Stop::Trap(trap)
    }
}

/// An instance in a reference engine.
trait Instance {
    /// Takes the lines of the host calls since the last time.
    fn calls(&mut self) -> String;
    fn set_fuel(&mut self, fuel: u32) -> Result<(), String>;
    fn invoke(&mut self, name: &str, args: &[Value]) -> Result<Vec<String>, Stop>;
    /// A memory's pages and bytes.
    fn memory(&mut self, name: &str) -> Option<(u64, Vec<u8>)>;
    fn global(&mut self, name: &str) -> Option<String>;
    /// Which elements are null.
    fn table(&mut self, name: &str) -> Option<Vec<bool>>;
}

/// Runs a case on the interpreter; its replies, or none if it doesn't take the module.
pub fn interpreted(case: &Case) -> Result<Option<Vec<String>>, ReferenceError> {
    if Validator::new_with_features(INTERPRETED)
        .validate_all(&case.reference)
        .is_err()
    {
        return Ok(None);
    }
    match interpreter::instantiate(&case.reference) {
        // Some of its errors are traps under another name, as a segment that doesn't fit its table.
        Ok(started) => match replies(Engine::Interpreter, case, started) {
            Err(ReferenceError::Ended(..)) => Ok(None),
            other => other.map(Some),
        },
        // What the interpreter doesn't take, the other may.
        Err(ReferenceError::Refused(..)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Runs a case on wasmtime; its replies.
pub fn compiled(case: &Case) -> Result<Vec<String>, ReferenceError> {
    replies(Engine::Jit, case, jit::instantiate(&case.reference)?)
}

/// An instance, or why there is none, and the host calls that were made meanwhile.
type Started<I> = (Result<I, Stop>, String);

fn replies<I: Instance>(engine: Engine, case: &Case, started: Started<I>) -> Result<Vec<String>, ReferenceError> {
    use crate::script::Command::{Digest, Invoke, Refuel};
    let exports = Exports::of(&case.reference)?;
    let ended = |message| ReferenceError::Ended(engine, message);
    let mut instance = match started {
        (Ok(instance), _) => instance,
        (Err(Stop::Trap(trap)), calls) => return Ok(vec![calls + &show_trap(trap)]),
        (Err(Stop::Engine(message)), _) => return Err(ended(message)),
    };
    let mut replies = vec![instance.calls() + "ready"];
    for command in &case.commands {
        let reply = match command {
            Refuel(fuel) => {
                instance.set_fuel(*fuel).map_err(ended)?;
                "ok".into()
            }
            Invoke(name, args) => match instance.invoke(name, args) {
                Ok(results) => results.iter().fold("ok".to_owned(), |line, result| line + " " + result),
                Err(Stop::Trap(trap)) => show_trap(trap),
                Err(Stop::Engine(message)) => return Err(ended(message)),
            },
            Digest => digest(&mut instance, &exports)?,
        };
        replies.push(instance.calls() + &reply);
    }
    Ok(replies)
}

/// The names under which everything is exported, by index.
struct Exports {
    memories: Vec<Option<String>>,
    globals: Vec<Option<String>>,
    tables: Vec<Option<String>>,
}

impl Exports {
    fn of(wasm: &[u8]) -> Result<Exports, BinaryReaderError> {
        let (mut memories, mut globals, mut tables) = (Vec::new(), Vec::new(), Vec::new());
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::MemorySection(section) => memories.resize(section.count() as usize, None),
                Payload::GlobalSection(section) => globals.resize(section.count() as usize, None),
                Payload::TableSection(section) => tables.resize(section.count() as usize, None),
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        let place = match export.kind {
                            ExternalKind::Memory => memories.get_mut(export.index as usize),
                            ExternalKind::Global => globals.get_mut(export.index as usize),
                            ExternalKind::Table => tables.get_mut(export.index as usize),
                            _ => None,
                        };
                        if let Some(place) = place {
                            *place = Some(export.name.to_owned());
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(Exports {
            memories,
            globals,
            tables,
        })
    }
}

fn digest(instance: &mut impl Instance, exports: &Exports) -> Result<String, ReferenceError> {
    let mut line = "ok".to_owned();
    for (n, name) in exports.memories.iter().enumerate() {
        let found = name.as_deref().and_then(|name| instance.memory(name));
        let (pages, bytes) = found.ok_or(ReferenceError::Hidden("memory", n))?;
        line += &format!(" {pages}:{:x}", crc32fast::hash(&bytes));
    }
    line += " /";
    for (n, name) in exports.globals.iter().enumerate() {
        let found = name.as_deref().and_then(|name| instance.global(name));
        line += &format!(" {}", found.ok_or(ReferenceError::Hidden("global", n))?);
    }
    line += " /";
    for (n, name) in exports.tables.iter().enumerate() {
        let found = name.as_deref().and_then(|name| instance.table(name));
        let nulls = found.ok_or(ReferenceError::Hidden("table", n))?;
        let bytes: Vec<u8> = nulls.iter().map(|&null| null.into()).collect();
        line += &format!(" {}:{:x}", nulls.len(), crc32fast::hash(&bytes));
    }
    Ok(line)
}
