;; A loop with a call: what it doesn't assign ($k) is stored once, before the loop.
(module
  (memory 1)
  (func $f (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "run") (param $n i32) (param $k i32) (result i32) (local $s i32)
    (loop $l
      (local.set $s (i32.add (local.get $s) (i32.mul (local.get $k) (call $f (local.get $n)))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 4)))))
    (local.get $s)))
