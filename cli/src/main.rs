//! The `dunlin` command: compiles WebAssembly programs, and moves them between machines while they run.

mod failure;
mod find;
mod findings;
mod hint;
mod make;
mod moving;
mod options;
mod progress;
mod serving;
mod show;
mod spawn;
mod start;
mod verbs;

use clap::{Parser, Subcommand};
use dunlin_interface::exit::{EXIT_CODES, EndsWith};
use std::process::ExitCode;
use verbs::{
    build, check, checkpoint, inspect, logs, migrate, pair, peers, ps, receive, resume, run, serve, settle, version,
};

/// What `dunlin --help` says of exit codes.
fn exit_codes() -> String {
    let list = |programs_own: bool| {
        let codes = EXIT_CODES.iter();
        let codes = codes.filter(|c| (c.ends_with == EndsWith::Executable) == programs_own);
        codes
            .map(|c| format!("  {:<4} {}\n", c.code, c.meaning))
            .collect::<String>()
    };
    format!(
        "Exit codes:\n  0    done\n{}\
         `run` and `resume` become the program, so that its own exit code is passed through; besides:\n{}",
        list(false),
        list(true).trim_end()
    )
}

/// Compiles WebAssembly programs to standalone executables that can be moved between machines while they run
#[derive(Debug, Parser)]
#[command(name = "dunlin", version, after_help = exit_codes(), disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Build(build::Build),
    Run(run::Run),
    Ps(ps::Ps),
    Logs(logs::Logs),
    Check(check::Check),
    Checkpoint(checkpoint::Checkpoint),
    Resume(resume::Resume),
    Migrate(migrate::Migrate),
    Receive(receive::Receive),
    Serve(serve::Serve),
    Pair(pair::Pair),
    Peers(peers::Listing),
    Settle(settle::Settlement),
    Inspect(inspect::Inspect),
    Version(version::Version),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Build(args) => build::run(&args),
        Verb::Run(args) => run::run(&args),
        Verb::Ps(args) => ps::run(&args),
        Verb::Logs(args) => logs::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Checkpoint(args) => checkpoint::run(&args),
        Verb::Resume(args) => resume::run(&args),
        Verb::Migrate(args) => migrate::run(&args),
        Verb::Receive(args) => receive::run(&args),
        Verb::Serve(args) => serve::run(&args),
        Verb::Pair(args) => pair::run(&args),
        Verb::Peers(args) => peers::run(&args),
        Verb::Settle(args) => settle::run(&args),
        Verb::Inspect(args) => inspect::run(&args),
        Verb::Version(args) => version::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            show::complain(&format!("dunlin: cannot {}", failure.message));
            // Every code that is told to users fits an exit status (tested where they are listed).
            ExitCode::from(failure.code as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_tells_every_exit_code() {
        let help = Cli::command().render_help().to_string();
        for code in EXIT_CODES {
            let line = format!("\n  {:<4} {}", code.code, code.meaning);
            assert_eq!(help.matches(&line).count(), 1, "{line:?} in:\n{help}");
        }
    }

    #[test]
    fn the_programs_arguments_are_its_own() {
        for line in ["dunlin run --dir . p -- --dir x", "dunlin run --dir . p --dir x"] {
            let Verb::Run(run) = Cli::try_parse_from(line.split(' ')).unwrap().verb else {
                panic!("not run")
            };
            let debug = format!("{run:?}");
            assert!(
                debug.contains(r#"["--dir=."]"#) && debug.contains(r#""--dir", "x"]"#),
                "{debug}"
            );
        }
    }
}
