//! wasmi.

use super::{Engine as Which, Instance, ReferenceError, Started, Stop};
use crate::host;
use crate::script::{FUEL, show};
use dunlin_format::hostcalls::Trap;
use dunlin_format::types::{self, Value};
use std::sync::LazyLock;
use wasmi::{
    Caller, Config, Engine, Error, Extern, ExternRef, FuncType, Linker, Module, Nullable, Ref, Store, TrapCode, Val,
    ValType,
};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::default();
    config.wasm_multi_memory(true).wasm_memory64(true).wasm_tail_call(true);
    config.wasm_simd(true).wasm_relaxed_simd(true).wasm_extended_const(true);
    config.set_max_recursion_depth(10_000).set_max_stack_height(16 << 20);
    Engine::new(&config)
});

pub(super) struct Interpreted {
    /// With the lines of host calls.
    store: Store<String>,
    instance: wasmi::Instance,
}

pub(super) fn instantiate(wasm: &[u8]) -> Result<Started<Interpreted>, ReferenceError> {
    let module = Module::new(&ENGINE, wasm).map_err(|e| ReferenceError::Refused(Which::Interpreter, e.to_string()))?;
    let mut store = Store::new(&ENGINE, String::new());
    let mut linker = Linker::new(&ENGINE);
    for (module, name) in host::FUNCTIONS {
        let types = |types: &[types::ValType]| types.iter().map(|&ty| simple(ty)).collect::<Vec<_>>();
        let ty = host::function_type(module, name);
        let ty = FuncType::new(types(&ty.params), types(&ty.results));
        // The results are zeros already.
        let call = move |mut caller: Caller<'_, String>, args: &[Val], _: &mut [Val]| {
            let line = host::call_line(name, args.iter().filter_map(number));
            caller.data_mut().push_str(&line);
            Ok(())
        };
        let added = linker.func_new(module, name, ty, call);
        added.map_err(|e| ReferenceError::Refused(Which::Interpreter, e.to_string()))?;
    }
    Ok(match linker.instantiate_and_start(&mut store, &module) {
        Ok(instance) => (Ok(Interpreted { store, instance }), String::new()),
        Err(e) => (Err(stop(&e)), store.into_data()),
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
        types::ValType::FuncRef => ValType::FuncRef,
        types::ValType::ExternRef | types::ValType::ExnRef => ValType::ExternRef,
    }
}

fn number(value: &Val) -> Option<Value> {
    Some(match value {
        Val::I32(n) => Value::I32(*n as u32),
        Val::I64(n) => Value::I64(*n as u64),
        Val::F32(x) => Value::F32(x.to_bits()),
        Val::F64(x) => Value::F64(x.to_bits()),
        Val::V128(n) => Value::V128(n.as_u128()),
        Val::FuncRef(_) | Val::ExternRef(_) => return None,
    })
}

fn stop(e: &Error) -> Stop {
    Stop::Trap(match e.as_trap_code() {
        Some(TrapCode::UnreachableCodeReached) => Trap::Unreachable,
        Some(TrapCode::MemoryOutOfBounds) => Trap::MemoryOutOfBounds,
        Some(TrapCode::TableOutOfBounds) => Trap::TableOutOfBounds,
        Some(TrapCode::IndirectCallToNull) => Trap::IndirectCallToNull,
        Some(TrapCode::IntegerDivisionByZero) => Trap::IntegerDivisionByZero,
        Some(TrapCode::IntegerOverflow) => Trap::IntegerOverflow,
        Some(TrapCode::BadConversionToInteger) => Trap::BadConversionToInteger,
        Some(TrapCode::StackOverflow) => Trap::StackOverflow,
        Some(TrapCode::BadSignature) => Trap::BadSignature,
        _ => return Stop::Engine(e.to_string()),
    })
}

impl Interpreted {
    fn argument(&mut self, value: Value) -> Val {
        match value {
            Value::I32(n) => Val::I32(n as i32),
            Value::I64(n) => Val::I64(n as i64),
            Value::F32(bits) => Val::F32(wasmi::F32::from_bits(bits)),
            Value::F64(bits) => Val::F64(wasmi::F64::from_bits(bits)),
            Value::V128(n) => Val::V128(n.into()),
            Value::ExternRef(Some(n)) => Val::ExternRef(Nullable::Val(ExternRef::new(&mut self.store, n))),
            Value::ExternRef(None) => Val::ExternRef(Nullable::Null),
            Value::FuncRef(_) | Value::ExnRef(_) => Val::FuncRef(Nullable::Null),
        }
    }

    fn value(&self, value: &Val) -> String {
        show(match value {
            Val::FuncRef(f) => Value::FuncRef(f.val().map(|_| 0)),
            Val::ExternRef(r) => {
                let number = |r: &ExternRef| r.data(&self.store).downcast_ref::<u32>().copied();
                Value::ExternRef(r.val().and_then(number))
            }
            other => return number(other).map(show).unwrap_or_default(),
        })
    }

    fn find(&self, name: &str) -> Option<Extern> {
        self.instance.get_export(&self.store, name)
    }
}

impl Instance for Interpreted {
    fn calls(&mut self) -> String {
        std::mem::take(self.store.data_mut())
    }

    fn set_fuel(&mut self, fuel: u32) -> Result<(), String> {
        let global = self.find(FUEL).and_then(Extern::into_global).ok_or("no fuel")?;
        global
            .set(&mut self.store, Val::I32(fuel as i32))
            .map_err(|e| e.to_string())
    }

    fn invoke(&mut self, name: &str, args: &[Value]) -> Result<Vec<String>, Stop> {
        let func = self.find(name).and_then(Extern::into_func);
        let func = func.ok_or_else(|| Stop::Engine(format!("no function {name:?}")))?;
        let args: Vec<Val> = args.iter().map(|&arg| self.argument(arg)).collect();
        let ty = func.ty(&self.store);
        let mut results: Vec<Val> = ty.results().iter().map(|&ty| Val::default_for_ty(ty)).collect();
        func.call(&mut self.store, &args, &mut results).map_err(|e| stop(&e))?;
        Ok(results.iter().map(|result| self.value(result)).collect())
    }

    fn memory(&mut self, name: &str) -> Option<(u64, Vec<u8>)> {
        let memory = self.find(name)?.into_memory()?;
        Some((memory.size(&self.store), memory.data(&self.store).to_vec()))
    }

    fn global(&mut self, name: &str) -> Option<String> {
        let global = self.find(name)?.into_global()?;
        Some(self.value(&global.get(&self.store)))
    }

    fn table(&mut self, name: &str) -> Option<Vec<bool>> {
        let table = self.find(name)?.into_table()?;
        let element = |n| table.get(&self.store, n).as_ref().map(Ref::is_null);
        (0..table.size(&self.store)).map(element).collect()
    }
}
