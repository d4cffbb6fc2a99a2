;;! A recursion whose every call goes through the table.
;;! stdout: 0000000000002449
;;! stdout: 0000000000000509
(module
  ;;prelude
  (type $f (func (param i32 i64) (result i64)))
  (table 3 3 funcref)
  (elem (i32.const 0) $even $odd $both)
  (func $even (type $f)
    (if (result i64) (i32.eqz (local.get 0))
      (then (local.get 1))
      (else (i64.add (i64.const 1) (call_indirect (type $f)
        (i32.sub (local.get 0) (i32.const 1)) (i64.mul (local.get 1) (i64.const 3)) (i32.const 1))))))
  (func $odd (type $f)
    (if (result i64) (i32.eqz (local.get 0))
      (then (local.get 1))
      (else (i64.xor (local.get 1) (call_indirect (type $f)
        (i32.sub (local.get 0) (i32.const 1)) (i64.add (local.get 1) (i64.const 7)) (i32.and (local.get 0) (i32.const 2)))))))
  (func $both (type $f)
    (if (result i64) (i32.lt_u (local.get 0) (i32.const 2))
      (then (call $tick) (local.get 1))
      (else (i64.add
        (call_indirect (type $f) (i32.sub (local.get 0) (i32.const 1)) (local.get 1) (i32.const 2))
        (call_indirect (type $f) (i32.sub (local.get 0) (i32.const 2)) (i64.const 5) (i32.const 0))))))
  (func (export "_start")
    (call $print (call_indirect (type $f) (i32.const 25) (i64.const 1) (i32.const 0)))
    (call $print (call_indirect (type $f) (i32.const 14) (i64.const 2) (i32.const 2)))))
