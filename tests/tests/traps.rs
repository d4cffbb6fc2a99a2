//! Traps are exact: the right name, a backtrace with function names, exit code 134, on both architectures, and after
//! moves too.

use dunlin_format::arch::Arch;
use dunlin_tests::guest::guest;
use dunlin_tests::process::Outcome;
use dunlin_tests::program::{CHECKPOINTED, Program, TRAP, scratch};
use std::os::unix::process::ExitStatusExt;

/// A program whose `$culprit`, called by `$middle`, called by `_start`, holds `body`.
fn program(body: &str) -> Program {
    let text = format!(
        r#"(module
          (type $none (func))
          (type $one (func (param i32)))
          (memory 1)
          (table 3 funcref)
          (elem (i32.const 0) $middle)
          (data $passive "xyz")
          (elem $segment func $middle)
          (global $zero (mut i32) (i32.const 0))
          (func $culprit (param $x i32) (local $f f64) {body})
          (func $middle (call $culprit (i32.const 7)) (global.set $zero (i32.const 1)))
          (func (export "_start") (call $middle) (global.set $zero (i32.const 2))))"#
    );
    Program::from_wat("trapping", &text)
}

/// The trap's message, then the frames, innermost first.
#[track_caller]
fn is_trap(outcome: &Outcome, message: &str, frames: &[&str]) {
    assert!(outcome.status.signal().is_none(), "killed: {outcome}");
    assert_eq!(outcome.code(), TRAP, "{outcome}");
    let err = outcome.err();
    assert!(err.contains(message), "no {message:?} in: {outcome}");
    let mut rest = err.as_str();
    for frame in frames {
        let at = rest
            .find(frame)
            .unwrap_or_else(|| panic!("no {frame} (in this order) in: {outcome}"));
        rest = &rest[at + frame.len()..];
    }
}

#[track_caller]
fn traps(body: &str, message: &str) {
    let program = program(body);
    for arch in Arch::ALL {
        for forced in [false, true] {
            let run = program.on(arch);
            let outcome = if forced { run.forced(1) } else { run }.output();
            is_trap(&outcome, message, &["culprit", "middle"]);
        }
    }
}

#[test]
fn unreachable() {
    traps("unreachable", "wasm `unreachable` instruction executed");
}

#[test]
fn memory_out_of_bounds() {
    let message = "out of bounds memory access";
    for body in [
        "(drop (i32.load (i32.const 65533)))",
        "(drop (i64.load offset=65529 (global.get $zero)))",
        "(drop (i32.load8_u (i32.const -1)))",
        "(f64.store offset=4294967295 (i32.const -1) (f64.const 1))",
        "(i32.store8 (i32.const 65536) (i32.const 1))",
        "(memory.fill (i32.const 65000) (i32.const 0) (i32.const 600))",
        "(memory.copy (i32.const 65000) (i32.const 0) (i32.const 600))",
        "(memory.copy (i32.const 0) (i32.const -1) (i32.const 2))",
        "(memory.init $passive (i32.const 0) (i32.const 1) (i32.const 3))",
        "(data.drop $passive) (memory.init $passive (i32.const 0) (i32.const 0) (i32.const 1))",
    ] {
        traps(body, message);
    }
}

#[test]
fn division() {
    for op in ["i32.div_s", "i32.div_u", "i32.rem_s", "i32.rem_u"] {
        traps(
            &format!("(drop ({op} (local.get $x) (global.get $zero)))"),
            "integer divide by zero",
        );
    }
    traps(
        "(drop (i64.div_s (i64.const 5) (i64.extend_i32_u (global.get $zero))))",
        "integer divide by zero",
    );
    traps(
        "(drop (i32.div_s (i32.const 0x80000000) (i32.sub (global.get $zero) (i32.const 1))))",
        "integer overflow",
    );
    traps(
        "(drop (i64.div_s (i64.const 0x8000000000000000) (i64.sub (i64.extend_i32_u (global.get $zero)) (i64.const 1))))",
        "integer overflow",
    );
}

#[test]
fn conversions() {
    traps("(drop (i32.trunc_f64_s (f64.const 2147483648)))", "integer overflow");
    traps("(drop (i64.trunc_f32_u (f32.const -1)))", "integer overflow");
    traps(
        "(drop (i32.trunc_f32_u (f32.const nan)))",
        "invalid conversion to integer",
    );
    traps(
        "(drop (i64.trunc_f64_s (f64.div (local.get $f) (local.get $f))))",
        "invalid conversion to integer",
    );
}

#[test]
fn tables() {
    traps(
        "(call_indirect (type $none) (i32.const 3))",
        "out of bounds table access",
    );
    traps(
        "(call_indirect (type $none) (i32.const -1))",
        "out of bounds table access",
    );
    traps("(call_indirect (type $none) (i32.const 1))", "uninitialized element");
    traps(
        "(call_indirect (type $one) (i32.const 1) (i32.const 0))",
        "indirect call type mismatch",
    );
    traps(
        "(table.init $segment (i32.const 0) (i32.const 0) (i32.const 2))",
        "out of bounds table access",
    );
    traps(
        "(table.copy (i32.const 1) (i32.const 0) (i32.const 3))",
        "out of bounds table access",
    );
}

