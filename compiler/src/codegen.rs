//! The function compiler: one WebAssembly function through the whole pipeline, for every architecture.
//!
//! `validate -> analyse -> translate -> Context::optimize -> record rule -> TargetIsa::compile_function` per
//! architecture. The CLIF is optimised once: after `optimize` it is the same for all of them.

use crate::analysis::build::analyze;
use crate::analysis::scan::Request;
use crate::callgraph;
use crate::error::Error;
use crate::module::Module;
use crate::output::{CompiledFunction, MachineFunction, Reloc, RelocKind};
use crate::rule;
use crate::settings::{OptLevel, Settings};
use crate::translate::{self, Env, Translated, glue};
use crate::{abi, depth, isa};
use cranelift_codegen::binemit::Reloc as ClifReloc;
use cranelift_codegen::ir::{ExternalName, Function, StackSlot, TrapCode, UserFuncName};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::{CompiledCode, Context, FinalizedMachExceptionHandler, FinalizedRelocTarget};
use cranelift_control::ControlPlane;
use cranelift_frontend::FunctionBuilderContext;
use dunlin_format::arch::Arch;
use dunlin_format::context::ContextLayout;
use dunlin_format::framemap::{FunctionPoints, Site, SiteKind};
use dunlin_format::hostcalls::Trap;
use dunlin_format::module::{ExportKind, Needs};
use wasmparser::FuncValidatorAllocations;

/// What is found out about the whole module before functions are compiled in parallel.
#[derive(Debug)]
pub struct Prepared {
    layout: ContextLayout,
    /// Per function: does it poll at its entry?
    entry_poll: Vec<bool>,
    /// Per type: does the host enter functions of it?
    entered: Vec<bool>,
}

/// The pass over the whole module.
pub fn prepare(module: &Module<'_>, settings: &Settings) -> Result<Prepared, Error> {
    let entry_poll = if settings.migration {
        callgraph::entry_polls(module)?
    } else {
        vec![false; module.info.funcs.len()]
    };
    Ok(Prepared {
        layout: ContextLayout::new(&module.info),
        entry_poll,
        entered: entered(module),
    })
}

/// The types, by index, of the functions that the host can enter: those exported, and the start function. Only these
/// need a trampoline; there are modules with a million types.
fn entered(module: &Module<'_>) -> Vec<bool> {
    let info = &module.info;
    let mut entered = vec![false; info.types.len()];
    let exported = info
        .exports
        .iter()
        .filter(|e| e.kind == ExportKind::Func)
        .map(|e| e.index);
    for func in exported.chain(info.start) {
        if let Some(&ty) = info.funcs.get(func as usize) {
            entered[ty as usize] = true;
        }
    }
    entered
}

/// Compiles functions, a batch at a time; one per thread.
pub struct FunctionCompiler<'m> {
    module: &'m Module<'m>,
    settings: &'m Settings,
    prepared: &'m Prepared,
    /// The one that optimises.
    optimizer: OwnedTargetIsa,
    /// The one that leaves out the mid-end.
    plain: OwnedTargetIsa,
    targets: Vec<(Arch, OwnedTargetIsa)>,
    /// A batch's functions, and later contexts to use again.
    contexts: Vec<Context>,
    fbc: FunctionBuilderContext,
    regalloc: regalloc2::Ctx,
    control: ControlPlane,
    validator: FuncValidatorAllocations,
}

impl<'m> FunctionCompiler<'m> {
    /// A compiler for functions of `module`.
    pub fn new(module: &'m Module<'m>, settings: &'m Settings, prepared: &'m Prepared) -> Result<Self, Error> {
        let targets = settings
            .targets
            .iter()
            .map(|&a| Ok((a, isa::isa(a, settings)?)))
            .collect::<Result<_, Error>>()?;
        let plain = Settings {
            opt_level: OptLevel::O1,
            ..settings.clone()
        };
        Ok(FunctionCompiler {
            module,
            settings,
            prepared,
            // Always the same one, so that the code doesn't depend on which targets are asked for.
            optimizer: isa::isa(Arch::X86_64, settings)?,
            plain: isa::isa(Arch::X86_64, &plain)?,
            targets,
            contexts: vec![],
            fbc: FunctionBuilderContext::new(),
            regalloc: regalloc2::Ctx::default(),
            control: ControlPlane::default(),
            validator: FuncValidatorAllocations::default(),
        })
    }

