//! What is called in which order: the start function, a reactor's `_initialize`, and the main export; and functions
//! called by name with arguments given as text.

use crate::engine::running::{Enter, Running};
use dunlin_format::module::ModuleInfo;
use dunlin_format::types::{ValType, Value};
use dunlin_interface::exit::{Ending, Failure, NO_PROGRAM, USAGE};
use dunlin_migrate::state::Invocation;
use std::io::Write;

/// A command's entry.
const START: &str = "_start";
/// A reactor's initialisation.
const INITIALIZE: &str = "_initialize";

/// The functions to call, in order.
fn phases(module: &ModuleInfo, invoke: Option<&str>) -> Result<Vec<Invocation>, Failure> {
    let mut phases = Vec::new();
    if module.start.is_some() {
        phases.push(Invocation::Start);
    }
    let main = invoke.unwrap_or(START);
    match module.exported_func(main) {
        Some(_) => {
            if main != INITIALIZE && module.exported_func(INITIALIZE).is_some() {
                phases.push(Invocation::Export(INITIALIZE.into()));
            }
            phases.push(Invocation::Export(main.into()));
        }
        // A module may do everything in its start function.
        None if invoke.is_none() && module.start.is_some() => {}
        None if invoke.is_none() => {
            let message = "the program exports no function `_start`; call another with --invoke NAME";
            return Err(Failure::new(NO_PROGRAM, message));
        }
        None => {
            return Err(Failure::new(
                USAGE,
                format!("--invoke {main}: the program exports no function of that name"),
            ));
        }
    }
    Ok(phases)
}

fn func_of(module: &ModuleInfo, invocation: &Invocation) -> Option<u32> {
    match invocation {
        Invocation::Start => module.start,
        Invocation::Export(name) => module.exported_func(name),
    }
}

impl Running {
    /// Runs an instantiated program from its beginning to its end.
    pub(crate) fn run(&mut self, invoke: Option<&str>) -> Ending {
        let module = &self.instance.program.module;
        match phases(module, invoke) {
            Ok(phases) => self.run_phases(&phases),
            Err(failure) => Ending::Failed(failure),
        }
    }

    /// Runs a restored program to its end. `import`: see [`Enter::Resume`].
    pub(crate) fn go_on(&mut self, import: Option<u32>, invoke: Option<&str>) -> Ending {
        if let Err(ending) = self.enter(Enter::Resume(import)) {
            return ending;
        }
        let current = self.invocation.clone();
        if let Err(ending) = self.returned(&current) {
            return ending;
        }
        // What comes after it; nothing, if it isn't one of the phases of an ordinary run.
        match phases(&self.instance.program.module, invoke) {
            Ok(phases) => match phases.iter().position(|p| *p == current) {
                Some(at) => self.run_phases(&phases[at + 1..]),
                None => Ending::Returned,
            },
            Err(failure) if current == Invocation::Start => Ending::Failed(failure),
            Err(_) => Ending::Returned,
        }
    }

    fn run_phases(&mut self, phases: &[Invocation]) -> Ending {
        for phase in phases {
            if let Err(ending) = self.run_phase(phase) {
                return ending;
            }
        }
        Ending::Returned
    }

    fn run_phase(&mut self, phase: &Invocation) -> Result<(), Ending> {
        let module = &self.instance.program.module;
        let func = func_of(module, phase)
            .ok_or_else(|| Ending::Failed(Failure::new(NO_PROGRAM, "the program's entry has disappeared")))?;
        self.invocation = phase.clone();
        let params = &module.func_type(func).params;
        if !params.is_empty() {
            let text: Vec<&str> = self.setup.config.args.iter().skip(1).map(String::as_str).collect();
            let args = parse_args(params, &text).map_err(|e| Ending::Failed(Failure::new(USAGE, e)))?;
            for (slot, arg) in (0..).zip(args) {
                self.instance.set_slot(slot, arg.to_bits());
            }
        }
        self.enter(Enter::Call(func))?;
        self.returned(phase)
    }

    /// A phase's function has returned: shows its results, if it is one that the user named.
    fn returned(&self, phase: &Invocation) -> Result<(), Ending> {
        let module = &self.instance.program.module;
        if let Some(func) = func_of(module, phase) {
            for result in self.results(func) {
                // Whoever has closed standard output doesn't want it.
                let _ = writeln!(std::io::stdout(), "{}", show(result));
            }
        }
        Ok(())
    }

    /// Calls a function with arguments of its types; returns its results.
    pub(crate) fn call(&mut self, func: u32, args: &[Value]) -> Result<Vec<Value>, Ending> {
        for (slot, arg) in (0..).zip(args) {
            self.instance.set_slot(slot, arg.to_bits());
        }
        self.enter(Enter::Call(func))?;
        Ok(self.results(func))
    }

    /// The results of a function that has just returned.
    pub(crate) fn results(&self, func: u32) -> Vec<Value> {
        let types = &self.instance.program.module.func_type(func).results;
        (0..)
            .zip(types)
            .map(|(slot, &ty)| Value::from_bits(ty, self.instance.slot(slot)))
            .collect()
    }
}

/// Arguments for parameters of these types, from decimal or `0x` numbers.
fn parse_args(params: &[ValType], text: &[&str]) -> Result<Vec<Value>, String> {
    if params.len() != text.len() {
        return Err(format!(
            "the function takes {} arguments, {} are given",
            params.len(),
            text.len()
        ));
    }
    let parse = |(&ty, &text): (&ValType, &&str)| {
        parse(ty, text).ok_or_else(|| format!("'{text}' is not a value of type {ty}"))
    };
    params.iter().zip(text).map(parse).collect()
}

