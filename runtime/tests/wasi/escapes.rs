//! Attempts to leave a granted directory, by every function that takes a path. None may reach anything outside.

use crate::guest::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tempfile::{TempDir, tempdir};

/// A granted directory `in`, with a secret beside it.
fn sandbox() -> (TempDir, Guest) {
    let dir = tempdir().unwrap();
    let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
    for d in [&inside, &outside, &inside.join("d"), &inside.join("d/e")] {
        fs::create_dir(d).unwrap();
    }
    fs::write(outside.join("secret"), "secret").unwrap();
    fs::write(dir.path().join("beside"), "secret").unwrap();
    fs::write(inside.join("f"), "mine").unwrap();
    for (target, name) in [
        ("..", "up"),
        ("../out", "out"),
        ("../out/secret", "secret"),
        ("../beside", "beside"),
        ("d/../../beside", "winding"),
        ("/", "root"),
        ("/etc/passwd", "passwd"),
        ("/proc/self/root/etc/passwd", "proc"),
        ("up/beside", "chained"),
        ("d/deep", "twice"),
        ("secret/", "slash"),
    ] {
        symlink(target, inside.join(name)).unwrap();
    }
    symlink("../../..", inside.join("d/e/far")).unwrap();
    symlink("../../beside", inside.join("d/deep")).unwrap();
    symlink(dir.path().join("beside"), inside.join("absolute")).unwrap();
    let g = Guest::new(&inside);
    (dir, g)
}

/// Paths that lead, or could be thought to lead, to what lies outside.
fn attempts(outside: &Path) -> Vec<String> {
    let mut all: Vec<String> = [
        "..",
        "../",
        "../.",
        "./..",
        "../beside",
        "../out/secret",
        "..//beside",
        "../in/f",
        "d/../../beside",
        "d/e/../../../beside",
        "d/e/../../../in/f",
        "./d/../../out/secret",
        "/",
        "//",
        "/etc/passwd",
        "//etc/passwd",
        "/proc/self/root",
        "/../etc/passwd",
        "up/beside",
        "up/out/secret",
        "up/..",
        "up/../",
        "out/secret",
        "out/../beside",
        "secret",
        "beside",
        "winding",
        "root/etc/passwd",
        "root",
        "passwd",
        "proc",
        "chained",
        "twice",
        "slash",
        "absolute",
        "d/deep",
        "d/e/far/beside",
        "d/e/far/etc/passwd",
        "d/../up/beside",
        "up/in/../beside",
        "d/e/../../up/out/secret",
        "out/./secret",
        "f/../../beside",
        "none/../../beside",
        "././../beside",
        "d/./.././../beside",
    ]
    .map(String::from)
    .into();
    all.push(outside.join("secret").to_str().unwrap().to_owned());
    all.push(outside.join("../in/f").to_str().unwrap().to_owned());
    all
}

