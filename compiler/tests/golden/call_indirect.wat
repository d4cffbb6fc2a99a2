;; An indirect call: bounds, null and signature checks; every function of the type counts as a callee on a cycle.
(module
  (type $t (func (param i32) (result i32)))
  (table 2 2 funcref)
  (elem (i32.const 0) $a $b)
  (func $a (type $t) (i32.add (local.get 0) (i32.const 1)))
  (func $b (type $t) (call_indirect (type $t) (local.get 0) (i32.const 0)))
  (func (export "run") (param i32 i32) (result i32)
    (i32.add (local.get 1) (call_indirect (type $t) (local.get 1) (local.get 0)))))
