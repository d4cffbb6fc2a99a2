;;! Results and parameters of both classes beyond registers: one that travels in a slot comes before one in a register.
;;! stdout: 00008be8bfafe2fa
(module
  ;;prelude
  (func $results (param i64) (result i64 i64 i64 f64 i64 f64 f64 f32)
    (call $tick)
    (local.get 0) (i64.const 2) (i64.const 3) (f64.const 4) (i64.const 5) (f64.const 6) (f64.const 7) (f32.const 8))
  (func $params (param i64 i64 i64 i64 i64 i64 i64 f64 i64 f32) (result i64)
    (call $tick)
    (i64.add (i64.mul (local.get 6) (i64.const 1000)) (i64.add (local.get 8) (i64.trunc_f64_s (f64.sub (local.get 7) (f64.promote_f32 (local.get 9)))))))
  (func (export "_start")
    (local $i i64) (local $sum i64) (local $f f64)
    (loop $l
      (call $results (local.get $i))
      (local.set $f (f64.promote_f32))
      (local.set $f (f64.add (f64.mul (local.get $f) (f64.const 3))))
      (local.set $f (f64.add (f64.mul (local.get $f) (f64.const 3))))
      (local.set $sum (i64.add (local.get $sum)))
      (local.set $f (f64.add (f64.mul (local.get $f) (f64.const 3))))
      (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 3))))
      (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 3))))
      (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 3))))
      (local.set $sum (i64.add (local.get $sum) (i64.add (i64.trunc_f64_s (local.get $f))
        (call $params (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4) (i64.const 5) (i64.const 6) (local.get $i) (f64.const 8.5)
          (i64.const 9) (f32.const 0.25)))))
      (br_if $l (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 1))) (i64.const 9))))
    (call $print (local.get $sum))))
