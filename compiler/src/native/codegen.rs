//! The function compiler: one WebAssembly function through the whole pipeline, for every architecture.
//!
//! `validate -> analyse -> place -> translate -> Context::optimize -> record rule -> TargetIsa::compile_function` per
//! architecture. The CLIF is optimised once: after `optimize` it is the same for all of them.

use super::compiled_function::{CompiledFunction, MachineFunction};
use super::machine_code::{check_points, machine_function};
use super::translate::{self, Bounds, Env, Translated};
use super::{host_boundary, isa, optimizer_budget, placement, record_rule, signatures};
use crate::error::Error;
use crate::module::Module;
use crate::settings::{OptLevel, Settings};
use crate::uniform::scan::Request;
use crate::uniform::{analyze, entry_polls};
use cranelift_codegen::Context;
use cranelift_codegen::ir::UserFuncName;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_control::ControlPlane;
use cranelift_frontend::FunctionBuilderContext;
use dunlin_format::arch::Arch;
use dunlin_format::context::ContextLayout;
use dunlin_format::framemap::FunctionPoints;
use dunlin_format::module::{ExportKind, Needs};
use wasmparser::FuncValidatorAllocations;

/// What is found out about the whole module before functions are compiled in parallel.
#[derive(Debug)]
pub(crate) struct Prepared {
    layout: ContextLayout,
    /// Per function, whether it polls at its entry.
    entry_poll: Vec<bool>,
    /// Per type, whether the host enters functions of it.
    entered: Vec<bool>,
}

/// The pass over the whole module.
pub(crate) fn prepare(module: &Module<'_>, settings: &Settings) -> Result<Prepared, Error> {
    let entry_poll = if settings.migration {
        entry_polls::entry_polls(module)?
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

/// Compiles functions, a batch at a time; one per thread. The targets are all machines, or all the interpreter's.
pub(crate) struct FunctionCompiler<'m> {
    module: &'m Module<'m>,
    settings: &'m Settings,
    prepared: &'m Prepared,
    /// The code generator whose mid-end optimises.
    optimizer: OwnedTargetIsa,
    /// The same without the mid-end, for functions beyond the optimizer's budget.
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
    pub(crate) fn new(module: &'m Module<'m>, settings: &'m Settings, prepared: &'m Prepared) -> Result<Self, Error> {
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
    pub(crate) fn compile(&mut self, batch: &[u32]) -> Vec<Result<CompiledFunction, Error>> {
        // What it has grown for one large function would be cleared for every small one after it.
        self.regalloc = regalloc2::Ctx::default();
        let mut contexts = std::mem::take(&mut self.contexts);
        contexts.resize_with(batch.len().max(contexts.len()), Context::new);
        let mut begun: Vec<Result<Begun, Error>> = vec![];
        for (&code_index, ctx) in batch.iter().zip(&mut contexts) {
            begun.push(match self.is_needed(code_index) {
                true => self.translate(code_index, ctx),
                false => Ok(self.empty_trampoline(code_index)),
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

    /// Whether there is code to be made for a code index.
    fn is_needed(&self, code_index: u32) -> bool {
        let ty = code_index.checked_sub(self.module.num_funcs());
        ty.is_none_or(|ty| self.prepared.entered[ty as usize])
    }

    /// The code of a trampoline through which nothing is ever entered: none.
    fn empty_trampoline(&self, code_index: u32) -> Begun {
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
            bounds: match self.targets.iter().any(|(arch, _)| arch.is_portable()) {
                true => Bounds::Checked,
                false => Bounds::Guard,
            },
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
            func.signature = signatures::trampoline_signature();
            host_boundary::trampoline(
                env,
                func,
                &mut self.fbc,
                self.module.info.canonical[ty as usize],
                &info.types[ty as usize],
            )
        } else {
            let ty = info.func_type(code_index);
            func.signature = signatures::wasm_signature(ty);
            match self.module.body(code_index).cloned() {
                None => host_boundary::import_wrapper(env, func, &mut self.fbc, code_index, ty),
                Some(body) => {
                    let mut validator = body.validator.into_validator(std::mem::take(&mut self.validator));
                    let rq = Request {
                        module: self.module,
                        migration: self.settings.migration,
                        entry_poll: self.prepared.entry_poll[code_index as usize],
                    };
                    let (an, points) = analyze(rq, ty, &body.body, &mut validator)?;
                    self.validator = validator.into_allocations();
                    needs = an.scan.needs;
                    let placement = placement::choose(&an, self.settings.max_alive);
                    let translated =
                        translate::translate(env, func, &mut self.fbc, &an, &placement, ty).inspect_err(|_| {
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
        if self.settings.opt_level == OptLevel::O2 && optimizer_budget::is_exceeded(ctx, function.translated.loops) {
            optimizer = &self.plain;
        }
        ctx.optimize(&**optimizer, &mut self.control).map_err(|e| {
            let message = cranelift_codegen::print_errors::pretty_error(&ctx.func, e);
            Error::internal(code_index, message)
        })?;
        if self.settings.migration {
            record_rule::enforce(&mut ctx.func, &ctx.cfg, &function.translated.neutral, code_index)?;
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
    /// Whether there is nothing left to do.
    is_done: bool,
}
