//! What the kernel tells of a program's writes (for pre-copy) is compared with all of its memory, at every few
//! migration points of guests: each way to change memory must be seen.

use dunlin_format::arch::Arch;
use dunlin_tests::guest::guest;

/// The environment variable that has the runtime compare.
const CHECK: &str = "DUNLIN_CHECK_WRITES";

/// Guests that change memory in all ways: instructions, bulk instructions, growth, several memories, host functions.
const GUESTS: [&str; 12] = [
    "bulk_memory",
    "malloc_heavy",
    "many_memories",
    "memory_grow",
    "qsort",
    "random",
    "read_at",
    "simd_kernels",
    "sparse_memory",
    "stdin_lines",
    "wasi_files",
    "wasi_misc",
];

#[test]
fn every_write_is_seen() {
    let arch = Arch::host().expect("tests run on a machine that Dunlin knows");
    for name in GUESTS {
        let guest = guest(name);
        let data = guest.data();
        let run = guest.on(arch, data.as_ref()).stdin(guest.input());
        let outcome = run.env(CHECK, "5").output();
        assert!(!outcome.err().contains("unseen"), "{name}: {}", outcome.err());
        guest.check(&outcome, data.as_ref());
    }
}

/// The comparison finds what isn't told; where nothing can be told, there is none.
#[test]
fn a_write_that_is_not_told_is_found() {
    let guest = guest("qsort");
    let arch = Arch::host().expect("tests run on a machine that Dunlin knows");
    let outcome = guest.on(arch, None).env(CHECK, "5:unheard").output();
    match outcome.err().contains("was written to unseen") {
        true => assert!(outcome.code() != 0),
        false => guest.check(&outcome, None),
    }
}
