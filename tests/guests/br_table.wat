;;! br_table with values, in and out of nested blocks, in a loop.
;;! stdout: 3a088a1d0d76ec18
;;! stdout: 000000000000a5f6
(module
  ;;prelude
  (func $state (param $s i32) (result i32 i64)
    (block $d (result i32 i64)
      (block $c (result i32)
        (block $b (result i32)
          (block $a (result i32)
            (call $tick)
            (br_table $a $b $c $b $a $c (i32.mul (local.get $s) (i32.const 3)) (i32.rem_u (local.get $s) (i32.const 7))))
          (call $tick)
          (i32.add (i32.const 1))
          (br $c))
        (call $tick)
        (i32.mul (i32.const 2)))
      (call $tick)
      (i64.const 3)
      (br $d)))
  (func (export "_start") (local $i i32) (local $h i64) (local $s i32)
    (loop $again
      (call $state (local.get $s))
      (i64.extend_i32_u (local.get $s))
      i64.add
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 31))))
      (local.set $s (i32.and (i32.add (local.get $i)) (i32.const 0xffff)))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 60))))
    (call $print (local.get $h))
    (call $print32 (local.get $s))))
