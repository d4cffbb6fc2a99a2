//! Which programs may come: this machine ([`Machine`]), within what `dunlin serve` allows, for one connection.

use crate::find::cache;
use crate::find::executables::{Kind, kind, verify};
use crate::moving::devices::Devices;
use crate::moving::machine::{Emulator, Machine};
use crate::serving::configuration::Executables;
use crate::serving::programs::Programs;
use crate::show;
use dunlin_format::module::ModuleHash;
use dunlin_interface::machine;
use dunlin_interface::options::Options;
use dunlin_migrate::preflight::Finding;
use dunlin_transfer::receiver::{Host, Started};
use dunlin_transfer::records::{Place, Shelf, Side, remove_if_there, write_durably};
use dunlin_transfer::wire::{About, FileKind, Terms};
use dunlin_trust::peers::Peers;
use dunlin_trust::{Directory, Key};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Whose transfer it is: a file in its directory.
const FROM: &str = "from";

/// Tells, in the directory of a transfer, that the executable there was sent, not compiled here.
const WAS_SENT: &str = "sent";

/// Transfers to this device that are open, at most: each keeps a program's state on the disk.
const MOST_OPEN: usize = 256;

/// Those of one device: it doesn't take all.
const MOST_OPEN_OF_ONE: usize = 16;

/// Bytes of the disk that stay free, whatever comes: records are still to be written, and others have to live, too.
const KEPT_FREE: u64 = 64 << 20;

/// What a device is told that was forgotten.
const NOT_PAIRED: &str = "this device is not paired with it any more";

/// Executables that paired devices have sent, in the directory of the user's state.
const SENT: &str = "sent";

/// What is allowed.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// What each program may use.
    pub options: Options,
    /// See [`Emulator`].
    pub emulator: Option<Emulator>,
    /// Which executables run.
    pub executables: Executables,
    /// How many programs may run at the same time.
    pub max_programs: usize,
    /// What all of them may take together, in bytes.
    pub total_memory: Option<u64>,
    /// Bytes of a module or executable.
    pub max_executable: u64,
    /// Bytes of a program's state; with the rounds before it, twice that.
    pub max_state: u64,
}

/// This machine for one connection.
#[derive(Debug)]
pub(crate) struct Admission {
    machine: Machine,
    rules: Arc<Rules>,
    programs: Arc<Programs>,
    directory: PathBuf,
    /// Whose connection it is; none when this device settles what is left.
    peer: Option<Key>,
    /// Where it calls from, until that is noted.
    pub called_from: Option<(Devices, IpAddr)>,
    /// A place is kept for a program that is about to come.
    reserved: bool,
    /// A program's state is here: it may have been released, so the connection should not be cut.
    pub decisive: Arc<AtomicBool>,
}

impl Admission {
    /// For a connection of that device. `None` on an architecture that programs aren't built for.
    pub(crate) fn new(
        rules: &Arc<Rules>,
        programs: &Arc<Programs>,
        shelf: &Shelf,
        peer: Option<Key>,
    ) -> Option<Admission> {
        Some(Admission {
            machine: Machine::new(rules.options.clone(), rules.emulator.clone(), shelf)?,
            rules: rules.clone(),
            programs: programs.clone(),
            directory: shelf.directory().to_owned(),
            peer,
            called_from: None,
            reserved: false,
            decisive: Arc::default(),
        })
    }

    /// Memory that each program may take.
    fn memory(&self) -> u64 {
        self.rules.options.max_memory.unwrap_or(0)
    }

    fn release(&mut self) {
        if std::mem::take(&mut self.reserved) {
            self.programs.release(self.memory());
        }
    }

    /// Keeps a place for a program, or tells why there is none.
    fn reserve(&mut self) -> Option<Finding> {
        let rules = &self.rules;
        let reserved = self
            .programs
            .reserve(self.memory(), rules.max_programs, rules.total_memory);
        let Err((count, taken)) = reserved else {
            self.reserved = true;
            return None;
        };
        Some(match count >= rules.max_programs {
            true => Finding::new(
                "programs",
                format!(
                    "as many programs as it takes ({}) run there already",
                    rules.max_programs
                ),
                "wait until one ends, or set max-programs in serve.toml there",
            ),
            false => Finding::new(
                "memory",
                format!(
                    "the programs there may take {} together, and {} is given away",
                    show::size(rules.total_memory.unwrap_or(0)),
                    show::size(taken)
                ),
                "wait until one ends, or set total-memory in serve.toml there",
            ),
        })
    }

