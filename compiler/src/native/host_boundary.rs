//! Functions on the boundary to the host, without a WebAssembly body: the wrapper of an imported function, and the
//! trampoline through which the host enters.

use super::signatures::{self, clif_type};
use super::translate::{Bounds, Env, Regions, Translated, make_regions, make_slot};
use crate::uniform::calling_convention::{params_in_registers, results_in_registers};
use cranelift_codegen::ir::{
    Endianness, Function, InstBuilder, MemFlagsData, SourceLoc, StackSlot, Type, Value, types::F32, types::F64,
    types::I32, types::I64,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use dunlin_format::context::OFF_LEAVE;
use dunlin_format::framemap::{Callee, FunctionPoints, Home, HomeKind, Point};
use dunlin_format::hostcalls::IMPORT_BASE;
use dunlin_format::point::{PointKind, Slot};
use dunlin_format::types::{FuncType, ValType};

/// Record and only point of a function whose record holds the context and its parameters, all live there.
fn single_point(params: &[ValType], kind: PointKind, callee: Callee, migration: bool) -> FunctionPoints {
    if !migration {
        return FunctionPoints::default();
    }
    let mut homes = vec![Home {
        kind: HomeKind::Context,
        ty: ValType::I64,
        offset: 0,
    }];
    let mut at = 8;
    for (k, &ty) in params.iter().enumerate() {
        at = u32::next_multiple_of(at, ty.size());
        homes.push(Home {
            kind: HomeKind::Slot(Slot::Local(k as u32)),
            ty,
            offset: at,
        });
        at += ty.size();
    }
    let live: Vec<u32> = (0..homes.len() as u32).collect();
    let mut points = FunctionPoints::new(at.next_multiple_of(16), homes);
    let point = Point {
        offset: 0,
        kind,
        callee,
    };
    points.push(point, &live);
    points
}

/// A wrapper or trampoline while it is made.
struct BoundaryFunction<'b> {
    b: FunctionBuilder<'b>,
    record: Option<StackSlot>,
    regions: Regions,
}

impl BoundaryFunction<'_> {
    /// Flags of accesses to the context.
    fn flags(&self) -> MemFlagsData {
        MemFlagsData::trusted()
            .with_endianness(Endianness::Little)
            .with_alias_region(Some(self.regions.context))
    }

    /// Flags of accesses to the record.
    fn record_flags(&self) -> MemFlagsData {
        self.flags().with_alias_region(Some(self.regions.record))
    }

    /// Stores a value in the record, if there is one.
    fn store_record(&mut self, value: Value, offset: u32) {
        if let Some(slot) = self.record {
            let addr = self.b.ins().stack_addr(I64, slot, 0);
            let flags = self.record_flags();
            self.b.ins().store(flags, value, addr, offset as i32);
        }
    }

    /// The context pointer after a call.
    fn ctx_after(&mut self, before: Value) -> Value {
        match self.record {
            Some(slot) => {
                let addr = self.b.ins().stack_addr(I64, slot, 0);
                let flags = self.record_flags();
                self.b.ins().load(I64, flags, addr, 0)
            }
            None => before,
        }
    }

    /// Loads from the context.
    fn load(&mut self, ty: Type, ctx: Value, offset: i32) -> Value {
        let flags = self.flags();
        self.b.ins().load(ty, flags, ctx, offset)
    }

    /// Stores a value in a slot; what is narrower than 64 bits is zero-extended.
    fn store_slot(&mut self, ctx: Value, value: Value, offset: i32) {
        let bits = match self.b.func.dfg.value_type(value) {
            F32 => self.b.ins().bitcast(I32, MemFlagsData::new(), value),
            F64 => self.b.ins().bitcast(I64, MemFlagsData::new(), value),
            _ => value,
        };
        let wide = if self.b.func.dfg.value_type(bits) == I32 {
            self.b.ins().uextend(I64, bits)
        } else {
            bits
        };
        let flags = self.flags();
        self.b.ins().store(flags, wide, ctx, offset);
    }
}