    /// Compiles the functions of these code indices, one phase after the other: as each phase is a lot of code, that is
    /// faster than one function after the other (figures in ARCHITECTURE.md).
    pub fn compile(&mut self, batch: &[u32]) -> Vec<Result<CompiledFunction, Error>> {
        // What it has grown for one large function would be cleared for every small one after it.
        self.regalloc = regalloc2::Ctx::default();
        let mut contexts = std::mem::take(&mut self.contexts);
        contexts.resize_with(batch.len().max(contexts.len()), Context::new);
        let mut begun: Vec<Result<Begun, Error>> = vec![];
        for (&code_index, ctx) in batch.iter().zip(&mut contexts) {
            begun.push(match self.is_needed(code_index) {
                true => self.translate(code_index, ctx),
                false => Ok(self.nothing(code_index)),
            });
        }
        for (begun, ctx) in begun.iter_mut().zip(&mut contexts) {
            if let Ok(function) = begun
                && !function.is_done
                && let Err(e) = self.optimize(function, ctx)
            {
                *begun = Err(e);
            }
        }
        for k in 0..self.targets.len() {
            for (begun, ctx) in begun.iter_mut().zip(&contexts) {
                if let Ok(function) = begun
                    && !function.is_done
                    && let Err(e) = self.emit(k, function, ctx)
                {
                    *begun = Err(e);
                }
            }
        }
        self.contexts = contexts;
        begun.into_iter().map(|b| b.map(|b| b.compiled)).collect()
    }

    /// Is there code to be made for a code index?
    fn is_needed(&self, code_index: u32) -> bool {
        let ty = code_index.checked_sub(self.module.num_funcs());
        ty.is_none_or(|ty| self.prepared.entered[ty as usize])
    }

    /// The code of a trampoline through which nothing is ever entered: none.
    fn nothing(&self, code_index: u32) -> Begun {
        let nothing = |&(arch, _): &(Arch, OwnedTargetIsa)| MachineFunction {
            arch,
            bytes: Vec::new(),
            align: 1,
            relocs: Vec::new(),
            frame_to_fp: 0,
            record: 0,
            sites: Vec::new(),
            unwind: None,
            asm: None,
        };
        Begun {
            translated: Translated::default(),
            compiled: CompiledFunction {
                code_index,
                points: FunctionPoints::default(),
                needs: Needs::default(),
                clif: None,
                machine: self.targets.iter().map(nothing).collect(),
            },
            is_done: true,
        }
    }

    /// From WebAssembly to CLIF.
    fn translate(&mut self, code_index: u32, ctx: &mut Context) -> Result<Begun, Error> {
        let info = &self.module.info;
        let num_funcs = info.funcs.len() as u32;
        let env = Env {
            module: self.module,
            layout: &self.prepared.layout,
            migration: self.settings.migration,
            frontend: self.optimizer.frontend_config(),
        };
        ctx.clear();
        let func = &mut ctx.func;
        func.name = UserFuncName::user(0, code_index);
        // Source locations are absolute offsets in the binary.
        func.params.ensure_base_srcloc(cranelift_codegen::ir::SourceLoc::new(0));
        let mut needs = Needs::default();
        let (translated, points) = if code_index >= num_funcs {
            let ty = code_index - num_funcs;
            func.signature = abi::trampoline_signature();
            glue::trampoline(
                env,
                func,
                &mut self.fbc,
                self.module.info.canonical[ty as usize],
                &info.types[ty as usize],
            )
        } else {
            let ty = info.func_type(code_index);
            func.signature = abi::wasm_signature(ty);
            match self.module.body(code_index).cloned() {
                None => glue::import_wrapper(env, func, &mut self.fbc, code_index, ty),
                Some(body) => {
                    let mut validator = body.validator.into_validator(std::mem::take(&mut self.validator));
                    let rq = Request {
                        module: self.module,
                        migration: self.settings.migration,
                        entry_poll: self.prepared.entry_poll[code_index as usize],
                        max_alive: self.settings.max_alive,
                    };
                    let (an, points) = analyze(rq, ty, &body.body, &mut validator)?;
                    self.validator = validator.into_allocations();
                    needs = an.needs;
                    let translated = translate::translate(env, func, &mut self.fbc, &an, ty).inspect_err(|_| {
                        // It holds what is left of the function, and the next one must not find it.
                        self.fbc = FunctionBuilderContext::new();
                    })?;
                    (translated, points)
                }
            }
        };
        Ok(Begun {
            translated,
            compiled: CompiledFunction {
                code_index,
                points,
                needs,
                clif: None,
                machine: vec![],
            },
            is_done: false,
        })
    }

