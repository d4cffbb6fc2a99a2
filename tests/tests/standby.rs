//! Programs that go on in a process that was started before they came: it has taken in earlier snapshots, gets the last
//! one, and is told to go. What ends before that leaves no trace.

use dunlin_format::arch::Arch;
use dunlin_migrate::snapshot::PAGE_SIZE;
use dunlin_migrate::standby::{Answer, Order, line, next};
use dunlin_tests::forge::{Dice, forge};
use dunlin_tests::guest::clang;
use dunlin_tests::process::{Input, Outcome, Running, start};
use dunlin_tests::program::{CHECKPOINTED, Program, Run, scratch};
use dunlin_tests::snapshots::load;
use dunlin_tests::tools;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{PipeReader, Write, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take, qemu and a busy machine included.
const PATIENCE: Duration = Duration::from_secs(120);

/// The exit code of a failure of the runtime.
const FAILED: i32 = 87;

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

/// Whoever gives orders is killed right after the word was given: it counts.
#[test]
fn a_word_that_was_given_counts() {
    let all = recorded();
    let mut standby = Standby::start(Arch::host().unwrap(), &[]);
    standby.round(&all[0]);
    standby.state(&all[1]);
    standby.tell(&Order::Go);
    drop(standby.process.stdin().take());
    drop(standby.told);
    let said = standby.process.finish().expect_code(0).out();
    assert_eq!(said, plainly(&all[1]));
    assert!(standby.place.path().join("started").exists());
    // A start that was known before is not made another time.
    let mut standby = Standby::start(Arch::host().unwrap(), &[]);
    standby.state(&all[1]);
    fs::write(standby.place.path().join("started"), "").unwrap();
    standby.tell(&Order::Go);
    let refused = standby.process.finish().expect_code(FAILED);
    assert!(
        refused.stdout.is_empty() && refused.err().contains("cannot tell that the program goes on"),
        "{refused}"
    );
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

/// Machines, which are directories, and a remote shell that goes from any to any.
struct Machines {
    dir: TempDir,
}

impl Machines {
    fn new() -> Machines {
        let dir = scratch();
        let mut shell = String::from("#!/bin/sh\ncase \"$1\" in\n");
        for machine in ["a", "b", "c"] {
            let set: Vec<String> = Machines::variables(&dir, machine)
                .map(|(name, path)| format!("{name}={}", path.display()))
                .to_vec();
            shell += &format!("{machine}) export {} ;;\n", set.join(" "));
        }
        shell += "esac\nunset DUNLIN_OPTS\nshift\neval exec \"$*\"\n";
        let path = dir.path().join("rsh");
        fs::write(&path, shell).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Machines { dir }
    }

    fn variables(dir: &TempDir, machine: &str) -> [(&'static str, PathBuf); 3] {
        let parts = [
            ("XDG_RUNTIME_DIR", "run"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
        ];
        parts.map(|(name, part)| {
            let path = dir.path().join(machine).join(part);
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            (name, path)
        })
    }

    fn on(&self, machine: &str, mut command: Command) -> Command {
        command
            .envs(Machines::variables(&self.dir, machine))
            .env_remove("DUNLIN_OPTS");
        command
    }

    fn start(&self, last: &str) -> Running {
        let run = RECORDED.program.on(Arch::host().unwrap()).args([last]);
        let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = start(self.on("a", run.command()), Input::Empty, PATIENCE);
        running.wait_for("\n");
        running
    }

    fn migrate(&self, from: &str, pid: u32, to: &str, options: &[&str]) -> Running {
        let mut command = Command::new(tools::dunlin());
        command.args(["migrate", &pid.to_string(), &format!("ssh://{to}"), "--json", "--rsh"]);
        command
            .arg(self.dir.path().join("rsh"))
            .arg("--remote-dunlin")
            .arg(tools::dunlin());
        command.args([&["--"], options].concat());
        let mut command = self.on(from, command);
        // Where the executable for the other architecture is.
        let programs = RECORDED.program.exe(Arch::host().unwrap());
        command.env(
            "PATH",
            format!("{}:/usr/bin:/bin", programs.parent().unwrap().display()),
        );
        let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        start(command, Input::Empty, PATIENCE)
    }

    /// What programs that came to a machine have said.
    fn said(&self, machine: &str) -> String {
        let entries = fs::read_dir(self.dir.path().join(machine).join("state/dunlin/logs"))
            .into_iter()
            .flatten();
        entries
            .map(|e| fs::read_to_string(e.unwrap().path()).unwrap())
            .collect()
    }

    fn wait_for_end(&self, machine: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said(machine).ends_with("done\n") {
            assert!(Instant::now() < deadline, "{machine}: {}", self.said(machine));
            sleep(Duration::from_millis(20));
        }
    }
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|n| n.parse().ok()).collect()
}

/// Was a process started to wait?
fn waited(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/environ")).is_ok_and(|text| text.contains("--standby"))
}

#[test]
fn a_moved_program_goes_on_in_the_process_that_waited_for_it() {
    const LONG: &str = "2200";
    let machines = Machines::new();
    let qemu = format!("--emulator=aarch64={}", tools::qemu().display());
    let undisturbed = spawn(&RECORDED.program.on(Arch::host().unwrap()).args([LONG]));
    let running = machines.start(LONG);
    let moved = |from: &str, pid, to: &str, options: &[&str]| {
        let moved = machines.migrate(from, pid, to, options).finish().expect_code(0);
        let report = dunlin_tests::house::events(&moved).pop().unwrap();
        let pid = report["pid"].as_u64().unwrap() as u32;
        assert!(report["rounds"].as_array().is_some_and(|r| !r.is_empty()), "{report}");
        assert!(waited(pid), "{report}");
        pid
    };
    let there = moved("a", running.pid(), "b", &[]);
    moved("b", there, "c", &[&qemu]);
    let mut said = running.finish().expect_code(CHECKPOINTED).out();
    machines.wait_for_end("c");
    for machine in ["b", "c"] {
        said += &machines.said(machine);
    }
    let lines = said
        .lines()
        .filter(|line| !line.starts_with("Warning: the program has moved"));
    let said: String = lines.map(|line| format!("{line}\n")).collect();
    assert_eq!(said, finish(undisturbed));
}

/// Kills a process if it still waits: afterwards, the program would be lost as by any other kill.
fn kill_waiting(pid: u32, shelf: &Path) -> bool {
    let Some(process) = Pid::from_raw(pid as i32) else {
        return false;
    };
    let stopped = || fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") T"));
    if kill_process(process, Signal::STOP).is_err() {
        return false;
    }
    while !stopped() {
        sleep(Duration::from_millis(1));
    }
    let places = fs::read_dir(shelf).unwrap().map(|e| e.unwrap().path());
    let place = places
        .into_iter()
        .find(|p| p.file_name().unwrap().to_str().unwrap().starts_with("in-"));
    let waits = place.is_some_and(|place| !place.join("started").exists());
    let signal = if waits { Signal::KILL } else { Signal::CONT };
    let _ = kill_process(process, signal);
    waits
}

/// The process that waits is killed at any instant: the program goes on without it, or where it was, or stands still
/// and is settled.
#[test]
fn the_waiting_process_may_die_at_any_time() {
    const LONG: &str = "700";
    let undisturbed = spawn(&RECORDED.program.on(Arch::host().unwrap()).args([LONG]));
    let expected = finish(undisturbed);
    let mut killed = 0;
    for round in 0..6 {
        let machines = Machines::new();
        let running = machines.start(LONG);
        let mut moving = machines.migrate("a", running.pid(), "b", &[]);
        let mover = moving.pid();
        let standby_of = || children(mover).into_iter().flat_map(children).find(|pid| waited(*pid));
        let deadline = Instant::now() + PATIENCE;
        let standby = loop {
            if let Some(found) = standby_of() {
                break Some(found);
            }
            if Instant::now() > deadline {
                break None;
            }
            sleep(Duration::from_millis(1));
        };
        sleep(Duration::from_millis(6 * round * round));
        if let Some(pid) = standby {
            killed += u32::from(kill_waiting(pid, &machines.dir.path().join("b/state/dunlin")));
        }
        let _ = moving.is_running();
        let code = moving.finish().code();
        assert!([0, 1, 4].contains(&code), "{code}");
        let here = running.finish();
        let mut said = here.out();
        if here.code() == CHECKPOINTED {
            machines.wait_for_end("b");
            said += &machines.said("b");
        }
        assert_eq!(said, expected, "round {round}");
    }
    assert!(killed > 0);
}
