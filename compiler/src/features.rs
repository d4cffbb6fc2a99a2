//! Which WebAssembly Dunlin compiles, and how everything else is refused by name.
//!
//! Validation runs with exactly [`SUPPORTED`]. That set contains reference types, because the default output of LLVM since 19
//! uses their *encodings* (multi-byte table index of `call_indirect`) and bulk memory is of little use without them (several
//! tables, element segments of expressions); reference *values* are refused on top, by [`number_type`] and [`check_operator`].

use crate::error::Error;
use dunlin_migrate::types::ValType;
use wasmparser::{BlockType, FunctionBody, Operator, RefType, Validator, WasmFeatures};

/// The features that validation runs with: WebAssembly 1.0 plus what clang and rustc emit by default.
pub const SUPPORTED: WasmFeatures = WasmFeatures::WASM1
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::RELAXED_SIMD);

/// Names of the features outside [`SUPPORTED`], with all flags each needs to be of use. The order matters to [`diagnose`]: a
/// feature that contains another comes after it.
const REFUSED: &[(&str, WasmFeatures)] = &[
    ("component model", WasmFeatures::COMPONENT_MODEL),
    ("threads", WasmFeatures::THREADS),
    ("tail calls", WasmFeatures::TAIL_CALL),
    ("multi-memory", WasmFeatures::MULTI_MEMORY),
    ("memory64", WasmFeatures::MEMORY64),
    ("extended constant expressions", WasmFeatures::EXTENDED_CONST),
    ("exception handling", WasmFeatures::EXCEPTIONS),
    (
        "legacy exception handling",
        WasmFeatures::LEGACY_EXCEPTIONS.union(WasmFeatures::EXCEPTIONS),
    ),
    ("typed function references", WasmFeatures::FUNCTION_REFERENCES),
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
            .union(WasmFeatures::THREADS)
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
    /// An error of decoding or validating. The driver has [`diagnose`] look again at those that name no feature.
    fn from(e: wasmparser::Error) -> Error {
        match e.missing_wasm_feature().and_then(name_of) {
            Some(feature) => Error::unsupported(feature, e.offset()),
            None => Error::invalid(e.message(), e.offset()),
        }
    }
}

/// Turns [`Error::Invalid`] into [`Error::Unsupported`] if the module is valid WebAssembly with features beyond [`SUPPORTED`].
/// Other errors are returned as they are. Validates the whole module a few times: only for the way out.
pub fn diagnose(wasm: &[u8], error: Error) -> Error {
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

/// A type that may be that of a parameter, result, local, global or operand: numbers and vectors only.
pub fn number_type(ty: wasmparser::ValType, offset: usize) -> Result<ValType, Error> {
    match ty {
        wasmparser::ValType::I32 => Ok(ValType::I32),
        wasmparser::ValType::I64 => Ok(ValType::I64),
        wasmparser::ValType::F32 => Ok(ValType::F32),
        wasmparser::ValType::F64 => Ok(ValType::F64),
        wasmparser::ValType::V128 => Ok(ValType::V128),
        wasmparser::ValType::Ref(ty) => Err(Error::unsupported(
            format!("reference types (values of type {})", ref_name(ty)),
            offset,
        )),
    }
}

/// A type that may be that of a table's or element segment's elements: function references only.
pub fn element_type(ty: RefType, offset: usize) -> Result<ValType, Error> {
    if ty == RefType::FUNCREF {
        Ok(ValType::FuncRef)
    } else {
        Err(Error::unsupported(
            format!("reference types (elements of type {})", ref_name(ty)),
            offset,
        ))
    }
}

fn ref_name(ty: RefType) -> String {
    match ty {
        RefType::FUNCREF => "funcref".into(),
        RefType::EXTERNREF => "externref".into(),
        other => other.to_string(),
    }
}

/// Refuses locals other than numbers. To be called for every body, before its operators.
pub fn check_locals(body: &FunctionBody<'_>) -> Result<(), Error> {
    let mut locals = body.get_locals_reader()?;
    for _ in 0..locals.get_count() {
        let offset = locals.original_position();
        number_type(locals.read()?.1, offset)?;
    }
    Ok(())
}

/// Refuses the operators that [`SUPPORTED`] validates but Dunlin doesn't compile: those that make, take or yield references.
/// To be called for every operator of a body, after validation accepted it.
pub fn check_operator(op: &Operator<'_>, offset: usize) -> Result<(), Error> {
    let refuse = |name: &str| Err(Error::unsupported(format!("reference types ({name})"), offset));
    match op {
        Operator::RefNull { .. } => refuse("ref.null"),
        Operator::RefIsNull => refuse("ref.is_null"),
        Operator::RefFunc { .. } => refuse("ref.func"),
        Operator::TableGet { .. } => refuse("table.get"),
        Operator::TableSet { .. } => refuse("table.set"),
        Operator::TableGrow { .. } => refuse("table.grow"),
        Operator::TableSize { .. } => refuse("table.size"),
        Operator::TableFill { .. } => refuse("table.fill"),
        Operator::TypedSelect { ty }
        | Operator::Block {
            blockty: BlockType::Type(ty),
        }
        | Operator::Loop {
            blockty: BlockType::Type(ty),
        }
        | Operator::If {
            blockty: BlockType::Type(ty),
        } => number_type(*ty, offset).map(drop),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_named_by_its_own_entry() {
        assert_eq!(name_of(WasmFeatures::GC), Some("garbage collection"));
        assert_eq!(name_of(WasmFeatures::FUNCTION_REFERENCES), Some("typed function references"));
        assert_eq!(name_of(WasmFeatures::EXCEPTIONS), Some("exception handling"));
        assert_eq!(name_of(WasmFeatures::LEGACY_EXCEPTIONS), Some("legacy exception handling"));
        for (name, flags) in REFUSED {
            assert!(!SUPPORTED.contains(*flags), "{name} is supported");
        }
    }
}
