//! Putting carried files: all of them or none, and looking first changes nothing.

use crate::carry::{chmod, forged, made, node, tree};
use crate::guest::*;
use dunlin_migrate::state::files::{ContentHash, GrantMode, NodeKind};
use dunlin_migrate::state::wasi::{Descriptor, Resource, WasiState};
use dunlin_runtime::wasi::{Plan, RestoreError, RestoreProblem, Wasi};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};
use tempfile::{TempDir, tempdir};

/// A directory's tree and its own time.
fn all(dir: &Path) -> impl PartialEq + std::fmt::Debug + use<> {
    let meta = fs::metadata(dir).unwrap();
    (tree(dir), meta.mtime(), meta.mtime_nsec())
}

fn problems(dir: &Path, (state, stored): &(WasiState, Stored)) -> Vec<RestoreProblem> {
    Wasi::restore_problems(state, &carrying(dir, GrantMode::CarryAll), stored)
}

fn restore(dir: &Path, (state, stored): &(WasiState, Stored)) -> Result<Wasi, Vec<RestoreProblem>> {
    Wasi::restore_with(state, &carrying(dir, GrantMode::CarryAll), stored).map_err(|e| e.0)
}

/// A program that carries `made`, with a file open and one that is deleted, and the state of it.
fn program(here: &TempDir) -> (WasiState, Stored) {
    let mut g = Guest::with(&carrying(here.path(), GrantMode::CarryAll));
    g.open(ROOT, "a/b/f", 0, READ, 0).unwrap();
    let gone = g.open(ROOT, "gone", CREAT, READ | WRITE, 0).unwrap();
    g.write(gone, b"deleted").unwrap();
    g.path_call("path_unlink_file", ROOT, "gone");
    let state = g.state();
    let stored = g.stored(&state);
    (state, stored)
}

#[test]
fn looking_changes_nothing() {
    let (here, other) = (made(), made());
    let snapshot = program(&here);
    fs::write(other.path().join("a/same"), "is different").unwrap();
    fs::remove_file(other.path().join("a/link")).unwrap();
    fs::write(other.path().join("stranger"), "mine").unwrap();
    let mut removed = snapshot.clone();
    removed.0.files.removed = vec![(0, "stranger".into())];
    for (dir, snapshot) in [
        (&tempdir().unwrap(), &snapshot),
        (&other, &removed),
        (&here, &snapshot),
        (&made(), &snapshot),
    ] {
        let before = all(dir.path());
        let found = problems(dir.path(), snapshot);
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(all(dir.path()), before);
    }
    restore(other.path(), &removed).unwrap();
    assert!(!other.path().join("stranger").exists());
}

#[test]
fn looking_finds_everything() {
    let (here, there) = (made(), tempdir().unwrap());
    let (state, mut stored) = program(&here);
    // Two contents can't be had, one of them of the deleted file; and an open file that isn't brought isn't there.
    stored.0.insert(ContentHash::of(b"0123456789"), b"9876543210".to_vec());
    stored.0.remove(&ContentHash::of(b"deleted"));
    let mut bad = state.clone();
    bad.descriptors.push(Descriptor {
        fd: 9,
        rights: READ,
        inheriting: 0,
        flags: 0,
        resource: Resource::File {
            grant: 0,
            path: "nowhere".into(),
            offset: 0,
            size: 0,
        },
    });
    let found = problems(there.path(), &(bad, stored));
    assert!(
        matches!(
            &found[..],
            [
                RestoreProblem::Open { .. },
                RestoreProblem::Contents(_),
                RestoreProblem::Contents(_)
            ]
        ),
        "{found:?}"
    );
    assert_eq!(fs::read_dir(there.path()).unwrap().count(), 0);
}

/// Makes a directory in which most of `made` has to be written; "other name", which comes last, in the place of an
/// empty directory.
fn stubborn() -> TempDir {
    let dir = made();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("a/same"), "another").unwrap();
    fs::write(at("large"), "small").unwrap();
    fs::remove_file(at("a/link")).unwrap();
    symlink("elsewhere", at("a/link")).unwrap();
    fs::remove_file(at("a/dangling")).unwrap();
    fs::create_dir(at("a/dangling")).unwrap();
    chmod(&at("a/dangling"), 0o711);
    fs::remove_dir(at("empty")).unwrap();
    fs::write(at("empty"), "a file").unwrap();
    fs::remove_file(at("none")).unwrap();
    // "other name" comes last.
    fs::remove_file(at("other name")).unwrap();
    fs::create_dir(at("other name")).unwrap();
    fs::create_dir_all(at("removed/empty")).unwrap();
    fs::write(at("removed/file"), "removed").unwrap();
    symlink("file", at("removed/link")).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_nanos(987_654_321_987_654_321);
    for name in [
        "a/same",
        "a/dangling",
        "removed/empty",
        "removed/file",
        "removed",
        "a/b",
        "a",
        "",
    ] {
        fs::File::open(at(name)).unwrap().set_modified(old).unwrap();
    }
    dir
}

