;;! Several memories: each keeps its bytes and its size, they grow, and bytes are copied between them.
;;! stdout: e01783c593cd4a85
(module
  ;;prelude
  (memory $a 1 6)
  (memory $b 0 20)
  (memory $c i64 1 8)
  (data $d "some bytes of a passive segment")
  (func $sum (result i64)
    (local $i i32) (local $s i64)
    (call $tick)
    (loop $l
      (local.set $s (i64.add (i64.mul (local.get $s) (i64.const 31)) (i64.load8_u $a (local.get $i))))
      (if (i32.lt_u (local.get $i) (i32.shl (memory.size $b) (i32.const 16)))
        (then (local.set $s (i64.xor (local.get $s) (i64.load $b (local.get $i))))))
      (local.set $s (i64.add (local.get $s) (i64.load16_u $c offset=3 (i64.extend_i32_u (local.get $i)))))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 24))) (i32.const 480))))
    (local.get $s))
  (func (export "_start")
    (local $i i32) (local $s i64)
    (loop $l
      (i32.store $a (i32.mul (local.get $i) (i32.const 8)) (i32.mul (local.get $i) (i32.const 0x01234567)))
      (if (i32.eq (i32.and (local.get $i) (i32.const 3)) (i32.const 1))
        (then
          (drop (memory.grow $b (i32.const 1)))
          (memory.copy $b $a (i32.mul (local.get $i) (i32.const 3)) (i32.const 0) (i32.const 100))
          (drop (memory.grow $c (i64.const 1)))))
      (i64.store $c (i64.mul (i64.extend_i32_u (local.get $i)) (i64.const 11)) (i64.extend_i32_u (local.get $i)))
      (memory.init $c $d (i64.extend_i32_u (i32.add (i32.const 300) (local.get $i))) (i32.const 2) (i32.const 9))
      (memory.fill $a (i32.const 200) (local.get $i) (i32.const 50))
      (memory.copy $c $b (i64.const 400) (i32.const 0) (i32.mul (i32.const 8) (i32.ne (memory.size $b) (i32.const 0))))
      (call $tick)
      (local.set $s (i64.add (i64.rotl (local.get $s) (i64.const 7)) (call $sum)))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 12))))
    (call $print (i64.add (local.get $s)
      (i64.add (memory.size $c) (i64.extend_i32_u (i32.add (memory.size $a) (i32.mul (memory.size $b) (i32.const 100)))))))))
