//! A directory with all that must come back: names, kinds, contents, permissions, links, and times that a program has
//! set.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Times before this (2017, in seconds since 1970) were set by a program, and are exact; later ones are the clock's.
const SET: i64 = 1_500_000_000;

/// What a name in a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Bytes of a file; 0 of anything else.
    pub size: u64,
    /// Hash of a file's bytes, or of where a link leads.
    pub contents: u64,
    /// The first of the names that the same file has.
    pub same_as: Option<String>,
    /// Time of modification, in seconds and nanoseconds, if a program has set it.
    pub modified: Option<(i64, i64)>,
}

/// Every name below a directory.
#[track_caller]
pub fn look(dir: &Path) -> BTreeMap<String, Entry> {
    look_before(dir, SET)
}

/// As [`look`], with all times of modification: for a directory that nobody may have changed since.
#[track_caller]
pub fn look_closely(dir: &Path) -> BTreeMap<String, Entry> {
    let mut all = look_before(dir, i64::MAX);
    let top = fs::metadata(dir).expect("it is there");
    all.insert(String::new(), describe(&top, 0, i64::MAX));
    all
}

fn describe(meta: &Metadata, contents: u64, before: i64) -> Entry {
    Entry {
        mode: meta.mode(),
        size: if meta.is_file() { meta.size() } else { 0 },
        contents,
        same_as: None,
        modified: (meta.mtime() < before).then(|| (meta.mtime(), meta.mtime_nsec())),
    }
}

fn look_before(dir: &Path, before: i64) -> BTreeMap<String, Entry> {
    let mut all = BTreeMap::new();
    walk(dir, "", before, &mut all);
    // Names elsewhere don't count: an undo journal may have some.
    let mut names: HashMap<(u64, u64), u32> = HashMap::new();
    for id in all.values().filter_map(|(_, id)| *id) {
        *names.entry(id).or_default() += 1;
    }
    let mut first: HashMap<(u64, u64), String> = HashMap::new();
    let mut out = BTreeMap::new();
    for (name, (mut entry, id)) in all {
        if let Some(id) = id.filter(|id| names[id] > 1) {
            entry.same_as = Some(first.entry(id).or_insert_with(|| name.clone()).clone());
        }
        out.insert(name, entry);
    }
    out
}

type Found = (Entry, Option<(u64, u64)>);

fn walk(dir: &Path, prefix: &str, before: i64, all: &mut BTreeMap<String, Found>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("cannot read {}: {e}", dir.display())) {
        let path = entry.expect("a directory entry").path();
        let name = format!("{prefix}{}", path.file_name().expect("it has a name").to_string_lossy());
        let meta = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("cannot look at {}: {e}", path.display()));
        let mut hasher = DefaultHasher::new();
        if meta.is_dir() {
            walk(&path, &format!("{name}/"), before, all);
        } else if meta.is_symlink() {
            fs::read_link(&path).expect("a link can be read").hash(&mut hasher);
        } else if meta.is_file() {
            let mut file = File::open(&path).unwrap_or_else(|e| panic!("cannot open {}: {e}", path.display()));
            let mut buffer = vec![0; 1 << 16];
            loop {
                let n = file.read(&mut buffer).expect("a file can be read");
                if n == 0 {
                    break;
                }
                hasher.write(&buffer[..n]);
            }
        }
        let found = describe(&meta, hasher.finish(), before);
        let id = meta.is_file().then(|| (meta.dev(), meta.ino()));
        all.insert(name, (found, id));
    }
}

/// What differs, in words, at most ten lines; empty if nothing does.
pub fn compare(want: &BTreeMap<String, Entry>, have: &BTreeMap<String, Entry>) -> Vec<String> {
    let mut out = Vec::new();
    for (name, w) in want {
        match have.get(name) {
            None => out.push(format!("{name} is missing")),
            Some(h) if h != w => out.push(format!("{name} differs: {}", difference(w, h))),
            Some(_) => {}
        }
    }
    out.extend(
        have.keys()
            .filter(|name| !want.contains_key(*name))
            .map(|name| format!("{name} should not be there")),
    );
    let more = out.len().saturating_sub(10);
    out.truncate(10);
    if more > 0 {
        out.push(format!("and {more} more"));
    }
    out
}

fn difference(want: &Entry, have: &Entry) -> String {
    let mut what = Vec::new();
    if want.mode != have.mode {
        what.push(format!("mode {:o} instead of {:o}", have.mode, want.mode));
    }
    if want.size != have.size {
        what.push(format!("{} bytes instead of {}", have.size, want.size));
    }
    if want.contents != have.contents {
        what.push("other contents".to_owned());
    }
    if want.same_as != have.same_as {
        what.push(format!(
            "the same file as {:?} instead of {:?}",
            have.same_as, want.same_as
        ));
    }
    if want.modified != have.modified {
        what.push(format!(
            "modified at {:?} instead of {:?}",
            have.modified, want.modified
        ));
    }
    what.join(", ")
}

