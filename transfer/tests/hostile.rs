//! A peer that says anything: whole moves of which messages are changed, dropped, repeated or put elsewhere. The
//! receiver neither crashes nor waits for ever, starts a program only by the commit of what it has prepared, and keeps
//! nothing but what its records tell of.
//!
//! `DUNLIN_MUTATIONS=N` changes so many messages; else 10,000 (`DUNLIN_FULL`: 1,000,000).

use dunlin_handover::{Encoded, Id, ReceiverRecord, ToReceiver, ToSender, Transfer};
use dunlin_transfer::link::Link;
use dunlin_transfer::receiver::{self, Host, Started};
use dunlin_transfer::records::{Place, Shelf};
use dunlin_transfer::wire::{About, FileKind, Frame, Terms, VERSION, write_frame};
use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the receiver was told to do with programs.
#[derive(Debug, Default)]
struct Done {
    started: u32,
    /// The most bytes that a snapshot had.
    longest: u64,
}

struct Machine(Arc<Mutex<Done>>, PathBuf);

impl Host for Machine {
    fn terms(&mut self, _: &About) -> Terms {
        Terms {
            arch: "x86_64".into(),
            has_executable: false,
            takes_executables: true,
            findings: vec![],
        }
    }

    fn executable(&mut self, _: &About) -> Option<PathBuf> {
        Some(self.1.clone())
    }

    fn admit(&mut self, _: &About, executable: &Path) -> Result<(), String> {
        match fs::read(executable).map_err(|e| e.to_string())? == b"code" {
            true => Ok(()),
            false => Err("no".into()),
        }
    }

    fn compile(&mut self, _: &About, module: &Path, executable: &Path) -> Result<(), String> {
        match fs::read(module).map_err(|e| e.to_string())? == b"module" {
            true => fs::write(executable, "code").map_err(|e| e.to_string()),
            false => Err("no".into()),
        }
    }

    fn check(&mut self, _: &About, _: &Path, snapshot: &Path) -> Result<(), String> {
        let len = fs::metadata(snapshot).map_err(|e| e.to_string())?.len();
        let mut done = self.0.lock().unwrap();
        done.longest = done.longest.max(len);
        Ok(())
    }

    fn start(&mut self, _: &About, _: &Path, place: &Place) -> Result<Started, String> {
        fs::write(place.file("started"), "").map_err(|e| e.to_string())?;
        self.0.lock().unwrap().started += 1;
        Ok(Started {
            pid: 1,
            log: PathBuf::new(),
        })
    }

    fn keep(&mut self, _: &About, _: &Path) {}

    fn tell(&mut self, _: &str, _: &str) {}
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, frame).unwrap();
    bytes
}

/// What a sender says in a move, in order; the commit is the last but one.
fn conversation(transfer: Transfer, receipt: Id) -> Vec<Vec<u8>> {
    let say = |message: ToReceiver| Frame::Handover(message.encode());
    let file = |kind, bytes: &[u8]| {
        [
            Frame::File {
                kind,
                len: bytes.len() as u64,
            },
            Frame::Chunk(bytes.to_vec()),
            Frame::FileEnd {
                crc: crc32fast::hash(bytes),
            },
        ]
    };
    let about = About {
        name: "p".into(),
        module: [1; 32],
        needs: "{}".into(),
    };
    let mut frames = vec![
        Frame::Hello {
            version: VERSION,
            store: transfer.store.0,
        },
        Frame::About(about),
        say(ToReceiver::Offer { transfer }),
    ];
    frames.extend(file(FileKind::Module, b"module"));
    frames.extend(file(FileKind::Executable, b"code"));
    frames.extend(file(FileKind::Round(1), &[8; 99]));
    frames.extend(file(FileKind::Snapshot, &[7; 300]));
    let last = false;
    frames.push(say(ToReceiver::Commit {
        transfer,
        receipt,
        last,
    }));
    frames.push(say(ToReceiver::Gone { transfer }));
    frames.iter().map(encoded).collect()
}

