;;! A loop that runs while values of all types wait below it on the operand stack.
;;! stdout: 95bf1aae08fee60c
(module
  ;;prelude
  (func $under (param $n i32) (result i64) (local $i i32) (local $a i64)
    (i64.const 3) (f64.convert_i32_u (local.get $n)) (f32.const 0.25) (local.get $n)
    (loop $hot
      (local.set $a (i64.add (i64.mul (local.get $a) (i64.const 5)) (i64.extend_i32_u (local.get $i))))
      (br_if $hot (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    f32.convert_i32_u
    f32.mul
    f64.promote_f32
    f64.add
    i64.reinterpret_f64
    i64.mul
    (local.get $a)
    i64.xor)
  (func (export "_start") (local $i i32) (local $h i64)
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (call $under (local.get $i))))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 3))) (i32.const 60))))
    (call $print (local.get $h))))