/// Names that Dunlin has left below a directory: working files, and anything in `saves` but the lock.
pub fn litter(below: &Path, saves: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut names = BTreeMap::new();
    walk(below, "", SET, &mut names);
    found.extend(
        names
            .into_keys()
            .filter(|name| name.split('/').any(|part| part.starts_with(".dunlin-"))),
    );
    if let Ok(entries) = fs::read_dir(saves) {
        let names = entries.map(|e| e.expect("a directory entry").file_name().to_string_lossy().into_owned());
        found.extend(names.filter(|n| n != ".lock").map(|n| format!("saves/{n}")));
    }
    found
}

/// Puts into an empty directory what a program may find there: files with various permissions, times in the past and
/// two names, directories, links.
pub fn furnish(dir: &Path) {
    let write = |name: &str, len: usize, mode: u32| {
        let path = dir.join(name);
        let bytes: Vec<u8> = (0..len).map(|n| (n * 31 + n / 251 + len) as u8).collect();
        fs::write(&path, bytes).expect("scratch space is writable");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("permissions can be set");
    };
    fs::create_dir_all(dir.join("old/deep/er")).expect("scratch space is writable");
    fs::create_dir(dir.join("private")).expect("scratch space is writable");
    fs::set_permissions(dir.join("private"), Permissions::from_mode(0o750)).expect("permissions can be set");
    let files = [
        ("old/plain", 5000, 0o644),
        ("old/tool", 70_001, 0o755),
        ("old/deep/group", 1, 0o660),
        ("old/deep/er/empty", 0, 0o600),
        ("old/deep/er/page", 4096, 0o604),
        ("private/mine", 12_345, 0o600),
        ("private/twice", 9000, 0o640),
        ("settings", 300, 0o644),
    ];
    for (name, len, mode) in files {
        write(name, len, mode);
    }
    fs::hard_link(dir.join("private/twice"), dir.join("old/twice")).expect("a second name");
    symlink("deep/er", dir.join("old/shortcut")).expect("a link");
    symlink("old/plain", dir.join("alias")).expect("a link");
    for (nth, (name, ..)) in files.iter().enumerate() {
        let then = SystemTime::UNIX_EPOCH + Duration::new(900_000_000 + nth as u64, 123_456_789);
        let file = File::open(dir.join(name)).expect("it is there");
        file.set_modified(then).expect("times can be set");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::scratch;

    #[test]
    fn every_change_is_noticed() {
        let changes: [fn(&Path); 9] = [
            |d| fs::write(d.join("old/plain"), "other").expect("a write"),
            |d| {
                let file = File::options()
                    .write(true)
                    .open(d.join("old/tool"))
                    .expect("it is there");
                let then = file.metadata().and_then(|m| m.modified()).expect("a time");
                std::os::unix::fs::FileExt::write_all_at(&file, b"X", 70_000).expect("a write");
                file.set_modified(then).expect("times can be set");
            },
            |d| fs::set_permissions(d.join("settings"), Permissions::from_mode(0o600)).expect("permissions can be set"),
            |d| fs::remove_file(d.join("old/twice")).expect("it is there"),
            |d| {
                let bytes = fs::read(d.join("old/twice")).expect("it is there");
                let then = fs::metadata(d.join("old/twice"))
                    .and_then(|m| m.modified())
                    .expect("a time");
                fs::remove_file(d.join("old/twice")).expect("it is there");
                fs::write(d.join("old/twice"), bytes).expect("a write");
                fs::set_permissions(d.join("old/twice"), Permissions::from_mode(0o640))
                    .expect("permissions can be set");
                let file = File::open(d.join("old/twice")).expect("it is there");
                file.set_modified(then).expect("times can be set");
            },
            |d| {
                fs::remove_file(d.join("alias")).expect("it is there");
                symlink("old/tool", d.join("alias")).expect("a link");
            },
            |d| fs::create_dir(d.join("old/deep/er/more")).expect("a directory"),
            |d| fs::rename(d.join("private"), d.join("public")).expect("a rename"),
            |d| {
                let file = File::open(d.join("old/plain")).expect("it is there");
                let then = SystemTime::UNIX_EPOCH + Duration::new(900_000_000, 123_456_788);
                file.set_modified(then).expect("times can be set");
            },
        ];
        let (one, two) = (scratch(), scratch());
        furnish(one.path());
        furnish(two.path());
        assert_eq!(compare(&look(one.path()), &look(two.path())), Vec::<String>::new());
        for (nth, change) in changes.into_iter().enumerate() {
            let two = scratch();
            furnish(two.path());
            change(two.path());
            assert_ne!(
                compare(&look(one.path()), &look(two.path())),
                Vec::<String>::new(),
                "change {nth}"
            );
        }
    }
}
