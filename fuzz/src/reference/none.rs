//! Built without engines: every module is refused, so that the mode `native` reports an error rather than nothing.

use super::{Engine, Instance, ReferenceError, Started};
use dunlin_format::types::Value;

pub(super) enum Nothing {}

pub(super) fn instantiate(_wasm: &[u8]) -> Result<Started<Nothing>, ReferenceError> {
    let why = "dunlin-fuzz was built without its feature `reference`";
    Err(ReferenceError::Refused(Engine::Jit, why.into()))
}

impl Instance for Nothing {
    fn calls(&mut self) -> String {
        match *self {}
    }

    fn set_fuel(&mut self, _fuel: u32) -> Result<(), String> {
        match *self {}
    }

    fn invoke(&mut self, _name: &str, _args: &[Value]) -> Result<Vec<String>, super::Stop> {
        match *self {}
    }

    fn memory(&mut self, _name: &str) -> Option<(u64, Vec<u8>)> {
        match *self {}
    }

    fn global(&mut self, _name: &str) -> Option<String> {
        match *self {}
    }

    fn table(&mut self, _name: &str) -> Option<Vec<bool>> {
        match *self {}
    }
}
