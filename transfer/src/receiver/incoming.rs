//! What comes in for a transfer: the executable or the module, rounds of pre-copy, the state.

use super::{Host, Open};
use crate::files::{self, FileError};
use crate::link::{Link, LinkError};
use crate::records::{EXECUTABLE, MODULE, MOST_ROUNDS, STATE, remove_if_there, round_file};
use crate::wire::Frame;
use std::io;
use std::path::PathBuf;
use std::thread;

/// Why something that came is not taken.
pub(super) enum Refusal {
    Link(LinkError),
    Here(String),
}

fn received<T>(result: Result<T, FileError>, what: &str) -> Result<T, Refusal> {
    result.map_err(|e| match e {
        FileError::Link(e) => Refusal::Link(e),
        e => Refusal::Here(format!("{what}: {e}")),
    })
}

pub(super) fn executable(link: &Link, host: &mut dyn Host, open: &mut Open, len: u64) -> Result<(), Refusal> {
    let path = open.place.file(EXECUTABLE);
    received(
        files::receive(link, len, &path, 0o700),
        "the executable can't be received",
    )?;
    open.executable = None;
    let admitted = host.admit(&open.about, &path);
    admitted.map_err(|why| Refusal::Here(format!("the executable is refused: {why}")))?;
    let executable = executable_of(open, host).map_err(Refusal::Here)?;
    host.expect(&open.about, &executable, &open.place);
    Ok(())
}

pub(super) fn module(link: &Link, host: &mut dyn Host, open: &mut Open, len: u64) -> Result<(), Refusal> {
    let path = open.place.file(MODULE);
    received(files::receive(link, len, &path, 0o600), "the module can't be received")?;
    open.executable = None;
    let compiled = host.compile(&open.about, &path, &open.place.file(EXECUTABLE));
    let _ = remove_if_there(&path);
    compiled.map_err(|why| Refusal::Here(format!("the module is refused: {why}")))?;
    let executable = executable_of(open, host).map_err(Refusal::Here)?;
    host.expect(&open.about, &executable, &open.place);
    Ok(())
}

/// Takes a round in; whether it is worth anything shows with the state that takes pages from it.
pub(super) fn round(link: &Link, host: &mut dyn Host, open: &mut Open, number: u32, len: u64) -> Result<(), Refusal> {
    // Each comes once: whoever takes them in is told of it each time.
    if number > MOST_ROUNDS || number != open.rounds + 1 {
        return Err(Refusal::Link(LinkError::Unexpected));
    }
    open.rounds = number;
    let path = open.place.file(&round_file(number));
    received(files::receive(link, len, &path, 0o600), "a round can't be received")?;
    let executable = executable_of(open, host).map_err(Refusal::Here)?;
    host.round(&open.about, &executable, &open.place, number);
    // Its name becomes durable with the record that says that all is whole.
    link.send(&Frame::RoundKept(number)).map_err(Refusal::Link)?;
    Ok(())
}

pub(super) fn snapshot(link: &Link, host: &mut dyn Host, open: &mut Open, len: u64) -> Result<(), Refusal> {
    let path = open.place.file(STATE);
    let why = "the state can't be received";
    let file = received(files::receive_volatile(link, len, &path, 0o600), why)?;
    let executable = executable_of(open, host).map_err(Refusal::Here)?;
    // Its name becomes durable with the record that says that it is whole. The disk works while the host does.
    let (synced, checked) = thread::scope(|scope| {
        let sync = || file.sync_data();
        let syncing = thread::Builder::new().spawn_scoped(scope, sync);
        let checked = host.check(&open.about, &executable, &path);
        let synced = match syncing {
            Ok(syncing) => syncing
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("it was not synchronised"))),
            Err(_) => sync(),
        };
        (synced, checked)
    });
    checked.map_err(Refusal::Here)?;
    received(synced.map_err(FileError::Io), why)
}

/// The executable that came, or the one that is here.
pub(super) fn executable_of(open: &mut Open, host: &mut dyn Host) -> Result<PathBuf, String> {
    if let Some(known) = &open.executable {
        return Ok(known.clone());
    }
    let own = open.place.file(EXECUTABLE);
    let found = match open.place.has(EXECUTABLE).map_err(|e| e.to_string())? {
        true => own,
        false => host
            .executable(&open.about)
            .ok_or_else(|| "the program's executable is not here any more".to_owned())?,
    };
    open.executable = Some(found.clone());
    Ok(found)
}
