;;! Atomics on a second, 64-bit memory, with old values on the operand stack while the program moves; then a wait, which traps.
;;! exit: 134
;;! stdout: ad2623c4681b4052
(module
  ;;prelude
  (memory $m i64 1 2)
  (func $step (param $at i64) (param $i i64) (result i64)
    (i64.atomic.rmw.add $m offset=8 (local.get $at) (local.get $i))
    (call $tick)
    (i64.atomic.rmw32.xor_u $m (local.get $at) (i64.const 0x1234567890))
    (i64.extend_i32_u (i32.atomic.rmw16.cmpxchg_u $m offset=2 (local.get $at) (i32.const 0x11234) (i32.wrap_i64 (local.get $i))))
    (call $tick)
    (atomic.fence)
    (i64.add (i64.atomic.rmw8.sub_u $m offset=1 (local.get $at) (i64.const 0x177)))
    (i64.mul)
    (i64.xor))
  (func $sleep (param $at i64)
    (call $tick)
    (drop (memory.atomic.wait64 $m (local.get $at) (i64.const 0) (i64.const 1000)))
    (call $print (i64.const 2)))
  (func (export "_start") (local $i i64) (local $s i64)
    (loop $again
      (local.set $s (i64.add (i64.rotl (local.get $s) (i64.const 9))
        (call $step (i64.shl (i64.and (local.get $i) (i64.const 3)) (i64.const 4)) (local.get $i))))
      (br_if $again (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 1))) (i64.const 20))))
    (call $print (i64.add (local.get $s) (i64.extend_i32_u (memory.atomic.notify $m (i64.const 65532) (i32.const 9)))))
    (call $sleep (i64.const 8))
    (call $print (i64.const 1))))
