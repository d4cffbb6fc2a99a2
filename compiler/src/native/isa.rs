//! Cranelift's code generators, set up alike for every architecture.

use crate::error::Error;
use crate::settings::{OptLevel, Settings};
use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use dunlin_format::arch::Arch;
use std::str::FromStr;
use target_lexicon::Triple;

/// The code generator for an architecture.
///
/// The baselines are what nearly every machine in use has: x86-64-v2 (SSE4.2 and popcnt; 2009 on) and ARMv8.0-A.
pub(crate) fn isa(arch: Arch, how: &Settings) -> Result<OwnedTargetIsa, Error> {
    let level = how.opt_level;
    let fail = |e: &dyn std::fmt::Display| Error::internal(0, format!("cannot set up the {arch} code generator: {e}"));
    let mut flags = settings::builder();
    let regalloc = if level == OptLevel::O0 {
        "single_pass"
    } else {
        "backtracking"
    };
    for (name, value) in [
        ("opt_level", opt_level_name(level)),
        ("regalloc_algorithm", regalloc),
        // The runtime walks frames by their frame pointers.
        ("preserve_frame_pointers", "true"),
        // For `.debug_frame`.
        ("unwind_info", "true"),
        // Large frames touch the stack page by page, so that the guard below it can't be jumped over.
        ("enable_probestack", "true"),
        ("probestack_strategy", "inline"),
        ("probestack_size_log2", "16"),
        ("is_pic", "false"),
        (
            "enable_nan_canonicalization",
            if how.deterministic { "true" } else { "false" },
        ),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
    ] {
        flags.set(name, value).map_err(|e| fail(&e))?;
    }
    let triple = match arch {
        Arch::X86_64 => "x86_64-unknown-linux-gnu",
        Arch::Aarch64 => "aarch64-unknown-linux-gnu",
        Arch::Pulley64 => "pulley64",
        Arch::Pulley32 => "pulley32",
    };
    let triple = Triple::from_str(triple).map_err(|e| fail(&e))?;
    let mut builder = isa::lookup(triple).map_err(|e| fail(&e))?;
    if arch == Arch::X86_64 {
        for feature in [
            "has_sse3",
            "has_ssse3",
            "has_sse41",
            "has_sse42",
            "has_popcnt",
            "has_cmpxchg16b",
        ] {
            builder.enable(feature).map_err(|e| fail(&e))?;
        }
    }
    builder.finish(settings::Flags::new(flags)).map_err(|e| fail(&e))
}

/// The optimisation level as Cranelift's settings name it.
fn opt_level_name(level: OptLevel) -> &'static str {
    match level {
        OptLevel::O0 | OptLevel::O1 => "none",
        OptLevel::O2 => "speed",
    }
}
