//! The functions a module imports, resolved.

use crate::wasi::{self, WasiFunc};
use dunlin_format::imports::{self, SPECTEST};
use dunlin_format::module::ModuleInfo;

/// A host function.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HostFunc {
    /// One of WASI's.
    Wasi(WasiFunc),
    /// One of the specification's test suite: does nothing, returns nothing.
    Nothing,
}

/// Why an import can't be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// There is no such function.
    #[error("unknown import: `{0}::{1}` has not been defined")]
    Unknown(String, String),
    /// It has another type.
    #[error("incompatible import type for `{0}::{1}`")]
    Type(String, String),
}

/// Resolves every import of a module, in order.
pub(crate) fn resolve(module: &ModuleInfo) -> Result<Vec<HostFunc>, ImportError> {
    let resolve = |(index, import): (usize, &dunlin_format::module::Import)| {
        let unknown = || ImportError::Unknown(import.module.clone(), import.name.clone());
        let signature = imports::signature(&import.module, &import.name).ok_or_else(unknown)?;
        if *module.func_type(index as u32) != signature {
            return Err(ImportError::Type(import.module.clone(), import.name.clone()));
        }
        match import.module.as_str() {
            SPECTEST => Ok(HostFunc::Nothing),
            _ => wasi::resolve(&import.module, &import.name)
                .map(HostFunc::Wasi)
                .ok_or_else(unknown),
        }
    };
    module.imports.iter().enumerate().map(resolve).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_format::module::Import;

    fn module(module: &str, name: &str, ty: dunlin_format::types::FuncType) -> ModuleInfo {
        ModuleInfo {
            types: vec![ty],
            imports: vec![Import {
                module: module.into(),
                name: name.into(),
            }],
            funcs: vec![0],
            ..ModuleInfo::default()
        }
    }

    #[test]
    fn every_function_with_a_signature_is_resolved() {
        for (m, n) in imports::all() {
            let ty = imports::signature(m, n).unwrap();
            assert!(resolve(&module(m, n, ty)).is_ok(), "{m}::{n}");
        }
    }

    #[test]
    fn unknown_names_and_wrong_types_are_refused() {
        let ty = imports::signature(SPECTEST, "print_i32").unwrap();
        assert_eq!(
            resolve(&module("env", "f", ty.clone())).unwrap_err(),
            ImportError::Unknown("env".into(), "f".into())
        );
        assert_eq!(
            resolve(&module(SPECTEST, "print", ty)).unwrap_err(),
            ImportError::Type("spectest".into(), "print".into())
        );
    }
}
