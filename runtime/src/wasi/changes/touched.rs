//! What the program has touched: bytes of files, so that only those are read again, and names, so that what it made,
//! changed or removed under a `--carry` grant travels with it.
//!
//! `watch` tells it what calls do. Nothing of it can fail: what can't be remembered makes a snapshot larger, or is an
//! obstacle when one is taken.

use crate::wasi::changes::chunked::List;
use crate::wasi::changes::writes::Writes;
use crate::wasi::host::Stat;
use dunlin_migrate::state::files::{Files, GrantMode, MAX_NODES};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// Removed names that are remembered, at most: with those of directories that are carried whole, a reader must take
/// them.
const MOST_GONE: usize = MAX_NODES / 4;

/// What is known of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Name {
    /// Something has it.
    there: bool,
    /// Something may have it elsewhere: it was there before the program made it, or a snapshot brought it there.
    elsewhere: bool,
    /// If it is a directory, all that is in it counts as touched: it was renamed with what was in it.
    whole: bool,
    /// When it was removed, if it is gone: removals are counted.
    gone: u64,
}

/// Names under grants whose touched files are carried, by grant and path below it.
#[derive(Debug, Default)]
struct Names {
    all: BTreeMap<(u32, Vec<u8>), Name>,
    /// Removals so far, and how many may follow before it is looked whether too many names are remembered for them.
    removals: u64,
    spare: usize,
    /// A grant of which there were more than can be carried.
    too_many: Option<u32>,
}

impl Names {
    fn change(&mut self, grant: u32, path: &[u8], change: impl FnOnce(&mut Name), new: Name) {
        let full = self.all.len() >= 2 * MAX_NODES;
        match self.all.entry((grant, path.to_owned())) {
            Entry::Occupied(mut name) => change(name.get_mut()),
            Entry::Vacant(_) if full => self.too_many = Some(grant),
            Entry::Vacant(place) => drop(place.insert(new)),
        }
    }

    /// It is gone from here. What was never anywhere else is forgotten.
    fn remove(&mut self, grant: u32, path: &[u8]) {
        let key = (grant, path.to_owned());
        if self.all.get(&key).is_some_and(|name| !name.elsewhere) {
            self.all.remove(&key);
            return;
        }
        self.removals += 1;
        let gone = Name {
            elsewhere: true,
            gone: self.removals,
            ..Name::default()
        };
        self.change(grant, path, |name| *name = gone, gone);
        match self.spare.checked_sub(1) {
            Some(less) => self.spare = less,
            None => self.forget(MOST_GONE),
        }
    }

    /// Forgets the names that were removed first, but for so many.
    fn forget(&mut self, most: usize) {
        let gone = self.all.values().filter(|name| !name.there).map(|name| name.gone);
        let mut gone: Vec<u64> = gone.collect();
        if gone.len() > most {
            // Half of them, so that this is rarely done.
            let oldest = gone.len() - most / 2;
            let (_, &mut first, _) = gone.select_nth_unstable(oldest);
            self.all.retain(|_, name| name.there || name.gone >= first);
            gone.truncate(most / 2);
        }
        self.spare = most - gone.len();
    }

    /// The names of what is in a directory, as far as they are known.
    fn below(&self, grant: u32, path: &[u8]) -> Vec<Vec<u8>> {
        let first = [path, b"/"].concat();
        let from = self.all.range((grant, first.clone())..);
        let below = from.take_while(|((g, p), _)| *g == grant && p.starts_with(&first));
        below.map(|((_, p), _)| p.clone()).collect()
    }
}

/// Bytes and names that the program has touched since the last snapshot that knew of them.
#[derive(Debug, Default)]
pub(in crate::wasi) struct Touched {
    modes: Vec<GrantMode>,
    writes: Writes,
    names: Mutex<Names>,
    /// The numbers of the files that descriptors have open, as far as they were needed.
    descriptors: Vec<Option<u32>>,
}

/// What calls do.
impl Touched {
    /// Of a program with grants of these modes.
    pub(in crate::wasi) fn new(modes: impl Iterator<Item = GrantMode>) -> Touched {
        Touched {
            modes: modes.collect(),
            ..Touched::default()
        }
    }