fn parse(ty: ValType, text: &str) -> Option<Value> {
    let integer = || {
        let (digits, negative) = text.strip_prefix('-').map_or((text, false), |digits| (digits, true));
        let number = match digits.strip_prefix("0x") {
            Some(hex) => i128::from_str_radix(hex, 16).ok()?,
            None => digits.parse::<i128>().ok()?,
        };
        (number >= 0 && !digits.starts_with('+')).then_some(if negative { -number } else { number })
    };
    match ty {
        ValType::I32 => {
            let n = integer()?;
            (i128::from(i32::MIN)..=i128::from(u32::MAX))
                .contains(&n)
                .then_some(Value::I32(n as u32))
        }
        ValType::I64 => {
            let n = integer()?;
            (i128::from(i64::MIN)..=i128::from(u64::MAX))
                .contains(&n)
                .then_some(Value::I64(n as u64))
        }
        ValType::F32 => text.parse::<f32>().ok().map(|x| Value::F32(x.to_bits())),
        ValType::F64 => text.parse::<f64>().ok().map(|x| Value::F64(x.to_bits())),
        // As it is shown: one unsigned number, lane 0 in its lowest bits.
        ValType::V128 => match text.strip_prefix("0x") {
            _ if text.contains('+') => None,
            Some(hex) => u128::from_str_radix(hex, 16).ok().map(Value::V128),
            None => text.parse().ok().map(Value::V128),
        },
        _ => None,
    }
}

/// A result as wasmtime prints it.
fn show(value: Value) -> String {
    match value {
        Value::I32(n) => (n as i32).to_string(),
        Value::I64(n) => (n as i64).to_string(),
        Value::F32(bits) => f32::from_bits(bits).to_string(),
        Value::F64(bits) => f64::from_bits(bits).to_string(),
        Value::V128(n) => n.to_string(),
        Value::FuncRef(None) | Value::ExternRef(None) | Value::ExnRef(None) => "<null>".into(),
        Value::FuncRef(Some(_)) => "<funcref>".into(),
        Value::ExternRef(Some(_)) => "<externref>".into(),
        Value::ExnRef(Some(_)) => "<exnref>".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_format::module::{Export, ExportKind};

    #[test]
    fn arguments_are_read_by_their_types() {
        assert_eq!(parse(ValType::I32, "-1"), Some(Value::I32(u32::MAX)));
        assert_eq!(parse(ValType::I32, "4294967295"), Some(Value::I32(u32::MAX)));
        assert_eq!(parse(ValType::I32, "4294967296"), None);
        assert_eq!(parse(ValType::I64, "-0x10"), Some(Value::I64(-16i64 as u64)));
        assert_eq!(parse(ValType::I64, "--1"), None);
        assert_eq!(parse(ValType::I64, "0x-1"), None);
        assert_eq!(parse(ValType::F64, "1.5"), Some(Value::F64(1.5f64.to_bits())));
        assert_eq!(parse(ValType::F32, "x"), None);
        assert_eq!(
            parse(ValType::V128, "0x80000000000000000000000000000001"),
            Some(Value::V128(1 << 127 | 1))
        );
        assert_eq!(
            parse(ValType::V128, &u128::MAX.to_string()),
            Some(Value::V128(u128::MAX))
        );
        for bad in ["-1", "+1", "0x+1", "", "0x", "0x100000000000000000000000000000000"] {
            assert_eq!(parse(ValType::V128, bad), None, "{bad}");
        }
        assert!(parse_args(&[ValType::I32], &[]).unwrap_err().contains("1 arguments"));
        assert!(parse_args(&[ValType::I32], &["a"]).unwrap_err().contains("'a'"));
    }

    #[test]
    fn results_are_shown_signed() {
        assert_eq!(show(Value::I32(u32::MAX)), "-1");
        assert_eq!(show(Value::F32(1.5f32.to_bits())), "1.5");
        assert_eq!(show(Value::V128(1 << 64)), "18446744073709551616");
        assert_eq!(show(Value::FuncRef(None)), "<null>");
    }

    fn module(start: bool, exports: &[&str]) -> ModuleInfo {
        let export = |name: &&str| Export {
            name: (*name).into(),
            kind: ExportKind::Func,
            index: 0,
        };
        ModuleInfo {
            start: start.then_some(0),
            exports: exports.iter().map(export).collect(),
            ..ModuleInfo::default()
        }
    }

    #[test]
    fn phases_are_in_order() {
        let export = |name: &str| Invocation::Export(name.into());
        assert_eq!(
            phases(&module(true, &["_start"]), None).unwrap(),
            [Invocation::Start, export("_start")]
        );
        assert_eq!(phases(&module(true, &[]), None).unwrap(), [Invocation::Start]);
        assert_eq!(
            phases(&module(false, &["_initialize", "f"]), Some("f")).unwrap(),
            [export("_initialize"), export("f")]
        );
        assert_eq!(
            phases(&module(false, &["_initialize"]), Some("_initialize")).unwrap(),
            [export("_initialize")]
        );
        assert_eq!(phases(&module(false, &[]), None).unwrap_err().code, NO_PROGRAM);
        assert_eq!(phases(&module(true, &[]), Some("f")).unwrap_err().code, USAGE);
    }
}
