//! Which WebAssembly Dunlin compiles, and how everything else is refused by name.
//!
//! Validation runs with exactly [`SUPPORTED`]; [`value_type`] and [`unshared`] refuse what it admits beyond that.

use crate::error::Error;
use dunlin_format::types::ValType;
use wasmparser::{MemoryType, RefType, Validator, WasmFeatures};

/// The features that validation runs with. Of threads, atomic instructions are there, on memories that are not shared.
pub(crate) const SUPPORTED: WasmFeatures = WasmFeatures::WASM1
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::FUNCTION_REFERENCES)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::LEGACY_EXCEPTIONS)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::THREADS);

/// Names of the features outside [`SUPPORTED`], with all flags each needs to be of use. The order matters to
/// [`diagnose`]: a feature that contains another comes after it.
const REFUSED: &[(&str, WasmFeatures)] = &[
    ("component model", WasmFeatures::COMPONENT_MODEL),
    (
        "garbage collection",
        WasmFeatures::GC.union(WasmFeatures::FUNCTION_REFERENCES),
    ),
    ("custom page sizes", WasmFeatures::CUSTOM_PAGE_SIZES),
    ("wide arithmetic", WasmFeatures::WIDE_ARITHMETIC),
    ("memory control", WasmFeatures::MEMORY_CONTROL),
    ("compact import section", WasmFeatures::COMPACT_IMPORTS),
    (
        "stack switching",
        WasmFeatures::STACK_SWITCHING
            .union(WasmFeatures::GC)
            .union(WasmFeatures::FUNCTION_REFERENCES)
            .union(WasmFeatures::EXCEPTIONS),
    ),
    (
        "custom descriptors",
        WasmFeatures::CUSTOM_DESCRIPTORS
            .union(WasmFeatures::GC)
            .union(WasmFeatures::FUNCTION_REFERENCES),
    ),
    (
        "shared-everything threads",
        WasmFeatures::SHARED_EVERYTHING_THREADS
            .union(WasmFeatures::GC)
            .union(WasmFeatures::FUNCTION_REFERENCES),
    ),
];

/// The feature's name if wasmparser says which flag is missing.
fn name_of(missing: WasmFeatures) -> Option<&'static str> {
    // The first entry with this flag is the feature itself; later ones only build on it.
    REFUSED
        .iter()
        .find(|(_, flags)| flags.contains(missing))
        .map(|(name, _)| *name)
}

impl From<wasmparser::Error> for Error {
    /// An error of decoding or validating. The driver has `diagnose` look again at those that name no feature.
    fn from(e: wasmparser::Error) -> Error {
        match e.missing_wasm_feature().and_then(name_of) {
            Some(feature) => Error::unsupported(feature, e.offset()),
            None => Error::invalid(e.message(), e.offset()),
        }
    }
}

/// Turns [`Error::Invalid`] into [`Error::Unsupported`] if the module is valid WebAssembly with features beyond
/// [`SUPPORTED`]. Other errors are returned as they are. Validates the whole module a few times: only for the way out.
pub(crate) fn diagnose(wasm: &[u8], error: Error) -> Error {
    let Error::Invalid { message, offset } = error else {
        return error;
    };
    let validate = |features| Validator::new_with_features(features).validate_all(wasm);
    // Some features exclude others' meaning of a byte, hence a second try without those that aren't standardised.
    if validate(WasmFeatures::all()).is_err() && validate(WasmFeatures::default()).is_err() {
        return Error::Invalid { message, offset };
    }
    let cures = |flags: &WasmFeatures| match validate(SUPPORTED.union(*flags)) {
        Ok(_) => true,
        Err(e) => e.offset() > offset,
    };
    match REFUSED.iter().find(|(_, flags)| cures(flags)) {
        Some((feature, _)) => Error::unsupported(*feature, offset),
        None => Error::unsupported(message, offset),
    }
}

/// Refuses a shared memory, whether it is the module's own or imported.
pub(crate) fn unshared(memory: &MemoryType, offset: usize) -> Result<(), Error> {
    match memory.shared {
        true => Err(Error::unsupported("shared memories (threads)", offset)),
        false => Ok(()),
    }
}

/// Dunlin's type for one of a value.
pub(crate) fn value_type(ty: wasmparser::ValType, offset: usize) -> Result<ValType, Error> {
    let refuse = || Error::unsupported(format!("garbage collection (values of type {ty})"), offset);
    super::types::val_type(ty).ok_or_else(refuse)
}

/// Dunlin's type for that of a table's or element segment's elements.
pub(crate) fn element_type(ty: RefType, offset: usize) -> Result<ValType, Error> {
    value_type(wasmparser::ValType::Ref(ty), offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_named_by_its_own_entry() {
        assert_eq!(name_of(WasmFeatures::GC), Some("garbage collection"));
        for (name, flags) in REFUSED {
            assert!(!SUPPORTED.contains(*flags), "{name} is supported");
        }
    }
}
