//! Where everything is that journals tell of: worked out forward from the records, and taken back again while they are
//! undone.

use crate::journal::record::{FileId, Kind, Name, Record, Was};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

/// What a name should stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Nothing.
    Absent,
    /// This file or directory.
    This(FileId),
    /// Something that the program has created, of which no more is known.
    Created(Kind),
}

/// Where a file is that the program has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// Under a name.
    At(Name),
    /// Among what a journal keeps: the journal's number, and the name there.
    Kept(u64, u32),
    /// It has no name any more.
    Gone,
}

/// A file that a journal has an index for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Which file.
    pub id: FileId,
    /// Its place in the newest journal's table that has it: the journal's number, and the index.
    pub seen: (u64, u32),
    /// Was it there at the snapshot, so that going back needs the very file?
    pub needed: bool,
}

/// The names and files that journals tell of, and how each should be.
#[derive(Clone, Debug, Default)]
pub(super) struct ExpectedTree {
    /// What each name should stand for.
    pub names: BTreeMap<Name, Expected>,
    /// The names of each file among them.
    names_of: HashMap<FileId, BTreeSet<Name>>,
    /// What is kept, by the journal's number and the name there: which name it lost, and which file it was.
    pub kept: HashMap<(u64, u32), (Name, FileId)>,
    /// The same by file.
    kept_of: HashMap<FileId, BTreeSet<(u64, u32)>>,
    /// Where each file that was recorded should be found.
    pub places: HashMap<FileId, Location>,
    /// Until when changes of a file are not others', in nanoseconds since 1970.
    pub touched: HashMap<FileId, u64>,
    /// Until when changes of any file are not others', in nanoseconds since 1970.
    pub restored: u64,
    /// Files that a journal's table has an entry for.
    pub known: HashMap<FileId, Known>,
    /// Files by journal and index.
    indices: HashMap<(u64, u32), FileId>,
}

impl ExpectedTree {
    /// The file that an index stands for.
    pub(super) fn file(&self, journal: u64, index: u32) -> Option<(FileId, &Location)> {
        let id = *self.indices.get(&(journal, index))?;
        Some((id, self.places.get(&id)?))
    }

    fn expect(&mut self, name: Name, expected: Expected) {
        if let Expected::This(id) = expected {
            self.names_of.entry(id).or_default().insert(name.clone());
        }
        if let Some(Expected::This(before)) = self.names.insert(name.clone(), expected)
            && expected != Expected::This(before)
        {
            self.lost(before, &name);
        }
    }

    fn forget(&mut self, name: &Name) -> Option<Expected> {
        let before = self.names.remove(name);
        if let Some(Expected::This(id)) = before {
            self.lost(id, name);
        }
        before
    }

    fn lost(&mut self, id: FileId, name: &Name) {
        if let Some(names) = self.names_of.get_mut(&id) {
            names.remove(name);
            if names.is_empty() {
                self.names_of.remove(&id);
            }
        }
    }

    /// Brings the tree to after a record's change.
    pub(super) fn apply(&mut self, journal: u64, record: &Record) {
        match record {
            Record::File { index, place, id, .. } => {
                let location = match place {
                    Ok(name) => {
                        self.expect(name.clone(), Expected::This(*id));
                        Location::At(name.clone())
                    }
                    Err((journal, kept)) => Location::Kept(*journal, *kept),
                };
                self.places.insert(*id, location);
                self.index(journal, *index, *id, true);
            }
            Record::Born { index, name, id } => {
                self.expect(name.clone(), Expected::This(*id));
                self.places.insert(*id, Location::At(name.clone()));
                self.index(journal, *index, *id, false);
            }
            Record::Created { name, kind } => {
                let expected = match kind {
                    Kind::Link(id) => Expected::This(*id),
                    kind => Expected::Created(*kind),
                };
                self.expect(name.clone(), expected);
            }
            Record::Removed { name, id, was, .. } => {
                self.expect(name.clone(), Expected::Absent);
                if let Was::Linked(other) = was {
                    // Where a file is said to be must be a known name, so that it moves with the directory.
                    self.expect(other.clone(), Expected::This(*id));
                }
                if let Was::Kept(kept) = was {
                    self.kept.insert((journal, *kept), (name.clone(), *id));
                    self.kept_of.entry(*id).or_default().insert((journal, *kept));
                }
                if self.places.get(id) == Some(&Location::At(name.clone())) {
                    let location = match was {
                        Was::Kept(kept) => Location::Kept(journal, *kept),
                        Was::Linked(other) => Location::At(other.clone()),
                        _ => self.another_place(*id),
                    };
                    self.places.insert(*id, location);
                }
            }
            Record::Renamed { from, to, id } => {
                // What once was in a directory of that name is not what is in this one.
                for name in self.within(to) {
                    self.forget(&name);
                }
                self.shift(from, to);
                self.expect(from.clone(), Expected::Absent);
                if !self.names.contains_key(to) {
                    self.expect(to.clone(), Expected::This(*id));
                }
            }
            Record::Touched { id, until } => {
                self.touched.insert(*id, *until);
            }
            Record::Restored { at } => self.restored = self.restored.max(*at),
            Record::Header(_)
            | Record::Data { .. }
            | Record::Hole { .. }
            | Record::Copy { .. }
            | Record::Directory { .. } => {}
        }
    }

