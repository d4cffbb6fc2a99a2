//! What is done with a module, in the words of the runtime's `--commands` mode, and replies in a form that engines can
//! be compared in.

use crate::rng::Rng;
use dunlin_format::hostcalls::Trap;
use dunlin_format::types::{NULL_REF, ValType, Value};

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Give the module fuel for its next call.
    Refuel(u32),
    /// Call an export.
    Invoke(String, Vec<Value>),
    /// Look at all memories, globals and tables.
    Digest,
}

/// Name under which the fuel is exported: none that wasm-smith makes.
pub const FUEL: &str = "dunlin fuel";

impl Command {
    /// The line that the runtime reads.
    pub fn line(&self) -> String {
        match self {
            Command::Refuel(fuel) => format!("set {} i32:{fuel:x}", hex(FUEL)),
            Command::Invoke(name, args) => args.iter().fold(format!("invoke {}", hex(name)), |line, arg| {
                format!("{line} {}:{:x}", arg.ty(), arg.to_bits())
            }),
            Command::Digest => "digest".into(),
        }
    }
}

fn hex(name: &str) -> String {
    match name {
        "" => "-".into(),
        _ => name.bytes().map(|b| format!("{b:02x}")).collect(),
    }
}

/// A value of a parameter's type.
pub fn argument(ty: ValType, rng: &mut Rng) -> Value {
    const EDGES: [u64; 12] = [
        0,
        1,
        2,
        0xff,
        0xffff,
        0x1_0000,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0x7fff_ffff_ffff_ffff,
        0x8000_0000_0000_0000,
        u64::MAX,
    ];
    let mut bits = || match rng.below(3) {
        0 => rng.pick(&EDGES),
        1 => rng.number() & 0xff,
        _ => rng.number(),
    };
    let (low, high) = (bits(), bits());
    match ty {
        ValType::F32 => {
            let floats = [0.0f32, -0.0, 1.5, -7.25, 1e30, f32::MAX, f32::INFINITY, f32::NAN, 1e-40];
            Value::F32(match low % 3 {
                0 => floats[(low / 3) as usize % floats.len()].to_bits(),
                1 => nan(32, high) as u32,
                _ => low as u32,
            })
        }
        ValType::F64 => {
            let floats = [
                0.0f64,
                -0.0,
                1.5,
                -7.25,
                1e300,
                f64::MAX,
                f64::INFINITY,
                f64::NAN,
                1e-310,
            ];
            Value::F64(match low % 3 {
                0 => floats[(low / 3) as usize % floats.len()].to_bits(),
                1 => nan(64, high),
                _ => low,
            })
        }
        ValType::V128 if low % 3 == 1 => {
            Value::V128(u128::from(nan(64, high)) << 64 | u128::from(nan(32, low) << 32 | nan(32, high)))
        }
        ValType::V128 => Value::V128(u128::from(high) << 64 | u128::from(low)),
        ValType::ExternRef if high & 1 == 0 => Value::ExternRef(Some(low as u32 % 100)),
        ValType::FuncRef | ValType::ExternRef | ValType::ExnRef => Value::zero(ty),
        ValType::I32 | ValType::I64 => {
            let mask = if ty == ValType::I32 {
                u64::from(u32::MAX)
            } else {
                u64::MAX
            };
            Value::from_bits(ty, u128::from(low & mask))
        }
    }
}

/// The bits of a NaN of so many bits: signalling or quiet, of either sign, with some payload.
fn nan(bits: u32, random: u64) -> u64 {
    let (all, quiet) = match bits {
        32 => (0x7f80_0000, 0x40_0000),
        _ => (0x7ff0_0000_0000_0000, 0x8_0000_0000_0000),
    };
    let payload = match random >> 1 & 3 {
        0 => 1,
        1 => quiet - 1,
        _ => random >> 12 & (quiet - 1) | 2,
    };
    let kind = if random & 8 == 0 { quiet } else { 0 };
    all | (random & 1) << (bits - 1) | kind | payload
}

