//! The same program stopped at the same migration point on either architecture yields the same snapshot, byte for byte,
//! but for clock readings and what the host's file system chose: all of `WasiState::times`, and when and where an open
//! file was found.

use dunlin_format::arch::Arch;
use dunlin_migrate::state::wasi::Times;
use dunlin_tests::guest::{Guest, guest};
use dunlin_tests::program::{CHECKPOINTED, scratch};
use dunlin_tests::snapshots::{Loaded, load};
use std::path::Path;

/// Stops a guest at a point; `None` if it ends before.
fn stopped(guest: &Guest, arch: Arch, point: u64, to: &Path) -> Option<Loaded> {
    let data = guest.data();
    let outcome = guest
        .on(arch, data.as_ref())
        .stdin(guest.input())
        .stop_at(point, to)
        .output();
    if outcome.code() != CHECKPOINTED {
        guest.check(&outcome, data.as_ref());
        return None;
    }
    Some(load(to))
}

#[track_caller]
fn same(name: &str) {
    let guest = guest(name);
    let dir = scratch();
    let mut compared = 0;
    for point in [1, 2, 3, 5, 17, 60, 151, 400, 1000, 2500] {
        let paths = Arch::ALL.map(|arch| dir.path().join(format!("{arch}-{point}.snap")));
        let [x, a] = [0, 1].map(|i| stopped(&guest, Arch::ALL[i], point, &paths[i]));
        let (Some(mut x), Some(mut a)) = (x, a) else { break };
        // Without times, and written again, the whole files must be equal.
        for loaded in [&mut x, &mut a] {
            loaded.state.wasi.times = Times::default();
            for file in &mut loaded.state.wasi.files.identities {
                (file.modified, file.changed, file.place) = Default::default();
            }
        }
        assert_eq!(x.state, a.state, "states of {name} at point {point}");
        assert!(x.memories == a.memories, "memories of {name} at point {point}");
        x.store(&paths[0]);
        a.store(&paths[1]);
        assert!(
            std::fs::read(&paths[0]).unwrap() == std::fs::read(&paths[1]).unwrap(),
            "files of {name} at point {point}"
        );
        compared += 1;
    }
    assert!(compared >= 5, "{name} was compared at {compared} points only");
}

#[test]
fn computations() {
    [
        "deep_recursion",
        "all_types",
        "many_params",
        "big_frame",
        "function_pointers",
        "switch",
        "qsort",
    ]
    .into_iter()
    .for_each(same);
}

#[test]
fn instance_state() {
    [
        "globals",
        "tables",
        "bulk_memory",
        "memory_grow",
        "multi_value",
        "nan_bits",
        "malloc_heavy",
    ]
    .into_iter()
    .for_each(same);
}

#[test]
fn host_state() {
    [
        "file_offset",
        "append_mode",
        "directory",
        "many_files",
        "args_env",
        "stdio_buffers",
    ]
    .into_iter()
    .for_each(same);
}

/// Programs that look at no clock and open no file: nothing needs to be left out.
#[test]
fn files_are_equal_as_written_but_for_clocks() {
    let guest = guest("tree");
    let dir = scratch();
    let sizes = Arch::ALL.map(|arch| {
        let path = dir.path().join(arch.name());
        stopped(&guest, arch, 300, &path).expect("the guest is longer than this");
        std::fs::metadata(&path).unwrap().len()
    });
    let close = sizes[0].abs_diff(sizes[1]);
    assert!(
        close <= 64,
        "{sizes:?}: clock readings have variable length, nothing else may"
    );
}
