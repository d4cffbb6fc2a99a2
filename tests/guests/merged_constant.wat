;;! A constant that is both a result chosen after a loop and one of the numbers that a poll in the loop uses: it was once kept in a
;;! register across the poll.
;;! stdout: 00000000d1335621
;;! stdout: 000000000000004b
(module
  ;;prelude
  (func $search (param $from i32) (param $want i32) (result i32) (local $rc i32) (local $n i32)
    (block $out
      (loop $again
        (if (i32.eq (i32.load8_u (local.get $from)) (local.get $want))
          (then
            (loop $count
              (local.set $n (i32.add (local.get $n) (i32.const 1)))
              (br_if $count (i32.lt_u (local.get $n) (i32.const 5))))
            (i32.store8 (local.get $from) (i32.const 0))
            (local.set $rc (i32.const 0))
            (br $out)))
        (br_if $again (i32.lt_u (local.tee $from (i32.add (local.get $from) (i32.const 1))) (i32.const 1100))))
      (local.set $rc (i32.const 11)))
    (global.set $ticks (i32.add (global.get $ticks) (local.get $n)))
    (local.get $rc))
  (func $next (param $i i32) (result i32)
    (i32.add (call $search (i32.const 1024) (local.get $i)) (i32.const 1)))
  (func (export "_start") (local $i i32) (local $h i32)
    (loop $fill
      (i32.store8 (i32.add (i32.const 1024) (local.get $i)) (i32.mul (local.get $i) (i32.const 5)))
      (br_if $fill (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 60))))
    (local.set $i (i32.const 1))
    (loop $all
      (local.set $h (i32.add (i32.mul (local.get $h) (i32.const 31)) (call $next (local.get $i))))
      (br_if $all (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 40))))
    (call $print32 (local.get $h))
    (call $print32 (global.get $ticks))))
