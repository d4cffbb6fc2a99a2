;;! Memory that grows step by step, new pages are zero and stay what they become.
;;! stdout: 232b24f1c73dcd7f
;;! stdout: 000000000000002d
;;! stdout: 00000000ffffffff
;;! stdout: cee2145176584a3a
(module
  ;;prelude
  (func (export "_start") (local $i i32) (local $h i64) (local $at i32)
    (loop $grow
      (call $tick)
      ;; The old size in pages, then the first bytes of the new memory, which must be zero.
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31))
        (i64.extend_i32_u (memory.grow (i32.and (local.get $i) (i32.const 3))))))
      (local.set $at (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 8)))
      (local.set $h (i64.add (local.get $h) (i64.load (local.get $at))))
      (i64.store (local.get $at) (i64.add (local.get $h) (i64.const 1)))
      (call $tick)
      (br_if $grow (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 30))))
    (call $print (local.get $h))
    (call $print32 (memory.size))
    (call $print32 (memory.grow (i32.const 0x10000)))
    (local.set $i (i32.const 2))
    (local.set $h (i64.const 0))
    (loop $read
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31))
        (i64.load (i32.sub (i32.mul (local.get $i) (i32.const 65536)) (i32.const 8)))))
      (br_if $read (i32.le_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (memory.size))))
    (call $print (local.get $h))))
