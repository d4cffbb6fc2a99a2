//! What is kept on disk of transfers: one private directory per user, with a record and the program's state for every
//! transfer that isn't over.
//!
//! ```text
//!   store                        16 random bytes: whose records these are (see dunlin_handover::Transfer::store)
//!   out-ATTEMPT/record           how far the transfer is here, at the sender (none: it never began, or is over)
//!   out-ATTEMPT/round-N.snap     a snapshot from while the program still ran, which later ones take pages from
//!   out-ATTEMPT/state.snap       the stopped program's whole state, together with the rounds that it names
//!   out-ATTEMPT/standing         made and locked by the program's process while it stands still for the transfer, and
//!                                removed by it before it goes on: there without a lock, the process died
//!   out-ATTEMPT/peer             where the program goes: what `dunlin migrate` was given
//!   out-ATTEMPT/there            that machine's store, by which it is known again
//!   in-ATTEMPT/record            how far the transfer is here, at the receiver
//!   in-ATTEMPT/about             the program, as the sender described it
//!   in-ATTEMPT/exe               its executable, unless there was one here
//!   in-ATTEMPT/round-N.snap, state.snap  as at the sender
//!   in-ATTEMPT/running           locked by the process that was started, as long as it lives
//!   in-ATTEMPT/started           made by that process before the program's first instruction
//!   in-ATTEMPT/boot              the machine's boot in which the transfer began: these two aren't durable, and mean
//!                                nothing in a later one
//! ```
//!
//! A record is replaced atomically and synchronised (`records/slots.rs`), its directory, too. Whoever works at a
//! transfer holds a lock on its directory (flock(2)), which ends with the process, however that ends.

mod slots;

use dunlin_handover::{Encoded, Id};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The program's whole state, a snapshot.
pub const STATE: &str = "state.snap";

/// The rounds of a transfer have numbers from 1 to this: a snapshot can name as many others.
pub const MOST_ROUNDS: u32 = 60;

/// The file of a round.
pub fn round_file(number: u32) -> String {
    format!("round-{number}.snap")
}

/// What the sender's process has made and locked while it stands still.
pub const STANDING: &str = "standing";

/// What the receiver's process holds a lock on.
pub const RUNNING: &str = "running";

/// What that process has made before the program's first instruction.
pub const STARTED: &str = "started";

/// How far the transfer is.
const RECORD: &str = "record";

/// The program's executable, if it came with the state.
pub const EXECUTABLE: &str = "exe";

/// The program's module, while it is compiled.
pub const MODULE: &str = "module.wasm";

/// Which side of a transfer a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It had the program.
    Out,
    /// It gets the program.
    In,
}

impl Side {
    fn prefix(self) -> &'static str {
        match self {
            Side::Out => "out-",
            Side::In => "in-",
        }
    }
}

/// The directory of all transfers.
#[derive(Debug)]
pub struct Shelf {
    directory: PathBuf,
    store: Id,
}

/// A number from the system's random numbers.
pub fn random() -> io::Result<Id> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(Id(bytes))
}

impl Shelf {
    /// The user's: `$XDG_STATE_HOME/dunlin`, or `~/.local/state/dunlin`.
    pub fn of_user() -> io::Result<Shelf> {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
        let base = base.ok_or_else(|| {
            io::Error::new(
                ErrorKind::NotFound,
                "neither XDG_STATE_HOME nor HOME says where state is to be kept",
            )
        })?;
        Shelf::open(&base.join("dunlin"))
    }

