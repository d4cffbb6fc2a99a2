//! A made-up module with frame maps for two made-up architectures, for this crate's tests.

use crate::frames::FrameMaps;
use crate::state::{Frame, Invocation, MemoryState, State, TableState};
use dunlin_format::arch::{Arch, ByteOrder, FrameShape};
use dunlin_format::framemap::{
    Callee, Code, CodeBuilder, FunctionCode, FunctionPoints, Home, HomeKind, Point, Points, PointsBuilder, Site,
    SiteKind,
};
use dunlin_format::hostcalls::Trap;
use dunlin_format::module::{
    ConstExpr, Data, Element, Export, ExportKind, Global, Import, Memory, ModuleHash, ModuleInfo, SegmentMode, Table,
};
use dunlin_format::point::{PointKind, Slot};
use dunlin_format::types::{FuncType, ValType, Value};

/// Functions: the imported one, `main`, and one that calls itself, the import and (indirectly) others.
pub(crate) const HOST: u32 = 0;
pub(crate) const MAIN: u32 = 1;
pub(crate) const REC: u32 = 2;

/// Points of the functions.
pub(crate) const MAIN_ENTRY: u32 = 0x20;
pub(crate) const MAIN_CALLS_REC: u32 = 0x24;
pub(crate) const MAIN_CALLS_TYPE: u32 = 0x28;
pub(crate) const REC_LOOP: u32 = 0x40;
pub(crate) const REC_CALLS_REC: u32 = 0x44;
pub(crate) const REC_CALLS_HOST: u32 = 0x48;
/// A call in REC that is no migration point, and a point there that has no code.
pub(crate) const REC_GROWS: u32 = 0x4c;
pub(crate) const REC_UNREACHABLE: u32 = 0x50;
/// Where REC traps.
pub(crate) const REC_LOADS: u32 = 0x42;

/// The module. Types 1 and 2 are equal.
pub(crate) fn module() -> ModuleInfo {
    let unary = FuncType {
        params: vec![ValType::I32],
        results: vec![ValType::I32],
    };
    let global = |ty, mutable, init| Global { ty, mutable, init };
    ModuleInfo {
        name: "made-up".into(),
        types: vec![FuncType::default(), unary.clone(), unary],
        canonical: vec![0, 1, 1],
        imports: vec![Import {
            module: "wasi_snapshot_preview1".into(),
            name: "sched_yield".into(),
        }],
        funcs: vec![1, 0, 2],
        globals: vec![
            global(ValType::I32, true, ConstExpr::Value(Value::I32(7))),
            global(ValType::FuncRef, true, ConstExpr::RefFunc(MAIN)),
            global(ValType::I64, false, ConstExpr::Value(Value::I64(8))),
            global(ValType::I64, false, ConstExpr::GlobalGet(2)),
        ],
        memories: vec![Memory {
            min: 2,
            max: Some(9),
            memory64: false,
        }],
        tables: vec![Table {
            ty: ValType::FuncRef,
            min: 2,
            max: Some(4),
            table64: false,
            init: ConstExpr::Value(Value::FuncRef(None)),
        }],
        exports: vec![Export {
            name: "_start".into(),
            kind: ExportKind::Func,
            index: MAIN,
        }],
        start: None,
        elements: vec![Element {
            mode: SegmentMode::Passive,
            ty: ValType::FuncRef,
            items: vec![],
        }],
        tags: vec![],
        needs: Default::default(),
        data: vec![
            Data {
                mode: SegmentMode::Passive,
                bytes: 0..3
            };
            2
        ],
    }
}

/// A state of the module: `main` called REC, that itself twice, and the innermost is at its loop.
pub(crate) fn state() -> State {
    let reference = |n| Some(n);
    State {
        module: ModuleHash::of(b"made-up"),
        invocation: Invocation::Export("_start".into()),
        frames: frames(3, false),
        globals: vec![Value::I32(1), Value::FuncRef(Some(REC)), Value::I64(8), Value::I64(8)],
        memories: vec![MemoryState { pages: 5 }],
        tables: vec![TableState {
            elements: vec![None, reference(MAIN), reference(HOST)],
        }],
        dropped_elements: vec![true],
        dropped_data: vec![false, true],
        wasi: Default::default(),
        exceptions: vec![],
    }
}

/// `main`, `depth` activations of REC with different values, and at the end the undone host call if `host`.
pub(crate) fn frames(depth: u32, host: bool) -> Vec<Frame> {
    let main = vec![
        (Slot::Local(0), Value::I32(0xfeed)),
        (Slot::Local(3), Value::V128(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210)),
        (Slot::Stack(0), Value::FuncRef(None)),
    ];
    let mut frames = vec![Frame {
        func: MAIN,
        offset: MAIN_CALLS_TYPE,
        kind: PointKind::Call,
        values: main,
    }];
    for n in 0..depth {
        let local = (Slot::Local(0), Value::I32(n));
        let stack = (Slot::Stack(1), Value::F64(u64::from(n) | 0x7ff8_0000_0000_0000));
        let (offset, kind) = match n + 1 {
            last if last < depth => (REC_CALLS_REC, PointKind::Call),
            _ if host => (REC_CALLS_HOST, PointKind::Call),
            _ => (REC_LOOP, PointKind::Loop),
        };
        let values = if offset == REC_CALLS_HOST {
            vec![stack]
        } else {
            vec![local, stack]
        };
        frames.push(Frame {
            func: REC,
            offset,
            kind,
            values,
        });
    }
    if host {
        let values = vec![(Slot::Local(0), Value::I32(99))];
        frames.push(Frame {
            func: HOST,
            offset: 0,
            kind: PointKind::Host,
            values,
        });
    }
    frames
}