    /// Does anything of this matter? Else nothing need be told.
    pub(in crate::wasi) fn wanted(&self) -> bool {
        self.modes.iter().any(|mode| mode.carries())
    }

    /// Do single names of this grant matter?
    pub(in crate::wasi) fn by_name(&self, grant: u32) -> bool {
        self.modes.get(grant as usize) == Some(&GrantMode::Carry)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A file is about to be changed, its attributes perhaps. Returns its number.
    pub(in crate::wasi) fn begin(&mut self, stat: &Stat) -> Option<u32> {
        let number = self.writes.number(stat.id())?;
        if self.writes.due(number) {
            self.writes.seen(number, stat);
        }
        self.writes.begin(number);
        Some(number)
    }

    /// What a descriptor has open is about to be written to; what the host says of it is asked for only if that is
    /// needed. Returns its number.
    pub(in crate::wasi) fn begin_write(&mut self, fd: u32, stat: impl FnOnce() -> Option<Stat>) -> Option<u32> {
        let known = self.descriptors.get(fd as usize).copied().flatten();
        if let Some(number) = known
            && !self.writes.due(number)
        {
            self.writes.begin(number);
            return known;
        }
        let number = self.begin(&stat()?)?;
        if self.descriptors.len() <= fd as usize {
            self.descriptors.resize(fd as usize + 1, None);
        }
        self.descriptors[fd as usize] = Some(number);
        Some(number)
    }

    /// A descriptor doesn't have the same thing open any more.
    pub(in crate::wasi) fn closed(&mut self, fd: u32) {
        if let Some(number) = self.descriptors.get_mut(fd as usize) {
            *number = None;
        }
    }

    /// Bytes of a file were written.
    pub(in crate::wasi) fn wrote(&mut self, number: u32, at: u64, len: u64) {
        self.writes.wrote(number, at, len);
    }

    /// A file's size was changed, or may have been.
    pub(in crate::wasi) fn resized(&mut self, number: u32, from: u64, to: u64) {
        self.writes.resized(number, from, to);
    }

    /// A file was opened. Of an empty one nothing is known: it may be new, in the place of another, or have lost its
    /// contents.
    pub(in crate::wasi) fn opened(&mut self, stat: &Stat) {
        if stat.size == 0
            && let Some(number) = self.writes.number(stat.id())
        {
            self.writes.resized(number, 0, 0);
        }
    }

    /// The program's call is over, whatever became of it.
    pub(in crate::wasi) fn returned(&mut self) {
        if self.writes.returned() {
            self.descriptors.clear();
        }
    }

    /// A name exists that didn't, of whatever kind.
    pub(in crate::wasi) fn created(&mut self, grant: u32, path: &[u8]) {
        if self.by_name(grant) && !path.is_empty() {
            let new = Name {
                there: true,
                ..Name::default()
            };
            self.names().change(grant, path, |name| name.there = true, new);
        }
    }

    /// The contents or attributes of what has that name change.
    pub(in crate::wasi) fn changed(&mut self, grant: u32, path: &[u8]) {
        if self.by_name(grant) && !path.is_empty() {
            let old = Name {
                there: true,
                elsewhere: true,
                ..Name::default()
            };
            self.names().change(grant, path, |name| name.there = true, old);
        }
    }

    /// A name is gone.
    pub(in crate::wasi) fn removed(&mut self, grant: u32, path: &[u8]) {
        if self.by_name(grant) && !path.is_empty() {
            self.names().remove(grant, path);
        }
    }

    /// A file or a directory with all that is in it has another name.
    pub(in crate::wasi) fn renamed(&mut self, from: (u32, &[u8]), to: (u32, &[u8])) {
        if from == to {
            return;
        }
        let (leaves, arrives) = (self.by_name(from.0), self.by_name(to.0));
        let mut names = self.names();
        let was = names.all.get(&(from.0, from.1.to_vec())).copied();
        let mut moved = Vec::new();
        if leaves {
            for path in names.below(from.0, from.1) {
                let was = names.all.get(&(from.0, path.clone())).copied();
                moved.extend(was.filter(|w| w.there).map(|w| (path[from.1.len()..].to_vec(), w)));
                names.remove(from.0, &path);
            }
            names.remove(from.0, from.1);
        }
        if arrives {
            // Something may have been there, which it replaces.
            let new = Name {
                there: true,
                elsewhere: true,
                // If it is a directory that the program has made, what is in it is known.
                whole: !leaves || was.is_none_or(|w| w.elsewhere || w.whole),
                gone: 0,
            };
            names.change(
                to.0,
                to.1,
                |name| {
                    name.there = true;
                    name.whole |= new.whole;
                },
                new,
            );
            for (rest, was) in moved {
                let new = Name {
                    there: true,
                    whole: was.whole,
                    ..Name::default()
                };
                let path = [to.1, &rest].concat();
                names.change(to.0, &path, |name| name.there = true, new);
            }
        }
    }
}

/// What a snapshot asks.
impl Touched {
    /// The chunks of a file that is open for reading.
    pub(in crate::wasi) fn list(&self, file: &File, stat: &Stat) -> io::Result<Arc<List>> {
        self.writes.list(file, stat)
    }

