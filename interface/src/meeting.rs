//! Where programs and the `dunlin` command meet: the directories of control sockets, and the sockets' names.
//!
//! A socket's name is `PID-NAMESPACE.sock`: the process id means something in its PID namespace only, and two
//! containers that share a directory may both have a process 7. (Earlier programs had `PID.sock`; without /proc nobody
//! knows the namespace, and it is 0.) The socket is bound under another name and gets its own when it listens already:
//! who is refused there knows that nobody is left.
//!
//! The directory is `$XDG_RUNTIME_DIR/dunlin` or `/tmp/dunlin-UID`, private to the user. In /tmp anyone may have taken
//! that name before; then it is `/tmp/dunlin-UID-` and something else, made by the first program that needs it and
//! found by its owner. Programs that start at the same moment may make one each: whoever looks for programs looks into
//! all of them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Where the directories lie that have no better place.
const SHARED: &str = "/tmp";

/// How many sockets of one process id and namespace there may be: more than one only where the namespace is unknown.
const MOST_OF_A_NAME: u32 = 8;

/// A directory for sockets that others have made, or can look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The directory.
    pub path: PathBuf,
    /// User that it belongs to.
    pub owner: u32,
}

/// The user that sockets and directories must belong to.
fn user() -> u32 {
    rustix::process::getuid().as_raw()
}

/// The directories where a socket should be, best first.
fn wanted() -> Vec<PathBuf> {
    let run = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let run = run.filter(|d| d.is_absolute()).map(|d| d.join("dunlin"));
    run.into_iter()
        .chain([Path::new(SHARED).join(format!("dunlin-{}", user()))])
        .collect()
}

/// This user's other directories in a directory that is everyone's.
fn substitutes(shared: &Path) -> Vec<PathBuf> {
    let prefix = format!("dunlin-{}-", user());
    let entries = fs::read_dir(shared).into_iter().flatten().filter_map(Result::ok);
    let named = entries.filter(|e| e.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()));
    let mut own: Vec<PathBuf> = named.map(|e| e.path()).filter(|p| is_private(p)).collect();
    own.sort();
    own
}

/// Does it belong to this user, and nobody else gets in?
fn is_private(directory: &Path) -> bool {
    fs::symlink_metadata(directory).is_ok_and(|m| m.is_dir() && m.uid() == user() && m.mode() & 0o077 == 0)
}

/// The directories in which programs of this user may listen, and those among them that can't be used because they are
/// another's.
pub fn directories() -> (Vec<PathBuf>, Vec<Foreign>) {
    let (mut own, mut foreign) = (Vec::new(), Vec::new());
    for path in wanted() {
        match fs::symlink_metadata(&path) {
            Ok(m) if m.is_dir() && m.uid() == user() => own.push(path),
            Ok(m) => foreign.push(Foreign { path, owner: m.uid() }),
            Err(_) => {}
        }
    }
    own.extend(substitutes(Path::new(SHARED)));
    (own, foreign)
}

/// A number for this process's PID namespace, other than any other's that is there now; 0 if it is unknown.
pub fn namespace() -> u64 {
    // The link to follow is one of the kernel's, to a file that stands for the namespace (namespaces(7)).
    fs::metadata("/proc/self/ns/pid").map_or(0, |m| m.ino())
}

/// What a socket's file name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The process id in its namespace.
    pub pid: u32,
    /// The namespace, as [`namespace`] has it; `None` of a program that didn't tell.
    pub namespace: Option<u64>,
}

impl Name {
    /// Reads a file name; `None` if it is none of a socket.
    pub fn parse(file_name: &str) -> Option<Name> {
        let mut parts = file_name.strip_suffix(".sock")?.split('-');
        let (pid, namespace) = (parts.next()?.parse().ok()?, parts.next().map(str::parse));
        let rest_is_a_number = parts.next().is_none_or(|n| n.parse::<u32>().is_ok()) && parts.next().is_none();
        let namespace = namespace.transpose().ok()?.filter(|&n| n != 0);
        rest_is_a_number.then_some(Name { pid, namespace })
    }
}

/// Binds this process's socket in the best directory that is safe.
pub fn bind() -> io::Result<(UnixListener, PathBuf)> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for directory in wanted() {
        match bind_in(&directory) {
            Ok(bound) => return Ok(bound),
            Err(e) => last = e,
        }
    }
    match last.kind() {
        // Another user has taken the name.
        io::ErrorKind::PermissionDenied => bind_elsewhere(Path::new(SHARED)),
        _ => Err(last),
    }
}

