//! What of Dunlin's lies among the program's files, and the program never sees.

use super::{begin, places, populate, rollback};
use crate::guest::*;
use dunlin_migrate::state::files::GrantMode;
use dunlin_migrate::state::wasi::Resource;
use dunlin_runtime::moving::rollback::From;
use std::fs;
use tempfile::tempdir;

#[test]
fn the_program_sees_no_names_of_the_journals() {
    let (data, saves) = places(false);
    populate(data.path());
    let mut g = begin(&rollback(saves.path(), false), data.path());
    let fd = g.open(ROOT, "d/a", 0, READ, 0).unwrap();
    let links = |g: &mut Guest| {
        assert_eq!(g.call("fd_filestat_get", &[fd, OUT.into()]), 0);
        g.u64(OUT + 24)
    };
    assert_eq!(links(&mut g), 2);
    assert_eq!(g.path_call("path_unlink_file", ROOT, "d/a"), 0);
    assert_eq!(links(&mut g), 1);
    assert_eq!(g.path_call("path_unlink_file", ROOT, "c/b"), 0);
    assert_eq!(links(&mut g), 0);
    assert_eq!(
        g.state().files.unlinked.len(),
        1,
        "a file that has no name travels as one"
    );
    assert_eq!(g.read(fd, 9), Ok(b"text".to_vec()));
}

#[test]
fn snapshots_in_a_granted_directory_are_hidden() {
    let data = tempdir().unwrap();
    let data = data.path();
    populate(data);
    let saves = data.join("d/saves");
    fs::create_dir(&saves).unwrap();
    fs::write(saves.join("0000000001.snap"), "x").unwrap();
    fs::create_dir_all(data.join(".dunlin-restore-1-0")).unwrap();
    fs::write(data.join(".dunlin-notes"), "a person's").unwrap();
    std::os::unix::fs::symlink("d/saves", data.join("link")).unwrap();
    for mode in [GrantMode::Shared, GrantMode::CarryAll] {
        let mut config = carrying(data, mode);
        config.snapshots = Some((saves.clone(), true));
        let mut g = Guest::with(&config);
        let d = g.open(ROOT, "d", DIRECTORY, 0, 0).unwrap();
        assert!(!g.names(d, 4096, 0).contains(&"saves".to_owned()));
        let names = g.names(ROOT, 4096, 0);
        assert!(
            !names.iter().any(|n| n.contains("restore")) && names.contains(&".dunlin-notes".to_owned()),
            "{names:?}"
        );
        let there = [
            "d/saves",
            "d/saves/0000000001.snap",
            "d/../d/saves",
            "link/0000000001.snap",
            "d/saves/",
        ];
        for path in there {
            assert_eq!(g.open(ROOT, path, 0, READ, 0), Err(NOENT), "{path}");
            assert_eq!(g.stat(ROOT, true, path).unwrap_err(), NOENT, "{path}");
            assert_eq!(g.path_call("path_unlink_file", ROOT, path), NOENT, "{path}");
            assert!(g.open(ROOT, path, CREAT, READ | WRITE, 0).is_err(), "{path}");
        }
        assert_eq!(g.open(d, "saves", DIRECTORY, 0, 0), Err(NOENT));
        assert_eq!(g.stat(ROOT, true, "link").unwrap_err(), NOENT);
        assert_eq!(g.path_call("path_create_directory", ROOT, "d/saves/x"), ACCES);
        let rename = |g: &mut Guest, from: &str, to: &str| {
            let ([a, b], [c, d]) = (g.string(PATH, from), g.string(PATH2, to));
            g.call("path_rename", &[ROOT, a, b, ROOT, c, d])
        };
        assert_eq!(rename(&mut g, "d/saves", "y"), NOENT);
        assert_eq!(rename(&mut g, "a", "d/saves/a"), ACCES);
        assert_eq!(rename(&mut g, "d", "e"), BUSY);
        let carried = g.state().files.nodes;
        assert!(
            !carried
                .iter()
                .any(|n| n.path.contains("saves") || n.path.contains("restore")),
            "{carried:?}"
        );
        assert!(saves.join("0000000001.snap").exists());
        assert_eq!(
            data.join(".dunlin-restore-1-0").exists(),
            mode == GrantMode::Shared,
            "what was left is removed"
        );
    }
    for (granted, to) in [(data.to_owned(), data.to_owned()), (saves.clone(), data.join("d"))] {
        let mut config = config(&[(&granted, "/")]);
        config.snapshots = Some((to, true));
        let error = dunlin_runtime::wasi::Wasi::new(&config).unwrap_err().to_string();
        assert!(error.contains("choose a directory of its own"), "{error}");
    }
}

/// A file that has lost the name it was opened by is found by another one, and not by those that a journal has for it.
#[test]
fn a_file_is_found_by_names_of_the_programs_only() {
    for (saves, name) in [("zz", "d/b"), ("aa", "d/b"), ("d/zz", "c/b")] {
        let data = tempdir().unwrap();
        let data = data.path();
        for dir in ["c", "d", saves] {
            fs::create_dir_all(data.join(dir)).unwrap();
        }
        fs::write(data.join("a"), "text").unwrap();
        fs::hard_link(data.join("a"), data.join(name)).unwrap();
        let mut config = config(&[(data, "/")]);
        config.snapshots = Some((data.join(saves), true));
        let way = rollback(&data.join(saves), false);
        let (lineage, ..) = way.go_back(From::Beginning, &config).unwrap();
        let mut g = Guest::with(&config);
        way.record(lineage, &mut g.wasi).map_err(|e| e.message).unwrap();
        let fd = g.open(ROOT, "a", 0, READ | WRITE, 0).unwrap();
        assert_eq!(g.path_call("path_unlink_file", ROOT, "a"), 0);
        assert!(data.join(saves).join("0000000000.keep/0").exists());
        // By a snapshot.
        let files = |resource: &Resource| match resource {
            Resource::File { path, .. } => Some(path.clone()),
            _ => None,
        };
        let open: Vec<String> = g
            .state()
            .descriptors
            .iter()
            .filter_map(|d| files(&d.resource))
            .collect();
        assert_eq!(open, [name], "snapshots in {saves}");
        // And by the journal: it goes back by a name that stays when nobody goes back so far any more.
        let journal = g.wasi.journal().unwrap();
        journal.next(1).unwrap();
        journal.next(2).unwrap();
        g.write(fd, b"TEXT").unwrap();
        let journal = g.wasi.journal().unwrap();
        journal.next(3).unwrap();
        journal.prune(2).unwrap();
        drop(g);
        let (_, told, _) = way.go_back(From::Own(2), &config).unwrap();
        assert!(told.is_empty(), "{told:?}");
        assert_eq!(
            fs::read_to_string(data.join(name)).unwrap(),
            "text",
            "snapshots in {saves}"
        );
    }
}
