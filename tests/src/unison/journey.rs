//! A journey: a program is started, struck, and started again with the same command, until it has been killed often
//! enough; then it may end, and is compared with one that nobody disturbed.

use super::blows::{self, Blow, newest, pause, strike};
use super::disk::Disk;
use super::files::{Entry, compare, furnish, litter, look};
use super::{Grant, Guest, Place, Random};
use crate::process::Outcome;
use crate::program::{CHECKPOINTED, Run, scratch};
use dunlin_format::arch::Arch;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::Duration;
use tempfile::TempDir;

const KILLED: i32 = 128 + 9;
const TERMINATED: i32 = 128 + 15;

/// Exit code of a guest that finds its files wrong.
const WRONG: i32 = 3;
/// What a program ends with that has run out of patience with a full disk.
const GAVE_UP: i32 = 4;
/// A plan with so much patience or less expects programs to give up.
const IMPATIENT: u32 = 1000;

/// What is tried.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How the directory is granted.
    pub grant: Grant,
    /// Which program.
    pub guest: Guest,
    /// Where its legs run.
    pub place: Place,
    /// How often it is killed.
    pub kills: u64,
    /// Is it only asked to save itself and to end, and never killed?
    pub only_asked: bool,
    /// More options for Dunlin.
    pub options: Vec<String>,
    /// Do files and snapshots lie on a small disk, which is full at times, of so many megabytes?
    pub disk: Option<u64>,
    /// How often the program tries again what failed for lack of room.
    pub patience: u32,
}

impl Plan {
    /// The plain case.
    pub fn new(grant: Grant, guest: Guest, place: Place, kills: u64) -> Plan {
        Plan {
            grant,
            guest,
            place,
            kills,
            only_asked: false,
            options: Vec::new(),
            disk: None,
            patience: 1_000_000,
        }
    }
}

/// A directory in memory, if there is such a file system: what is synced there costs no time, so that there can be many
/// kills.
fn fast_scratch() -> TempDir {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("dunlin-test-");
    builder.tempdir_in("/dev/shm").unwrap_or_else(|_| scratch())
}

/// How a program ends that nobody disturbs.
#[derive(Debug)]
struct Reference {
    out: String,
    files: BTreeMap<String, Entry>,
}

/// The end of an undisturbed run; each is made once, for all tests.
#[track_caller]
fn reference(guest: &Guest, args: &[String]) -> Arc<Reference> {
    type Cell = Arc<OnceLock<Arc<Reference>>>;
    static MADE: LazyLock<Mutex<HashMap<Vec<String>, Cell>>> = LazyLock::new(Mutex::default);
    let key = [&[format!("{guest:?}")], args].concat();
    let cell = MADE
        .lock()
        .unwrap_or_else(|e| e.into_inner())
        .entry(key)
        .or_default()
        .clone();
    let make = || {
        let dir = fast_scratch();
        furnish(dir.path());
        let run = guest.program().on(Arch::X86_64).args(args).dir(dir.path(), "/data");
        let out = run.output().expect_code(0).out();
        assert!(out.ends_with("done\n"), "{out}");
        let files = look(dir.path());
        Arc::new(Reference { out, files })
    };
    cell.get_or_init(make).clone()
}

/// How it went.
#[derive(Clone, Debug, Default)]
pub struct Journey {
    /// How often the program was killed, or asked to end.
    pub kills: u64,
    /// How often it was started.
    pub legs: u64,
    /// How often it was struck, by the index of the blow.
    pub blows: [u64; blows::ALL.len()],
    /// How often it ran while there was no room.
    pub full: u64,
    /// How often a snapshot was left half-written.
    pub torn: u64,
    /// How often going back was left half-done.
    pub half_back: u64,
    /// What was wrong at the end, in words.
    pub difference: Option<String>,
    /// What the last legs were: the blow and the exit code.
    history: Vec<String>,
    /// Did a leg that was killed print all there is to print?
    said: bool,
    /// Legs since a snapshot was written.
    stalled: u64,
}

/// Where everything of a journey lies.
struct Ground {
    scratch: TempDir,
    data: PathBuf,
    saves: PathBuf,
    disk: Option<Disk>,
}

