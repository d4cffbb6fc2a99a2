//! The state of WASI preview1: what the program knows of its host, without any host resource.

use serde::{Deserialize, Serialize};

/// WASI's part of the uniform state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WasiState {}
