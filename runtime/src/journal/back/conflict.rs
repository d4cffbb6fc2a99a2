//! What others have changed since the program left its files: found before anything is undone.

use super::expected::{Expected, ExpectedTree, Location};
use crate::journal::files;
use crate::journal::record::{FileId, Kind, Name, Record};
use crate::journal::recording::changed_at;
use crate::journal::seen::Entry;
use cap_primitives::fs::{self as sandbox, FollowSymlinks, MetadataExt};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// A name that is not as the program left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    /// The name.
    pub name: Name,
    /// In what it is not as the program left it.
    pub how: Difference,
    /// Of a file that has lost that name: where it is kept, by the journal's number and the name there.
    pub kept: Option<(u64, u32)>,
}

/// In what a name differs from how the program left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// The file's contents or attributes were changed.
    Changed,
    /// Something is there that the program knows nothing of.
    Appeared,
    /// The same, in a directory that the program has created: the directory with it gets another name.
    Inside,
    /// Something else is there.
    Replaced,
    /// It is gone, and the journal has only those parts of it that the program has changed.
    Removed,
    /// The program had removed it, and what the journal kept of it is gone.
    Lost,
}

impl Difference {
    /// Tells a person, behind the name.
    pub(super) fn text(self) -> &'static str {
        match self {
            Difference::Changed => "was changed by someone else",
            Difference::Appeared | Difference::Inside => "was put there by someone else",
            Difference::Replaced => "was replaced by someone else",
            Difference::Lost => "was kept beside the snapshots for going back, and someone else has removed that",
            Difference::Removed => "was removed by someone else, and can't be brought back whole",
        }
    }
}

/// The granted directories of a journal, by its indices; `None` for one that isn't granted here.
pub(super) type Roots = Vec<Option<Arc<File>>>;

/// A path for the host; the granted directory itself is `.`.
pub(super) fn path(name: &Name) -> &Path {
    match name.path.is_empty() {
        true => Path::new("."),
        false => Path::new(OsStr::from_bytes(&name.path)),
    }
}

