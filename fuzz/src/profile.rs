//! What kinds of modules are generated: each seed has a profile, which switches features and shapes sizes.

use crate::host;
use crate::rng::Rng;
use wasm_smith::{Config, InstructionKind, InstructionKinds, MemoryOffsetChoices};

/// What a module is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Profile {
    /// A bit of everything.
    Mixed,
    /// Integers, locals and control flow: what the record and the policy are about.
    Control,
    /// Vectors.
    Simd,
    /// Exceptions and tail calls.
    Exceptions,
    /// The same, translated to legacy exceptions; the reference runs the original.
    Legacy,
    /// Several memories and tables, 32 and 64 bits, bulk instructions.
    Memories,
    /// Atomic instructions on several memories, none of which is shared.
    Atomics,
    /// References in locals, tables and globals; calls through typed references.
    References,
    /// Floating point.
    Floats,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 9] = [
        Profile::Mixed,
        Profile::Control,
        Profile::Simd,
        Profile::Exceptions,
        Profile::Legacy,
        Profile::Memories,
        Profile::References,
        Profile::Floats,
        Profile::Atomics,
    ];

    /// The profile of a seed.
    pub fn of(seed: u64) -> Profile {
        match Profile::ALL[(seed % 8) as usize] {
            // So that other seeds mean what they always did.
            Profile::Memories if seed / 8 % 2 == 1 => Profile::Atomics,
            other => other,
        }
    }

    /// Are typed references put into its modules? wasm-smith makes none without the garbage collector's types.
    pub fn has_typed_references(self) -> bool {
        matches!(self, Profile::References | Profile::Exceptions)
    }

    /// Do its modules use v128?
    pub fn has_vectors(self) -> bool {
        matches!(
            self,
            Profile::Simd | Profile::Mixed | Profile::Memories | Profile::Exceptions
        )
    }

    /// A configuration for wasm-smith.
    pub fn config(self, rng: &mut Rng) -> Config {
        use InstructionKind::*;
        let imports = !rng.one_in(3);
        let imported = if imports { host::FUNCTIONS.len() } else { 0 };
        let max_funcs = rng.pick(&[2, 4, 8, 12]);
        let mut config = Config {
            allow_start_export: rng.one_in(4),
            available_imports: imports.then(host::importer),
            bulk_memory_enabled: true,
            disallow_traps: rng.one_in(2),
            exceptions_enabled: matches!(self, Profile::Exceptions | Profile::Legacy | Profile::Mixed),
            export_everything: true,
            gc_enabled: false,
            generate_custom_sections: false,
            max_data_segments: 4,
            max_element_segments: 4,
            max_elements: 8,
            // This counts imported ones, too; the least number does not.
            max_funcs: max_funcs + imported,
            max_globals: 8,
            max_imports: 0,
            max_instructions: rng.pick(&[60, 150, 300, 600]),
            max_memories: 1,
            max_memory32_bytes: 4 << 16,
            max_memory64_bytes: 4 << 16,
            max_table_elements: 40,
            max_tables: rng.pick(&[1, 3]),
            max_tags: 4,
            max_types: rng.pick(&[3, 8, 16]) + imported,
            max_type_size: 64 + 8 * imported as u32,
            memory64_enabled: false,
            memory_max_size_required: true,
            memory_offset_choices: MemoryOffsetChoices(300, 4, 1),
            min_funcs: max_funcs / 2,
            min_memories: u32::from(!rng.one_in(8)),
            min_types: 1,
            reference_types_enabled: true,
            relaxed_simd_enabled: self == Profile::Simd,
            simd_enabled: self.has_vectors(),
            table_max_size_required: true,
            tail_call_enabled: self != Profile::Legacy || rng.one_in(4),
            threads_enabled: self == Profile::Atomics,
            ..Config::default()
        };
        match self {
            Profile::Control => {
                config.allow_floats = rng.one_in(4);
                config.allowed_instructions = InstructionKinds::new(&[Numeric, Parametric, Variable, Control]);
                if rng.one_in(2) {
                    config.allowed_instructions =
                        InstructionKinds::new(&[Numeric, Parametric, Variable, Control, Memory]);
                }
            }
            Profile::Simd => {
                if rng.one_in(2) {
                    config.allowed_instructions =
                        InstructionKinds::new(&[Vector, Numeric, Parametric, Variable, Control, Memory]);
                }
            }
            Profile::Exceptions | Profile::Legacy => {
                config.min_tags = 1;
                if rng.one_in(2) {
                    config.allowed_instructions =
                        InstructionKinds::new(&[NumericInt, Parametric, Variable, Control, Reference]);
                }
            }
            Profile::Memories => {
                config.max_memories = 4;
                config.min_memories = 1;
                config.memory64_enabled = true;
                config.max_tables = 3;
                config.max_data_segments = 6;
                config.memory_offset_choices = MemoryOffsetChoices(100, 3, 1);
            }
            Profile::Atomics => {
                config.max_memories = 3;
                config.min_memories = 1;
                config.memory64_enabled = rng.one_in(2);
                config.allowed_instructions =
                    InstructionKinds::new(&[MemoryInt, NumericInt, Parametric, Variable, Control]);
            }
            Profile::References => {
                config.min_tables = 1;
                config.max_tables = 4;
                config.memory64_enabled = rng.one_in(3);
                if rng.one_in(2) {
                    config.allowed_instructions =
                        InstructionKinds::new(&[NumericInt, Reference, Parametric, Variable, Control, Table]);
                }
            }
            Profile::Floats => {
                config.allowed_instructions = InstructionKinds::new(&[Numeric, Parametric, Variable, Control, Memory]);
            }
            Profile::Mixed => {
                config.memory64_enabled = rng.one_in(3);
                config.max_memories = 2;
            }
        }
        config
    }
}
