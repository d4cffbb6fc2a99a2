//! Constants and numeric instructions.

use super::Translator;
use cranelift_codegen::ir::immediates::{Ieee32, Ieee64};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, condcodes::FloatCC, condcodes::IntCC, types::*};
use wasmparser::Operator;

/// Translates a constant or a numeric instruction; `false` if it is none.
pub(crate) fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    integer(t, op) || float(t, op) || conversion(t, op)
}

macro_rules! binary {
    ($t:ident, $ins:ident) => {{
        let (x, y) = $t.pop2();
        let v = $t.b.ins().$ins(x, y);
        $t.push(v)
    }};
}

macro_rules! unary {
    ($t:ident, $ins:ident) => {{
        let x = $t.pop();
        let v = $t.b.ins().$ins(x);
        $t.push(v)
    }};
}

macro_rules! convert {
    ($t:ident, $ins:ident, $ty:expr) => {{
        let x = $t.pop();
        let v = $t.b.ins().$ins($ty, x);
        $t.push(v)
    }};
}

fn integer(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match *op {
        I32Const { value } => {
            let v = t.b.ins().iconst(I32, i64::from(value as u32));
            t.push(v);
        }
        I64Const { value } => {
            let v = t.b.ins().iconst(I64, value);
            t.push(v);
        }
        I32Eqz => t.eqz(I32),
        I64Eqz => t.eqz(I64),
        I32Eq | I64Eq => t.icmp(IntCC::Equal),
        I32Ne | I64Ne => t.icmp(IntCC::NotEqual),
        I32LtS | I64LtS => t.icmp(IntCC::SignedLessThan),
        I32LtU | I64LtU => t.icmp(IntCC::UnsignedLessThan),
        I32GtS | I64GtS => t.icmp(IntCC::SignedGreaterThan),
        I32GtU | I64GtU => t.icmp(IntCC::UnsignedGreaterThan),
        I32LeS | I64LeS => t.icmp(IntCC::SignedLessThanOrEqual),
        I32LeU | I64LeU => t.icmp(IntCC::UnsignedLessThanOrEqual),
        I32GeS | I64GeS => t.icmp(IntCC::SignedGreaterThanOrEqual),
        I32GeU | I64GeU => t.icmp(IntCC::UnsignedGreaterThanOrEqual),
        I32Clz | I64Clz => unary!(t, clz),
        I32Ctz | I64Ctz => unary!(t, ctz),
        I32Popcnt | I64Popcnt => unary!(t, popcnt),
        I32Add | I64Add => binary!(t, iadd),
        I32Sub | I64Sub => binary!(t, isub),
        I32Mul | I64Mul => binary!(t, imul),
        I32DivS | I64DivS => binary!(t, sdiv),
        I32DivU | I64DivU => binary!(t, udiv),
        I32RemS | I64RemS => binary!(t, srem),
        I32RemU | I64RemU => binary!(t, urem),
        I32And | I64And => binary!(t, band),
        I32Or | I64Or => binary!(t, bor),
        I32Xor | I64Xor => binary!(t, bxor),
        I32Shl | I64Shl => binary!(t, ishl),
        I32ShrS | I64ShrS => binary!(t, sshr),
        I32ShrU | I64ShrU => binary!(t, ushr),
        I32Rotl | I64Rotl => binary!(t, rotl),
        I32Rotr | I64Rotr => binary!(t, rotr),
        I32Extend8S => t.extend_part(I8, I32),
        I32Extend16S => t.extend_part(I16, I32),
        I64Extend8S => t.extend_part(I8, I64),
        I64Extend16S => t.extend_part(I16, I64),
        I64Extend32S => t.extend_part(I32, I64),
        _ => return false,
    }
    true
}