    /// In a directory, which is made if need be and must be private to this user.
    pub fn open(directory: &Path) -> io::Result<Shelf> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        // Some of the directories above may be new.
        for above in directory
            .ancestors()
            .skip(1)
            .take(3)
            .filter(|d| !d.as_os_str().is_empty())
        {
            let _ = sync_directory(above);
        }
        let found = fs::symlink_metadata(directory)?;
        if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o077 != 0 {
            let why = format!(
                "{} must be a directory of your own that nobody else can use",
                directory.display()
            );
            return Err(io::Error::new(ErrorKind::PermissionDenied, why));
        }
        let directory = directory.canonicalize()?;
        let place = directory.join("store");
        let store = match fs::read(&place) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                // Two at once: whoever links first names it.
                let temporary = directory.join(format!(".store.{}", random()?));
                write_durably(&temporary, &random()?.0)?;
                let linked = fs::hard_link(&temporary, &place);
                let _ = fs::remove_file(&temporary);
                match linked {
                    Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
                    _ => sync_directory(&directory)?,
                }
                fs::read(&place)?
            }
            Err(e) => return Err(e),
        };
        let store = store.try_into().map(Id);
        let store = store.map_err(|_| {
            io::Error::new(
                ErrorKind::InvalidData,
                format!("{} is damaged: it has not 16 bytes", place.display()),
            )
        })?;
        Ok(Shelf { directory, store })
    }

    /// The name of this store of records.
    pub fn store(&self) -> Id {
        self.store
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, side: Side, attempt: Id) -> PathBuf {
        self.directory.join(format!("{}{attempt}", side.prefix()))
    }

    /// A file in the directory of the transfer.
    pub fn file(&self, side: Side, attempt: Id, name: &str) -> PathBuf {
        self.path(side, attempt).join(name)
    }

    /// Makes the place of a new transfer, and locks it.
    pub fn create(&self, side: Side, attempt: Id) -> io::Result<Place> {
        let path = self.path(side, attempt);
        if path.try_exists()? {
            return Err(ErrorKind::AlreadyExists.into());
        }
        // Locked before anyone can find it: one that is idle and has no record is removed by whoever sees it.
        let hidden = self.directory.join(format!(".{}{attempt}", side.prefix()));
        DirBuilder::new().mode(0o700).create(&hidden)?;
        let mut place = Place::lock(hidden)?;
        // The room for it, so that a full disk doesn't keep it from being written.
        slots::create(&place.file(RECORD))?;
        fs::rename(&place.path, &path)?;
        place.path = path;
        sync_directory(&self.directory)?;
        Ok(place)
    }

    /// Locks the place of a transfer, waiting for whoever works at it; `None` if there is none.
    pub fn find(&self, side: Side, attempt: Id) -> io::Result<Option<Place>> {
        match Place::lock(self.path(side, attempt)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Is there a directory of the transfer?
    pub fn has(&self, side: Side, attempt: Id) -> io::Result<bool> {
        self.path(side, attempt).try_exists()
    }

    /// Is there such a file in the directory of the transfer?
    pub fn has_file(&self, side: Side, attempt: Id, name: &str) -> io::Result<bool> {
        self.path(side, attempt).join(name).try_exists()
    }

    /// The text in such a file, whoever works at the transfer.
    pub fn read(&self, side: Side, attempt: Id, name: &str) -> io::Result<String> {
        fs::read_to_string(self.path(side, attempt).join(name))
    }

    /// As [`Shelf::find`], but doesn't wait: `None` also if somebody works at it.
    pub fn find_idle(&self, side: Side, attempt: Id) -> io::Result<Option<Place>> {
        match Place::try_lock(self.path(side, attempt)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            other => other,
        }
    }

    /// The transfers that aren't over, by side and attempt.
    pub fn list(&self) -> io::Result<Vec<(Side, Id)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            for side in [Side::Out, Side::In] {
                found.extend(name.strip_prefix(side.prefix()).and_then(parse).map(|id| (side, id)));
            }
        }
        found.sort_by_key(|(side, id)| (*side == Side::In, *id));
        Ok(found)
    }
}

/// Reads an [`Id`] as it is printed.
pub fn parse(text: &str) -> Option<Id> {
    let mut id = [0; 16];
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (n, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(Id(id))
}

/// The directory of one transfer, locked as long as this lives.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    lock: File,
}

impl Place {
    /// Locks a transfer's directory, waiting for whoever works at it.
    pub fn at(path: &Path) -> io::Result<Place> {
        Place::lock(path.to_owned())
    }

    fn lock(path: PathBuf) -> io::Result<Place> {
        loop {
            let lock = File::open(&path)?;
            flock(&lock, FlockOperation::LockExclusive)?;
            // While this waited, the other one may have removed it.
            let (held, there) = (lock.metadata()?, fs::metadata(&path)?);
            if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
                return Ok(Place { path, lock });
            }
        }
    }

    fn try_lock(path: PathBuf) -> io::Result<Option<Place>> {
        let lock = File::open(&path)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        let (held, there) = (lock.metadata()?, fs::metadata(&path)?);
        let same = (held.dev(), held.ino()) == (there.dev(), there.ino());
        Ok(same.then_some(Place { path, lock }))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Is there such a file in it?
    pub fn has(&self, name: &str) -> io::Result<bool> {
        self.file(name).try_exists()
    }

    /// The record; `None` if there is none. What is read is durable.
    pub fn record<R: Encoded>(&self) -> io::Result<Option<R>> {
        // Whoever wrote it may have died before it was.
        match File::open(self.file(RECORD)) {
            Ok(file) => file.sync_data()?,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        rustix::fs::fsync(&self.lock)?;
        read_record(&self.file(RECORD))
    }

    /// Notes in which boot of the machine this is.
    pub fn note_boot(&self) -> io::Result<()> {
        fs::write(self.file("boot"), boot()?)
    }

    /// Has the machine been up ever since [`Place::note_boot`]? False if that isn't known.
    pub fn is_same_boot(&self) -> bool {
        let noted = fs::read(self.file("boot")).ok().filter(|b| !b.is_empty());
        noted.is_some() && noted == boot().ok()
    }

    /// Makes the record be this one, or removes it, durably.
    pub fn persist(&self, record: Option<Vec<u8>>) -> io::Result<()> {
        let place = self.file(RECORD);
        match &record {
            Some(bytes) => slots::write(&place, bytes)?,
            None => remove_if_there(&place)?,
        }
        rustix::fs::fsync(&self.lock)?;
        // Others act on what is said to be durable: it must be what is there.
        match slots::read(&place)? == record {
            true => Ok(()),
            false => Err(io::Error::other("what was written is not what is there")),
        }
    }

    /// Removes the program's state and the rounds that it takes pages from.
    pub fn remove_state(&self) -> io::Result<()> {
        // First what needs the others.
        remove_if_there(&self.file(STATE))?;
        for number in 1..=MOST_ROUNDS {
            remove_if_there(&self.file(&round_file(number)))?;
        }
        Ok(())
    }

    /// Removes the directory with all that is in it; the record last, so that what a crash leaves is still known.
    pub fn remove(self) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.push(entry?.file_name());
        }
        names.sort_by_key(|name| name == RECORD);
        for name in names {
            remove_if_there(&self.path.join(name))?;
        }
        fs::remove_dir(&self.path)
    }
}

