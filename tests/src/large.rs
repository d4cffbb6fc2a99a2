//! Makes large modules, in the text format. Every one has `_start`, which exits with a number computed by all of it.

use std::fmt::Write;

/// A module of some shape and size.
pub struct Shape {
    /// What it is called.
    pub name: &'static str,
    /// Its size: operators, functions, targets or depth.
    pub size: usize,
    make: fn(usize) -> String,
}

impl Shape {
    /// The module, `times` as large.
    pub fn text(&self, times: usize) -> String {
        (self.make)(self.size * times)
    }
}

/// All shapes, at sizes that take a moment each.
pub const SHAPES: &[Shape] = &[
    shape("functions", 10_000, functions),
    shape("straight code", 12_500, straight),
    shape("calls with many live locals", 12_500, live_calls),
    shape("branches around calls", 6_250, if_calls),
    shape("loops", 5_000, loops),
    shape("an interpreter", 2_500, interpreter),
    shape("br_table", 1_000, br_table),
    shape("br_table behind many locals", 6_250, br_table_of_many_locals),
    shape("br_table over changing values", 5_000, |n| {
        br_table_over_values(n, |k| {
            format!(
                "(local.set {} (i32.add (local.get {}) (i32.const {k})))",
                1 + k % 12,
                1 + k * 3 % 12
            )
        })
    }),
    shape("br_table over read values", 2_000, |n| {
        br_table_over_values(n, |k| {
            format!("(global.set $n (i32.add (global.get $n) (local.get {})))", 1 + k % 12)
        })
    }),
    shape("br_table to few targets", 10_000, few_targets),
    shape("branches to many blocks", 5_000, branches_to_blocks),
    shape("returns", 10_000, returns),
    shape("nested blocks", 1_000, |n| nested("block", n)),
    shape("nested loops", 250, |n| nested("loop", n)),
    shape("nested loops around calls", 250, |n| nested_loops(n, "(call $f)")),
    shape("nested loops over locals", 250, |n| nested_loops(n, "(local.get $p)")),
    shape("nested ifs", 500, |n| nested("if", n)),
    shape("nested try_table", 1_000, nested_try),
    shape("operands across calls", 2_500, operands),
    shape("declared locals", 12_000, declared_locals),
    shape("branches with results", 500, results),
    shape("branches around locals", 1_000, local_branches),
    shape("loops over many locals", 1_000, many_locals),
    shape("an interpreter without calls", 2_500, quiet_interpreter),
    shape("branches out of one block", 17_500, branches_out),
    shape("code in nested loops", 12_000, nested_code),
];

const fn shape(name: &'static str, size: usize, make: fn(usize) -> String) -> Shape {
    Shape { name, size, make }
}

/// A module around the body of `$main`, which has a parameter (1, but no compiler can know), locals 1 to `locals`, and
/// leaves a number.
fn module(body: &str, locals: usize) -> String {
    let locals = "i32 ".repeat(locals);
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory 1)
  (global $n (mut i32) (i32.const 0))
  (tag $e)
  (func $f (result i32) (global.set $n (i32.add (global.get $n) (i32.const 3))) (global.get $n))
  (func $main (param $p i32) (result i32) (local {locals})
{body}
  )
  (func (export "_start")
    (call $exit (i32.and (i32.const 63)
      (i32.add (i32.mul (call $main (i32.add (i32.load (i32.const 0)) (i32.const 1))) (i32.const 7)) (global.get $n))))))"#
    )
}

/// Adds up all locals: so all are live up to here.
fn sum(locals: usize) -> String {
    let mut out = "(local.get 1)\n".to_string();
    (2..=locals).for_each(|k| _ = writeln!(out, "(i32.add (i32.mul (local.get {k}) (i32.const 3)))"));
    out
}

/// Statements made by `one`, and then the sum.
fn statements(count: usize, locals: usize, one: impl Fn(usize) -> String) -> String {
    let mut body = (0..count).map(one).collect::<Vec<_>>().join("\n");
    body.push_str(&sum(locals));
    module(&body, locals)
}

