//! Frame translation: native stack bytes to uniform frames and back, with the frame maps of this architecture.
//!
//! Everything here works on a slice of bytes and numbers that are addresses in it; nothing is dereferenced. What
//! differs between architectures is data: [`FrameShape`]. Every stack grows downwards and has this structure (`fp` is a
//! frame pointer; in brackets the numbers of x86-64 and AArch64):
//!
//! ```text
//!   top                    aligned [16]
//!   top - above [16]                                                 <- trampoline's FP
//!        + caller_fp [0]   0
//!        + return_address [8]   return address into the `enter` thunk
//!        ...               the trampoline's frame: frame_to_fp bytes
//!   fp                                                               <- a function's FP, `link` [16] bytes below that
//!        + caller_fp       the caller's FP
//!        + return_address  return address into the caller
//!        ...               frame_to_fp bytes; the record begins `record` bytes above the lowest of them
//!   leave_fp                                                         <- the leave thunk's FP, `link` bytes below that
//!        + caller_fp       the innermost frame's FP
//!        + return_address  return address into the innermost WebAssembly frame
//! ```
//!
//! So a frame's FP is `caller's FP - frame_to_fp(caller) - link`, and a frame's own FP is what its callee's frame
//! stores.

mod capture;
mod rebuild;
mod trace;
mod unwind;

#[cfg(test)]
mod tests;

pub use capture::capture;
pub use rebuild::{Entry, POISON, rebuild, stack_needed};
pub use trace::{Backtrace, TraceFrame, backtrace};
pub use unwind::{Handler, exceptions, handler, leave_to};

use dunlin_format::arch::FrameShape;
use dunlin_format::framemap::{Code, FunctionCode, FunctionPoints, MapError, SiteKind};
use dunlin_format::point::{PointKind, Slot};
use dunlin_format::types::ValType;
use std::sync::OnceLock;

/// Why a stack can't be translated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame maps don't decode.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The two halves of the frame maps describe different numbers of functions.
    #[error("the image's frame maps disagree: {points} functions in points, {code} in code, {needed} needed")]
    MapsDisagree {
        /// In the `points` section.
        points: u32,
        /// In the `code` section.
        code: u32,
        /// Functions and types of the module.
        needed: u32,
    },
    /// A frame pointer lies outside the stack or isn't aligned, or a frame isn't where its callee says.
    #[error("the stack is damaged: no frame at {fp:#x}, frame {depth} from the innermost")]
    BadFrame {
        /// The frame pointer.
        fp: u64,
        /// How many frames were walked before.
        depth: usize,
    },
    /// A return address isn't in the image's text, or isn't that of a call.
    #[error("the stack is damaged: {pc:#x} is no return address, frame {depth} from the innermost")]
    BadReturn {
        /// The return address.
        pc: u64,
        /// How many frames were walked before.
        depth: usize,
    },
    /// A frame doesn't stand at a migration point of the kind its place demands.
    #[error("function {func} at {offset:#x} is not at a migration point where {wanted} is possible")]
    NotAPoint {
        /// Function index.
        func: u32,
        /// Byte offset of the instruction in the module's binary.
        offset: u32,
        /// The kind that the place demands: "a stop" for the innermost frame, "a call" for any other.
        wanted: &'static str,
    },
    /// A frame's function doesn't exist.
    #[error("there is no function {0}")]
    NoFunction(u32),
    /// The point has no code on this architecture.
    #[error("function {func} has no code at {offset:#x}: that place can't be reached")]
    NoSite {
        /// Function index.
        func: u32,
        /// Byte offset of the instruction in the module's binary.
        offset: u32,
    },
    /// A value that is live at the point is absent from the frame, or of another type.
    #[error("function {func} at {offset:#x}: {slot} must hold a value of type {ty}")]
    BadValue {
        /// Function index.
        func: u32,
        /// Byte offset of the instruction in the module's binary.
        offset: u32,
        /// The place of the value: a local, or a position on the operand stack.
        slot: Slot,
        /// The type it must have.
        ty: ValType,
    },
    /// A frame map contradicts itself.
    #[error("the image's frame maps are damaged: function {func}: {what}")]
    BadMap {
        /// Code index.
        func: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// The frames don't fit the stack.
    #[error("the program's stack needs {needed} bytes here, {available} are available: raise --stack-size")]
    TooSmall {
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// There are no frames.
    #[error("the call stack is empty")]
    Empty,
}

/// Both halves of one function's maps, decoded.
#[derive(Debug)]
pub struct FunctionMaps {
    /// Homes and migration points.
    pub points: FunctionPoints,
    /// Place, frame layout and sites.
    pub code: FunctionCode,
    /// (WebAssembly offset, text offset) of every call, ascending.
    calls: Vec<(u32, u32)>,
}

impl FunctionMaps {
    /// The text offset, from the function's first instruction, that the call at a WebAssembly offset returns to.
    pub fn return_of(&self, wasm_offset: u32) -> Option<u32> {
        let found = self.calls.partition_point(|&(wasm, _)| wasm < wasm_offset);
        self.calls
            .get(found)
            .filter(|&&(wasm, _)| wasm == wasm_offset)
            .map(|&(_, text)| text)
    }
}

/// The frame maps of one image, decoded function by function when they are first asked for, and kept.
#[derive(Debug)]
pub struct FrameMaps<'a> {
    points: dunlin_format::framemap::Points<'a>,
    code: Code<'a>,
    shape: FrameShape,
    text_base: u64,
    num_funcs: u32,
    decoded: OnceLock<Box<[OnceLock<FunctionMaps>]>>,
}

