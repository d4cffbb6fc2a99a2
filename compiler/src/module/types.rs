//! Dunlin's types for wasmparser's.

use dunlin_format::types::{FuncType, ValType};

/// Dunlin's type for a validated one; `None` for a type this version refuses.
pub(crate) fn val_type(ty: wasmparser::ValType) -> Option<ValType> {
    Some(match ty {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::V128 => ValType::V128,
        wasmparser::ValType::Ref(r) => ref_type(r)?,
    })
}

/// Dunlin's type for a validated reference type. All references to functions are funcrefs: what they refer to is
/// checked where it matters, so that nothing a snapshot says of them has to be believed.
fn ref_type(ty: wasmparser::RefType) -> Option<ValType> {
    use wasmparser::{AbstractHeapType, HeapType};
    Some(match ty.heap_type() {
        HeapType::Concrete(_) => ValType::FuncRef,
        HeapType::Abstract { shared: false, ty } => match ty {
            AbstractHeapType::Func | AbstractHeapType::NoFunc => ValType::FuncRef,
            AbstractHeapType::Extern | AbstractHeapType::NoExtern => ValType::ExternRef,
            AbstractHeapType::Exn | AbstractHeapType::NoExn => ValType::ExnRef,
            _ => return None,
        },
        _ => return None,
    })
}

/// Parameter and result types of a block.
pub(crate) fn block_type(ty: wasmparser::BlockType, types: &[FuncType]) -> Option<(Vec<ValType>, Vec<ValType>)> {
    Some(match ty {
        wasmparser::BlockType::Empty => (vec![], vec![]),
        wasmparser::BlockType::Type(t) => (vec![], vec![val_type(t)?]),
        wasmparser::BlockType::FuncType(i) => {
            let f = types.get(i as usize)?;
            (f.params.clone(), f.results.clone())
        }
    })
}
