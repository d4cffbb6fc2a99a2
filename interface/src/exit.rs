//! How a program's process can end, and the exit codes for it.

use crate::options::OptionError;
use std::path::PathBuf;

/// Whose processes end with a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndsWith {
    /// Only the `dunlin` command's.
    Command,
    /// Only executables'.
    Executable,
    /// Both.
    Both,
}

/// An exit code with a meaning of its own; any other is the program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCode {
    /// The code.
    pub code: i32,
    /// Whose processes end with it.
    pub ends_with: EndsWith,
    /// What it means, for the user: as in README.md, and on one line of `dunlin --help`.
    pub meaning: &'static str,
}

/// Each code once: its constant, and its line in [`EXIT_CODES`].
macro_rules! exit_codes {
    ($($(#[$doc:meta])+ $name:ident = $code:literal, $ends_with:ident, $meaning:literal;)+) => {
        $($(#[$doc])+ pub const $name: i32 = $code;)+

        /// All exit codes but 0, ascending. README.md, ARCHITECTURE.md and `dunlin --help` list the same (tested).
        pub const EXIT_CODES: &[ExitCode] = &[
            $(ExitCode { code: $code, ends_with: EndsWith::$ends_with, meaning: $meaning }),+
        ];
    };
}

exit_codes! {
    /// Something that `dunlin` itself could not do.
    COULD_NOT = 1, Command, "dunlin could not do it (no such program, no such file)";
    /// Bad options or usage.
    USAGE = 2, Both, "the command line or DUNLIN_OPTS makes no sense";
    /// `dunlin check` has found something that stands in the way of a move.
    CANNOT_MOVE = 3, Command, "dunlin check: something stands in the way of a move";
    /// A program that was to move stands still, and it isn't known where it goes on.
    STANDS_STILL = 4, Command, "dunlin migrate, settle: the program stands still; its state is kept on disk";
    /// A checkpoint was written and the program stopped (HTCondor's code for a self-checkpoint).
    CHECKPOINTED = 85, Executable, "the program wrote a snapshot and stopped";
    /// A snapshot is bad, or was refused.
    BAD_SNAPSHOT = 86, Both, "the snapshot is damaged, or belongs to another program";
    /// The runtime itself failed: input or output, memory.
    FAILED = 87, Executable, "the runtime failed: a file, memory";
    /// The executable has no program that can be started.
    NO_PROGRAM = 88, Executable, "the executable can't start";
    /// The snapshot is good, and this machine lacks what the program had: a directory, a file as it was, an address.
    NOT_HERE = 89, Executable,
        "the snapshot is good, but this machine lacks a directory, a file as it was, or an address";
    /// The program trapped (that of a process that aborted: 128 + SIGABRT).
    TRAPPED = 134, Executable, "the program trapped (out of bounds, division by zero, unreachable, ...)";
}

/// A failure to tell the user about, and the exit code for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: i32,
    /// What failed, on what, and what to do.
    pub message: String,
}

impl Failure {
    /// A failure with this code.
    pub fn new(code: i32, message: impl std::fmt::Display) -> Failure {
        Failure {
            code,
            message: message.to_string(),
        }
    }
}

impl From<OptionError> for Failure {
    fn from(e: OptionError) -> Failure {
        Failure::new(USAGE, e)
    }
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its last function returned.
    Returned,
    /// It called `proc_exit`.
    Exited(u32),
    /// It trapped: the message, and the backtrace's lines.
    Trapped {
        /// The trap's name or the host function's complaint.
        message: String,
        /// WebAssembly frames, innermost first, one a line.
        backtrace: String,
    },
    /// It was checkpointed and is to stop.
    Checkpointed(PathBuf),
    /// It can't go on.
    Failed(Failure),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of a document's table of exit codes: its cells, without the quotes of code.
    fn rows(document: &str) -> Vec<Vec<String>> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(document);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().skip_while(|line| !line.starts_with("| Code | Meaning |"));
        let table = lines.take_while(|line| line.starts_with('|')).skip(2);
        let cells = |line: &str| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().replace('`', ""))
                .collect()
        };
        table.map(cells).collect()
    }

    #[test]
    fn the_documents_list_all_codes_and_no_others() {
        let readme: Vec<_> = EXIT_CODES
            .iter()
            .map(|c| vec![c.code.to_string(), c.meaning.to_owned()])
            .collect();
        assert_eq!(rows("README.md"), readme);

        let whose = |ends_with| match ends_with {
            EndsWith::Command => "dunlin",
            EndsWith::Executable => "executables",
            EndsWith::Both => "both",
        };
        let expected: Vec<_> = EXIT_CODES
            .iter()
            .map(|c| (c.code.to_string(), whose(c.ends_with).to_owned()))
            .collect();
        let found: Vec<_> = rows("ARCHITECTURE.md")
            .into_iter()
            .map(|cells| (cells[0].clone(), cells[2].clone()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn codes_ascend_and_fit_an_exit_status() {
        // `dunlin --help` has lines of 100 columns, 7 of them before the meaning.
        assert!(EXIT_CODES.iter().all(|c| c.meaning.len() <= 93));
        assert!(EXIT_CODES.is_sorted_by(|a, b| a.code < b.code));
        assert!(EXIT_CODES.iter().all(|c| (1..=255).contains(&c.code)));
    }
}
