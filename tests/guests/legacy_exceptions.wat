;;! The legacy encoding of exception handling: try, catch, catch_all, rethrow and delegate.
;;! stdout: 00000000060a1d67
(module
  ;;prelude
  (tag $e (param i64))
  (tag $n)
  (func $throws (param i32) (result i64)
    (call $tick)
    (if (i32.eq (local.get 0) (i32.const 1)) (then (throw $e (i64.const 42))))
    (if (i32.eq (local.get 0) (i32.const 2)) (then (throw $n)))
    (i64.const 100))
  (func $inner (param i32) (result i64)
    (local $k i64)
    (local.set $k (i64.const 3))
    try (result i64)
      (local.set $k (i64.const 4))
      (call $throws (local.get 0))
      (call $tick)
    catch $e
      (call $tick)
      (local.get $k)
      i64.add
    catch_all
      (call $tick)
      (local.set $k (i64.add (local.get $k) (i64.const 10)))
      rethrow 0
    end)
  (func $outer (param i32) (result i64)
    (local $seen i64)
    try (result i64)
      try (result i64)
        (local.set $seen (i64.const 1))
        (call $inner (local.get 0))
        (local.set $seen (i64.const 2))
      delegate 0
    catch $n
      (call $tick)
      (i64.add (i64.const 777) (local.get $seen))
    end)
  ;; An exception is caught while another is being handled, then the first is thrown again.
  (func $nested (param i32) (result i64)
    (local $x i64)
    try (result i64)
      try (result i64)
        (call $throws (local.get 0))
      catch $e
        (local.set $x)
        try
          (drop (call $throws (i32.const 2)))
        catch $n
          (call $tick)
          rethrow 1
        end
        (local.get $x)
      end
    catch $e
      (i64.add (local.get $x))
    catch $n
      i64.const 5
    end)
  (func (export "_start")
    (local $i i32) (local $sum i64)
    (loop $again
      (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 5))
        (i64.add (call $outer (i32.rem_u (local.get $i) (i32.const 3))) (call $nested (i32.rem_u (local.get $i) (i32.const 3))))))
      (call $tick)
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 9))))
    (call $print (local.get $sum))))
