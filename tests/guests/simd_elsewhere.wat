;;! v128 in a second memory with 64-bit addresses, in tail calls beyond registers, and thrown.
;;! stdout: 414214000041420f
;;! stdout: 000041420a000041
;;! stdout: 0000000000000000
;;! stdout: 0000002d00000000
;;! stdout: 02cb02c302bb02b3
;;! stdout: 02ab02a3029b0293
;;! stdout: 000001e000000168
;;! stdout: 000000f000000078
;;! stdout: fffffffffffffffe
;;! stdout: ffffffffffffffff
;;! stdout: 0000000000000007
(module
  ;;prelude
  (memory $big i64 2)
  (tag $thrown (param v128 i32 v128))
  (func $print_vector (param $v v128)
    (call $print (i64x2.extract_lane 1 (local.get $v)))
    (call $print (i64x2.extract_lane 0 (local.get $v))))
  (func $fill (local $i i64)
    (loop $again
      (v128.store $big offset=65530 (local.get $i) (i64x2.splat (local.get $i)))
      (call $tick)
      (v128.store16_lane $big offset=65531 3 (local.get $i) (v128.const i16x8 1 2 3 0x4142 5 6 7 8))
      (br_if $again (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 5))) (i64.const 50)))))
  (func $rotate (param $n i32) (param $a v128) (param $b v128) (param $c v128) (param $d v128) (param $e v128) (param $f v128)
    (param $g v128) (param $h v128) (param $i v128) (param $j v128) (result v128)
    (if (i32.eqz (local.get $n)) (then (return (local.get $a))))
    (call $tick)
    (return_call $rotate (i32.sub (local.get $n) (i32.const 1)) (i16x8.add (local.get $a) (local.get $b)) (local.get $c)
      (local.get $d) (local.get $e) (local.get $f) (local.get $g) (local.get $h) (local.get $i) (local.get $j) (local.get $a)))
  (func $throw (param $n i32) (param $v v128)
    (if (i32.eqz (local.get $n))
      (then (throw $thrown (local.get $v) (i32.const 7) (v128.const i64x2 -1 -2))))
    (call $tick)
    (call $throw (i32.sub (local.get $n) (i32.const 1)) (i32x4.add (local.get $v) (v128.const i32x4 1 2 3 4)))
    (call $tick))
  (func (export "_start") (local $n i32) (local $v v128)
    (call $fill)
    (call $print_vector (v128.load $big offset=65537 (i64.const 0)))
    (call $print_vector (v128.load64_zero $big (i64.const 65579)))
    (call $print_vector (call $rotate (i32.const 25)
      (i16x8.splat (i32.const 1)) (i16x8.splat (i32.const 2)) (i16x8.splat (i32.const 3)) (i16x8.splat (i32.const 4))
      (i16x8.splat (i32.const 5)) (i16x8.splat (i32.const 6)) (i16x8.splat (i32.const 7)) (i16x8.splat (i32.const 8))
      (i16x8.splat (i32.const 9)) (v128.const i16x8 1 2 3 4 5 6 7 8)))
    (block $caught (result v128 i32 v128)
      (try_table (catch $thrown $caught)
        (call $throw (i32.const 20) (v128.const i32x4 100 200 300 400)))
      unreachable)
    (call $tick)
    (local.set $v)
    (local.set $n)
    (call $tick)
    (call $print_vector)
    (call $print_vector (local.get $v))
    (call $print32 (local.get $n))))
