;;! A start function that can be moved too, before the main one.
;;! stdout: 000000000000003c
;;! stdout: 0000000000000078
(module
  ;;prelude
  (func $twenty (local $i i32)
    (loop $again
      (call $tick)
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 30)))))
  (func $before (call $twenty) (call $print32 (global.get $ticks)))
  (start $before)
  (func (export "_start") (call $twenty) (call $print32 (global.get $ticks))))
