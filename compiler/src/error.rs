//! Everything that can go wrong while compiling, said so that a person can act on it.

use dunlin_format::arch::Arch;
use std::fmt::Write;

/// Why a module could not be compiled. All `offset`s are byte offsets in the module's binary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text format could not be read; the message shows the place.
    #[error("cannot read the WebAssembly text: {0}")]
    Text(String),
    /// The module breaks the WebAssembly specification.
    #[error("invalid WebAssembly module: {message} (at offset {offset:#x})")]
    Invalid {
        /// Which rule is broken, in wasmparser's words.
        message: String,
        /// Byte offset in the binary.
        offset: usize,
    },
    /// The module is valid, but uses something Dunlin doesn't compile (yet).
    #[error("unsupported WebAssembly feature: {feature} (at offset {offset:#x})")]
    Unsupported {
        /// The feature's name.
        feature: String,
        /// Byte offset of its (first) use in the binary.
        offset: usize,
    },
    /// Imports that Dunlin's runtime doesn't offer.
    #[error("{}", unknown_imports(.0))]
    UnknownImports(Vec<UnknownImport>),
    /// An import known to the runtime, but with another signature.
    #[error("import \"{module}\" \"{name}\" has type {found}, but the host function's is {expected}")]
    ImportType {
        /// Name of the module it is imported from.
        module: String,
        /// Name of the field in that module.
        name: String,
        /// Signature of the runtime's host function.
        expected: String,
        /// Signature that the module imports it with.
        found: String,
    },
    /// A bug in the compiler, caught before it could do harm.
    #[error("internal compiler error in function {func}{}: {message}; please report this module", quoted(.name))]
    Internal {
        /// Code index of the function.
        func: u32,
        /// Its name, if known; empty otherwise.
        name: String,
        /// What the compiler found wrong with its own work.
        message: String,
    },
    /// The module exceeds a limit of Dunlin's.
    #[error("the program is too large: {what} is {size:#x} bytes, at most {max:#x} are possible")]
    TooLarge {
        /// Which part of the program.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The largest possible size in bytes.
        max: u64,
    },
    /// A call that its instruction can't encode.
    #[error("the {arch} code is too large: function {from} cannot reach function {to}, {distance:#x} bytes away")]
    OutOfReach {
        /// The architecture whose code is too large.
        arch: Arch,
        /// Code index of the caller.
        from: u32,
        /// Code index of the callee.
        to: u32,
        /// Displacement from call to callee, in bytes.
        distance: i64,
    },
    /// The prebuilt runtime is not what the executable writer needs.
    #[error("the prebuilt runtime cannot be used: {0}; rebuild the runtimes")]
    Runtime(String),
    /// An object or debug section could not be written.
    #[error("cannot write {what}: {message}")]
    Write {
        /// The section or file.
        what: &'static str,
        /// What the ELF or DWARF writer says.
        message: String,
    },
}

/// An import that Dunlin's runtime doesn't offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownImport {
    /// Name of the module it is imported from.
    pub module: String,
    /// Name of the field in that module.
    pub name: String,
}

impl Error {
    /// The module breaks the specification at `offset`.
    pub(crate) fn invalid(message: impl Into<String>, offset: usize) -> Error {
        Error::Invalid {
            message: message.into(),
            offset,
        }
    }

    /// The module uses `feature` at `offset`.
    pub(crate) fn unsupported(feature: impl Into<String>, offset: usize) -> Error {
        Error::Unsupported {
            feature: feature.into(),
            offset,
        }
    }

    /// A bug in the compiler, met while compiling the function of code index `func` (the driver adds its name).
    pub(crate) fn internal(func: u32, message: impl Into<String>) -> Error {
        Error::Internal {
            func,
            name: String::new(),
            message: message.into(),
        }
    }

    /// An error of the ELF or DWARF writer.
    pub(crate) fn write(what: &'static str, message: impl ToString) -> Error {
        Error::Write {
            what,
            message: message.to_string(),
        }
    }
}

/// A function's name in a message, behind its index.
fn quoted(name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        format!(" \"{name}\"")
    }
}

/// The message of [`Error::UnknownImports`]: one line for each.
fn unknown_imports(imports: &[UnknownImport]) -> String {
    let mut text = format!("the runtime does not offer {} of the module's imports:", imports.len());
    for import in imports {
        let _ = write!(text, "\n  \"{}\" \"{}\"", import.module, import.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_and_where() {
        assert_eq!(
            Error::invalid("type mismatch", 0x1f).to_string(),
            "invalid WebAssembly module: type mismatch (at offset 0x1f)"
        );
        assert_eq!(
            Error::unsupported("SIMD", 16).to_string(),
            "unsupported WebAssembly feature: SIMD (at offset 0x10)"
        );
        let unknown = UnknownImport {
            module: "env".into(),
            name: "puts".into(),
        };
        let text = Error::UnknownImports(vec![unknown]).to_string();
        assert_eq!(
            text,
            "the runtime does not offer 1 of the module's imports:\n  \"env\" \"puts\""
        );
        assert!(
            Error::internal(3, "x")
                .to_string()
                .starts_with("internal compiler error in function 3: x")
        );
    }
}
