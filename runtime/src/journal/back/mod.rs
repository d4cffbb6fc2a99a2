//! Going back: which journals lead to a snapshot, and undoing them.

mod aside;
mod conflict;
mod expected;
mod host;
mod marker;
mod names;
mod undo;

use crate::journal::Root;
use crate::journal::files::{self, journal_name, keep_name, number_of, seen_name};
use crate::journal::record::{self, Base, FileId, Header, Read};
use crate::journal::seen;
use conflict::{Comparison, Conflict, Difference, Roots, conflicts};
use dunlin_format::module::ModuleHash;
use expected::ExpectedTree;
use marker::{GOING_BACK, Marker};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use undo::{Undo, UndoError};

/// Why files can't be taken back. Those of a directory in which nothing of this has happened are as they were.
#[derive(Debug, thiserror::Error)]
pub enum BackError {
    /// The directory or a journal can't be read.
    #[error("cannot read the undo journal {0}: {1}")]
    Read(PathBuf, io::Error),
    /// The journals are another program's.
    #[error("{0} holds the undo journal of another program: give each program a directory of its own")]
    OtherProgram(PathBuf),
    /// A journal is missing.
    #[error(
        "the program's files can't be taken back to this snapshot: the undo journal that leads there is not in {0}; go on with the files as \
         they are with --no-rollback, if you know that they fit"
    )]
    Missing(PathBuf),
    /// A directory that the program has written to is not granted, or is another one.
    #[error(
        "the program has written to the directory '{guest}' since the snapshot, and {what}: grant the directory that it was, or go on with \
         the files as they are with --no-rollback, if you know that they fit"
    )]
    OtherDirectory {
        /// The program's name for it.
        guest: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Others have changed what the program has written since the snapshot: what, and whether some of it had been taken
    /// back before.
    #[error(
        "going back to the snapshot would overwrite what others have changed: {}; {}. To go on, start the program again with \
         --accept-changed: what they have changed is then kept under another name",
        list(.0),
        if *.1 { "it was begun before, and what others have changed since was not touched" } else { "nothing was touched" }
    )]
    Changed(Vec<String>, bool),
    /// A step failed.
    #[error("{0}; when that is mended, start the program again: it goes on from here")]
    Step(#[from] UndoError),
    /// Something else failed.
    #[error("cannot take files back: {0}")]
    Io(#[from] io::Error),
}

fn list(texts: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = texts.len().saturating_sub(SHOWN);
    let shown = texts.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if more > 0 {
        format!("{shown}; and {more} more")
    } else {
        shown
    }
}

/// The result of going back: which journal is gone on with, and what was done.
#[derive(Debug, Default)]
pub struct WentBack {
    /// The journal that led there and is to be gone on with: its number and what it leads to, and whether another comes
    /// before it. `None` if there are no journals.
    pub journal: Option<(u64, Base, bool)>,
    /// Is every directory that is granted now one of the journal's?
    pub everywhere: bool,
    /// How many records were undone.
    pub undone: u64,
    /// What a person should know.
    pub notices: Vec<String>,
}

/// A journal that was found in the directory.
struct Found {
    number: u64,
    file: File,
    read: Read,
}

/// All journals of a directory, newest first; those that hold nothing, because not even their beginning was written,
/// are removed.
fn find(directory: &Path, dir: &File) -> Result<Vec<Found>, BackError> {
    let mut found = Vec::new();
    for name in files::names(dir)? {
        let Some((name, number)) = name.to_str().ok().and_then(|n| Some((n, number_of(n, ".undo")?))) else {
            continue;
        };
        let failed = |e| BackError::Read(directory.join(name), e);
        let file = files::open(dir, name, false).map_err(failed)?;
        match record::read(&file).map_err(failed)? {
            Some(read) => found.push(Found { number, file, read }),
            None => forget(dir, number)?,
        }
    }
    found.sort_by_key(|f| std::cmp::Reverse(f.number));
    Ok(found)
}

/// Removes a journal, with what belongs to it.
fn forget(dir: &File, number: u64) -> io::Result<()> {
    files::remove(dir, &journal_name(number))?;
    files::remove(dir, &seen_name(number))?;
    files::remove_keep(dir, &keep_name(number))
}

/// Removes all journals: they don't tell the truth any more, or are not needed.
pub fn forget_all(directory: &Path) -> io::Result<()> {
    let dir = open(directory)?;
    for name in files::names(&dir)? {
        let Ok(name) = name.to_str() else { continue };
        for ending in [".undo", ".seen", ".keep"] {
            if let Some(number) = number_of(name, ending) {
                forget(&dir, number)?;
            }
        }
    }
    files::remove(&dir, GOING_BACK)
}

/// Opens the directory that journals lie in.
pub fn open(directory: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::empty())?.into())
}

