//! What others have changed since the program left its files: found before anything is undone.

use super::record::{FileId, Kind, Name, Record};
use super::seen::Entry;
use super::world::{Expected, Location, World};
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
pub struct Conflict {
    /// The name.
    pub name: Name,
    /// In what way.
    pub how: How,
}

/// What others have done to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
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
}

impl How {
    /// For a person.
    pub fn text(self) -> &'static str {
        match self {
            How::Changed => "was changed by someone else",
            How::Appeared | How::Inside => "was put there by someone else",
            How::Replaced => "was replaced by someone else",
            How::Removed => "was removed by someone else, and can't be brought back whole",
        }
    }
}

/// The granted directories of a journal, by its indices; `None` for one that isn't granted here.
pub type Roots = Vec<Option<Arc<File>>>;

/// A path for the host; the granted directory itself is `.`.
pub fn path(name: &Name) -> &Path {
    match name.path.is_empty() {
        true => Path::new("."),
        false => Path::new(OsStr::from_bytes(&name.path)),
    }
}

/// What is there under a name, no link followed; `None` if nothing is.
pub fn look(roots: &Roots, name: &Name) -> io::Result<Option<sandbox::Metadata>> {
    let Some(Some(root)) = roots.get(name.grant as usize) else {
        return Ok(None);
    };
    match sandbox::stat(root, path(name), FollowSymlinks::No) {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Which file that is.
pub fn id_of(found: &sandbox::Metadata) -> FileId {
    FileId {
        dev: found.dev(),
        ino: found.ino(),
    }
}

/// Everything that is not as the program left it. `last`: the last records, newest first, whose change may not have been made: one, or
/// two if something was about to be renamed in place of something else.
pub fn conflicts(roots: &Roots, world: &World, last: &[&Record], seen: &HashMap<u64, Vec<Entry>>) -> io::Result<Vec<Conflict>> {
    let mut before = world.clone();
    let mut pending = HashSet::new();
    for (nth, record) in last.iter().enumerate() {
        match record {
            Record::Created { name, .. } if nth == 0 => drop(pending.insert(name.clone())),
            Record::Removed { name, .. } if nth == 0 || pending.contains(name) => drop(pending.insert(name.clone())),
            Record::Renamed { from, to, .. } if nth == 0 => pending.extend([from.clone(), to.clone()]),
            _ => break,
        }
        before.revert(record);
    }
    let within_pending = |name: &Name| pending.iter().any(|p| name.is_within(p));
    let mut found = Vec::new();
    for (name, expected) in &world.names {
        let Some(how) = differs(roots, world, name, *expected, seen)? else {
            continue;
        };
        // It may be as it was before the last change, which was recorded and not made.
        let earlier = before.names.get(name).copied().unwrap_or(Expected::Absent);
        if within_pending(name) && differs(roots, &before, name, earlier, seen)?.is_none() {
            continue;
        }
        found.push(Conflict { name: name.clone(), how });
    }
    // What was created holds nothing that others have put there.
    for (name, expected) in &world.names {
        if *expected == Expected::Created(Kind::Directory) {
            strangers(roots, world, name, &mut found)?;
        }
    }
    Ok(found)
}

/// In what way a name isn't what it should be.
fn differs(
    roots: &Roots,
    world: &World,
    name: &Name,
    expected: Expected,
    seen: &HashMap<u64, Vec<Entry>>,
) -> io::Result<Option<How>> {
    let there = look(roots, name)?;
    let needed = |id: &FileId| world.known.get(id).is_none_or(|k| k.needed);
    Ok(match (expected, there) {
        (Expected::Absent, None) => None,
        (Expected::Absent, Some(_)) => Some(How::Appeared),
        (Expected::Created(_), None) => None,
        (Expected::Created(kind), Some(found)) => {
            let fits = match kind {
                // Killed before it was known which file it is: it is empty still.
                Kind::File => found.is_file() && found.len() == 0,
                Kind::Directory => found.is_dir(),
                Kind::Symlink => found.is_symlink(),
                Kind::Link(_) => found.is_file(),
            };
            (!fits).then_some(How::Replaced)
        }
        (Expected::This(id), None) => needed(&id).then_some(How::Removed),
        (Expected::This(id), Some(found)) if id_of(&found) != id => Some(How::Replaced),
        (Expected::This(id), Some(found)) => {
            // Only regular files have entries; a symbolic link may have the number of one that is gone.
            let known = world.known.get(&id).filter(|_| found.is_file());
            let entry = known.and_then(|k| seen.get(&k.seen.0)?.get(k.seen.1 as usize));
            let ours = world.touched.get(&id).copied().unwrap_or(0).max(world.restored);
            let as_left = entry.is_none_or(|e| e.fits(found.len(), changed(&found), ours));
            (!as_left && world.places.get(&id) != Some(&Location::Gone)).then_some(How::Changed)
        }
    })
}

fn changed(found: &sandbox::Metadata) -> u64 {
    u64::try_from(found.ctime())
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(found.ctime_nsec()).unwrap_or(0))
}

fn strangers(roots: &Roots, world: &World, dir: &Name, found: &mut Vec<Conflict>) -> io::Result<()> {
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
    for entry in super::files::names(&opened)? {
        let name = Name {
            grant: dir.grant,
            path: [&dir.path[..], b"/", entry.to_bytes()].concat(),
        };
        if !world.names.contains_key(&name) {
            found.push(Conflict { name, how: How::Inside });
        }
    }
    Ok(())
}
