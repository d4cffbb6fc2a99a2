//! The `points` section: builder and parser of the architecture-independent half of the frame maps.
//!
//! ```text
//!   u64                       number of functions n
//!   u64 x (n + 1)             where each function's bytes begin (and the last one's end), from the end of this index
//!   per function, LEB128:     record size
//!                             number of homes; per home: tag = kind | type << 2, slot index (difference), offset (difference)
//!                             number of points; per point: offset (difference), tag = kind | callee kind << 2, callee,
//!                             number of homes whose liveness differs from the point before, their indices (differences)
//! ```

use super::{Callee, FunctionPoints, Home, HomeKind, MapError, Point};
use crate::bytes::{Reader, put_leb, put_near, u64_at};
use crate::point::{PointKind, Slot};
use crate::types::ValType;

const SECTION: &str = "points";

/// Writes the `points` section.
#[derive(Debug, Default)]
pub struct PointsBuilder {
    starts: Vec<u64>,
    stream: Vec<u8>,
}

impl PointsBuilder {
    /// A builder without functions.
    pub fn new() -> PointsBuilder {
        PointsBuilder::default()
    }

    /// Appends the function of the next code index.
    ///
    /// Panics if points are not ascending or live homes not ascending indices of homes: a bug in the compiler.
    pub fn push(&mut self, function: &FunctionPoints) {
        self.starts.push(self.stream.len() as u64);
        let out = &mut self.stream;
        put_leb(out, function.record_size.into());
        put_leb(out, function.homes.len() as u64);
        let mut state = Predictor::default();
        for home in &function.homes {
            let (kind, slot) = match home.kind {
                HomeKind::Context => (0, None),
                HomeKind::Slot(Slot::Local(n)) => (1, Some(n)),
                HomeKind::Slot(Slot::Stack(n)) => (2, Some(n)),
            };
            out.push(kind | (home.ty as u8) << 2);
            if let Some(n) = slot {
                put_near(out, state.slot(kind), n);
            }
            put_near(out, state.offset, home.offset);
            state.saw(kind, slot, home);
        }
        put_leb(out, function.points.len() as u64);
        let mut last = None;
        for (n, point) in function.points.iter().enumerate() {
            assert!(
                last.is_none_or(|l| l < point.offset),
                "points must ascend: {:#x}",
                point.offset
            );
            put_leb(out, (point.offset - last.unwrap_or(0)).into());
            let (callee_kind, callee) = match point.callee {
                Callee::None => (0, None),
                Callee::Func(f) => (1, Some(f)),
                Callee::Type(t) => (2, Some(t)),
            };
            out.push(point.kind as u8 | callee_kind << 2);
            if let Some(n) = callee {
                put_leb(out, n.into());
            }
            let changed = function.changes(n);
            put_leb(out, changed.len() as u64);
            let mut next = 0;
            for &home in changed {
                assert!(
                    (home as usize) < function.homes.len(),
                    "no such home at {:#x}",
                    point.offset
                );
                put_leb(out, u64::from(home) - next);
                next = u64::from(home) + 1;
            }
            last = Some(point.offset);
        }
    }

    /// The section's bytes.
    pub fn finish(mut self) -> Vec<u8> {
        let count = self.starts.len() as u64;
        self.starts.push(self.stream.len() as u64);
        let mut out = Vec::with_capacity(8 + 8 * self.starts.len() + self.stream.len());
        out.extend(count.to_le_bytes());
        self.starts.iter().for_each(|s| out.extend(s.to_le_bytes()));
        out.append(&mut self.stream);
        out
    }
}

/// The `points` section of an image.
#[derive(Clone, Copy, Debug)]
pub struct Points<'a> {
    bytes: &'a [u8],
    count: u32,
}