/// Are there journals in a directory?
pub fn any(directory: &Path) -> bool {
    let names = open(directory).and_then(files::names).unwrap_or_default();
    names
        .iter()
        .any(|n| n.to_str().is_ok_and(|n| number_of(n, ".undo").is_some()))
}

/// Takes everything that the program may write back to where it was at a snapshot. `base` is what the snapshot is: of
/// [`Base::Own`], `number` says which. `granted` are the directories that the person who starts the program grants.
pub fn go_back(
    directory: &Path,
    module: ModuleHash,
    (base, number): (Base, u64),
    granted: &[Root],
    accept_changed: bool,
    durable: bool,
) -> Result<WentBack, BackError> {
    let dir = open(directory)?;
    let mut found = find(directory, &dir)?;
    let Some(newest) = found.first() else {
        return Ok(WentBack::default());
    };
    if newest.read.header.module != module {
        return Err(BackError::OtherProgram(directory.to_owned()));
    }
    let leads = |f: &Found| f.read.header.base == base && (base != Base::Own || f.number == number);
    let Some(last) = found.iter().position(leads) else {
        return Err(BackError::Missing(directory.to_owned()));
    };
    // Each must begin where the one before it ends.
    if !found[..last].iter().all(|f| f.read.header.continues) {
        return Err(BackError::Missing(directory.to_owned()));
    }
    found.truncate(last + 1);
    let mut went = WentBack {
        undone: found.iter().map(|f| f.read.records.len() as u64).sum(),
        ..WentBack::default()
    };
    went.everywhere = granted.iter().all(|root| {
        let id = root
            .dir
            .as_ref()
            .and_then(|dir| rustix::fs::fstat(dir).ok())
            .map(|stat| FileId::of(&stat));
        found[0].read.header.grants.contains(&(root.guest.clone(), id))
    });
    if went.undone > 0 {
        went.notices = undo_all(&dir, &found, granted, accept_changed, durable)?;
    }
    // The oldest is emptied, and gone on with.
    let Some(oldest) = found.pop() else { return Ok(went) };
    for newer in &found {
        forget(&dir, newer.number)?;
    }
    oldest.file.set_len(oldest.read.begins)?;
    files::remove(&dir, &seen_name(oldest.number))?;
    files::remove_keep(&dir, &keep_name(oldest.number))?;
    files::remove(&dir, GOING_BACK)?;
    went.journal = Some((oldest.number, oldest.read.header.base, oldest.read.header.continues));
    Ok(went)
}

