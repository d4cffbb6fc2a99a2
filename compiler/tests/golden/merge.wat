;; A merge of a path with a call and one without: the local is loaded only where it is needed.
(module
  (func $f)
  (func (export "run") (param $c i32) (param $x i64) (param $y i64) (result i64)
    (if (local.get $c) (then (call $f)))
    (if (i64.eqz (local.get $x)) (then (call $f) (return (local.get $y))))
    (local.get $x)))