/// Changes some of them; tells how many.
fn mutate(messages: &mut Vec<Vec<u8>>, random: &mut Random) -> u64 {
    let changes = 1 + random.below(3) as u64;
    for _ in 0..changes {
        let at = random.below(messages.len());
        let other = random.below(messages.len());
        match random.below(9) {
            0 => drop(messages.remove(at)),
            1 => messages.insert(at, messages[other].clone()),
            2 => messages.swap(at, other),
            3 => {
                let len = random.below(messages[at].len());
                messages[at].truncate(len);
            }
            4 => {
                // A length that promises more or less than there is.
                let len = [0u32, 1, 7, 255, 1 << 16, 1 << 18, 1 << 24, u32::MAX][random.below(8)];
                let head = messages[at].len().min(4);
                messages[at].splice(..head, len.to_le_bytes());
            }
            5 => {
                let noise = (0..random.below(64)).map(|_| random.below(256) as u8).collect();
                messages.insert(at, noise);
            }
            6 => {
                // A file of any length, of any kind.
                let round = random.below(1 << 20) as u32;
                let kinds = [FileKind::Executable, FileKind::Module, FileKind::Snapshot];
                let kind = *kinds.get(random.below(4)).unwrap_or(&FileKind::Round(round));
                let len = [0, 1, 300, 1 << 20, 1 << 40, u64::MAX][random.below(6)];
                messages.insert(at, encoded(&Frame::File { kind, len }));
            }
            _ => {
                let byte = random.below(messages[at].len());
                if let Some(byte) = messages[at].get_mut(byte) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
        if messages.is_empty() {
            break;
        }
    }
    changes
}

/// The receipt, if this is what the receiver says next that matters; else the connection is over or it waits.
/// What it says of earlier transfers doesn't.
fn prepared(from: &mut UnixStream, transfer: Transfer) -> Option<Id> {
    loop {
        match dunlin_transfer::wire::read_frame(from) {
            Ok(Some(Frame::Handover(bytes))) => match ToSender::decode(&bytes) {
                Ok(message) if message.transfer() != transfer => {}
                Ok(ToSender::Prepared { receipt, .. }) => return Some(receipt),
                _ => return None,
            },
            Ok(Some(Frame::Error(_)) | None) | Err(_) => return None,
            Ok(Some(_)) => {}
        }
    }
}

/// A conversation, changed; how many changes, and whether the right commit was said.
fn converse(shelf: &Path, exe: &Path, done: &Arc<Mutex<Done>>, random: &mut Random) -> (u64, bool) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let receiver = {
        let (shelf, mut machine) = (Shelf::open(shelf).unwrap(), Machine(done.clone(), exe.to_owned()));
        std::thread::spawn(move || {
            let closing = theirs.try_clone().unwrap();
            let link = Link::new(theirs.try_clone().unwrap(), Closing(theirs), move || {
                drop(closing.shutdown(Shutdown::Both))
            });
            let _ = receiver::serve(&link.unwrap(), &shelf, &mut machine);
        })
    };
    let transfer = Transfer {
        program: Id([1; 16]),
        store: Id([2; 16]),
        attempt: Id(std::array::from_fn(|_| random.below(256) as u8)),
    };
    // What comes before the receipt is known, and what comes after it.
    let mut first = conversation(transfer, Id([0; 16]));
    first.truncate(first.len() - 2);
    let late = random.below(4) == 0;
    let mut changes = if late { 0 } else { mutate(&mut first, random) };
    // Where something is missing, it waits for that, and this side shouldn't.
    let patience = if late { 20_000 } else { 50 };
    ours.set_read_timeout(Some(Duration::from_millis(patience))).unwrap();
    ours.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    // It may have hung up by then: what is wrong is told by what it does.
    let _ = first.iter().all(|message| ours.write_all(message).is_ok());
    let receipt = prepared(&mut ours, transfer);
    assert!(!late || receipt.is_some(), "nothing was wrong with it");
    let whole = conversation(transfer, receipt.unwrap_or(Id([9; 16])));
    let mut rest = whole[whole.len() - 2..].to_vec();
    let commit = rest[0].clone();
    if late || random.below(2) == 0 {
        changes += mutate(&mut rest, random);
    }
    let _ = rest.iter().all(|message| ours.write_all(message).is_ok());
    let _ = ours.shutdown(Shutdown::Write);
    // All that it still has to say, until it hangs up.
    ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    if let Err(e) = std::io::copy(&mut ours, &mut std::io::sink()) {
        // What it had not read when it hung up.
        assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "it hangs up");
    }
    let begun = Instant::now();
    receiver.join().expect("it doesn't panic");
    assert!(begun.elapsed() < Duration::from_secs(20), "it ends");
    (
        changes,
        receipt.is_some() && rest.concat().windows(commit.len()).any(|w| w == commit),
    )
}