    /// What is done to the CLIF once, for all architectures.
    fn optimize(&mut self, function: &mut Begun, ctx: &mut Context) -> Result<(), Error> {
        let code_index = function.compiled.code_index;
        let mut optimizer = &self.optimizer;
        if self.settings.opt_level == OptLevel::O2 && depth::too_deep(ctx, function.translated.loops) {
            optimizer = &self.plain;
        }
        ctx.optimize(&**optimizer, &mut self.control).map_err(|e| {
            let message = cranelift_codegen::print_errors::pretty_error(&ctx.func, e);
            Error::internal(code_index, message)
        })?;
        if self.settings.migration {
            rule::apply(&mut ctx.func, &ctx.cfg, &function.translated.neutral, code_index)?;
        }
        function.compiled.clif = self.settings.want_clif.then(|| ctx.func.display().to_string());
        Ok(())
    }

    /// Machine code for the `k`th target.
    fn emit(&mut self, k: usize, function: &mut Begun, ctx: &Context) -> Result<(), Error> {
        let (arch, isa) = &self.targets[k];
        let compiled = &mut function.compiled;
        let internal = |e: &dyn std::fmt::Display| Error::internal(compiled.code_index, e.to_string());
        let code = isa
            .compile_function(
                &ctx.func,
                &ctx.domtree,
                &mut self.regalloc,
                self.settings.want_asm,
                &mut self.control,
            )
            .map_err(|e| internal(&e))?
            .apply_params(&ctx.func.params);
        let f = machine_function(*arch, isa, &ctx.func, &code, function.translated.record).map_err(|e| internal(&e))?;
        check_points(&compiled.points, &f).map_err(|e| internal(&e))?;
        compiled.machine.push(f);
        Ok(())
    }
}

/// A function on its way through the phases.
struct Begun {
    translated: Translated,
    compiled: CompiledFunction,
    /// There is nothing left to do.
    is_done: bool,
}

