//! The few instructions of our own: functions that stop the interpreter, by whose addresses programs call the runtime.

use crate::instance::Thunks;
use pulley_interpreter::encode;
use std::sync::OnceLock;

/// What stops the interpreter: a call of the runtime, `(ctx, call id)`.
pub(super) const LEAVE: u8 = 0;
/// ... C's `memmove`, `(dst, src, len) -> dst`.
pub(super) const MEMMOVE: u8 = 1;
/// ... C's `memset`, `(dst, byte, len) -> dst`.
pub(super) const MEMSET: u8 = 2;

/// The code, which stays for the life of the process.
static CODE: OnceLock<(Box<[u8]>, [usize; 3])> = OnceLock::new();

/// The addresses of the functions.
pub(super) fn thunks() -> Thunks {
    let (code, starts) = CODE.get_or_init(|| {
        let mut code = Vec::new();
        let starts = [LEAVE, MEMMOVE, MEMSET].map(|id| {
            let start = code.len();
            encode::call_indirect_host(&mut code, id);
            encode::ret(&mut code);
            start
        });
        (code.into_boxed_slice(), starts)
    });
    let [leave, memmove, memset] = starts.map(|start| code[start..].as_ptr().expose_provenance() as u64);
    Thunks { leave, memmove, memset }
}