    /// Was it compiled here, or may also what was sent run?
    fn may_run(&self, executable: &Path) -> bool {
        !was_sent(executable) || self.rules.executables == Executables::Paired
    }

    /// How many programs are on their way here, or stand still; and how many of them are this device's.
    fn open_transfers(&self) -> (usize, usize) {
        let Ok(shelf) = Shelf::open(&self.directory) else {
            return (0, 0);
        };
        let mut all = shelf.list().unwrap_or_default();
        all.retain(|(side, _)| *side == Side::In);
        let own = all.iter().filter(|(side, attempt)| {
            let from = fs::read_to_string(shelf.file(*side, *attempt, FROM));
            self.peer
                .is_some_and(|peer| from.is_ok_and(|from| from == peer.to_string()))
        });
        (all.len(), own.count())
    }

    /// It may have been forgotten since it has connected.
    fn is_still_paired(&self) -> bool {
        let peers = Directory::open(&self.directory).and_then(|d| Peers::read(&d));
        let known = |key| peers.is_ok_and(|peers| peers.by_key(key).is_some());
        self.peer.is_none_or(known)
    }

    fn must_be_paired(&self) -> Result<(), String> {
        let paired = self.is_still_paired();
        paired.then_some(()).ok_or_else(|| NOT_PAIRED.to_owned())
    }

    /// An executable that a paired device has sent earlier, if such may run.
    fn sent_before(&self, about: &About) -> Option<PathBuf> {
        let name = format!("{}.{}", ModuleHash(about.module), self.machine.arch);
        let path = self.directory.join(SENT).join(name);
        let allowed = self.rules.executables == Executables::Paired;
        let right = |path: &PathBuf| match kind(path) {
            Kind::Program(header) => {
                header.module.0 == about.module && header.arch == self.machine.arch && verify(path).is_ok()
            }
            _ => false,
        };
        allowed.then_some(path).filter(right)
    }
}

fn was_sent(executable: &Path) -> bool {
    executable.with_file_name(WAS_SENT).exists()
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.release();
    }
}

impl Host for Admission {
    fn greeted(&mut self) {
        if let (Some(peer), Some((devices, from))) = (self.peer, self.called_from.take()) {
            // It saves saying where it is, no more.
            let _ = devices.called_from(peer, from);
        }
    }

    fn terms(&mut self, about: &About) -> Terms {
        self.release();
        let mut terms = self.machine.terms(about);
        if !self.is_still_paired() {
            terms
                .findings
                .push(("paired".into(), NOT_PAIRED.into(), "`dunlin pair`".into()));
        }
        terms.takes_executables = self.rules.executables == Executables::Paired;
        terms.has_executable |= self.sent_before(about).is_some();
        let needed = about.needs().map_or(0, |n| n.snapshot_bytes);
        if needed > self.rules.max_state {
            let what = format!(
                "its state has up to {}, and {} may come",
                show::size(needed),
                show::size(self.rules.max_state)
            );
            let fix = "set max-state in serve.toml there";
            terms.findings.push(("state".into(), what, fix.into()));
        }
        let (open, own) = self.open_transfers();
        if open >= MOST_OPEN || own >= MOST_OPEN_OF_ONE {
            let what = format!("{open} moves to it are open, {own} of them from this device");
            let fix = "`dunlin settle` there, or where they came from";
            terms.findings.push(("open".into(), what, fix.into()));
        }
        if terms.findings.is_empty()
            && let Some(finding) = self.reserve()
        {
            terms.findings.push((finding.kind, finding.what, finding.fix));
        }
        terms
    }

    fn executable(&mut self, about: &About) -> Option<PathBuf> {
        self.machine.executable(about).or_else(|| self.sent_before(about))
    }

    fn is_its_peer(&mut self, place: &Place) -> bool {
        let Some(peer) = self.peer else { return true };
        fs::read_to_string(place.file(FROM)).is_ok_and(|key| key == peer.to_string())
    }

    fn note_peer(&mut self, place: &Place) -> io::Result<()> {
        match self.peer {
            Some(peer) => write_durably(&place.file(FROM), peer.to_string().as_bytes()),
            None => Ok(()),
        }
    }