#[test]
fn what_fails_half_way_leaves_all_as_it_was() {
    let (here, there) = (made(), stubborn());
    let (mut state, stored) = program(&here);
    let removed = ["removed/empty", "removed/file", "removed/link"];
    state.files.removed = removed.map(|n| (0, n.to_owned())).to_vec();
    let config = carrying(there.path(), GrantMode::CarryAll);
    let plan = Plan::new(&state, &config).unwrap();
    assert!(plan.findings().is_empty(), "{:?}", plan.findings());
    // Someone puts something there meanwhile: only the last step notices.
    fs::create_dir(there.path().join("other name/full")).unwrap();
    let before = all(there.path());
    let RestoreError(found) = plan.commit(&stored).unwrap_err();
    let full = |found: &[RestoreProblem]| {
        assert!(
            matches!(found, [RestoreProblem::Put { path, .. }] if path == "other name"),
            "{found:?}"
        );
    };
    full(&found);
    assert_eq!(all(there.path()), before);
    // If it is there before, nothing is begun.
    full(&problems(there.path(), &(state.clone(), stored.clone())));
    full(&restore(there.path(), &(state.clone(), stored.clone())).unwrap_err());
    assert_eq!(all(there.path()), before);
    // What the program has removed is in nobody's way.
    state.files.removed.insert(0, (0, "other name/full".into()));
    restore(there.path(), &(state, stored)).unwrap();
    let mut now = tree(there.path());
    now.retain(|n| n.0 != "removed");
    assert_eq!(now, tree(here.path()));
}

#[test]
fn a_descriptor_that_fails_at_the_end_undoes_the_files() {
    let (here, there) = (made(), stubborn());
    let (state, stored) = program(&here);
    let config = carrying(there.path(), GrantMode::CarryAll);
    let plan = Plan::new(&state, &config).unwrap();
    assert!(plan.findings().is_empty(), "{:?}", plan.findings());
    // It is open, and was as it should be.
    fs::remove_file(there.path().join("a/b/f")).unwrap();
    symlink("elsewhere", there.path().join("a/b/f")).unwrap();
    let before = all(there.path());
    let RestoreError(found) = plan.commit(&stored).unwrap_err();
    assert!(
        matches!(&found[..], [RestoreProblem::Kind { path, .. }] if path == "a/b/f"),
        "{found:?}"
    );
    assert_eq!(all(there.path()), before);
}

/// What is in the way is what the plan says, whether it is asked for or goes on is tried.
#[test]
fn a_refusal_is_what_looking_finds() {
    let here = made();
    let snapshot = program(&here);
    let file = |path: &str, fd| Descriptor {
        fd,
        rights: READ,
        inheriting: 0,
        flags: 0,
        resource: Resource::File {
            grant: 0,
            path: path.into(),
            offset: 0,
            size: 0,
        },
    };
    type Change = fn(&Path, &mut WasiState);
    let changes: [(Change, &[&str]); 4] = [
        // A carried directory was open as a file; a number occurs twice; a right that no file has.
        (|_, _| {}, &["'a'", "descriptor 22", "descriptor 21"]),
        (|dir, _| chmod(&dir.join("a/b/f"), 0o200), &["'a'"]),
        (
            |dir, state| {
                fs::remove_file(dir.join("large")).unwrap();
                fs::create_dir_all(dir.join("large/full")).unwrap();
                state.files.removed = vec![(0, "large/other".into())];
            },
            &["'a'", "'large'"],
        ),
        (
            |dir, state| {
                fs::remove_file(dir.join("a/same")).unwrap();
                fs::create_dir_all(dir.join("a/same/x/y")).unwrap();
                state.args.clear();
            },
            &["'a'", "'a/same'"],
        ),
    ];
    for (nth, (change, named)) in changes.into_iter().enumerate() {
        let there = made();
        let mut snapshot = snapshot.clone();
        change(there.path(), &mut snapshot.0);
        snapshot.0.descriptors.extend(
            ["a", "large", "large", "large"]
                .iter()
                .zip([20, 22, 22, 21])
                .map(|(p, fd)| file(p, fd)),
        );
        snapshot.0.descriptors.last_mut().unwrap().rights = u64::MAX;
        let before = all(there.path());
        let text = |found: Vec<RestoreProblem>| found.iter().map(RestoreProblem::to_string).collect::<Vec<_>>();
        let found = text(problems(there.path(), &snapshot));
        let refused = text(restore(there.path(), &snapshot).unwrap_err());
        assert_eq!(found, refused, "{nth}");
        for name in named {
            assert!(found.iter().any(|f| f.contains(name)), "{nth}: {name}: {found:?}");
        }
        assert_eq!(all(there.path()), before);
    }
}

