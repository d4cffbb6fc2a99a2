//! A translation that leaves the scan's walk is an internal error, wherever that happens.

use super::{Env, translate};
use crate::error::Error;
use crate::module::Module;
use crate::native::signatures::wasm_signature;
use crate::native::{isa, placement};
use crate::settings::Settings;
use crate::uniform::scan::{Request, Scan};
use crate::uniform::{Analysis, analyze};
use cranelift_codegen::ir::{Function, UserFuncName};
use cranelift_frontend::FunctionBuilderContext;
use dunlin_format::arch::Arch;
use dunlin_format::context::ContextLayout;

const FUNCTION: &str = r#"(module
    (func $f (param i32) (result i32)
        (i32.add (local.get 0)
            (loop (result i32) (br_if 0 (call $f (i32.const 1))) (if (result i32) (local.get 0)
                (then (i32.const 2)) (else (call $f (local.get 0))))))))"#;

/// Translates the function by what was found out about it, but for what `falsify` has changed.
fn translate_with(falsify: impl Fn(&mut Scan<'_>)) -> Result<(), Error> {
    let wasm = wat::parse_str(FUNCTION).unwrap();
    let module = Module::parse(&wasm, "test").unwrap();
    let settings = Settings::default();
    let request = Request {
        module: &module,
        migration: true,
        entry_poll: true,
    };
    let body = module.body(0).unwrap().clone();
    let mut validator = body.validator.into_validator(Default::default());
    let ty = module.info.func_type(0);
    let (mut an, _): (Analysis<'_>, _) = analyze(request, ty, &body.body, &mut validator)?;
    let placement = placement::choose(&an, settings.max_alive);
    falsify(&mut an.scan);
    let layout = ContextLayout::new(&module.info);
    let env = Env {
        module: &module,
        layout: &layout,
        migration: true,
        bounds: crate::native::translate::Bounds::Guard,
        frontend: isa::isa(Arch::X86_64, &settings)?.frontend_config(),
    };
    let mut func = Function::with_name_signature(UserFuncName::user(0, 7), wasm_signature(ty));
    let mut context = FunctionBuilderContext::new();
    translate(env, &mut func, &mut context, &an, &placement, ty).map(drop)
}

#[test]
fn the_walks_agree() {
    assert_eq!(translate_with(|_| {}), Ok(()));
}

/// In every number that is compared, at every point and at the end.
#[test]
fn walks_that_disagree_are_an_internal_error() {
    let falsified = |what: &str, falsify: &dyn Fn(&mut Scan<'_>)| match translate_with(falsify) {
        Err(Error::Internal { func: 7, message, .. }) => assert!(message.contains("left the scan"), "{message}"),
        other => panic!("{what}: {other:?}"),
    };
    translate_with(|s| assert!(s.points.len() == 4, "entry, loop and two calls")).unwrap();
    for k in 0..4 {
        falsified("constructs", &|s| s.points[k].position.constructs += 1);
        falsified("operands", &|s| s.points[k].position.operands += 1);
        falsified("pushed", &|s| s.points[k].position.pushed += 1);
    }
    falsified("the end", &|s| s.end.pushed += 1);
    falsified("an operand less", &|s| s.operand_var.truncate(s.operand_var.len() - 1));
    falsified("a point more", &|s| s.points.push(s.points[3].clone()));
}
