//! WebAssembly to images and executables.
pub mod abi;
pub mod analysis;
pub mod callgraph;
pub mod codegen;
pub mod isa;
pub mod rule;
pub mod translate;
pub mod wasm_types;
pub mod error;
pub mod features;
pub mod image;
pub mod link;
pub mod module;
pub mod output;
pub mod settings;
