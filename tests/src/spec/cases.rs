//! From scripts to cases: a module to compile, and what is done with it. An instance that shares nothing with others is
//! a case as it stands; instances that import from each other, or what the suite's host module holds beyond functions,
//! are linked into one.

use super::interface::{Interface, Misfit};
use super::link::{self, Part};
use super::scope;
use super::script::{Action, Expect, Instance, Instantiation, Provider, Script, Step};
use dunlin_format::imports;
use std::sync::OnceLock;

/// Something to run.
#[derive(Debug)]
pub struct Case {
    /// `folder/file.wast:line` of its first instance.
    pub id: String,
    /// How many instances it holds.
    pub instances: usize,
    /// What must come of instantiating the module itself, as it runs.
    pub start: Instantiation,
    /// What runs.
    pub run: Code,
    /// The same, linked with a migration point before every operator. The module itself can always be instantiated.
    pub dense: Code,
}

/// A module and what is done with it, in order.
#[derive(Debug)]
pub struct Code {
    /// The module.
    pub wasm: Vec<u8>,
    /// What is done.
    pub steps: Vec<Step>,
}

impl Case {
    /// All that matters of it: equal for equal cases of different scripts.
    pub fn contents(&self) -> (Vec<u8>, String) {
        let steps: Vec<_> = self.run.steps.iter().map(|s| (&s.action, &s.expect)).collect();
        (self.run.wasm.clone(), format!("{:?} {steps:?}", self.start))
    }

    /// Does it use up the stack? Frames differ between architectures, so then does what is done before that.
    pub fn exhausts_the_stack(&self) -> bool {
        let exhausts = |s: &Step| matches!(&s.expect, Expect::Trap(message) if message.contains("stack"));
        self.run.steps.iter().any(exhausts)
    }
}

/// A script, taken apart.
#[derive(Debug, Default)]
pub struct Cases {
    /// What runs.
    pub cases: Vec<Case>,
    /// What is left out.
    pub skipped: Vec<Skipped>,
    /// How many modules' imports don't fit, as they must not.
    pub unlinkable: usize,
    /// Those that fit though they must not, or the other way round.
    pub wrong: Vec<String>,
}

/// Something that is left out.
#[derive(Debug)]
pub struct Skipped {
    /// `folder/file.wast:line`.
    pub id: String,
    /// Why.
    pub reason: String,
    /// How many assertions go with it.
    pub assertions: usize,
    /// The module, if it is out of scope itself: Dunlin must refuse it.
    pub wasm: Option<Vec<u8>>,
}

fn spectest() -> &'static (Vec<u8>, Interface) {
    static MODULE: OnceLock<(Vec<u8>, Interface)> = OnceLock::new();
    MODULE.get_or_init(|| {
        let buffer = wast::parser::ParseBuffer::new(include_str!("spectest.wat")).expect("tokens");
        let mut wat = wast::parser::parse::<wast::Wat<'_>>(&buffer).expect("a module");
        let wasm = wat.encode().expect("a valid module");
        let interface = Interface::of(&wasm);
        (wasm, interface)
    })
}

/// Takes a script apart.
pub fn of(script: &Script) -> Cases {
    let mut out = Cases::default();
    for (id, reason, asserts) in &script.unsupported {
        out.skipped.push(Skipped {
            id: id.clone(),
            reason: reason.clone(),
            assertions: usize::from(*asserts),
            wasm: None,
        });
    }
    let mut runs = vec![false; script.instances.len()];
    for (k, instance) in script.instances.iter().enumerate() {
        runs[k] = decide(script, k, instance, &runs, &mut out);
    }
    for step in &script.steps {
        if let (true, Expect::Inexpressible(reason)) = (runs[step.instance], &step.expect) {
            let file = script.instances[step.instance]
                .id
                .rsplit_once(':')
                .map_or("", |(file, _)| file);
            out.skipped.push(Skipped {
                id: format!("{file}:{}", step.line),
                reason: reason.clone(),
                assertions: usize::from(step.asserts),
                wasm: None,
            });
        }
    }
    for component in components(script, &runs) {
        out.cases.push(case(script, &component));
    }
    out
}

fn expressible(step: &Step) -> bool {
    !matches!(step.expect, Expect::Inexpressible(_))
}

