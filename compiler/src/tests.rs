//! Whole modules through the whole compiler.

use super::*;
use dunlin_format::image::Image;

const PROGRAM: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (table funcref (elem $odd $even))
    (type $test (func (param i32) (result i32)))
    (func $even (type $test) (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 1))
        (else (call $odd (i32.sub (local.get 0) (i32.const 1))))))
    (func $odd (type $test) (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
        (else (call_indirect (type $test) (i32.sub (local.get 0) (i32.const 1)) (i32.const 1)))))
    (func (export "_start") (call $exit (call $even (i32.const 9)))))"#;

fn options(threads: usize) -> CompileOptions {
    let settings = Settings {
        threads: Some(threads),
        want_clif: true,
        want_asm: true,
        ..Settings::default()
    };
    CompileOptions {
        name: "prog".into(),
        settings,
        ..CompileOptions::default()
    }
}

#[test]
fn the_output_does_not_depend_on_threads() {
    let one = compile(PROGRAM.as_bytes(), &options(1)).unwrap();
    for threads in [2, 5] {
        let many = compile(PROGRAM.as_bytes(), &options(threads)).unwrap();
        assert_eq!((&one.clif, &one.asm), (&many.clif, &many.asm));
        for (a, b) in one.images.iter().zip(&many.images) {
            assert_eq!(
                (&a.text, &a.meta, &a.symbols, &a.unwind),
                (&b.text, &b.meta, &b.symbols, &b.unwind)
            );
        }
    }
}

#[test]
fn text_and_binary_give_the_same() {
    let wasm = wat::parse_str(PROGRAM).unwrap();
    let (from_text, from_binary) = (
        compile(PROGRAM.as_bytes(), &options(2)).unwrap(),
        compile(&wasm, &options(2)).unwrap(),
    );
    assert_eq!(from_text.hash, ModuleHash::of(&wasm));
    assert_eq!(from_text.images[1].meta, from_binary.images[1].meta);
}

#[test]
fn what_was_asked_for_is_there() {
    let compiled = compile(PROGRAM.as_bytes(), &options(2)).unwrap();
    assert_eq!(compiled.images.iter().map(|i| i.arch).collect::<Vec<_>>(), Arch::ALL);
    assert!(
        compiled
            .clif
            .contains("; 1: even\nfunction u0:1(i64, i32) -> i32 tail {"),
        "{}",
        compiled.clif
    );
    assert!(
        compiled.asm[0].1.contains("pushq") && compiled.asm[1].1.contains("stp fp, lr"),
        "{:?}",
        compiled.asm
    );
    let names: Vec<_> = compiled
        .functions
        .iter()
        .map(|f| (f.index, f.name.as_str(), f.offset.is_some()))
        .collect();
    let expected = [
        (0, "import wasi_snapshot_preview1.proc_exit", false),
        (1, "even", true),
        (2, "odd", true),
        (3, "_start", true),
    ];
    assert_eq!(names, expected);

    let mut only = options(1);
    only.settings = Settings {
        targets: vec![Arch::Aarch64],
        migration: false,
        ..Settings::default()
    };
    let only = compile(PROGRAM.as_bytes(), &only).unwrap();
    assert_eq!((only.images.len(), only.clif.len(), only.asm.len()), (1, 0, 0));
    assert!(!Image::parse(&only.images[0].meta).unwrap().migratable());
}

/// The points of a program stopped on one architecture must be found on the other.
#[test]
fn both_images_have_the_same_points() {
    let compiled = compile(PROGRAM.as_bytes(), &options(2)).unwrap();
    let images: Vec<_> = compiled.images.iter().map(|i| Image::parse(&i.meta).unwrap()).collect();
    let mut points = 0;
    for function in 0..images[0].points().unwrap().len() {
        let [a, b] = [0, 1].map(|n| images[n].points().unwrap().get(function).unwrap());
        assert_eq!(a, b);
        points += a.points().len();
    }
    assert!(points > 3, "{points}");
}

#[test]
fn every_level_compiles() {
    for level in [OptLevel::O0, OptLevel::O1, OptLevel::O2] {
        let mut options = options(2);
        options.settings.opt_level = level;
        assert!(compile(PROGRAM.as_bytes(), &options).is_ok(), "{level:?}");
    }
}