fn machine_function(
    arch: Arch,
    isa: &OwnedTargetIsa,
    func: &Function,
    code: &CompiledCode,
    record: Option<StackSlot>,
) -> Result<MachineFunction, String> {
    let frame = code.buffer.frame_layout().ok_or("no frame layout")?;
    let mut sites = vec![];
    let locations = code.buffer.get_srclocs_sorted();
    let wasm_at = |text: u32| {
        let k = locations.partition_point(|l| l.end <= text);
        locations
            .get(k)
            .filter(|l| l.start <= text && !l.loc.is_default())
            .map_or(0, |l| l.loc.bits())
    };
    for call in code.buffer.call_sites() {
        // The return address may belong to the next instruction; the byte before it is the call's.
        sites.push(Site {
            text: call.ret_addr,
            kind: SiteKind::Call,
            wasm: wasm_at(call.ret_addr.saturating_sub(1)),
        });
        for handler in call.exception_handlers {
            let FinalizedMachExceptionHandler::Default(at) = handler else {
                return Err(format!("unexpected exception handler {handler:?}"));
            };
            sites.push(Site {
                text: call.ret_addr,
                kind: SiteKind::Handler(*at),
                wasm: wasm_at(call.ret_addr.saturating_sub(1)),
            });
        }
    }
    for trap in code.buffer.traps() {
        let kind = trap_of(trap.code).ok_or_else(|| format!("unknown trap code {:?}", trap.code))?;
        sites.push(Site {
            text: trap.offset,
            kind: SiteKind::Trap(kind),
            wasm: wasm_at(trap.offset),
        });
    }
    sites.sort_by_key(|s| s.text);
    let relocs = code
        .buffer
        .relocs()
        .iter()
        .map(|r| reloc(func, r))
        .collect::<Result<_, String>>()?;
    Ok(MachineFunction {
        arch,
        bytes: code.buffer.data().to_vec(),
        align: code.buffer.alignment.max(isa.function_alignment().preferred),
        relocs,
        frame_to_fp: frame.frame_to_fp_offset,
        record: record.map_or(0, |s| frame.stackslots[s].offset),
        sites,
        unwind: code.create_unwind_info(&**isa).map_err(|e| e.to_string())?,
        asm: code.vcode.clone(),
    })
}

fn reloc(func: &Function, r: &cranelift_codegen::FinalizedMachReloc) -> Result<Reloc, String> {
    let target = match &r.target {
        FinalizedRelocTarget::ExternalName(ExternalName::User(name)) => func.params.user_named_funcs()[*name].index,
        other => return Err(format!("unexpected relocation target {other:?}")),
    };
    let kind = match r.kind {
        ClifReloc::X86CallPCRel4 | ClifReloc::X86PCRel4 => RelocKind::X86Rel32,
        ClifReloc::Arm64Call => RelocKind::Arm64Call26,
        other => return Err(format!("unexpected relocation {other:?}")),
    };
    Ok(Reloc {
        offset: r.offset,
        kind,
        target,
        addend: r.addend,
    })
}

/// The trap that a trap code stands for, whether this translation or Cranelift itself chose it.
fn trap_of(code: TrapCode) -> Option<Trap> {
    match code {
        TrapCode::INTEGER_OVERFLOW => Some(Trap::IntegerOverflow),
        TrapCode::INTEGER_DIVISION_BY_ZERO => Some(Trap::IntegerDivisionByZero),
        TrapCode::BAD_CONVERSION_TO_INTEGER => Some(Trap::BadConversionToInteger),
        TrapCode::HEAP_OUT_OF_BOUNDS => Some(Trap::MemoryOutOfBounds),
        TrapCode::STACK_OVERFLOW => Some(Trap::StackOverflow),
        code => Trap::from_u8(code.as_raw().get()),
    }
}

/// Every point has at most one call site (none if the optimiser proved it unreachable), and the record is inside the
/// frame.
fn check_points(points: &FunctionPoints, f: &MachineFunction) -> Result<(), String> {
    let mut calls: Vec<u32> = f
        .sites
        .iter()
        .filter(|s| s.kind == SiteKind::Call)
        .map(|s| s.wasm)
        .collect();
    calls.sort_unstable();
    for p in points.points() {
        let from = calls.partition_point(|&c| c < p.offset);
        let n = calls[from..].iter().take_while(|&&c| c == p.offset).count();
        if n > 1 {
            return Err(format!("{}: the point at {:#x} has {n} call sites", f.arch, p.offset));
        }
    }
    if points.record_size > 0 && f.record + points.record_size > f.frame_to_fp {
        return Err(format!("{}: the record lies outside the frame", f.arch));
    }
    // Frame pointers are multiples of 16, in rebuilt frames too; so homes are as aligned as their loads and stores
    // claim.
    if !f.frame_to_fp.is_multiple_of(16) || !f.record.is_multiple_of(16) {
        return Err(format!("{}: the record is not aligned", f.arch));
    }
    Ok(())
}
