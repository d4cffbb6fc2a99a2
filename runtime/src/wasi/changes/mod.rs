//! What the program changes in its files: on its way to the undo journal, and noted so that a snapshot reads only that.

pub(in crate::wasi) mod carried;
pub(in crate::wasi) mod change;
pub(in crate::wasi) mod chunked;
pub(in crate::wasi) mod hidden;
pub(in crate::wasi) mod identity;
pub(in crate::wasi) mod place;
pub(in crate::wasi) mod touched;
pub(in crate::wasi) mod watch;
pub(in crate::wasi) mod writes;
