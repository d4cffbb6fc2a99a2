;;! A table changed while running: table.init, table.copy, elem.drop, and calls through the changed entries.
;;! stdout: 000000000000002c
;;! stdout: ab5554aaab477eaa
;;! stdout: 1ab8063a02339317
(module
  ;;prelude
  (type $op (func (param i64) (result i64)))
  (table $t 20 30 funcref)
  (elem $ops func $add $mul $xor $rot)
  (elem (table $t) (i32.const 0) func $mul $add)
  (func $add (type $op) (call $tick) (i64.add (local.get 0) (i64.const 13)))
  (func $mul (type $op) (call $tick) (i64.mul (local.get 0) (i64.const 31)))
  (func $xor (type $op) (call $tick) (i64.xor (local.get 0) (i64.const 0x5555aaaa5555aaaa)))
  (func $rot (type $op) (call $tick) (i64.rotl (local.get 0) (i64.const 9)))
  (func $run (param $h i64) (param $n i32) (result i64) (local $i i32)
    (loop $again
      (local.set $h (call_indirect $t (type $op) (local.get $h) (local.get $i)))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    (local.get $h))
  (func (export "_start") (local $h i64) (local $i i32)
    (call $print (call $run (i64.const 1) (i32.const 2)))
    (table.init $t $ops (i32.const 1) (i32.const 0) (i32.const 4))
    (call $tick)
    (call $print (call $run (i64.const 2) (i32.const 5)))
    (table.init $t $ops (i32.const 5) (i32.const 2) (i32.const 2))
    (elem.drop $ops)
    (call $tick)
    (table.init $t $ops (i32.const 5) (i32.const 0) (i32.const 0))
    (loop $again
      (table.copy $t $t (i32.const 3) (i32.const 1) (i32.const 6))
      (call $tick)
      (table.copy $t $t (i32.const 0) (local.get $i) (i32.const 3))
      (local.set $h (call $run (local.get $h) (i32.const 9)))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 6))))
    (call $print (local.get $h))))
