//! WASI through its calls, as a program makes them: semantics, path escapes, blocking, moving, and hostile states.

mod carry;
mod dirs;
mod escapes;
mod files;
mod going_back;
mod guest;
mod hostile;
mod layouts;
mod long;
mod moving;
mod placing;
mod stdio;
mod streams;
mod touched;
mod unlinked;