/// Binds this process's socket in a directory of this user's own in one that is everyone's.
fn bind_elsewhere(shared: &Path) -> io::Result<(UnixListener, PathBuf)> {
    for directory in substitutes(shared) {
        if let Ok(bound) = bind_in(&directory) {
            return Ok(bound);
        }
    }
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..16 {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())?;
        let name = format!("dunlin-{}-{:016x}", user(), u64::from_ne_bytes(random));
        match DirBuilder::new().mode(0o700).create(shared.join(&name)) {
            Ok(()) => {
                let directory = shared.join(name);
                return bind_in(&directory).inspect_err(|_| drop(fs::remove_dir(&directory)));
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Binds this process's socket in a directory, which is made if need be, and must be private to this user.
fn bind_in(directory: &Path) -> io::Result<(UnixListener, PathBuf)> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    if !is_private(directory) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    bind_as(directory, std::process::id(), namespace())
}

fn bind_as(directory: &Path, pid: u32, namespace: u64) -> io::Result<(UnixListener, PathBuf)> {
    let own = format!("{pid}-{namespace}");
    let names = std::iter::once(format!("{own}.sock")).chain((1..MOST_OF_A_NAME).map(|n| format!("{own}-{n}.sock")));
    for path in names.map(|name| directory.join(name)) {
        if path.symlink_metadata().is_ok() {
            match UnixStream::connect(&path) {
                Ok(_) => continue,
                // Left behind by a process of the same number that was killed.
                Err(e) if is_refusal(&e) => {}
                Err(e) => return Err(e),
            }
        }
        let new = path.with_extension("new");
        let _ = fs::remove_file(&new);
        let listener = UnixListener::bind(&new)?;
        return match fs::rename(&new, &path) {
            Ok(()) => Ok((listener, path)),
            Err(e) => {
                let _ = fs::remove_file(new);
                Err(e)
            }
        };
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Does a failure to connect mean that nobody listens any more?
pub fn is_refusal(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn sockets_live_in_private_directories_only() {
        let dir = tempfile::tempdir().unwrap();
        let private = dir.path().join("private");
        let (_listener, path) = bind_in(&private).unwrap();
        assert!(path.exists());
        assert_eq!(fs::metadata(&private).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&private, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(bind_in(&private).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        symlink(&private, dir.path().join("link")).unwrap();
        assert!(bind_in(&dir.path().join("link")).is_err());
    }

    #[test]
    fn two_namespaces_and_two_unknown_ones_leave_each_others_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let bound: Vec<_> = [7, 8, 0, 0]
            .map(|namespace| bind_as(dir.path(), 1, namespace).unwrap())
            .into();
        let names = ["1-7.sock", "1-8.sock", "1-0.sock", "1-0-1.sock"];
        for ((_, path), name) in bound.iter().zip(names) {
            assert_eq!(path.file_name().unwrap(), name);
            assert!(UnixStream::connect(path).is_ok());
        }
        // One whose owner is gone is replaced.
        drop(bound);
        let (_listener, path) = bind_as(dir.path(), 1, 7).unwrap();
        assert!(path.ends_with("1-7.sock") && UnixStream::connect(&path).is_ok());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn names_are_read() {
        let name = |pid, namespace| Some(Name { pid, namespace });
        assert_eq!(Name::parse("12-4026531836.sock"), name(12, Some(4_026_531_836)));
        assert_eq!(Name::parse("12-4-1.sock"), name(12, Some(4)));
        assert_eq!(Name::parse("12-0.sock"), name(12, None));
        assert_eq!(Name::parse("12.sock"), name(12, None), "of an earlier Dunlin");
        for other in [
            "x.sock",
            "12.txt",
            "-1.sock",
            "12-.sock",
            "12-1-2-3.sock",
            "12-1-x.sock",
            "12-1.new",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_taken_directory_has_a_substitute_that_is_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let (_one, first) = bind_elsewhere(dir.path()).unwrap();
        let directory = first.parent().unwrap();
        assert_eq!(substitutes(dir.path()), [directory]);
        assert_eq!(fs::metadata(directory).unwrap().mode() & 0o777, 0o700);
        fs::rename(&first, directory.join("1-1.sock")).unwrap();
        let (_two, second) = bind_elsewhere(dir.path()).unwrap();
        assert_eq!(second.parent(), Some(directory));
        // What others can look into is not used.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o711)).unwrap();
        let (_three, third) = bind_elsewhere(dir.path()).unwrap();
        assert_ne!(third.parent(), Some(directory));
        // Two that were made at the same moment: programs are looked for in both.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
        let both = substitutes(dir.path());
        assert!(
            both.len() == 2
                && [&first, &third]
                    .iter()
                    .all(|s| both.iter().any(|d| s.parent() == Some(d)))
        );
    }
}