    /// Every name under a grant that is there as far as is known, and whether all that is in it counts.
    pub(in crate::wasi) fn there(&self, grant: u32) -> Vec<(Vec<u8>, bool)> {
        let names = self.names();
        let of_grant = names.all.range((grant, Vec::new())..(grant + 1, Vec::new()));
        of_grant
            .filter(|(_, name)| name.there)
            .map(|((_, path), name)| (path.clone(), name.whole))
            .collect()
    }

    /// Every name that may be elsewhere and isn't there any more, by grant and path.
    pub(in crate::wasi) fn gone(&self) -> Vec<(u32, String)> {
        let names = self.names();
        let gone = names.all.iter().filter(|(_, name)| !name.there && name.elsewhere);
        gone.filter_map(|((grant, path), _)| Some((*grant, String::from_utf8(path.clone()).ok()?)))
            .collect()
    }

    /// The grant of which more names were touched than can be carried.
    pub(in crate::wasi) fn too_many(&self) -> Option<u32> {
        self.names().too_many
    }

    /// A snapshot brings these files elsewhere.
    pub(in crate::wasi) fn brought(&self, files: &Files) {
        self.writes.next_round();
        let mut names = self.names();
        for node in files.nodes.iter().filter(|n| self.by_name(n.grant)) {
            if let Some(name) = names.all.get_mut(&(node.grant, node.path.clone().into_bytes())) {
                name.elsewhere = true;
            }
        }
    }

    /// A file was put in its place with these chunks.
    pub(in crate::wasi) fn know(&mut self, stat: &Stat, list: List) {
        self.writes.know(stat, list);
    }