impl<'a> Points<'a> {
    /// Checks the section's size. Functions are decoded, and checked, when they are asked for.
    pub fn parse(bytes: &'a [u8]) -> Result<Points<'a>, MapError> {
        let count = u64_at(bytes, 0).ok_or(MapError {
            section: SECTION,
            at: 0,
        })?;
        let index_fits = count < (bytes.len() as u64 / 8).saturating_sub(1);
        match u32::try_from(count) {
            Ok(count) if index_fits => Ok(Points { bytes, count }),
            _ => Err(MapError {
                section: SECTION,
                at: 0,
            }),
        }
    }

    /// How many functions it describes: every code index of the module.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether it describes no function.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Decodes one function, and checks what its readers rely on: homes lie aligned in the record, points ascend, and
    /// live lists are ascending indices of homes.
    pub fn get(&self, code_index: u32) -> Result<FunctionPoints, MapError> {
        let index = 8 + 8 * code_index as usize;
        let broken = |at| MapError { section: SECTION, at };
        if code_index >= self.count {
            return Err(broken(0));
        }
        let stream = 8 + 8 * (self.count as usize + 1);
        let place = |at| {
            u64_at(self.bytes, at)
                .and_then(|n| usize::try_from(n).ok()?.checked_add(stream))
                .ok_or(broken(at))
        };
        let (start, end) = (place(index)?, place(index + 8)?);
        let mut reader = Reader::new(self.bytes.get(start..end).ok_or(broken(index))?);
        let function = decode(&mut reader).filter(|_| reader.left() == 0);
        function.ok_or(broken(start + reader.at()))
    }
}

fn decode(r: &mut Reader<'_>) -> Option<FunctionPoints> {
    let record_size = r.leb32()?;
    let count = r.count()?;
    let mut homes = Vec::with_capacity(count);
    let mut state = Predictor::default();
    for _ in 0..count {
        let tag = r.u8()?;
        let ty = ValType::from_u8(tag >> 2)?;
        let (kind, slot) = match tag & 3 {
            0 => (HomeKind::Context, None),
            n @ (1 | 2) => {
                let index = r.near(state.slot(n))?;
                (
                    HomeKind::Slot(if n == 1 { Slot::Local(index) } else { Slot::Stack(index) }),
                    Some(index),
                )
            }
            _ => return None,
        };
        let home = Home {
            kind,
            ty,
            offset: r.near(state.offset)?,
        };
        let inside = home.offset.checked_add(ty.size())? <= record_size;
        let context_is_wide = kind != HomeKind::Context || ty == ValType::I64;
        if !inside || !home.offset.is_multiple_of(ty.size()) || !context_is_wide {
            return None;
        }
        state.saw(tag & 3, slot, &home);
        homes.push(home);
    }
    let count = r.count()?;
    let mut function = FunctionPoints::new(record_size, homes);
    let mut offset = 0u32;
    let mut changed = Vec::new();
    for n in 0..count {
        let step = r.leb32()?;
        if n > 0 && step == 0 {
            return None;
        }
        offset = offset.checked_add(step)?;
        let tag = r.u8()?;
        let kind = PointKind::from_u8(tag & 3)?;
        let callee = match tag >> 2 {
            0 => Callee::None,
            1 => Callee::Func(r.leb32()?),
            2 => Callee::Type(r.leb32()?),
            _ => return None,
        };
        changed.clear();
        let mut next = 0u32;
        for _ in 0..r.count()? {
            let home = next.checked_add(r.leb32()?)?;
            if home as usize >= function.homes.len() {
                return None;
            }
            changed.push(home);
            next = home + 1;
        }
        function.push_changed(Point { offset, kind, callee }, &changed);
    }
    Some(function)
}

/// What the next home probably is: the slot after the last one of its kind, right behind the home before it.
#[derive(Default)]
struct Predictor {
    locals: u32,
    stack: u32,
    offset: u32,
}

impl Predictor {
    fn slot(&self, kind: u8) -> u32 {
        if kind == 1 { self.locals } else { self.stack }
    }

