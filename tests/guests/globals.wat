;;! Mutable globals of every type.
;;! stdout: 0000000062136422
;;! stdout: fcace4ebbc02a9a6
;;! stdout: 0000000043380002
;;! stdout: 407600005ca4a8a8
;;! stdout: 00000000000000c8
(module
  ;;prelude
  (global $a (mut i32) (i32.const 1))
  (global $b (mut i64) (i64.const 2))
  (global $c (mut f32) (f32.const 3))
  (global $d (mut f64) (f64.const 4))
  (global $fixed i64 (i64.const 0x1234567))
  (func $step (param $n i32)
    (global.set $a (i32.add (i32.mul (global.get $a) (i32.const 5)) (local.get $n)))
    (call $tick)
    (global.set $b (i64.xor (i64.mul (global.get $b) (i64.const 7)) (i64.extend_i32_u (global.get $a))))
    (global.set $c (f32.add (f32.mul (global.get $c) (f32.const 0.75)) (f32.convert_i32_u (local.get $n))))
    (call $tick)
    (global.set $d (f64.div (f64.add (global.get $d) (f64.promote_f32 (global.get $c))) (f64.const 1.5))))
  (func (export "_start") (local $i i32)
    (loop $again
      (call $step (local.get $i))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 50))))
    (call $print32 (global.get $a))
    (call $print (i64.add (global.get $b) (global.get $fixed)))
    (call $print32 (i32.reinterpret_f32 (global.get $c)))
    (call $print (i64.reinterpret_f64 (global.get $d)))
    (call $print32 (global.get $ticks))))
