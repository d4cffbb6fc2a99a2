//! The program every executable is made of.

fn main() {
    std::process::exit(dunlin_runtime::start::main());
}
