//! Modes that only tests use: migration at every Nth point, and exports called as told.

pub mod commands;
pub mod force;
