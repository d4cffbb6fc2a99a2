;;! Blocks that begin and end in dead code, while the enclosing blocks have operands below them.
;;! stdout: 0000000000000007
;;! stdout: 000000000000000c
(module
  ;;prelude
  (func $f (param $leave i32) (result i32)
    (i32.const 5)
    (call $tick)
    (block $out
      (br_if $out (local.get $leave))
      (block
        (br $out)
        (if (then) (else))
        (loop)))
    (call $tick)
    (i32.const 2)
    i32.add)
  (func $g (param $leave i32) (result i32)
    (i32.const 5)
    (loop $again (result i32)
      (i32.const 3)
      (block $out
        (br_if $out (local.get $leave))
        (local.set $leave (i32.const 1))
        (call $tick)
        (br $again)
        (block (br 0) (if (result i32) (then (i32.const 1)) (else (i32.const 2))) (drop)))
      (i32.const 4)
      i32.add)
    i32.add)
  (func (export "_start")
    (call $print32 (call $f (i32.const 1)))
    (call $print32 (call $g (i32.const 0)))))
