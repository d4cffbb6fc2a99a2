//! The moving program on this machine, which is told over its control socket to stop, and to go on or to end.

use dunlin_handover::Id;
use dunlin_migrate::control::{Reply, Request, Verdict};
use dunlin_migrate::preflight::Finding;
use dunlin_transfer::records::{Place, STANDING, STATE, is_locked};
use dunlin_transfer::sender::{Program, Round, has_left};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// How long a program may take to go on, or to end, once it is told to.
const OBEYING: Duration = Duration::from_secs(10);

/// A running program.
#[derive(Debug)]
pub(crate) struct Running {
    socket: PathBuf,
    peer: String,
    /// The connection of the newest round: as long as it is open, the program expects more.
    round: Option<BufReader<UnixStream>>,
    stopped: Option<(BufReader<UnixStream>, PathBuf)>,
    /// Its process ended before it stood still.
    ended: bool,
    /// What stood in the way of stopping it.
    pub findings: Vec<Finding>,
}

impl Running {
    /// The program at a control socket, which moves to `peer` (as it is told).
    pub(crate) fn new(socket: PathBuf, peer: String) -> Running {
        Running {
            socket,
            peer,
            round: None,
            stopped: None,
            ended: false,
            findings: Vec::new(),
        }
    }
}

fn say(stream: &mut BufReader<UnixStream>, what: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    stream.get_mut().write_all(&line)
}

fn hear(stream: &mut BufReader<UnixStream>) -> io::Result<Reply> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its process has ended"));
    }
    Ok(serde_json::from_str(&line)?)
}

/// What a program says to a request of a later version than its own begins so.
const NO_REQUEST: &str = "not a request";

const OTHER_ANSWER: &str = "the program answered another question; is it of another version of Dunlin?";

impl Running {
    fn ask(&self, request: &Request) -> io::Result<(BufReader<UnixStream>, Reply)> {
        let mut stream = BufReader::new(UnixStream::connect(&self.socket)?);
        say(&mut stream, request)?;
        let reply = hear(&mut stream)?;
        Ok((stream, reply))
    }
}

impl Program for Running {
    fn round(&mut self, place: &Place, number: u32) -> Result<Option<Round>, String> {
        let place = place.path().to_owned();
        let asked = self.ask(&Request::Round { place, number });
        match asked.map_err(|e| format!("the program does not answer: {e}"))? {
            (stream, Reply::Round(round)) => {
                self.round = Some(stream);
                Ok(Some(Round {
                    bytes: round.bytes,
                    pause: Duration::from_micros(round.pause_us),
                    write: Duration::from_micros(round.write_us),
                    tracked: round.tracked,
                }))
            }
            (_, Reply::Failed { error, .. }) if error.starts_with(NO_REQUEST) => Ok(None),
            (_, Reply::Failed { error, findings }) => {
                self.findings = findings;
                Err(error)
            }
            _ => Err(OTHER_ANSWER.into()),
        }
    }

    fn stop(&mut self, place: &Place) -> Result<(), String> {
        let path = place.path().to_owned();
        let request = Request::HandOver {
            place: path.clone(),
            unsynced: true,
        };
        let (stream, reply) = self.ask(&request).map_err(|e| {
            self.ended = e.kind() == io::ErrorKind::UnexpectedEof;
            format!("the program does not answer: {e}")
        })?;
        match reply {
            Reply::Checkpointed(_) => {
                self.stopped = Some((stream, path));
                Ok(())
            }
            Reply::Failed { error, findings } => {
                self.findings = findings;
                Err(error)
            }
            Reply::Info(_) | Reply::Checked(_) | Reply::Round(_) | Reply::GoesOn => Err(OTHER_ANSWER.into()),
        }
    }

    fn go_on(&mut self) -> Result<(), String> {
        let Some((mut stream, place)) = self.stopped.take() else {
            return match self.ended {
                true => Err("its process has ended, while it was asked to stop".into()),
                false => Ok(()),
            };
        };
        let _ = stream.get_ref().set_read_timeout(Some(OBEYING));
        let answered = say(&mut stream, &Verdict::GoOn).and_then(|()| hear(&mut stream));
        match answered {
            Ok(Reply::GoesOn) => Ok(()),
            Ok(_) => Err("it does not go on".into()),
            Err(e) => match (has_left(&place), place.join(STANDING).try_exists()) {
                (Ok(true), Ok(false)) => Ok(()),
                (Ok(true), Ok(true)) => Err(format!(
                    "its process has ended ({e}); `dunlin resume {}` goes on from where it stood",
                    place.join(STATE).display()
                )),
                _ => Err(
                    "its process is still there, and goes on as soon as it can (is it stopped?); don't resume its \
                          state meanwhile"
                        .into(),
                ),
            },
        }
    }

    fn end(&mut self) -> Result<(), String> {
        let Some((mut stream, place)) = self.stopped.take() else {
            return Ok(());
        };
        let peer = self.peer.clone();
        // If its process is gone already, so much the better.
        let _ = say(&mut stream, &Verdict::End { peer });
        match has_left(&place) {
            Ok(true) => Ok(()),
            Ok(false) => Err("its process stands still and does not end; kill it".into()),
            Err(e) => Err(e.to_string()),
        }
    }
}

/// The program of a transfer whose driver is gone: its process has gone on by itself, or there is none.
#[derive(Debug)]
pub(crate) struct Left {
    /// The transfer's directory.
    pub place: PathBuf,
    /// The transfer.
    pub attempt: Id,
}

impl Program for Left {
    fn round(&mut self, _: &Place, _: u32) -> Result<Option<Round>, String> {
        Ok(None)
    }

    fn stop(&mut self, _: &Place) -> Result<(), String> {
        Err("it is not stopped twice".into())
    }

    fn go_on(&mut self) -> Result<(), String> {
        // It may have ended this moment, so it is looked at now.
        let standing = self.place.join(STANDING);
        match standing
            .try_exists()
            .and_then(|there| Ok(there && !is_locked(&standing)?))
        {
            Ok(false) => Ok(()),
            Ok(true) => Err(format!(
                "its process has ended; `dunlin resume {}` goes on from where it stood, and `dunlin settle --forget {}` \
                 ends the transfer then",
                self.place.join(STATE).display(),
                self.attempt
            )),
            Err(e) => Err(e.to_string()),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}
