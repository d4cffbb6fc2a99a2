//! Frame maps: where every migration point is, what is live there, and where it lives. Builder and parser side by side.
//!
//! Two halves, two image sections:
//!
//! - [`Points`] (section `points`, equal on every architecture): per function the homes of its record and its migration
//!   points, each with the list of homes that are live there.
//! - [`Code`] (section `code`, one per architecture): per function its place in the text, its frame layout, and its
//!   sites: the text offsets (return addresses of calls, addresses of trapping instructions) with the WebAssembly
//!   offset of each.
//!
//! A migration point has exactly one site of kind [`SiteKind::Call`] on each architecture, found by (function,
//! WebAssembly offset), unless the optimiser proved it unreachable. Both halves are indexed by *code index*: every
//! function of the module (an imported function's is its wrapper), then one entry trampoline per type index of the
//! module (`num_funcs + type`).
//!
//! Both are decoded one function at a time, when that function is asked for: starting a program costs nothing.

mod code;
mod live;
mod points;

pub use code::{Code, CodeBuilder};
pub use live::{LiveSets, Walk};
pub use points::{Points, PointsBuilder};

use crate::hostcalls::Trap;
use crate::point::{PointKind, Slot};
use crate::types::ValType;

/// What a home holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HomeKind {
    /// The context pointer: the only machine address in a record. Rewritten on resume.
    Context,
    /// A local or an operand-stack position.
    Slot(Slot),
}

/// A fixed place in a function's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// What it holds.
    pub kind: HomeKind,
    /// The value's type ([`ValType::I64`] for the context pointer). A slot used with several types has one home per
    /// type.
    pub ty: ValType,
    /// Byte offset in the record, aligned to the type's size.
    pub offset: u32,
}

/// What the instruction at a point calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// Nothing that has a frame above this one: the point is the innermost frame's (kinds loop, entry, host).
    None,
    /// This function.
    Func(u32),
    /// Some function of this type (canonical type index).
    Type(u32),
}

/// A migration point. What is live there: [`FunctionPoints::live_at`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Byte offset of the instruction in the module's binary (as `Frame::offset` of the uniform state).
    pub offset: u32,
    /// Kind.
    pub kind: PointKind,
    /// What is called there.
    pub callee: Callee,
}

/// The architecture-independent half for one function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionPoints {
    /// Size of the record in bytes, a multiple of 16; 0 if the function has none.
    pub record_size: u32,
    /// The record's homes. Home 0 is the context pointer if the record holds it.
    pub homes: Vec<Home>,
    points: Vec<Point>,
    live: LiveSets,
}

/// What is at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteKind {
    /// The return address of a call.
    Call,
    /// An instruction that raises this trap if it faults.
    Trap(Trap),
    /// The return address of a call, whose exceptions are handled at this text offset.
    Handler(u32),
}

/// A text offset that has a meaning in WebAssembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Byte offset in the function's code.
    pub text: u32,
    /// What is there.
    pub kind: SiteKind,
    /// Byte offset of the instruction in the module's binary.
    pub wasm: u32,
}

/// The architecture-dependent half for one function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionCode {
    /// Byte offset of the function's first instruction in the text.
    pub start: u32,
    /// Size of its code in bytes.
    pub len: u32,
    /// Distance from the lowest byte of the frame (the stack pointer at a call) up to the frame pointer, in bytes.
    pub frame_to_fp: u32,
    /// Distance from the lowest byte of the frame up to the record, in bytes.
    pub record: u32,
    /// Sites, ascending by text offset (a call and a trap may share one).
    pub sites: Vec<Site>,
}

/// Failure to decode a section: the image is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {section} section of the image is damaged at byte {at}")]
pub struct MapError {
    /// Which section.
    pub section: &'static str,
    /// Where, in bytes from its start.
    pub at: usize,
}

impl FunctionPoints {
    /// A function without points.
    pub fn new(record_size: u32, homes: Vec<Home>) -> FunctionPoints {
        FunctionPoints {
            record_size,
            homes,
            ..FunctionPoints::default()
        }
    }

    /// Appends a point, of a greater offset than the one before it, and the indices of the homes that are live there,
    /// ascending.
    pub fn push(&mut self, point: Point, live: &[u32]) {
        self.points.push(point);
        self.live.push_members(live);
    }

    /// The same, given the homes that are live at just one of this point and the one before it.
    pub fn push_changed(&mut self, point: Point, changed: &[u32]) {
        self.points.push(point);
        self.live.push(changed);
    }

    /// The migration points, ascending by offset; offsets are unique.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Indices into [`FunctionPoints::homes`] of the homes that are live at a point of this function, ascending.
    pub fn live_at(&self, point: &Point) -> Vec<u32> {
        let found = self.points.binary_search_by_key(&point.offset, |p| p.offset);
        found.map_or(vec![], |n| self.live.get(n))
    }

    /// Indices of the homes that are live at just one of point number `n` and the one before it, ascending.
    pub fn changes(&self, n: usize) -> &[u32] {
        self.live.changes(n)
    }

    /// The migration point of the instruction at a byte offset of the module's binary.
    pub fn point_at(&self, wasm_offset: u32) -> Option<&Point> {
        let found = self.points.binary_search_by_key(&wasm_offset, |p| p.offset).ok()?;
        self.points.get(found)
    }
}

impl FunctionCode {
    /// Every site at a text offset, from the function's first instruction.
    pub fn sites_at(&self, text: u32) -> &[Site] {
        let start = self.sites.partition_point(|s| s.text < text);
        let len = self.sites[start..].partition_point(|s| s.text == text);
        &self.sites[start..start + len]
    }

    /// The call that returns to a text offset.
    pub fn call_at(&self, text: u32) -> Option<&Site> {
        self.sites_at(text).iter().find(|s| s.kind == SiteKind::Call)
    }

    /// The trap an instruction at a text offset raises if it faults, and its byte offset in the module's binary.
    pub fn trap_at(&self, text: u32) -> Option<(Trap, u32)> {
        self.sites_at(text).iter().find_map(|s| match s.kind {
            SiteKind::Trap(trap) => Some((trap, s.wasm)),
            _ => None,
        })
    }

    /// Where exceptions of the call that returns to a text offset are handled, as a text offset.
    pub fn handler_at(&self, text: u32) -> Option<u32> {
        self.sites_at(text).iter().find_map(|s| match s.kind {
            SiteKind::Handler(at) => Some(at),
            _ => None,
        })
    }

    /// The last site at or before a text offset: where execution roughly is when there is none exactly there.
    pub fn site_before(&self, text: u32) -> Option<&Site> {
        self.sites[..self.sites.partition_point(|s| s.text <= text)].last()
    }

    /// The text offset a call at a byte offset of the module's binary returns to, from the function's first
    /// instruction. Searches linearly; `dunlin_migrate::frames::FrameMaps` keeps an index.
    pub fn call_site_of(&self, wasm_offset: u32) -> Option<u32> {
        self.sites
            .iter()
            .find(|s| s.kind == SiteKind::Call && s.wasm == wasm_offset)
            .map(|s| s.text)
    }
}
