;; Five results: two in registers, the rest through the context; a loop with parameters.
(module
  (func $five (result i32 i64 i32 f64 i32)
    (i32.const 1) (i64.const 2) (i32.const 3) (f64.const 4) (i32.const 5))
  (func (export "run") (param $n i32) (result i32 i32 i32)
    (local $x i32)
    (i32.const 10) (i32.const 20)
    (loop $l (param i32 i32) (result i32 i32)
      (i32.add (i32.const 1))
      (local.set $x)
      (call $five) drop drop drop drop drop
      (local.get $x)
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (i32.const 3)))