#[test]
fn no_path_leads_out() {
    let (dir, mut g) = sandbox();
    let attempts = attempts(&dir.path().join("out"));
    assert!(attempts.len() >= 40);
    let below = g.open(ROOT, "d", DIRECTORY, 0, 0).unwrap();
    for path in &attempts {
        for base in [ROOT, below] {
            // From `d`, what is above it is outside too, though `in` is granted.
            let path = if base == below {
                path.strip_prefix("d/").unwrap_or(path)
            } else {
                path
            };
            for (oflags, rights) in [
                (0, READ),
                (0, WRITE),
                (0, READ | WRITE),
                (CREAT, READ),
                (CREAT | TRUNC, WRITE),
                (DIRECTORY, 0),
                (CREAT | EXCL, WRITE),
            ] {
                if base == below && oflags & CREAT != 0 {
                    // Many of these are harmless names there.
                    continue;
                }
                if let Ok(fd) = g.open(base, path, oflags, rights, 0) {
                    panic!("{path} opened with {oflags}: {:?}", g.read(fd, 100));
                }
                // Without following, a link itself can't be opened either.
                assert!(g.open_with(base, 0, path, oflags, rights, 0).is_err(), "{path}");
            }
            assert!(g.stat(base, true, path).is_err(), "{path}");
            let [p, n] = g.string(PATH, path);
            assert_ne!(
                g.call("path_filestat_set_times", &[base, 1, p, n, 0, 1, 4]),
                0,
                "{path}"
            );
        }
        assert_ne!(
            g.path_call("path_create_directory", ROOT, format!("{path}/new")),
            0,
            "{path}"
        );
        assert_ne!(
            g.path_call("path_unlink_file", ROOT, format!("{path}/../beside")),
            0,
            "{path}"
        );
        for name in ["path_rename", "path_link"] {
            let call = |g: &mut Guest, old: &str, new: &str| {
                let [p, n] = g.string(PATH, old);
                let [q, k] = g.string(PATH2, new);
                match name {
                    "path_rename" => g.call(name, &[ROOT, p, n, ROOT, q, k]),
                    _ => g.call(name, &[ROOT, 0, p, n, ROOT, q, k]),
                }
            };
            assert_ne!(call(&mut g, "f", &format!("{path}/moved")), 0, "{path}");
            assert_ne!(call(&mut g, &format!("{path}/../beside"), "got"), 0, "{path}");
        }
        let [p, n] = g.string(PATH, "x");
        let [q, k] = g.string(PATH2, format!("{path}/link"));
        assert_ne!(g.call("path_symlink", &[p, n, ROOT, q, k]), 0, "{path}");
    }
    assert_eq!(fs::read(dir.path().join("beside")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 1);
    assert_eq!(fs::read(dir.path().join("in/f")).unwrap(), b"mine");
}

#[test]
fn escapes_are_told_as_such() {
    let (_dir, mut g) = sandbox();
    for path in [
        "..",
        "../beside",
        "/etc/passwd",
        "d/../../beside",
        "up",
        "beside",
        "passwd",
        "absolute",
        "twice",
    ] {
        assert_eq!(g.open(ROOT, path, 0, READ, 0), Err(PERM), "{path}");
        assert_eq!(g.stat(ROOT, true, path), Err(PERM), "{path}");
    }
}

#[test]
fn a_link_may_be_removed_and_looked_at_but_not_followed() {
    let (dir, mut g) = sandbox();
    assert_eq!(g.stat(ROOT, false, "secret").unwrap().1, 7);
    assert_eq!(g.path_call("path_unlink_file", ROOT, "secret"), 0);
    assert_eq!(g.path_call("path_remove_directory", ROOT, "out"), NOTDIR);
    assert_eq!(fs::read(dir.path().join("out/secret")).unwrap(), b"secret");
}

#[test]
fn a_directory_moved_out_of_the_grant_leads_nowhere_new() {
    let (dir, mut g) = sandbox();
    let d = g.open(ROOT, "d/e", DIRECTORY, 0, 0).unwrap();
    fs::rename(dir.path().join("in/d/e"), dir.path().join("out/e")).unwrap();
    assert!(g.open(d, "../secret", 0, READ, 0).is_err());
    assert!(g.open(d, "far", 0, READ, 0).is_err());
}

#[test]
fn a_race_with_a_link_is_never_won() {
    let (dir, mut g) = sandbox();
    let (real, link) = (dir.path().join("in/race"), dir.path().join("in/swap"));
    fs::create_dir(&real).unwrap();
    fs::write(real.join("secret"), "mine").unwrap();
    symlink("../out", &link).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Exchanges a directory of ours with a link to the one outside, over and over.
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            while !stop.load(Relaxed) {
                renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let (mut opened, mut refused) = (0, 0);
        let deadline = std::time::Instant::now() + std::time::Duration::from_millis(1500);
        while std::time::Instant::now() < deadline {
            match g.open(ROOT, "race/secret", 0, READ, 0) {
                Ok(fd) => {
                    opened += 1;
                    assert_eq!(g.read(fd, 10).unwrap(), b"mine");
                    g.call("fd_close", &[fd]);
                }
                Err(_) => refused += 1,
            }
            let _ = g
                .open(ROOT, "race/new", CREAT, WRITE, 0)
                .map(|fd| g.call("fd_close", &[fd]));
            let _ = g.path_call("path_unlink_file", ROOT, "race/secret2");
        }
        stop.store(true, Relaxed);
        assert!(
            opened > 0 && refused > 0,
            "the race was not run: {opened} opened, {refused} refused"
        );
    });
    assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 1);
}

#[test]
fn the_proc_file_system_can_not_be_written() {
    let mut g = Guest::with(&config(&[(Path::new("/proc"), "/proc")]));
    // In a thread's or process's directory of ours; where openat2 is missing, the link `self` is absolute and refused
    // already.
    let pid = std::process::id();
    for path in [format!("{pid}/mem"), format!("{pid}/oom_score_adj")] {
        assert_eq!(g.open(ROOT, &path, 0, READ | WRITE, 0), Err(ACCES), "{path}");
        assert_eq!(g.open(ROOT, &path, 0, WRITE, 0), Err(ACCES), "{path}");
    }
    assert!(g.open(ROOT, format!("{pid}/status"), 0, READ, 0).is_ok());
    // Its links to what processes have open lead anywhere.
    for path in [
        "root/etc/passwd",
        "root",
        "cwd",
        "cwd/Cargo.toml",
        "exe",
        "fd/0",
        "self/fd/1",
        "task/../root/etc",
    ] {
        for flags in [0, DIRECTORY] {
            assert!(g.open(ROOT, format!("{pid}/{path}"), flags, READ, 0).is_err(), "{path}");
        }
        assert!(g.stat(ROOT, true, format!("{pid}/{path}")).is_err(), "{path}");
    }
}