    fn make_room(&mut self, kind: FileKind, len: u64, came: u64) -> Result<(), String> {
        self.must_be_paired()?;
        let (most, most_together) = match kind {
            FileKind::Executable | FileKind::Module => (self.rules.max_executable, u64::MAX),
            FileKind::Round(_) | FileKind::Snapshot => (self.rules.max_state, self.rules.max_state.saturating_mul(2)),
        };
        let together = came.saturating_add(len);
        let (comes, may_come) = match len > most {
            true => (len, most),
            false => (together, most_together),
        };
        if comes > may_come {
            return Err(format!(
                "it sends {}, and {} may come",
                show::size(comes),
                show::size(may_come)
            ));
        }
        let needed = len.saturating_add(KEPT_FREE);
        if machine::room(&self.directory.join("x")).is_some_and(|room| needed > room) {
            return Err(format!("there is no room for {} of it", show::size(len)));
        }
        Ok(())
    }

    fn compile(&mut self, about: &About, module: &Path, executable: &Path) -> Result<(), String> {
        self.machine.compile(about, module, executable)?;
        remove_if_there(&executable.with_file_name(WAS_SENT)).map_err(|e| e.to_string())
    }

    fn admit(&mut self, about: &About, executable: &Path) -> Result<(), String> {
        if self.rules.executables != Executables::Paired {
            return Err("only what was compiled there runs there".into());
        }
        // It is never taken for one that was compiled here.
        write_durably(&executable.with_file_name(WAS_SENT), b"").map_err(|e| e.to_string())?;
        self.machine.admit(about, executable)
    }

    fn expect(&mut self, about: &About, executable: &Path, place: &Place) {
        if self.may_run(executable) {
            self.machine.expect(about, executable, place);
        }
    }

    fn forget(&mut self) {
        self.machine.forget();
    }

    fn round(&mut self, about: &About, executable: &Path, place: &Place, number: u32) {
        if self.may_run(executable) {
            self.machine.round(about, executable, place, number);
        }
    }

    fn check(&mut self, about: &About, executable: &Path, snapshot: &Path) -> Result<(), String> {
        if !self.may_run(executable) {
            return Err("it was sent, and only what is compiled here runs here now".into());
        }
        self.must_be_paired()?;
        self.decisive.store(true, SeqCst);
        self.machine.check(about, executable, snapshot)
    }

    fn start(&mut self, about: &About, executable: &Path, place: &Place) -> Result<Started, String> {
        if !self.may_run(executable) {
            return Err("it was sent, and only what is compiled here runs here now".into());
        }
        self.must_be_paired()?;
        // On another connection than the one on which it came, or after a restart, no place is kept for it.
        if !self.reserved
            && let Some(finding) = self.reserve()
        {
            return Err(finding.what);
        }
        let started = self.machine.start(about, executable, place)?;
        self.programs.add(started.pid, &about.name, self.memory());
        self.release();
        Ok(started)
    }

    fn keep(&mut self, about: &About, executable: &Path) {
        if !was_sent(executable) {
            return self.machine.keep(about, executable);
        }
        if let Ok(bytes) = fs::read(executable) {
            let directory = self.directory.join(SENT);
            let _ = cache::keep_in(&directory, ModuleHash(about.module), self.machine.arch, &bytes);
        }
    }

