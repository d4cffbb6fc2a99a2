//! Taking scripts apart: every module of a script becomes a case of its own, with the calls made to it in order. Modules don't
//! share anything as long as they import nothing from each other, and those that do are left out (see [`super::skips`]).

use std::collections::HashMap;
use std::path::Path;
use wast::core::{AbstractHeapType, HeapType, NanPattern, WastArgCore, WastRetCore};
use wast::parser::{ParseBuffer, parse};
use wast::token::Id;
use wast::{QuoteWat, WastArg, WastDirective, WastExecute, WastInvoke, WastRet};

/// A script, taken apart.
#[derive(Debug, Default)]
pub struct Script {
    /// Its modules, in order.
    pub modules: Vec<Case>,
    /// Modules that must be refused.
    pub refused: Vec<Refused>,
    /// Directives that no case can hold, with the reason.
    pub unsupported: Vec<(String, String)>,
}

/// A module and what is done with it.
#[derive(Debug)]
pub struct Case {
    /// `folder/file.wast:line`.
    pub id: String,
    /// The module's binary, or why it can't be had.
    pub wasm: Result<Vec<u8>, String>,
    /// The message of the trap that instantiation must end in.
    pub must_trap: Option<String>,
    /// Calls, in order.
    pub steps: Vec<Step>,
    /// It was registered for import by others.
    pub registered: bool,
}

/// A module that must be refused.
#[derive(Debug)]
pub struct Refused {
    /// `folder/file.wast:line`.
    pub id: String,
    /// The binary; `None` if the text parser refuses it already.
    pub wasm: Option<Vec<u8>>,
    /// The suite's word for what is wrong.
    pub message: String,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Step {
    /// Line in the script.
    pub line: usize,
    /// What is done.
    pub action: Action,
    /// What must come of it.
    pub expect: Expect,
}

/// What is done.
#[derive(Clone, Debug)]
pub enum Action {
    /// An exported function is called.
    Invoke(String, Vec<Arg>),
    /// An exported global is read.
    Get(String),
}

/// An argument: its type's name and its bits.
#[derive(Clone, Debug)]
pub struct Arg {
    /// Type.
    pub ty: &'static str,
    /// Bits, little-endian lanes for v128.
    pub bits: u128,
}

/// What must come of a call.
#[derive(Clone, Debug)]
pub enum Expect {
    /// These results.
    Return(Vec<Pattern>),
    /// A trap with this message.
    Trap(String),
    /// It returns; the results don't matter.
    Anything,
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
    /// A null reference of this type.
    Null(&'static str),
    /// Any function reference but null.
    Function,
    /// A v128 whose lanes, lowest first, match these.
    Lanes(Vec<Pattern>),
    /// One of these.
    Either(Vec<Pattern>),
}

/// A value that the suite's scripts may hold, but this harness can't express.
#[derive(Debug)]
struct Inexpressible(String);

/// Reads a script. `folder` names it in ids.
pub fn read(folder: &str, path: &Path) -> Script {
    let file = path.file_name().expect("a script has a name").to_string_lossy().into_owned();
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
    let text = String::from_utf8_lossy(&bytes);
    let mut lexer = wast::lexer::Lexer::new(&text);
    // `names.wast` tests just those.
    lexer.allow_confusing_unicode(true);
    let mut buffer = ParseBuffer::new_with_lexer(lexer).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    buffer.track_instr_spans(false);
    let script = parse::<wast::Wast<'_>>(&buffer).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut reader = Reader {
        prefix: format!("{folder}/{file}"),
        text: &text,
        out: Script::default(),
        names: HashMap::new(),
        current: None,
    };
    for directive in script.directives {
        reader.directive(directive);
    }
    reader.out
}

struct Reader<'t> {
    prefix: String,
    text: &'t str,
    out: Script,
    names: HashMap<String, usize>,
    current: Option<usize>,
}

