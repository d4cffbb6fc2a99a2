//! Differential and metamorphic fuzzing of Dunlin, through real executables.
//!
//! ```text
//! seed --profile, case, variants--> module and commands --reference--> replies --.
//!                                        |                                       |--judge--> differences --reduce--> a small module
//!                                        `--dunlin--> executables, run in modes -'
//! ```

pub mod atomics;
pub mod campaign;
pub mod case;
pub mod dunlin;
pub mod host;
pub mod judge;
pub mod keep;
pub mod live;
pub mod profile;
pub mod reduce;
pub mod reference;
pub mod rewrite;
pub mod rng;
pub mod roomy;
pub mod script;
pub mod slice;
pub mod variants;
