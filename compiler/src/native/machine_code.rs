//! What Cranelift has made of a function, in Dunlin's terms: code, relocations, sites, and where the record is.

use super::compiled_function::{MachineFunction, Reloc, RelocKind};
use cranelift_codegen::binemit::Reloc as ClifReloc;
use cranelift_codegen::ir::{ExternalName, Function, InstructionData, Opcode, StackSlot, TrapCode};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::{CompiledCode, FinalizedMachExceptionHandler, FinalizedMachReloc, FinalizedRelocTarget};
use dunlin_format::arch::Arch;
use dunlin_format::framemap::{FunctionPoints, Site, SiteKind};
use dunlin_format::hostcalls::Trap;
use rustc_hash::FxHashSet;

/// Reads Cranelift's output for `func`, whose record is in the stack slot `record`.
pub(crate) fn machine_function(
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
    if arch.is_portable() {
        let at = untold_traps(func);
        let found = locations.iter().filter(|l| at.contains(&l.loc.bits()));
        sites.extend(found.map(|l| Site {
            text: l.start,
            // Which one it is the interpreter tells.
            kind: SiteKind::Trap(Trap::IntegerOverflow),
            wasm: l.loc.bits(),
        }));
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
        unwind: match arch.is_portable() {
            // Debuggers see the interpreter's own frames.
            true => None,
            false => code.create_unwind_info(&**isa).map_err(|e| e.to_string())?,
        },
        asm: code.vcode.clone(),
    })
}

/// Where in the module there are divisions, conversions, and accesses of memories: the interpreter's instructions for
/// them trap by themselves, and Cranelift doesn't tell where they are. A backtrace takes the nearest site before the
/// instruction.
fn untold_traps(func: &Function) -> FxHashSet<u32> {
    use Opcode::{FcvtToSint, FcvtToUint, Sdiv, Srem, Udiv, Urem};
    let trapping = [Sdiv, Udiv, Srem, Urem, FcvtToSint, FcvtToUint];
    let insts = func.layout.blocks().flat_map(|block| func.layout.block_insts(block));
    let access = Some(TrapCode::HEAP_OUT_OF_BOUNDS);
    let traps =
        |data: &InstructionData| trapping.contains(&data.opcode()) || data.memflags_trap_code(&func.dfg) == access;
    let found = insts.filter(|&inst| traps(&func.dfg.insts[inst]));
    found.map(|inst| func.srcloc(inst).bits()).collect()
}

/// A relocation against another function of the module.
fn reloc(func: &Function, r: &FinalizedMachReloc) -> Result<Reloc, String> {
    let target = match &r.target {
        FinalizedRelocTarget::ExternalName(ExternalName::User(name)) => func.params.user_named_funcs()[*name].index,
        other => return Err(format!("unexpected relocation target {other:?}")),
    };
    let kind = match r.kind {
        ClifReloc::X86CallPCRel4 | ClifReloc::X86PCRel4 => RelocKind::X86Rel32,
        ClifReloc::Arm64Call => RelocKind::Arm64Call26,
        ClifReloc::PulleyPcRel => RelocKind::PulleyRel32,
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

/// Checks that every point has at most one call site (none if the optimiser proved it unreachable), and that the record
/// is inside the frame.
pub(crate) fn check_points(points: &FunctionPoints, f: &MachineFunction) -> Result<(), String> {
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
    let handles = f.sites.iter().any(|s| matches!(s.kind, SiteKind::Handler(_)));
    if let Some(below) = f.arch.frame_shape().own_sp
        && handles
        && f.record + points.record_size + u32::from(below) > f.frame_to_fp
    {
        return Err(format!("{}: the frame has no room for its stack pointer", f.arch));
    }
    // A machine's frame pointers are multiples of 16, in rebuilt frames too; so homes are as aligned as their loads and
    // stores claim.
    if !f.frame_to_fp.is_multiple_of(16) || !f.record.is_multiple_of(16) {
        return Err(format!("{}: the record is not aligned", f.arch));
    }
    Ok(())
}
