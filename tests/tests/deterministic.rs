//! `dunlin build --deterministic`: every NaN that arithmetic produces is the canonical one, whatever the processor
//! makes of it.

use dunlin_format::arch::Arch;
use dunlin_tests::moves::{growing, ping_pong};
use dunlin_tests::process::Input;
use dunlin_tests::program::{Program, scratch};

/// NaNs from nothing and from operands with payloads and signs, scalar and vector; and some that must stay as they are.
const NANS: &str = r#"(module
  ;;prelude
  (func $f32 (param f32) (call $print32 (i32.reinterpret_f32 (local.get 0))))
  (func $f64 (param f64) (call $print (i64.reinterpret_f64 (local.get 0))))
  (func $vector (param $v v128)
    (call $print (i64x2.extract_lane 1 (local.get $v)))
    (call $print (i64x2.extract_lane 0 (local.get $v))))
  (func (export "_start") (local $zero f64) (local $small f32) (local $v v128) (local $nan f64)
    (local.set $nan (f64.const -nan:0xc000000000001))
    (call $f64 (f64.div (local.get $zero) (local.get $zero)))
    (call $f64 (f64.sqrt (f64.sub (local.get $zero) (f64.const 1))))
    (call $f64 (f64.add (local.get $nan) (f64.const nan:0x8000000000002)))
    (call $f64 (f64.min (f64.const 1) (local.get $nan)))
    (call $f64 (f64.ceil (local.get $nan)))
    (call $f32 (f32.demote_f64 (local.get $nan)))
    (call $f64 (f64.promote_f32 (f32.const -nan:0x412345)))
    (call $f32 (f32.sub (f32.add (local.get $small) (f32.const inf)) (f32.const inf)))
    (call $f64 (f64.neg (local.get $nan)))
    (call $f64 (f64.abs (local.get $nan)))
    (call $f64 (f64.copysign (local.get $nan) (local.get $zero)))
    (call $vector (f32x4.div (local.get $v) (v128.const f32x4 0 1 -nan:0x412345 inf)))
    (call $vector (f64x2.mul (f64x2.splat (local.get $zero)) (v128.const f64x2 inf 3)))
    (call $vector (f64x2.promote_low_f32x4 (v128.const f32x4 -nan:0x412345 1 0 0)))
    (call $vector (f32x4.demote_f64x2_zero (v128.const f64x2 -nan:0xc000000000001 1)))
    (call $vector (f64x2.relaxed_madd (v128.const f64x2 inf 1) (local.get $v) (v128.const f64x2 -nan:0xc000000000001 2)))
    (call $vector (f64x2.pmin (v128.const f64x2 -nan:0xc000000000001 1) (local.get $v)))))"#;

const EXPECTED: &str = "\
7ff8000000000000
7ff8000000000000
7ff8000000000000
7ff8000000000000
7ff8000000000000
000000007fc00000
7ff8000000000000
000000007fc00000
7ffc000000000001
7ffc000000000001
7ffc000000000001
000000007fc00000
000000007fc00000
0000000000000000
7ff8000000000000
3ff0000000000000
7ff8000000000000
0000000000000000
3f8000007fc00000
4000000000000000
7ff8000000000000
0000000000000000
fffc000000000001
";

fn build(options: &[&str]) -> Program {
    let dir = scratch();
    let module = dir.path().join("nans.wat");
    let prelude = dunlin_tests::tools::root().join("tests/guests/prelude.wat.inc");
    let prelude = std::fs::read_to_string(prelude).expect("the prelude is readable");
    std::fs::write(&module, NANS.replace("  ;;prelude\n", &prelude)).expect("scratch space is writable");
    Program::build_with(&module, options)
}

#[test]
fn nans_are_canonical_at_every_level() {
    for level in ["-O0", "-O1", "-O2"] {
        let program = build(&["--deterministic", level]);
        for arch in Arch::ALL {
            assert_eq!(
                program.on(arch).output().expect_code(0).out(),
                EXPECTED,
                "{level} on {arch}"
            );
        }
    }
}

#[test]
fn and_stay_so_on_the_move() {
    let program = build(&["--deterministic"]);
    for arch in Arch::ALL {
        let forced = program.on(arch).forced(1).output();
        assert_eq!(forced.expect_code(0).out(), EXPECTED, "forced on {arch}");
        let journey = ping_pong(arch, growing(12), |arch| program.on(arch), || Input::Empty);
        assert_eq!(
            String::from_utf8_lossy(&journey.stdout),
            EXPECTED,
            "{} moves",
            journey.moves
        );
    }
}

/// Else the tests above would show nothing: without the option the two processors' own NaNs come out, and they differ.
#[test]
fn without_the_option_processors_differ() {
    let program = build(&[]);
    let [one, other] = Arch::ALL.map(|arch| program.on(arch).output().out());
    assert_ne!(one, other);
    assert_eq!(one.lines().count(), EXPECTED.lines().count());
    assert_eq!(other.lines().count(), EXPECTED.lines().count());
}
