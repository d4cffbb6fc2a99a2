//! Lays out one architecture's functions in a text and resolves the calls between them.
//!
//! Functions lie in code-index order. All relocations are between functions of one text, so that the result needs none
//! when it is loaded, wherever that is.

use super::compiled_function::{CompiledFunction, MachineFunction, Reloc, RelocKind};
use crate::error::Error;
use crate::limits::MAX_TEXT_BYTES;
use cranelift_codegen::isa::unwind::UnwindInfo;
use dunlin_format::arch::Arch;
use dunlin_format::framemap::FunctionCode;

/// Least alignment of a function, in bytes.
const ALIGN: usize = 16;

/// One architecture's code, laid out.
#[derive(Debug)]
pub(crate) struct Text<'f> {
    /// For which architecture.
    pub arch: Arch,
    /// The code.
    pub bytes: Vec<u8>,
    /// Place, frame and sites of every code index.
    pub functions: Vec<FunctionCode>,
    /// Unwind information of every code index, if it has any.
    pub unwind: Vec<Option<&'f UnwindInfo>>,
}

/// Links the code that `functions` (one per code index) have for `arch`.
pub(crate) fn link(functions: &[CompiledFunction], arch: Arch) -> Result<Text<'_>, Error> {
    let machine = functions
        .iter()
        .map(|f| machine_code(f, arch))
        .collect::<Result<Vec<_>, _>>()?;
    let size: u64 = machine
        .iter()
        .map(|m| (m.bytes.len() + ALIGN.max(m.align as usize)) as u64)
        .sum();
    if size > MAX_TEXT_BYTES {
        return Err(Error::TooLarge {
            what: format!("its {arch} code"),
            size,
            max: MAX_TEXT_BYTES,
        });
    }
    let mut text = Text {
        arch,
        bytes: Vec::with_capacity(size as usize),
        functions: Vec::new(),
        unwind: Vec::new(),
    };
    for m in &machine {
        text.pad_to(ALIGN.max(m.align as usize));
        text.functions.push(FunctionCode {
            start: text.bytes.len() as u32,
            len: m.bytes.len() as u32,
            frame_to_fp: m.frame_to_fp,
            record: m.record,
            sites: m.sites.clone(),
        });
        text.unwind.push(m.unwind.as_ref());
        text.bytes.extend_from_slice(&m.bytes);
    }
    text.pad_to(ALIGN);
    for (index, m) in (0..).zip(&machine) {
        for reloc in &m.relocs {
            text.resolve(index, reloc)?;
        }
    }
    Ok(text)
}

/// The function's code for `arch`.
fn machine_code(function: &CompiledFunction, arch: Arch) -> Result<&MachineFunction, Error> {
    let found = function.machine.iter().find(|m| m.arch == arch);
    found.ok_or_else(|| Error::internal(function.code_index, format!("it was not compiled for {arch}")))
}

impl Text<'_> {
    /// Fills up to a multiple of `align` with instructions that trap.
    fn pad_to(&mut self, align: usize) {
        let fill = match self.arch {
            Arch::X86_64 => 0xcc, // int3
            Arch::Aarch64 => 0,   // udf #0
            // Nothing jumps there; no byte is a whole instruction that traps.
            Arch::Pulley64 | Arch::Pulley32 => 0xff,
        };
        self.bytes.resize(self.bytes.len().next_multiple_of(align), fill);
    }

    fn resolve(&mut self, from: u32, reloc: &Reloc) -> Result<(), Error> {
        let bug = |what: &str| Error::internal(from, format!("{what}: {reloc:?}"));
        let function = &self.functions[from as usize];
        if reloc.offset.checked_add(4).is_none_or(|end| end > function.len) {
            return Err(bug("a relocation lies outside of the function"));
        }
        let target = self
            .functions
            .get(reloc.target as usize)
            .ok_or_else(|| bug("a relocation has no target"))?
            .start;
        let place = function.start + reloc.offset;
        let distance = i64::from(target) + reloc.addend - i64::from(place);
        let out_of_reach = Error::OutOfReach {
            arch: self.arch,
            from,
            to: reloc.target,
            distance,
        };
        let field = &mut self.bytes[place as usize..place as usize + 4];
        let word = match (self.arch, reloc.kind) {
            (Arch::X86_64, RelocKind::X86Rel32) => i32::try_from(distance).map_err(|_| out_of_reach)? as u32,
            (Arch::Aarch64, RelocKind::Arm64Call26) => {
                if distance % 4 != 0 {
                    return Err(bug("a branch target is not aligned"));
                }
                if !(-(1 << 27)..1 << 27).contains(&distance) {
                    return Err(out_of_reach);
                }
                let opcode = u32::from_le_bytes([field[0], field[1], field[2], field[3]]) & !IMM26;
                opcode | ((distance >> 2) as u32 & IMM26)
            }
            (Arch::Pulley64 | Arch::Pulley32, RelocKind::PulleyRel32) => {
                let there = i32::from_le_bytes([field[0], field[1], field[2], field[3]]);
                i32::try_from(distance + i64::from(there)).map_err(|_| out_of_reach)? as u32
            }
            _ => return Err(bug("a relocation is of another architecture")),
        };
        field.copy_from_slice(&word.to_le_bytes());
        Ok(())
    }
}

