;;! memory.copy, memory.fill, memory.init from passive segments, and data.drop: a dropped segment stays dropped.
;;! stdout: c20e54c853731174
;;! stdout: 16bc21c1c3d83d3c
;;! stdout: 0000036e2694fd9a
;;! stdout: 13f734206c426f24
(module
  ;;prelude
  (data $p "passive segment one")
  (data $q "\01\02\03\04\05\06\07\08\09\0a\0b\0c\0d\0e\0f\10")
  (data (i32.const 1024) "active")
  (func $sum (param $from i32) (param $len i32) (result i64)
    (local $h i64)
    (loop $again
      (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 131)) (i64.load8_u (local.get $from))))
      (local.set $from (i32.add (local.get $from) (i32.const 1)))
      (br_if $again (local.tee $len (i32.sub (local.get $len) (i32.const 1)))))
    (local.get $h))
  (func (export "_start") (local $i i32)
    (memory.init $p (i32.const 2000) (i32.const 3) (i32.const 12))
    (call $tick)
    (call $print (call $sum (i32.const 1990) (i32.const 40)))
    (data.drop $p)
    (call $tick)
    ;; Of a dropped segment only nothing can be copied.
    (memory.init $p (i32.const 2000) (i32.const 0) (i32.const 0))
    (memory.init $q (i32.const 2100) (i32.const 0) (i32.const 16))
    (loop $again
      ;; Overlapping, both ways.
      (memory.copy (i32.add (i32.const 2101) (local.get $i)) (i32.const 2100) (i32.const 40))
      (call $tick)
      (memory.copy (i32.const 2099) (i32.add (i32.const 2100) (local.get $i)) (i32.const 33))
      (memory.fill (i32.add (i32.const 2150) (local.get $i)) (i32.add (local.get $i) (i32.const 200)) (i32.const 5))
      (call $tick)
      (memory.init $q (i32.add (i32.const 2200) (local.get $i)) (local.get $i) (i32.const 3))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 12))))
    (call $print (call $sum (i32.const 2090) (i32.const 150)))
    (call $print (call $sum (i32.const 1024) (i32.const 6)))
    (memory.fill (i32.const 65536) (i32.const 7) (i32.const 65536))
    (call $tick)
    (memory.copy (i32.const 65000) (i32.const 65530) (i32.const 100))
    (call $print (call $sum (i32.const 64990) (i32.const 120)))))
