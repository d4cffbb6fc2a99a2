//! What stands in the way of a move, as both `dunlin check` and `dunlin resume` tell it.

use crate::show;
use dunlin_interface::machine;
use dunlin_interface::options::Options;
use dunlin_migrate::preflight::{Finding, Target};
use std::path::Path;
use std::process::Output;

/// This machine's description, with what these options grant. `directory`: where a snapshot would be put, so that the
/// room there counts; `None` if it is here already.
pub(crate) fn here(options: &Options, directory: Option<&Path>) -> Target {
    Target {
        max_memory: options.max_memory,
        grants: Some(options.dirs.iter().map(|d| d.guest.clone()).collect()),
        listeners: u32::try_from(options.listen.len()).ok(),
        // Of a snapshot that is here already, there is no question.
        disk_bytes: directory.and_then(|d| machine::room(&d.join("snapshot"))),
        ..machine::describe()
    }
}

/// Findings as a list for a person: each with what to do about it on a line of its own.
pub(crate) fn list(findings: &[Finding]) -> String {
    let line = |f: &Finding| format!("- {}\n    {}\n", show::clean(&f.what), show::clean(&f.fix));
    findings.iter().map(line).collect()
}

/// What an executable has answered to `--check`; else why that is no answer.
pub(crate) fn told(output: &Output) -> Result<Vec<Finding>, String> {
    let reply: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    serde_json::from_value(reply["findings"].clone()).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!(
            "its executable does not answer ({}): {}",
            output.status,
            show::clean(said.trim())
        )
    })
}
