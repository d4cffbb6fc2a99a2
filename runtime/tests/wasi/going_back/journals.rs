//! Which journals and directories lead back, and what of them must be there.

use super::{begin, changed, places, populate, rollback, same, tree};
use crate::guest::*;
use dunlin_format::module::ModuleHash;
use dunlin_migrate::state::files::GrantMode;
use dunlin_runtime::moving::rollback::{From, Rollback};
use dunlin_runtime::wasi::{RestoreProblem, Wasi};
use std::fs;
use std::os::unix::fs::MetadataExt;
use tempfile::tempdir;

/// A file that lost its only name before the oldest snapshot is the snapshot's business: what was kept of it is gone,
/// and nothing hinders.
#[test]
fn what_was_kept_may_be_gone_with_its_journal() {
    let (data, saves) = places(false);
    let (data, saves) = (data.path(), saves.path());
    populate(data);
    let way = rollback(saves, false);
    let mut g = begin(&way, data);
    let files: Vec<u64> = ["b", "c/a"]
        .map(|p| g.open(ROOT, p, 0, READ | WRITE, 0).unwrap())
        .to_vec();
    g.wasi.journal().unwrap().next(1).unwrap();
    for name in ["b", "c/a", "d/b"] {
        assert_eq!(g.path_call("path_unlink_file", ROOT, name), 0);
    }
    g.wasi.journal().unwrap().next(2).unwrap();
    let was = tree(data);
    for &fd in &files {
        assert_eq!(g.call("fd_filestat_set_size", &[fd, 100]), 0);
        g.write(fd, b"more").unwrap();
    }
    let journal = g.wasi.journal().unwrap();
    journal.next(3).unwrap();
    journal.prune(2).unwrap();
    drop(g);
    let (_, told, _) = way.go_back(From::Own(2), &config(&[(data, "/")])).unwrap();
    assert!(told.is_empty(), "{told:?}");
    same(&was, &tree(data), "gone back");
}

/// Permissions are others' business: a program can't change them.
#[test]
fn permissions_of_directories_stay() {
    use std::os::unix::fs::PermissionsExt;
    let (data, _saves, way, _) = changed();
    fs::set_permissions(data.path().join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    way.go_back(From::Own(1), &config(&[(data.path(), "/")])).unwrap();
    assert_eq!(fs::metadata(data.path().join("d")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn what_was_kept_must_be_there() {
    let (data, saves, way, _) = changed();
    fs::remove_dir_all(saves.path().join("0000000001.keep")).unwrap();
    let mut config = config(&[(data.path(), "/")]);
    let error = way.go_back(From::Own(1), &config).unwrap_err().to_string();
    assert!(error.contains("'d/b' in the directory '/' was kept"), "{error}");
    config.accept_changed = true;
    let (_, told, _) = way.go_back(From::Own(1), &config).unwrap();
    assert!(told.iter().any(|t| t.contains("'d/b' was kept")), "{told:?}");
}

/// On another machine a snapshot brings the carried files, and what lies there is not what journals tell of.
#[test]
fn carried_files_elsewhere_are_not_compared() {
    let (_data, _saves, way, _) = changed();
    let other = tempdir().unwrap();
    let (_, told, _) = way
        .go_back(From::Own(1), &carrying(other.path(), GrantMode::Carry))
        .unwrap();
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_directory_that_is_another_is_not_touched() {
    let (data, _saves, way, _) = changed();
    let copy = tempdir().unwrap();
    populate(copy.path());
    let before = tree(copy.path());
    let error = way.go_back(From::Own(1), &config(&[(copy.path(), "/")])).unwrap_err();
    assert!(
        error.exit_code() == 89 && error.to_string().contains("another directory"),
        "{error}"
    );
    let error = way.go_back(From::Own(1), &config(&[])).unwrap_err();
    assert!(error.to_string().contains("not granted"), "{error}");
    let other = Rollback {
        module: ModuleHash([6; 32]),
        ..way.clone()
    };
    let error = other.go_back(From::Own(1), &config(&[(data.path(), "/")])).unwrap_err();
    assert_eq!(error.exit_code(), 86, "{error}");
    let error = way.go_back(From::Own(7), &config(&[(data.path(), "/")])).unwrap_err();
    assert!(
        error.exit_code() == 89 && error.to_string().contains("--no-rollback"),
        "{error}"
    );
    same(&before, &tree(copy.path()), "untouched");
}

/// A granted directory that the program has removed since the snapshot is there again once its files have gone back:
/// that it can't be opened before is no reason to refuse. That it isn't granted is.
#[test]
fn a_granted_directory_that_going_back_brings_is_not_missed_before() {
    let (data, saves) = places(false);
    populate(data.path());
    let sub = data.path().join("sub");
    fs::create_dir(&sub).unwrap();
    let config = config(&[(data.path(), "/"), (&sub, "/sub")]);
    let way = rollback(saves.path(), false);
    let (lineage, ..) = way.go_back(From::Beginning, &config).unwrap();
    let mut g = Guest::with(&config);
    way.record(lineage, &mut g.wasi).map_err(|e| e.message).unwrap();
    g.wasi.journal().unwrap().next(1).unwrap();
    let state = g.state();
    assert_eq!(g.path_call("path_remove_directory", ROOT, "sub"), 0);
    drop(g);
    assert!(!sub.exists());
    let unopened = |found: &[RestoreProblem]| assert!(matches!(found, [RestoreProblem::Grant(_)]), "{found:?}");
    unopened(&Wasi::restore(&state, &config).unwrap_err().0);
    Wasi::check_grants(&state, &config).unwrap();
    way.go_back(From::Own(1), &config).unwrap();
    Wasi::restore(&state, &config).unwrap();
    // Without the option, no going back helps.
    let without = crate::guest::config(&[(data.path(), "/")]);
    let found = Wasi::check_grants(&state, &without).unwrap_err().0;
    assert!(
        matches!(&found[..], [RestoreProblem::MissingGrant(guest)] if guest == "/sub"),
        "{found:?}"
    );
}
