//! A case: a module and what is done with it, all from one seed.

use crate::host::{self, Density};
use crate::profile::Profile;
use crate::rng::Rng;
use crate::script::{Command, FUEL, argument};
use crate::{atomics, live, rewrite, roomy, variants};
use arbitrary::Unstructured;
use dunlin_format::types::ValType;
use wasmparser::{ExternalKind, Parser, Payload, RefType, TypeRef, Validator, WasmFeatures};

/// Calls of a module, at most.
const CALLS: usize = 12;

/// A module and what is done with it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is made from.
    pub seed: u64,
    /// What it is made of.
    pub profile: Profile,
    /// The module for Dunlin.
    pub wasm: Vec<u8>,
    /// The module for the reference; the same but for legacy exceptions.
    pub reference: Vec<u8>,
    /// The commands after instantiation.
    pub commands: Vec<Command>,
    /// Migrate at every so-manieth point in the forced modes.
    pub force: u64,
}

/// Why a seed has no case.
#[derive(Debug, thiserror::Error)]
pub enum NoCase {
    /// wasm-smith has run out of random bytes at a bad moment, which is rare.
    #[error("wasm-smith: {0}")]
    Smith(String),
    /// A bug of this crate's.
    #[error("the module is not valid: {0}")]
    Invalid(#[from] wasmparser::BinaryReaderError),
}

impl Case {
    /// The case of a seed.
    pub fn of(seed: u64) -> Result<Case, NoCase> {
        let profile = Profile::of(seed);
        let mut rng = Rng::new(seed);
        let mut config = profile.config(&mut rng);
        let roomy = rng.one_in(10);
        if roomy {
            config.max_memory32_bytes = roomy::LARGEST;
            config.max_memory64_bytes = roomy::LARGEST.into();
        }
        let bytes = rng.bytes(64 << 10);
        let mut u = Unstructured::new(&bytes);
        let mut module = wasm_smith::Module::new(config, &mut u).map_err(|e| NoCase::Smith(e.to_string()))?;
        let fuel = match profile {
            // More than 1024 exceptions make the runtime collect those that nothing refers to.
            Profile::Exceptions | Profile::Legacy => rng.pick(&[20, 100, 300, 4000]),
            _ => rng.pick(&[20, 100, 300, 1000]),
        };
        let index = module
            .ensure_termination(fuel)
            .map_err(|e| NoCase::Smith(e.to_string()))?;
        let mut wasm = module.to_bytes();
        if profile == Profile::Atomics {
            wasm = atomics::with_tame_atomics(&wasm, &mut rng)?;
        }
        if roomy {
            wasm = roomy::with_busy_memories(&wasm, &mut rng)?;
        }
        if !rng.one_in(3) {
            wasm = live::with_live_locals(&wasm, profile.has_vectors(), &mut rng)?;
        }
        wasm = rewrite::with_globals_exported(&wasm, FUEL, index)?;
        if profile.has_typed_references() && !rng.one_in(3) {
            wasm = variants::with_typed_references(&wasm, &mut rng)?;
        }
        let mut reference = wasm;
        if profile == Profile::Legacy {
            reference = variants::without_exception_references(&reference)?;
        }
        let mut density = None;
        if rng.one_in(2) {
            // Dense ones make thousands of calls.
            let dense = fuel <= 20;
            density = Some(if dense { Density::Dense } else { Density::Sparse });
        }
        if let Some(density) = density {
            reference = host::with_host_calls(&reference, density, &mut rng)?;
        }
        let commands = commands(&reference, fuel, &mut rng)?;
        // A migration takes the time of ten thousand instructions: some dozens per module.
        let often: &[u64] = match fuel {
            20 => &[1, 1, 2, 5],
            100 => &[1, 3, 7, 13],
            300 => &[7, 13, 29, 41],
            1000 => &[29, 53, 101, 151],
            _ => &[149, 307, 401, 607],
        };
        let case = Case {
            seed,
            profile,
            wasm: Vec::new(),
            reference: Vec::new(),
            commands,
            force: rng.pick(often)
                * match density {
                    None => 1,
                    Some(Density::Sparse) => 3,
                    Some(Density::Dense) => 19,
                },
        };
        case.with_module(reference)
    }