impl Ground {
    fn new(disk: Option<Disk>, random: &mut Random) -> Ground {
        let scratch = if random.percent(10) { scratch() } else { fast_scratch() };
        let small = disk.as_ref().map_or(scratch.path(), Disk::path);
        // Both are there, or only one of them.
        let (data, saves) = match random.below(3) {
            0 => (small, small),
            1 => (scratch.path(), small),
            _ => (small, scratch.path()),
        };
        let (data, saves) = (data.join("data"), saves.join("saves"));
        std::fs::create_dir(&data).expect("scratch space is writable");
        furnish(&data);
        Ground {
            scratch,
            data,
            saves,
            disk,
        }
    }

    fn litter(&self) -> Vec<String> {
        let mut found = litter(self.scratch.path(), &self.saves);
        if let Some(disk) = &self.disk {
            found.extend(litter(disk.path(), &self.saves));
        }
        found
    }
}

impl Plan {
    /// Makes the `nth` journey of a campaign. `keep`: if it goes wrong, everything stays where it is.
    #[track_caller]
    pub fn travel(&self, seed: u64, nth: u64, keep: bool) -> Journey {
        let what = format!("{:?} {:?} {:?} {:?}", self.grant, self.guest, self.place, self.options);
        let mut random = Random::new(seed, &what, nth);
        // Undisturbed runs take their time, too: only a long campaign has several.
        let work = seed * 4 + random.below(4).min(nth / Guest::ALL.len() as u64);
        let mut args = self.guest.args(work, self.place.emulated());
        args.push(self.patience.to_string());
        let reference = reference(&self.guest, &args);
        let disk = self
            .disk
            .map(|megabytes| Disk::new(megabytes).expect("mounting was tried before"));
        let ground = Ground::new(disk, &mut random);
        let mut journey = Journey::default();
        if let Err(difference) = self.legs(&args, &reference, &ground, &mut random, &mut journey) {
            let kept = match ground.disk {
                None if keep => format!("\nkept in {}", ground.scratch.keep().display()),
                // What lies on the small disk goes away with it.
                _ => String::new(),
            };
            let last = journey.history.len().saturating_sub(12);
            let history = journey.history[last..].join(", ");
            journey.difference = Some(format!(
                "journey {nth}: {what}\nafter {} kills, the last legs: {history}\n{difference}{kept}",
                journey.kills
            ));
        }
        journey
    }

    fn run(&self, arch: Arch, args: &[String], ground: &Ground) -> Run {
        let saves = ground.saves.display().to_string();
        let options = [
            "--checkpoint-every",
            "20ms",
            "--checkpoint-to",
            &saves,
            "--checkpoint-on",
            "TERM",
        ];
        let run = self.guest.program().on(arch).args(args).opts(options);
        let run = run.opts(self.grant.option(&ground.data)).opts(self.options.clone());
        run.timeout(Duration::from_secs(120))
    }

    fn legs(
        &self,
        args: &[String],
        reference: &Reference,
        ground: &Ground,
        random: &mut Random,
        journey: &mut Journey,
    ) -> Result<(), String> {
        let mut burst = 0;
        loop {
            let arch = self.place.next(random);
            let full = ground.disk.as_ref().is_some_and(Disk::is_full);
            let blow = if burst > 0 || full {
                Some(Blow::Early)
            } else if journey.kills >= self.kills {
                (self.kills > 0 && !self.only_asked && random.percent(40)).then_some(Blow::End)
            } else if self.only_asked {
                Some(Blow::Term)
            } else {
                Some(Blow::choose(random, journey.stalled > 3))
            };
            if burst > 0 {
                burst -= 1;
            } else if blow == Some(Blow::Early) && random.percent(30) {
                burst = random.below(4);
            }
            let before = newest(&ground.saves);
            let mut running = self.run(arch, args, ground).start();
            journey.legs += 1;
            let mut lacked = full;
            let mut struck = Ok(());
            if let (Some(disk), Some(_)) = (&ground.disk, blow)
                && !full
                && random.percent(50)
            {
                lacked = true;
                pause(random, arch, 1_000, 32_000);
                let doublings = random.below(19);
                disk.fill(random.below(1 << doublings));
                pause(random, arch, 1_000, 32_000);
                if random.percent(50) {
                    disk.free();
                    struck = strike(Blow::Late, &mut running, arch, &ground.saves, random);
                } else {
                    struck = strike(Blow::Early, &mut running, arch, &ground.saves, random);
                }
            } else if let Some(blow) = blow {
                journey.blows[blow.index()] += 1;
                struck = strike(blow, &mut running, arch, &ground.saves, random);
            }
            let outcome = running.finish();
            struck.map_err(|e| format!("{e}\n{outcome}"))?;
            journey.full += u64::from(lacked);
            journey.torn += u64::from(blows::is_writing(&ground.saves));
            journey.half_back += u64::from(ground.saves.join("going-back").exists());
            journey.stalled = if newest(&ground.saves) > before {
                0
            } else {
                journey.stalled + 1
            };
            let name = blow.map_or("none".to_owned(), |b| format!("{b:?}"));
            journey.history.push(format!("{name} {arch}: {}", outcome.code()));
            if let Some(disk) = &ground.disk
                && (full || random.percent(50))
            {
                disk.free();
            }
            if self.judge(&outcome, blow, lacked, reference, ground, journey)? {
                return Ok(());
            }
            if journey.legs > 60 + 6 * self.kills {
                return Err(format!("it doesn't get on; the last leg:\n{outcome}"));
            }
        }
    }

