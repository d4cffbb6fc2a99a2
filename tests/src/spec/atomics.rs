//! Scripts of our own, in the suite's form: atomic instructions on memories that are not shared. The suite has them on
//! shared memories only, so its script comes once more, without that word; and a generated one has every instruction on
//! 32-bit, 64-bit and second memories, at every alignment and at all bounds, with results computed here.

use super::script::{Script, read_text};
use crate::sources;
use std::fmt::Write;

/// The folder that the scripts are shown under.
pub const FOLDER: &str = "atomics";

/// Bytes of the memories.
const SIZE: u64 = 1 << 16;

/// The value that is stored, of the old one and the operand.
type Function = fn(u64, u64) -> u64;

/// What an instruction does.
#[derive(Clone, Copy)]
enum Kind {
    Load,
    Store,
    Modify(Function),
    CompareExchange,
    Notify,
    Wait,
}

/// An instruction.
struct Op {
    name: String,
    kind: Kind,
    /// Bytes in memory.
    width: u64,
    /// Type of its operands, but for the address.
    ty: &'static str,
}

/// A memory that all instructions are tried on.
struct Memory {
    /// Its declaration, behind that of others.
    text: &'static str,
    /// Its index, as an instruction names it.
    index: &'static str,
    /// Its address type.
    address: &'static str,
    /// Offset that takes any address but the first few beyond the address type.
    largest: u64,
}

const MEMORIES: [Memory; 3] = [
    Memory {
        text: "(memory 1 1)",
        index: "0",
        address: "i32",
        largest: 0xffff_fff8,
    },
    Memory {
        text: "(memory 3 3) (memory 1 2)",
        index: "1",
        address: "i32",
        largest: 0xffff_fff8,
    },
    Memory {
        text: "(memory i64 1 1)",
        index: "0",
        address: "i64",
        largest: 0xffff_ffff_ffff_fff8,
    },
];

/// All scripts.
pub fn scripts() -> Vec<Script> {
    let own = MEMORIES.iter().map(|memory| {
        let name = format!("{FOLDER}/{}_memory_{}.wast", memory.address, memory.index);
        read_text(&name, &script(memory))
    });
    let mut scripts: Vec<Script> = own.collect();
    scripts.push(read_text(&format!("{FOLDER}/suite.wast"), &suite()));
    scripts
}

/// The suite's script on memories that are not shared: waiting traps there, all else is the same.
fn suite() -> String {
    let path = sources::spec().join("proposals/threads/atomic.wast");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
    // What follows is not about shared memories.
    let (text, _) = text.split_once(";; unshared memory is OK").expect("it has that part");
    let mut out = String::new();
    let (mut shared, mut waits) = (0, 0);
    for line in text.lines() {
        let mut line = line.to_owned();
        if line.contains("(memory 1 1 shared)") {
            line = line.replace(" shared", "");
            shared += 1;
        }
        if line.starts_with("(assert_return (invoke \"memory.atomic.wait") {
            line = line.replace("assert_return", "assert_trap");
            line = line.replace(") (i32.const 1))", ") \"expected shared memory\")");
            waits += 1;
        }
        out += &line;
        out.push('\n');
    }
    assert_eq!((shared, waits), (2, 2), "the suite's script is another one");
    out
}

/// Every instruction but the fence.
fn ops() -> Vec<Op> {
    let modify: [(&str, Function); 6] = [
        ("add", u64::wrapping_add),
        ("sub", u64::wrapping_sub),
        ("and", |old, v| old & v),
        ("or", |old, v| old | v),
        ("xor", |old, v| old ^ v),
        ("xchg", |_, v| v),
    ];
    let mut out = Vec::new();
    for (ty, full) in [("i32", 4), ("i64", 8)] {
        for width in [1, 2, 4, 8] {
            if width > full {
                continue;
            }
            let (bits, unsigned) = if width == full {
                (String::new(), "")
            } else {
                ((8 * width).to_string(), "_u")
            };
            let mut op = |name: String, kind| out.push(Op { name, kind, width, ty });
            op(format!("{ty}.atomic.load{bits}{unsigned}"), Kind::Load);
            op(format!("{ty}.atomic.store{bits}"), Kind::Store);
            for (name, function) in modify {
                op(
                    format!("{ty}.atomic.rmw{bits}.{name}{unsigned}"),
                    Kind::Modify(function),
                );
            }
            op(
                format!("{ty}.atomic.rmw{bits}.cmpxchg{unsigned}"),
                Kind::CompareExchange,
            );
        }
    }
    for (name, kind, width, ty) in [
        ("memory.atomic.notify", Kind::Notify, 4, "i32"),
        ("memory.atomic.wait32", Kind::Wait, 4, "i32"),
        ("memory.atomic.wait64", Kind::Wait, 8, "i64"),
    ] {
        let name = name.to_owned();
        out.push(Op { name, kind, width, ty });
    }
    out
}

