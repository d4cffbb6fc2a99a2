;;! v128 locals across calls and polls, one of them never set, and as a loop's parameter and a block's result.
;;! stdout: fa70f5b1d6f5cb4f
;;! stdout: 4f622dbd243142cf
;;! stdout: 45d35e97da2239c2
;;! stdout: 4544aac534bd16d8
;;! stdout: 0000000000000000
;;! stdout: 0000000000000000
(module
  ;;prelude
  (func $print_vector (param $v v128)
    (call $print (i64x2.extract_lane 1 (local.get $v)))
    (call $print (i64x2.extract_lane 0 (local.get $v))))
  (func $mix (param $x v128) (param $y v128) (result v128)
    (call $tick)
    (i32x4.add (i32x4.mul (local.get $x) (v128.const i32x4 3 5 7 9)) (local.get $y)))
  (func (export "_start") (local $n i32) (local $a v128) (local $d f64) (local $b v128) (local $zero v128)
    (local.set $a (v128.const i32x4 1 2 3 4))
    (v128.const i64x2 0x0123456789abcdef 0x7766554433221100)
    (loop $again (param v128) (result v128)
      (local.set $b)
      (local.set $a (call $mix (local.get $a) (i32x4.splat (local.get $n))))
      (call $tick)
      (local.set $d (f64.add (local.get $d) (f64.const 1)))
      (block $out (result v128)
        (v128.xor (local.get $b) (local.get $a))
        (br_if $out (i32.and (local.get $n) (i32.const 1)))
        (call $tick)
        (i16x8.sub (local.get $b)))
      (local.set $zero (v128.or (local.get $zero) (v128.and (local.get $zero) (local.get $a))))
      (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 30))))
    (call $print_vector)
    (call $print_vector (local.get $a))
    (call $print_vector (local.get $zero))))
