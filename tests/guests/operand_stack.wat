;;! Values of all four types on the operand stack while calls run above them.
;;! stdout: b681d888b1ac726b
(module
  ;;prelude
  (func $rise (param i32) (result i32) (call $tick) (i32.mul (local.get 0) (i32.const 3)))
  (func $mixed (param $n i32) (result i64)
    (local.get $n)
    (i64.extend_i32_u (i32.mul (local.get $n) (i32.const 77)))
    (f32.convert_i32_u (local.get $n))
    (f64.convert_i32_u (call $rise (local.get $n)))
    (call $tick)
    (f64.const 1.5)
    (call $tick)
    f64.mul
    (call $tick)
    i64.reinterpret_f64
    (local.set $n (call $rise (local.get $n)))
    (call $tick)
    (i64.const 13)
    i64.rotl
    (call $bits)
    i64.xor
    i64.add
    (call $tick)
    (i64.extend_i32_u (local.get $n))
    i64.xor
    (call $shrink))
  ;; (f32, i64) -> (i64, i64)
  (func $bits (param f32 i64) (result i64 i64)
    (call $tick)
    (i64.extend_i32_u (i32.reinterpret_f32 (local.get 0)))
    (call $tick)
    (local.get 1))
  (func $shrink (param i32 i64) (result i64)
    (call $tick)
    (i64.mul (i64.extend_i32_u (local.get 0)) (local.get 1)))
  (func (export "_start") (local $i i32) (local $h i64)
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (call $mixed (local.get $i))))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 50))))
    (call $print (local.get $h))))