#[test]
fn errors_name_the_first_bad_function() {
    let text = "(module (func) (func (result i32)) (func (result i64)) (func i32.const 0 i8x16.splat drop))";
    for threads in [1, 4] {
        let Err(Error::Invalid { message, .. }) = compile(text.as_bytes(), &options(threads)) else {
            panic!()
        };
        assert!(message.contains("expected i32"), "{message}");
    }
    let text = "(module (func) (func i64.const 0 i64.const 0 i64.mul_wide_s drop drop) (func (local externref)))";
    assert_eq!(
        compile(text.as_bytes(), &options(2)).map(drop),
        Err(Error::unsupported("wide arithmetic", 0x20))
    );
    let named = CompileOptions {
        path: "prog.wat".into(),
        ..options(1)
    };
    let Err(Error::Text(message)) = compile(b"(module (func call $f))", &named) else {
        panic!()
    };
    assert!(
        message.contains("unknown func") && message.contains("prog.wat:1:20"),
        "{message}"
    );
    assert!(matches!(compile(b"\xff\xfe", &options(1)), Err(Error::Text(_))));
    let unknown = compile(b"(module (import \"env\" \"f\" (func)))", &options(1));
    assert!(matches!(unknown, Err(Error::UnknownImports(_))));
}

/// Whatever bytes come in: an error or a program, never a panic.
#[test]
fn damaged_modules_never_panic() {
    let wasm = wat::parse_str(PROGRAM).unwrap();
    let options = CompileOptions {
        settings: Settings {
            threads: Some(1),
            ..Settings::default()
        },
        ..CompileOptions::default()
    };
    for at in 8..wasm.len() {
        for flip in [0x01, 0x40, 0x7f, 0x80] {
            let mut damaged = wasm.clone();
            damaged[at] ^= flip;
            let _ = compile(&damaged, &options);
        }
        let _ = compile(&wasm[..at], &options);
    }
}

/// The condition of a branch back may be a comparison's result, which is no i32.
#[test]
fn loops_go_round_on_null() {
    let text = r#"(module (table $t 1 funcref) (func (export "_start")
        (loop $null (drop (br_on_null $null (table.get $t (i32.const 0)))))))"#;
    let compiled = compile(text.as_bytes(), &options(1)).unwrap();
    assert!(compiled.clif.contains("icmp"), "{}", compiled.clif);
}

/// Few variables may be alive: the code is another. Without this the tests with variables in memory would show nothing.
#[test]
fn few_may_be_alive() {
    let text = r#"(module (memory 1) (func (export "_start") (local i32 i32)
        (local.set 0 (i32.load (i32.const 0))) (local.set 1 (i32.load (i32.const 4)))
        (i32.store (i32.const 8) (i32.add (local.get 0) (local.get 1)))))"#;
    let slots = |max_alive| {
        let mut options = options(1);
        options.settings.max_alive = max_alive;
        let clif = compile(text.as_bytes(), &options).unwrap().clif;
        clif.matches("explicit_slot").count()
    };
    assert!(slots(0) > slots(512), "{} {}", slots(0), slots(512));
}

/// Branches to very many merges store what is not stored yet once, before the first of them, and not each on its way.
#[test]
fn many_branches_share_their_stores() {
    let n = 600;
    let branches: String = (0..n)
        .map(|k| format!("(br_if {k} (i32.eq (local.get 0) (i32.const {k})))"))
        .collect();
    let text = format!(
        r#"(module (memory 1)
        (func $f)
        (func (export "f") (param i32 i32) (result i32) {} {branches} {} (local.get 1)))"#,
        "(block ".repeat(n),
        ") (call $f)".repeat(n)
    );
    let clif = compile(text.as_bytes(), &options(1)).unwrap().clif;
    let stores = clif.matches("store").count();
    assert!(stores < n, "{stores} stores");
}

/// Interpreted code has the machines' points, and checks the bounds of an access within the same instruction.
#[test]
fn interpreted_code_has_the_same_points() {
    let text = r#"(module (memory 1) (func (export "_start") (local i32) (loop $more
        (i32.store offset=8 (local.get 0) (i32.load (local.get 0)))
        (drop (i32.load offset=65533 (local.get 0)))
        (br_if $more (local.tee 0 (i32.add (local.get 0) (i32.const 4)))))))"#;
    let mut options = options(1);
    options.settings.targets = vec![Arch::X86_64, Arch::Pulley64, Arch::Pulley32];
    let compiled = compile(text.as_bytes(), &options).unwrap();
    let images: Vec<Image<'_>> = compiled.images.iter().map(|i| Image::parse(&i.meta).unwrap()).collect();
    let archs: Vec<Arch> = images.iter().map(Image::arch).collect();
    assert_eq!(archs, options.settings.targets);
    let points = |image: &Image<'_>| image.points().unwrap().get(0).unwrap();
    assert!(points(&images[0]).points().len() == 1);
    for image in &images[1..] {
        assert_eq!(points(image), points(&images[0]));
    }
    let (arch, asm) = &compiled.asm[1];
    assert_eq!(*arch, Arch::Pulley64);
    for fused in ["xload32le_g32", "xstore32le_g32"] {
        assert_eq!(asm.matches(fused).count(), 1, "{fused} in {asm}");
    }
    // Beyond the least size of the memory the difference would be negative.
    assert_eq!(asm.matches("xload32le_z").count(), 1, "{asm}");
}
