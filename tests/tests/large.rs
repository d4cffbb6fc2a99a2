//! Large and strange modules: compiled in time and memory that grow with their size, and correctly.

use dunlin_format::arch::Arch;
use dunlin_tests::large::SHAPES;
use dunlin_tests::process::{Input, Outcome, run};
use dunlin_tests::program::{Program, scratch};
use dunlin_tests::tools;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Address space that a build may use, in KiB.
const MEMORY: u64 = 2 << 20;

/// Four times the size may take so many times the time: linear is 4, quadratic 16.
const GROWTH: f64 = 13.0;
/// Shapes that are measured without migration points, too: those in which paths meet. (Thousands of values that all
/// live across straight code take the register allocator long then.)
const BASELINE: &[&str] = &[
    "loops",
    "an interpreter",
    "br_table over changing values",
    "br_table over read values",
    "nested loops",
    "nested loops around calls",
    "nested loops over locals",
    "branches with results",
    "branches around locals",
    "loops over many locals",
    "an interpreter without calls",
    "branches out of one block",
    "code in nested loops",
];
/// Less than this is not worth measuring, in seconds.
const MOMENT: f64 = 0.1;

/// Builds with bounded memory. Returns the outcome and the processor time in seconds.
fn build(module: &Path, bytes: &[u8], options: &[&str]) -> (Outcome, f64) {
    std::fs::write(module, bytes).expect("scratch space is writable");
    let mut command = Command::new("sh");
    let script = format!("ulimit -v {MEMORY}; \"$@\"; code=$?; times >&2; exit $code");
    command
        .args(["-c", &script, "sh"])
        .arg(tools::dunlin())
        .arg("build")
        .arg(module);
    command.arg("-o").arg(module.with_extension("")).args(options);
    let outcome = run(command, Input::Empty, Duration::from_secs(600));
    let err = outcome.err();
    let children = err.lines().last().unwrap_or_default();
    let seconds = |time: &str| -> Option<f64> {
        let (minutes, seconds) = time.strip_suffix('s')?.split_once('m')?;
        Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
    };
    let spent = children.split_whitespace().map(seconds).sum::<Option<f64>>();
    let spent = spent.unwrap_or_else(|| panic!("no times: {outcome}"));
    (outcome, spent)
}

#[test]
fn time_and_memory_grow_with_the_size() {
    let dir = scratch();
    for shape in SHAPES {
        let both = [&[][..], &["--no-migration"]];
        for how in &both[..if BASELINE.contains(&shape.name) { 2 } else { 1 }] {
            let measure = |size| {
                let module = dir.path().join("large.wat");
                let options = [&["--target", "x86_64", "-j1"], *how].concat();
                let (outcome, spent) = build(&module, shape.text(size).as_bytes(), &options);
                assert_eq!(outcome.code(), 0, "{} x {size} {how:?}: {outcome}", shape.name);
                spent
            };
            // A busy machine may spoil one measurement, but not three of too much work.
            let grows = (0..3).any(|_| {
                let times = [1, 4].map(measure);
                println!("{} {how:?}: {times:.2?} s", shape.name);
                times[1] < GROWTH * times[0].max(MOMENT)
            });
            assert!(grows, "{} {how:?} takes too long at four times the size", shape.name);
        }
    }
}

/// What is done differently in large functions is right, too: both architectures agree with a build that has no
/// migration points, and with runs that migrate all the time.
#[test]
fn large_programs_run_and_move() {
    for shape in SHAPES {
        let dir = scratch();
        let module = dir.path().join("large.wat");
        std::fs::write(&module, shape.text(1)).expect("scratch space is writable");
        let expected = Program::build_with(&module, &["--no-migration"])
            .on(Arch::X86_64)
            .output()
            .code();
        assert!(expected < 64, "{}: exit code {expected}", shape.name);
        let program = Program::build(&module);
        for arch in Arch::ALL {
            let outcome = program.on(arch).output();
            assert_eq!(outcome.code(), expected, "{} on {arch}: {outcome}", shape.name);
        }
        let outcome = program.on(Arch::X86_64).forced(101).output();
        assert_eq!(outcome.code(), expected, "{}, migrated: {outcome}", shape.name);
    }
}

/// Built or refused in words; never a crash.
#[test]
fn strange_modules_do_no_harm() {
    let many = |text: &str, n: usize| text.repeat(n);
    let locals = format!("(func (local {}))\n", many("i64 ", 50_000));
    let modules = [
        (
            "many functions of many locals",
            format!("(module {})", many(&locals, 20)),
        ),
        (
            "too many locals",
            format!("(module (func (local {})))", many("i64 ", 50_001)),
        ),
        (
            "a long chain",
            format!(
                "(module (func (param i32) (result i32) (local.get 0) {}))",
                many("i32.eqz ", 100_000)
            ),
        ),
        (
            "a long chain of loads",
            format!(
                "(module (memory 1) (func (param i32) (result i32) (local.get 0) {}))",
                many("i32.load ", 50_000)
            ),
        ),
        (
            "a long chain over a vector",
            format!(
                "(module (func (param v128) (result v128) (local.get 0) {}))",
                many("i8x16.abs i16x8.neg ", 20_000)
            ),
        ),
        (
            "deep blocks",
            format!("(module (func {} {}))", many("block ", 200_000), many("end ", 200_000)),
        ),
        (
            "deep loops",
            format!("(module (func {} {}))", many("loop ", 20_000), many("end ", 20_000)),
        ),
        ("a table of 10 million", "(module (table 10000000 funcref))".into()),
        ("a table of 4 billion", "(module (table 4294967295 funcref))".into()),
        ("memory of 4 GiB", "(module (memory 65536))".into()),
        ("64-bit memory of 256 TiB", "(module (memory i64 4294967296))".into()),
        (
            "much data",
            format!(
                "(module (memory 1024) (data (i32.const 0) \"{}\"))",
                many("0123456789abcdef", 1 << 21)
            ),
        ),
        (
            "data out of bounds",
            "(module (memory 1) (data (i32.const -1) \"x\"))".into(),
        ),
        (
            "many results",
            format!(
                "(module (func (result {}) unreachable) (func (export \"_start\") (call 0) {}))",
                many("i32 ", 1000),
                many("drop ", 1000)
            ),
        ),
        (
            "a table of branches with many values",
            format!(
                "(module (func (param i32) (block (result {types}) {values} (br_table {targets} (local.get 0))) {drops}))",
                types = many("i32 ", 500),
                values = many("(local.get 0)", 500),
                targets = many("0 ", 5000),
                drops = many("drop ", 500)
            ),
        ),
        (
            "many types",
            format!(
                "(module {})",
                (0..20_000)
                    .map(|k| format!("(type (func (param {})))", many("i32 ", k % 50)))
                    .collect::<String>()
            ),
        ),
        (
            "many globals",
            format!("(module {})", many("(global (mut i64) (i64.const 1))", 50_000)),
        ),
        (
            "many exports",
            format!(
                "(module (func $f) {})",
                (0..50_000)
                    .map(|k| format!("(export \"{k}\" (func $f))"))
                    .collect::<String>()
            ),
        ),
    ];
    let dir = scratch();
    for (name, text) in modules {
        let (outcome, spent) = build(&dir.path().join("strange.wat"), text.as_bytes(), &[]);
        assert!(
            outcome.status.signal().is_none() && !outcome.err().contains("panicked"),
            "{name}: {outcome}"
        );
        assert!(matches!(outcome.code(), 0 | 1), "{name}: {outcome}");
        println!("{name}: exit code {}, {spent:.2} s", outcome.code());
    }
}
