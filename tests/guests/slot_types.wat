;;! One operand-stack position that holds values of different types at different points.
;;! stdout: 3e191b983a5b9ca8
(module
  ;;prelude
  (func $one (param $n i32) (result i64)
    (i32.mul (local.get $n) (i32.const 3)) (call $tick)
    (if (result f64) (i32.and (i32.const 2))
      (then (f64.convert_i32_u (local.get $n)) (call $tick) (f64.const 0.5) (call $tick) f64.mul)
      (else (f32.convert_i32_u (local.get $n)) (call $tick) f64.promote_f32))
    (call $tick)
    i64.trunc_f64_u
    (call $tick)
    (i64.extend_i32_u (local.get $n)) (call $tick) (f32.const 2) (call $tick) drop
    i64.add)
  (func (export "_start") (local $i i32) (local $h i64)
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (call $one (local.get $i))))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 40))))
    (call $print (local.get $h))))
