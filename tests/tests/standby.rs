//! Programs that go on in a process that was started before they came: it has taken in earlier snapshots, gets the last
//! one, and is told to go. What ends before that leaves no trace.

use dunlin_format::arch::Arch;
use dunlin_migrate::snapshot::PAGE_SIZE;
use dunlin_migrate::standby::{Answer, Order, line, next};
use dunlin_tests::forge::{Dice, forge};
use dunlin_tests::guest::clang;
use dunlin_tests::process::{Input, Outcome, Running, start};
use dunlin_tests::program::{Program, Run, scratch};
use dunlin_tests::snapshots::load;
use dunlin_tests::tools;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use std::fs;
use std::io::{PipeReader, Write, pipe};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take, qemu and a busy machine included.
const PATIENCE: Duration = Duration::from_secs(120);

/// How far the program counts.
const LAST: &str = "150";

/// One process is started at a time: each gets a pipe that no other should.
static STARTING: Mutex<()> = Mutex::new(());

/// The program, snapshots of one run of it, and what it says in all.
struct Recorded {
    program: Program,
    dir: TempDir,
    said: String,
}

static RECORDED: LazyLock<Recorded> = LazyLock::new(|| {
    let dir = scratch();
    let module = dir.path().join("pages.wasm");
    clang(&[tools::root().join("tests/programs/pages.c")], &[], &module);
    let program = Program::build(&module);
    let snapshots = dir.path().join("snapshots");
    let run = program.on(Arch::host().unwrap()).args([LAST]).opts([
        "--checkpoint-every",
        "10ms",
        "--keep",
        "1000",
        "--checkpoint-to",
        snapshots.to_str().unwrap(),
    ]);
    let mut running = spawn(&run);
    // Killed, or the snapshots would go with it.
    running.wait_for("\n140 ");
    running.signal(Signal::KILL);
    running.finish();
    let said = finish(spawn(&program.on(Arch::host().unwrap()).args([LAST])));
    Recorded { program, dir, said }
});

fn spawn(run: &Run) -> Running {
    let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    start(run.command(), Input::Empty, PATIENCE)
}

fn finish(running: Running) -> String {
    running.finish().expect_code(0).out()
}

/// Snapshots, in their order.
fn recorded() -> Vec<PathBuf> {
    let entries = fs::read_dir(RECORDED.dir.path().join("snapshots")).unwrap();
    let mut paths: Vec<PathBuf> = entries
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "snap"))
        .collect();
    paths.sort_unstable();
    assert!(paths.len() > 5, "{} snapshots", paths.len());
    paths
}

/// A directory with these snapshots and all that they need.
fn copied() -> (TempDir, Vec<PathBuf>) {
    let dir = scratch();
    let copy = |path: &PathBuf| {
        let to = dir.path().join(path.file_name().unwrap());
        fs::copy(path, &to).unwrap();
        to
    };
    let paths = recorded().iter().map(copy).collect();
    (dir, paths)
}

/// What the program says when it goes on from a snapshot as ever.
fn plainly(snapshot: &Path) -> String {
    finish(spawn(&RECORDED.program.on(Arch::host().unwrap()).resume(snapshot)))
}

/// A process that waits for the program.
struct Standby {
    process: Running,
    told: PipeReader,
    place: TempDir,
}

impl Standby {
    fn start(arch: Arch, options: &[&str]) -> Standby {
        let place = scratch();
        let (told, tell) = pipe().unwrap();
        let started = format!("{}:{}", tell.as_raw_fd(), place.path().join("started").display());
        let run = RECORDED.program.on(arch).opts(["--standby"]).opts(options.to_vec());
        let command = run.env("DUNLIN_STARTED", started).command();
        let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        fcntl_setfd(&tell, FdFlags::empty()).unwrap();
        let process = start(command, Input::Held, PATIENCE);
        Standby { process, told, place }
    }

    fn tell(&mut self, order: &Order) {
        let line = line(order).unwrap();
        self.process.stdin().as_mut().unwrap().write_all(&line).unwrap();
    }

    fn ask(&mut self, order: &Order) -> Option<Answer> {
        self.tell(order);
        next(&mut self.told).unwrap()
    }

    fn round(&mut self, path: &Path) {
        assert_eq!(self.ask(&Order::Round(path.to_owned())), Some(Answer::Held));
    }