    /// Takes a record for undone that was the last one.
    pub(super) fn revert(&mut self, journal: u64, record: &Record) {
        match record {
            Record::Created { name, .. } => {
                if let Some(Expected::This(id)) = self.forget(name)
                    && self.places.get(&id) == Some(&Location::At(name.clone()))
                {
                    let location = self.another_place(id);
                    self.places.insert(id, location);
                }
            }
            Record::Removed { name, id, was, .. } => {
                self.expect(name.clone(), Expected::This(*id));
                if let Was::Kept(kept) = was {
                    self.kept.remove(&(journal, *kept));
                    if let Some(places) = self.kept_of.get_mut(id) {
                        places.remove(&(journal, *kept));
                    }
                }
                // Only regular files have a place.
                if !matches!(was, Was::Symlink(_) | Was::Directory | Was::Pipe) {
                    self.places.insert(*id, Location::At(name.clone()));
                }
            }
            Record::Renamed { from, to, .. } => {
                self.forget(from);
                self.shift(to, from);
            }
            _ => {}
        }
    }

    fn index(&mut self, journal: u64, index: u32, id: FileId, needed: bool) {
        self.indices.insert((journal, index), id);
        let before = self.known.get(&id).is_some_and(|k| k.needed);
        let seen = (journal, index);
        // A file that an earlier journal saw coming is there at a later snapshot.
        let needed = needed && (before || !self.known.contains_key(&id));
        self.known.insert(id, Known { id, seen, needed });
    }

    /// Where else a file is: under another name that is known, or else among what is kept.
    fn another_place(&self, id: FileId) -> Location {
        let name = self.names_of.get(&id).and_then(BTreeSet::first);
        let kept = self.kept_of.get(&id).and_then(BTreeSet::last);
        match (name, kept) {
            (Some(name), _) => Location::At(name.clone()),
            (None, Some(&(journal, kept))) => Location::Kept(journal, kept),
            (None, None) => Location::Gone,
        }
    }

    /// The names that are known within one.
    fn within(&self, name: &Name) -> Vec<Name> {
        // What begins with the name's bytes lies together, though not all of it lies in it.
        let begins = |n: &Name| n.grant == name.grant && n.path.starts_with(&name.path);
        let names = self.names.range((Bound::Included(name.clone()), Bound::Unbounded));
        let names = names.map(|(name, _)| name).take_while(|n| begins(n));
        names.filter(|n| n.is_within(name)).cloned().collect()
    }

