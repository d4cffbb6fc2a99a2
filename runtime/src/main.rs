//! The program every executable is made of.
fn main() {}
