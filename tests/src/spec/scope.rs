//! Which modules of the suite Dunlin must compile: those that are valid with the features it supports. Told
//! independently of the compiler, so that what it refuses for lack of a feature must be refused for a reason.

use super::interface::Interface;
use wasmparser::{TypeRef, Validator, WasmFeatures};

/// WebAssembly 2.0, and of 3.0 all but garbage collection; relaxed SIMD; the legacy encoding of exceptions; of threads
/// the atomic instructions, as long as no memory is shared.
const SUPPORTED: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::FUNCTION_REFERENCES)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::LEGACY_EXCEPTIONS)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::THREADS);

/// Why a module is out of scope, if it is.
pub fn outside(wasm: &[u8]) -> Option<String> {
    let validate = |features| Validator::new_with_features(features).validate_all(wasm);
    let exact = |i: &Interface| i.imports.iter().any(|i| matches!(i.ty, TypeRef::FuncExact(_)));
    match validate(SUPPORTED) {
        Err(e) => Some(e.message().to_owned()),
        Ok(_) if Interface::of(wasm).memories.iter().any(|m| m.shared) => Some("threads: a shared memory".into()),
        // The validator leaves it to whoever links.
        Ok(_) if exact(&Interface::of(wasm)) => Some("custom descriptors: exactly typed imports".into()),
        Ok(_) => None,
    }
}