fn functions(n: usize) -> String {
    let mut more = String::new();
    for k in 0..n {
        let next = if k + 1 < n && k % 50 > 0 { k + 1 } else { n };
        _ = writeln!(
            more,
            "(func $g{k} (param i32) (result i32) (call $g{next} (i32.add (local.get 0) (i32.const {k}))))"
        );
    }
    _ = writeln!(more, "(func $g{n} (param i32) (result i32) (local.get 0))");
    module("(call $g1 (local.get $p))", 1).replace("(func $f", &format!("{more}(func $f"))
}

fn straight(n: usize) -> String {
    let locals = n / 25;
    statements(n / 5, locals, |k| {
        let (a, b, c) = (1 + k * 7 % locals, 1 + k * 3 % locals, 1 + k * 11 % locals);
        format!(
            "(local.set {a} (i32.add (i32.mul (local.get {b}) (local.get $p)) (i32.add (local.get {c}) (i32.const 1))))"
        )
    })
}

fn live_calls(n: usize) -> String {
    let locals = n / 10;
    statements(n / 4, locals, |k| {
        format!(
            "(local.set {} (i32.add (local.get {}) (call $f)))",
            1 + k * 7 % locals,
            1 + k * 3 % locals
        )
    })
}

fn if_calls(n: usize) -> String {
    let locals = n / 10;
    statements(n / 8, locals, |k| {
        let (a, b) = (1 + k * 3 % locals, 1 + k * 7 % locals);
        format!(
            "(if (i32.and (local.get {a}) (i32.const 1)) (then (drop (call $f))) (else (local.set {b} (i32.const {k}))))"
        )
    })
}

fn loops(n: usize) -> String {
    let locals = n / 10;
    statements(n / 12, locals, |k| {
        let (a, b) = (1 + k * 7 % locals, 1 + k * 3 % locals);
        format!(
            "(loop (local.set {a} (i32.add (local.get {b}) (local.get {a})))
              (br_if 0 (i32.lt_u (local.tee $p (i32.add (local.get $p) (i32.const 1))) (i32.const {k}))))"
        )
    })
}

/// `count` blocks around a `br_table` to all of them; behind each of them one of the statements, and then a branch to
/// the loop around them all as often as `again` says.
fn switch(count: usize, index: &str, one: impl Fn(usize) -> String) -> String {
    let mut out = "(block\n".repeat(count);
    let targets: Vec<String> = (0..count).map(|k| k.to_string()).collect();
    _ = writeln!(out, "(br_table {} {index})", targets.join(" "));
    (0..count).for_each(|k| _ = writeln!(out, ") {}", one(k)));
    out
}

fn interpreter(n: usize) -> String {
    let (locals, codes) = (n / 20, n / 8);
    let cases = switch(codes, "(i32.rem_u (call $f) (i32.const 1000000))", |k| {
        let (a, b) = (1 + k % locals, 1 + k * 3 % locals);
        let again = "(br_if $again (i32.lt_u (global.get $n) (i32.const 600)))";
        format!("(local.set {a} (i32.add (local.get {b}) (call $f))) {again}")
    });
    module(&format!("(loop $again {cases})\n{}", sum(locals)), locals)
}

fn br_table(n: usize) -> String {
    let cases = switch(n, "(local.get $p)", |k| {
        let more = if k % 3 == 0 { "(drop (call $f))" } else { "" };
        format!(
            "(local.set {} (i32.add (local.get {}) (i32.const {k}))) {more}",
            1 + k % 50,
            1 + k * 3 % 50
        )
    });
    module(&format!("{cases}{}", sum(50)), 50)
}

fn br_table_of_many_locals(n: usize) -> String {
    let locals = n / 10;
    let sets = (1..=locals).map(|k| format!("(local.set {k} (i32.add (local.get $p) (i32.const {k})))\n"));
    let cases = switch(n / 10, "(local.get $p)", |_| "(drop (call $f))".into());
    module(&format!("{}{cases}{}", sets.collect::<String>(), sum(locals)), locals)
}

