;;! An entry that was never filled is still null after moves: calling it traps.
;;! exit: 134
;;! stdout: 000000000000000a
(module
  ;;prelude
  (type $op (func (result i64)))
  (table $t 8 funcref)
  (elem $ops func $ten)
  (func $ten (type $op) (call $tick) (i64.const 10))
  (func (export "_start")
    (table.init $t $ops (i32.const 3) (i32.const 0) (i32.const 1))
    (call $tick)
    (call $print (call_indirect $t (type $op) (i32.const 3)))
    (call $tick)
    (call $print (call_indirect $t (type $op) (i32.const 4)))))
