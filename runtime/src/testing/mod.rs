//! What only tests ask for: migration at every Nth point, and exports called as told.

pub mod commands;
pub mod force;
