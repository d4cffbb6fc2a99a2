//! What `dunlin build` must refuse: bad modules, features it doesn't have yet, unknown imports. Never a panic, never a
//! hang, never half an executable.

use dunlin_format::arch::Arch;
use dunlin_tests::guest::clang;
use dunlin_tests::process::{Input, Outcome, run};
use dunlin_tests::program::{Program, scratch};
use dunlin_tests::tools;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn build(module: &Path) -> Outcome {
    let mut command = Command::new(tools::dunlin());
    command
        .arg("build")
        .arg(module)
        .arg("-o")
        .arg(module.with_extension(""));
    run(command, Input::Empty, Duration::from_secs(60))
}

fn build_bytes(dir: &Path, name: &str, bytes: &[u8]) -> Outcome {
    let module = dir.join(name);
    std::fs::write(&module, bytes).expect("scratch space is writable");
    build(&module)
}

/// Refused in words, and nothing left behind.
#[track_caller]
fn refused(outcome: &Outcome, module: &Path) {
    assert!(outcome.status.signal().is_none(), "crashed: {outcome}");
    assert!(!outcome.err().contains("panicked"), "panicked: {outcome}");
    assert_eq!(outcome.code(), 1, "{outcome}");
    assert!(outcome.err().trim().len() > 10, "no message: {outcome}");
    for arch in Arch::ALL {
        let exe = module.with_extension(arch.name());
        assert!(!exe.exists(), "it left {}", exe.display());
    }
}

/// Features by name, with a byte offset.
#[test]
fn features_that_are_not_there_yet() {
    let dir = scratch();
    for (feature, text) in [
        (
            "shared memories",
            "(module (memory 1 1 shared) (func (export \"_start\")))",
        ),
        (
            "shared memories",
            "(module (import \"env\" \"memory\" (memory 1 1 shared)) (func (export \"_start\")))",
        ),
        (
            "garbage collection",
            "(module (type (struct (field i32))) (func (export \"_start\")))",
        ),
        (
            "garbage collection",
            "(module (func (export \"_start\") (drop (ref.i31 (i32.const 1)))))",
        ),
        (
            "custom page sizes",
            "(module (memory 1 (pagesize 1)) (func (export \"_start\")))",
        ),
        (
            "wide arithmetic",
            "(module (func (export \"_start\") (drop (drop (i64.mul_wide_s (i64.const 1) (i64.const 2))))))",
        ),
        (
            "stack switching",
            "(module (type $f (func)) (type $c (cont $f)) (func (export \"_start\")))",
        ),
        ("component", "(component)"),
    ] {
        let module = dir.path().join("feature.wat");
        std::fs::write(&module, text).expect("scratch space is writable");
        let outcome = build(&module);
        refused(&outcome, &module);
        let err = outcome.err();
        assert!(err.contains(feature), "{feature} isn't named: {outcome}");
        assert!(err.contains("0x") || err.contains("offset"), "no offset: {outcome}");
    }
}

#[test]
fn invalid_modules() {
    let dir = scratch();
    for (what, text) in [
        (
            "a type mismatch",
            "(module (func (export \"_start\") (result i32) (i64.const 1)))",
        ),
        (
            "an unknown local",
            "(module (func (export \"_start\") (drop (local.get 3))))",
        ),
        ("an empty stack", "(module (func (export \"_start\") drop))"),
        (
            "a store without memory",
            "(module (func (export \"_start\") (i32.store (i32.const 0) (i32.const 0))))",
        ),
        (
            "an immutable global",
            "(module (global $g i32 (i32.const 1)) (func (export \"_start\") (global.set $g (i32.const 2))))",
        ),
        ("a syntax error", "(module (func (export \"_start\") (i32.cons 1)))"),
        (
            "an unknown import",
            "(module (import \"env\" \"puts\" (func)) (func (export \"_start\")))",
        ),
        (
            "an import of another type",
            "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func (param i64))) (func (export \"_start\")))",
        ),
        (
            "the suite's imports",
            "(module (import \"spectest\" \"print_i32\" (func (param i32))) (func (export \"_start\")))",
        ),
        (
            "an imported memory",
            "(module (import \"env\" \"memory\" (memory 1)) (func (export \"_start\")))",
        ),
    ] {
        let module = dir.path().join("invalid.wat");
        std::fs::write(&module, text).expect("scratch space is writable");
        let outcome = build(&module);
        refused(&outcome, &module);
        println!("{what}: {}", outcome.err().trim());
    }
}