fn undo_all(
    dir: &File,
    found: &[Found],
    granted: &[Root],
    accept_changed: bool,
    durable: bool,
) -> Result<Vec<String>, BackError> {
    let mut tree = ExpectedTree::default();
    let mut entries = HashMap::new();
    for journal in found.iter().rev() {
        for placed in &journal.read.records {
            tree.apply(journal.number, &placed.record);
        }
        if let Ok(file) = files::open(dir, &seen_name(journal.number), false) {
            entries.insert(journal.number, seen::read(&file)?);
        }
    }
    // Every journal of a chain has the same directories.
    let header = &found[0].read.header;
    let roots = roots(header, &tree, granted)?;
    let begun = Marker::find(dir)?;
    if let Some((_, left)) = &begun {
        tree.restored = tree.restored.max(left.until);
    }
    let newest_first = found
        .iter()
        .flat_map(|f| f.read.records.iter().rev().map(|p| (f.number, &p.record)));
    let last: Vec<_> = match begun {
        None => newest_first.take(2).collect(),
        // The journal is cut behind names only: what came after that one has been undone, and will be again.
        Some(_) => newest_first
            .filter(|(_, record)| record.is_of_names())
            .take(1)
            .collect(),
    };
    let comparison = Comparison {
        roots: &roots,
        dir,
        seen: &entries,
        resumed: begun.as_ref().map(|(_, left)| &left.recreated),
    };
    let conflicting = conflicts(&comparison, &tree, &last)?;
    if !conflicting.is_empty() && !accept_changed {
        let text = |c: &Conflict| format!("'{}' in the directory '{}' {}", c.name, guest(header, c), c.how.text());
        return Err(BackError::Changed(
            conflicting.iter().map(text).collect(),
            begun.is_some(),
        ));
    }
    // What was torn at the end was not done.
    for journal in found {
        journal.file.set_len(journal.read.end)?;
    }
    // What others have made is safe before anything is undone: whoever goes on after a kill finds it where it was, or
    // aside.
    let (marker, recreated) = match begun {
        Some((marker, left)) => (Some(marker), left.recreated),
        None => (None, HashMap::new()),
    };
    let mut undo = Undo::new(dir, &roots, &mut tree, recreated);
    for conflict in &conflicting {
        match conflict.how {
            Difference::Changed => undo.copy_aside(conflict)?,
            Difference::Appeared | Difference::Replaced => undo.set_aside(&conflict.name, conflict.how)?,
            Difference::Inside => {}
            Difference::Removed | Difference::Lost => {
                undo.notices
                    .push(format!("'{}' {}", conflict.name, conflict.how.text()))
            }
        }
    }
    if durable {
        undo.sync();
    }
    let marker = match marker {
        Some(marker) => marker,
        None => Marker::begin(dir)?,
    };
    if durable {
        rustix::fs::fsync(&marker.file)
            .and_then(|()| rustix::fs::fsync(dir))
            .map_err(io::Error::from)?;
    }
    undo.marker = Some(marker);
    let undone = found.iter().try_for_each(|journal| {
        undo.journal(
            journal.number,
            &journal.file,
            journal.read.begins,
            &journal.read.records,
            durable,
        )
    });
    // From now on every change is others'. What went wrong first is what is told.
    let over = undo.marker.as_ref().map_or(Ok(()), Marker::over);
    undone?;
    over?;
    Ok(undo.notices)
}

fn guest<'a>(header: &'a Header, conflict: &Conflict) -> &'a str {
    header
        .grants
        .get(conflict.name.grant as usize)
        .map_or("", |(guest, _)| guest.as_str())
}

/// The directories of a journal among those that are granted: of the same name, the first for the first, and the very
/// same directory. Where that is another one, as on another machine, the snapshot brings the files that are carried.
fn roots(header: &Header, tree: &ExpectedTree, granted: &[Root]) -> Result<Roots, BackError> {
    let mut taken = vec![false; granted.len()];
    let mut roots: Roots = Vec::new();
    for (index, (guest, was)) in (0u32..).zip(&header.grants) {
        let ours = granted
            .iter()
            .zip(&mut taken)
            .find(|(g, taken)| g.guest == *guest && !**taken);
        let mut carried = false;
        let ours: Option<Arc<File>> = ours.and_then(|(g, taken)| {
            *taken = true;
            carried = g.carried;
            g.dir.clone()
        });
        let is = ours
            .as_ref()
            .and_then(|dir| rustix::fs::fstat(dir).ok())
            .map(|stat| FileId::of(&stat));
        let written = tree.names.keys().any(|name| name.grant == index);
        let what = match (is, was) {
            (Some(is), Some(was)) if is == *was => None,
            (None, _) => Some("it is not granted now"),
            (Some(_), _) => Some("another directory is granted under that name now"),
        };
        match what {
            None => roots.push(ours),
            Some(what) if written && !carried => {
                return Err(BackError::OtherDirectory {
                    guest: guest.clone(),
                    what,
                });
            }
            Some(_) => roots.push(None),
        }
    }
    Ok(roots)
}