/// What memory holds before an instruction, and its operands: with bits that the narrow instructions must not look at,
/// sums that carry, and an expected value that is there.
const VALUES: [(u64, [u64; 2]); 3] = [
    (0x8182_8384_8586_8788, [0xf0e1_d2c3_b4a5_9687, 0x1122_3344_5566_7788]),
    (0xffff_ffff_ffff_ffff, [0x0101_0101_0101_0101, 0]),
    (0x0011_2233_4455_6677, [0x0011_2233_4455_6677, 0xdead_beef_cafe_f00d]),
];

impl Op {
    /// Types of the operands behind the address.
    fn operands(&self) -> Vec<&'static str> {
        match self.kind {
            Kind::Load => vec![],
            Kind::Store | Kind::Modify(_) | Kind::Notify => vec![self.ty],
            Kind::CompareExchange => vec![self.ty, self.ty],
            Kind::Wait => vec![self.ty, "i64"],
        }
    }

    /// Type of the result.
    fn result(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Store => None,
            Kind::Wait => Some("i32"),
            _ => Some(self.ty),
        }
    }

    /// A function that does it, with an offset.
    fn function(&self, memory: &Memory, name: &str, offset: u64) -> String {
        let operands = self.operands();
        let result = self.result().map_or(String::new(), |ty| format!("(result {ty})"));
        let gets: String = (0..=operands.len()).map(|n| format!(" (local.get {n})")).collect();
        format!(
            "(func (export \"{name}\") (param {} {}) {result} ({} {} offset={offset}{gets}))\n",
            memory.address,
            operands.join(" "),
            self.name,
            memory.index,
        )
    }

    /// What it returns, and what its bytes of memory hold then, if they held `old`.
    fn effect(&self, old: u64, [first, second]: [u64; 2]) -> (u64, u64) {
        let mask = u64::MAX >> (64 - 8 * self.width);
        match self.kind {
            Kind::Load => (old, old),
            Kind::Store => (0, first & mask),
            Kind::Modify(function) => (old, function(old, first) & mask),
            Kind::CompareExchange if old == first & mask => (old, second & mask),
            Kind::CompareExchange => (old, old),
            Kind::Notify | Kind::Wait => (0, old),
        }
    }
}

/// A constant of a type, of the low bits of a number.
fn constant(ty: &str, n: u64) -> String {
    let n = if ty == "i32" { u64::from(n as u32) } else { n };
    format!("({ty}.const {n:#x})")
}

/// The script for a memory.
fn script(memory: &Memory) -> String {
    let address = memory.address;
    let offsets = [("", 0), (" at 5", 5), (" at the end", memory.largest)];
    let ops = ops();
    let mut out = format!("(module {}\n", memory.text);
    for (name, access) in [("set", "i64.store"), ("get", "i64.load")] {
        let (more, value) = if name == "set" {
            ("(param i64)", "(local.get 1)")
        } else {
            ("(result i64)", "")
        };
        let index = memory.index;
        let _ = writeln!(
            out,
            "(func (export \"{name}\") (param {address}) {more} ({access} {index} (local.get 0) {value}))"
        );
    }
    let _ = writeln!(
        out,
        "(func (export \"fence\") (param {address}) (result i64) (atomic.fence) (i64.load {} (local.get 0)) (atomic.fence))",
        memory.index
    );
    for op in &ops {
        for (suffix, offset) in offsets {
            out += &op.function(memory, &format!("{}{suffix}", op.name), offset);
        }
    }
    out += ")\n";
    let at = |n: u64| constant(address, n);
    for op in &ops {
        for (suffix, offset) in offsets {
            let name = format!("{}{suffix}", op.name);
            // From the address operand; sums wrap here, and must not in the instruction.
            for n in operands(op, memory, offset) {
                tries(op, &name, address, n, offset, &mut out);
            }
        }
    }
    let _ = writeln!(
        out,
        "(invoke \"set\" {} (i64.const 7)) (assert_return (invoke \"fence\" {}) (i64.const 7))",
        at(8),
        at(8)
    );
    out
}

