//! Both sides of a transfer, with a program and a machine that only count, over a connection that is cut after every
//! byte: in the end the program runs in one place, or stands still and is settled by the next contact.

use dunlin_handover::{
    Encoded, Id, ReceiverRecord, ReceiverStage, SenderRecord, SenderStage, Settle, ToReceiver, ToSender, Transfer,
};
use dunlin_migrate::preflight::Finding;
use dunlin_transfer::link::{Link, LinkError};
use dunlin_transfer::receiver::{self, Host, Started};
use dunlin_transfer::records::{Place, Shelf, Side, round_file};
use dunlin_transfer::sender::{self, Outcome, Precopy, Program, Round, Way};
use dunlin_transfer::wire::{About, Frame, Terms};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const STATE: &[u8] = b"the whole state of the program";

/// Rounds of pre-copy in each move.
const ROUNDS: u32 = 2;

/// Where the program runs.
#[derive(Debug, Default)]
struct World {
    here: bool,
    ended: bool,
    started_there: u32,
    processes: Vec<File>,
}

type Shared = Arc<Mutex<World>>;

struct Counting {
    world: Shared,
    standing: Option<(PathBuf, File)>,
}

impl Program for Counting {
    fn round(&mut self, place: &Place, number: u32) -> Result<Option<Round>, String> {
        assert!(self.world.lock().unwrap().here);
        fs::write(place.file(&round_file(number)), [number as u8; 3]).unwrap();
        let bytes = 30 / u64::from(number);
        let write = Duration::from_secs(1);
        Ok(Some(Round {
            bytes,
            write,
            ..Round::default()
        }))
    }

    fn stop(&mut self, place: &Place) -> Result<(), String> {
        fs::write(place.file("state.snap"), STATE).unwrap();
        let path = place.file("standing");
        let file = File::create(&path).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        self.standing = Some((path, file));
        self.world.lock().unwrap().here = false;
        Ok(())
    }

    fn go_on(&mut self) -> Result<(), String> {
        if let Some((path, _)) = self.standing.take() {
            fs::remove_file(path).unwrap();
        }
        let mut world = self.world.lock().unwrap();
        assert!(!world.ended && world.started_there == 0, "twice");
        world.here = true;
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        self.standing = None;
        let mut world = self.world.lock().unwrap();
        assert!(!world.here);
        world.ended = true;
        Ok(())
    }
}

struct Machine {
    world: Shared,
    refuses: bool,
    has_executable: Option<PathBuf>,
    /// Where something was started ahead, and how many rounds it has heard of.
    ahead: Option<(PathBuf, u32)>,
}

impl Host for Machine {
    fn terms(&mut self, about: &About) -> Terms {
        assert_eq!(about.name, "p");
        Terms {
            arch: "x86_64".into(),
            has_executable: self.has_executable.is_some(),
            takes_executables: true,
            findings: match self.refuses {
                true => vec![("memory".into(), "too large".into(), "stay".into())],
                false => vec![],
            },
        }
    }

    fn executable(&mut self, _: &About) -> Option<PathBuf> {
        self.has_executable.clone()
    }

    fn compile(&mut self, _: &About, _: &Path, _: &Path) -> Result<(), String> {
        Err("nothing is compiled here".into())
    }

    fn admit(&mut self, _: &About, executable: &Path) -> Result<(), String> {
        assert_eq!(fs::read(executable).unwrap(), b"code");
        Ok(())
    }

    fn round(&mut self, _: &About, executable: &Path, place: &Place, number: u32) {
        assert!(executable.exists());
        assert_eq!(fs::read(place.file(&round_file(number))).unwrap(), [number as u8; 3]);
        let ahead = self.ahead.as_mut().expect("the executable came before");
        assert_eq!(*ahead, (place.path().to_owned(), number - 1));
        ahead.1 = number;
    }

    fn expect(&mut self, _: &About, executable: &Path, place: &Place) {
        assert_eq!(fs::read(executable).unwrap(), b"code");
        self.ahead = Some((place.path().to_owned(), 0));
    }

    fn forget(&mut self) {
        self.ahead = None;
    }

    fn check(&mut self, _: &About, executable: &Path, snapshot: &Path) -> Result<(), String> {
        assert!(executable.exists());
        let ahead = self.ahead.as_ref().expect("the executable came before");
        assert_eq!(Some(ahead.0.as_path()), snapshot.parent());
        for number in 1..=ROUNDS {
            assert!(snapshot.with_file_name(round_file(number)).exists());
        }
        assert_eq!(fs::read(snapshot).unwrap(), STATE);
        Ok(())
    }

