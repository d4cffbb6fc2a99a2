//! Putting a state back on another machine: a plan that is made by looking only, and then committed.
//!
//! [`plan::Plan`] says what will be opened, which carried files will be written, replaced, set aside and removed, and
//! everything that hinders any of it. `check` prints what hinders; going on commits the very same plan. What can be
//! different by then because of others (a name that was free, a directory that was empty) is looked at again by the
//! step that relies on it, and if a step fails, all carried files go back to where they were.
//!
//! A state is hostile: it may name any grant, path, right and number. So a grant is found only among those of the
//! person who resumes (`grants`); a path is resolved with the sandbox that serves the program itself, and opening never
//! creates or truncates; what it names must be a regular file or a directory again, and the same one; rights may be no
//! more than a fresh program could have; numbers are checked before they are used (`opening`). Carried files are
//! written only into directories granted for that (`placement` looks, `stage` writes), and only after all else that can
//! be checked has been.

pub(in crate::wasi) mod attributes;
mod grants;
mod opening;
mod placement;
pub(in crate::wasi) mod plan;
pub(in crate::wasi) mod problem;
pub(in crate::wasi) mod stage;
mod unlinked;
