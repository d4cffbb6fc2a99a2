//! The test modes that act on every Nth migration point: migration in place (`DUNLIN_FORCE_MIGRATE`), and a checkpoint
//! at a point given by number (`DUNLIN_CHECKPOINT_AT`).
//!
//! Migration in place is a real one: the state goes through a snapshot's bytes, and before those are read the old
//! native stack is filled with garbage, the old memory is unmapped, and the host's descriptors are closed. The new
//! instance lies elsewhere, because its address space is reserved while the old one still has its own.

use crate::engine::running::{Flow, Running};
use crate::instance::InstanceError;
use crate::moving::capture::{self, CaptureError};
use crate::moving::resume::{self, ResumeError};
use crate::wasi::{Wasi, WasiError};
use dunlin_interface::exit::{BAD_SNAPSHOT, Ending, Failure};
use dunlin_interface::options::{OptionError, WasiConfig};
use dunlin_migrate::snapshot::{NoContents, ReadPages, Snapshot, SnapshotError, SnapshotSink, Stored};
use std::ffi::OsString;
use std::io::Cursor;

/// The environment variable that turns on migration in place.
pub(crate) const FORCE_VARIABLE: &str = "DUNLIN_FORCE_MIGRATE";

/// The environment variable that asks for a checkpoint at a point by number.
pub(crate) const STOP_VARIABLE: &str = "DUNLIN_CHECKPOINT_AT";

/// The byte that the old stack is filled with before it goes away.
const GARBAGE: u8 = 0xa5;

/// Counts migration points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ticks {
    passed: u64,
    force: Option<u64>,
    stop_at: Option<u64>,
}

/// The action that is due at a migration point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing.
    Nothing,
    /// Migrate in place.
    Migrate,
    /// Checkpoint and stop.
    Stop,
}

impl Ticks {
    /// Migrate at every `force`th point, checkpoint at point number `stop_at` (from 1).
    pub(crate) fn new(force: Option<u64>, stop_at: Option<u64>) -> Ticks {
        Ticks {
            passed: 0,
            force,
            stop_at,
        }
    }

    /// The modes that the environment asks for.
    pub(crate) fn from_env() -> Result<Ticks, OptionError> {
        let positive = |variable| positive(variable, std::env::var_os(variable));
        Ok(Ticks::new(positive(FORCE_VARIABLE)?, positive(STOP_VARIABLE)?))
    }

    /// Tells whether every migration point must be reported.
    pub(crate) fn every_point(&self) -> bool {
        self.force.is_some() || self.stop_at.is_some()
    }

    /// Points passed so far, while every one is reported.
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    /// Tells whether there is a point to stop at.
    pub(crate) fn stops(&self) -> bool {
        self.stop_at.is_some()
    }

    /// Counts a point; tells what is due there.
    pub(crate) fn pass(&mut self) -> Due {
        self.passed += 1;
        if self.stop_at == Some(self.passed) {
            return Due::Stop;
        }
        match self.force {
            Some(n) if self.passed.is_multiple_of(n) => Due::Migrate,
            _ => Due::Nothing,
        }
    }
}

/// The number that a variable has as its value. One that is set to nothing is as if it weren't set.
fn positive(variable: &'static str, value: Option<OsString>) -> Result<Option<u64>, OptionError> {
    let Some(value) = value.filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    match value.to_str().and_then(|v| v.parse().ok()) {
        Some(n) if n > 0 => Ok(Some(n)),
        _ => Err(OptionError::NotPositive {
            variable,
            value: value.to_string_lossy().into_owned(),
        }),
    }
}

/// Why a migration in place failed. The program can't go on.
#[derive(Debug, thiserror::Error)]
enum ForceError {
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(transparent)]
    Wasi(#[from] WasiError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Resume(#[from] ResumeError),
}

/// Moves the program to a new instance, through the bytes of a snapshot. `point` is the number of the point it stands
/// at.
pub(crate) fn migrate_in_place(running: &mut Running, point: u64) -> Flow {
    match running.replace_instance(migrate) {
        Ok(()) => Flow::Go,
        Err(e) => {
            let message = format!("{FORCE_VARIABLE}: point {point}: {e}");
            running.end(Ending::Failed(Failure::new(BAD_SNAPSHOT, message)))
        }
    }
}

fn migrate(running: &mut Running) -> Result<(), ForceError> {
    let mut bytes = Vec::new();
    let state = capture::capture(running)?;
    capture::hand_over(running, &state, &NoContents, &mut SnapshotSink::whole(&mut bytes))?;
    // The new address space first, so that it can't be the old one.
    let shell = resume::shell(running.instance.program, &running.setup.limits)?;
    let leave_fp = running.instance.leave_fp();
    let mut old = std::mem::replace(&mut running.instance, shell);
    let used = usize::try_from(leave_fp.saturating_sub(old.stack.usable().start)).unwrap_or(0);
    // Some bytes below the frames too: what was called from there left its traces.
    old.stack.bytes_mut()[used.saturating_sub(64 << 10)..].fill(GARBAGE);
    drop(old);
    let journal = running.wasi.take_journal();
    // Closes every descriptor of the guest's.
    running.wasi = Wasi::new(&WasiConfig::default())?;
    let snapshot = Snapshot::open(Cursor::new(bytes))?;
    let (state, contents) = (snapshot.state().clone(), Stored::of(&snapshot));
    resume::refill(running, state, ReadPages(&snapshot), &contents)?;
    running.wasi.set_journal(journal);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_counted_from_one() {
        let mut ticks = Ticks::new(Some(2), Some(5));
        let due: Vec<_> = (0..6).map(|_| ticks.pass()).collect();
        assert_eq!(
            due,
            [
                Due::Nothing,
                Due::Migrate,
                Due::Nothing,
                Due::Migrate,
                Due::Stop,
                Due::Migrate
            ]
        );
        assert!(ticks.every_point() && ticks.stops());
        assert!(!Ticks::default().every_point());
        assert_eq!(Ticks::default().pass(), Due::Nothing);
    }

    #[test]
    fn a_variable_that_is_empty_counts_as_unset() {
        let number = |value: Option<&str>| positive(FORCE_VARIABLE, value.map(OsString::from));
        assert_eq!((number(None), number(Some(""))), (Ok(None), Ok(None)));
        assert_eq!(number(Some("7")), Ok(Some(7)));
        for value in ["0", "-1", " ", "x"] {
            assert!(number(Some(value)).is_err(), "{value:?}");
        }
    }
}
