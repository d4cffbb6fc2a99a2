//! Files that travel inside the snapshot, and are put into another machine's directory.

use crate::guest::*;
use dunlin_interface::options::WasiConfig;
use dunlin_migrate::state::files::{Chunk, Content, ContentHash, Files, GrantMode, Node, NodeKind, Part};
use dunlin_migrate::state::wasi::WasiState;
use dunlin_runtime::wasi::{Obstacle, RestoreProblem, Wasi};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};
use tempfile::{TempDir, tempdir};

const BOTH: [GrantMode; 2] = [GrantMode::Carry, GrantMode::CarryAll];

/// Every path with its mode, time and contents (of links: targets).
pub(crate) fn tree(dir: &Path) -> Vec<(String, u32, i64, Vec<u8>)> {
    let mut all = Vec::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let (path, meta) = (entry.path(), entry.metadata().unwrap());
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            let (bytes, mode) = if meta.is_symlink() {
                (fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(), 0)
            } else if meta.is_dir() {
                pending.push(path);
                (vec![], meta.mode())
            } else {
                (fs::read(&path).unwrap(), meta.mode())
            };
            let time = if meta.is_symlink() {
                0
            } else {
                meta.mtime() * 1_000_000_000 + meta.mtime_nsec()
            };
            all.push((name, mode, time, bytes));
        }
    }
    all.sort();
    all
}

/// As [`tree`], without times: a directory notices what came and went.
fn names(dir: &Path) -> Vec<(String, u32, Vec<u8>)> {
    tree(dir)
        .into_iter()
        .map(|(name, mode, _, bytes)| (name, mode, bytes))
        .collect()
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A tree with something of everything.
pub(crate) fn made() -> TempDir {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("a/b")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::write(at("a/b/f"), "0123456789").unwrap();
    fs::write(at("a/same"), "0123456789").unwrap();
    fs::write(at("none"), "").unwrap();
    fs::write(at("large"), vec![7; 3_000_000]).unwrap();
    symlink("b/f", at("a/link")).unwrap();
    symlink("../nowhere", at("a/dangling")).unwrap();
    fs::hard_link(at("a/b/f"), at("other name")).unwrap();
    chmod(&at("a/b/f"), 0o640);
    chmod(&at("empty"), 0o700);
    let old = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123_456_789);
    for name in ["a/b/f", "none", "empty", "a/b", "a"] {
        fs::File::open(at(name)).unwrap().set_modified(old).unwrap();
    }
    dir
}

#[test]
fn a_whole_tree_travels() {
    let (here, there) = (made(), tempdir().unwrap());
    let before = tree(here.path());
    let g = Guest::with(&carrying(here.path(), GrantMode::CarryAll));
    let state = g.state();
    assert_eq!(state.files.contents.len(), 3, "equal contents are there once");
    let mut g = g.moved(&carrying(there.path(), GrantMode::CarryAll));
    assert_eq!(tree(there.path()), before);
    assert_eq!(tree(here.path()), before, "the old directory is as it was");
    let inode = |name: &str| fs::metadata(there.path().join(name)).unwrap().ino();
    assert_eq!(inode("a/b/f"), inode("other name"), "two names of one file");
    assert_eq!(g.wasi.warnings(), Vec::<String>::new());
    // It moves on from there, and what was removed meanwhile goes away when it comes back.
    assert_eq!(g.path_call("path_unlink_file", ROOT, "a/same"), 0);
    assert_eq!(g.path_call("path_remove_directory", ROOT, "empty"), 0);
    let f = g.open(ROOT, "a/new", CREAT, READ | WRITE, 0).unwrap();
    g.write(f, b"new").unwrap();
    let now = tree(there.path());
    let mut g = g.moved(&carrying(here.path(), GrantMode::CarryAll));
    assert_eq!(tree(here.path()), now);
    g.write(f, b"er").unwrap();
    assert_eq!(fs::read(here.path().join("a/new")).unwrap(), b"newer");
}

#[test]
fn what_is_removed_while_it_runs_on_is_known_too() {
    let (here, there) = (made(), tempdir().unwrap());
    let mut g = Guest::with(&carrying(here.path(), GrantMode::CarryAll));
    let first = g.state();
    let stored = g.stored(&first);
    let config = carrying(there.path(), GrantMode::CarryAll);
    drop(Wasi::restore_with(&first, &config, &stored).unwrap());
    assert!(there.path().join("none").exists());
    // The later snapshot takes the place of the earlier one, where that is already.
    assert_eq!(g.path_call("path_unlink_file", ROOT, "none"), 0);
    let g = g.moved(&config);
    assert!(!there.path().join("none").exists());
    drop(g);
}