impl<'a> FrameMaps<'a> {
    /// The maps of an image with frames of this shape, whose text lies at `text_base`, for a module with `num_funcs`
    /// functions (imported ones included) and `num_types` types.
    pub fn new(
        points: dunlin_format::framemap::Points<'a>,
        code: Code<'a>,
        shape: FrameShape,
        text_base: u64,
        num_funcs: u32,
        num_types: u32,
    ) -> Result<FrameMaps<'a>, FrameError> {
        let needed = num_funcs.saturating_add(num_types);
        if points.len() != needed || code.len() != needed {
            return Err(FrameError::MapsDisagree {
                points: points.len(),
                code: code.len(),
                needed,
            });
        }
        Ok(FrameMaps {
            points,
            code,
            shape,
            text_base,
            num_funcs,
            decoded: OnceLock::new(),
        })
    }

    /// The maps of an image, with the text at [`dunlin_format::image::TEXT_ADDR`].
    pub fn of_image(
        image: &dunlin_format::image::Image<'a>,
        module: &dunlin_format::module::ModuleInfo,
    ) -> Result<FrameMaps<'a>, dunlin_format::image::ImageError> {
        let (points, code) = (image.points()?, image.code()?);
        FrameMaps::new(
            points,
            code,
            image.arch().frame_shape(),
            dunlin_format::image::TEXT_ADDR,
            module.funcs.len() as u32,
            module.types.len() as u32,
        )
        .map_err(|_| dunlin_format::image::ImageError::Damaged("its frame maps don't describe every function"))
    }

    /// How many functions the module has; larger code indices are trampolines.
    pub fn num_funcs(&self) -> u32 {
        self.num_funcs
    }

    /// Where the text lies.
    pub fn text_base(&self) -> u64 {
        self.text_base
    }

    /// The maps of one function or trampoline.
    pub fn function(&self, code_index: u32) -> Result<&FunctionMaps, FrameError> {
        let all = self
            .decoded
            .get_or_init(|| (0..self.code.len()).map(|_| OnceLock::new()).collect());
        let cell = all.get(code_index as usize).ok_or(FrameError::NoFunction(code_index))?;
        if let Some(maps) = cell.get() {
            return Ok(maps);
        }
        let (points, code) = (self.points.get(code_index)?, self.code.get(code_index)?);
        if u64::from(code.record) + u64::from(points.record_size) > u64::from(code.frame_to_fp) {
            return Err(FrameError::BadMap {
                func: code_index,
                what: "the record is larger than the frame",
            });
        }
        if !code.frame_to_fp.is_multiple_of(self.shape.align.into()) {
            return Err(FrameError::BadMap {
                func: code_index,
                what: "the frame's size isn't aligned",
            });
        }
        let calls = code
            .sites
            .iter()
            .filter(|s| s.kind == SiteKind::Call)
            .map(|s| (s.wasm, s.text));
        let mut calls: Vec<_> = calls.collect();
        calls.sort_unstable();
        Ok(cell.get_or_init(|| FunctionMaps { points, code, calls }))
    }

    /// Address of a function's or trampoline's first instruction. Needs no decoding.
    pub fn address(&self, code_index: u32) -> Option<u64> {
        self.code
            .range(code_index)
            .map(|(start, _)| self.text_base + u64::from(start))
    }

    /// The function whose code holds the byte at an address, and the byte's offset in it.
    pub fn find(&self, pc: u64) -> Option<(u32, u32)> {
        let offset = u32::try_from(pc.checked_sub(self.text_base)?).ok()?;
        let found = self.code.find(offset)?;
        Some((found, offset - self.code.range(found)?.0))
    }

    /// The function that a return address leads into, and its offset there. A call may be a function's last
    /// instruction, so the address may be one past its code.
    pub fn find_return(&self, pc: u64) -> Option<(u32, u32)> {
        self.find(pc.checked_sub(1)?).map(|(found, offset)| (found, offset + 1))
    }
}

