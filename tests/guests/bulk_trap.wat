;;! A segment dropped before the moves is still dropped after them: memory.init of it traps.
;;! exit: 134
;;! stdout: 0000000000000001
(module
  ;;prelude
  (data $p "passive")
  (func (export "_start") (local $i i32)
    (memory.init $p (i32.const 2000) (i32.const 0) (i32.const 7))
    (data.drop $p)
    (loop $again
      (call $tick)
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 30))))
    (call $print (i64.const 1))
    (memory.init $p (i32.const 2000) (i32.const 0) (i32.const 1))
    (call $print (i64.const 2))))