/// The `points` section.
pub(crate) fn points() -> Vec<u8> {
    let context = Home {
        kind: HomeKind::Context,
        ty: ValType::I64,
        offset: 0,
    };
    let slot = |slot, ty, offset| Home {
        kind: HomeKind::Slot(slot),
        ty,
        offset,
    };
    let point = |offset, kind, callee, live: &[u32]| (Point { offset, kind, callee }, live.to_vec());
    let function = |record_size, homes: Vec<Home>, points: Vec<(Point, Vec<u32>)>| {
        let mut function = FunctionPoints::new(record_size, homes);
        points.iter().for_each(|(point, live)| function.push(*point, live));
        function
    };
    let host = function(
        16,
        vec![context, slot(Slot::Local(0), ValType::I32, 8)],
        vec![point(0, PointKind::Host, Callee::None, &[0, 1])],
    );
    let main = function(
        64,
        // Slots out of order, one of them with two types.
        vec![
            context,
            slot(Slot::Stack(0), ValType::FuncRef, 8),
            slot(Slot::Stack(0), ValType::I32, 12),
            slot(Slot::Local(0), ValType::I32, 16),
            slot(Slot::Local(3), ValType::V128, 32),
            slot(Slot::Local(4), ValType::F32, 48),
        ],
        vec![
            point(MAIN_ENTRY, PointKind::Entry, Callee::None, &[0]),
            point(MAIN_CALLS_REC, PointKind::Call, Callee::Func(REC), &[2]),
            point(MAIN_CALLS_TYPE, PointKind::Call, Callee::Type(1), &[1, 3, 4]),
        ],
    );
    let rec = function(
        32,
        vec![
            slot(Slot::Local(0), ValType::I32, 0),
            slot(Slot::Stack(1), ValType::F64, 8),
            Home { offset: 24, ..context },
        ],
        vec![
            point(REC_LOOP, PointKind::Loop, Callee::None, &[0, 1, 2]),
            point(REC_CALLS_REC, PointKind::Call, Callee::Func(REC), &[0, 1, 2]),
            point(REC_CALLS_HOST, PointKind::Call, Callee::Func(HOST), &[1]),
            point(REC_UNREACHABLE, PointKind::Call, Callee::Type(0), &[]),
        ],
    );
    let trampoline = function(16, vec![context], vec![]);
    let mut builder = PointsBuilder::new();
    [host, main, rec, trampoline.clone(), trampoline.clone(), trampoline]
        .iter()
        .for_each(|f| builder.push(f));
    builder.finish()
}

/// A made-up architecture.
pub(crate) struct MadeUp {
    /// Where its text lies.
    pub text_base: u64,
    /// Its `code` section.
    pub code: Vec<u8>,
    /// Its frames.
    pub shape: FrameShape,
}

impl MadeUp {
    /// Number 0, 1 or 2: their frames, records and code sizes differ. Number 2 has another shape of frames, too: short
    /// words, in big-endian order, at other places.
    pub(crate) fn new(number: u32) -> MadeUp {
        let call = |text, wasm| Site {
            text: text * (number + 1),
            kind: SiteKind::Call,
            wasm,
        };
        let trap = |text, trap, wasm| Site {
            text: text * (number + 1),
            kind: SiteKind::Trap(trap),
            wasm,
        };
        let sites = [
            vec![call(8, 0)],
            vec![call(4, MAIN_ENTRY), call(12, MAIN_CALLS_TYPE), call(20, MAIN_CALLS_REC)],
            vec![
                call(8, REC_LOOP),
                trap(12, Trap::MemoryOutOfBounds, REC_LOADS),
                call(16, REC_CALLS_REC),
                call(20, REC_GROWS),
                // The last instruction of its function.
                call(24, REC_CALLS_HOST),
            ],
            vec![call(8, 0)],
            vec![call(8, 0)],
            vec![call(8, 0)],
        ];
        let frames = if number == 0 {
            [32, 80, 48, 32, 16, 64]
        } else {
            [48, 144, 32, 16, 48, 32]
        };
        let mut builder = CodeBuilder::new();
        for (n, sites) in sites.into_iter().enumerate() {
            let len = sites.last().map_or(0, |s| s.text);
            let record = if number == 0 || frames[n] < 48 { 0 } else { 16 };
            builder.push(&FunctionCode {
                start: 0x80 * n as u32,
                len,
                frame_to_fp: frames[n],
                record,
                sites,
            });
        }
        MadeUp {
            text_base: 0x4000_0000 + 0x1000_0000 * u64::from(number),
            code: builder.finish(),
            shape: match number {
                2 => FrameShape {
                    word: 4,
                    link: 8,
                    above: 24,
                    caller_fp: 4,
                    return_address: 0,
                    align: 8,
                    own_sp: None,
                    order: ByteOrder::Big,
                },
                _ => Arch::X86_64.frame_shape(),
            },
        }
    }

    /// Its maps.
    pub(crate) fn maps<'a>(&'a self, points: &'a [u8]) -> FrameMaps<'a> {
        let (points, code) = (Points::parse(points).unwrap(), Code::parse(&self.code).unwrap());
        FrameMaps::new(points, code, self.shape, self.text_base, 3, 3).unwrap()
    }
}
