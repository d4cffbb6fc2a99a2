//! Machines with larger pages: Linux on aarch64 comes with pages of 4, 16 (a Raspberry Pi 5) and 64 KiB. qemu-user
//! pretends to any.

use dunlin_format::arch::Arch;
use dunlin_tests::guest::guest;
use dunlin_tests::program::{CHECKPOINTED, scratch};

const PAGE_SIZE: &str = "QEMU_PAGESIZE";

/// On every size of page, with migrations in place; and from a machine of one size to others, stopped at a point.
#[track_caller]
fn runs_on_every_page_size(name: &str, point: u64) {
    let guest = guest(name);
    for size in [4096, 16384, 65536] {
        let data = guest.data();
        let run = guest
            .on(Arch::Aarch64, data.as_ref())
            .env(PAGE_SIZE, size)
            .stdin(guest.input());
        guest.check(&run.forced(7).output(), data.as_ref());
    }
    let dir = scratch();
    let snapshot = dir.path().join("large.snap");
    for (arch, size) in [(Arch::Aarch64, 16384), (Arch::X86_64, 4096)] {
        let data = guest.data();
        let on = |arch, size: u32| guest.on(arch, data.as_ref()).env(PAGE_SIZE, size).stdin(guest.input());
        let first = on(Arch::Aarch64, 65536)
            .stop_at(point, &snapshot)
            .output()
            .expect_code(CHECKPOINTED);
        let second = on(arch, size).resume(&snapshot).output();
        let verdict = guest.verdict(second.code(), &[first.stdout, second.stdout].concat(), data.as_ref());
        guest.check_verdict(&verdict, &format!("{name}: pages of 65536 bytes, then of {size}"));
    }
}

#[test]
fn memory_that_grows() {
    runs_on_every_page_size("memory_grow", 9);
}

#[test]
fn sparse_memory() {
    runs_on_every_page_size("sparse_memory", 9);
}

#[test]
fn deep_recursion() {
    runs_on_every_page_size("deep_recursion", 9);
}

#[test]
fn several_memories() {
    runs_on_every_page_size("many_memories", 9);
}
