;; Operands of every type under a call, constants on both sides of it, and a dead local that is not saved.
(module
  (func $f (param i32) (result i32) (local.get 0))
  (func (export "run") (param $a i32) (param $dead i64) (result f64)
    (f64.const 1.5)
    (f32.const 2.5)
    (i64.const 7)
    (call $f (i32.add (local.get $a) (i32.const 12345)))
    (call $f (i32.const 12345))
    i32.add
    i64.extend_i32_u
    i64.add
    f32.convert_i64_s
    f32.add
    f64.promote_f32
    f64.add))