#[test]
fn only_what_is_open_travels() {
    let (here, there) = (made(), tempdir().unwrap());
    let mut g = Guest::with(&carrying(here.path(), GrantMode::Carry));
    let f = g.open(ROOT, "a/b/f", 0, READ, 0).unwrap();
    assert_eq!(g.read(f, 3), Ok(b"012".to_vec()));
    let log = g.open(ROOT, "log", CREAT, WRITE, APPEND).unwrap();
    g.write(log, b"one\n").unwrap();
    let d = g.open(ROOT, "empty", DIRECTORY, 0, 0).unwrap();
    let twice = g.open(ROOT, "other name", 0, READ, 0).unwrap();
    let half = g.open(ROOT, "a", DIRECTORY, 0, 0).unwrap();
    let (first, _) = g.readdir(half, 30, 0).unwrap();
    g.call("fd_renumber", &[f, 0]);
    let mut g = g.moved(&carrying(there.path(), GrantMode::Carry));
    let names: Vec<String> = tree(there.path()).into_iter().map(|n| n.0).collect();
    assert_eq!(names, ["a", "a/b", "a/b/f", "empty", "log", "other name"]);
    let meta = fs::metadata(there.path().join("a/b/f")).unwrap();
    assert_eq!(
        (meta.mode() & 0o777, meta.mtime(), meta.mtime_nsec()),
        (0o640, 1_234_567_890, 123_456_789)
    );
    assert_eq!(meta.ino(), fs::metadata(there.path().join("other name")).unwrap().ino());
    assert_eq!(g.read(0, 100), Ok(b"3456789".to_vec()));
    assert_eq!(g.write(0, b"x"), Err(BADF));
    assert_eq!(g.read(twice, 2), Ok(b"01".to_vec()));
    g.write(log, b"two\n").unwrap();
    assert_eq!(fs::read(there.path().join("log")).unwrap(), b"one\ntwo\n");
    assert_eq!(fs::read(here.path().join("log")).unwrap(), b"one\n");
    assert_eq!(g.names(d, 1000, 0), [".", ".."]);
    // A listing that was begun shows what is still there of it.
    let rest = g.names(half, 1000, first.last().map_or(0, |e| e.0));
    assert!(rest.contains(&"b".into()) && !rest.contains(&"same".into()), "{rest:?}");
}

#[test]
fn files_go_only_where_they_were_allowed_to() {
    let (here, there) = (made(), tempdir().unwrap());
    for mode in BOTH {
        let mut g = Guest::with(&carrying(here.path(), mode));
        g.open(ROOT, "none", 0, READ, 0).unwrap();
        let state = g.state();
        let stored = g.stored(&state);
        for config in [config(&[(there.path(), "/")]), config(&[])] {
            let error = Wasi::restore_with(&state, &config, &stored).unwrap_err();
            assert!(matches!(&error.0[..], [RestoreProblem::NowhereToPut { .. }]), "{error}");
            let said = format!("--{} HOST::/", mode.option());
            assert!(error.to_string().contains(&said), "{error}");
            assert_eq!(error.exit_code(), 89);
        }
        assert_eq!(tree(there.path()), []);
        // The resumer's option counts from then on.
        let g = Guest {
            wasi: Wasi::restore_with(&state, &carrying(there.path(), GrantMode::CarryAll), &stored).unwrap(),
            ..g
        };
        assert_eq!(g.state().files.modes, [GrantMode::CarryAll]);
        fs::remove_dir_all(there.path()).unwrap();
        fs::create_dir(there.path()).unwrap();
    }
}

#[test]
fn what_is_there_already_is_kept_or_replaced() {
    let (here, there) = (made(), made());
    let g = Guest::with(&carrying(here.path(), GrantMode::CarryAll));
    let at = |name: &str| there.path().join(name);
    let inode = |name: &str| fs::metadata(at(name)).unwrap().ino();
    fs::write(at("a/same"), "is different").unwrap();
    fs::remove_file(at("none")).unwrap();
    fs::create_dir(at("none")).unwrap();
    fs::remove_dir(at("empty")).unwrap();
    fs::write(at("empty"), "a file").unwrap();
    fs::remove_file(at("a/link")).unwrap();
    symlink("/etc/passwd", at("a/link")).unwrap();
    fs::write(at("stranger"), "mine").unwrap();
    let (kept, replaced) = (inode("large"), inode("a/same"));
    let mut g = g.moved(&carrying(there.path(), GrantMode::CarryAll));
    assert_eq!(inode("large"), kept, "the same contents are left alone");
    assert_ne!(
        inode("a/same"),
        replaced,
        "a new file takes the old one's place at once"
    );
    let mut now = tree(there.path());
    now.retain(|n| n.0 != "stranger");
    assert_eq!(now, tree(here.path()));
    assert_eq!(fs::read(at("stranger")).unwrap(), b"mine");
    let warnings = g.wasi.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].contains("\"stranger\""),
        "{warnings:?}"
    );
    assert_eq!(g.path_call("path_unlink_file", ROOT, "a/same"), 0);
}

