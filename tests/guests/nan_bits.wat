;;! NaN payloads in locals, on the operand stack, in globals and in memory keep every bit.
;;! stdout: 000000007fa12345
;;! stdout: fff4deadbeef0001
;;! stdout: 00000000ffc00001
;;! stdout: 7ff0000000000001
;;! stdout: 000000007f800001
;;! stdout: fff8000000000000
(module
  ;;prelude
  (global $g (mut f32) (f32.const 0))
  (global $k (mut f64) (f64.const 0))
  (func $keep (param f32 f64) (result f32 f64) (call $tick) (local.get 0) (local.get 1))
  (func (export "_start") (local $f f32) (local $d f64) (local $i i32)
    (local.set $f (f32.reinterpret_i32 (i32.const 0x7fa12345)))
    (local.set $d (f64.reinterpret_i64 (i64.const 0xfff4deadbeef0001)))
    (global.set $g (f32.const -nan:0x400001))
    (global.set $k (f64.const nan:0x1))
    (f32.store (i32.const 100) (f32.const nan:0x1))
    (f64.store (i32.const 104) (f64.const -nan))
    (loop $again
      (call $keep (local.get $f) (local.get $d))
      (call $tick)
      (local.set $d)
      (call $tick)
      (local.set $f)
      (call $keep (global.get $g) (global.get $k))
      (global.set $k)
      (global.set $g)
      (f64.store (i32.const 104) (f64.load (i32.const 104)))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 20))))
    (call $print32 (i32.reinterpret_f32 (local.get $f)))
    (call $print (i64.reinterpret_f64 (local.get $d)))
    (call $print32 (i32.reinterpret_f32 (global.get $g)))
    (call $print (i64.reinterpret_f64 (global.get $k)))
    (call $print32 (i32.load (i32.const 100)))
    (call $print (i64.load (i32.const 104)))))
