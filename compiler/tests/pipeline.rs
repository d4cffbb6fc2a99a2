//! The function compiler on small modules, debug assertions and Cranelift's verifier on.

use dunlin_compiler::codegen::{FunctionCompiler, prepare};
use dunlin_compiler::module::Module;
use dunlin_compiler::output::CompiledFunction;
use dunlin_compiler::settings::{OptLevel, Settings};

fn compile(wat: &str, migration: bool, opt_level: OptLevel) -> Vec<CompiledFunction> {
    let wasm = wat::parse_str(wat).expect("test module");
    let module = Module::parse(&wasm, "test").expect("valid");
    let settings = Settings { migration, opt_level, want_clif: true, ..Settings::default() };
    let prepared = prepare(&module, &settings).expect("prepares");
    let mut c = FunctionCompiler::new(&module, &settings, &prepared).expect("sets up");
    (0..module.num_codes()).map(|i| c.compile(i, module.body(i).cloned()).expect("compiles")).collect()
}

const FIB: &str = r#"(module
  (func $fib (export "fib") (param i32) (result i32)
    (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
      (then (local.get 0))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
                     (call $fib (i32.sub (local.get 0) (i32.const 2))))))))"#;

#[test]
fn fib_compiles_at_every_level() {
    for level in [OptLevel::O0, OptLevel::O1, OptLevel::O2] {
        for migration in [false, true] {
            let out = compile(FIB, migration, level);
            assert_eq!(out.len(), 2);
            assert_eq!(out[0].points.points.len(), if migration { 3 } else { 0 });
            if std::env::var("SHOW").is_ok() {
                println!("{}\n{:#?}", out[0].clif.as_ref().unwrap(), out[0].points);
            }
        }
    }
}
