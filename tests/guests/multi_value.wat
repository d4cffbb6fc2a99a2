;;! Functions with many results of mixed types: more than fit in registers, and recursive.
;;! stdout: 47c27a99b08f1863
;;! stdout: 751ea350ec43ea0a
;;! stdout: 674425e6e691fa6b
;;! stdout: 22e4a36187fc4b3d
(module
  ;;prelude
  (type $many (func (param i32) (result i32 i64 f32 f64 i32 i64 f32 f64 i32 i64)))
  (table 1 funcref)
  (elem (i32.const 0) $many)
  (func $many (type $many)
    (if (type $many) (local.get 0) (i32.eqz (local.get 0))
      (then
        drop
        (call $tick)
        (i32.const 1) (i64.const 2) (f32.const 3) (f64.const 4) (i32.const 5) (i64.const 6) (f32.const 7) (f64.const 8)
        (call $tick)
        (i32.const 9) (i64.const 10))
      (else
        (i32.sub (i32.const 1))
        call $many
        call $turn
        (call $tick))))
  ;; Each value is moved on by one place of its type and changed.
  (func $turn (param i32 i64 f32 f64 i32 i64 f32 f64 i32 i64) (result i32 i64 f32 f64 i32 i64 f32 f64 i32 i64)
    (i32.add (local.get 4) (i32.const 3))
    (call $tick)
    (i64.mul (local.get 5) (i64.const 5))
    (f32.add (local.get 6) (f32.const 0.5))
    (f64.mul (local.get 7) (f64.const 1.25))
    (i32.xor (local.get 8) (i32.const 0x55))
    (call $tick)
    (i64.rotl (local.get 9) (i64.const 7))
    (f32.mul (local.get 2) (f32.const 1.5))
    (f64.sub (local.get 3) (f64.const 2))
    (i32.mul (local.get 0) (i32.const 7))
    (i64.sub (local.get 1) (i64.const 11)))
  (func $fold (param i32 i64 f32 f64 i32 i64 f32 f64 i32 i64) (result i64)
    (i64.extend_i32_u (local.get 0)) (i64.const 31) i64.mul
    (local.get 1) i64.add (i64.const 31) i64.mul
    (i64.extend_i32_u (i32.reinterpret_f32 (local.get 2))) i64.add (i64.const 31) i64.mul
    (call $tick)
    (i64.reinterpret_f64 (local.get 3)) i64.add (i64.const 31) i64.mul
    (i64.extend_i32_u (local.get 4)) i64.add (i64.const 31) i64.mul
    (local.get 5) i64.add (i64.const 31) i64.mul
    (i64.extend_i32_u (i32.reinterpret_f32 (local.get 6))) i64.add (i64.const 31) i64.mul
    (i64.reinterpret_f64 (local.get 7)) i64.add (i64.const 31) i64.mul
    (i64.extend_i32_u (local.get 8)) i64.add (i64.const 31) i64.mul
    (local.get 9) i64.add)
  (func (export "_start")
    (call $print (call $fold (call $many (i32.const 0))))
    (call $print (call $fold (call $many (i32.const 1))))
    (call $print (call $fold (call $many (i32.const 30))))
    (call $print (call $fold (call_indirect (type $many) (i32.const 9) (i32.const 0))))))
