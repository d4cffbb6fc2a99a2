//! Reading scripts: instances of modules in their order, and what is done with them.

use super::interface::Interface;
use super::values::{self, Arg, Inexpressible, Pattern};
use std::collections::HashMap;
use std::path::Path;
use wast::parser::{ParseBuffer, parse};
use wast::token::{Id, Span};
use wast::{QuoteWat, WastDirective, WastExecute, WastInvoke};

/// A script.
#[derive(Debug, Default)]
pub struct Script {
    /// Its instances, in order; those that must not come to be, too.
    pub instances: Vec<Instance>,
    /// What happens after instances were made.
    pub steps: Vec<Step>,
    /// Modules that must be refused.
    pub refused: Vec<Refused>,
    /// Directives that can't be carried out, with the reason: (id, reason, is it an assertion?)
    pub unsupported: Vec<(String, String, bool)>,
}

/// An instance of a module.
#[derive(Debug)]
pub struct Instance {
    /// `folder/file.wast:line`.
    pub id: String,
    /// The module's binary, or why it can't be had.
    pub wasm: Result<Vec<u8>, String>,
    /// What it imports and exports, as far as there is a binary.
    pub interface: Interface,
    /// Where each of its imports comes from.
    pub providers: Vec<Provider>,
    /// What must come of it.
    pub expect: Instantiation,
    /// How many steps came before it.
    pub before: usize,
}

/// Where an import comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// The suite's host module.
    Spectest,
    /// An earlier instance.
    Instance(usize),
    /// Nothing is registered under this name.
    Nobody,
}

/// What must come of making an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instantiation {
    /// It is there.
    Instance,
    /// A trap with this message.
    Trap(String),
    /// An exception.
    Exception,
    /// Its imports don't fit, with this message.
    Unlinkable(String),
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

/// Something that is done with an instance.
#[derive(Clone, Debug)]
pub struct Step {
    /// Index of the instance.
    pub instance: usize,
    /// Line in the script.
    pub line: usize,
    /// What is done.
    pub action: Action,
    /// What must come of it.
    pub expect: Expect,
    /// Is it an assertion? (Else it must just succeed.)
    pub asserts: bool,
}

/// What is done.
#[derive(Clone, Debug)]
pub enum Action {
    /// An exported function is called.
    Invoke(String, Vec<Arg>),
    /// An exported global is read.
    Get(String),
}

/// What must come of a call.
#[derive(Clone, Debug)]
pub enum Expect {
    /// These results.
    Return(Vec<Pattern>),
    /// A trap with this message.
    Trap(String),
    /// An exception that nothing catches.
    Exception,
    /// It returns; the results don't matter.
    Anything,
    /// What no supported module returns: for this reason.
    Inexpressible(String),
}

/// Reads a script. `folder` names it in ids.
pub fn read(folder: &str, path: &Path) -> Script {
    let file = path
        .file_name()
        .expect("a script has a name")
        .to_string_lossy()
        .into_owned();
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
    let text = String::from_utf8_lossy(&bytes);
    read_text(&format!("{folder}/{file}"), &text)
}

/// Reads a script's text. `name` names it in ids.
pub fn read_text(name: &str, text: &str) -> Script {
    let mut lexer = wast::lexer::Lexer::new(text);
    // `names.wast` tests just those.
    lexer.allow_confusing_unicode(true);
    let mut buffer = ParseBuffer::new_with_lexer(lexer).unwrap_or_else(|e| panic!("{name}: {e}"));
    buffer.track_instr_spans(false);
    let script = parse::<wast::Wast<'_>>(&buffer).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut reader = Reader {
        name,
        text,
        out: Script::default(),
        names: HashMap::new(),
        registered: HashMap::new(),
        definitions: HashMap::new(),
        current: None,
        defined: None,
    };
    for directive in script.directives {
        reader.directive(directive);
    }
    reader.out
}

type Binary = Result<Vec<u8>, String>;

struct Reader<'t> {
    name: &'t str,
    text: &'t str,
    out: Script,
    /// Instances by their names in the script.
    names: HashMap<String, usize>,
    /// Instances by the names under which others import from them.
    registered: HashMap<String, usize>,
    /// Modules that are defined without being instantiated at once.
    definitions: HashMap<String, Binary>,
    current: Option<usize>,
    /// The last of the definitions.
    defined: Option<Binary>,
}