/// Twelve locals get values that no compiler can know.
fn unknown_values() -> String {
    let value =
        |k| format!("(local.set {k} (i32.add (i32.load (i32.const {k})) (i32.mul (local.get $p) (i32.const {k}))))\n");
    (1..=12).map(value).collect()
}

/// Locals are alive at a `br_table`, and everywhere behind it.
fn br_table_over_values(n: usize, one: impl Fn(usize) -> String) -> String {
    let cases = switch(n, "(local.get $p)", |k| {
        let call = if k % 3 == 0 { "(drop (call $f))" } else { "" };
        format!("{} {call}", one(k))
    });
    module(&format!("{}{cases}{}", unknown_values(), sum(12)), 12)
}

/// The same for a table of `n` entries that has two targets only.
fn few_targets(n: usize) -> String {
    let entries = "0 1 ".repeat(n / 2);
    let change = "(local.set 3 (i32.add (local.get 4) (i32.const 5)))";
    let table = format!("(block (block (br_table {entries} (local.get $p))) {change} (drop (call $f))) {change}");
    module(&format!("{}{table}{}", unknown_values(), sum(12)), 12)
}

/// The same for a chain of `br_if` to one block each.
fn branches_to_blocks(n: usize) -> String {
    let branch = |k| format!("(br_if {k} (i32.eq (local.get $p) (i32.const {k})))\n");
    let branches: String = (0..n).map(branch).collect();
    let blocks: String = (0..n)
        .map(|k| {
            let call = if k % 3 == 0 { "(drop (call $f))" } else { "" };
            let (a, b) = (1 + k % 12, 1 + k * 3 % 12);
            format!(") (local.set {a} (i32.add (local.get {b}) (i32.const {k}))) {call}\n")
        })
        .collect();
    let open = "(block\n".repeat(n);
    module(&format!("{}{open}{branches}{blocks}{}", unknown_values(), sum(12)), 12)
}

/// Every case of a `br_table` returns.
fn returns(n: usize) -> String {
    let cases = switch(n, "(i32.mul (local.get $p) (i32.const 700))", |k| {
        format!(
            "(drop (call $f)) (return (i32.add (local.get {}) (i32.const {k})))",
            1 + k % 12
        )
    });
    module(&format!("{}{cases}{}", unknown_values(), sum(12)), 12)
}

fn nested(kind: &str, depth: usize) -> String {
    let condition = if kind == "if" { "(local.get $p)" } else { "" };
    let mut body = format!("{condition} {kind}\n").repeat(depth);
    body.push_str("(local.set 1 (i32.add (local.get 1) (call $f)))\n");
    for k in 0..depth {
        let again = match kind {
            "loop" => "(br_if 0 (i32.eqz (local.get $p)))",
            "block" => "(br_if 0 (local.get $p))",
            _ => "",
        };
        _ = writeln!(
            body,
            "{again} (local.set {} (i32.add (local.get {}) (i32.const 1))) end",
            1 + k * 3 % 10,
            1 + k % 10
        );
    }
    body.push_str(&sum(10));
    module(&body, 10)
}

fn nested_try(depth: usize) -> String {
    let mut body = "block try_table (catch_all 0)\n".repeat(depth);
    body.push_str("(throw $e)\n");
    for k in 0..depth {
        _ = writeln!(
            body,
            "end (local.set {} (call $f)) end {}",
            1 + k % 10,
            if k % 2 == 0 { "(local.set 1 (call $f))" } else { "" }
        );
    }
    body.push_str(&sum(10));
    module(&body, 10)
}

fn operands(n: usize) -> String {
    let count = n / 3;
    module(
        &format!("{}{}", "(call $f)\n".repeat(count), "i32.add\n".repeat(count - 1)),
        1,
    )
}

fn declared_locals(n: usize) -> String {
    module("(local.set 1 (call $f)) (i32.add (local.get 1) (call $f))", n)
}

