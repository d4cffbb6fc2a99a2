//! The promise, checked in every state that two machines, a network and their faults can get into.

mod checker;
mod half;
mod sent;
mod steps;
mod world;

use crate::ReceiverStage;
use crate::guard::{Guard, without};
use checker::{Outcome, search};
use half::Stage;
use world::{Bounds, Lapse, Owner, World};

const fn bounds(transfers: usize, crashes: u8, failures: u8, cancels: u8, wipes: u8, offers: u8) -> Bounds {
    Bounds {
        transfers,
        crashes,
        failures,
        cancels,
        wipes,
        offers,
        lapse: None,
    }
}

/// Searched every time: together under a minute on a slow machine.
const SLICE: [Bounds; 5] = [
    bounds(1, 2, 0, 1, 0, 2),
    bounds(1, 1, 1, 1, 0, 2),
    bounds(1, 1, 0, 0, 1, 2),
    bounds(2, 0, 0, 1, 0, 1),
    bounds(2, 1, 0, 0, 0, 1),
];

/// Searched with `DUNLIN_FULL=1`: up to a million states each. Beyond that the states of two transfers with a failure
/// or a cancellation, and of three, are too many for one machine's memory or an afternoon: nobody has searched those.
const FULL: [Bounds; 4] = [
    bounds(1, 3, 1, 1, 0, 2),
    bounds(1, 2, 2, 1, 0, 2),
    bounds(1, 2, 1, 1, 1, 2),
    bounds(2, 2, 0, 0, 0, 1),
];

/// States of one search, at most: so many need about 6 GiB.
const MOST: usize = 30_000_000;

fn show(bounds: &Bounds, outcome: &Outcome) {
    let Outcome {
        states, steps, depth, ..
    } = outcome;
    println!(
        "{bounds:?}: {states} states, {steps} steps, depth {depth}, sights {:?}",
        outcome.sights
    );
    if let Some((what, way)) = &outcome.broken {
        println!("{what}:");
        way.iter().for_each(|step| println!("    {step:?}"));
    }
}

fn moved(world: &World) -> bool {
    world.is_resolved() && world.processes.iter().any(|p| p.site == 1)
}

/// Something to be seen, and whether this is it.
type Sight = (&'static str, fn(&World) -> bool);

/// What must be seen somewhere, or the model is too narrow to prove anything.
const SIGHTS: [Sight; 8] = [
    ("moved", moved),
    ("stayed", |w| !w.legs.is_empty() && w.is_resolved() && !moved(w)),
    ("moved and came back", |w| {
        w.is_resolved() && w.legs.len() == 2 && w.legs[1].from == 1 && w.legs[1].gone_on && !w.legs[1].home
    }),
    ("moved at the second attempt", |w| {
        w.legs.len() == 2 && w.legs[0].home && w.legs[1].from == 0 && moved(w)
    }),
    ("in doubt, with both copies", |w| {
        w.legs
            .iter()
            .any(|leg| leg.sender.copy && leg.receiver.copy && leg.sender.stage() == Stage::Released)
    }),
    ("taken back after a refusal", |w| {
        w.legs
            .iter()
            .any(|leg| leg.sender.stage() == Stage::Home && leg.receiver.stage() == Stage::Refused)
    }),
    ("the only copy, at the receiver, started", |w| {
        let last = |stage| matches!(stage, ReceiverStage::Running { last: true });
        w.legs
            .iter()
            .any(|leg| leg.receiver.disk.is_some_and(|d| last(d.stage)) && leg.gone_on)
    }),
    (
        "a process of an earlier transfer waits while the program is here again",
        |w| w.processes.len() == 2 && w.legs.len() == 2 && w.process_of(Owner::Receiver(1)).is_some(),
    ),
];

fn all_hold(searches: &[Bounds]) {
    let sights = SIGHTS.map(|(_, sight)| sight);
    let mut seen = [0; SIGHTS.len()];
    for bounds in searches {
        let outcome = search(bounds, &sights, MOST);
        show(bounds, &outcome);
        assert!(outcome.broken.is_none(), "{}", outcome.broken.expect("broken").0);
        seen.iter_mut().zip(&outcome.sights).for_each(|(all, one)| *all += one);
    }
    for ((what, _), count) in SIGHTS.iter().zip(seen) {
        assert!(count > 0, "never seen: {what}");
    }
}

#[test]
fn never_two_never_lost_always_resolved() {
    let mut searches = SLICE.to_vec();
    if std::env::var_os("DUNLIN_FULL").is_some() {
        searches.extend(FULL);
    }
    all_hold(&searches);
}

/// Small searches, in which a broken promise is looked for.
const HUNTS: [Bounds; 3] = [
    bounds(1, 1, 0, 1, 0, 2),
    bounds(1, 1, 1, 1, 0, 1),
    bounds(2, 1, 0, 0, 0, 1),
];

/// The same, where a disk is lost: what only matters there.
const HUNT_WITH_LOST_DISK: [Bounds; 1] = [bounds(1, 1, 0, 0, 1, 2)];

fn hunt(lapse: Option<Lapse>) -> Option<String> {
    let hunts = match lapse {
        Some(Lapse::OtherStore) => &HUNT_WITH_LOST_DISK[..],
        _ => &HUNTS[..],
    };
    hunts.iter().find_map(|&bounds| {
        let bounds = Bounds { lapse, ..bounds };
        let (what, way) = search(&bounds, &[], MOST).broken?;
        Some(format!("{what}, after {} steps, with {bounds:?}", way.len()))
    })
}

#[test]
fn without_any_guard_the_promise_is_broken() {
    use Guard::*;
    let mut useless = vec![];
    for guard in [
        SameTransfer,
        ReleaseNeedsReceipt,
        ReleaseNeedsOwnCopy,
        NoCancelAfterRelease,
        NoReturnAfterRelease,
        ReleasedStandsAfterRestart,
        RefusalOfThisReceipt,
        ReturnNeedsOwnCopy,
        GoneWhenDurable,
        HomeIsRecovered,
        StartNeedsCommit,
        CommitOfThisReceipt,
        RefusedStands,
        PreparedStays,
        NoRefusalAfterRestart,
        RunningIsRecovered,
        TakenWhenItRuns,
        RefusedIsKept,
    ] {
        match without(Some(guard), || hunt(None)) {
            Some(how) => println!("without {guard:?}: {how}"),
            None => useless.push(guard),
        }
    }
    assert!(useless.is_empty(), "nothing breaks without {useless:?}");
}

#[test]
fn what_is_asked_of_the_driver_is_needed() {
    use Stage::*;
    // A removal that isn't durable leaves a record for a person to settle, at worst.
    let records = [Moving, Released, Home, Prepared, Running, Taken, Refused].map(Lapse::NotDurable);
    let others = [
        Lapse::NoCopy,
        Lapse::GoesOnWithoutDriver,
        Lapse::AnyOrder,
        Lapse::LeavesEarly,
        Lapse::HalfACopy,
        Lapse::SameReceipt,
        Lapse::SameTransfer,
        Lapse::OtherStore,
        Lapse::StartedAllTheSame,
    ];
    let mut useless = vec![];
    for lapse in records.into_iter().chain(others) {
        match hunt(Some(lapse)) {
            Some(how) => println!("{lapse:?}: {how}"),
            None => useless.push(lapse),
        }
    }
    assert!(useless.is_empty(), "nothing breaks with {useless:?}");
}
