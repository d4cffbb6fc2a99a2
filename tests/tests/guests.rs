//! Every guest, four ways on both architectures: undisturbed, with a forced migration at every point, and moved between
//! the architectures; and once more with the variables in memory (a slice of them). It must print, leave behind and
//! exit with the same each time.

use dunlin_format::arch::Arch;
use dunlin_format::imports;
use dunlin_tests::guest::{Guest, all, guest};
use dunlin_tests::moves::{growing, ping_pong};
use dunlin_tests::process::Input;
use dunlin_tests::program::Program;
use dunlin_tests::slice;
use std::collections::BTreeSet;
use std::io::Write;

fn plain(guest: &Guest, arch: Arch) {
    let data = guest.data();
    let outcome = guest.on(arch, data.as_ref()).stdin(guest.input()).output();
    guest.check(&outcome, data.as_ref());
}

fn forced(guest: &Guest, program: &Program, arch: Arch) {
    let data = guest.data();
    let outcome = guest
        .of(program, arch, data.as_ref())
        .stdin(guest.input())
        .forced(guest.directives.force)
        .output();
    guest.check(&outcome, data.as_ref());
}

/// `program` tells which build runs on an architecture.
fn moved<'p>(guest: &Guest, program: impl Fn(Arch) -> &'p Program, first: Arch) {
    let data = guest.data();
    // All legs read from one pipe: what one has not read, the next one gets.
    let (pipe, mut writer) = std::io::pipe().expect("a pipe");
    writer
        .write_all(guest.directives.stdin.as_deref().unwrap_or("").as_bytes())
        .expect("the pipe takes a short text");
    drop(writer);
    let journey = ping_pong(
        first,
        growing(12),
        |arch| guest.of(program(arch), arch, data.as_ref()),
        || Input::Fd(pipe.try_clone().expect("a pipe can be duplicated").into()),
    );
    let what = format!(
        "{} moves starting on {first}; stderr: {}",
        journey.moves,
        String::from_utf8_lossy(&journey.stderr)
    );
    guest.check_verdict(&guest.verdict(journey.code, &journey.stdout, data.as_ref()), &what);
    assert!(journey.moves >= 3, "only {what}");
}

/// One guest in so many is built and run again with the variables in memory, unless all are asked for.
const CROWDED: u64 = 4;

/// With limits so low that on x86_64 all variables, and on aarch64 most of them, are in memory all the time, as
/// otherwise in enormous functions only. It must make no difference, and as points and homes are the same, a move
/// between such builds and others neither.
fn crowded(guest: &Guest) {
    let [all, most] = ["0", "6"].map(|n| guest.rebuilt(&["--max-alive", n]));
    forced(guest, &all, Arch::X86_64);
    forced(guest, &most, Arch::Aarch64);
    moved(
        guest,
        |arch| if arch == Arch::X86_64 { &all } else { &guest.program },
        Arch::X86_64,
    );
}

macro_rules! guests {
    ($($name:ident)*) => {
        $(mod $name {
            #[test]
            fn undisturbed() {
                let guest = super::guest(stringify!($name));
                super::Arch::ALL.into_iter().for_each(|arch| super::plain(&guest, arch));
            }

            #[test]
            fn forced() {
                let guest = super::guest(stringify!($name));
                super::Arch::ALL.into_iter().for_each(|arch| super::forced(&guest, &guest.program, arch));
            }

            #[test]
            fn moved() {
                let guest = super::guest(stringify!($name));
                super::Arch::ALL.into_iter().for_each(|arch| super::moved(&guest, |_| &guest.program, arch));
            }

            #[test]
            fn crowded() {
                if super::slice::takes(stringify!($name), super::CROWDED) {
                    super::crowded(&super::guest(stringify!($name)));
                }
            }
        })*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

guests! {
    address_taken all_types append_mode args_env atomic_wait atomics big_frame block_params br_table bulk_memory
    bulk_trap clocks constructors conversions dead_blocks deep_recursion directory exceptions exit_code
    file_offset float_math function_pointers globals hash_table indirect_recursion int64_math legacy_exceptions
    malloc_heavy many_files many_locals many_memories many_params memory_grow merged_constant mixed_results
    multi_value mutual_recursion nan_bits nested_loops open_modes operand_stack paths poll_stdin printf_floats
    qsort random read_at ref_values renamed_open sha256 simd_elsewhere simd_globals simd_kernels simd_locals
    simd_operand_stack simd_params simd_relaxed sleeping slot_types sparse_memory stacked_loop start_section
    stdin_lines stdio_buffers strings switch table_trap tables tail_calls tight_loop trap_deep tree
    unstable_files unstable_misc unstable_paths wasi_files wasi_misc wasi_paths
}

/// What a guest imports it calls: the linker leaves out the rest.
#[test]
fn every_function_of_wasi_is_called_by_a_guest() {
    let called: BTreeSet<(String, String)> = ["files", "misc", "paths"]
        .iter()
        .flat_map(|n| [format!("wasi_{n}"), format!("unstable_{n}")])
        .flat_map(|name| guest(&name).imports.clone())
        .collect();
    let missing: Vec<_> = imports::all()
        .filter(|(module, _)| *module != imports::SPECTEST)
        .filter(|(module, name)| !called.contains(&((*module).to_owned(), (*name).to_owned())))
        .collect();
    assert!(missing.is_empty(), "no guest calls {missing:?}");
}

#[test]
fn every_guest_is_listed() {
    assert_eq!(all(), NAMES);
}