/// Nested blocks with a result, and branches that carry one out of the innermost to all of them.
fn results(depth: usize) -> String {
    let mut body = "(block (result i32)\n".repeat(depth);
    body.push_str("(local.get $p)\n");
    for k in 0..2 * depth {
        _ = writeln!(
            body,
            "(br_if {} (i32.eq (local.get $p) (i32.const {}))) (i32.add (i32.const 3))",
            k * 7 % depth,
            k + 2
        );
    }
    (0..depth).for_each(|k| _ = writeln!(body, "(i32.add (i32.const {k})))"));
    module(&body, 1)
}

/// Nested blocks out of which branches go that leave locals behind.
fn local_branches(depth: usize) -> String {
    let locals = depth / 10;
    let mut body = "(block\n".repeat(depth);
    for k in 0..depth {
        let (to, a, b) = (k * 7 % (depth - k), 1 + k * 7 % locals, 1 + k * 3 % locals);
        _ = writeln!(body, "(local.set {a} (i32.add (local.get {b}) (local.get $p)))");
        _ = writeln!(body, "(br_if {to} (i32.eq (local.get {a}) (i32.const {}))))", k + 2);
    }
    body.push_str(&sum(locals));
    module(&body, locals)
}

/// Loops in loops, each with a value of its own to count with.
fn nested_loops(depth: usize, value: &str) -> String {
    let locals = depth / 5;
    let mut body = String::new();
    for k in 0..depth {
        _ = writeln!(
            body,
            "(loop (local.set {} (i32.add (local.get {}) {value}))",
            1 + k % locals,
            1 + k * 3 % locals
        );
    }
    for k in 0..depth {
        _ = writeln!(
            body,
            "(br_if 0 (i32.gt_u (local.get $p) (i32.add (local.get {}) (i32.const {k})))))",
            1 + k * 7 % locals
        );
    }
    body.push_str(&sum(locals));
    module(&body, locals)
}

/// As many loops as locals, all of which live through all of them.
fn many_locals(n: usize) -> String {
    statements(n, n, |k| {
        let (a, b) = (1 + k * 7 % n, 1 + k * 3 % n);
        format!(
            "(loop (local.set {a} (i32.add (local.get {b}) (local.get {a})))
              (br_if 0 (i32.lt_u (local.tee $p (i32.add (local.get $p) (i32.const 1))) (i32.const {k}))))"
        )
    })
}

/// An interpreter that calls nothing: its locals are never stored for a call.
fn quiet_interpreter(n: usize) -> String {
    let (locals, codes) = (n / 20, n / 8);
    let cases = switch(
        codes,
        "(i32.rem_u (local.tee $p (i32.add (local.get $p) (i32.const 1))) (i32.const 1000000))",
        |k| {
            let (a, b) = (1 + k % locals, 1 + k * 3 % locals);
            let again = "(br_if $again (i32.lt_u (local.get $p) (i32.const 600)))";
            format!("(local.set {a} (i32.add (local.get {b}) (i32.const 1))) {again}")
        },
    );
    module(&format!("(loop $again {cases})\n{}", sum(locals)), locals)
}

/// Very many branches to one place, between which locals change.
fn branches_out(n: usize) -> String {
    let locals = n / 70;
    let mut body = "(block\n".to_string();
    for k in 0..n {
        let (a, b) = (1 + k * 7 % locals, 1 + k * 3 % locals);
        _ = writeln!(
            body,
            "(local.set {a} (i32.add (local.get {b}) (local.get $p))) (br_if 0 (i32.eq (local.get {a}) (i32.const -1)))"
        );
    }
    module(&format!("{body})\n{}", sum(locals)), locals)
}

/// Much code that doesn't depend on the many loops around it.
fn nested_code(n: usize) -> String {
    let depth = n / 100;
    let mut body = "(loop\n".repeat(depth);
    body.push_str("(i32.const 0)\n");
    (0..n).for_each(|k| _ = writeln!(body, "(i32.xor (i32.mul (local.get $p) (i32.const {})))", 3 * k + 5));
    body.push_str("(local.set 1)\n");
    (0..depth).for_each(|k| _ = writeln!(body, "(br_if 0 (i32.gt_u (local.get $p) (i32.const {}))))", k + 7));
    body.push_str("(local.get 1)");
    module(&body, 1)
}