/// The displacement field of `b` and `bl`, in instructions.
const IMM26: u32 = (1 << 26) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_format::framemap::FunctionPoints;

    fn function(code_index: u32, arch: Arch, bytes: &[u8], relocs: &[Reloc]) -> CompiledFunction {
        let machine = MachineFunction {
            arch,
            bytes: bytes.to_vec(),
            align: 1,
            relocs: relocs.to_vec(),
            frame_to_fp: 32,
            record: 16,
            sites: Vec::new(),
            unwind: None,
            asm: None,
        };
        CompiledFunction {
            code_index,
            points: FunctionPoints::default(),
            needs: Default::default(),
            clif: None,
            machine: vec![machine],
        }
    }

    fn reloc(offset: u32, kind: RelocKind, target: u32, addend: i64) -> Reloc {
        Reloc {
            offset,
            kind,
            target,
            addend,
        }
    }

    #[test]
    fn x86_calls_are_resolved() {
        let call = [0xe8, 0, 0, 0, 0, 0xc3]; // call rel32; ret
        let functions = [
            function(0, Arch::X86_64, &call, &[reloc(1, RelocKind::X86Rel32, 2, -4)]),
            function(1, Arch::X86_64, &[], &[]),
            function(2, Arch::X86_64, &call, &[reloc(1, RelocKind::X86Rel32, 0, -4)]),
        ];
        let text = link(&functions, Arch::X86_64).unwrap();
        assert_eq!(
            text.functions.iter().map(|f| (f.start, f.len)).collect::<Vec<_>>(),
            [(0, 6), (16, 0), (16, 6)]
        );
        assert_eq!(text.bytes[..8], [0xe8, 11, 0, 0, 0, 0xc3, 0xcc, 0xcc]); // 16 - 5
        assert_eq!(text.bytes[16..22], [0xe8, 0xeb, 0xff, 0xff, 0xff, 0xc3]); // 0 - 21
        assert_eq!(text.bytes.len(), 32);
    }

    #[test]
    fn arm_calls_are_resolved() {
        let bl = 0x9400_0000u32.to_le_bytes();
        let functions = [
            function(0, Arch::Aarch64, &bl, &[reloc(0, RelocKind::Arm64Call26, 1, 0)]),
            function(1, Arch::Aarch64, &bl, &[reloc(0, RelocKind::Arm64Call26, 0, 0)]),
        ];
        let text = link(&functions, Arch::Aarch64).unwrap();
        assert_eq!(text.bytes[..4], 0x9400_0004u32.to_le_bytes());
        assert_eq!(text.bytes[4..16], [0; 12]);
        assert_eq!(text.bytes[16..20], 0x97ff_fffcu32.to_le_bytes());
    }

    #[test]
    fn the_interpreters_calls_count_from_the_instruction() {
        let call = [1, 1, 0, 0, 0, 0]; // call, whose field begins behind the opcode: what it holds is added
        let functions = [
            function(0, Arch::Pulley64, &call, &[reloc(1, RelocKind::PulleyRel32, 1, 0)]),
            function(1, Arch::Pulley64, &call, &[reloc(1, RelocKind::PulleyRel32, 0, 0)]),
        ];
        let text = link(&functions, Arch::Pulley64).unwrap();
        assert_eq!(text.bytes[1..5], 16i32.to_le_bytes());
        assert_eq!(text.bytes[17..21], (-16i32).to_le_bytes());
    }

    #[test]
    fn what_cannot_be_reached_is_an_error() {
        let bl = 0x9400_0000u32.to_le_bytes();
        let functions = [
            function(0, Arch::Aarch64, &bl, &[reloc(0, RelocKind::Arm64Call26, 1, 1 << 27)]),
            function(1, Arch::Aarch64, &bl, &[]),
        ];
        let error = link(&functions, Arch::Aarch64).unwrap_err();
        assert_eq!(
            error,
            Error::OutOfReach {
                arch: Arch::Aarch64,
                from: 0,
                to: 1,
                distance: 16 + (1 << 27)
            }
        );
        let just = [
            function(
                0,
                Arch::Aarch64,
                &bl,
                &[reloc(0, RelocKind::Arm64Call26, 0, (1 << 27) - 4)],
            ),
            function(
                1,
                Arch::Aarch64,
                &bl,
                &[reloc(0, RelocKind::Arm64Call26, 1, -(1 << 27))],
            ),
        ];
        let text = link(&just, Arch::Aarch64).unwrap();
        assert_eq!(text.bytes[..4], 0x95ff_ffffu32.to_le_bytes());
        assert_eq!(text.bytes[16..20], 0x9600_0000u32.to_le_bytes());
    }

    #[test]
    fn impossible_relocations_are_bugs() {
        let bl = 0x9400_0000u32.to_le_bytes();
        for (bad, arch) in [
            (reloc(0, RelocKind::X86Rel32, 0, 0), Arch::Aarch64),
            (reloc(1, RelocKind::Arm64Call26, 0, 0), Arch::Aarch64),
            (reloc(0, RelocKind::Arm64Call26, 0, 2), Arch::Aarch64),
            (reloc(0, RelocKind::Arm64Call26, 9, 0), Arch::Aarch64),
            (reloc(u32::MAX, RelocKind::X86Rel32, 0, 0), Arch::X86_64),
        ] {
            let functions = [function(0, arch, &bl, &[bad])];
            let result = link(&functions, arch);
            assert!(
                matches!(result, Err(Error::Internal { func: 0, .. })),
                "{bad:?}: {result:?}"
            );
        }
        assert!(matches!(
            link(&[function(0, Arch::X86_64, &bl, &[])], Arch::Aarch64),
            Err(Error::Internal { .. })
        ));
    }
}