fn float(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match *op {
        F32Const { value } => {
            let v = t.b.ins().f32const(Ieee32::with_bits(value.bits()));
            t.push(v);
        }
        F64Const { value } => {
            let v = t.b.ins().f64const(Ieee64::with_bits(value.bits()));
            t.push(v);
        }
        F32Eq | F64Eq => t.fcmp(FloatCC::Equal),
        F32Ne | F64Ne => t.fcmp(FloatCC::NotEqual),
        F32Lt | F64Lt => t.fcmp(FloatCC::LessThan),
        F32Gt | F64Gt => t.fcmp(FloatCC::GreaterThan),
        F32Le | F64Le => t.fcmp(FloatCC::LessThanOrEqual),
        F32Ge | F64Ge => t.fcmp(FloatCC::GreaterThanOrEqual),
        F32Abs | F64Abs => unary!(t, fabs),
        F32Neg | F64Neg => unary!(t, fneg),
        F32Ceil | F64Ceil => unary!(t, ceil),
        F32Floor | F64Floor => unary!(t, floor),
        F32Trunc | F64Trunc => unary!(t, trunc),
        F32Nearest | F64Nearest => unary!(t, nearest),
        F32Sqrt | F64Sqrt => unary!(t, sqrt),
        F32Add | F64Add => binary!(t, fadd),
        F32Sub | F64Sub => binary!(t, fsub),
        F32Mul | F64Mul => binary!(t, fmul),
        F32Div | F64Div => binary!(t, fdiv),
        F32Min | F64Min => binary!(t, fmin),
        F32Max | F64Max => binary!(t, fmax),
        F32Copysign | F64Copysign => binary!(t, fcopysign),
        _ => return false,
    }
    true
}

fn conversion(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match *op {
        I32WrapI64 => convert!(t, ireduce, I32),
        I64ExtendI32S => convert!(t, sextend, I64),
        I64ExtendI32U => convert!(t, uextend, I64),
        I32TruncF32S | I32TruncF64S => convert!(t, fcvt_to_sint, I32),
        I32TruncF32U | I32TruncF64U => convert!(t, fcvt_to_uint, I32),
        I64TruncF32S | I64TruncF64S => convert!(t, fcvt_to_sint, I64),
        I64TruncF32U | I64TruncF64U => convert!(t, fcvt_to_uint, I64),
        I32TruncSatF32S | I32TruncSatF64S => convert!(t, fcvt_to_sint_sat, I32),
        I32TruncSatF32U | I32TruncSatF64U => convert!(t, fcvt_to_uint_sat, I32),
        I64TruncSatF32S | I64TruncSatF64S => convert!(t, fcvt_to_sint_sat, I64),
        I64TruncSatF32U | I64TruncSatF64U => convert!(t, fcvt_to_uint_sat, I64),
        F32ConvertI32S | F32ConvertI64S => convert!(t, fcvt_from_sint, F32),
        F32ConvertI32U | F32ConvertI64U => convert!(t, fcvt_from_uint, F32),
        F64ConvertI32S | F64ConvertI64S => convert!(t, fcvt_from_sint, F64),
        F64ConvertI32U | F64ConvertI64U => convert!(t, fcvt_from_uint, F64),
        F32DemoteF64 => convert!(t, fdemote, F32),
        F64PromoteF32 => convert!(t, fpromote, F64),
        I32ReinterpretF32 => t.reinterpret(I32),
        I64ReinterpretF64 => t.reinterpret(I64),
        F32ReinterpretI32 => t.reinterpret(F32),
        F64ReinterpretI64 => t.reinterpret(F64),
        _ => return false,
    }
    true
}

impl Translator<'_, '_, '_> {
    /// A comparison's result as WebAssembly has it: an i32.
    fn push_bool(&mut self, b: Value) {
        let v = self.b.ins().uextend(I32, b);
        self.push(v);
    }

    fn eqz(&mut self, ty: Type) {
        let x = self.pop();
        let zero = self.b.ins().iconst(ty, 0);
        let b = self.b.ins().icmp(IntCC::Equal, x, zero);
        self.push_bool(b);
    }

    fn icmp(&mut self, cc: IntCC) {
        let (x, y) = self.pop2();
        let b = self.b.ins().icmp(cc, x, y);
        self.push_bool(b);
    }

    fn fcmp(&mut self, cc: FloatCC) {
        let (x, y) = self.pop2();
        let b = self.b.ins().fcmp(cc, x, y);
        self.push_bool(b);
    }

    fn extend_part(&mut self, part: Type, ty: Type) {
        let x = self.pop();
        let low = self.b.ins().ireduce(part, x);
        let v = self.b.ins().sextend(ty, low);
        self.push(v);
    }

    fn reinterpret(&mut self, ty: Type) {
        let x = self.pop();
        let v = self.b.ins().bitcast(ty, MemFlagsData::new(), x);
        self.push(v);
    }
}
