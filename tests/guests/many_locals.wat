;;! Parameters and locals of every type, uninitialised ones included, changed between calls.
;;! stdout: eeca708670502e60
(module
  ;;prelude
  (func $f (param $a i32) (param $b i64) (param $c f32) (param $d f64) (result i64)
    (local $e i32) (local $f i64) (local $g f32) (local $h f64) (local $never i64) (local $late f64)
    (call $tick)
    (local.set $e (i32.add (local.get $a) (i32.const 5)))
    (local.set $g (f32.mul (local.get $c) (f32.const 3)))
    (call $tick)
    (if (i32.and (local.get $a) (i32.const 1))
      (then (local.set $f (i64.add (local.get $b) (i64.const 9))) (call $tick) (local.set $a (i32.const 77)))
      (else (local.set $h (f64.mul (local.get $d) (f64.const 0.5))) (local.set $late (f64.const 2.5))))
    (call $tick)
    (local.set $late (f64.add (local.get $late) (local.get $h)))
    (call $tick)
    (i64.reinterpret_f64 (local.get $late))
    (i64.extend_i32_u (i32.reinterpret_f32 (local.get $g)))
    i64.add
    (i64.extend_i32_u (i32.add (local.get $a) (local.get $e)))
    i64.add
    (local.get $f) i64.add (local.get $never) i64.add
    (i64.reinterpret_f64 (local.get $h)) i64.xor)
  (func (export "_start") (local $i i32) (local $s i64)
    (loop $again
      (local.set $s (i64.add (i64.mul (local.get $s) (i64.const 31))
        (call $f (local.get $i) (i64.extend_i32_u (local.get $i)) (f32.convert_i32_u (local.get $i)) (f64.convert_i32_u (local.get $i)))))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 40))))
    (call $print (local.get $s))))
