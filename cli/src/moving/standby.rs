//! A process that is started before its program has come, and that takes in what has come so far
//! ([`dunlin_migrate::standby`]). Until it is told to go on, nothing of it is to be seen but in the transfer's place.

use super::process::Process;
use crate::show;
use dunlin_migrate::standby::{Answer, Order, line, next};
use dunlin_transfer::records::{RUNNING, remove_if_there};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, OpenOptions};
use std::io::{self, PipeWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Its output, in the transfer's place, until it goes on.
const LOG: &str = "standby.log";

/// A process that waits for its program. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Standby {
    place: PathBuf,
    process: Option<Process>,
    orders: PipeWriter,
    ready: bool,
}

impl Standby {
    /// Starts a command that runs the executable with `--standby`, for the transfer at a place.
    pub(super) fn start(command: Command, place: &Path) -> io::Result<Standby> {
        let log = place.join(LOG);
        remove_if_there(&log)?;
        let output = OpenOptions::new()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(&log)?;
        let (input, orders) = io::pipe()?;
        let process = Process::start(command, input.into(), place, output)?;
        Ok(Standby {
            place: place.to_owned(),
            process: Some(process),
            orders,
            ready: false,
        })
    }

    /// Does it wait for what comes to this place, and has the state not come yet?
    pub(super) fn is_for(&self, place: &Path) -> bool {
        self.place == place && !self.ready
    }

    /// Can it go on from the state at this place?
    pub(super) fn is_ready_for(&self, place: &Path) -> bool {
        self.place == place && self.ready
    }

    fn say(&mut self, order: &Order) -> io::Result<()> {
        self.orders.write_all(&line(order)?)
    }

    /// Hands it a round, and waits until it has taken it in: what comes next is the last of it, perhaps, and shouldn't
    /// have to wait for that.
    pub(super) fn round(&mut self, path: PathBuf) -> Result<(), String> {
        match self.ask(&Order::Round(path))? {
            Answer::Held => Ok(()),
            Answer::No(why) => Err(show::clean(&why)),
            Answer::Ready => Err("it answers out of turn".into()),
        }
    }

    /// Hands it the state, and waits until it could go on. If not, why; nothing, if it has only ended.
    pub(super) fn state(&mut self, path: PathBuf) -> Result<(), String> {
        match self.ask(&Order::State(path))? {
            Answer::Ready => {
                self.ready = true;
                Ok(())
            }
            Answer::No(why) => Err(show::clean(&why)),
            Answer::Held => Err("it answers out of turn".into()),
        }
    }

    /// Its answer to an order; an error without words, if it has only ended.
    fn ask(&mut self, order: &Order) -> Result<Answer, String> {
        self.say(order).map_err(|_| String::new())?;
        let process = self.process.as_mut().ok_or_else(String::new)?;
        let answer = match process.wait_for_word() {
            Ok(true) => next(process.told()),
            Ok(false) => return Err("it takes too long".into()),
            Err(e) => Err(e),
        };
        answer.map_err(|e| e.to_string())?.ok_or_else(String::new)
    }

    /// Lets it go on, with its output at `log`. Returns its number; `None` if it ended instead. After an error, too,
    /// its process has ended.
    pub(super) fn go(mut self, log: &Path) -> io::Result<Option<u32>> {
        // Not over what an earlier start has said. Its output, which is open, has that name from now on.
        renameat_with(CWD, self.place.join(LOG), CWD, log, RenameFlags::NOREPLACE)?;
        self.say(&Order::Go)?;
        let goes_on = match &mut self.process {
            Some(process) => process.goes_on()?,
            None => false,
        };
        match goes_on {
            true => Ok(self.process.take().map(|p| p.id())),
            false => {
                fs::remove_file(log)?;
                Ok(None)
            }
        }
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        // If it goes on, it is gone from here.
        if let Some(mut process) = self.process.take() {
            process.end();
            for name in [LOG, RUNNING] {
                let _ = remove_if_there(&self.place.join(name));
            }
        }
    }
}