    fn state(&mut self, path: &Path) {
        assert_eq!(self.ask(&Order::State(path.to_owned())), Some(Answer::Ready));
    }

    /// Why it doesn't want what it is given; it ends then, and leaves nothing.
    fn refuses(mut self, order: &Order) -> String {
        let Some(Answer::No(why)) = self.ask(order) else {
            panic!("{order:?} is not refused");
        };
        self.has_left_nothing();
        why
    }

    fn is_started(&self) -> bool {
        self.place.path().join("started").exists()
    }

    fn go(mut self) -> Outcome {
        assert!(!self.is_started() && self.process.stdout_so_far().is_empty());
        self.tell(&Order::Go);
        let mut byte = [0];
        std::io::Read::read_exact(&mut self.told, &mut byte).unwrap();
        assert!(byte == *b"r" && self.is_started());
        self.process.finish().expect_code(0)
    }

    fn has_left_nothing(mut self) {
        drop(self.process.stdin().take());
        let place = self.place;
        let ended = self.process.finish();
        assert!(ended.stdout.is_empty() && ended.stderr.is_empty(), "{ended}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        assert_eq!(std::io::Read::read(&mut self.told, &mut [0]).unwrap(), 0);
    }
}

#[test]
fn what_has_come_in_rounds_goes_on_as_ever() {
    let all = recorded();
    for arch in Arch::ALL {
        // All rounds, some of them, the state alone; and one that is complete by itself after one that isn't its base.
        for rounds in [&all[..], &all[1..all.len() / 2], &all[..1], &[]] {
            let mut standby = Standby::start(arch, &[]);
            rounds.iter().for_each(|path| standby.round(path));
            let last = &all[all.len() - 1];
            standby.state(last);
            let said = standby.go().out();
            assert!(RECORDED.said.ends_with(&said) && said.ends_with("done\n"), "{said}");
            assert_eq!(said, plainly(last));
        }
    }
}

#[test]
fn rounds_may_come_in_any_order_and_lie() {
    let all = recorded();
    let dir = scratch();
    // A well-formed snapshot, complete by itself, of the same sizes, with other bytes in every page, and one of zeros.
    let (other, zeros) = (dir.path().join("other"), dir.path().join("zeros"));
    // (The first of all takes nothing from others.)
    let mut forged = load(&all[0]);
    forged.memories[0].fill(0);
    forged.store(&zeros);
    forged.memories[0].fill(0x5a);
    forged.state.globals.clear();
    forged.store(&other);
    let middle = &all[all.len() / 2];
    let mut standby = Standby::start(Arch::host().unwrap(), &[]);
    for path in [&all[all.len() - 1], &other, &all[1], &zeros, &all[0], &zeros, &other] {
        standby.round(path);
    }
    standby.state(middle);
    assert_eq!(standby.go().out(), plainly(middle));
}

#[test]
fn without_a_word_nothing_is_left() {
    let all = recorded();
    let granted = scratch();
    let grant = format!("{}::data", granted.path().display());
    for (rounds, state) in [(0, false), (2, false), (1, true), (0, true)] {
        for kill in [false, true] {
            let mut standby = Standby::start(Arch::host().unwrap(), &["--carry", &grant]);
            all[..rounds].iter().for_each(|path| standby.round(path));
            if state {
                standby.state(&all[2]);
            }
            if kill {
                standby.process.signal(Signal::KILL);
            }
            standby.has_left_nothing();
            assert_eq!(fs::read_dir(granted.path()).unwrap().count(), 0);
        }
    }
    // Out of turn.
    let standby = Standby::start(Arch::host().unwrap(), &[]);
    assert_eq!(standby.refuses(&Order::Go), "");
    let mut standby = Standby::start(Arch::host().unwrap(), &[]);
    standby.state(&all[0]);
    assert_eq!(standby.refuses(&Order::Round(all[1].clone())), "");
    let mut standby = Standby::start(Arch::host().unwrap(), &[]);
    standby.round(&all[0]);
    assert_eq!(standby.refuses(&Order::Go), "");
    // An order that was not said to its end is none.
    let mut standby = Standby::start(Arch::host().unwrap(), &[]);
    standby.state(&all[0]);
    standby.process.stdin().as_mut().unwrap().write_all(b"\"Go\"").unwrap();
    standby.has_left_nothing();
}

#[test]
fn what_is_damaged_is_refused_and_what_was_read_stays() {
    let (_dir, paths) = copied();
    let host = Arch::host().unwrap();
    let last = &paths[4];
    let said = plainly(last);
    // The first has most of the pages. Once it is read, its pages are of no more use: they may be overwritten.
    let mut standby = Standby::start(host, &[]);
    paths[..3].iter().for_each(|path| standby.round(path));
    let sound = fs::read(&paths[0]).unwrap();
    let mut damaged = sound.clone();
    // One that never changes.
    let page = sound.len() * 3 / 4 / PAGE_SIZE * PAGE_SIZE;
    damaged[page] ^= 1;
    fs::write(&paths[0], &damaged).unwrap();
    standby.state(last);
    assert_eq!(standby.go().out(), said);
    // Before that, they count, as a round and as what a state needs.
    let wrong = "wrong checksum of page";
    let refused = Standby::start(host, &[]).refuses(&Order::Round(paths[0].clone()));
    assert!(refused.contains(wrong), "{refused}");
    let refused = Standby::start(host, &[]).refuses(&Order::State(last.clone()));
    assert!(refused.contains(wrong), "{refused}");
    let mut standby = Standby::start(host, &[]);
    let own = scratch();
    let zeros = own.path().join("zeros");
    fs::write(&paths[0], &sound).unwrap();
    let mut forged = load(&paths[0]);
    forged.memories[0].fill(0);
    forged.store(&zeros);
    standby.round(&zeros);
    fs::write(&paths[0], &damaged).unwrap();
    let refused = standby.refuses(&Order::State(last.clone()));
    assert!(refused.contains(wrong), "{refused}");
    // Cut off, not there, another file than it was made from.
    fs::write(&paths[0], &sound[..sound.len() - 1]).unwrap();
    for order in [
        Order::Round(paths[0].clone()),
        Order::Round("/nowhere".into()),
        Order::Round("/dev/zero".into()),
        Order::State(last.clone()),
    ] {
        assert!(!Standby::start(host, &[]).refuses(&order).is_empty());
    }
}

#[test]
fn limits_hold_for_rounds_too() {
    let all = recorded();
    let host = Arch::host().unwrap();
    let limited = Standby::start(host, &["--max-memory", "1M"]).refuses(&Order::Round(all[0].clone()));
    assert!(limited.contains("--max-memory"), "{limited}");
    // Memories that are larger than the program's are in the end.
    let dir = scratch();
    let forged = dir.path().join("forged");
    let mut large = load(&all[0]);
    large.state.memories[0].pages *= 2;
    let len = large.memories[0].len();
    large.memories[0].resize(2 * len, 0);
    large.store(&forged);
    let mut standby = Standby::start(host, &[]);
    standby.round(&forged);
    let why = standby.refuses(&Order::State(all[0].clone()));
    assert!(why.contains("smaller than those of a round"), "{why}");
}

/// Whatever a round is, the program goes on as ever, or not at all.
#[test]
fn forged_rounds_change_nothing() {
    let all = recorded();
    let good = fs::read(&all[0]).unwrap();
    let last = &all[all.len() - 1];
    let said = plainly(last);
    let dir = scratch();
    let path = dir.path().join("forged");
    let (mut taken, mut went_on) = (0, 0);
    for seed in 0..120 {
        let (kind, forged) = forge(&mut Dice(seed), &good);
        forged.write(&path);
        let mut standby = Standby::start(Arch::host().unwrap(), &["--max-memory", "64M"]);
        match standby.ask(&Order::Round(path.clone())) {
            Some(Answer::Held) => taken += 1,
            Some(Answer::No(_)) => {
                standby.has_left_nothing();
                continue;
            }
            other => panic!("seed {seed}, {kind}: {other:?}"),
        }
        standby.round(&all[1]);
        match standby.ask(&Order::State(last.clone())) {
            // It claims memories that the program doesn't have.
            Some(Answer::No(_)) => standby.has_left_nothing(),
            Some(Answer::Ready) if went_on < 12 => {
                went_on += 1;
                assert_eq!(standby.go().out(), said, "seed {seed}, {kind}");
            }
            Some(Answer::Ready) => standby.has_left_nothing(),
            other => panic!("seed {seed}, {kind}: {other:?}"),
        }
    }
    assert!(taken > 10 && went_on > 5, "{taken} were taken, {went_on} went on");
}
