//! What a sender may say on one connection: each round once, one transfer at a time, and not too much.

use dunlin_handover::{Encoded, Id, ToReceiver, Transfer};
use dunlin_transfer::link::{Link, LinkError};
use dunlin_transfer::receiver::{self, Host, Started};
use dunlin_transfer::records::{Place, Shelf};
use dunlin_transfer::wire::{About, FileKind, Frame, Terms, VERSION, write_frame};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// What the receiver was told, in order.
#[derive(Default)]
struct Machine(Vec<String>);

impl Host for Machine {
    fn greeted(&mut self) {
        self.0.push("greeted".into());
    }

    fn terms(&mut self, _: &About) -> Terms {
        self.0.push("terms".into());
        Terms {
            arch: "x86_64".into(),
            has_executable: true,
            takes_executables: true,
            findings: vec![],
        }
    }

    fn executable(&mut self, _: &About) -> Option<PathBuf> {
        Some("exe".into())
    }

    fn make_room(&mut self, _: FileKind, len: u64, came: u64) -> Result<(), String> {
        self.0.push(format!("{len} after {came}"));
        Ok(())
    }

    fn compile(&mut self, _: &About, _: &Path, _: &Path) -> Result<(), String> {
        Err("no".into())
    }

    fn admit(&mut self, _: &About, _: &Path) -> Result<(), String> {
        Ok(())
    }

    fn forget(&mut self) {
        self.0.push("forget".into());
    }

    fn round(&mut self, _: &About, _: &Path, _: &Place, number: u32) {
        self.0.push(format!("round {number}"));
    }

    fn check(&mut self, _: &About, _: &Path, _: &Path) -> Result<(), String> {
        Ok(())
    }

    fn start(&mut self, _: &About, _: &Path, _: &Place) -> Result<Started, String> {
        Err("no".into())
    }

    fn keep(&mut self, _: &About, _: &Path) {}

    fn tell(&mut self, _: &str, report: &str) {
        if report.starts_with("the sender gives up") {
            self.0.push(report.into());
        }
    }
}

/// What comes of a connection on which that is said, after a greeting.
fn say(frames: &[Frame]) -> (Result<(), LinkError>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(&dir.path().join("shelf")).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let hello = Frame::Hello {
        version: VERSION,
        store: [2; 16],
    };
    let frames: Vec<Frame> = [&[hello], frames].concat();
    let talk = std::thread::spawn(move || {
        // It may have hung up by then.
        let _ = frames.iter().all(|frame| write_frame(&mut theirs, frame).is_ok());
        let _ = theirs.shutdown(Shutdown::Write);
        let _ = std::io::copy(&mut theirs, &mut std::io::sink());
    });
    let closing = ours.try_clone().unwrap();
    let link = Link::new(ours.try_clone().unwrap(), ours, move || {
        drop(closing.shutdown(Shutdown::Both))
    });
    let link = link.unwrap();
    let mut host = Machine::default();
    let ended = receiver::serve(&link, &shelf, &mut host);
    drop(link);
    talk.join().unwrap();
    (ended, host.0)
}

fn about(name: &str) -> Frame {
    Frame::About(About {
        name: name.into(),
        module: [1; 32],
        needs: "{}".into(),
    })
}

fn offer(attempt: u8) -> Frame {
    let transfer = Transfer {
        program: Id([1; 16]),
        store: Id([2; 16]),
        attempt: Id([attempt; 16]),
    };
    Frame::Handover(ToReceiver::Offer { transfer }.encode())
}

fn round(number: u32) -> Vec<Frame> {
    let (kind, bytes) = (FileKind::Round(number), vec![7; 10]);
    let crc = crc32fast::hash(&bytes);
    vec![
        Frame::File { kind, len: 10 },
        Frame::Chunk(bytes),
        Frame::FileEnd { crc },
    ]
}

#[test]
fn a_round_comes_once_and_in_turn() {
    let begin = vec![about("p"), offer(1)];
    let (ended, told) = say(&[begin.clone(), round(1), round(2), round(2), round(3)].concat());
    assert!(matches!(ended, Err(LinkError::Unexpected)), "{ended:?}");
    let after = told.iter().position(|t| t.starts_with("10")).unwrap();
    let told: Vec<&String> = told[after..].iter().filter(|t| *t != "forget").collect();
    assert_eq!(told, ["10 after 0", "round 1", "10 after 10", "round 2", "10 after 20"]);
    for first in [0, 2, u32::MAX] {
        let (ended, told) = say(&[begin.clone(), round(first)].concat());
        assert!(matches!(ended, Err(LinkError::Unexpected)), "{ended:?}");
        assert!(!told.iter().any(|t| t.starts_with("round")), "{told:?}");
    }
}

#[test]
fn one_transfer_at_a_time_is_worked_at() {
    let (ended, told) = say(&[
        vec![about("p"), offer(1)],
        round(1),
        vec![about("q"), offer(2)],
        round(1),
    ]
    .concat());
    assert!(ended.is_ok(), "{ended:?}");
    let second = told.iter().rposition(|t| t == "terms").unwrap();
    assert_eq!(told[second - 1..][..2], ["forget", "terms"], "{told:?}");
    assert!(told[second..].contains(&"10 after 0".into()), "{told:?}");
}

#[test]
fn little_is_said_of_a_sender_that_says_much() {
    let errors = vec![Frame::Error("é".repeat(1000)); 5];
    let (ended, told) = say(&errors);
    assert!(ended.is_ok(), "{ended:?}");
    let said: Vec<&String> = told.iter().filter(|t| t.starts_with("the sender")).collect();
    assert_eq!(said, [&format!("the sender gives up: {}", "é".repeat(200))]);
    assert_eq!(told[0], "greeted");
    assert!(say(&[about(&"n".repeat(255))]).1.contains(&"terms".into()));
    let (ended, told) = say(&[about(&"n".repeat(256))]);
    assert!(matches!(ended, Err(LinkError::Unexpected)), "{ended:?}");
    assert!(!told.contains(&"terms".into()), "{told:?}");
}