    /// Moves everything from within one name to another.
    fn shift(&mut self, from: &Name, to: &Name) {
        for name in self.within(from) {
            let Some(expected) = self.forget(&name) else { continue };
            let moved = name.moved(from, to);
            if let Expected::This(id) = expected
                && let Some(place) = self.places.get_mut(&id)
                && *place == Location::At(name)
            {
                *place = Location::At(moved.clone());
            }
            self.expect(moved, expected);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::Attributes;

    fn name(path: &str) -> Name {
        Name {
            grant: 0,
            path: path.into(),
        }
    }

    fn id(ino: u64) -> FileId {
        FileId { dev: 1, ino }
    }

    const ATTRIBUTES: Attributes = Attributes {
        mode: 0,
        modified: (0, 0),
    };

    #[test]
    fn what_is_applied_and_reverted_is_where_it_was() {
        let renamed = |from: &str, to: &str, ino| Record::Renamed {
            from: name(from),
            to: name(to),
            id: id(ino),
        };
        let linked = [
            Record::File {
                index: 0,
                place: Ok(name("a")),
                id: id(1),
                size: 5,
                attributes: ATTRIBUTES,
            },
            Record::Removed {
                name: name("a"),
                id: id(1),
                was: Was::Linked(name("d/x")),
                attributes: ATTRIBUTES,
            },
            renamed("d", "e", 9),
        ];
        let mut tree = ExpectedTree::default();
        linked.iter().for_each(|record| tree.apply(7, record));
        assert_eq!(tree.places[&id(1)], Location::At(name("e/x")));
        linked[1..].iter().rev().for_each(|record| tree.revert(7, record));
        assert_eq!(tree.places[&id(1)], Location::At(name("a")));
        let records = [
            Record::File {
                index: 0,
                place: Ok(name("d/a")),
                id: id(1),
                size: 5,
                attributes: ATTRIBUTES,
            },
            renamed("d", "e", 9),
            Record::Removed {
                name: name("x"),
                id: id(2),
                was: Was::Kept(4),
                attributes: ATTRIBUTES,
            },
            renamed("e/a", "x", 1),
            Record::Created {
                name: name("e.b"),
                kind: Kind::Link(id(1)),
            },
            Record::Removed {
                name: name("x"),
                id: id(1),
                was: Was::Kept(5),
                attributes: ATTRIBUTES,
            },
        ];
        let mut tree = ExpectedTree::default();
        let mut places = Vec::new();
        for record in &records {
            tree.apply(7, record);
            places.push(tree.places[&id(1)].clone());
        }
        let at = |path| Location::At(name(path));
        assert_eq!(
            places,
            [at("d/a"), at("e/a"), at("e/a"), at("x"), at("x"), Location::Kept(7, 5)]
        );
        assert_eq!(tree.names[&name("e.b")], Expected::This(id(1)));
        for (record, place) in records[1..].iter().zip(&places).rev() {
            tree.revert(7, record);
            assert_eq!(&tree.places[&id(1)], place, "after undoing {record:?}");
        }
    }

    /// Killed between a record and its change, a symbolic link that was to go is there: it has no place, as it is not
    /// tracked.
    #[test]
    fn only_regular_files_have_a_place() {
        let mut tree = ExpectedTree::default();
        let removed = |was| Record::Removed {
            name: name("x"),
            id: id(3),
            was,
            attributes: ATTRIBUTES,
        };
        for was in [Was::Symlink(b"a".to_vec()), Was::Directory, Was::Pipe] {
            tree.apply(7, &removed(was.clone()));
            tree.revert(7, &removed(was));
            assert!(tree.places.is_empty());
            assert_eq!(tree.names[&name("x")], Expected::This(id(3)));
        }
        tree.apply(7, &removed(Was::Kept(1)));
        tree.revert(7, &removed(Was::Kept(1)));
        assert_eq!(tree.places[&id(3)], Location::At(name("x")));
    }

    /// A file with a name that no record tells of is known by what is kept of it, when what it was called meanwhile has
    /// been undone.
    #[test]
    fn a_file_is_where_it_was_kept_once_its_later_names_are_undone() {
        let removed = |path, kept| Record::Removed {
            name: name(path),
            id: id(3),
            was: Was::Kept(kept),
            attributes: ATTRIBUTES,
        };
        let records = [
            Record::File {
                index: 0,
                place: Ok(name("x")),
                id: id(3),
                size: 5,
                attributes: ATTRIBUTES,
            },
            removed("x", 1),
            Record::Data { index: 0, at: 0 },
            Record::Created {
                name: name("y"),
                kind: Kind::Link(id(3)),
            },
            removed("y", 2),
        ];
        let mut tree = ExpectedTree::default();
        records.iter().for_each(|record| tree.apply(7, record));
        let mut places = Vec::new();
        for record in records.iter().rev() {
            places.push(tree.file(7, 0).map(|(_, place)| place.clone()));
            tree.revert(7, record);
        }
        let kept = Some(Location::Kept(7, 1));
        let at = |path| Some(Location::At(name(path)));
        assert_eq!(places, [kept.clone(), at("y"), kept.clone(), kept, at("x")]);
    }
}