    fn saw(&mut self, kind: u8, slot: Option<u32>, home: &Home) {
        if let Some(n) = slot {
            *(if kind == 1 { &mut self.locals } else { &mut self.stack }) = n.saturating_add(1);
        }
        self.offset = home.offset.saturating_add(home.ty.size());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function() -> FunctionPoints {
        let slot = |s, ty, offset| Home {
            kind: HomeKind::Slot(s),
            ty,
            offset,
        };
        let homes = vec![
            Home {
                kind: HomeKind::Context,
                ty: ValType::I64,
                offset: 0,
            },
            slot(Slot::Local(0), ValType::I32, 8),
            slot(Slot::Local(1), ValType::F32, 12),
            slot(Slot::Local(7), ValType::V128, 16),
            slot(Slot::Stack(0), ValType::I64, 40),
            slot(Slot::Stack(0), ValType::FuncRef, 32),
        ];
        let mut function = FunctionPoints::new(64, homes);
        let mut point = |offset, kind, callee, live: &[u32]| function.push(Point { offset, kind, callee }, live);
        point(0x31, PointKind::Entry, Callee::None, &[0, 1, 2]);
        point(0x38, PointKind::Loop, Callee::None, &[0, 1, 2, 3]);
        point(0x40, PointKind::Call, Callee::Func(70_000), &[0, 3, 4]);
        point(0x1_0000, PointKind::Call, Callee::Type(2), &[]);
        point(u32::MAX, PointKind::Call, Callee::Func(0), &[5]);
        function
    }

    fn section() -> Vec<u8> {
        let mut builder = PointsBuilder::new();
        builder.push(&FunctionPoints::default());
        builder.push(&function());
        let host = Point {
            offset: 0,
            kind: PointKind::Host,
            callee: Callee::None,
        };
        let mut function = FunctionPoints::default();
        function.push(host, &[]);
        builder.push(&function);
        builder.finish()
    }

    #[test]
    fn comes_back() {
        let bytes = section();
        let points = Points::parse(&bytes).unwrap();
        assert_eq!(points.len(), 3);
        assert_eq!(points.get(0).unwrap(), FunctionPoints::default());
        assert_eq!(points.get(1).unwrap(), function());
        assert_eq!(points.get(2).unwrap().points[0].kind, PointKind::Host);
        assert!(points.get(3).is_err());
        let f = points.get(1).unwrap();
        assert_eq!(f.point_at(0x40).unwrap().callee, Callee::Func(70_000));
        assert_eq!(f.point_at(0x41), None);
    }

    #[test]
    fn any_function_comes_back() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        for _ in 0..300 {
            let mut function = FunctionPoints::default();
            for _ in 0..random(40) {
                let ty = ValType::from_u8(random(7) as u8).unwrap();
                let (kind, ty) = match (random(9), random(1 << 32) as u32) {
                    (0, _) => (HomeKind::Context, ValType::I64),
                    (1..5, n) => (HomeKind::Slot(Slot::Local(n)), ty),
                    (_, n) => (HomeKind::Slot(Slot::Stack(n >> 24)), ty),
                };
                let offset = function.record_size.next_multiple_of(ty.size());
                function.record_size = offset + ty.size();
                function.homes.push(Home { kind, ty, offset });
            }
            function.record_size = function.record_size.next_multiple_of(16);
            let mut offset = 0;
            for _ in 0..random(30) {
                offset += 1 + random(1 << 20) as u32;
                let callee = match random(3) {
                    0 => Callee::None,
                    1 => Callee::Func(random(1 << 32) as u32),
                    _ => Callee::Type(random(1 << 10) as u32),
                };
                let live: Vec<u32> = (0..function.homes.len() as u32).filter(|_| random(3) > 0).collect();
                let kind = PointKind::from_u8(random(4) as u8).unwrap();
                let point = Point { offset, kind, callee };
                function.push(point, &live);
                assert_eq!(function.live_at(&point), live);
            }
            let mut builder = PointsBuilder::new();
            builder.push(&function);
            builder.push(&function);
            let bytes = builder.finish();
            assert_eq!(Points::parse(&bytes).unwrap().get(1).unwrap(), function);
        }
    }

    #[test]
    fn empty_section() {
        let bytes = PointsBuilder::new().finish();
        assert!(Points::parse(&bytes).unwrap().is_empty());
    }

    #[test]
    fn damage_never_panics() {
        let bytes = section();
        for len in 0..bytes.len() {
            if let Ok(points) = Points::parse(&bytes[..len]) {
                assert!(
                    (0..points.len()).any(|f| points.get(f).is_err()),
                    "cut at {len} went unnoticed"
                );
            }
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                let Ok(points) = Points::parse(&bytes) else { continue };
                for f in 0..points.len().min(10) {
                    let Ok(f) = points.get(f) else { continue };
                    assert!(
                        f.points
                            .iter()
                            .all(|p| f.live_at(p).iter().all(|&h| (h as usize) < f.homes.len()))
                    );
                    assert!(f.homes.iter().all(|h| h.offset + h.ty.size() <= f.record_size));
                    assert!(f.points.is_sorted_by(|a, b| a.offset < b.offset));
                }
            }
        }
    }

    #[test]
    fn a_count_cannot_make_it_allocate() {
        let mut bytes = Vec::new();
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        let mut stream = Vec::new();
        put_leb(&mut stream, 16);
        put_leb(&mut stream, u64::MAX);
        bytes.extend((stream.len() as u64).to_le_bytes());
        bytes.extend(stream);
        assert!(Points::parse(&bytes).unwrap().get(0).is_err());
        assert!(Points::parse(&u64::MAX.to_le_bytes()).is_err());
    }
}