#[test]
fn something_else_in_the_way_is_not_removed_for_an_open_file() {
    let (here, there) = (tempdir().unwrap(), tempdir().unwrap());
    let mut g = Guest::with(&carrying(here.path(), GrantMode::Carry));
    fs::create_dir(here.path().join("d")).unwrap();
    g.open(ROOT, "d/f", CREAT, READ, 0).unwrap();
    g.open(ROOT, "g", CREAT, READ, 0).unwrap();
    let state = g.state();
    let stored = g.stored(&state);
    let outside = tempdir().unwrap();
    symlink(outside.path(), there.path().join("d")).unwrap();
    fs::create_dir_all(there.path().join("g/h")).unwrap();
    let error = Wasi::restore_with(&state, &carrying(there.path(), GrantMode::Carry), &stored).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("'d'") && text.contains("'g'"), "all at once: {text}");
    // A directory with something in it isn't removed for a carried tree either.
    assert!(Wasi::restore_with(&state, &carrying(there.path(), GrantMode::CarryAll), &stored).is_err());
    assert!(there.path().join("g/h").is_dir());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn what_can_not_be_carried_is_said_before() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let g = Guest::with(&carrying(dir.path(), GrantMode::CarryAll));
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR).unwrap();
    symlink("/etc/passwd", at("absolute")).unwrap();
    let name = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff");
    fs::write(dir.path().join(name), "").unwrap();
    let obstacles = g.wasi.obstacles();
    assert!(
        matches!(
            &obstacles[..],
            [
                Obstacle::NotUtf8 { .. },
                Obstacle::NotCarriable { .. },
                Obstacle::NotCarriable { .. }
            ]
        ),
        "{obstacles:?}"
    );
    assert_eq!(g.wasi.capture().unwrap_err().0, obstacles);
    // What isn't open doesn't matter if only what is open is carried.
    assert_eq!(
        Guest::with(&carrying(dir.path(), GrantMode::Carry)).wasi.obstacles(),
        []
    );
}

#[test]
fn equal_trees_have_equal_states() {
    let states = [made(), made()].map(|dir| {
        let mut g = Guest::with(&carrying(dir.path(), GrantMode::CarryAll));
        g.open(ROOT, "a/b/f", 0, READ, 0).unwrap();
        g.state()
    });
    assert_eq!(states[0].without_times(), states[1].without_times());
}

/// A state that brings these nodes, of which the files say `text`.
pub(crate) fn forged(nodes: Vec<Node>) -> (WasiState, Stored) {
    let mut stored = Stored::default();
    let hash = ContentHash::of(b"text");
    stored.0.insert(hash, b"text".to_vec());
    let state = WasiState {
        grants: vec!["/".into()],
        files: Files {
            modes: vec![GrantMode::CarryAll],
            chunks: vec![Chunk {
                hash,
                len: 4,
                stored: true,
            }],
            contents: vec![Content {
                len: 4,
                parts: vec![Part {
                    hole: 0,
                    first: 0,
                    count: 1,
                }],
            }],
            nodes,
            ..Files::default()
        },
        ..WasiState::default()
    };
    (state, stored)
}

pub(crate) fn node(path: &str, kind: NodeKind) -> Node {
    Node {
        grant: 0,
        path: path.into(),
        kind,
        mode: 0o644,
        modified: 1,
    }
}

fn restore(dir: &Path, (state, stored): &(WasiState, Stored)) -> Result<Wasi, Vec<RestoreProblem>> {
    let config: WasiConfig = carrying(dir, GrantMode::CarryAll);
    Wasi::restore_with(state, &config, stored).map_err(|e| e.0)
}

/// A directory `in` with links that lead out of it, and a secret beside it.
fn sandbox() -> TempDir {
    let dir = tempdir().unwrap();
    fs::create_dir_all(dir.path().join("in/d")).unwrap();
    fs::create_dir(dir.path().join("out")).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    fs::write(dir.path().join("out/secret"), "secret").unwrap();
    for (target, name) in [("../out", "up"), ("../secret", "link"), ("../../secret", "d/link")] {
        symlink(target, dir.path().join("in").join(name)).unwrap();
    }
    symlink(dir.path().join("out"), dir.path().join("in/absolute")).unwrap();
    dir
}

