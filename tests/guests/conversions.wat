;;! Sign extension and saturating conversions, with operands that crossed a point.
;;! stdout: 00007ffffffe0000
;;! stdout: 00000000dad7d528
;;! stdout: 00007fef77dc2000
;;! stdout: 0000024f94a4e970
;;! stdout: 000027cc01c23a00
;;! stdout: 000cb6b773f844c0
;;! stdout: 01ddf45fee88fe00
;;! stdout: 47ae5176f05be000
;;! stdout: 1d3c81cd83fffef0
;;! stdout: 0717b7038741eec8
;;! stdout: 15e3a183bfff4ab0
;;! stdout: 3a5b95ab480ecc18
;;! stdout: 0000400002000080
;;! stdout: 00003c010201e080
;;! stdout: 0000400002000080
;;! stdout: 00003c010201e080
;;! stdout: 0000000000000000
;;! stdout: 0000400002000080
;;! stdout: 00003c010201e080
(module
  ;;prelude
  (func $all (param $x f64) (result i64) (local $h i64)
    (local.set $h (i64.trunc_sat_f64_s (local.get $x)))
    (call $tick)
    (local.set $h (i64.xor (i64.rotl (local.get $h) (i64.const 5)) (i64.trunc_sat_f64_u (local.get $x))))
    (call $tick)
    (local.set $h (i64.xor (i64.rotl (local.get $h) (i64.const 5)) (i64.extend_i32_u (i32.trunc_sat_f64_s (local.get $x)))))
    (local.set $h (i64.xor (i64.rotl (local.get $h) (i64.const 5)) (i64.extend_i32_u (i32.trunc_sat_f64_u (local.get $x)))))
    (call $tick)
    (local.set $h (i64.xor (i64.rotl (local.get $h) (i64.const 5)) (i64.trunc_sat_f32_s (f32.demote_f64 (local.get $x)))))
    (local.set $h (i64.xor (i64.rotl (local.get $h) (i64.const 5)) (i64.trunc_sat_f32_u (f32.demote_f64 (local.get $x)))))
    (call $tick)
    (local.set $h (i64.add (local.get $h) (i64.extend8_s (local.get $h))))
    (local.set $h (i64.add (local.get $h) (i64.extend16_s (local.get $h))))
    (call $tick)
    (local.set $h (i64.add (local.get $h) (i64.extend32_s (local.get $h))))
    (i64.add (local.get $h) (i64.extend_i32_u (i32.add
      (i32.extend8_s (i32.wrap_i64 (local.get $h))) (i32.extend16_s (i32.wrap_i64 (local.get $h)))))))
  (func (export "_start") (local $i i32) (local $x f64)
    (local.set $x (f64.const -1.5))
    (loop $again
      (call $print (call $all (local.get $x)))
      (local.set $x (f64.mul (local.get $x) (f64.const -37.25)))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 16))))
    (call $print (call $all (f64.const nan)))
    (call $print (call $all (f64.const -inf)))
    (call $print (call $all (f64.const inf)))))
