//! Finding the context's header from the context pointer.

use dunlin_format::context::{ContextHeader, HEADER_SIZE};

/// The header of the context at a context pointer.
pub(crate) fn header(ctx: *mut u8) -> *mut ContextHeader {
    ctx.wrapping_sub(HEADER_SIZE as usize).cast()
}
