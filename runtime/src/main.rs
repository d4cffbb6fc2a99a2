//! The program every executable is made of.

fn main() -> std::process::ExitCode {
    dunlin_runtime::embedded::touch();
    println!("bare"); std::process::ExitCode::from(88)
}
