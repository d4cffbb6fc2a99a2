//! What a person is told on standard error: each message in one write, with nothing raw in it.

use dunlin_migrate::printable;
use std::io::Write;

/// Tells the user something, in one write.
pub(crate) fn complain(message: &str) {
    // If standard error is gone, nobody listens.
    let _ = std::io::stderr().write_all(format!("Error: {}\n", printable::lines(message)).as_bytes());
}

/// Tells the user something that doesn't keep the program from running.
pub(crate) fn warn(message: &str) {
    let _ = std::io::stderr().write_all(format!("Warning: {}\n", printable::lines(message)).as_bytes());
}
