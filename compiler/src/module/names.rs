//! Functions' names: the custom section `name` (Core 7.4.1), completed by exports.

use dunlin_format::module::{ExportKind, ModuleInfo};
use std::collections::HashMap;
use wasmparser::{Name, NameSectionReader};

/// The function names of a name section. A custom section can't make a module invalid: what is damaged is skipped.
pub(super) fn functions(reader: NameSectionReader<'_>) -> Vec<(u32, String)> {
    let mut names = Vec::new();
    for subsection in reader {
        match subsection {
            Ok(Name::Function(map)) => {
                names.extend(
                    map.into_iter()
                        .map_while(Result::ok)
                        .map(|naming| (naming.index, naming.name.to_owned())),
                );
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    names
}

/// One name per function at most, ascending by index: the name section's, else the first export's.
pub(super) fn merge(section: Vec<(u32, String)>, info: &ModuleInfo) -> Vec<(u32, String)> {
    let exports = info
        .exports
        .iter()
        .filter(|e| e.kind == ExportKind::Func)
        .map(|e| (e.index, e.name.clone()));
    let mut names: HashMap<u32, String> = HashMap::new();
    for (func, name) in section.into_iter().chain(exports) {
        if (func as usize) < info.funcs.len() && !name.is_empty() {
            names.entry(func).or_insert(name);
        }
    }
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_unstable_by_key(|n| n.0);
    names
}
