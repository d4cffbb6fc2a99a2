;; Memory instructions: no bounds checks on accesses, explicit ones on bulk operations, runtime calls that are no points.
(module
  (memory 1 10)
  (data $d "hello")
  (func (export "run") (param $a i32) (param $b i32) (result i32)
    (i64.store offset=0xfffffff0 (local.get $a) (i64.const 1))
    (i32.store8 offset=3 (local.get $a) (local.get $b))
    (memory.copy (local.get $a) (local.get $b) (i32.const 100))
    (memory.fill (local.get $a) (i32.const 0) (local.get $b))
    (memory.init $d (local.get $a) (i32.const 0) (i32.const 5))
    (data.drop $d)
    (i32.add (memory.grow (i32.const 1)) (i32.add (memory.size) (i32.load16_s (local.get $b))))))
