//! Every vector operator through the whole function compiler.

use crate::module::Module;
use crate::native::codegen::{FunctionCompiler, prepare};
use crate::settings::{OptLevel, Settings};

macro_rules! list {
    ($(
        @$proposal:ident $op:ident $({ $($arg:ident: $ty:ty),* })?
        => $visit:ident (arity $pops:literal -> $pushes:literal)
    )*) => {
        /// Proposal, visitor's name, operands, results.
        const OPERATORS: &[(&str, &str, usize, usize)] =
            &[$((stringify!($proposal), stringify!($visit), $pops, $pushes)),*];
    };
}

wasmparser::for_each_visit_simd_operator!(list);

/// The scalar type of a shape's lanes on the operand stack.
fn scalar(shape: &str) -> &'static str {
    match shape {
        "i64x2" => "i64",
        "f32x4" => "f32",
        "f64x2" => "f64",
        _ => "i32",
    }
}

/// A function that does nothing but this operator, as text.
fn function(visit: &str, pops: usize, pushes: usize) -> String {
    let (shape, name) = visit
        .strip_prefix("visit_")
        .and_then(|n| n.split_once('_'))
        .expect("a visitor's name");
    let mut params = vec!["v128"; pops];
    let mut result = "v128";
    let mut immediates = "";
    if name.starts_with("load") || name.starts_with("store") {
        params[0] = "i32";
    }
    if name == "splat" || name == "replace_lane" {
        params[pops - 1] = scalar(shape);
    } else if name.starts_with("sh") && name != "shuffle" {
        params[1] = "i32";
    } else if name.starts_with("extract_lane") {
        result = scalar(shape);
    } else if name.ends_with("_true") || name == "bitmask" {
        result = "i32";
    }
    if name.ends_with("_lane") || name.contains("extract_lane") {
        immediates = "1";
    } else if name == "const" {
        immediates = "i64x2 1 2";
    } else if name == "shuffle" {
        immediates = "0 31 2 29 4 27 6 25 8 23 10 21 12 19 14 17";
    }
    let result = if pushes == 1 {
        format!("(result {result})")
    } else {
        String::new()
    };
    let gets: String = (0..pops).map(|k| format!("local.get {k} ")).collect();
    let params = params.join(" ");
    format!("(func (param {params}) {result} {gets} {shape}.{name} {immediates})\n")
}

/// With x86-64-v2 and ARMv8.0-A alone, and without any library call (which would be a relocation that the compiler
/// refuses).
#[test]
fn every_operator_compiles_for_both_architectures() {
    let count = |proposal| OPERATORS.iter().filter(|o| o.0 == proposal).count();
    assert_eq!((count("simd"), count("relaxed_simd")), (236, 20));
    let functions: String = OPERATORS
        .iter()
        .map(|&(_, visit, pops, pushes)| function(visit, pops, pushes))
        .collect();
    let wasm = wat::parse_str(format!("(module (memory 1)\n{functions})")).expect("test module");
    let module = Module::parse(&wasm, "test").expect("valid");
    for opt_level in [OptLevel::O0, OptLevel::O1, OptLevel::O2] {
        for deterministic in [false, true] {
            let settings = Settings {
                opt_level,
                deterministic,
                ..Settings::default()
            };
            let prepared = prepare(&module, &settings).expect("prepares");
            let mut compiler = FunctionCompiler::new(&module, &settings, &prepared).expect("sets up");
            for (k, operator) in (0..).zip(OPERATORS) {
                let compiled = compiler.compile(&[k]).remove(0);
                let compiled = compiled.unwrap_or_else(|e| panic!("{operator:?} at {opt_level:?}: {e}"));
                assert_eq!(compiled.machine.len(), 2);
            }
        }
    }
}

/// The optimiser doesn't fold vectors: an expression over constants, however deep, that it finds on both sides of a
/// call must be computed anew after it.
#[test]
fn constant_expressions_of_any_depth_may_cross_calls() {
    for depth in [1, 5, 2_000] {
        let expression = format!("v128.const i64x2 1 2 {}", "i8x16.popcnt i64x2.neg ".repeat(depth));
        let text = format!(
            "(module (func $f) (func (result v128) {expression} call $f {expression} call $f {expression} i8x16.add i8x16.sub))"
        );
        let wasm = wat::parse_str(text).expect("test module");
        let module = Module::parse(&wasm, "test").expect("valid");
        let settings = Settings {
            want_clif: true,
            ..Settings::default()
        };
        let prepared = prepare(&module, &settings).expect("prepares");
        let mut compiler = FunctionCompiler::new(&module, &settings, &prepared).expect("sets up");
        let compiled = compiler.compile(&[1]).remove(0).expect("compiles");
        let clif = compiled.clif.expect("was asked for");
        assert_eq!(clif.matches("= popcnt").count(), 3 * depth, "one for each segment");
    }
}
