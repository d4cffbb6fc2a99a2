//! Programs whose files travel with them: every guest that uses files, with a directory of its own on each machine.

use dunlin_format::arch::Arch;
use dunlin_migrate::snapshot::Snapshot;
use dunlin_migrate::state::files::NodeKind;
use dunlin_tests::guest::guest;
use dunlin_tests::moves::{growing, ping_pong};
use dunlin_tests::process::Input;
use dunlin_tests::program::{BAD_SNAPSHOT, CHECKPOINTED, NOT_HERE, Run, scratch};
use dunlin_tests::snapshots::load;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn carry_all(run: Run, dir: &Path) -> Run {
    run.opts(["--carry-all".to_owned(), format!("{}::/data", dir.display())])
}

/// Moves a guest between machines that share no files; in the end the last one's must be as expected.
fn travels(name: &str) {
    for first in Arch::ALL {
        let guest = guest(name);
        let dirs: RefCell<Vec<TempDir>> = RefCell::default();
        let run = |arch| {
            let mut dirs = dirs.borrow_mut();
            let fresh = if dirs.is_empty() {
                guest.data().expect("it has a directory")
            } else {
                scratch()
            };
            dirs.push(fresh);
            carry_all(guest.on(arch, None), dirs.last().expect("one was pushed").path())
        };
        let journey = ping_pong(first, growing(10), run, || Input::Empty);
        let dirs = dirs.into_inner();
        let what = format!(
            "{} moves starting on {first}; stderr: {}",
            journey.moves,
            String::from_utf8_lossy(&journey.stderr)
        );
        guest.check_verdict(&guest.verdict(journey.code, &journey.stdout, dirs.last()), &what);
        assert!(journey.moves >= 3 && journey.stderr.is_empty(), "{what}");
    }
}

/// Moves a guest to and fro between two directories: what it removed in one must not come back in the other.
fn returns(name: &str) {
    let guest = guest(name);
    let dirs = [guest.data().expect("it has a directory"), scratch()];
    let dir = |arch| &dirs[usize::from(arch == Arch::Aarch64)];
    let last = RefCell::new(Arch::X86_64);
    let run = |arch| {
        *last.borrow_mut() = arch;
        carry_all(guest.on(arch, None), dir(arch).path())
    };
    let journey = ping_pong(Arch::X86_64, growing(10), run, || Input::Empty);
    let what = format!(
        "{} moves; stderr: {}",
        journey.moves,
        String::from_utf8_lossy(&journey.stderr)
    );
    let there = dir(*last.borrow());
    guest.check_verdict(&guest.verdict(journey.code, &journey.stdout, Some(there)), &what);
    assert!(journey.moves >= 3 && journey.stderr.is_empty(), "{what}");
}

/// Goes on with carried files in place, at every Nth point.
fn forced(name: &str) {
    for arch in Arch::ALL {
        let guest = guest(name);
        let data = guest.data().expect("it has a directory");
        let run = carry_all(guest.on(arch, None), data.path()).forced(3);
        guest.check(&run.output(), Some(&data));
    }
}

macro_rules! travelling {
    ($($name:ident)*) => {
        $(mod $name {
            #[test]
            fn travels() {
                super::travels(stringify!($name));
            }

            #[test]
            fn returns() {
                super::returns(stringify!($name));
            }

            #[test]
            fn forced() {
                super::forced(stringify!($name));
            }
        })*
    };
}

travelling! { append_mode directory file_offset many_files open_modes paths read_at renamed_open wasi_files wasi_paths }

/// A point at which `open_modes` has all its files open and has used them a few times.
const LATE: u64 = 300;

/// A guest stopped with its files in the snapshot, and the directory it was in.
fn stopped(name: &str, point: u64, option: &str) -> (TempDir, TempDir, PathBuf) {
    let (guest, dir) = (guest(name), scratch());
    let data = guest.data().expect("it has a directory");
    let snapshot = dir.path().join("x.snap");
    let run = guest.on(Arch::X86_64, None);
    let run = run.opts([format!("--{option}"), format!("{}::/data", data.path().display())]);
    run.stop_at(point, &snapshot).output().expect_code(CHECKPOINTED);
    (dir, data, snapshot)
}

#[test]
fn the_resumer_says_where_files_go() {
    let (_dir, data, snapshot) = stopped("open_modes", LATE, "carry-all");
    let guest = guest("open_modes");
    for arch in Arch::ALL {
        let run = |options: &[&str]| {
            guest
                .on(arch, None)
                .opts(options.iter().copied())
                .resume(&snapshot)
                .output()
        };
        let shared = format!("{}::/data", data.path().display());
        for options in [&[][..], &["--dir", &shared]] {
            let refused = run(options).expect_code(NOT_HERE);
            assert!(refused.err().contains("--carry-all HOST::/data"), "{refused}");
            assert_eq!(refused.out(), "");
        }
    }
}