    /// The program goes on from a snapshot with these files.
    pub(in crate::wasi) fn restored(&self, files: &Files) {
        let mut names = self.names();
        let name = |there| Name {
            there,
            elsewhere: true,
            ..Name::default()
        };
        let nodes = files.nodes.iter().map(|n| (n.grant, &n.path, true));
        let removed = files.removed.iter().map(|(grant, path)| (*grant, path, false));
        for (grant, path, there) in nodes.chain(removed).filter(|n| self.by_name(n.0)) {
            names.all.insert((grant, path.clone().into_bytes()), name(there));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touched() -> Touched {
        Touched::new(
            [
                GrantMode::Carry,
                GrantMode::Shared,
                GrantMode::CarryAll,
                GrantMode::Carry,
            ]
            .into_iter(),
        )
    }

    fn there(t: &Touched, grant: u32) -> Vec<String> {
        let shown = |(path, whole): (Vec<u8>, bool)| String::from_utf8(path).unwrap() + if whole { "/*" } else { "" };
        t.there(grant).into_iter().map(shown).collect()
    }

    fn gone(t: &Touched) -> Vec<(u32, String)> {
        t.gone()
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing() {
        let mut t = touched();
        for n in 0..100 {
            let name = format!("tmp{n}");
            t.created(0, name.as_bytes());
            t.changed(0, name.as_bytes());
            t.removed(0, name.as_bytes());
        }
        assert!(t.names().all.is_empty());
        // Others than these are not told apart by name.
        t.created(1, b"a");
        t.removed(2, b"a");
        assert!(t.names().all.is_empty() && t.wanted());
        assert!(!Touched::new([GrantMode::Shared].into_iter()).wanted());
    }

    #[test]
    fn what_may_be_elsewhere_is_removed_there() {
        let mut t = touched();
        t.changed(0, b"old");
        t.created(0, b"new");
        t.removed(0, b"never seen");
        assert_eq!(there(&t, 0), ["new", "old"]);
        t.removed(0, b"old");
        t.removed(0, b"new");
        let want = ["never seen", "old"].map(|p| (0, p.to_owned()));
        assert_eq!(gone(&t), want);
        // Made again, and gone again.
        t.created(0, b"old");
        assert_eq!((there(&t, 0), gone(&t).len()), (vec!["old".to_owned()], 1));
        t.removed(0, b"old");
        assert_eq!(gone(&t), want);
    }

    #[test]
    fn what_a_snapshot_has_brought_is_removed_too() {
        use dunlin_migrate::state::files::{Node, NodeKind};
        let mut t = touched();
        let node = |grant, path: &str| Node {
            grant,
            path: path.into(),
            kind: NodeKind::Directory,
            mode: 0,
            modified: 0,
        };
        let files = Files {
            nodes: vec![node(0, "d"), node(0, "d/f"), node(2, "all")],
            removed: vec![(0, "was".into())],
            ..Files::default()
        };
        t.created(0, b"d");
        t.brought(&files);
        t.removed(0, b"d");
        assert_eq!(gone(&t), [(0, "d".to_owned())]);
        let t = touched();
        t.restored(&files);
        assert_eq!(there(&t, 0), ["d", "d/f"]);
        assert_eq!((gone(&t), there(&t, 2)), (vec![(0, "was".to_owned())], vec![]));
    }

    #[test]
    fn renaming_moves_names() {
        let mut t = touched();
        // As programs replace a file at once.
        t.created(0, b"f.tmp");
        t.renamed((0, b"f.tmp"), (0, b"f"));
        assert_eq!((there(&t, 0), gone(&t)), (vec!["f".to_owned()], vec![]));
        t.removed(0, b"f");
        assert_eq!(gone(&t), [(0, "f".to_owned())], "it may have been there before");
        // A directory of the program's own, with what is in it; into another grant.
        let mut t = touched();
        t.created(0, b"d");
        t.created(0, b"d/a");
        t.changed(0, b"d/old");
        t.removed(0, b"d/x");
        t.created(0, b"da");
        t.renamed((0, b"d"), (3, b"e"));
        assert_eq!(there(&t, 0), ["da"]);
        assert_eq!(there(&t, 3), ["e", "e/a", "e/old"]);
        assert_eq!(gone(&t), ["d/old", "d/x"].map(|p| (0, p.to_owned())));
        // One that was there before: who knows what is in it?
        t.renamed((0, b"was"), (0, b"is"));
        assert_eq!(there(&t, 0), ["da", "is/*"]);
        t.renamed((0, b"is"), (1, b"shared"));
        assert_eq!(there(&t, 0), ["da"]);
        t.renamed((1, b"shared"), (0, b"back"));
        assert_eq!(there(&t, 0), ["back/*", "da"]);
    }

    #[test]
    fn the_oldest_removed_names_are_forgotten() {
        let mut t = touched();
        t.changed(0, b"there");
        for n in 0..100u32 {
            t.removed(0, format!("{n:03}").as_bytes());
        }
        t.names().forget(40);
        let left: Vec<String> = gone(&t).into_iter().map(|n| n.1).collect();
        assert_eq!(left, (80..100).map(|n| format!("{n:03}")).collect::<Vec<_>>());
        assert_eq!((there(&t, 0).len(), t.names().spare), (1, 20));
        t.names().forget(40);
        assert_eq!(gone(&t).len(), 20);
        for n in 0..3 * MOST_GONE as u32 {
            t.removed(3, &n.to_le_bytes());
        }
        assert!(t.names().all.len() <= 2 * MOST_GONE);
        assert!(
            t.names()
                .all
                .contains_key(&(3, (3 * MOST_GONE as u32 - 1).to_le_bytes().to_vec()))
        );
        t.names().forget(MOST_GONE);
        assert!(t.names().all.len() <= MOST_GONE + 1);
    }
}