/// Address operands to try: every alignment, and around all bounds.
fn operands(op: &Op, memory: &Memory, offset: u64) -> Vec<u64> {
    let top = if memory.address == "i32" {
        u64::from(u32::MAX)
    } else {
        u64::MAX
    };
    let width = op.width;
    let mut out: Vec<u64> = Vec::new();
    if offset == memory.largest {
        // The sum is at the end of the address type, or beyond it.
        out.extend([0, 1, 7, 8, 9, 16, SIZE, top - 7, top]);
        return out;
    }
    out.extend((8..16).map(|n| n - offset));
    out.extend([SIZE - width, SIZE - width + 1, SIZE, SIZE + 1, SIZE + 8].map(|n| n - offset));
    out.extend([SIZE, 1 << 31, top - 15, top - 7, top - 6, top - 4, top]);
    out
}

/// One call, or some with different values.
fn tries(op: &Op, name: &str, address: &str, n: u64, offset: u64, out: &mut String) {
    let ea = u128::from(n) + u128::from(offset);
    let beyond = ea
        > if address == "i32" {
            u128::from(u32::MAX)
        } else {
            u128::from(u64::MAX)
        };
    let unaligned = ea % u128::from(op.width) != 0;
    let outside = ea + u128::from(op.width) > u128::from(SIZE);
    let call = |values: [u64; 2]| {
        let operands = op.operands();
        let operands: Vec<String> = operands.iter().zip(values).map(|(ty, v)| constant(ty, v)).collect();
        format!("(invoke \"{name}\" {} {})", constant(address, n), operands.join(" "))
    };
    let waits = matches!(op.kind, Kind::Notify | Kind::Wait);
    let trap = match op.kind {
        // As in wasmtime.
        _ if waits && beyond => Some("out of bounds memory access"),
        _ if unaligned => Some("unaligned atomic"),
        _ if outside => Some("out of bounds memory access"),
        Kind::Wait => Some("expected shared memory"),
        _ => None,
    };
    if let Some(trap) = trap {
        let _ = writeln!(out, "(assert_trap {} \"{trap}\")", call(VALUES[0].1));
        return;
    }
    let ea = ea as u64;
    let (word, shift) = (constant(address, ea & !7), 8 * (ea & 7));
    let mask = u64::MAX >> (64 - 8 * op.width);
    for (memory, values) in VALUES {
        let old = memory >> shift & mask;
        let (returned, new) = op.effect(old, values);
        let after = memory & !(mask << shift) | new << shift;
        let results = op.result().map_or(String::new(), |ty| constant(ty, returned));
        let _ = writeln!(
            out,
            "(invoke \"set\" {word} (i64.const {memory:#x})) (assert_return {} {results})
             (assert_return (invoke \"get\" {word}) (i64.const {after:#x}))",
            call(values)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::script::{Action, Expect, Step};

    #[test]
    fn every_instruction_is_there_with_every_outcome() {
        let ops = ops();
        assert_eq!(ops.len(), 63 + 3);
        let script = read_text("own", &script(&MEMORIES[0]));
        for op in &ops {
            let names = ["", " at 5", " at the end"].map(|suffix| format!("{}{suffix}", op.name));
            let count = |outcome: &dyn Fn(&Expect) -> bool| {
                let is_of_it = |s: &&Step| matches!(&s.action, Action::Invoke(name, _) if names.contains(name));
                let steps = script.steps.iter().filter(is_of_it);
                steps.filter(|s| outcome(&s.expect)).count()
            };
            let traps = |with: &str| count(&|e| matches!(e, Expect::Trap(message) if message.contains(with)));
            let is_wait = matches!(op.kind, Kind::Wait);
            assert!(traps("out of bounds") > 5, "{}", op.name);
            assert_eq!(traps("unaligned") > 5, op.width > 1, "{}", op.name);
            assert_eq!(traps("expected shared memory") > 2, is_wait, "{}", op.name);
            assert_eq!(count(&|e| matches!(e, Expect::Return(_))) > 5, !is_wait, "{}", op.name);
        }
    }
}