#[test]
fn damaged_contents_are_refused_and_change_nothing() {
    let (dir, _, snapshot) = stopped("open_modes", LATE, "carry-all");
    let good = fs::read(&snapshot).unwrap();
    let contents: Vec<_> = Snapshot::open(Cursor::new(&good[..]))
        .unwrap()
        .stored_contents()
        .collect();
    assert!(contents.len() >= 5, "{contents:?}");
    let guest = guest("open_modes");
    for (n, (content, offset)) in contents.iter().filter(|(c, _)| c.len > 0).enumerate() {
        let arch = Arch::ALL[n % 2];
        let mut bad = good.clone();
        bad[(*offset + content.len / 2) as usize] ^= 1;
        let (path, there) = (dir.path().join("bad.snap"), scratch());
        fs::write(&path, bad).unwrap();
        let refused = carry_all(guest.on(arch, None), there.path())
            .resume(&path)
            .output()
            .expect_code(BAD_SNAPSHOT);
        assert!(refused.err().contains("another hash"), "{refused}");
        assert_eq!(
            (refused.out().as_str(), fs::read_dir(there.path()).unwrap().count()),
            ("", 0)
        );
    }
}

/// A list of carried files that leads out of its directory is refused before anything is put.
#[test]
fn forged_lists_of_files_are_refused() {
    let (dir, _, snapshot) = stopped("open_modes", LATE, "carry-all");
    let outside = scratch();
    let there = outside.path().join("in");
    fs::create_dir(&there).unwrap();
    std::os::unix::fs::symlink("..", there.join("up")).unwrap();
    let mut good = load(&snapshot);
    let files = &mut good.state.wasi.files;
    files.chunks.iter_mut().for_each(|c| c.stored = false);
    files.nodes.retain(|n| n.kind == NodeKind::Directory);
    let guest = guest("open_modes");
    for (n, path) in [
        "../new",
        "/tmp/new",
        "up/new",
        "d/../../new",
        "..",
        "new\0",
        "d//new",
        "",
    ]
    .iter()
    .enumerate()
    {
        let mut forged = good.clone();
        forged.state.wasi.files.nodes[0].path = (*path).to_owned();
        let file = dir.path().join("forged.snap");
        forged.store(&file);
        let refused = carry_all(guest.on(Arch::ALL[n % 2], None), &there)
            .resume(&file)
            .output();
        refused.expect_code(BAD_SNAPSHOT);
        assert_eq!(
            (
                fs::read_dir(&there).unwrap().count(),
                fs::read_dir(outside.path()).unwrap().count()
            ),
            (1, 1),
            "{path}"
        );
    }
}

/// Shared files are looked at before anything runs: missing, changed, and the same with another time.
#[test]
fn shared_files_must_be_as_they_were() {
    let (_dir, data, snapshot) = stopped("open_modes", LATE, "dir");
    let guest = guest("open_modes");
    let input = data.path().join("input");
    let run = |arch, more: &[&str]| {
        guest
            .on(arch, Some(&data))
            .opts(more.iter().copied())
            .resume(&snapshot)
            .output()
    };
    let original = fs::read(&input).unwrap();
    for arch in Arch::ALL {
        fs::write(&input, [&b"X"[..], &original[1..]].concat()).unwrap();
        let refused = run(arch, &[]).expect_code(NOT_HERE);
        let said = "'input' in the directory '/data' is not the file that was open: its contents are others";
        assert!(
            refused.err().contains(said) && refused.err().contains("--accept-changed"),
            "{refused}"
        );
        fs::remove_file(&input).unwrap();
        let refused = run(arch, &["--accept-changed"]).expect_code(NOT_HERE);
        assert!(
            refused.err().contains("'input' in the directory '/data' was open"),
            "{refused}"
        );
        assert_eq!(refused.out(), "");
        fs::write(&input, &original).unwrap();
    }
    fs::write(&input, [&original[..original.len() - 1], b"!"].concat()).unwrap();
    let accepted = run(Arch::Aarch64, &["--accept-changed"]).expect_code(0);
    assert!(accepted.err().contains("Warning: 'input'"), "{accepted}");
}

/// A damaged page is found before any file is looked at, and looking for all else that is wrong reads no page again:
/// what a snapshot was refused for is said first all the same.
#[test]
fn a_refusal_names_its_own_reason_first() {
    let (_dir, data, snapshot) = stopped("open_modes", LATE, "dir");
    let mut bytes = fs::read(&snapshot).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // It is a page: all else is read, and looked at, when a snapshot is opened.
    assert!(Snapshot::open(Cursor::new(&bytes[..])).is_ok());
    fs::write(&snapshot, bytes).unwrap();
    let refused = || {
        let run = guest("open_modes").on(Arch::X86_64, Some(&data)).resume(&snapshot);
        run.output().expect_code(BAD_SNAPSHOT)
    };
    let alone = refused();
    assert!(alone.err().contains("the snapshot is damaged"), "{alone}");
    fs::remove_file(data.path().join("input")).unwrap();
    let both = refused();
    let text = both.err();
    let reasons: Vec<&str> = text.lines().filter(|line| line.starts_with("  ")).collect();
    assert!(
        reasons.len() >= 2
            && reasons[0].contains("the snapshot is damaged")
            && reasons[1..].iter().any(|reason| reason.contains("'input'")),
        "{both}"
    );
    assert_eq!(both.out(), "");
}

