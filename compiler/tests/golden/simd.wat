(module
  (memory 1)
  (global $g (mut v128) (v128.const i64x2 1 2))
  (func $f (param v128) (result v128) (local.get 0))
  ;; On the operand stack and in a local across a call; a constant expression on both sides of it.
  (func (param i32 v128) (result v128)
    (local v128)
    (local.set 2 (f32x4.mul (local.get 1) (v128.load offset=16 (local.get 0))))
    (i16x8.add (local.get 1) (i8x16.popcnt (i8x16.neg (i8x16.abs (v128.const i32x4 -1 2 -3 4)))))
    (call $f (i32x4.shl (local.get 2) (local.get 0)))
    i32x4.add
    (local.get 2)
    v128.xor
    (i8x16.popcnt (i8x16.neg (i8x16.abs (v128.const i32x4 -1 2 -3 4))))
    i8x16.swizzle
    (global.set $g)
    (global.get $g))
  ;; More results than registers.
  (func $three (result v128 i32 v128 f64 v128)
    (global.get $g) (i32.const 1) (v128.const i64x2 3 4) (f64.const 1) (v128.const i64x2 5 6))
  (func (result v128)
    (local v128)
    (call $three)
    (local.set 0) drop drop drop
    (local.get 0)
    v128.and)
  (func (param i32 v128 v128) (result v128)
    (select (i8x16.shuffle 0 16 1 17 2 18 3 19 4 20 5 21 6 22 7 23 (local.get 1) (local.get 2))
            (v128.load8_lane 3 (local.get 0) (local.get 1))
            (v128.any_true (f64x2.pmin (local.get 1) (local.get 2))))))