    fn tell(&mut self, about: &str, report: &str) {
        let about = match about {
            "" => String::new(),
            name => format!("{}: ", show::clean(name)),
        };
        show::complain(&format!("dunlin serve: {about}{}", show::clean(report)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_transfer::records::random;

    /// Admissions with these rules for two devices, and for none.
    fn three(state: &Path, executables: Executables) -> ([Admission; 3], Shelf) {
        let shelf = Shelf::open(state).unwrap();
        let rules = Rules {
            options: Options {
                max_memory: Some(10),
                ..Options::default()
            },
            emulator: None,
            executables,
            max_programs: 2,
            total_memory: Some(20),
            max_executable: 100,
            max_state: 1000,
        };
        let directory = Directory::open(state).unwrap();
        for key in [1, 2] {
            Peers::add(&directory, "p", Key([key; 32]), None).unwrap();
        }
        let (rules, programs) = (Arc::new(rules), Arc::new(Programs::open(shelf.directory()).unwrap()));
        let of = |peer| Admission::new(&rules, &programs, &shelf, peer).unwrap();
        let all = [Some(Key([1; 32])), Some(Key([2; 32])), None].map(of);
        (all, shelf)
    }

    fn about() -> About {
        About {
            name: "p".into(),
            module: [7; 32],
            needs: String::new(),
        }
    }

    #[test]
    fn a_transfer_is_only_its_devices() {
        let dir = tempfile::tempdir().unwrap();
        let ([mut first, mut second, mut own], shelf) = three(&dir.path().join("d"), Executables::Paired);
        let place = shelf.create(Side::In, random().unwrap()).unwrap();
        // One that came through ssh is no device's.
        assert!(!first.is_its_peer(&place) && own.is_its_peer(&place));
        first.note_peer(&place).unwrap();
        assert!(first.is_its_peer(&place) && !second.is_its_peer(&place) && own.is_its_peer(&place));
    }

    #[test]
    fn one_device_does_not_open_all_transfers() {
        let dir = tempfile::tempdir().unwrap();
        let ([mut first, mut second, _], shelf) = three(&dir.path().join("d"), Executables::Paired);
        for _ in 0..MOST_OPEN_OF_ONE {
            let place = shelf.create(Side::In, random().unwrap()).unwrap();
            first.note_peer(&place).unwrap();
        }
        let open = |terms: Terms| terms.findings.iter().any(|(kind, ..)| kind == "open");
        assert!(open(first.terms(&about())) && !open(second.terms(&about())));
    }

    #[test]
    fn a_device_that_was_forgotten_brings_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("d");
        let ([mut first, second, own], shelf) = three(&state, Executables::Paired);
        let place = shelf.create(Side::In, random().unwrap()).unwrap();
        Peers::forget(&Directory::open(&state).unwrap(), "p").unwrap();
        let refused = Err(NOT_PAIRED.to_owned());
        assert_eq!(first.make_room(FileKind::Snapshot, 1, 0), refused);
        assert_eq!(
            first.check(&about(), Path::new("exe"), &place.file("state.snap")),
            refused
        );
        assert!(!first.decisive.load(SeqCst));
        assert_eq!(first.start(&about(), Path::new("exe"), &place).unwrap_err(), NOT_PAIRED);
        for mut other in [second, own] {
            assert_eq!(other.make_room(FileKind::Snapshot, 1, 0), Ok(()));
        }
    }

    #[test]
    fn what_was_sent_does_not_run_where_only_what_was_compiled_does() {
        let dir = tempfile::tempdir().unwrap();
        let ([mut host, ..], shelf) = three(&dir.path().join("d"), Executables::CompiledHere);
        let place = shelf.create(Side::In, random().unwrap()).unwrap();
        let exe = place.file("exe");
        fs::write(&exe, "x").unwrap();
        let why = host.admit(&about(), &exe).unwrap_err();
        assert!(why.contains("compiled there"), "{why}");
        // It came when that was allowed.
        fs::write(place.file(WAS_SENT), "").unwrap();
        let why = host.start(&about(), &exe, &place).unwrap_err();
        assert!(why.contains("it was sent"), "{why}");
        host.keep(&about(), &exe);
        let kept = fs::read_dir(shelf.directory().join(SENT)).unwrap();
        assert_eq!(kept.count(), 1);
        assert_eq!(host.executable(&about()), None);
    }

    #[test]
    fn sizes_and_numbers_are_limited() {
        let dir = tempfile::tempdir().unwrap();
        let ([mut first, mut second, mut third], _shelf) = three(&dir.path().join("d"), Executables::Paired);
        for (kind, most) in [
            (FileKind::Module, 100),
            (FileKind::Executable, 100),
            (FileKind::Snapshot, 1000),
        ] {
            assert_eq!(first.make_room(kind, most, 0), Ok(()));
            assert!(first.make_room(kind, most + 1, 0).is_err());
        }
        for kind in [FileKind::Round(3), FileKind::Snapshot] {
            assert_eq!(first.make_room(kind, 1000, 1000), Ok(()));
            let why = first.make_room(kind, 1000, 1001).unwrap_err();
            assert!(why.contains("may come"), "{why}");
            assert!(first.make_room(kind, u64::MAX, u64::MAX).is_err());
        }
        assert!(first.reserve().is_none() && second.reserve().is_none());
        assert_eq!(third.reserve().unwrap().kind, "programs");
        drop(first);
        assert!(third.reserve().is_none());
        second.release();
        second.release();
        assert!(second.reserve().is_none() && second.reserve().is_some());
    }
}
