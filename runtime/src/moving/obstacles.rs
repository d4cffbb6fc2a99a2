//! Preflight: all that stands in the way of a checkpoint or of going on, at once, before anything is paused or built.

use crate::engine::running::Running;
use crate::instance::InstanceError;
use crate::instance::memory::{MemoryError, WASM_PAGE};
use crate::moving::capture;
use crate::moving::resume::ResumeError;
use crate::os::files::no_descriptors;
use crate::wasi::{Obstacle, RestoreError, RestoreProblem, WasiError};
use dunlin_interface::machine;
use dunlin_migrate::preflight::{Finding, Needs, Target};
use dunlin_migrate::transfer::MemoryAtRest;
use std::path::Path;

/// What of its host keeps a running program from being moved, without a look at its memory and at the disk.
pub(crate) fn of_host(running: &Running) -> Vec<Finding> {
    match capture::examine(running) {
        Ok((_, obstacles)) => obstacles.iter().map(of_obstacle).collect(),
        Err(e) => vec![Finding::new("state", e.to_string(), "the program can't be moved")],
    }
}

/// What keeps a running program from being checkpointed to a file (or, without one, from being moved at all), and what
/// it needs elsewhere, as far as that can be told.
pub(crate) fn of_running(running: &Running, to: Option<&Path>) -> (Vec<Finding>, Option<Needs>) {
    let (state, obstacles) = match capture::examine(running) {
        Ok(examined) => examined,
        Err(e) => {
            return (
                vec![Finding::new("state", e.to_string(), "the program can't be moved")],
                None,
            );
        }
    };
    let mut found: Vec<Finding> = obstacles.iter().map(of_obstacle).collect();
    let memories = capture::memories(running);
    let mut used = memories.iter().map(|m| m.pages_touched() * WASM_PAGE).sum::<u64>();
    // Everything but the pages; frames and tables take some ten bytes for each value.
    let values: usize = state.frames.iter().map(|f| 4 + f.values.len()).sum();
    let elements: usize = state.tables.iter().map(|t| t.elements.len()).sum();
    let files = state.wasi.files.nodes.len() + state.wasi.files.contents.len() + state.wasi.files.chunks.len();
    let rest = 2 * WASM_PAGE + 16 * (values + elements) as u64 + 256 * files as u64;
    let rest = rest.saturating_add(state.wasi.files.stored_len());
    let room = to.and_then(machine::room);
    // Not one of no room: one that holds nothing but what the kernel makes, such as /proc.
    if let Some(to) = to.filter(|to| !machine::holds_files(to)) {
        let what = format!(
            "no files can be put where {} would be: that file system shows what is in the kernel",
            to.display()
        );
        found.push(Finding::new("disk", what, "name a file elsewhere"));
        return (found, None);
    }
    if room.is_some_and(|room| room < used.saturating_add(rest)) {
        // Only now is it worth reading all of it: touched pages may be zero again.
        used = memories.iter().flat_map(MemoryAtRest::pages).count() as u64 * WASM_PAGE;
    }
    let needs = Needs::of(&state, used, used.saturating_add(rest), false);
    let here = Target {
        disk_bytes: room,
        ..Target::default()
    };
    found.extend(here.obstacles(&needs));
    (found, Some(needs))
}

fn of_obstacle(o: &Obstacle) -> Finding {
    let fix = match o {
        Obstacle::NotCarriable { .. }
        | Obstacle::NotUtf8 { .. }
        | Obstacle::Unreadable { .. }
        | Obstacle::TooMany { .. } => "change that, and try again",
        Obstacle::Connection { .. }
        | Obstacle::Special { .. }
        | Obstacle::RemovedDirectory { .. }
        | Obstacle::Lost { .. }
        | Obstacle::Outside { .. }
        | Obstacle::NotGranted { .. }
        | Obstacle::Host { .. } => "let the program close it, and try again",
    };
    Finding::new("descriptor", o.to_string(), fix)
}

/// What a refusal to go on comes to: one finding for each reason.
pub(crate) fn of_refusal(e: &ResumeError) -> Vec<Finding> {
    let what = e.to_string();
    let one = |kind: &str, fix: &str| vec![Finding::new(kind, what.clone(), fix)];
    match e {
        ResumeError::Open(_) => one("file", "name a snapshot that is there"),
        ResumeError::Snapshot(e) => vec![Finding::of_snapshot_error(e)],
        ResumeError::OtherProgram { .. } => one("module", "use the executable of the program it was taken of"),
        ResumeError::NotMigratable => one("executable", "use one built without --no-migration"),
        ResumeError::Arguments { .. } => one("arguments", "give those, or none"),
        ResumeError::Instance(InstanceError::Memory(MemoryError::Limit { .. }) | InstanceError::Limit { .. }) => {
            one("limit", "allow more with --max-memory")
        }
        ResumeError::Instance(_) => one("memory", "free some, or raise the limit (ulimit -v)"),
        ResumeError::Frames(_) => one("state", "give a larger --stack-size if its stack is too small"),
        ResumeError::State(_) => one("state", "use another snapshot"),
        ResumeError::Back(_) => one("files", "start the program where it ran, or with --no-rollback"),
        ResumeError::Wasi(RestoreError(problems)) => problems.iter().map(of_problem).collect(),
    }
}

fn of_problem(problem: &RestoreProblem) -> Finding {
    let (kind, fix) = match problem {
        RestoreProblem::Descriptors { .. } => ("descriptor", "raise the limit of descriptors (ulimit -n)"),
        RestoreProblem::Grant(WasiError::Grant { error, .. } | WasiError::Listen { error, .. })
            if no_descriptors(error) =>
        {
            ("descriptor", "raise the limit of descriptors (ulimit -n)")
        }
        RestoreProblem::MissingGrant(_) | RestoreProblem::Grant(_) => ("grant", "grant a directory that is there"),
        RestoreProblem::NowhereToPut { .. } => ("grant", "grant a directory for them"),
        RestoreProblem::MissingListener(_) => ("listener", "listen there with --tcplisten"),
        RestoreProblem::Others { .. } => ("file", "accept that with --accept-changed"),
        RestoreProblem::Changed { .. } => (
            "file",
            "put the same file there, or accept this one with --accept-changed",
        ),
        RestoreProblem::Put { .. } => ("file", "make room for it, or grant another directory"),
        RestoreProblem::Room { .. } => ("disk", "make room there, or grant a directory on another disk"),
        RestoreProblem::Open { .. } | RestoreProblem::Kind { .. } => ("file", "copy or share the directory's files"),
        RestoreProblem::Invalid { .. } | RestoreProblem::State(_) => ("state", "use another snapshot"),
        RestoreProblem::Files(_) | RestoreProblem::Contents(_) => {
            ("damage", "copy the snapshot again, or use an earlier one")
        }
    };
    Finding::new(kind, problem.to_string(), fix)
}