#[test]
fn a_copy_of_a_shared_file_is_the_same_file() {
    let (_dir, data, snapshot) = stopped("open_modes", LATE, "dir");
    let (guest, copy) = (guest("open_modes"), scratch());
    let script = format!(
        "cp -r --preserve=links {}/. {}",
        data.path().display(),
        copy.path().display()
    );
    assert!(
        std::process::Command::new("sh")
            .args(["-c", &script])
            .status()
            .unwrap()
            .success()
    );
    guest
        .on(Arch::Aarch64, Some(&copy))
        .resume(&snapshot)
        .output()
        .expect_code(0);
}

/// Everything below a directory: paths, contents and permissions.
fn all(dir: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let (path, meta) = (entry.path(), entry.metadata().unwrap());
            if meta.is_dir() {
                pending.push(path.clone());
            }
            let bytes = if meta.is_file() {
                fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            found.insert(
                path.strip_prefix(dir).unwrap().display().to_string(),
                (meta.mode(), bytes),
            );
        }
    }
    found
}

/// A full disk, here as a limit of file sizes, costs a message; nothing is lost, and once there is room it goes on.
#[test]
fn a_full_disk_leaves_all_as_it_was() {
    let (guest, dir, there) = (guest("sha256"), scratch(), scratch());
    let (snapshot, data) = (dir.path().join("x.snap"), scratch());
    fs::write(data.path().join("a"), "small").unwrap();
    fs::write(data.path().join("large"), vec![7; 300_000]).unwrap();
    let run = carry_all(guest.on(Arch::X86_64, None), data.path());
    run.stop_at(50, &snapshot).output().expect_code(CHECKPOINTED);
    fs::write(there.path().join("a"), "was here").unwrap();
    let before = all(there.path());
    for arch in Arch::ALL {
        let run = || carry_all(guest.on(arch, None), there.path()).resume(&snapshot);
        // In units of 512 or 1024 bytes.
        let refused = run()
            .through_shell("ulimit -f 100; \"$@\"")
            .output()
            .expect_code(NOT_HERE);
        assert!(
            refused
                .err()
                .contains("'large' can't be put into the directory '/data'"),
            "{refused}"
        );
        assert_eq!(all(there.path()), before);
    }
    let resumed = carry_all(guest.on(Arch::Aarch64, None), there.path()).resume(&snapshot);
    resumed.output().expect_code(0);
    assert_eq!(all(there.path()), all(data.path()));
}

/// A directory that may not be written: refused at once, and no harm if nothing has to be.
#[test]
fn a_directory_that_may_not_be_written_is_left_alone() {
    let (guest, dir) = (guest("sha256"), scratch());
    let (snapshot, data) = (dir.path().join("x.snap"), scratch());
    fs::create_dir(data.path().join("d")).unwrap();
    fs::write(data.path().join("d/f"), "0123456789").unwrap();
    let run = carry_all(guest.on(Arch::X86_64, None), data.path());
    run.stop_at(50, &snapshot).output().expect_code(CHECKPOINTED);
    let there = scratch();
    fs::create_dir(there.path().join("d")).unwrap();
    fs::write(there.path().join("d/f"), "another").unwrap();
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for path in [dir.path(), guest.program.base().parent().unwrap()] {
        mode(path, 0o755);
    }
    mode(&snapshot, 0o644);
    let run = |arch: Arch| {
        let mut command = carry_all(guest.on(arch, None), there.path())
            .resume(&snapshot)
            .command();
        // Root may write anywhere.
        if rustix::process::geteuid().is_root() {
            std::os::unix::process::CommandExt::uid(&mut command, 65534);
        }
        command.stdin(std::process::Stdio::null()).output().unwrap()
    };
    for arch in Arch::ALL {
        // The top may be written, and what is in it may not; then the other way round.
        for (top, inner) in [(0o777, 0o755), (0o755, 0o777)] {
            mode(there.path(), top);
            mode(&there.path().join("d"), inner);
            if !rustix::process::geteuid().is_root() {
                mode(there.path(), top & 0o555 | if top == 0o777 { 0o200 } else { 0 });
                mode(
                    &there.path().join("d"),
                    inner & 0o555 | if inner == 0o777 { 0o200 } else { 0 },
                );
            }
            let before = all(there.path());
            let refused = run(arch);
            let said = String::from_utf8_lossy(&refused.stderr);
            assert_eq!(refused.status.code(), Some(NOT_HERE), "{refused:?}");
            assert!(
                said.contains("'d/f' can't be put into the directory '/data': Permission denied"),
                "{said}"
            );
            assert_eq!(all(there.path()), before);
        }
    }
    // The same contents are there already.
    mode(&there.path().join("d"), 0o755);
    fs::write(there.path().join("d/f"), "0123456789").unwrap();
    mode(&there.path().join("d"), 0o555);
    mode(there.path(), 0o555);
    for arch in Arch::ALL {
        let resumed = run(arch);
        assert!(resumed.status.success(), "{resumed:?}");
    }
    mode(&there.path().join("d"), 0o755);
    mode(there.path(), 0o755);
}
