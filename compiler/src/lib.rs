//! WebAssembly to images and executables.
