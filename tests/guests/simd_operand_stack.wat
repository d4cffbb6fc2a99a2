;;! v128 on the operand stack, among operands of other types, while calls are made; in recursion.
;;! stdout: a502b50200280050
;;! stdout: 650275027c64b8b6
(module
  ;;prelude
  (func $descend (param $n i32) (result v128)
    (if (result v128) (i32.eqz (local.get $n))
      (then (v128.const i16x8 1 2 3 4 5 6 7 8))
      (else
        (i16x8.splat (local.get $n))
        (i32.mul (local.get $n) (local.get $n))
        (call $descend (i32.sub (local.get $n) (i32.const 1)))
        (call $tick)
        (i64.extend_i32_u (local.get $n))
        (call $tick)
        i64x2.splat
        i8x16.sub
        (call $tick)
        (i32x4.replace_lane 2 (local.get $n))
        (call $rotate)
        i16x8.add)))
  ;; Takes what lies below a vector: the shift's amount.
  (func $rotate (param $amount i32) (param $v v128) (result v128)
    (i32x4.shl (local.get $v) (local.get $amount))
    (call $tick)
    (i32x4.shr_u (local.get $v) (i32.sub (i32.const 32) (local.get $amount)))
    (call $tick)
    v128.or)
  (func (export "_start") (local $v v128)
    (local.set $v (call $descend (i32.const 40)))
    (call $print (i64x2.extract_lane 1 (local.get $v)))
    (call $print (i64x2.extract_lane 0 (local.get $v)))))