    fn start(&mut self, _: &About, executable: &Path, place: &Place) -> Result<Started, String> {
        assert!(executable.exists());
        assert_eq!(fs::read(place.file("state.snap")).unwrap(), STATE);
        let file = File::create(place.file("running")).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        File::create_new(place.file("started")).unwrap();
        let mut world = self.world.lock().unwrap();
        assert!(!world.here, "twice");
        world.started_there += 1;
        self.ahead = None;
        world.processes.push(file);
        let log = PathBuf::from("/log");
        Ok(Started { pid: 7, log })
    }

    fn keep(&mut self, _: &About, executable: &Path) {
        assert!(executable.exists());
    }

    fn tell(&mut self, _: &str, _: &str) {}
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.ahead.is_some() {
            // A panic of this thread would fail no test.
            eprintln!("what was started ahead outlives the connection");
            std::process::abort();
        }
    }
}

/// A stream that breaks after so many bytes, in both directions together.
struct Brittle {
    stream: UnixStream,
    left: Arc<AtomicU64>,
}

impl Brittle {
    fn allowed(&self, wanted: usize) -> io::Result<usize> {
        let left = self.left.load(SeqCst);
        if left == 0 {
            let _ = self.stream.shutdown(Shutdown::Both);
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(wanted.min(left as usize))
    }
}

impl Read for Brittle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.allowed(buffer.len())?;
        let n = self.stream.read(&mut buffer[..n])?;
        self.left.fetch_sub((n as u64).min(self.left.load(SeqCst)), SeqCst);
        Ok(n)
    }
}

impl Write for Brittle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.allowed(bytes.len())?;
        let n = self.stream.write(&bytes[..n])?;
        self.left.fetch_sub((n as u64).min(self.left.load(SeqCst)), SeqCst);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written to last is closed.
struct Closing(Brittle);

impl Write for Closing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let _ = self.0.stream.shutdown(Shutdown::Write);
    }
}

fn link(stream: UnixStream, left: &Arc<AtomicU64>) -> Link {
    let end = stream.try_clone().unwrap();
    let from = Brittle {
        stream: stream.try_clone().unwrap(),
        left: left.clone(),
    };
    let left = left.clone();
    Link::new(from, Closing(Brittle { stream, left }), move || {
        drop(end.shutdown(Shutdown::Both))
    })
    .unwrap()
}

