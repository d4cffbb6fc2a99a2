//! The functions of WASI, by what they are about.

pub(in crate::wasi) mod args_env;
pub(in crate::wasi) mod clock;
pub(in crate::wasi) mod dir;
pub(in crate::wasi) mod fd;
pub(in crate::wasi) mod io;
pub(in crate::wasi) mod open;
pub(in crate::wasi) mod path;
pub(in crate::wasi) mod poll;
pub(in crate::wasi) mod proc;
pub(in crate::wasi) mod random;
pub(in crate::wasi) mod sock;
