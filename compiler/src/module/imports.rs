//! Checks a module's imports against what the runtime offers.

use crate::error::{Error, UnknownImport};
use crate::module::Module;
use dunlin_format::imports;
use dunlin_format::types::{FuncType, ValType};

/// Every import must be known to the runtime, with the same signature. `spectest` admits the test suite's host module
/// as well.
pub(crate) fn check(module: &Module<'_>, spectest: bool) -> Result<(), Error> {
    let mut unknown = Vec::new();
    let mut mismatch = None;
    for (func, import) in (0..).zip(&module.info.imports) {
        let offered = if import.module == imports::SPECTEST && !spectest {
            None
        } else {
            imports::signature(&import.module, &import.name)
        };
        let found = module.info.func_type(func);
        match offered {
            None => unknown.push(UnknownImport {
                module: import.module.clone(),
                name: import.name.clone(),
            }),
            Some(expected) if expected != *found && mismatch.is_none() => {
                let (module, name) = (import.module.clone(), import.name.clone());
                mismatch = Some(Error::ImportType {
                    module,
                    name,
                    expected: show(&expected),
                    found: show(found),
                });
            }
            Some(_) => {}
        }
    }
    if !unknown.is_empty() {
        return Err(Error::UnknownImports(unknown));
    }
    mismatch.map_or(Ok(()), Err)
}

/// A signature as `(i32, i64) -> (i32)`.
fn show(ty: &FuncType) -> String {
    let list = |types: &[ValType]| types.iter().map(ValType::to_string).collect::<Vec<_>>().join(", ");
    format!("({}) -> ({})", list(&ty.params), list(&ty.results))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &str, spectest: bool) -> Result<(), Error> {
        let wasm = wat::parse_str(text).unwrap();
        check(&Module::parse(&wasm, "test").unwrap(), spectest)
    }

    fn import(module: &str, name: &str, ty: &str) -> String {
        format!("(import \"{module}\" \"{name}\" (func {ty}))")
    }

    #[test]
    fn wasi_is_known() {
        let exit = import("wasi_snapshot_preview1", "proc_exit", "(param i32)");
        assert_eq!(check_text(&format!("(module {exit})"), false), Ok(()));
    }

    #[test]
    fn all_unknown_imports_are_listed() {
        let (exit, puts) = (
            import("wasi_snapshot_preview1", "proc_exit", ""),
            import("env", "puts", "(param i32)"),
        );
        let text = format!(
            "(module {exit} {puts} {})",
            import("spectest", "print_i32", "(param i32)")
        );
        let unknown = |module: &str, name: &str| UnknownImport {
            module: module.into(),
            name: name.into(),
        };
        let expected = vec![unknown("env", "puts"), unknown("spectest", "print_i32")];
        assert_eq!(check_text(&text, false), Err(Error::UnknownImports(expected)));
        assert_eq!(
            check_text(&text, true),
            Err(Error::UnknownImports(vec![unknown("env", "puts")]))
        );
    }

    #[test]
    fn signatures_must_match() {
        let text = format!(
            "(module {})",
            import("wasi_snapshot_preview1", "proc_exit", "(param i64) (result i32)")
        );
        let error = check_text(&text, false).unwrap_err().to_string();
        assert!(
            error.contains("\"proc_exit\" has type (i64) -> (i32), but the host function's is (i32) -> ()"),
            "{error}"
        );
    }
}
