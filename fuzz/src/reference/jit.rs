//! wasmtime.

use super::{Engine as Which, Instance, ReferenceError, Stop};
use crate::script::{FUEL, show};
use dunlin_migrate::hostcalls::Trap;
use dunlin_migrate::types::Value;
use std::sync::LazyLock;
use wasmtime::{Collector, Config, Engine, Error, ExternRef, Module, OptLevel, Store, ThrownException, Trap as Theirs, Val};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.wasm_tail_call(true).wasm_multi_memory(true).wasm_memory64(true);
    config.wasm_function_references(true).wasm_exceptions(true);
    config
        .wasm_simd(true)
        .wasm_relaxed_simd(true)
        .relaxed_simd_deterministic(true);
    // Exceptions live on a heap of its own, which needs no collection as long as a module runs here.
    config.collector(Collector::Null);
    config
        .cranelift_opt_level(OptLevel::None)
        .cranelift_nan_canonicalization(true);
    config.max_wasm_stack(1 << 20);
    Engine::new(&config).expect("wasmtime takes this configuration")
});

pub(super) struct Compiled {
    store: Store<()>,
    instance: wasmtime::Instance,
}

pub(super) fn instantiate(wasm: &[u8]) -> Result<Result<Compiled, Stop>, ReferenceError> {
    let module = Module::new(&ENGINE, wasm).map_err(|e| ReferenceError::Refused(Which::Jit, format!("{e:#}")))?;
    let mut store = Store::new(&ENGINE, ());
    let instance = wasmtime::Instance::new(&mut store, &module, &[]);
    Ok(match instance {
        Ok(instance) => Ok(Compiled { store, instance }),
        Err(e) => Err(stop(&mut store, &e)),
    })
}

fn stop(store: &mut Store<()>, e: &Error) -> Stop {
    if e.is::<ThrownException>() {
        let _ = store.take_pending_exception();
        return Stop::Trap(Trap::UncaughtException);
    }
    Stop::Trap(match e.downcast_ref::<Theirs>() {
        Some(Theirs::UnreachableCodeReached) => Trap::Unreachable,
        Some(Theirs::MemoryOutOfBounds) => Trap::MemoryOutOfBounds,
        Some(Theirs::TableOutOfBounds) => Trap::TableOutOfBounds,
        Some(Theirs::IndirectCallToNull) => Trap::IndirectCallToNull,
        Some(Theirs::IntegerDivisionByZero) => Trap::IntegerDivisionByZero,
        Some(Theirs::IntegerOverflow) => Trap::IntegerOverflow,
        Some(Theirs::BadConversionToInteger) => Trap::BadConversionToInteger,
        Some(Theirs::StackOverflow) => Trap::StackOverflow,
        Some(Theirs::BadSignature) => Trap::BadSignature,
        Some(Theirs::NullReference) => Trap::NullReference,
        _ => return Stop::Engine(format!("{e:#}")),
    })
}

impl Compiled {
    fn argument(&mut self, value: Value) -> Result<Val, Stop> {
        Ok(match value {
            Value::I32(n) => Val::I32(n as i32),
            Value::I64(n) => Val::I64(n as i64),
            Value::F32(bits) => Val::F32(bits),
            Value::F64(bits) => Val::F64(bits),
            Value::V128(n) => Val::V128(n.into()),
            Value::ExternRef(Some(n)) => {
                let made = ExternRef::new(&mut self.store, n);
                Val::ExternRef(Some(made.map_err(|e| Stop::Engine(e.to_string()))?))
            }
            Value::ExternRef(None) => Val::ExternRef(None),
            Value::FuncRef(_) => Val::FuncRef(None),
            Value::ExnRef(_) => Val::ExnRef(None),
        })
    }

    fn value(&self, value: &Val) -> String {
        show(match value {
            Val::I32(n) => Value::I32(*n as u32),
            Val::I64(n) => Value::I64(*n as u64),
            Val::F32(bits) => Value::F32(*bits),
            Val::F64(bits) => Value::F64(*bits),
            Val::V128(n) => Value::V128(n.as_u128()),
            Val::FuncRef(f) => Value::FuncRef(f.map(|_| 0)),
            Val::ExnRef(r) => Value::ExnRef(r.map(|_| 0)),
            Val::ExternRef(r) => {
                let data = r.and_then(|r| r.data(&self.store).ok().flatten());
                Value::ExternRef(data.and_then(|d| d.downcast_ref::<u32>()).copied())
            }
            Val::AnyRef(_) | Val::ContRef(_) => return format!("{value:?}"),
        })
    }
}

impl Instance for Compiled {
    fn set_fuel(&mut self, fuel: u32) -> Result<(), String> {
        let global = self.instance.get_global(&mut self.store, FUEL).ok_or("no fuel")?;
        global.set(&mut self.store, Val::I32(fuel as i32)).map_err(|e| e.to_string())
    }

    fn invoke(&mut self, name: &str, args: &[Value]) -> Result<Vec<String>, Stop> {
        let func = self.instance.get_func(&mut self.store, name);
        let func = func.ok_or_else(|| Stop::Engine(format!("no function {name:?}")))?;
        let args: Vec<Val> = args.iter().map(|&arg| self.argument(arg)).collect::<Result<_, _>>()?;
        let mut results = vec![Val::I32(0); func.ty(&self.store).results().len()];
        let called = func.call(&mut self.store, &args, &mut results);
        called.map_err(|e| stop(&mut self.store, &e))?;
        Ok(results.iter().map(|result| self.value(result)).collect())
    }

    fn memory(&mut self, name: &str) -> Option<(u64, Vec<u8>)> {
        let memory = self.instance.get_memory(&mut self.store, name)?;
        Some((memory.size(&self.store), memory.data(&self.store).to_vec()))
    }

    fn global(&mut self, name: &str) -> Option<String> {
        let global = self.instance.get_global(&mut self.store, name)?;
        let value = global.get(&mut self.store);
        Some(self.value(&value))
    }

    fn table(&mut self, name: &str) -> Option<Vec<bool>> {
        let table = self.instance.get_table(&mut self.store, name)?;
        let len = table.size(&self.store);
        let element = |n| table.get(&mut self.store, n).map(|r| r.is_null());
        (0..len).map(element).collect()
    }
}
