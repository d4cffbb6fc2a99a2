//! Modes that only tests use: migration at every Nth point, and exports called as told.

pub(crate) mod commands;
pub(crate) mod force;
