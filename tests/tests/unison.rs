//! The program and its files are one: killed at any instant and started again with the same command, a program goes on
//! with its files as they were at the newest snapshot. So in the end both are as if nothing had happened, whatever was
//! killed when.
//!
//! - `DUNLIN_UNISON_KILLS=2000`: so many kills per test, instead of a slice;
//! - `DUNLIN_UNISON_SEED=N`: other kills; without it, they change with the commit;
//! - `DUNLIN_UNISON_JOURNEY=N`: this journey only, ten times (when a kill comes, no seed can tell exactly).

use dunlin_format::arch::Arch;
use dunlin_tests::unison::{Disk, Grant, Guest, Place, Plan, Tally, kills, seed};

const HERE: Place = Place::Stays(Arch::X86_64);

/// Kills in one journey.
const PER_JOURNEY: u64 = 16;

/// Makes journeys until there were so many kills, each by `plan`; all must end as they should.
fn campaign(name: &str, kills: u64, plan: impl Fn(Guest) -> Plan) {
    let mut tally = Tally::default();
    let only: Option<u64> = std::env::var("DUNLIN_UNISON_JOURNEY")
        .ok()
        .map(|n| n.parse().expect("DUNLIN_UNISON_JOURNEY is a number"));
    while tally.total.kills < kills && only.is_none_or(|_| tally.journeys < 10) {
        let nth = only.unwrap_or(tally.journeys);
        let guest = Guest::ALL[nth as usize % Guest::ALL.len()].clone();
        let keep = tally.differences.len() < 3;
        tally.add(plan(guest).travel(seed(), nth, keep));
        if tally.differences.len() == 20 {
            break;
        }
    }
    println!("{name}: {tally}");
    let first: Vec<&str> = tally.differences.iter().take(3).map(String::as_str).collect();
    assert!(
        first.is_empty(),
        "{tally}\nagain: DUNLIN_UNISON_SEED={} cargo test -p dunlin-tests --test unison {name}\n\n{}",
        seed(),
        first.join("\n\n")
    );
}

#[test]
fn killed_with_dir() {
    campaign("killed_with_dir", kills(110), |guest| {
        Plan::new(Grant::Dir, guest, HERE, PER_JOURNEY)
    });
}

#[test]
fn killed_with_carry() {
    campaign("killed_with_carry", kills(110), |guest| {
        Plan::new(Grant::Carry, guest, HERE, PER_JOURNEY)
    });
}

#[test]
fn killed_with_carry_all() {
    campaign("killed_with_carry_all", kills(110), |guest| {
        Plan::new(Grant::CarryAll, guest, HERE, PER_JOURNEY)
    });
}

/// The journeys of one campaign, with the grants in turn.
fn all_grants(name: &str, total: u64, plan: impl Fn(Grant, Guest) -> Plan) {
    let turn = std::cell::Cell::new(0);
    campaign(name, total, |guest| {
        turn.set(turn.get() + 1);
        plan(Grant::ALL[turn.get() % 3], guest)
    });
}

#[test]
fn killed_between_architectures() {
    all_grants("killed_between_architectures", kills(24), |grant, guest| {
        Plan::new(grant, guest, Place::Moves, 8)
    });
}

#[test]
fn killed_under_an_emulator() {
    all_grants("killed_under_an_emulator", kills(16), |grant, guest| {
        Plan::new(grant, guest, Place::Stays(Arch::Aarch64), 8)
    });
}

#[test]
fn killed_with_durable_journals() {
    all_grants("killed_with_durable_journals", kills(32), |grant, guest| Plan {
        options: vec!["--durable".to_owned()],
        ..Plan::new(grant, guest, HERE, PER_JOURNEY)
    });
}

/// Can a small disk be had? If not, that is told.
fn can_mount(name: &str) -> bool {
    match Disk::new(1) {
        Ok(_) => true,
        Err(why) => {
            eprintln!("SKIPPED: {name} needs to mount a small disk, which is not permitted here: {why}");
            false
        }
    }
}

#[test]
fn killed_on_a_full_disk() {
    if can_mount("killed_on_a_full_disk") {
        all_grants("killed_on_a_full_disk", kills(32), |grant, guest| Plan {
            disk: Some(64),
            ..Plan::new(grant, guest, HERE, PER_JOURNEY)
        });
    }
}

#[test]
fn a_program_that_gives_up_on_a_full_disk_goes_on_when_there_is_room() {
    if can_mount("a_program_that_gives_up_on_a_full_disk_goes_on_when_there_is_room") {
        all_grants(
            "a_program_that_gives_up_on_a_full_disk_goes_on_when_there_is_room",
            kills(16),
            |grant, guest| Plan {
                disk: Some(64),
                patience: 2,
                ..Plan::new(grant, guest, HERE, PER_JOURNEY)
            },
        );
    }
}

#[test]
fn asked_to_end_again_and_again() {
    all_grants("asked_to_end_again_and_again", kills(48), |grant, guest| Plan {
        only_asked: true,
        ..Plan::new(grant, guest, HERE, PER_JOURNEY)
    });
}

/// The harness itself: without kills, nothing may differ, whatever else is asked for.
#[test]
fn nobody_kills() {
    for (nth, guest) in Guest::ALL.into_iter().enumerate() {
        let plan = Plan::new(Grant::ALL[nth % 3], guest, HERE, 0);
        let journey = plan.travel(seed(), nth as u64, true);
        assert_eq!(journey.difference, None);
    }
}