#[test]
fn not_a_module() {
    let dir = scratch();
    for (name, bytes) in [
        ("empty.wasm", &b""[..]),
        ("magic.wasm", b"\0asm"),
        ("version.wasm", b"\0asm\x02\0\0\0"),
        ("elf.wasm", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"),
        ("text.wasm", b"hello"),
        ("binary.wat", &[0xff, 0xfe, 0, 1, 2]),
    ] {
        refused(&build_bytes(dir.path(), name, bytes), &dir.path().join(name));
    }
    refused(
        &build(&dir.path().join("missing.wasm")),
        &dir.path().join("missing.wasm"),
    );
    refused(&build(dir.path()), dir.path());
}

/// A real module, cut off everywhere and with bits flipped everywhere: an error or a module that builds, nothing else.
#[test]
fn damaged_modules() {
    let dir = scratch();
    let module = dir.path().join("real.wasm");
    clang(
        &[tools::root().join("tests/guests/qsort.c")],
        &["-Wl,--strip-debug".into()],
        &module,
    );
    let good = std::fs::read(&module).unwrap();
    assert!(good.len() > 5000);
    let mut built = 0;
    let mut check = |what: String, bytes: &[u8]| {
        let outcome = build_bytes(dir.path(), "damaged.wasm", bytes);
        assert!(outcome.status.signal().is_none(), "{what}: crashed: {outcome}");
        assert!(!outcome.err().contains("panicked"), "{what}: panicked: {outcome}");
        if outcome.code() == 0 {
            built += 1;
            for arch in Arch::ALL {
                std::fs::remove_file(dir.path().join(format!("damaged.{arch}")))
                    .expect("a module that builds leaves executables");
            }
        } else {
            refused(&outcome, &dir.path().join("damaged.wasm"));
        }
    };
    for len in (0..good.len()).step_by(good.len() / 60) {
        check(format!("the first {len} bytes"), &good[..len]);
    }
    for (n, at) in (0..good.len()).step_by(good.len() / 250).enumerate() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (n % 8);
        check(format!("bit {} of byte {at}", n % 8), &bytes);
    }
    println!("{built} damaged modules still built");
}

/// Whatever a damaged module does, it does it inside: running those that still build must not crash.
#[test]
fn damaged_modules_that_build_run_safely() {
    let dir = scratch();
    let module = dir.path().join("real.wasm");
    clang(
        &[tools::root().join("tests/guests/tree.c")],
        &["-Wl,--strip-all".into()],
        &module,
    );
    let good = std::fs::read(&module).unwrap();
    let mut ran = 0;
    for (n, at) in (300..good.len()).step_by(97).enumerate() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (n % 8);
        if build_bytes(dir.path(), "damaged.wasm", &bytes).code() != 0 {
            continue;
        }
        let program = Program::adopt(scratch(), "damaged");
        for arch in Arch::ALL {
            std::fs::rename(dir.path().join(format!("damaged.{arch}")), program.exe(arch)).unwrap();
        }
        // It may loop for ever: a second is enough to crash.
        let run = program
            .on(Arch::X86_64)
            .opts(["--max-memory", "256M"])
            .through_shell("timeout -s KILL 1 \"$@\"");
        let outcome = run.timeout(Duration::from_secs(20)).output();
        let code = outcome.code();
        assert!(outcome.status.signal().is_none() || code == 137, "{outcome}");
        assert!(
            !outcome.err().contains("panicked") && ![139, 135, 132, 136, 133].contains(&code),
            "{outcome}"
        );
        ran += 1;
    }
    assert!(ran >= 5, "only {ran} ran");
}
