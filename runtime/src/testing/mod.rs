//! Modes that only tests use: migration at every Nth point, exports called as told, writes compared with what is told
//! of them.

pub(crate) mod commands;
pub(crate) mod force;
pub(crate) mod writes;