    /// Has it ended as it should?
    fn judge(
        &self,
        outcome: &Outcome,
        blow: Option<Blow>,
        lacked: bool,
        reference: &Reference,
        ground: &Ground,
        journey: &mut Journey,
    ) -> Result<bool, String> {
        let asked = matches!(blow, Some(Blow::Term | Blow::TermKilled));
        match outcome.code() {
            KILLED => {
                journey.kills += 1;
                if !outcome.stdout.ends_with(b"done\n") {
                    return Ok(false);
                }
                journey.said |= outcome.out() == reference.out;
                // Killed when all was done. Once the program has noted that, a further start begins anew.
                let ended = newest(&ground.saves) == 0 || ground.saves.join(".ended").exists();
                let changed = compare(&reference.files, &look(&ground.data));
                journey.history.push(format!(
                    "(ended: {ended}, {} files differ: {:?})",
                    changed.len(),
                    changed.iter().take(3).collect::<Vec<_>>()
                ));
                Ok(ended && outcome.out() == reference.out && changed.is_empty())
            }
            CHECKPOINTED | TERMINATED if asked => {
                journey.kills += 1;
                Ok(false)
            }
            0 => {
                let mut wrong = compare(&reference.files, &look(&ground.data));
                let left = ground.litter().into_iter();
                wrong.extend(left.map(|name| format!("{name} is left over")));
                // What was printed before the newest snapshot, by a leg that was killed after it, is not printed again.
                if outcome.out() != reference.out && !(journey.said && outcome.stdout.is_empty()) {
                    wrong.push(format!("it printed {:?}, not {:?}", outcome.out(), reference.out));
                }
                match wrong.is_empty() {
                    true => Ok(true),
                    false => Err(format!("{}\n{outcome}", wrong.join("\n"))),
                }
            }
            // Its newest snapshot was taken when it had said that it gives up, and not yet ended: it can't get on from
            // there.
            GAVE_UP if self.patience <= IMPATIENT && outcome.stderr.is_empty() => Ok(true),
            code if lacked && code != WRONG => Ok(false),
            _ => Err(format!("an exit code that must not be:\n{outcome}")),
        }
    }
}

/// Journeys, added up.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many.
    pub journeys: u64,
    /// Of all journeys.
    pub total: Journey,
    /// What differed.
    pub differences: Vec<String>,
}

impl Tally {
    /// Adds one.
    pub fn add(&mut self, journey: Journey) {
        self.journeys += 1;
        self.total.kills += journey.kills;
        self.total.legs += journey.legs;
        self.total.full += journey.full;
        self.total.torn += journey.torn;
        self.total.half_back += journey.half_back;
        for (sum, n) in self.total.blows.iter_mut().zip(journey.blows) {
            *sum += n;
        }
        self.differences.extend(journey.difference);
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of {} journeys differ; {} kills ({} in the middle of a snapshot, {} of going back), {} starts",
            self.differences.len(),
            self.journeys,
            self.total.kills,
            self.total.torn,
            self.total.half_back,
            self.total.legs
        )?;
        for (blow, n) in blows::ALL.iter().zip(self.total.blows) {
            write!(f, ", {blow:?} {n}")?;
        }
        match self.total.full {
            0 => Ok(()),
            n => write!(f, ", {n} without room"),
        }
    }
}
