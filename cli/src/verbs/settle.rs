//! `dunlin settle`: what became of programs whose move was interrupted.

use crate::failure::{Failure, Outcome, could_not, usage};
use crate::moving::machine::{Machine, emulator};
use crate::moving::peer::Peer;
use crate::moving::program::Left;
use crate::options::HostOptions;
use crate::show;
use clap::Args;
use dunlin_handover::{Id, ReceiverRecord, ReceiverStatus, Settle};
use dunlin_interface::exit::STANDS_STILL;
use dunlin_transfer::receiver::{self, Host};
use dunlin_transfer::records::{Place, Shelf, Side, parse};
use dunlin_transfer::sender::{self, Outcome as Ended};
use dunlin_transfer::wire::About;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// How long somebody else may work at a transfer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Finds out what became of moves that were interrupted, and ends them
///
/// Without TRANSFER, all of them. A program that had not changed hands goes on where it was; one that had is asked
/// for on the other machine. Exit code 4 if one still stands still.
#[derive(Debug, Args)]
pub(crate) struct Settlement {
    /// A transfer, as `dunlin migrate` or `dunlin settle` names it
    #[arg(value_name = "TRANSFER")]
    transfer: Option<String>,
    /// The program goes on here: the other machine, or its disk, is gone, and never runs it
    #[arg(long, requires = "transfer", conflicts_with = "forget")]
    here: bool,
    /// Remove what is kept of the transfer here: the program isn't needed from here
    #[arg(long, requires = "transfer")]
    forget: bool,
    /// The emulator that `dunlin receive` was given
    #[arg(long, value_name = "ARCH=COMMAND")]
    emulator: Option<String>,
    #[command(flatten)]
    options: HostOptions,
}

/// Runs the verb.
pub(crate) fn run(args: &Settlement) -> Outcome {
    let doing = "settle";
    let fail = |e: io::Error| could_not(format!("{doing}: {e}"));
    let options = args.options.checked(doing)?;
    let emulator = args.emulator.as_deref().map(emulator).transpose();
    let emulator = emulator.map_err(|why| usage(format!("{doing}: --emulator: {why}")))?;
    let shelf = Shelf::of_user().map_err(fail)?;
    let mut all = shelf.list().map_err(fail)?;
    if let Some(wanted) = &args.transfer {
        let id = parse(wanted).ok_or_else(|| usage(format!("{doing}: {} is no transfer", show::clean(wanted))))?;
        all.retain(|(_, attempt)| *attempt == id);
        if all.is_empty() {
            return Err(could_not(format!(
                "{doing}: there is no such transfer here, or it is over"
            )));
        }
    }
    let how = match (args.here, args.forget) {
        (true, _) => Settle::Here,
        (_, true) => Settle::Forget,
        _ => Settle::Again,
    };
    if all.is_empty() {
        show::print("nothing is open\n");
    }
    let machine = Machine::new(options, emulator, &shelf);
    let mut machine = machine.ok_or_else(|| fail(io::Error::other("this machine is neither x86_64 nor aarch64")))?;
    let mut open = 0;
    for (attempt, text, over) in each(&shelf, all, Some(how), &mut machine) {
        open += usize::from(!over);
        show::print(&format!("{attempt}  {}\n", show::clean(&text)));
    }
    match open {
        0 => Ok(()),
        n => Err(Failure::new(
            STANDS_STILL,
            format!("{doing} everything: {n} of these still open"),
        )),
    }
}

/// Settles one transfer after the other, as a person wants it or as far as it goes by itself: which, what is told of
/// it, and whether it is over.
pub(crate) fn each(
    shelf: &Shelf,
    all: Vec<(Side, Id)>,
    how: Option<Settle>,
    host: &mut dyn Host,
) -> impl Iterator<Item = (Id, String, bool)> {
    all.into_iter().map(move |(side, attempt)| {
        let settled = match side {
            Side::Out => out(shelf, attempt, how.unwrap_or(Settle::Again)),
            Side::In => came(shelf, attempt, how, host),
        };
        let (text, over) = settled.unwrap_or_else(|e| (e.to_string(), false));
        (attempt, text, over)
    })
}

fn name(about: Option<About>) -> String {
    about.map_or_else(|| "a program".to_owned(), |a| a.name)
}

/// The place of a transfer, once nobody works at it; `None` if somebody does for longer. The program's own process,
/// which has lost whoever moved it, takes a moment to note that it goes on.
fn when_idle(shelf: &Shelf, attempt: Id) -> io::Result<Option<Place>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match shelf.find_idle(Side::Out, attempt)? {
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            found => return Ok(found),
        }
    }
}

/// A transfer of a program that was here; what is told of it, and whether it is over.
fn out(shelf: &Shelf, attempt: Id, how: Settle) -> io::Result<(String, bool)> {
    let Some(place) = when_idle(shelf, attempt)? else {
        return Ok(("somebody works at it".into(), false));
    };
    let name = name(sender::about(&place));
    let peer: Option<Peer> = std::fs::read(place.file("peer"))
        .ok()
        .and_then(|b| serde_json::from_slice(&b).ok());
    let address = peer.as_ref().map_or_else(String::new, |p| p.address());
    let path = place.path().to_owned();
    drop(place);
    let mut program = Left { place: path, attempt };
    let mut connect = || match &peer {
        Some(peer) => peer.connect(shelf.directory()),
        None => Err(io::Error::other("where it was to go is not on record").into()),
    };
    Ok(match sender::settle(shelf, attempt, &mut program, how, &mut connect)? {
        None => (format!("{name}: it never began, or is over"), true),
        Some(Ended::Moved(_)) => (format!("{name}: it has moved to {address}"), true),
        Some(Ended::Home(_)) if how == Settle::Forget => (format!("{name}: it is forgotten here"), true),
        Some(Ended::Home(_)) => (format!("{name}: it has not moved, and went on here"), true),
        Some(Ended::Refused(_)) => (format!("{name}: it is refused"), false),
        Some(Ended::InDoubt { why, .. }) => (
            format!("{name}: it stands still; whether {address} runs it is not known: {why}"),
            false,
        ),
        Some(Ended::Standing { why, .. }) => (format!("{name}: it has not moved; {why}"), false),
    })
}

/// A transfer of a program that came, or was to come.
fn came(shelf: &Shelf, attempt: Id, how: Option<Settle>, host: &mut dyn Host) -> io::Result<(String, bool)> {
    let Some(place) = shelf.find_idle(Side::In, attempt)? else {
        return Ok(("somebody works at it".into(), false));
    };
    let name = name(about(&place));
    let record = place.record::<ReceiverRecord>()?;
    let status = receiver::settle(place, host, how)?;
    Ok(match (status, record) {
        (ReceiverStatus::Over, None) => (format!("{name}: it never came"), true),
        (ReceiverStatus::Over, _) => (format!("{name}: over"), true),
        (ReceiverStatus::Taken, _) => (format!("{name}: it runs here; the sender will hear so"), true),
        (ReceiverStatus::Refused, _) => (format!("{name}: it is refused here; the sender will hear so"), true),
        (ReceiverStatus::Prepared, _) => (
            format!("{name}: it is whole here, and waits for the sender's word (`dunlin settle` there)"),
            false,
        ),
        (ReceiverStatus::Running, _) => (format!("{name}: it stands still here"), false),
        (ReceiverStatus::Receiving, _) => (format!("{name}: it comes in"), false),
    })
}

fn about(place: &Place) -> Option<About> {
    sender::about(place)
}
