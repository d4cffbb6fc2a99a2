//! The conditions on which the promise rests, each by name, so that the model's tests can take one away and see that
//! the promise breaks.

/// A condition that must hold before something is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(test), allow(dead_code, reason = "the names are read by the model's tests"))]
pub(crate) enum Guard {
    /// A message that is about another transfer is not looked at.
    SameTransfer,
    /// The sender releases only what the receiver has prepared durably.
    ReleaseNeedsReceipt,
    /// The sender releases only when its own copy is durable.
    ReleaseNeedsOwnCopy,
    /// A cancelled transfer is not released, and a released one not cancelled.
    NoCancelAfterRelease,
    /// A connection that is lost after the release doesn't bring the program back.
    NoReturnAfterRelease,
    /// After a restart a released program stands still.
    ReleasedStandsAfterRestart,
    /// Only the refusal of the very preparation that was released brings the program back.
    RefusalOfThisReceipt,
    /// A sender without a copy takes nothing back.
    ReturnNeedsOwnCopy,
    /// The sender says that the transfer is gone only when that is durable.
    GoneWhenDurable,
    /// A program that may have gone on since it was stopped isn't simply gone on with from its snapshot.
    HomeIsRecovered,
    /// The receiver starts nothing without the sender's word.
    StartNeedsCommit,
    /// The receiver starts only the preparation that was released.
    CommitOfThisReceipt,
    /// What was refused isn't started, unless it is the last copy.
    RefusedStands,
    /// Prepared state stays when the connection is lost.
    PreparedStays,
    /// The receiver doesn't refuse what it may have run.
    NoRefusalAfterRestart,
    /// After a restart the receiver doesn't simply start what may have run already.
    RunningIsRecovered,
    /// The receiver says that it took the program only when it runs.
    TakenWhenItRuns,
    /// The receiver keeps what it refused until the sender holds the program again.
    RefusedIsKept,
}

#[cfg(test)]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Guard>> = const { std::cell::Cell::new(None) };
}

/// Whether the condition holds, or the guard is taken away in a test of the model.
#[inline]
pub(crate) fn holds(_guard: Guard, condition: bool) -> bool {
    #[cfg(test)]
    if BROKEN.get() == Some(_guard) {
        return true;
    }
    condition
}

/// Runs the function as if the guard were not there.
#[cfg(test)]
pub(crate) fn without<T>(guard: Option<Guard>, run: impl FnOnce() -> T) -> T {
    BROKEN.set(guard);
    let result = run();
    BROKEN.set(None);
    result
}
