//! A snapshot shown to a person (text) or to a program (JSON).
//!
//! Everything a snapshot says is shown escaped: its bytes may come from anywhere, and a terminal obeys control
//! characters. Values of environment variables are left out, because they are often secrets.

mod json;
mod text;

pub use json::{json, write_json};
pub use text::text;

use crate::snapshot::{Section, SectionKind, Snapshot};

/// How many pages are stored of each memory, in the file itself and in its bases.
fn stored_pages<R>(snapshot: &Snapshot<R>) -> Vec<(u64, u64)> {
    let mut stored = vec![(0, 0); snapshot.state().memories.len()];
    for run in snapshot.runs() {
        if let Some((own, bases)) = stored.get_mut(run.memory as usize) {
            *(if run.file == 0 { own } else { bases }) += run.count;
        }
    }
    stored
}

/// The section's name; none if this Dunlin doesn't know it.
fn section_name(section: &Section) -> Option<&'static str> {
    SectionKind::of(section.id).map(SectionKind::name)
}

#[cfg(test)]
mod tests;