    /// The same case with another module, the reference's.
    pub fn with_module(&self, reference: Vec<u8>) -> Result<Case, NoCase> {
        let wasm = match self.profile {
            Profile::Legacy => variants::with_legacy_exceptions(&reference, &mut Rng::new(self.seed))?,
            _ => reference.clone(),
        };
        Validator::new_with_features(WasmFeatures::all()).validate_all(&wasm)?;
        Ok(Case {
            wasm,
            reference,
            ..self.clone()
        })
    }
}

/// The parameter types of an exported function; none if one of them has no null.
fn parameters(ty: &wasmparser::FuncType) -> Option<Vec<ValType>> {
    let reference = |r: RefType| {
        let top = r.heap_type();
        match r.is_nullable() {
            false => None,
            true if r == RefType::EXTERNREF => Some(ValType::ExternRef),
            true if r == RefType::EXNREF => Some(ValType::ExnRef),
            true if top == wasmparser::HeapType::FUNC || r.is_concrete_type_ref() => Some(ValType::FuncRef),
            true => None,
        }
    };
    let value = |ty: &wasmparser::ValType| match *ty {
        wasmparser::ValType::I32 => Some(ValType::I32),
        wasmparser::ValType::I64 => Some(ValType::I64),
        wasmparser::ValType::F32 => Some(ValType::F32),
        wasmparser::ValType::F64 => Some(ValType::F64),
        wasmparser::ValType::V128 => Some(ValType::V128),
        wasmparser::ValType::Ref(r) => reference(r),
    };
    ty.params().iter().map(value).collect()
}

fn commands(wasm: &[u8], fuel: u32, rng: &mut Rng) -> Result<Vec<Command>, wasmparser::BinaryReaderError> {
    let (mut types, mut funcs, mut imported, mut callable) = (Vec::new(), Vec::new(), 0, Vec::new());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::TypeSection(section) => {
                for group in section {
                    for ty in group?.into_types() {
                        types.push(match ty.composite_type.inner {
                            wasmparser::CompositeInnerType::Func(f) => Some(f),
                            _ => None,
                        });
                    }
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    if let TypeRef::Func(ty) = import?.ty {
                        funcs.push(ty);
                    }
                }
                imported = funcs.len();
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    funcs.push(ty?);
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    let (ExternalKind::Func, Some(&ty)) = (export.kind, funcs.get(export.index as usize)) else {
                        continue;
                    };
                    // Calls of the host by the host are few.
                    if (export.index as usize) < imported && !rng.one_in(8) {
                        continue;
                    }
                    if let Some(params) = types[ty as usize].as_ref().and_then(parameters) {
                        callable.push((export.name.to_owned(), params));
                    }
                }
            }
            _ => {}
        }
    }
    let mut commands = Vec::new();
    let count = CALLS.min(2 * callable.len());
    for n in 0..count {
        let (name, params) = &callable[(n + rng.below(2)) % callable.len()];
        let args = params.iter().map(|&ty| argument(ty, rng)).collect();
        commands.push(Command::Refuel(fuel));
        commands.push(Command::Invoke(name.clone(), args));
        if n % 4 == 3 {
            commands.push(Command::Digest);
        }
    }
    commands.push(Command::Digest);
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variants::Functions;

    #[test]
    fn every_profile_has_valid_modules_that_depend_on_the_seed_alone() {
        for seed in 0..64 {
            let case = match Case::of(seed) {
                Err(NoCase::Smith(_)) => continue,
                other => other.unwrap_or_else(|e| panic!("seed {seed}: {e}")),
            };
            let again = Case::of(seed).unwrap();
            assert_eq!(
                (&case.wasm, &case.commands),
                (&again.wasm, &again.commands),
                "seed {seed}"
            );
            assert!(case.commands.len() > 1, "seed {seed}");
        }
    }

    #[test]
    fn most_modules_call_the_host() {
        let cases: Vec<Case> = (0..128).filter_map(|seed| Case::of(seed).ok()).collect();
        let imports = |case: &&Case| !Functions::of(&case.wasm).unwrap().imported.is_empty();
        assert!(cases.iter().filter(imports).count() > 60);
    }

    #[test]
    fn every_feature_comes_up() {
        let cases: Vec<Case> = (0..128).filter_map(|seed| Case::of(seed).ok()).collect();
        let needs = |features: WasmFeatures| {
            let without = WasmFeatures::all().difference(features);
            let refused = |case: &&Case| Validator::new_with_features(without).validate_all(&case.wasm).is_err();
            cases.iter().filter(refused).count()
        };
        for features in [
            WasmFeatures::LEGACY_EXCEPTIONS,
            WasmFeatures::FUNCTION_REFERENCES,
            WasmFeatures::EXCEPTIONS,
            WasmFeatures::TAIL_CALL,
            WasmFeatures::SIMD,
            WasmFeatures::RELAXED_SIMD,
            WasmFeatures::MULTI_MEMORY,
            WasmFeatures::MEMORY64,
            WasmFeatures::THREADS,
        ] {
            assert!(needs(features) >= 2, "{features:?}: {}", needs(features));
        }
    }
}
