;;! Every relaxed operator where implementations may choose: always the deterministic profile's result.
;;! stdout: 0000000000000000
;;! stdout: 0000000000000f00
;;! stdout: 000000007fffffff
;;! stdout: 800000007fffffff
;;! stdout: 00000000ffffffff
;;! stdout: 00000000ffffffff
;;! stdout: 0000000000000000
;;! stdout: 000000007fffffff
;;! stdout: 0000000000000000
;;! stdout: ffffffff00000000
;;! stdout: 0000000000000000
;;! stdout: 0000000000000000
;;! stdout: 0000000000000000
;;! stdout: 0000000000000000
;;! stdout: 0000000000000000
;;! stdout: 0000000000000000
;;! stdout: 0000000000000000
;;! stdout: 0000000000000000
;;! stdout: cccccccccccccccc
;;! stdout: 55cc55cc55cc55cc
;;! stdout: 8000000080000000
;;! stdout: 0000000000000000
;;! stdout: 80017fff7fff8001
;;! stdout: 7fff7fff7fff7fff
;;! stdout: 00007d837f007fff
;;! stdout: 0000000000007f00
;;! stdout: 00007d870000ff02
;;! stdout: 0000000200007f01
(module
  ;;prelude
  (func $show (param $v v128)
    (call $tick)
    (call $print (i64x2.extract_lane 1 (local.get $v)))
    (call $print (i64x2.extract_lane 0 (local.get $v))))
  (func (export "_start") (local $x v128) (local $e v128)
    ;; Indices of 16 and more.
    (call $show (i8x16.relaxed_swizzle (v128.const i8x16 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
      (v128.const i8x16 16 15 17 31 32 64 127 -128 -1 20 21 22 23 24 25 26)))
    ;; NaN and out of range.
    (call $show (i32x4.relaxed_trunc_f32x4_s (v128.const f32x4 3e9 -inf inf nan)))
    (call $show (i32x4.relaxed_trunc_f32x4_u (v128.const f32x4 5e9 -1 inf nan)))
    (call $show (i32x4.relaxed_trunc_f64x2_s_zero (v128.const f64x2 3e9 nan)))
    (call $show (i32x4.relaxed_trunc_f64x2_u_zero (v128.const f64x2 -1 1e300)))
    ;; x * x - y where x * x rounds to y: 0 when rounded twice, not when rounded once.
    (local.set $x (v128.const f32x4 0x1.000002p0 0x1.000002p0 0x1.000002p0 0x1.000002p0))
    (local.set $e (v128.const f32x4 -0x1.000004p0 -0x1.000004p0 -0x1.000004p0 -0x1.000004p0))
    (call $show (f32x4.relaxed_madd (local.get $x) (local.get $x) (local.get $e)))
    (call $show (f32x4.relaxed_nmadd (local.get $x) (local.get $x) (f32x4.neg (local.get $e))))
    (local.set $x (v128.const f64x2 0x1.0000000000001p0 0x1.0000000000001p0))
    (local.set $e (v128.const f64x2 -0x1.0000000000002p0 -0x1.0000000000002p0))
    (call $show (f64x2.relaxed_madd (local.get $x) (local.get $x) (local.get $e)))
    (call $show (f64x2.relaxed_nmadd (local.get $x) (local.get $x) (f64x2.neg (local.get $e))))
    ;; A mask of mixed bits.
    (call $show (i16x8.relaxed_laneselect
      (v128.const i64x2 0x5555555555555555 0xffffffffffffffff) (v128.const i64x2 0xcccccccccccccccc 0xcccccccccccccccc)
      (v128.const i64x2 0xff00ff00ff00ff00 0)))
    ;; Zeros of both signs: min is -0, whatever the order.
    (call $show (f32x4.relaxed_min
      (f32x4.relaxed_max (v128.const f32x4 -0 0 -0 0) (v128.const f32x4 0 -0 0 -0)) (v128.const f32x4 0 0 -0 -0)))
    ;; -1 * -1.
    (call $show (i16x8.relaxed_q15mulr_s
      (v128.const i16x8 -32768 -32768 -32768 -32768 32767 -32768 -32768 -32768)
      (v128.const i16x8 -32768 -32768 -32768 -32768 -32768 -32768 -32768 32767)))
    ;; Lanes of the second operand that are negative; sums beyond 16 bits.
    (local.set $x (v128.const i8x16 -128 -128 0 0 0 0 0 0 -128 -128 -128 -128 126 127 0 0))
    (local.set $e (v128.const i8x16 -127 -127 0 0 0 0 0 0 -128 -128 -127 -127 127 127 0 0))
    (call $show (i16x8.relaxed_dot_i8x16_i7x16_s (local.get $x) (local.get $e)))
    (call $show (i32x4.relaxed_dot_i8x16_i7x16_add_s (local.get $x) (local.get $e) (v128.const i32x4 1 2 3 4)))))