/// What is there under a name, no link followed; `None` if nothing is.
pub(super) fn stat_name(roots: &Roots, name: &Name) -> io::Result<Option<sandbox::Metadata>> {
    let Some(Some(root)) = roots.get(name.grant as usize) else {
        return Ok(None);
    };
    match sandbox::stat(root, path(name), FollowSymlinks::No) {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Device and inode of what was found.
pub(super) fn id_of(found: &sandbox::Metadata) -> FileId {
    FileId {
        dev: found.dev(),
        ino: found.ino(),
    }
}

/// What names are compared with: the journals' tables, and what is in the granted directories.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    /// The granted directories.
    pub roots: &'a Roots,
    /// The journals' directory.
    pub dir: &'a File,
    /// What the program last left of each file it has changed, by journal.
    pub seen: &'a HashMap<u64, Vec<Entry>>,
    /// If going back was begun before, and interrupted: what it made anew, and which file that is.
    pub resumed: Option<&'a HashMap<FileId, FileId>>,
}

/// Everything that is not as the program left it, or as an interrupted going back did. `last`: the last records, newest
/// first and with their journal, whose change may not have been made: one, or two if something was about to be renamed
/// in place of something else.
pub(super) fn conflicts(
    comparison: &Comparison<'_>,
    tree: &ExpectedTree,
    last: &[(u64, &Record)],
) -> io::Result<Vec<Conflict>> {
    let mut before = tree.clone();
    let mut pending = HashSet::new();
    for (nth, (journal, record)) in last.iter().enumerate() {
        match record {
            Record::Created { name, .. } if nth == 0 => drop(pending.insert(name.clone())),
            Record::Removed { name, .. } if nth == 0 || pending.contains(name) => drop(pending.insert(name.clone())),
            Record::Renamed { from, to, .. } if nth == 0 => pending.extend([from.clone(), to.clone()]),
            _ => break,
        }
        before.revert(*journal, record);
    }
    let within_pending = |name: &Name| pending.iter().any(|p| name.is_within(p));
    let mut found = Vec::new();
    for (name, expected) in &tree.names {
        // On another machine, or in another directory, a snapshot brings its files.
        if comparison.root(name).is_none() {
            continue;
        }
        let Some(how) = comparison.differs(tree, name, *expected)? else {
            continue;
        };
        if within_pending(name) {
            // It may be as it was before the last change, which was recorded and not made; or that has been undone in
            // part.
            let earlier = before.names.get(name).copied().unwrap_or(Expected::Absent);
            if comparison.resumed.is_some() || comparison.differs(&before, name, earlier)?.is_none() {
                continue;
            }
        }
        found.push(Conflict {
            name: name.clone(),
            how,
            kept: None,
        });
    }
    comparison.kept(tree, within_pending, &mut found)?;
    // What was created holds nothing that others have put there.
    for (name, expected) in &tree.names {
        if *expected == Expected::Created(Kind::Directory) {
            strangers(comparison.roots, tree, name, &mut found)?;
        }
    }
    Ok(found)
}

impl Comparison<'_> {
    fn root(&self, name: &Name) -> Option<&File> {
        self.roots.get(name.grant as usize)?.as_deref()
    }

    /// Which file it is now that the journals know as `id`.
    fn now(&self, id: FileId) -> FileId {
        self.resumed
            .and_then(|recreated| recreated.get(&id))
            .copied()
            .unwrap_or(id)
    }

    /// Is a regular file of this size, last changed at this time, as the program left it?
    fn as_left(&self, tree: &ExpectedTree, id: FileId, size: u64, changed: u64) -> bool {
        let ours = tree.touched.get(&id).copied().unwrap_or(0).max(tree.restored);
        let Some(known) = tree.known.get(&id) else { return true };
        match self.seen.get(&known.seen.0).and_then(|s| s.get(known.seen.1 as usize)) {
            // Contents are put back first, so its size may be any.
            Some(entry) if self.resumed.is_some() => entry.skewed || changed <= ours || entry.fits(size, changed, ours),
            Some(entry) => entry.fits(size, changed, ours),
            // It was noted before it was recorded, so that is lost.
            None => false,
        }
    }

    /// In what way a name isn't what it should be.
    fn differs(&self, tree: &ExpectedTree, name: &Name, expected: Expected) -> io::Result<Option<Difference>> {
        let there = stat_name(self.roots, name)?;
        let needed = |id: &FileId| tree.known.get(id).is_none_or(|k| k.needed);
        Ok(match (expected, there) {
            (Expected::Absent, None) => None,
            (Expected::Absent, Some(_)) => Some(Difference::Appeared),
            (Expected::Created(_), None) => None,
            (Expected::Created(kind), Some(found)) => {
                let fits = match kind {
                    // Killed before it was known which file it is: it is empty still.
                    Kind::File => found.is_file() && found.len() == 0,
                    Kind::Directory => found.is_dir(),
                    Kind::Symlink(target) => {
                        found.is_symlink()
                            && self
                                .root(name)
                                .is_some_and(|root| link_checksum(root, name) == Some(target))
                    }
                    Kind::Link(_) => found.is_file(),
                };
                (!fits).then_some(Difference::Replaced)
            }
            (Expected::This(id), None) => needed(&id).then_some(Difference::Removed),
            (Expected::This(id), Some(found)) if id_of(&found) != self.now(id) => Some(Difference::Replaced),
            (Expected::This(id), Some(found)) => match (tree.places.get(&id), found.is_file()) {
                (Some(Location::Gone), _) => None,
                (_, true) => (!self.as_left(tree, id, found.len(), changed(&found))).then_some(Difference::Changed),
                // Only regular files are tracked, so the number is another's now; unless that one is gone, and it was
                // free.
                (Some(Location::At(_)), false) if tree.known.contains_key(&id) => Some(Difference::Replaced),
                (_, false) => None,
            },
        })
    }

    /// What is kept is another name of a file, which others may have by a third one; and it must be there.
    fn kept(&self, tree: &ExpectedTree, pending: impl Fn(&Name) -> bool, found: &mut Vec<Conflict>) -> io::Result<()> {
        for (&(journal, kept), (name, id)) in &tree.kept {
            if self.root(name).is_none() || (self.resumed.is_some() && pending(name)) {
                continue;
            }
            let conflict = |how, kept| Conflict {
                name: name.clone(),
                how,
                kept,
            };
            let keep = files::open_dir(self.dir, &files::keep_name(journal));
            let stat = match keep {
                Ok(keep) => rustix::fs::statat(&keep, kept.to_string(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(io::Error::from),
                Err(e) => Err(e),
            };
            match stat {
                Err(e) if e.kind() == io::ErrorKind::NotFound => found.push(conflict(Difference::Lost, None)),
                Err(e) => return Err(e),
                Ok(stat) => {
                    let here = tree.places.get(id) == Some(&Location::Kept(journal, kept)) && FileId::of(&stat) == *id;
                    let file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
                    let size = u64::try_from(stat.st_size).unwrap_or(0);
                    if here && file && !self.as_left(tree, *id, size, changed_at(&stat)) {
                        found.push(conflict(Difference::Changed, Some((journal, kept))));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The CRC-32 of a symbolic link's target.
pub(super) fn link_checksum(root: &File, name: &Name) -> Option<u32> {
    let target = sandbox::read_link_contents(root, path(name)).ok()?;
    Some(crc32fast::hash(target.as_os_str().as_bytes()))
}

fn changed(found: &sandbox::Metadata) -> u64 {
    u64::try_from(found.ctime())
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(found.ctime_nsec()).unwrap_or(0))
}

fn strangers(roots: &Roots, tree: &ExpectedTree, dir: &Name, found: &mut Vec<Conflict>) -> io::Result<()> {
    let Some(Some(root)) = roots.get(dir.grant as usize) else {
        return Ok(());
    };
    let Ok(opened) = sandbox::open_dir_nofollow(root, path(dir)) else {
        return Ok(());
    };
    let opened = File::from(rustix::fs::openat(
        &opened,
        c".",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?);
    for entry in files::names(&opened)? {
        let name = Name {
            grant: dir.grant,
            path: [&dir.path[..], b"/", entry.to_bytes()].concat(),
        };
        // Our own litter, if going back was interrupted.
        if !tree.names.contains_key(&name) && !entry.to_bytes().starts_with(b".dunlin-") {
            found.push(Conflict {
                name,
                how: Difference::Inside,
                kept: None,
            });
        }
    }
    Ok(())
}