/// A name that the kernel gives to each boot (random(4)).
fn boot() -> io::Result<Vec<u8>> {
    fs::read("/proc/sys/kernel/random/boot_id")
}

/// Removes a file that may not be there.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Is a file locked by another open description of it: by a process that lives? False if there is no such file.
pub fn is_locked(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
        Ok(file) => match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(e) => Err(e.into()),
        },
    }
}

/// Reads a record; `None` if there is none.
pub fn read_record<R: Encoded>(path: &Path) -> io::Result<Option<R>> {
    let Some(bytes) = slots::read(path)? else {
        return Ok(None);
    };
    let damaged = |e| io::Error::new(ErrorKind::InvalidData, format!("{}: {e}", path.display()));
    R::decode(&bytes).map(Some).map_err(damaged)
}

/// Writes a new file and synchronises it; not its directory.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a directory's entries durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_handover::{SenderRecord, SenderStage, Transfer};
    use std::os::unix::fs::PermissionsExt;

    fn record() -> SenderRecord {
        let transfer = Transfer {
            program: Id([1; 16]),
            store: Id([2; 16]),
            attempt: Id([3; 16]),
        };
        let stage = SenderStage::Moving;
        SenderRecord { transfer, stage }
    }

    #[test]
    fn records_stay_until_they_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(&dir.path().join("a/dunlin")).unwrap();
        let attempt = record().transfer.attempt;
        let place = shelf.create(Side::Out, attempt).unwrap();
        assert_eq!(place.record::<SenderRecord>().unwrap(), None);
        place.persist(Some(record().encode())).unwrap();
        assert_eq!(place.record().unwrap(), Some(record()));
        drop(place);
        let again = Shelf::open(&dir.path().join("a/dunlin")).unwrap();
        assert_eq!(again.store(), shelf.store());
        assert_eq!(again.list().unwrap(), [(Side::Out, attempt)]);
        assert!(again.find(Side::In, attempt).unwrap().is_none());
        let place = again.find(Side::Out, attempt).unwrap().unwrap();
        fs::write(place.file(RECORD), b"nonsense").unwrap();
        assert_eq!(
            place.record::<SenderRecord>().unwrap_err().kind(),
            ErrorKind::InvalidData
        );
        place.persist(None).unwrap();
        place.remove().unwrap();
        assert_eq!(again.list().unwrap(), []);
    }

    #[test]
    fn one_works_at_a_transfer_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(&dir.path().join("d")).unwrap();
        let attempt = random().unwrap();
        let place = shelf.create(Side::In, attempt).unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| shelf.find(Side::In, attempt).unwrap().is_none());
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!other.is_finished());
            place.remove().unwrap();
            assert!(other.join().unwrap(), "what it waited for is gone");
        });
    }

    #[test]
    fn a_directory_that_others_can_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(Shelf::open(dir.path()).unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn ids_are_read_as_they_are_printed() {
        let id = random().unwrap();
        assert_eq!(parse(&id.to_string()), Some(id));
        assert_eq!(parse("x"), None);
        assert_eq!(parse(&"é".repeat(16)), None);
    }

    /// Receivers look at all transfers when they begin, and remove what has no record.
    #[test]
    fn a_new_transfer_is_not_taken_for_a_left_one() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(&dir.path().join("d")).unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(std::sync::atomic::Ordering::Relaxed) {
                        for (side, attempt) in shelf.list().unwrap() {
                            if let Ok(Some(place)) = shelf.find_idle(side, attempt) {
                                let _ = place.remove();
                            }
                        }
                    }
                });
            }
            for _ in 0..200 {
                let place = shelf.create(Side::In, random().unwrap()).unwrap();
                place.note_boot().unwrap();
                assert!(place.has(RECORD).unwrap());
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
