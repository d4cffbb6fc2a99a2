//! wasmtime.

use super::{Engine as Which, Instance, ReferenceError, Started, Stop};
use crate::host;
use crate::script::{FUEL, show};
use dunlin_format::hostcalls::Trap;
use dunlin_format::types::{self, Value};
use std::sync::LazyLock;
use wasmtime::{
    Caller, Collector, Config, Engine, Error, ExternRef, FuncType, Linker, Module, OptLevel, Store, ThrownException,
    Trap as Theirs, Val, ValType,
};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.wasm_tail_call(true).wasm_multi_memory(true).wasm_memory64(true);
    config.wasm_function_references(true).wasm_exceptions(true);
    config.wasm_threads(true);
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
    /// With the lines of host calls.
    store: Store<String>,
    instance: wasmtime::Instance,
}

pub(super) fn instantiate(wasm: &[u8]) -> Result<Started<Compiled>, ReferenceError> {
    let refused = |e: Error| ReferenceError::Refused(Which::Jit, format!("{e:#}"));
    let module = Module::new(&ENGINE, wasm).map_err(refused)?;
    let mut store = Store::new(&ENGINE, String::new());
    let mut linker = Linker::new(&ENGINE);
    for (module, name) in host::FUNCTIONS {
        let types = |types: &[types::ValType]| types.iter().map(|&ty| simple(ty)).collect::<Vec<_>>();
        let ty = host::function_type(module, name);
        let ty = FuncType::new(&ENGINE, types(&ty.params), types(&ty.results));
        let call = move |mut caller: Caller<'_, String>, args: &[Val], results: &mut [Val]| {
            let line = host::call_line(name, args.iter().filter_map(number));
            caller.data_mut().push_str(&line);
            results.fill(Val::I32(0));
            Ok(())
        };
        linker.func_new(module, name, ty, call).map_err(refused)?;
    }
    Ok(match linker.instantiate(&mut store, &module) {
        Ok(instance) => (Ok(Compiled { store, instance }), String::new()),
        Err(e) => (Err(stop(&mut store, &e)), store.into_data()),
    })
}

/// The engine's type for ours, in the signature of a host function.
fn simple(ty: types::ValType) -> ValType {
    match ty {
        types::ValType::I32 => ValType::I32,
        types::ValType::I64 => ValType::I64,
        types::ValType::F32 => ValType::F32,
        types::ValType::F64 => ValType::F64,
        types::ValType::V128 => ValType::V128,
        types::ValType::FuncRef => ValType::FUNCREF,
        types::ValType::ExternRef | types::ValType::ExnRef => ValType::EXTERNREF,
    }
}

fn number(value: &Val) -> Option<Value> {
    Some(match value {
        Val::I32(n) => Value::I32(*n as u32),
        Val::I64(n) => Value::I64(*n as u64),
        Val::F32(bits) => Value::F32(*bits),
        Val::F64(bits) => Value::F64(*bits),
        Val::V128(n) => Value::V128(n.as_u128()),
        _ => return None,
    })
}

fn stop(store: &mut Store<String>, e: &Error) -> Stop {
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
        Some(Theirs::HeapMisaligned) => Trap::UnalignedAtomic,
        Some(Theirs::AtomicWaitNonSharedMemory) => Trap::AtomicWaitUnshared,
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
            Val::FuncRef(f) => Value::FuncRef(f.map(|_| 0)),
            Val::ExnRef(r) => Value::ExnRef(r.map(|_| 0)),
            Val::ExternRef(r) => {
                let data = r.and_then(|r| r.data(&self.store).ok().flatten());
                Value::ExternRef(data.and_then(|d| d.downcast_ref::<u32>()).copied())
            }
            other => return number(other).map_or_else(|| format!("{value:?}"), show),
        })
    }
}

impl Instance for Compiled {
    fn calls(&mut self) -> String {
        std::mem::take(self.store.data_mut())
    }

    fn set_fuel(&mut self, fuel: u32) -> Result<(), String> {
        let global = self.instance.get_global(&mut self.store, FUEL).ok_or("no fuel")?;
        global
            .set(&mut self.store, Val::I32(fuel as i32))
            .map_err(|e| e.to_string())
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
