//! How a verb fails: a message for a person and an exit code for a script.

use dunlin_interface::exit::{BAD_SNAPSHOT, COULD_NOT, USAGE};

/// A verb's failure. Its message reads after "dunlin: cannot ": "VERB WHAT: why; what to do".
pub(crate) use dunlin_interface::exit::Failure;

/// What a verb returns.
pub(crate) type Outcome = Result<(), Failure>;

/// Something that `dunlin` itself could not do.
pub(crate) fn could_not(message: impl Into<String>) -> Failure {
    Failure::new(COULD_NOT, message.into())
}

/// The command line makes no sense.
pub(crate) fn usage(message: impl Into<String>) -> Failure {
    Failure::new(USAGE, message.into())
}

/// The snapshot is damaged, or belongs to another program.
pub(crate) fn bad_snapshot(message: impl Into<String>) -> Failure {
    Failure::new(BAD_SNAPSHOT, message.into())
}