/// To drop it closes the direction.
struct Closing(UnixStream);

impl Write for Closing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

/// What came of some conversations.
#[derive(Debug, Default)]
struct Tally {
    changed: u64,
    conversations: u64,
    started: u64,
}

/// Conversations on a shelf of their own until so many messages were changed.
fn converse_much(dir: &Path, wanted: u64, mut random: Random) -> Tally {
    let (shelf, exe) = (dir.join("shelf"), dir.join("exe"));
    fs::create_dir(dir).unwrap();
    fs::write(&exe, "code").unwrap();
    let mut tally = Tally::default();
    while tally.changed < wanted {
        for _ in 0..100 {
            let done = Arc::new(Mutex::new(Done::default()));
            let seed = random.0;
            let (changes, committed) = converse(&shelf, &exe, &done, &mut random);
            let done = done.lock().unwrap();
            assert!(done.started <= 1, "seed {seed:#x}: it was started twice");
            assert!(
                done.started == 0 || committed,
                "seed {seed:#x}: nobody has said that it may start"
            );
            assert!(done.longest <= 1 << 20, "seed {seed:#x}");
            tally.started += u64::from(done.started);
            tally.changed += changes;
            tally.conversations += 1;
        }
        let left = Shelf::open(&shelf).unwrap();
        for (side, attempt) in left.list().unwrap() {
            let place = left.find(side, attempt).unwrap().unwrap();
            let record = place.record::<ReceiverRecord>().expect("it is never damaged");
            assert!(record.is_none_or(|record| record.transfer.attempt == attempt));
        }
        drop(left);
        fs::remove_dir_all(&shelf).unwrap();
    }
    tally
}

#[test]
fn nothing_that_a_peer_says_does_harm() {
    let full = std::env::var_os("DUNLIN_FULL").is_some();
    let wanted = std::env::var("DUNLIN_MUTATIONS").ok().and_then(|n| n.parse().ok());
    let wanted: u64 = wanted.unwrap_or(if full { 1_000_000 } else { 10_000 });
    // Nothing here is about durability: memory is as good as a disk.
    let fast = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    // Many wait most of the time.
    let many = 16;
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let one = |n: u64| {
            let dir = fast.path().join(n.to_string());
            let random = Random((0x9e37_79b9_7f4a_7c15 ^ wanted).wrapping_mul(2 * n + 1));
            scope.spawn(move || converse_much(&dir, wanted.div_ceil(many), random))
        };
        let all: Vec<_> = (0..many).map(one).collect();
        all.into_iter().map(|t| t.join().expect("no harm")).collect()
    });
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    let (changed, conversations, started) = (sum(|t| t.changed), sum(|t| t.conversations), sum(|t| t.started));
    println!("{changed} messages changed in {conversations} conversations, {started} programs started");
    assert!(
        started * 20 > conversations,
        "too few come through for this to mean anything"
    );
}