/// A stack as bytes, and where they lie.
#[derive(Clone, Copy)]
struct Stack<'a> {
    base: u64,
    bytes: &'a [u8],
    shape: FrameShape,
}

impl<'a> Stack<'a> {
    fn new(maps: &FrameMaps<'_>, base: u64, bytes: &'a [u8]) -> Stack<'a> {
        let shape = maps.shape;
        Stack { base, bytes, shape }
    }

    /// The frame pointer or return address at an address.
    fn word(&self, address: u64) -> Option<u64> {
        let bytes = self.bytes(address, self.shape.word.into())?;
        Some(self.shape.order.read(bytes) as u64)
    }

    /// The bytes at an address.
    fn bytes(&self, address: u64, len: usize) -> Option<&'a [u8]> {
        let at = usize::try_from(address.checked_sub(self.base)?).ok()?;
        self.bytes.get(at..at.checked_add(len)?)
    }

    /// The frame at a frame pointer: (caller's frame pointer, return address).
    fn frame(&self, fp: u64) -> Option<(u64, u64)> {
        if !fp.is_multiple_of(self.shape.align.into()) {
            return None;
        }
        Some((
            self.word(fp.checked_add(self.shape.caller_fp.into())?)?,
            self.word(fp.checked_add(self.shape.return_address.into())?)?,
        ))
    }

    /// The lowest address of the frame whose callee has this frame pointer.
    fn bottom(&self, callee_fp: u64) -> u64 {
        callee_fp.saturating_add(self.shape.link.into())
    }
}

/// The part of a stack that is written.
struct StackMut<'a> {
    base: u64,
    bytes: &'a mut [u8],
    shape: FrameShape,
}

impl StackMut<'_> {
    /// Puts the lowest `size` bytes of a number at an address.
    fn put(&mut self, address: u64, number: u128, size: usize) -> Result<(), FrameError> {
        let at = address.checked_sub(self.base).and_then(|n| usize::try_from(n).ok());
        let place = at.and_then(|at| self.bytes.get_mut(at..at.checked_add(size)?));
        let place = place.ok_or(FrameError::BadFrame { fp: address, depth: 0 })?;
        self.shape.order.write(number, place);
        Ok(())
    }

    /// A frame's link to its caller.
    fn link(&mut self, fp: u64, caller_fp: u64, pc: u64) -> Result<(), FrameError> {
        let FrameShape { word, .. } = self.shape;
        for (at, value) in [(self.shape.caller_fp, caller_fp), (self.shape.return_address, pc)] {
            self.put(fp.saturating_add(at.into()), value.into(), word.into())?;
        }
        Ok(())
    }
}

/// Tells whether a frame at a point of this kind can have a callee.
fn can_be_outer(kind: PointKind) -> bool {
    kind == PointKind::Call
}
