;;! More v128 parameters and results than there are registers, mixed with other types; through a table too.
;;! stdout: 620e20261e1a1c2a
;;! stdout: 0c090df9100b1227
;;! stdout: 82391f857149f5ac
(module
  ;;prelude
  (type $many (func (param i32 v128 f64 v128 v128 i64 v128 v128 f32 v128 v128 v128 v128 v128 i32) (result v128 i32 v128 f64 v128 v128 i64)))
  (table funcref (elem $many $other))
  (func $many (type $many)
    (call $tick)
    (i32x4.add (local.get 1) (local.get 3))
    (i32.add (local.get 0) (local.get 14))
    (i32x4.sub (local.get 4) (local.get 6))
    (call $tick)
    (f64.add (local.get 2) (f64.promote_f32 (local.get 8)))
    (v128.xor (local.get 7) (v128.xor (local.get 9) (local.get 10)))
    (i16x8.add (local.get 11) (i16x8.add (local.get 12) (local.get 13)))
    (i64.add (local.get 5) (i64.const 7)))
  (func $other (type $many)
    (if (i32.gt_s (local.get 14) (i32.const 0))
      (then (return (call_indirect (type $many)
        (i32.add (local.get 0) (i32.const 1)) (local.get 13) (local.get 2) (local.get 1) (local.get 3) (local.get 5) (local.get 4)
        (local.get 6) (local.get 8) (local.get 7) (local.get 9) (local.get 10) (local.get 11) (local.get 12)
        (i32.sub (local.get 14) (i32.const 1)) (i32.const 1)))))
    (call_indirect (type $many)
      (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5) (local.get 6) (local.get 7) (local.get 8)
      (local.get 9) (local.get 10) (local.get 11) (local.get 12) (local.get 13) (i32.const 5) (i32.const 0)))
  (func (export "_start") (local $i i32) (local $a v128) (local $n i64) (local $d f64)
    (loop $again
      (call_indirect (type $many)
        (local.get $i) (v128.const i32x4 1 2 3 4) (f64.const 0.5) (v128.const i32x4 5 6 7 8) (i32x4.splat (local.get $i))
        (i64.const 11) (v128.const i64x2 1 -1) (local.get $a) (f32.const 0.25) (v128.const i8x16 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
        (v128.not (local.get $a)) (v128.const i64x2 3 4) (i8x16.splat (local.get $i)) (v128.const i16x8 8 7 6 5 4 3 2 1)
        (i32.and (local.get $i) (i32.const 7)) (i32.const 1))
      (local.set $n (i64.add (local.get $n)))
      v128.xor
      (local.set $a)
      (local.set $d (f64.add (local.get $d)))
      (call $tick)
      (local.set $a (i32x4.add (local.get $a)))
      i64.extend_i32_u
      (local.set $n (i64.mul (i64.add (local.get $n)) (i64.const 31)))
      (local.set $a (i16x8.sub (local.get $a)))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 20))))
    (call $print (i64.xor (i64x2.extract_lane 1 (local.get $a)) (i64.reinterpret_f64 (local.get $d))))
    (call $print (i64x2.extract_lane 0 (local.get $a)))
    (call $print (local.get $n))))
