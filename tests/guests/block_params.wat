;;! Blocks, loops and ifs with parameters and several results; branches that carry values.
;;! stdout: 67a9b42d4c957f2e
;;! stdout: 4e83a2e513820e5c
;;! stdout: 5ba6ccc915c89f08
(module
  ;;prelude
  ;; A loop whose state is its parameters: n, a (i64), b (f64).
  (func $looped (param $n i32) (result i64)
    (local $t i32) (local $a i64) (local $b f64)
    (local.get $n) (i64.const 1) (f64.const 0.5)
    (loop $again (param i32 i64 f64) (result i64 f64)
      (local.set $b) (local.set $a) (local.set $t)
      (call $tick)
      (i32.sub (local.get $t) (i32.const 1))
      (i64.add (i64.mul (local.get $a) (i64.const 6364136223846793005)) (i64.extend_i32_u (local.get $t)))
      (f64.add (f64.mul (local.get $b) (f64.const 1.03125)) (f64.const 1))
      (br_if $again (i32.gt_u (local.get $t) (i32.const 1)))
      (local.set $b) (local.set $a) drop
      (local.get $a) (local.get $b))
    i64.reinterpret_f64
    i64.xor)
  (func $chosen (param $n i32) (result i64)
    (i64.const 100) (i32.const 7) (f32.const 2.5)
    (block $out (param i64 i32 f32) (result i64)
      (call $tick)
      (if (param i64 i32 f32) (result i64 i32) (i32.and (local.get $n) (i32.const 1))
        (then (call $tick) i32.trunc_f32_s i32.add)
        (else drop (call $tick) (i32.mul (local.get $n))))
      (call $tick)
      i64.extend_i32_s
      i64.add
      (br_if $out (i32.and (local.get $n) (i32.const 2)))
      (call $tick)
      (i64.const 5)
      i64.mul))
  (func (export "_start") (local $i i32) (local $h i64)
    (call $print (call $looped (i32.const 1)))
    (call $print (call $looped (i32.const 60)))
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31)) (call $chosen (local.get $i))))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 40))))
    (call $print (local.get $h))))
