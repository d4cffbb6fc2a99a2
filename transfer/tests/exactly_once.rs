//! Both sides of a transfer, with a program and a machine that only count, over a connection that is cut after every
//! byte: in the end the program runs in one place, or stands still and is settled by the next contact.

mod scene;

use self::scene::{Counting, STATE, Scene};
use dunlin_handover::{
    Encoded, Id, ReceiverRecord, ReceiverStage, SenderRecord, SenderStage, Settle, ToReceiver, ToSender, Transfer,
};
use dunlin_migrate::preflight::Finding;
use dunlin_transfer::link::LinkError;
use dunlin_transfer::records::Side;
use dunlin_transfer::sender::{self, Outcome};
use dunlin_transfer::wire::{About, Frame};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};

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