impl Reader<'_> {
    fn id(&self, span: Span) -> (String, usize) {
        let line = span.linecol_in(self.text).0 + 1;
        (format!("{}:{line}", self.name), line)
    }

    fn directive(&mut self, directive: WastDirective<'_>) {
        let (id, line) = self.id(directive.span());
        match directive {
            WastDirective::Module(mut module) => {
                let name = module.name().map(|n| n.name().to_owned());
                let wasm = encode(&mut module);
                if let Some(name) = &name {
                    self.definitions.insert(name.clone(), wasm.clone());
                }
                self.instantiate(id, wasm, name, Instantiation::Instance);
            }
            WastDirective::ModuleDefinition(mut module) => {
                let name = module.name().map(|n| n.name().to_owned());
                let wasm = encode(&mut module);
                if let Some(name) = name {
                    self.definitions.insert(name, wasm.clone());
                }
                self.defined = Some(wasm);
            }
            WastDirective::ModuleInstance { instance, module, .. } => {
                let wasm = match module {
                    Some(module) => self.definitions.get(module.name()).cloned(),
                    None => self.defined.clone(),
                };
                let wasm = wasm.unwrap_or_else(|| Err("it is an instance of no module".into()));
                self.instantiate(id, wasm, instance.map(|n| n.name().to_owned()), Instantiation::Instance);
            }
            WastDirective::AssertMalformed {
                mut module, message, ..
            }
            | WastDirective::AssertInvalid {
                mut module, message, ..
            }
            | WastDirective::AssertMalformedCustom {
                mut module, message, ..
            }
            | WastDirective::AssertInvalidCustom {
                mut module, message, ..
            } => self.out.refused.push(Refused {
                id,
                wasm: encode(&mut module).ok(),
                message: message.to_owned(),
            }),
            WastDirective::AssertUnlinkable {
                mut module, message, ..
            } => {
                let wasm = module.encode().map_err(|e| e.to_string());
                self.instantiate(id, wasm, None, Instantiation::Unlinkable(message.to_owned()));
            }
            WastDirective::Register { module, name, .. } => match self.target(module) {
                Some(instance) => drop(self.registered.insert(name.to_owned(), instance)),
                None => self.out.unsupported.push((id, "it registers no module".into(), false)),
            },
            WastDirective::Invoke(invoke) => self.invoke(id, line, invoke, Expect::Anything, false),
            WastDirective::AssertReturn { exec, results, .. } => {
                let expected: Result<Vec<Pattern>, Inexpressible> = results.iter().map(values::pattern).collect();
                let expect = expected.map_or_else(|e| Expect::Inexpressible(e.0), Expect::Return);
                self.execute(id, line, exec, expect);
            }
            WastDirective::AssertTrap { exec, message, .. } => {
                self.execute(id, line, exec, Expect::Trap(message.to_owned()))
            }
            WastDirective::AssertExhaustion { call, message, .. } => {
                self.invoke(id, line, call, Expect::Trap(message.to_owned()), true);
            }
            WastDirective::AssertException { exec, .. } => self.execute(id, line, exec, Expect::Exception),
            WastDirective::AssertSuspension { .. } => self.out.unsupported.push((id, "stack switching".into(), true)),
            WastDirective::Thread(thread) => {
                let assertions = thread.directives.iter().filter(|d| {
                    !matches!(
                        d,
                        WastDirective::Module(_) | WastDirective::Register { .. } | WastDirective::Invoke(_)
                    )
                });
                let assertions = assertions.count();
                for _ in 0..assertions.max(1) {
                    self.out
                        .unsupported
                        .push((id.clone(), "threads".into(), assertions > 0));
                }
            }
            WastDirective::Wait { .. } => self.out.unsupported.push((id, "threads".into(), false)),
        }
    }

    fn instantiate(&mut self, id: String, wasm: Binary, name: Option<String>, expect: Instantiation) {
        let index = self.out.instances.len();
        let interface = wasm.as_deref().map_or_else(|_| Interface::default(), Interface::of);
        let provider = |module: &str| match self.registered.get(module) {
            Some(&instance) => Provider::Instance(instance),
            None if module == dunlin_format::imports::SPECTEST => Provider::Spectest,
            None => Provider::Nobody,
        };
        let providers = interface.imports.iter().map(|i| provider(&i.module)).collect();
        if expect == Instantiation::Instance {
            self.current = Some(index);
            if let Some(name) = name {
                self.names.insert(name, index);
            }
        }
        self.out.instances.push(Instance {
            id,
            wasm,
            interface,
            providers,
            expect,
            before: self.out.steps.len(),
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
            WastExecute::Invoke(invoke) => self.invoke(id, line, invoke, expect, true),
            WastExecute::Get { module, global, .. } => {
                self.step(id, line, module, Action::Get(global.to_owned()), expect, true)
            }
            WastExecute::Wat(mut module) => {
                let wasm = module.encode().map_err(|e| e.to_string());
                let expect = match expect {
                    Expect::Trap(message) => Instantiation::Trap(message),
                    Expect::Exception => Instantiation::Exception,
                    _ => Instantiation::Instance,
                };
                let current = self.current;
                self.instantiate(id, wasm, None, expect);
                self.current = current;
            }
        }
    }

    fn invoke(&mut self, id: String, line: usize, invoke: WastInvoke<'_>, expect: Expect, asserts: bool) {
        let args: Result<Vec<Arg>, Inexpressible> = invoke.args.iter().map(values::arg).collect();
        let (args, expect) = match args {
            Ok(args) => (args, expect),
            Err(e) => (Vec::new(), Expect::Inexpressible(e.0)),
        };
        let action = Action::Invoke(invoke.name.to_owned(), args);
        self.step(id, line, invoke.module, action, expect, asserts);
    }

    fn step(&mut self, id: String, line: usize, module: Option<Id<'_>>, action: Action, expect: Expect, asserts: bool) {
        match self.target(module) {
            Some(instance) => self.out.steps.push(Step {
                instance,
                line,
                action,
                expect,
                asserts,
            }),
            None => self.out.unsupported.push((id, "it names no instance".into(), asserts)),
        }
    }
}

fn encode(module: &mut QuoteWat<'_>) -> Binary {
    module.encode().map_err(|e| e.to_string())
}
