//! What the tools of the trade see in an executable: the program's own function names, and a backtrace through its
//! frames.

use dunlin_format::arch::Arch;
use dunlin_tests::guest::clang;
use dunlin_tests::process::{Input, run};
use dunlin_tests::program::{Program, scratch};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const SOURCE: &str = r#"
#include <stdio.h>
#include <stdlib.h>
__attribute__((noinline)) int innermost(int n) { if (n > 1000) abort(); return n + 1; }
__attribute__((noinline)) int in_between(int n) { return innermost(n) * 2; }
__attribute__((noinline)) int outermost(int n) { return in_between(n) + 3; }
int main(int argc, char **argv) { printf("%d\\n", outermost(argc)); return 0; }
"#;

fn program() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let dir = scratch();
        let (source, module) = (dir.path().join("nested.c"), dir.path().join("nested.wasm"));
        std::fs::write(&source, SOURCE).expect("scratch space is writable");
        clang(&[source], &[], &module);
        Program::build(&module)
    })
}

fn tool(name: &str, args: &[&str], exe: &Path) -> String {
    let mut command = Command::new(name);
    command.args(args).arg(exe);
    run(command, Input::Empty, Duration::from_secs(60)).expect_code(0).out()
}

#[test]
fn objdump_shows_the_functions_by_name() {
    for (arch, name) in [(Arch::X86_64, "objdump"), (Arch::Aarch64, "aarch64-linux-gnu-objdump")] {
        let text = tool(name, &["-d"], &program().exe(arch));
        for function in ["outermost", "in_between", "innermost"] {
            let body = text.split(&format!("<{function}>:\n")).nth(1);
            let body = body.unwrap_or_else(|| panic!("{arch}: no {function}"));
            let body = body.split("\n\n").next().unwrap_or("");
            assert!(body.contains("ret"), "{arch}: {function}:\n{body}");
        }
    }
}

/// `perf` finds functions in the same symbol table, and walks frames by the same frame pointers or unwind tables.
#[test]
fn symbols_have_their_sizes() {
    for arch in Arch::ALL {
        let text = tool("nm", &["-S", "--defined-only"], &program().exe(arch));
        for function in ["outermost", "in_between", "innermost"] {
            let line = text.lines().find(|l| l.ends_with(&format!(" {function}")));
            let words: Vec<&str> = line
                .unwrap_or_else(|| panic!("{arch}: no {function}"))
                .split_whitespace()
                .collect();
            assert!(
                words.len() == 4 && words[2].eq_ignore_ascii_case("t"),
                "{arch}: {words:?}"
            );
            assert!(
                u64::from_str_radix(words[1], 16).is_ok_and(|size| size > 8),
                "{arch}: {words:?}"
            );
        }
    }
}

#[test]
fn gdb_walks_through_the_frames() {
    let args = [
        "-batch",
        "-nx",
        "-ex",
        "break innermost",
        "-ex",
        "run",
        "-ex",
        "backtrace",
        "-ex",
        "kill",
    ];
    let text = tool("gdb", &args, &program().exe(Arch::X86_64));
    let frames: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    for (frame, function) in ["innermost", "in_between", "outermost", "main"].iter().enumerate() {
        let line = frames.get(frame).copied().unwrap_or("");
        assert!(line.contains(function), "frame {frame} is not of {function}:\n{text}");
    }
    let last = frames.last().copied().unwrap_or("");
    assert!(
        frames.len() > 4 && last.contains("dunlin_enter"),
        "not to the end:\n{text}"
    );
}