/// Does an instance run? If not, notes why.
fn decide(script: &Script, k: usize, instance: &Instance, runs: &[bool], out: &mut Cases) -> bool {
    let mut skip = |reason: String, wasm: Option<&Vec<u8>>| {
        let steps = script.steps.iter().filter(|s| s.instance == k && s.asserts).count();
        out.skipped.push(Skipped {
            id: instance.id.clone(),
            reason,
            assertions: steps + usize::from(instance.expect != Instantiation::Instance),
            wasm: wasm.cloned(),
        });
        false
    };
    let wasm = match &instance.wasm {
        Ok(wasm) => wasm,
        Err(e) => {
            return skip(
                format!("the text parser refuses it: {}", e.lines().next().unwrap_or("")),
                None,
            );
        }
    };
    if let Some(reason) = scope::outside(wasm) {
        return skip(reason, Some(wasm));
    }
    let lacking = |p: &Provider| match p {
        Provider::Instance(from) if !runs[*from] => Some(script.instances[*from].id.clone()),
        _ => None,
    };
    if let Some(from) = instance.providers.iter().find_map(lacking) {
        return skip(format!("it imports from {from}, which is left out"), None);
    }
    let imports = || instance.interface.imports.iter().zip(&instance.providers);
    if imports().any(|(i, p)| *p == Provider::Spectest && i.name == "shared_memory") {
        return skip("threads: the host module's shared memory".into(), None);
    }
    // Before bulk memory, segments were checked before any was written; now they trap one by one.
    if matches!(&instance.expect, Instantiation::Unlinkable(message) if message.ends_with("segment does not fit")) {
        return skip(
            "superseded by WebAssembly 2.0: such a module can be linked, and traps".into(),
            None,
        );
    }
    let wrong = match (fit(script, instance), &instance.expect) {
        (Ok(()), Instantiation::Unlinkable(message)) => format!("its imports fit: no {message}"),
        (Ok(()), _) => return true,
        (Err(misfit), Instantiation::Unlinkable(message)) if message.starts_with(misfit.message()) => {
            out.unlinkable += 1;
            return false;
        }
        (Err(misfit), _) => misfit.message().to_owned(),
    };
    out.wrong.push(format!("{}: {wrong}", instance.id));
    false
}

/// Do an instance's imports fit?
fn fit(script: &Script, instance: &Instance) -> Result<(), Misfit> {
    let user = &instance.interface;
    // What must fit may have grown since it was made; what must not hasn't, in any script.
    let grown = !matches!(instance.expect, Instantiation::Unlinkable(_));
    for (import, provider) in user.imports.iter().zip(&instance.providers) {
        match provider {
            Provider::Nobody => return Err(Misfit::Unknown),
            Provider::Instance(from) => {
                let exporter = &script.instances[*from].interface;
                exporter.satisfies(&import.name, user, import.ty, grown)?;
            }
            Provider::Spectest => match imports::signature(imports::SPECTEST, &import.name) {
                Some(offered) => user.takes(import.ty, &offered)?,
                None => drop(spectest().1.satisfies(&import.name, user, import.ty, grown)?),
            },
        }
    }
    Ok(())
}

/// Instances that must be linked with each other, in order. Each component has a host module of its own.
fn components(script: &Script, runs: &[bool]) -> Vec<Vec<usize>> {
    let mut of: Vec<usize> = (0..script.instances.len()).collect();
    for (k, instance) in script.instances.iter().enumerate().filter(|(k, _)| runs[*k]) {
        for provider in &instance.providers {
            if let Provider::Instance(from) = provider {
                let (old, new) = (of[k], of[*from]);
                of.iter_mut().filter(|c| **c == old).for_each(|c| *c = new);
            }
        }
    }
    let mut components: Vec<Vec<usize>> = vec![Vec::new(); of.len()];
    for k in (0..of.len()).filter(|k| runs[*k]) {
        components[of[k]].push(k);
    }
    components.retain(|c| !c.is_empty());
    components
}

/// Does an instance import what only a linked host module can give?
fn needs_spectest(instance: &Instance) -> bool {
    let imports = instance.interface.imports.iter().zip(&instance.providers);
    let mut imports = imports.filter(|(_, p)| **p == Provider::Spectest);
    imports.any(|(i, _)| imports::signature(imports::SPECTEST, &i.name).is_none())
}

fn case(script: &Script, component: &[usize]) -> Case {
    let first = &script.instances[component[0]];
    let with_spectest = component.iter().any(|&k| needs_spectest(&script.instances[k]));
    let alone = component.len() == 1 && !with_spectest;
    let steps = schedule(script, component, with_spectest);
    let dense = linked(script, component, with_spectest, true);
    if alone {
        let own = |s: &&Step| s.instance == component[0] && expressible(s);
        return Case {
            id: first.id.clone(),
            instances: 1,
            start: first.expect.clone(),
            run: Code {
                wasm: first.wasm.clone().expect("it runs"),
                steps: script.steps.iter().filter(own).cloned().collect(),
            },
            dense: Code { wasm: dense, steps },
        };
    }
    Case {
        id: first.id.clone(),
        instances: component.len(),
        start: Instantiation::Instance,
        run: Code {
            wasm: linked(script, component, with_spectest, false),
            steps: steps.clone(),
        },
        dense: Code { wasm: dense, steps },
    }
}

