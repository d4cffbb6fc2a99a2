//! Checks a module's imports against what the runtime offers.

use crate::error::{Error, UnknownImport};
use crate::module::Module;
use dunlin_migrate::imports;
use dunlin_migrate::types::{FuncType, ValType};

/// Module name of the imports that only the specification's test suite uses.
const SPECTEST: &str = "spectest";

/// Every import must be known to the runtime, with the same signature. `spectest` admits the test suite's host module as well.
pub fn check(module: &Module<'_>, spectest: bool) -> Result<(), Error> {
    let mut unknown = Vec::new();
    let mut mismatch = None;
    for (func, import) in (0..).zip(&module.info.imports) {
        let offered = if import.module == SPECTEST && !spectest { None } else { imports::signature(&import.module, &import.name) };
        let found = module.info.func_type(func);
        match offered {
            None => unknown.push(UnknownImport { module: import.module.clone(), name: import.name.clone() }),
            Some(expected) if expected != *found && mismatch.is_none() => {
                let (module, name) = (import.module.clone(), import.name.clone());
                mismatch = Some(Error::ImportType { module, name, expected: show(&expected), found: show(found) });
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