/// A value as all engines can show it: of a function or an exception only whether it is null.
pub fn show(value: Value) -> String {
    match value {
        Value::FuncRef(None) | Value::ExternRef(None) | Value::ExnRef(None) => format!("{}:null", value.ty()),
        Value::FuncRef(Some(_)) | Value::ExnRef(Some(_)) => format!("{}:some", value.ty()),
        _ => format!("{}:{:x}", value.ty(), value.to_bits()),
    }
}

/// A trap as all engines know it.
pub fn show_trap(trap: Trap) -> String {
    // What differs only in what the operand is called.
    let trap = if trap == Trap::NullException {
        Trap::NullReference
    } else {
        trap
    };
    format!("trap {trap:?}")
}

/// The reply to a call that has exhausted the stack: engines differ in when that happens.
pub fn is_overflow(reply: &str) -> bool {
    reply_proper(reply) == show_trap(Trap::StackOverflow)
}

/// A reply without the host calls that came before it.
pub fn reply_proper(reply: &str) -> &str {
    reply.rsplit_once('\n').map_or(reply, |(_, line)| line)
}

/// A reply of the runtime's, as all engines could give it.
pub fn normal(reply: &str) -> String {
    if let Some((calls, line)) = reply.rsplit_once('\n') {
        return format!("{calls}\n{}", normal(line));
    }
    if let Some(message) = reply.strip_prefix("trap ") {
        let trap = (0..=u8::MAX).filter_map(Trap::from_u8).find(|t| t.message() == message);
        return trap.map_or_else(|| reply.to_owned(), show_trap);
    }
    reply.split(' ').map(normal_word).collect::<Vec<_>>().join(" ")
}

fn normal_word(word: &str) -> String {
    let parts: Vec<&str> = word.split(':').collect();
    let null = format!("{NULL_REF:x}");
    match parts.as_slice() {
        ["funcref" | "exnref" | "externref", bits] if *bits == null => format!("{}:null", parts[0]),
        ["funcref" | "exnref", _] => format!("{}:some", parts[0]),
        // A table: which elements are null, not which functions the others are.
        [len, nulls, _elements] => format!("{len}:{nulls}"),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_can_not_know_is_left_out() {
        assert_eq!(
            normal("ok funcref:3 funcref:ffffffff externref:5 i32:7"),
            "ok funcref:some funcref:null externref:5 i32:7"
        );
        assert_eq!(normal("ok 1:ab / i64:0 / 4:12:34"), "ok 1:ab / i64:0 / 4:12");
        assert_eq!(normal("trap integer overflow"), "trap IntegerOverflow");
        assert_eq!(
            normal("call print\ntrap integer overflow"),
            "call print\ntrap IntegerOverflow"
        );
        assert_eq!(normal("trap null exception reference"), "trap NullReference");
    }

    #[test]
    fn some_arguments_are_signalling_nans() {
        let mut rng = Rng::new(1);
        let mut signalling = |ty, all: u128, quiet: u128| {
            let values = (0..200).map(|_| argument(ty, &mut rng).to_bits());
            values
                .filter(|bits| bits & all == all && bits & quiet == 0 && bits & (quiet - 1) != 0)
                .count()
        };
        assert!(signalling(ValType::F32, 0x7f80_0000, 0x40_0000) > 10);
        assert!(signalling(ValType::F64, 0x7ff0_0000_0000_0000, 0x8_0000_0000_0000) > 10);
        assert!(signalling(ValType::V128, 0x7ff0_0000_0000_0000 << 64, 0x8_0000_0000_0000 << 64) > 10);
    }

    #[test]
    fn commands_are_lines() {
        let invoke = Command::Invoke("a-".into(), vec![Value::I32(17), Value::FuncRef(None)]);
        assert_eq!(invoke.line(), "invoke 612d i32:11 funcref:ffffffff");
        assert_eq!(Command::Invoke(String::new(), vec![]).line(), "invoke -");
    }
}
