;;! v128 in globals and in memory, at odd addresses too; NaN lanes keep every bit.
;;! stdout: 7b2b1a08e7452302
;;! stdout: c3b2a19076543211
;;! stdout: fff4deadbeef0001
;;! stdout: 7fa12345ffc00001
;;! stdout: 0123456789abcdef
;;! stdout: b2c48e896d3ceae0
;;! stdout: e896a55c0edd8fbe
(module
  ;;prelude
  (global $i (mut i32) (i32.const 0))
  (global $g (mut v128) (v128.const i32x4 1 0 0 0x80000000))
  (global $d (mut f64) (f64.const 0))
  (global $nan (mut v128) (v128.const i32x4 0xffc00001 0x7fa12345 0xbeef0001 0xfff4dead))
  (global $fixed v128 (v128.const i64x2 0x0123456789abcdef 0x1032547698badcfe))
  (func $print_vector (param $v v128)
    (call $print (i64x2.extract_lane 1 (local.get $v)))
    (call $print (i64x2.extract_lane 0 (local.get $v))))
  (func $keep (param v128) (result v128) (call $tick) (local.get 0))
  (func (export "_start")
    (loop $again
      (global.set $g (i64x2.add (i32x4.add (global.get $g) (global.get $g)) (global.get $fixed)))
      (call $tick)
      (global.set $nan (call $keep (global.get $nan)))
      (global.set $d (f64.add (global.get $d) (f64.const 1)))
      ;; Neither address is aligned; the second access wraps over two pages.
      (v128.store offset=101 (global.get $i) (v128.xor (v128.load offset=100 (global.get $i)) (global.get $g)))
      (v128.store offset=65528 (i32.const 1) (i8x16.add (v128.load offset=65528 (i32.const 1)) (global.get $g)))
      (call $tick)
      (v128.store32_lane offset=103 2 (global.get $i) (v128.load8x8_s offset=65530 (i32.const 0)))
      (global.set $i (i32.add (global.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (global.get $i) (i32.const 30))))
    (call $print_vector (global.get $g))
    (call $print_vector (global.get $nan))
    (call $print (i64x2.extract_lane 0 (global.get $fixed)))
    (call $print_vector (v128.xor (v128.load (i32.const 110)) (v128.load offset=65528 (i32.const 1))))))
