//! The prebuilt runtimes that travel inside `dunlin`: what every executable starts with.

use dunlin_format::arch::Arch;

static X86_64: &[u8] = include_bytes!(env!("DUNLIN_RUNTIME_X86_64"));
static AARCH64: &[u8] = include_bytes!(env!("DUNLIN_RUNTIME_AARCH64"));
static PORTABLE: &[u8] = include_bytes!(env!("DUNLIN_RUNTIME_PORTABLE"));

/// The runtime for an architecture: a static ELF executable with room for an image. For portable code it is one for the
/// machine that this `dunlin` is for; it runs there only what [`Arch::portable_host`] says.
pub(crate) fn runtime(arch: Arch) -> &'static [u8] {
    match arch {
        Arch::X86_64 => X86_64,
        Arch::Aarch64 => AARCH64,
        Arch::Pulley64 | Arch::Pulley32 => PORTABLE,
    }
}