fn linked(script: &Script, component: &[usize], with_spectest: bool, dense: bool) -> Vec<u8> {
    let mut parts = Vec::new();
    if with_spectest {
        let (wasm, interface) = spectest();
        parts.push(Part {
            label: script.instances.len(),
            wasm,
            interface,
            providers: Vec::new(),
        });
    }
    let base = parts.len();
    for &k in component {
        let instance = &script.instances[k];
        let place = |from: &usize| base + component.iter().position(|c| c == from).expect("of the same component");
        let imports = instance.interface.imports.iter().zip(&instance.providers);
        let providers = imports.map(|(import, provider)| match provider {
            Provider::Instance(from) => Some(place(from)),
            _ if imports::signature(imports::SPECTEST, &import.name).is_some() => None,
            _ => Some(0),
        });
        parts.push(Part {
            label: k,
            wasm: instance.wasm.as_ref().expect("it runs"),
            interface: &instance.interface,
            providers: providers.collect(),
        });
    }
    link::link(&parts, dense)
}

/// Instantiations and steps of linked instances, in the script's order.
fn schedule(script: &Script, component: &[usize], with_spectest: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let init = |label: usize, line: usize, expect: Expect, asserts: bool| Step {
        instance: label,
        line,
        action: Action::Invoke(link::init_name(label), Vec::new()),
        expect,
        asserts,
    };
    if with_spectest {
        steps.push(init(script.instances.len(), 0, Expect::Return(Vec::new()), false));
    }
    let mut coming = component.iter().peekable();
    for at in 0..=script.steps.len() {
        while let Some(&k) = coming.next_if(|&&k| script.instances[k].before <= at) {
            let instance = &script.instances[k];
            let line = instance.id.rsplit(':').next().and_then(|l| l.parse().ok()).unwrap_or(0);
            let (expect, asserts) = match &instance.expect {
                Instantiation::Trap(message) => (Expect::Trap(message.clone()), true),
                Instantiation::Exception => (Expect::Exception, true),
                _ => (Expect::Return(Vec::new()), false),
            };
            steps.push(init(k, line, expect, asserts));
        }
        let mine = |s: &&Step| component.contains(&s.instance) && expressible(s);
        let Some(step) = script.steps.get(at).filter(mine) else {
            continue;
        };
        let mut step = step.clone();
        let (Action::Invoke(name, _) | Action::Get(name)) = &mut step.action;
        *name = link::export_name(step.instance, name);
        steps.push(step);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::super::script::read_text;
    use super::*;

    const SCRIPT: &str = r#"
        (module $a (memory (export "m") 1) (global (export "g") (mut i32) (i32.const 1))
          (func (export "peek") (result i32) (i32.load8_u (i32.const 0))))
        (register "a" $a)
        (module (func (export "alone")))
        (invoke "alone")
        (module (import "a" "m" (memory 1)) (import "a" "g" (global $g (mut i32))) (import "spectest" "print" (func))
          (func $start (global.set $g (i32.const 2)) (call 0)) (start $start) (data (i32.const 0) "x"))
        (assert_return (invoke $a "peek") (i32.const 120))
        (assert_return (get $a "g") (i32.const 2))
        (assert_unlinkable (module (import "a" "m" (memory 2))) "incompatible import type")
        (module (type (struct)))
        (module (import "spectest" "global_i32" (global $i i32)) (global (export "g") i32 (global.get $i)))"#;

    #[test]
    fn what_shares_something_is_linked() {
        let script = read_text("x/y.wast", SCRIPT);
        let cases = of(&script);
        assert_eq!(cases.wrong, [""; 0]);
        let shape: Vec<_> = cases.cases.iter().map(|c| (c.instances, c.run.steps.len())).collect();
        assert_eq!(shape, [(2, 4), (1, 1), (1, 2)]);
        for case in &cases.cases {
            for code in [&case.run, &case.dense] {
                assert_eq!(scope::outside(&code.wasm), None, "{}", case.id);
            }
        }
        assert_eq!(cases.unlinkable, 1);
        assert_eq!(cases.skipped.len(), 1);
        assert!(cases.skipped[0].wasm.is_some());
    }
}