/// Files that have gone back with the program are as the snapshot says; what differs is others', however late it comes.
#[test]
fn what_others_put_there_meanwhile_is_not_replaced() {
    let there = tempdir().unwrap();
    let (state, stored) = forged(vec![node("f", NodeKind::File { content: 0 })]);
    let mut config = carrying(there.path(), GrantMode::CarryAll);
    (config.back, config.accept_changed) = (true, true);
    let at = |name: &str| there.path().join(name);
    let others = |found: &[RestoreProblem]| {
        assert!(
            matches!(found, [RestoreProblem::Others { path, .. }] if path == "f"),
            "{found:?}"
        );
    };
    let plan = Plan::new(&state, &config).unwrap();
    fs::write(at("f"), "others'").unwrap();
    let before = all(there.path());
    others(&plan.commit(&stored).unwrap_err().0);
    assert_eq!(all(there.path()), before);
    config.accept_changed = false;
    others(Plan::new(&state, &config).unwrap().findings());
    config.accept_changed = true;
    Plan::new(&state, &config).unwrap().commit(&stored).unwrap();
    assert_eq!(fs::read_to_string(at("f")).unwrap(), "text");
    assert_eq!(fs::read_to_string(at("f.aside-1")).unwrap(), "others'");
}

#[test]
fn too_little_room_is_said_before_anything_is_written() {
    let there = tempdir().unwrap();
    let (mut state, stored) = forged(vec![node("f", NodeKind::File { content: 0 })]);
    state.files.chunks[0].len = 15 << 40;
    state.files.contents[0].len = 15 << 40;
    let before = all(there.path());
    for found in [
        problems(there.path(), &(state.clone(), stored.clone())),
        restore(there.path(), &(state, stored)).unwrap_err(),
    ] {
        assert!(
            matches!(&found[0], RestoreProblem::Room { need, .. } if *need == 15 << 40),
            "{found:?}"
        );
    }
    assert_eq!(all(there.path()), before);
}

#[test]
fn what_a_killed_restore_left_is_cleared() {
    use rustix::fs::{FlockOperation, flock};
    let there = tempdir().unwrap();
    let at = |name: &str| there.path().join(name);
    for name in [".dunlin-restore-1-0", ".dunlin-restore-2-0", ".dunlin-restore-mine"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("0"), "left").unwrap();
    }
    let in_use = fs::File::open(at(".dunlin-restore-2-0")).unwrap();
    flock(&in_use, FlockOperation::LockExclusive).unwrap();
    let snapshot = forged(vec![node("f", NodeKind::File { content: 0 })]);
    let before = all(there.path());
    assert!(problems(there.path(), &snapshot).is_empty());
    assert_eq!(all(there.path()), before, "looking clears nothing");
    restore(there.path(), &snapshot).unwrap();
    let left: Vec<String> = tree(there.path())
        .into_iter()
        .map(|n| n.0)
        .filter(|n| !n.contains('/'))
        .collect();
    assert_eq!(left, [".dunlin-restore-2-0", ".dunlin-restore-mine", "f"]);
}

#[test]
fn a_question_is_not_remembered() {
    let here = made();
    let mut g = Guest::with(&carrying(here.path(), GrantMode::CarryAll));
    let (state, obstacles) = g.wasi.examine();
    assert!(obstacles.is_empty() && !state.files.nodes.is_empty());
    g.path_call("path_unlink_file", ROOT, "none");
    // No snapshot has ever brought it anywhere: where there is such a file, it is another's.
    assert_eq!(g.state().files.removed, []);
    g.path_call("path_unlink_file", ROOT, "large");
    assert_eq!(g.state().files.removed, [(0, "large".to_owned())]);
}
