//! A program and a machine that only count, and connections that break: what both sides of a transfer do with them.

use dunlin_handover::{SenderRecord, Settle};
use dunlin_transfer::link::{Link, LinkError};
use dunlin_transfer::receiver::{self, Host, Started};
use dunlin_transfer::records::{Place, Shelf, Side, round_file};
use dunlin_transfer::sender::{self, Outcome, Precopy, Program, Round, Way};
use dunlin_transfer::wire::{About, Terms};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const STATE: &[u8] = b"the whole state of the program";

/// Rounds of pre-copy in each move.
pub(crate) const ROUNDS: u32 = 2;

/// Where the program runs.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub here: bool,
    pub ended: bool,
    pub started_there: u32,
    pub processes: Vec<File>,
}

pub(crate) type Shared = Arc<Mutex<World>>;

pub(crate) struct Counting {
    pub world: Shared,
    pub standing: Option<(PathBuf, File)>,
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

pub(crate) struct Machine {
    pub world: Shared,
    pub refuses: bool,
    pub has_executable: Option<PathBuf>,
    /// Where something was started ahead, and how many rounds it has heard of.
    pub ahead: Option<(PathBuf, u32)>,
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
pub(crate) struct Brittle {
    pub stream: UnixStream,
    pub left: Arc<AtomicU64>,
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
pub(crate) struct Closing(Brittle);

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

pub(crate) fn link(stream: UnixStream, left: &Arc<AtomicU64>) -> Link {
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

pub(crate) struct Scene {
    pub dir: tempfile::TempDir,
    pub world: Shared,
    pub refuses: bool,
    pub has_executable: bool,
}

impl Scene {
    pub(crate) fn new() -> Scene {
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

    pub(crate) fn shelf(&self, side: &str) -> Shelf {
        Shelf::open(&self.dir.path().join(side)).unwrap()
    }

    /// A connection to a receiver of its own, which breaks after so many bytes.
    pub(crate) fn connect(&self, bytes: u64) -> (Link, Arc<AtomicU64>) {
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
    pub(crate) fn migrate(&self, first: u64, later: u64) -> (Outcome, u64) {
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
    pub(crate) fn check(&self, outcome: Outcome) -> &'static str {
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
    pub(crate) fn is_tidied(&self) {
        assert_eq!(self.shelf("here").list().unwrap(), []);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !self.shelf("there").list().unwrap().is_empty() {
            assert!(std::time::Instant::now() < deadline, "{:?}", self.shelf("there").list());
            // Whoever asks for terms hears what is left of earlier transfers, and says what it knows of them.
            let _ = self.contact();
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn contact(&self) -> Outcome {
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