struct Scene {
    dir: tempfile::TempDir,
    world: Shared,
    refuses: bool,
    has_executable: bool,
}

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("exe"), b"code").unwrap();
        let world = World {
            here: true,
            ..World::default()
        };
        Scene {
            dir,
            world: Arc::new(Mutex::new(world)),
            refuses: false,
            has_executable: false,
        }
    }

    fn shelf(&self, side: &str) -> Shelf {
        Shelf::open(&self.dir.path().join(side)).unwrap()
    }

    /// A connection to a receiver of its own, which breaks after so many bytes.
    fn connect(&self, bytes: u64) -> (Link, Arc<AtomicU64>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let left = Arc::new(AtomicU64::new(bytes));
        let shelf = self.shelf("there");
        let mut machine = Machine {
            world: self.world.clone(),
            refuses: self.refuses,
            has_executable: self.has_executable.then(|| self.dir.path().join("exe")),
            ahead: None,
        };
        let unlimited = Arc::new(AtomicU64::new(u64::MAX));
        std::thread::spawn(move || {
            let _ = receiver::serve(&link(theirs, &unlimited), &shelf, &mut machine);
        });
        (link(ours, &left), left)
    }

    /// Moves the program over a connection that breaks after `first` bytes; later ones after `later`.
    fn migrate(&self, first: u64, later: u64) -> (Outcome, u64) {
        let about = About {
            name: "p".into(),
            module: [1; 32],
            needs: "{}".into(),
        };
        let mut program = Counting {
            world: self.world.clone(),
            standing: None,
        };
        let mut lefts = Vec::new();
        let mut connect = || {
            let bytes = if lefts.is_empty() { first } else { later };
            if bytes == 0 {
                return Err(LinkError::Closed);
            }
            let (link, left) = self.connect(bytes);
            lefts.push(left);
            Ok(link)
        };
        let exe = self.dir.path().join("exe");
        let mut way = Way {
            connect: &mut connect,
            executable: &|_| Ok(exe.clone()),
            precopy: Some(&Precopy {
                downtime: Duration::ZERO,
                max_rounds: ROUNDS,
                bandwidth: None,
            }),
            module: &|| Err("there is no module".into()),
            progress: &mut |_| true,
        };
        let outcome = sender::migrate(&self.shelf("here"), "peer", &about, &mut program, &mut way).unwrap();
        let used = lefts.first().map_or(0, |left| first - left.load(SeqCst));
        (outcome, used)
    }

    /// What the outcome says is so; what is in doubt is settled.
    fn check(&self, outcome: Outcome) -> &'static str {
        let (here, there) = {
            let world = self.world.lock().unwrap();
            (world.here, world.started_there)
        };
        match outcome {
            Outcome::Moved(_) => {
                assert!(!here && there == 1);
                assert!(self.world.lock().unwrap().ended);
                "moved"
            }
            Outcome::Home(_) | Outcome::Refused(_) => {
                assert!(here && there == 0);
                "home"
            }
            Outcome::InDoubt { attempt, .. } => {
                assert!(!here && there <= 1);
                let shelf = self.shelf("here");
                let place = shelf.find(Side::Out, attempt).unwrap().unwrap();
                assert!(place.record::<SenderRecord>().unwrap().is_some());
                drop(place);
                let mut program = Counting {
                    world: self.world.clone(),
                    standing: None,
                };
                let mut connect = || Ok(self.connect(u64::MAX).0);
                let settled = sender::settle(&shelf, attempt, &mut program, Settle::Again, &mut connect).unwrap();
                assert!(matches!(settled, Some(Outcome::Moved(_))), "{settled:?}");
                assert_eq!(self.world.lock().unwrap().started_there, 1);
                "settled"
            }
            Outcome::Standing { .. } => panic!("it stands still"),
        }
    }

    /// The next contact leaves nothing of what is over.
    fn is_tidied(&self) {
        assert_eq!(self.shelf("here").list().unwrap(), []);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !self.shelf("there").list().unwrap().is_empty() {
            assert!(std::time::Instant::now() < deadline, "{:?}", self.shelf("there").list());
            // Whoever asks for terms hears what is left of earlier transfers, and says what it knows of them.
            let _ = self.contact();
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn contact(&self) -> Outcome {
        let scene = Scene {
            dir: tempfile::tempdir().unwrap(),
            world: Arc::default(),
            refuses: true,
            has_executable: false,
        };
        let about = About {
            name: "p".into(),
            module: [1; 32],
            needs: "{}".into(),
        };
        let mut program = Counting {
            world: scene.world.clone(),
            standing: None,
        };
        let mut connect = || {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let unlimited = Arc::new(AtomicU64::new(u64::MAX));
            let (shelf, world, limit) = (self.shelf("there"), scene.world.clone(), unlimited.clone());
            std::thread::spawn(move || {
                let mut machine = Machine {
                    world,
                    refuses: true,
                    has_executable: None,
                    ahead: None,
                };
                let _ = receiver::serve(&link(theirs, &limit), &shelf, &mut machine);
            });
            Ok(link(ours, &unlimited))
        };
        let mut way = Way {
            connect: &mut connect,
            executable: &|_| Err(String::new()),
            precopy: None,
            module: &|| Err("there is no module".into()),
            progress: &mut |_| true,
        };
        sender::migrate(&self.shelf("here"), "peer", &about, &mut program, &mut way).unwrap()
    }
}

#[test]
fn a_program_moves() {
    for has_executable in [false, true] {
        let scene = Scene {
            has_executable,
            ..Scene::new()
        };
        let (outcome, _) = scene.migrate(u64::MAX, u64::MAX);
        let Outcome::Moved(moved) = &outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(moved.runs, Some((7, "/log".to_owned())));
        assert_eq!(moved.executable_bytes, if has_executable { 0 } else { 4 });
        assert_eq!(moved.state_bytes, STATE.len() as u64);
        let rounds: Vec<u64> = moved.rounds.iter().map(|r| r.round.bytes).collect();
        assert_eq!(rounds, [30, 15]);
        assert_eq!(scene.check(outcome), "moved");
        scene.is_tidied();
    }
}

#[test]
fn what_stands_in_the_way_is_told_before_anything_is_sent() {
    let scene = Scene {
        refuses: true,
        ..Scene::new()
    };
    let (outcome, _) = scene.migrate(u64::MAX, u64::MAX);
    let Outcome::Refused(findings) = &outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(findings[..], [Finding::new("memory", "too large", "stay")]);
    assert_eq!(scene.check(outcome), "home");
    assert_eq!(scene.shelf("here").list().unwrap(), []);
    assert_eq!(scene.shelf("there").list().unwrap(), []);
}

/// Cut after every byte (`DUNLIN_FULL`; else after every 17th), with and without a connection afterwards.
#[test]
fn a_connection_may_end_after_any_byte() {
    let whole = Scene::new().migrate(u64::MAX, u64::MAX).1;
    assert!(whole > 500, "{whole}");
    let step = if std::env::var_os("DUNLIN_FULL").is_some() {
        1
    } else {
        17
    };
    let mut seen = std::collections::BTreeMap::<_, u32>::new();
    for later in [u64::MAX, 0] {
        for first in (1..whole + 20).step_by(step) {
            // Without another connection whoever is in doubt tries for twenty seconds.
            if later == 0 && first > 1 && first % (step as u64 * 8) != 1 {
                continue;
            }
            let scene = Scene::new();
            let (outcome, _) = scene.migrate(first, later);
            *seen.entry((later == 0, scene.check(outcome))).or_default() += 1;
            scene.is_tidied();
        }
    }
    assert!(seen[&(false, "home")] > 3 && seen[&(false, "moved")] > 1, "{seen:?}");
    let settled: u32 = seen
        .iter()
        .filter(|((_, how), _)| *how == "settled")
        .map(|(_, n)| n)
        .sum();
    assert!(settled > 0, "{seen:?}");
    println!("{seen:?}");
}

/// A released program whose receiver is gone for good: a person says what becomes of it, without any connection.
#[test]
fn a_person_settles_what_nobody_answers_for() {
    for (how, here) in [(Settle::Here, true), (Settle::Forget, false), (Settle::Again, false)] {
        let scene = Scene::new();
        scene.world.lock().unwrap().here = false;
        let shelf = scene.shelf("here");
        let transfer = Transfer {
            program: Id([1; 16]),
            store: shelf.store(),
            attempt: Id([2; 16]),
        };
        let stage = SenderStage::Released {
            receipt: Id([3; 16]),
            own: true,
        };
        let place = shelf.create(Side::Out, transfer.attempt).unwrap();
        fs::write(place.file("state.snap"), STATE).unwrap();
        place.persist(Some(SenderRecord { transfer, stage }.encode())).unwrap();
        drop(place);
        let mut program = Counting {
            world: scene.world.clone(),
            standing: None,
        };
        let mut connect = || Err(LinkError::Closed);
        let settled = sender::settle(&shelf, transfer.attempt, &mut program, how, &mut connect).unwrap();
        assert_eq!(scene.world.lock().unwrap().here, here, "{how:?}");
        match how {
            // Nobody guesses.
            Settle::Again => {
                assert!(matches!(settled, Some(Outcome::InDoubt { .. })), "{settled:?}");
                let place = shelf.find(Side::Out, transfer.attempt).unwrap().unwrap();
                assert_eq!(fs::read(place.file("state.snap")).unwrap(), STATE);
            }
            Settle::Here | Settle::Forget => assert_eq!(shelf.list().unwrap(), [], "{how:?}"),
        }
    }
}

/// The receiver crashed after it had noted that the program belongs here: what is left says whether anything ran.
#[test]
fn what_is_left_of_a_start_decides_whether_it_is_made_again() {
    for (left, starts, taken) in [
        ("nothing", 1, true),
        ("mark", 0, false),
        ("process", 0, true),
        ("nothing, in another boot", 0, false),
    ] {
        let scene = Scene {
            has_executable: true,
            ..Scene::new()
        };
        scene.world.lock().unwrap().here = false;
        let shelf = scene.shelf("there");
        let transfer = Transfer {
            program: Id([1; 16]),
            store: Id([4; 16]),
            attempt: Id([2; 16]),
        };
        let receipt = Id([3; 16]);
        let place = shelf.create(Side::In, transfer.attempt).unwrap();
        let about = About {
            name: "p".into(),
            module: [1; 32],
            needs: "{}".into(),
        };
        fs::write(place.file("about"), postcard::to_stdvec(&about).unwrap()).unwrap();
        fs::write(place.file("state.snap"), STATE).unwrap();
        place.note_boot().unwrap();
        let mut process = None;
        match left {
            "mark" => fs::write(place.file("started"), "").unwrap(),
            "process" => {
                fs::write(place.file("started"), "").unwrap();
                let running = File::create(place.file("running")).unwrap();
                flock(&running, FlockOperation::LockExclusive).unwrap();
                process = Some(running);
            }
            "nothing, in another boot" => fs::write(place.file("boot"), "another").unwrap(),
            _ => {}
        }
        let stage = ReceiverStage::Running { last: false };
        let record = ReceiverRecord {
            transfer,
            receipt,
            stage,
        };
        place.persist(Some(record.encode())).unwrap();
        drop(place);
        let (link, _) = scene.connect(u64::MAX);
        link.greet(transfer.store).unwrap();
        assert!(matches!(link.receive().unwrap(), Frame::Hello { .. }));
        let commit = ToReceiver::Commit {
            transfer,
            receipt,
            last: false,
        };
        link.send(&Frame::Handover(commit.encode())).unwrap();
        let said = loop {
            match link.receive().unwrap() {
                Frame::Runs { .. } => {}
                Frame::Handover(bytes) => break ToSender::decode(&bytes).ok(),
                Frame::Error(why) => {
                    assert!(why.contains("dunlin settle"), "{why}");
                    break None;
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(said, taken.then_some(ToSender::Taken { transfer, receipt }), "{left}");
        assert_eq!(scene.world.lock().unwrap().started_there, starts, "{left}");
        drop(process);
    }
}