impl Reader<'_> {
    fn id(&self, span: wast::token::Span) -> (String, usize) {
        let line = span.linecol_in(self.text).0 + 1;
        (format!("{}:{line}", self.prefix), line)
    }

    fn directive(&mut self, directive: WastDirective<'_>) {
        let (id, line) = self.id(directive.span());
        match directive {
            WastDirective::Module(mut module) => {
                let name = module.name().map(|n| n.name().to_owned());
                self.define(id, encode(&mut module), name, None);
            }
            WastDirective::AssertMalformed { mut module, message, .. }
            | WastDirective::AssertInvalid { mut module, message, .. } => {
                let wasm = encode(&mut module).ok();
                self.out.refused.push(Refused {
                    id,
                    wasm,
                    message: message.to_owned(),
                });
            }
            WastDirective::AssertUnlinkable { mut module, message, .. } => match module.encode() {
                Ok(wasm) => self.out.refused.push(Refused {
                    id,
                    wasm: Some(wasm),
                    message: message.to_owned(),
                }),
                Err(e) => self.out.unsupported.push((id, e.to_string())),
            },
            WastDirective::Register { module, .. } => {
                if let Some(case) = self.target(module) {
                    self.out.modules[case].registered = true;
                }
            }
            WastDirective::Invoke(invoke) => self.invoke(id, line, invoke, Expect::Anything),
            WastDirective::AssertReturn { exec, results, .. } => {
                let expected: Result<Vec<Pattern>, Inexpressible> = results.iter().map(pattern).collect();
                match expected {
                    Ok(expected) => self.execute(id, line, exec, Expect::Return(expected)),
                    Err(e) => self.out.unsupported.push((id, e.0)),
                }
            }
            WastDirective::AssertTrap {
                exec: WastExecute::Wat(mut module),
                message,
                ..
            } => {
                let wasm = module.encode().map_err(|e| e.to_string());
                self.define(id, wasm, None, Some(message.to_owned()));
                self.current = None;
            }
            WastDirective::AssertTrap { exec, message, .. } => self.execute(id, line, exec, Expect::Trap(message.to_owned())),
            WastDirective::AssertExhaustion { call, message, .. } => self.invoke(id, line, call, Expect::Trap(message.to_owned())),
            _ => self
                .out
                .unsupported
                .push((id, "a directive of a later version of the suite".into())),
        }
    }

    fn define(&mut self, id: String, wasm: Result<Vec<u8>, String>, name: Option<String>, must_trap: Option<String>) {
        let index = self.out.modules.len();
        self.current = Some(index);
        if let Some(name) = name {
            self.names.insert(name, index);
        }
        self.out.modules.push(Case {
            id,
            wasm,
            must_trap,
            steps: Vec::new(),
            registered: false,
        });
    }

    fn target(&self, module: Option<Id<'_>>) -> Option<usize> {
        match module {
            Some(id) => self.names.get(id.name()).copied(),
            None => self.current,
        }
    }

    fn execute(&mut self, id: String, line: usize, exec: WastExecute<'_>, expect: Expect) {
        match exec {
            WastExecute::Invoke(invoke) => self.invoke(id, line, invoke, expect),
            WastExecute::Get { module, global, .. } => self.step(
                id,
                module,
                Step {
                    line,
                    action: Action::Get(global.to_owned()),
                    expect,
                },
            ),
            WastExecute::Wat(_) => self.out.unsupported.push((id, "a module that must return".into())),
        }
    }

    fn invoke(&mut self, id: String, line: usize, invoke: WastInvoke<'_>, expect: Expect) {
        let args: Result<Vec<Arg>, Inexpressible> = invoke.args.iter().map(arg).collect();
        match args {
            Ok(args) => {
                let action = Action::Invoke(invoke.name.to_owned(), args);
                self.step(id, invoke.module, Step { line, action, expect });
            }
            Err(e) => self.out.unsupported.push((id, e.0)),
        }
    }

    fn step(&mut self, id: String, module: Option<Id<'_>>, step: Step) {
        match self.target(module) {
            Some(case) => self.out.modules[case].steps.push(step),
            None => self.out.unsupported.push((id, "it names no module".into())),
        }
    }
}

fn encode(module: &mut QuoteWat<'_>) -> Result<Vec<u8>, String> {
    module.encode().map_err(|e| e.to_string())
}

fn arg(arg: &WastArg<'_>) -> Result<Arg, Inexpressible> {
    let WastArg::Core(core) = arg else {
        return Err(Inexpressible("an argument of the component model".into()));
    };
    let (ty, bits) = match core {
        WastArgCore::I32(x) => ("i32", *x as u32 as u128),
        WastArgCore::I64(x) => ("i64", *x as u64 as u128),
        WastArgCore::F32(x) => ("f32", x.bits as u128),
        WastArgCore::F64(x) => ("f64", x.bits as u128),
        WastArgCore::V128(x) => ("v128", u128::from_le_bytes(x.to_le_bytes())),
        other => return Err(Inexpressible(format!("a reference as an argument: {other:?}"))),
    };
    Ok(Arg { ty, bits })
}

fn pattern(ret: &WastRet<'_>) -> Result<Pattern, Inexpressible> {
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
        WastRetCore::RefNull(Some(HeapType::Abstract {
            ty: AbstractHeapType::Func,
            ..
        })) => Pattern::Null("funcref"),
        WastRetCore::RefNull(Some(HeapType::Abstract {
            ty: AbstractHeapType::Extern,
            ..
        })) => Pattern::Null("externref"),
        WastRetCore::RefFunc(_) => Pattern::Function,
        WastRetCore::V128(lanes) => super::vector::lanes(lanes),
        WastRetCore::Either(cases) => Pattern::Either(cases.iter().map(core_pattern).collect::<Result<_, _>>()?),
        other => return Err(Inexpressible(format!("a result that needs references: {other:?}"))),
    })
}

impl Pattern {
    /// Does a result match?
    pub fn accepts(&self, ty: &str, bits: u128) -> bool {
        match *self {
            Pattern::Lanes(ref lanes) => ty == "v128" && super::vector::accepts(lanes, bits),
            Pattern::Either(ref cases) => cases.iter().any(|p| p.accepts(ty, bits)),
            Pattern::Bits(t, b) => t == ty && b == bits,
            Pattern::Canonical("f32") => ty == "f32" && bits & 0x7fff_ffff == 0x7fc0_0000,
            Pattern::Canonical(_) => ty == "f64" && bits & 0x7fff_ffff_ffff_ffff == 0x7ff8_0000_0000_0000,
            Pattern::Arithmetic("f32") => ty == "f32" && bits & 0x7fc0_0000 == 0x7fc0_0000,
            Pattern::Arithmetic(_) => ty == "f64" && bits & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
            Pattern::Null(t) => t == ty && bits == dunlin_migrate::types::NULL_REF as u128,
            Pattern::Function => ty == "funcref" && bits != dunlin_migrate::types::NULL_REF as u128,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn nan_patterns() {
        assert!(Pattern::Canonical("f32").accepts("f32", 0xffc0_0000));
        assert!(!Pattern::Canonical("f32").accepts("f32", 0x7fc0_0001));
        assert!(!Pattern::Canonical("f32").accepts("f64", 0x7fc0_0000));
        assert!(Pattern::Arithmetic("f64").accepts("f64", 0xfff8_0000_0000_0001));
        assert!(!Pattern::Arithmetic("f64").accepts("f64", 0x7ff0_0000_0000_0001));
        assert!(Pattern::Bits("f32", 0x7fa0_0000).accepts("f32", 0x7fa0_0000));
    }
}