/// Starts the function, which has this record. Also returns its parameters.
fn begin<'b>(
    func: &'b mut Function,
    fbc: &'b mut FunctionBuilderContext,
    points: &FunctionPoints,
) -> (BoundaryFunction<'b>, Vec<Value>) {
    let record = make_slot(func, points.record_size, 0);
    let regions = make_regions(func, Bounds::Guard);
    let mut b = FunctionBuilder::new(func, fbc);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    b.seal_block(entry);
    // All of it stands at offset 0: the point's name.
    b.set_srcloc(SourceLoc::new(0));
    let params = b.block_params(entry).to_vec();
    (BoundaryFunction { b, record, regions }, params)
}

/// The wrapper of imported function `import`: hands its parameters to the host through the slots. Its one point, of
/// kind host, stands *before* the host call: what the record holds are the arguments.
pub(crate) fn import_wrapper(
    env: Env<'_>,
    func: &mut Function,
    fbc: &mut FunctionBuilderContext,
    import: u32,
    ty: &FuncType,
) -> (Translated, FunctionPoints) {
    let points = single_point(&ty.params, PointKind::Host, Callee::None, env.migration);
    let (mut g, params) = begin(func, fbc, &points);
    let ctx = params[0];
    let mut rest = params[1..].iter();
    g.store_record(ctx, 0);
    for (k, (t, in_reg)) in ty.params.iter().zip(params_in_registers(&ty.params)).enumerate() {
        let slot = env.layout.slot(k as u32);
        let in_reg = if in_reg { rest.next().copied() } else { None };
        // Those in slots are where the host expects them already.
        let value = match in_reg {
            Some(value) => value,
            None => g.load(clif_type(*t), ctx, slot),
        };
        if let Some(home) = points.homes.get(k + 1) {
            g.store_record(value, home.offset);
        }
        if in_reg.is_some() {
            g.store_slot(ctx, value, slot);
        }
    }
    let sig = g.b.import_signature(signatures::leave_signature());
    let leave = g.load(I64, ctx, OFF_LEAVE);
    let id = g.b.ins().iconst(I32, i64::from(IMPORT_BASE + import));
    g.b.ins().call_indirect(sig, leave, &[ctx, id]);
    let ctx = g.ctx_after(ctx);
    // Results that travel in slots are there already, under the same numbers.
    let in_regs = results_in_registers(&ty.results);
    let mut results = vec![];
    for (k, t) in ty.results.iter().enumerate().filter(|(k, _)| in_regs[*k]) {
        results.push(g.load(clif_type(*t), ctx, env.layout.slot(k as u32)));
    }
    g.b.ins().return_(&results);
    let record = g.record;
    g.b.finalize(env.frontend);
    (
        Translated {
            record,
            ..Translated::default()
        },
        points,
    )
}

/// The trampoline through which the host enters functions of a type: `(ctx, code) -> ctx`, all else in the slots.
pub(crate) fn trampoline(
    env: Env<'_>,
    func: &mut Function,
    fbc: &mut FunctionBuilderContext,
    canonical: u32,
    ty: &FuncType,
) -> (Translated, FunctionPoints) {
    let points = single_point(&[], PointKind::Call, Callee::Type(canonical), env.migration);
    let (mut g, params) = begin(func, fbc, &points);
    let (ctx, code) = (params[0], params[1]);
    g.store_record(ctx, 0);
    let mut args = vec![ctx];
    // Those that travel in slots are there already, under the same numbers.
    let in_regs = params_in_registers(&ty.params);
    for (k, t) in ty.params.iter().enumerate().filter(|(k, _)| in_regs[*k]) {
        args.push(g.load(clif_type(*t), ctx, env.layout.slot(k as u32)));
    }
    let sig = g.b.import_signature(signatures::wasm_signature(ty));
    let call = g.b.ins().call_indirect(sig, code, &args);
    let returned = g.b.inst_results(call).to_vec();
    let ctx = g.ctx_after(ctx);
    let in_regs = results_in_registers(&ty.results);
    let slots = (0..ty.results.len()).filter(|&k| in_regs[k]);
    for (k, value) in slots.zip(returned) {
        g.store_slot(ctx, value, env.layout.slot(k as u32));
    }
    g.b.ins().return_(&[ctx]);
    let record = g.record;
    g.b.finalize(env.frontend);
    (
        Translated {
            record,
            ..Translated::default()
        },
        points,
    )
}
