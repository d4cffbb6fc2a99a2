//! What others have changed since the program left its files: told, and kept.

use super::{Tree, changed, same, tree};
use crate::guest::*;
use dunlin_runtime::moving::rollback::{From, Rollback};
use dunlin_runtime::os::fork::fork;
use rustix::process::{Signal, kill_process};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What someone else does meanwhile, which name is said to have changed, and what is kept of it under which name.
type Meddling = (fn(&Path), &'static str, Option<(&'static str, &'static str)>);

const MEDDLING: [Meddling; 9] = [
    (|d| append(&d.join("a")), "a", None),
    (
        |d| append(&d.join("new")),
        "new",
        Some(("new.aside-1", "mine, toomore")),
    ),
    (
        |d| fs::write(d.join("d/b"), "other").unwrap(),
        "d/b",
        Some(("d/b.aside-1", "other")),
    ),
    (
        |d| {
            fs::write(d.join("x"), "other").unwrap();
            fs::rename(d.join("x"), d.join("new")).unwrap();
        },
        "new",
        Some(("new.aside-1", "other")),
    ),
    (
        |d| fs::write(d.join("made/in"), "other").unwrap(),
        "made/in",
        Some(("made.aside-1/in", "other")),
    ),
    (|d| fs::write(d.join("a"), "").unwrap(), "a", Some(("a.aside-1", ""))),
    // Through another name of a file that the program has removed.
    (
        |d| append(&d.join("d/keeps")),
        "d/gone",
        Some(("d/gone.aside-1", "textmore")),
    ),
    // A link that the program has made leads elsewhere.
    (
        |d| {
            fs::write(d.join("mine"), "other").unwrap();
            fs::remove_file(d.join("link")).unwrap();
            std::os::unix::fs::symlink("mine", d.join("link")).unwrap();
        },
        "link",
        Some(("link.aside-1", "other")),
    ),
    // A file has become a link; its number may be the same.
    (
        |d| {
            fs::copy(d.join("a"), d.join("d/copy")).unwrap();
            fs::remove_file(d.join("new")).unwrap();
            std::os::unix::fs::symlink("d/a", d.join("new")).unwrap();
        },
        "new",
        Some(("new.aside-1", "text")),
    ),
];

fn append(path: &Path) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(b"more").unwrap();
}

#[test]
fn what_others_have_changed_is_told_and_kept() {
    for (meddle, name, kept) in MEDDLING {
        let (data, _saves, way, was) = changed();
        let data = data.path();
        std::thread::sleep(Duration::from_millis(20));
        meddle(data);
        let before = tree(data);
        let mut config = config(&[(data, "/")]);
        let error = way.go_back(From::Own(1), &config).expect_err(name);
        assert_eq!(error.exit_code(), 89);
        assert!(
            error.to_string().contains(&format!("'{name}' in the directory '/'")),
            "{name}: {error}"
        );
        same(&before, &tree(data), "a refusal touches nothing");
        config.accept_changed = true;
        let (_, told, _) = way.go_back(From::Own(1), &config).unwrap();
        let part = name.trim_end_matches("/in");
        assert!(told.iter().any(|t| t.contains(part)), "{name}: {told:?}");
        if let Some((aside, contents)) = kept {
            let top = aside.trim_end_matches("/in");
            assert!(told.iter().any(|t| t.contains(top)), "{name}: {told:?}");
            assert_eq!(fs::read_to_string(data.join(aside)).unwrap(), contents);
        }
        let now = tree(data);
        assert_eq!(now.get("d/b"), was.get("d/b"));
        assert!(!now.contains_key("new"), "{name}");
    }
}

#[test]
fn what_was_removed_by_others_cant_come_back() {
    let (data, _saves, way, _) = changed();
    let data = data.path();
    fs::remove_file(data.join("a")).unwrap();
    let mut config = config(&[(data, "/")]);
    let error = way.go_back(From::Own(1), &config).unwrap_err();
    assert!(
        error.exit_code() == 89 && error.to_string().contains("removed by someone else"),
        "{error}"
    );
    config.accept_changed = true;
    let (_, told, _) = way.go_back(From::Own(1), &config).unwrap();
    assert!(
        told.iter().any(|t| t.contains("can't be brought back whole")),
        "{told:?}"
    );
}

/// What others do between an attempt that was killed and the next one is found, too.
#[test]
fn others_are_noticed_between_two_attempts() {
    let (data, saves, way, was) = changed();
    let data = data.path();
    // Its journal goes on: work that takes a while to undo.
    let back = |way: &Rollback| way.go_back(From::Own(1), &config(&[(data, "/")]));
    for attempt in 0.. {
        assert!(attempt < 50, "it was never killed while going back");
        let mut g = Guest::with(&config(&[(data, "/")]));
        let (lineage, ..) = back(&way).unwrap();
        way.record(lineage, &mut g.wasi).map_err(|e| e.message).unwrap();
        let fd = g.open(ROOT, "a", 0, READ | WRITE, 0).unwrap();
        g.write(fd, b"mine").unwrap();
        for n in 0..2000 {
            let fd = g
                .open(ROOT, format!("many{n}").as_str(), CREAT, READ | WRITE, 0)
                .unwrap();
            g.call("fd_close", &[fd]);
        }
        drop(g);
        let mut child = fork(false, || match back(&way) {
            Ok(_) => Vec::new(),
            Err(e) => e.to_string().into_bytes(),
        })
        .unwrap();
        // Not asleep: it may be over sooner than one wakes.
        let marker = saves.path().join("going-back");
        while !marker.exists() && data.join("many0").exists() {}
        let _ = kill_process(child.pid(), Signal::KILL);
        assert!(child.result().unwrap().is_empty());
        let _ = child.reap();
        if marker.exists() && data.join("many0").exists() {
            break;
        }
    }
    // So long after it, nothing can be its own any more.
    std::thread::sleep(Duration::from_millis(2100));
    append(&data.join("a"));
    fs::write(data.join("many0"), "other").unwrap();
    let before = tree(data);
    let mut config = config(&[(data, "/")]);
    let error = way.go_back(From::Own(1), &config).unwrap_err().to_string();
    assert!(
        error.contains("'a' in the directory") && error.contains("'many0' in the directory"),
        "{error}"
    );
    same(&before, &tree(data), "a refusal touches nothing");
    config.accept_changed = true;
    way.go_back(From::Own(1), &config).unwrap();
    assert_eq!(fs::read_to_string(data.join("many0.aside-1")).unwrap(), "other");
    assert!(fs::read(data.join("a.aside-1")).unwrap().ends_with(b"more"));
    fs::remove_file(data.join("many0.aside-1")).unwrap();
    fs::remove_file(data.join("a.aside-1")).unwrap();
    let strip = |mut t: Tree| {
        // Names that were set aside and removed by this test have changed the directory.
        t.values_mut().for_each(|v| v.2 = 0);
        t
    };
    same(&strip(was), &strip(tree(data)), "gone back");
}
