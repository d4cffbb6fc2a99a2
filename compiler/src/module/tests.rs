//! Modules decoded, and modules refused: with the right name, at the right byte.

use super::*;
use dunlin_format::module::SegmentMode;

fn validate_bodies(module: &Module<'_>) -> Result<(), Error> {
    for body in &module.bodies {
        let mut validator = body.clone().validator.into_validator(Default::default());
        validator.read_locals(&mut body.body.get_binary_reader())?;
        let mut ops = body.body.get_operators_reader()?;
        while !ops.eof() {
            let (op, offset) = ops.read_with_offset()?;
            validator.op(offset, &op)?;
        }
        ops.finish()?;
    }
    Ok(())
}

/// Decodes a binary, bodies included, as the driver does.
fn check(wasm: &[u8]) -> Result<(), Error> {
    let module = Module::parse(wasm, "test")?;
    validate_bodies(&module).map_err(|e| features::diagnose(wasm, e))
}

fn check_text(text: &str) -> Result<(), Error> {
    check(&wat::parse_str(text).unwrap())
}

/// Asserts that the module is refused for `feature`, where the binary has the bytes `at`.
fn refused(text: &str, feature: &str, at: &[u8]) {
    let wasm = wat::parse_str(text).unwrap();
    match check(&wasm) {
        Err(Error::Unsupported { feature: found, offset }) => {
            assert_eq!(found, feature, "{text}");
            assert!(
                wasm[offset..].starts_with(at),
                "{text}: offset {offset:#x} is {:x?}",
                &wasm[offset..(offset + 4).min(wasm.len())]
            );
        }
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn what_llvm_emits_is_accepted() {
    for text in [
        "(module)",
        "(module (func (param i64) (result i64 i32) local.get 0 i64.extend8_s i32.const 1))",
        "(module (func (param f64) (result i32) local.get 0 i32.trunc_sat_f64_u))",
        "(module (memory 1) (data \"x\") (func i32.const 0 i32.const 0 i32.const 1 memory.init 0 data.drop 0))",
        "(module (memory 1) (func i32.const 0 i32.const 1 i32.const 2 memory.copy i32.const 0 i32.const 1 i32.const 2 memory.fill))",
        "(module (global (mut i32) (i32.const 1)) (export \"g\" (global 0)))",
        "(module (table 1 funcref) (table 2 funcref) (elem func 0) (elem funcref (ref.func 0) (ref.null func))
            (func i32.const 0 i32.const 0 i32.const 1 table.init 1 0 elem.drop 0 i32.const 0 call_indirect 1))",
        "(module (func (param i32) (result i32) i32.const 1 i32.const 2 local.get 0 select (result i32)))",
        "(module (func block (result i32 i32) i32.const 1 i32.const 2 end drop drop))",
    ] {
        assert_eq!(check_text(text), Ok(()), "{text}");
    }
}

#[test]
fn the_table_index_may_take_five_bytes() {
    // (module (type (func)) (table 1 funcref) (func i32.const 0 call_indirect)), with the table index padded as by
    // wasm-ld.
    let wasm = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x04\x04\x01\x70\0\x01\x0a\x0d\x01\x0b\0\x41\0\x11\0\x80\x80\x80\x80\0\x0b";
    assert_eq!(check(wasm), Ok(()));
}

#[test]
fn what_version_3_adds_is_accepted() {
    for text in [
        "(module (table 1 externref) (table 1 2 (ref null func)) (func (param externref) (result i32) (ref.is_null (local.get 0))))",
        "(module (type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0))))",
        "(module (func $f (return_call $f)))",
        "(module (memory 1) (memory i64 1) (func (memory.copy 0 1 (i32.const 0) (i64.const 0) (i32.const 1))))",
        "(module (tag $e (param i32)) (func (block $h (result i32) (try_table (catch $e $h) (throw $e (i32.const 1))) (unreachable)) drop))",
        "(module (tag $e) (func try throw $e catch $e rethrow 0 end))",
        "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
        "(module (table 2 (ref func) (ref.func 0)) (func))",
    ] {
        assert_eq!(check_text(text), Ok(()), "{text}");
    }
}

#[test]
fn atomics_on_unshared_memories_are_accepted() {
    for text in [
        "(module (memory 1) (func i32.const 0 i32.atomic.load drop atomic.fence))",
        "(module (memory i64 1) (func i64.const 0 i64.const 1 i64.atomic.rmw32.sub_u drop))",
        "(module (memory 1) (memory 1) (func i32.const 0 i64.const 0 i64.const 0 memory.atomic.wait64 1 drop))",
    ] {
        assert_eq!(check_text(text), Ok(()), "{text}");
    }
    let unaligned = check_text("(module (memory 1) (func i32.const 0 i32.atomic.load align=2 drop))");
    assert!(matches!(unaligned, Err(Error::Invalid { .. })), "{unaligned:?}");
}

#[test]
fn other_proposals_are_refused_by_name() {
    let shared = "shared memories (threads)";
    refused("(module (memory 1 1 shared))", shared, &[3, 1, 1]);
    refused("(module (memory 1) (memory i64 1 1 shared))", shared, &[7, 1, 1]);
    let imported = "(module (import \"env\" \"memory\" (memory 1 1 shared)))";
    refused(imported, shared, b"\x03env\x06memory\x02\x03");
    refused("(module (memory 1 (pagesize 1)))", "custom page sizes", &[8, 1, 0]);
    refused("(module (type (struct)))", "garbage collection", &[0x5f]);
    refused(
        "(module (func i64.const 1 i64.const 2 i64.mul_wide_s drop drop))",
        "wide arithmetic",
        &[0xfc, 21],
    );
}

#[test]
fn imports_other_than_functions_are_refused() {
    for (what, text) in [
        ("memory", "memory 1"),
        ("table", "table 1 funcref"),
        ("global", "global i32"),
    ] {
        let feature = format!("imported {what} (\"env\" \"x\")");
        refused(
            &format!("(module (import \"env\" \"x\" ({text})))"),
            &feature,
            b"\x03env\x01x",
        );
    }
}

#[test]
fn components_are_refused() {
    let wasm = wat::parse_str("(component)").unwrap();
    assert_eq!(check(&wasm), Err(Error::unsupported("component model", 0)));
}

#[test]
fn invalid_modules_are_invalid() {
    for text in [
        "(module (func (result i32)))",
        "(module (func i32.const 1 f32.neg drop))",
        "(module (func call 7))",
        "(module (func (local i32) local.get 1 drop))",
        "(module (func i32.const 0 i32.load drop))",
        "(module (memory 2 1))",
        "(module (export \"f\" (func 3)))",
        "(module (memory 1) (func i32.const 0 i32.load align=16 drop))",
        // The feature that its second function uses doesn't excuse the first.
        "(module (func i64.const 0 i32.eqz drop) (func i32.const 0 i8x16.splat drop))",
    ] {
        let found = check_text(text);
        assert!(matches!(&found, Err(Error::Invalid { .. })), "{text}: {found:?}");
    }
    let wasm = wat::parse_str("(module (func i64.const 0 i32.eqz drop))").unwrap();
    let Err(Error::Invalid { offset, .. }) = check(&wasm) else {
        panic!()
    };
    assert_eq!(wasm[offset], 0x45);
}

#[test]
fn every_truncation_is_refused() {
    let text = "(module (memory 1) (data (i32.const 0) \"abc\") (table 1 funcref) (elem (i32.const 0) 0) (func (export \"f\")))";
    let wasm = wat::parse_str(text).unwrap();
    // Cutting between sections may leave a valid module; cutting the binary's header or a section's inside never does.
    let valid: Vec<usize> = (0..wasm.len()).filter(|&n| check(&wasm[..n]).is_ok()).collect();
    assert!(valid.len() < 8 && valid[0] == 8, "{valid:?}");
}

#[test]
fn damaged_names_are_skipped() {
    let mut wasm = wat::parse_str("(module (func $f))").unwrap();
    let last = wasm.len() - 1;
    wasm[last] = 0xff; // not UTF-8
    assert_eq!(check(&wasm), Ok(()));
    assert_eq!(Module::parse(&wasm, "test").unwrap().names, []);
}

#[test]
fn a_module_is_decoded() {
    let text = r#"(module $m
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (type $a (func (param i32))) (type $b (func)) (type $c (func (param i32)))
        (table 2 5 funcref) (memory 1 9)
        (global (mut f64) (f64.const nan:0x1234)) (global i64 (i64.const -1))
        (func $f (type $b)) (func (type $c)) (func (export "h") (type $a))
        (elem (i32.const 1) $f)
        (data (i32.const 8) "abc") (data "de")
        (export "m" (memory 0))
        (start $f))"#;
    let wasm = wat::parse_str(text).unwrap();
    let module = Module::parse(&wasm, "prog").unwrap();
    let info = &module.info;
    assert_eq!(info.name, "prog");
    assert_eq!(info.types[info.funcs[1] as usize], FuncType::default());
    assert_eq!(
        info.imports,
        [Import {
            module: "wasi_snapshot_preview1".into(),
            name: "proc_exit".into()
        }]
    );
    assert_eq!(
        info.memories,
        [Memory {
            min: 1,
            max: Some(9),
            memory64: false
        }]
    );
    assert_eq!(
        info.tables,
        [Table {
            ty: ValType::FuncRef,
            min: 2,
            max: Some(5),
            table64: false,
            init: ConstExpr::Value(Value::FuncRef(None))
        }]
    );
    assert_eq!(
        info.globals[0].init,
        ConstExpr::Value(Value::F64(0x7ff0_0000_0000_1234))
    );
    assert!(info.globals[0].mutable && !info.globals[1].mutable);
    assert_eq!(info.start, Some(1));
    assert_eq!(info.elements[0].items, [ConstExpr::RefFunc(1)]);
    assert_eq!(
        info.elements[0].mode,
        SegmentMode::Active(0, ConstExpr::Value(Value::I32(1)))
    );
    let bytes = |i: usize| &module.data[info.data[i].bytes.start as usize..info.data[i].bytes.end as usize];
    assert_eq!((bytes(0), bytes(1)), (&b"abc"[..], &b"de"[..]));
    assert_eq!(module.address_taken, [false, true, false, false]);
    for (ty, canonical) in (0..).zip(&info.canonical) {
        assert_eq!(*canonical, info.canonical_type(ty));
    }
    assert_eq!(module.names, [(0, "exit".into()), (1, "f".into()), (3, "h".into())]);
    assert_eq!(module.symbol_name(0), "import wasi_snapshot_preview1.proc_exit");
    assert_eq!(module.symbol_name(2), "wasm[2]");
    assert_eq!(module.symbol_name(4), "enter type[0]");
    assert_eq!(module.body(1).map(|b| b.func), Some(1));
    assert!(module.body(0).is_none() && module.body(4).is_none());
}