/// On a memory that is not shared, where an unaligned address counts before one out of bounds.
#[test]
fn atomics() {
    let unaligned = "unaligned atomic";
    for body in [
        "(drop (i32.atomic.load16_u (local.get $x)))",
        "(i64.atomic.store32 offset=3 (global.get $zero) (i64.const 1))",
        "(drop (i32.atomic.rmw.add (i32.const -1) (i32.const 1)))",
        "(drop (memory.atomic.notify offset=2 (i32.const 65536) (i32.const 1)))",
        "(drop (memory.atomic.wait64 (i32.const 4) (i64.const 0) (i64.const 0)))",
    ] {
        traps(body, unaligned);
    }
    let outside = "out of bounds memory access";
    for body in [
        "(drop (i64.atomic.load offset=1 (i32.const 65535)))",
        "(i32.atomic.store8 (i32.const 65536) (i32.const 1))",
        "(drop (i64.atomic.rmw8.xchg_u offset=4294967295 (i32.const -1) (i64.const 1)))",
        "(drop (i32.atomic.rmw16.cmpxchg_u (i32.const -2) (i32.const 0) (i32.const 0)))",
        "(drop (memory.atomic.notify (i32.const 65536) (i32.const 1)))",
        "(drop (memory.atomic.wait32 offset=4 (i32.const -4) (i32.const 0) (i64.const 0)))",
    ] {
        traps(body, outside);
    }
    traps(
        "(drop (memory.atomic.wait32 (i32.const 65532) (i32.const 1) (i64.const 0)))",
        "atomic wait on non-shared memory",
    );
}

/// Recursion without end, with small frames and with frames larger than a page.
#[test]
fn stack_overflow() {
    let locals = "i64 ".repeat(3000);
    let sets: String = (0..3000)
        .map(|i| format!("(local.set {} (i64.add (local.get 0) (i64.const {i})))", i + 1))
        .collect();
    let uses: String = (0..3000)
        .map(|i| format!("(local.set 0 (i64.xor (local.get 0) (local.get {})))", i + 1))
        .collect();
    for (name, function) in [
        (
            "small",
            "(func $deep (param i64) (result i64) (i64.add (i64.const 1) (call $deep (local.get 0))))".to_owned(),
        ),
        (
            "large",
            format!(
                "(func $deep (param i64) (result i64) (local {locals}) {sets} (local.set 0 (call $deep (local.get 0))) {uses} (local.get 0))"
            ),
        ),
    ] {
        let text = format!("(module {function} (func (export \"_start\") (drop (call $deep (i64.const 1)))))");
        let program = Program::from_wat(name, &text);
        for arch in Arch::ALL {
            is_trap(&program.on(arch).output(), "call stack exhausted", &["deep", "deep"]);
            let small = program.on(arch).opts(["--stack-size", "128K"]).output();
            is_trap(&small, "call stack exhausted", &["deep"]);
        }
    }
}

/// A trap in an instantiation: before anything ran.
#[test]
fn in_the_start_function_and_segments() {
    let start = Program::from_wat(
        "start",
        "(module (func $boom unreachable) (start $boom) (func (export \"_start\")))",
    );
    let data = Program::from_wat(
        "data",
        "(module (memory 1) (data (i32.const 65535) \"ab\") (func (export \"_start\")))",
    );
    let elem = Program::from_wat(
        "elem",
        "(module (table 1 funcref) (elem (i32.const 1) $f) (func $f (export \"_start\")))",
    );
    for arch in Arch::ALL {
        is_trap(
            &start.on(arch).output(),
            "wasm `unreachable` instruction executed",
            &["boom"],
        );
        is_trap(&data.on(arch).output(), "out of bounds memory access", &[]);
        is_trap(&elem.on(arch).output(), "out of bounds table access", &[]);
    }
}

#[test]
fn the_backtrace_survives_moves() {
    let guest = guest("trap_deep");
    for arch in Arch::ALL {
        is_trap(
            &guest.on(arch, None).output(),
            "integer divide by zero",
            &["divide", "middle", "outer"],
        );
        is_trap(
            &guest.on(arch, None).forced(1).output(),
            "integer divide by zero",
            &["divide", "middle", "outer"],
        );
    }
    // Stopped between the functions' entries, and trapped elsewhere.
    let dir = scratch();
    let mut crossed = 0;
    for point in 1..400 {
        let snapshot = dir.path().join(format!("{point}.snap"));
        let first = guest.on(Arch::X86_64, None).stop_at(point, &snapshot).output();
        if first.code() != CHECKPOINTED {
            break;
        }
        if !first.out().is_empty() || point % 8 == 1 {
            is_trap(
                &guest.on(Arch::Aarch64, None).resume(&snapshot).output(),
                "integer divide by zero",
                &["divide", "middle", "outer"],
            );
            crossed += 1;
        }
    }
    assert!(crossed >= 4, "only {crossed} points were tried");
}

/// The program's own exit codes pass through, 134 included.
#[test]
fn exit_codes() {
    for code in [0, 1, 85, 126, 134, 255] {
        let text = format!(
            "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
               (func (export \"_start\") (call $exit (i32.const {code}))))"
        );
        let program = Program::from_wat("exits", &text);
        for arch in Arch::ALL {
            let outcome = program.on(arch).output();
            assert_eq!((outcome.code(), outcome.err().as_str()), (code, ""), "{outcome}");
        }
    }
}
