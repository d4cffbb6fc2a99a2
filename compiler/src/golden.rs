//! The function compiler on small modules: golden CLIF of the translation and of the migration points.
//!
//! `golden/NAME.wat` compiles to `golden/NAME.clif` (optimised, after the record rule) and its points. After an
//! intended change, run with `BLESS=1` and read the difference.

use crate::module::Module;
use crate::native::codegen::{FunctionCompiler, prepare};
use crate::native::compiled_function::CompiledFunction;
use crate::settings::{OptLevel, Settings};
use dunlin_format::framemap::{FunctionPoints, HomeKind};
use dunlin_format::point::Slot;
use std::fmt::Write as _;
use std::path::Path;

fn compile(wasm: &[u8], migration: bool, opt_level: OptLevel) -> Vec<CompiledFunction> {
    let module = Module::parse(wasm, "test").expect("valid");
    let settings = Settings {
        migration,
        opt_level,
        want_clif: true,
        ..Settings::default()
    };
    let prepared = prepare(&module, &settings).expect("prepares");
    let mut c = FunctionCompiler::new(&module, &settings, &prepared).expect("sets up");
    let all: Vec<u32> = (0..module.num_codes()).collect();
    c.compile(&all).into_iter().map(|f| f.expect("compiles")).collect()
}

fn show_points(p: &FunctionPoints) -> String {
    let mut out = format!("; record: {} bytes\n", p.record_size);
    let home = |k: u32| {
        let h = &p.homes[k as usize];
        match h.kind {
            HomeKind::Context => "ctx".to_string(),
            HomeKind::Slot(Slot::Local(i)) => format!("local{i}:{}@{}", h.ty, h.offset),
            HomeKind::Slot(Slot::Stack(i)) => format!("stack{i}:{}@{}", h.ty, h.offset),
        }
    };
    for point in p.points() {
        let live: Vec<String> = p.live_at(point).into_iter().map(home).collect();
        let _ = writeln!(
            out,
            "; {:#06x} {:?} {:?} [{}]",
            point.offset,
            point.kind,
            point.callee,
            live.join(" ")
        );
    }
    out
}

#[test]
fn golden_clif() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bless = std::env::var_os("BLESS").is_some();
    let mut names: Vec<_> = std::fs::read_dir(&dir)
        .expect("golden/")
        .map(|e| e.expect("entry").path())
        .collect();
    names.sort();
    let mut seen = 0;
    for wat in names.iter().filter(|p| p.extension().is_some_and(|e| e == "wat")) {
        let wasm = wat::parse_file(wat).expect("test module");
        let mut text = String::new();
        for f in compile(&wasm, true, OptLevel::O2) {
            let _ = writeln!(
                text,
                ";; code {}\n{}{}",
                f.code_index,
                show_points(&f.points),
                f.clif.as_deref().unwrap_or("")
            );
        }
        let golden = wat.with_extension("clif");
        if bless {
            std::fs::write(&golden, &text).expect("writes golden file");
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert!(
            text == expected,
            "{} differs from {}; BLESS=1 writes it anew\n{text}",
            wat.display(),
            golden.display()
        );
        seen += 1;
    }
    assert!(seen >= 8, "golden modules are missing");
}

#[test]
fn points_do_not_depend_on_the_optimisation_level() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for entry in std::fs::read_dir(dir).expect("golden/") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|e| e == "wat") {
            let wasm = wat::parse_file(&path).expect("test module");
            let best = compile(&wasm, true, OptLevel::O2);
            for level in [OptLevel::O0, OptLevel::O1] {
                let other = compile(&wasm, true, level);
                assert!(
                    best.iter().zip(&other).all(|(a, b)| a.points == b.points),
                    "{} at {level:?}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn without_migration_there_are_no_points_and_no_records() {
    let wasm =
        wat::parse_file(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/recursion.wat")).expect("test module");
    for f in compile(&wasm, false, OptLevel::O2) {
        assert_eq!(f.points, FunctionPoints::default());
        assert!(!f.clif.as_deref().unwrap_or("").contains("stack_addr"));
    }
}

#[test]
fn every_function_has_both_architectures_and_its_sites() {
    let wasm =
        wat::parse_file(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/recursion.wat")).expect("test module");
    for f in compile(&wasm, true, OptLevel::O2) {
        assert_eq!(f.machine.len(), 2);
        for m in &f.machine {
            let wasm_of_calls: Vec<u32> = m
                .sites
                .iter()
                .filter(|s| s.kind == dunlin_format::framemap::SiteKind::Call)
                .map(|s| s.wasm)
                .collect();
            for p in f.points.points() {
                assert!(wasm_of_calls.contains(&p.offset), "{}: no call site for {p:?}", m.arch);
            }
        }
    }
}
