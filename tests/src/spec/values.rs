//! Arguments and expected results of scripts, in the words of the runtime's `--commands` mode.

use dunlin_format::types::NULL_REF;
use wast::core::{AbstractHeapType, HeapType, NanPattern, WastArgCore, WastRetCore};
use wast::{WastArg, WastRet};

/// An argument: its type's name and its bits.
#[derive(Clone, Debug)]
pub struct Arg {
    /// Type.
    pub ty: &'static str,
    /// Bits, little-endian lanes for v128.
    pub bits: u128,
}

/// A result that is accepted.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// Exactly these bits of this type.
    Bits(&'static str, u128),
    /// A canonical NaN of this type.
    Canonical(&'static str),
    /// An arithmetic NaN of this type.
    Arithmetic(&'static str),
    /// A null reference, of this type if one is given.
    Null(Option<&'static str>),
    /// Any reference of this type but null.
    NotNull(&'static str),
    /// A v128 whose lanes, lowest first, match these.
    Lanes(Vec<Pattern>),
    /// One of these.
    Either(Vec<Pattern>),
}

/// A value that no supported module takes or returns.
#[derive(Debug)]
pub struct Inexpressible(pub String);

/// Dunlin's type for references of a heap type. All references to functions are funcrefs.
fn reference_type(ty: &HeapType<'_>) -> Result<&'static str, Inexpressible> {
    use AbstractHeapType::*;
    Ok(match ty {
        HeapType::Concrete(_) => "funcref",
        HeapType::Abstract { shared: false, ty } => match ty {
            Func | NoFunc => "funcref",
            Extern | NoExtern => "externref",
            Exn | NoExn => "exnref",
            _ => return Err(Inexpressible(format!("a reference to {ty:?}"))),
        },
        _ => return Err(Inexpressible(format!("a reference to {ty:?}"))),
    })
}

/// An argument of a call.
pub fn arg(arg: &WastArg<'_>) -> Result<Arg, Inexpressible> {
    let WastArg::Core(core) = arg else {
        return Err(Inexpressible("an argument of the component model".into()));
    };
    let (ty, bits) = match core {
        WastArgCore::I32(x) => ("i32", *x as u32 as u128),
        WastArgCore::I64(x) => ("i64", *x as u64 as u128),
        WastArgCore::F32(x) => ("f32", x.bits as u128),
        WastArgCore::F64(x) => ("f64", x.bits as u128),
        WastArgCore::V128(x) => ("v128", u128::from_le_bytes(x.to_le_bytes())),
        WastArgCore::RefNull(ty) => (reference_type(ty)?, u128::from(NULL_REF)),
        WastArgCore::RefExtern(n) => ("externref", u128::from(*n)),
        WastArgCore::RefHost(n) => return Err(Inexpressible(format!("host value {n} of type anyref"))),
    };
    Ok(Arg { ty, bits })
}

/// An expected result.
pub fn pattern(ret: &WastRet<'_>) -> Result<Pattern, Inexpressible> {
    match ret {
        WastRet::Core(core) => core_pattern(core),
        _ => Err(Inexpressible("a result of the component model".into())),
    }
}

fn core_pattern(core: &WastRetCore<'_>) -> Result<Pattern, Inexpressible> {
    Ok(match core {
        WastRetCore::I32(x) => Pattern::Bits("i32", *x as u32 as u128),
        WastRetCore::I64(x) => Pattern::Bits("i64", *x as u64 as u128),
        WastRetCore::F32(NanPattern::Value(x)) => Pattern::Bits("f32", x.bits as u128),
        WastRetCore::F32(NanPattern::CanonicalNan) => Pattern::Canonical("f32"),
        WastRetCore::F32(NanPattern::ArithmeticNan) => Pattern::Arithmetic("f32"),
        WastRetCore::F64(NanPattern::Value(x)) => Pattern::Bits("f64", x.bits as u128),
        WastRetCore::F64(NanPattern::CanonicalNan) => Pattern::Canonical("f64"),
        WastRetCore::F64(NanPattern::ArithmeticNan) => Pattern::Arithmetic("f64"),
        WastRetCore::RefNull(None) => Pattern::Null(None),
        WastRetCore::RefNull(Some(ty)) => Pattern::Null(Some(reference_type(ty)?)),
        WastRetCore::RefExtern(Some(n)) => Pattern::Bits("externref", u128::from(*n)),
        WastRetCore::RefExtern(None) => Pattern::NotNull("externref"),
        WastRetCore::RefFunc(_) => Pattern::NotNull("funcref"),
        WastRetCore::V128(lanes) => super::vector::lanes(lanes),
        WastRetCore::Either(cases) => Pattern::Either(cases.iter().map(core_pattern).collect::<Result<_, _>>()?),
        other => {
            return Err(Inexpressible(format!(
                "a result that needs garbage collection: {other:?}"
            )));
        }
    })
}

impl Pattern {
    /// Does a result match?
    pub fn accepts(&self, ty: &str, bits: u128) -> bool {
        let null = bits == u128::from(NULL_REF);
        match *self {
            Pattern::Lanes(ref lanes) => ty == "v128" && super::vector::accepts(lanes, bits),
            Pattern::Either(ref cases) => cases.iter().any(|p| p.accepts(ty, bits)),
            Pattern::Bits(t, b) => t == ty && b == bits,
            Pattern::Canonical("f32") => ty == "f32" && bits & 0x7fff_ffff == 0x7fc0_0000,
            Pattern::Canonical(_) => ty == "f64" && bits & 0x7fff_ffff_ffff_ffff == 0x7ff8_0000_0000_0000,
            Pattern::Arithmetic("f32") => ty == "f32" && bits & 0x7fc0_0000 == 0x7fc0_0000,
            Pattern::Arithmetic(_) => ty == "f64" && bits & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
            Pattern::Null(t) => null && ty.ends_with("ref") && t.is_none_or(|t| t == ty),
            Pattern::NotNull(t) => t == ty && !null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_patterns() {
        assert!(Pattern::Canonical("f32").accepts("f32", 0xffc0_0000));
        assert!(!Pattern::Canonical("f32").accepts("f32", 0x7fc0_0001));
        assert!(!Pattern::Canonical("f32").accepts("f64", 0x7fc0_0000));
        assert!(Pattern::Arithmetic("f64").accepts("f64", 0xfff8_0000_0000_0001));
        assert!(!Pattern::Arithmetic("f64").accepts("f64", 0x7ff0_0000_0000_0001));
        assert!(Pattern::Bits("f32", 0x7fa0_0000).accepts("f32", 0x7fa0_0000));
    }

    #[test]
    fn reference_patterns() {
        let null = u128::from(NULL_REF);
        assert!(Pattern::Null(None).accepts("exnref", null) && Pattern::Null(Some("exnref")).accepts("exnref", null));
        assert!(!Pattern::Null(Some("funcref")).accepts("exnref", null) && !Pattern::Null(None).accepts("i32", null));
        assert!(!Pattern::Null(None).accepts("funcref", 0) && Pattern::NotNull("funcref").accepts("funcref", 0));
        assert!(!Pattern::NotNull("funcref").accepts("funcref", null));
    }
}
