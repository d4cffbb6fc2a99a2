;; Atomic instructions: plain accesses behind a check of the alignment, which needs no sum where the offset is aligned.
;; The width of one byte has no such check. Wait and notify check bounds themselves, and a fence is nothing.
(module
  (memory 1 10)
  (memory $wide i64 1 10)
  (func (export "run") (param $a i32) (param $b i64) (result i32)
    (drop (i32.atomic.rmw.add offset=8 (local.get $a) (i32.const 1)))
    (drop (i64.atomic.rmw16.xchg_u $wide offset=3 (local.get $b) (local.get $b)))
    (drop (i64.atomic.rmw8.cmpxchg_u (local.get $a) (local.get $b) (i64.const 7)))
    (atomic.fence)
    (drop (memory.atomic.notify offset=4 (local.get $a) (i32.const 1)))
    (memory.atomic.wait64 $wide (local.get $b) (i64.const 0) (i64.const -1))))