fn untouched(dir: &TempDir) {
    assert_eq!(fs::read(dir.path().join("secret")).unwrap(), b"secret");
    assert_eq!(fs::read(dir.path().join("out/secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    for name in ["secret", "out/secret"] {
        assert_ne!(fs::metadata(dir.path().join(name)).unwrap().mtime(), 0, "{name}");
    }
}

#[test]
fn forged_paths_lead_nowhere() {
    let file = || NodeKind::File { content: 0 };
    for path in [
        "../secret",
        "..",
        "/etc/passwd",
        "",
        ".",
        "./f",
        "f/",
        "d//f",
        "d/../f",
        "d/../../secret",
        "up/secret",
        "up/new",
        "absolute/secret",
        "d/none/f",
        "f\0",
    ] {
        let dir = sandbox();
        assert!(
            restore(&dir.path().join("in"), &forged(vec![node(path, file())])).is_err(),
            "{path:?}"
        );
        untouched(&dir);
        // As a directory, with something in it.
        let nodes = vec![node(path, NodeKind::Directory), node(&format!("{path}/x"), file())];
        let _ = restore(&dir.path().join("in"), &forged(nodes));
        untouched(&dir);
    }
    // A file in the place of a link replaces the link; a directory does too.
    let dir = sandbox();
    let nodes = vec![
        node("link", file()),
        node("up", NodeKind::Directory),
        node("up/secret", file()),
    ];
    restore(&dir.path().join("in"), &forged(nodes)).unwrap();
    untouched(&dir);
    assert_eq!(fs::read(dir.path().join("in/link")).unwrap(), b"text");
    assert_eq!(fs::read(dir.path().join("in/up/secret")).unwrap(), b"text");
    // A carried link that leads out, and a file behind it.
    let dir = sandbox();
    let link = |target: &str| NodeKind::Symlink { target: target.into() };
    let nodes = vec![node("new", link("../out")), node("new/secret", file())];
    assert!(restore(&dir.path().join("in"), &forged(nodes)).is_err());
    assert!(restore(&dir.path().join("in"), &forged(vec![node("new", link("/etc"))])).is_err());
    untouched(&dir);
    // Removing what isn't there to be removed.
    for path in ["../secret", "up/secret", "absolute/secret", "d/../../secret"] {
        let (mut state, stored) = forged(vec![]);
        state.files.removed = vec![(0, path.into())];
        let _ = restore(&dir.path().join("in"), &(state, stored));
        untouched(&dir);
    }
}

#[test]
fn wrong_contents_change_nothing() {
    let dir = sandbox();
    let before = names(dir.path());
    let nodes = || vec![node("a", NodeKind::File { content: 0 }), node("d", NodeKind::Directory)];
    let (state, mut stored) = forged(nodes());
    for wrong in [&b"test"[..], b"tex", b"texts", b""] {
        stored.0.insert(ContentHash::of(b"text"), wrong.to_vec());
        let problems = restore(&dir.path().join("in"), &(state.clone(), stored.clone())).unwrap_err();
        assert!(matches!(&problems[..], [RestoreProblem::Contents(_)]), "{problems:?}");
        assert_eq!(dunlin_runtime::wasi::RestoreError(problems).exit_code(), 86);
        assert_eq!(names(dir.path()), before);
    }
    stored.0.clear();
    assert!(restore(&dir.path().join("in"), &(state, stored)).is_err());
    assert_eq!(names(dir.path()), before);
    restore(&dir.path().join("in"), &forged(nodes())).unwrap();
}

#[test]
fn a_race_with_a_link_is_never_won() {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    let dir = sandbox();
    let (real, link) = (dir.path().join("in/race"), dir.path().join("in/swap"));
    fs::create_dir(&real).unwrap();
    symlink("../out", &link).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            while !stop.load(Relaxed) {
                let _ = renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE);
            }
        });
        let deadline = std::time::Instant::now() + Duration::from_millis(1500);
        let (mut put, mut refused) = (0, 0);
        while std::time::Instant::now() < deadline {
            let mut state = forged(vec![
                node("race", NodeKind::Directory),
                node("race/new", NodeKind::File { content: 0 }),
            ]);
            // Without replacing: else the link itself would soon be gone.
            state.0.files.modes = vec![GrantMode::Carry];
            let config = carrying(&dir.path().join("in"), GrantMode::Carry);
            match Wasi::restore_with(&state.0, &config, &state.1) {
                Ok(_) => put += 1,
                Err(_) => refused += 1,
            }
        }
        stop.store(true, Relaxed);
        assert!(
            put > 0 && refused > 0,
            "the race was not run: {put} put, {refused} refused"
        );
    });
    assert_eq!(fs::read(dir.path().join("out/secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 1);
}
