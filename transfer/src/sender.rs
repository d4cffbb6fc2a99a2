//! The sender's side: moves a program over a connection that can be made again.

mod greeting;
mod rounds;

use self::greeting::{answer, ask, greet, greet_again};
use crate::files::{self, FileError};
use crate::link::{Link, LinkError};
pub use crate::moving::{Moved, Outcome, Precopy, Program, Progress, Round, SentRound, Way};
use crate::records::{Place, STANDING, STATE, Shelf, Side, is_locked, random, sync_directory, write_durably};
use crate::wire::{About, FileKind, Frame};
use dunlin_handover::{
    Action, Encoded, Event, Found, Id, Report, Sender, SenderAction, SenderRecord, SenderStatus, Settle, ToReceiver,
    ToSender, Transfer,
};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How often, and after which pauses, a lost connection is made again while it isn't known where the program is.
const AGAIN: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// How long the other side may take to check the state, once it has all of it: minutes, for hundreds of gigabytes.
const MOST_PREPARING: Duration = Duration::from_secs(600);

/// The receiver's store of records: only that machine can say what became of a program that was sent to it.
const THERE: &str = "there";

/// How often what is open is said again while nothing is heard.
const REPEAT: Duration = Duration::from_secs(2);

/// How often it is looked whether the move is cancelled, while the other side checks the state.
const LOOK: Duration = Duration::from_millis(200);

/// How long the other side may take to say what it means for the transfer that it gives up.
const CLEARING: Duration = Duration::from_secs(5);

/// How long a stopped process may take to end or to go on once it may.
const LEAVING: Duration = Duration::from_secs(10);

/// Moves a program. `peer` is what a person called the receiver, kept to reach it again.
pub fn migrate(
    shelf: &Shelf,
    peer: &str,
    about: &About,
    program: &mut dyn Program,
    way: &mut Way<'_>,
) -> io::Result<Outcome> {
    let begun = Instant::now();
    let home = |why: String| Ok(Outcome::Home(why));
    let (link, there) = match (way.connect)().and_then(|link| greet(link, shelf.store())) {
        Ok(greeted) => greeted,
        Err(e) => return home(e.to_string()),
    };
    let terms = match ask(&link, shelf, about) {
        Ok(Ok(terms)) => terms,
        Ok(Err(why)) => return home(why),
        Err(e) => return home(e.to_string()),
    };
    if !terms.findings.is_empty() {
        return Ok(Outcome::Refused(terms.findings()));
    }
    let executable = match (terms.has_executable, terms.arch()) {
        (true, _) => None,
        (false, Some(arch)) => match way.lacking(arch, terms.takes_executables) {
            Ok(found) => Some(found),
            Err(finding) => return Ok(Outcome::Refused(vec![finding])),
        },
        (false, None) => {
            return home(format!(
                "the other machine is {:?}, which is not known here",
                terms.arch
            ));
        }
    };
    if !(way.progress)(Progress::Agreed) {
        return home("it was cancelled".into());
    }
    let transfer = Transfer {
        program: random()?,
        store: shelf.store(),
        attempt: random()?,
    };
    let place = shelf.create(Side::Out, transfer.attempt)?;
    write_durably(&place.file("peer"), peer.as_bytes())?;
    write_durably(&place.file(THERE), &there.0)?;
    write_durably(
        &place.file("about"),
        &postcard::to_stdvec(about).map_err(io::Error::other)?,
    )?;
    let (machine, actions) = Sender::start(transfer);
    let mut side = Moving::new(shelf, place, machine, program);
    side.link = Some(link);
    side.moved.arch = terms.arch.clone();
    side.perform(actions);
    if side.machine.status() == SenderStatus::Moving
        && let Err(why) = side.bring(executable, way, begun)
    {
        side.why = why;
        if let Some(link) = &side.link {
            let _ = link.send(&Frame::Error(side.why.clone()));
        }
        side.handle(Event::Cancel);
    }
    side.until_over(way);
    side.outcome()
}

/// Goes on with a transfer that a `dunlin` which is no more has begun.
pub fn settle(
    shelf: &Shelf,
    attempt: Id,
    program: &mut dyn Program,
    settle: Settle,
    connect: &mut dyn FnMut() -> Result<Link, LinkError>,
) -> io::Result<Option<Outcome>> {
    let Some(mut place) = shelf.find(Side::Out, attempt)? else {
        return Ok(None);
    };
    if is_locked(&place.file(STANDING))? {
        // The process waits for whoever works at the transfer, and then does what the record says.
        let path = place.path().to_owned();
        drop(place);
        if !has_left(&path)? {
            let why = "its process stands still and does not decide (is it stopped?)";
            return Err(io::Error::other(why));
        }
        let Some(again) = shelf.find(Side::Out, attempt)? else {
            return Ok(None);
        };
        place = again;
    }
    let Some(record) = place.record::<SenderRecord>()? else {
        // It was never offered, or is over.
        place.remove()?;
        return Ok(None);
    };
    let found = found(&place)?;
    let (machine, actions) = Sender::restart(record, found);
    let mut side = Moving::new(shelf, place, machine, program);
    side.perform(actions);
    let actions = side.machine.handle(Event::Settle(settle));
    side.perform(actions);
    let never = &|_| Err("it is not sent again".to_owned());
    let never_module = &|| Err("it is not sent again".to_owned());
    let mut way = Way {
        connect,
        executable: never,
        module: never_module,
        precopy: None,
        progress: &mut |_| true,
    };
    side.until_over(&mut way);
    side.outcome().map(Some)
}

/// What there is of the program whose driver is gone.
fn found(place: &Place) -> io::Result<Found> {
    let standing = place.file(STANDING);
    // It has never been stopped, or has gone on: then it is as alive as any program.
    if !place.has(STANDING)? || is_locked(&standing)? {
        return Ok(Found::Process);
    }
    let whole = dunlin_migrate::snapshot::open_file(&place.file(STATE));
    let whole = whole.is_ok_and(|s| s.verify_pages().is_ok() && s.verify_contents().is_ok());
    Ok(if whole { Found::Copy } else { Found::Nothing })
}

/// One transfer at its sender.
struct Moving<'a> {
    shelf: &'a Shelf,
    place: Option<Place>,
    machine: Sender,
    program: &'a mut dyn Program,
    link: Option<Link>,
    moved: Moved,
    prepared: Option<Instant>,
    state_sent: Option<Instant>,
    /// When all of the state had gone.
    whole: Option<Instant>,
    /// What was heard last of why it doesn't work.
    why: String,
    last: Option<Report>,
    /// The other side gives up; at most it says what that means for the transfer.
    given_up: bool,
}

impl<'a> Moving<'a> {
    fn new(shelf: &'a Shelf, place: Place, machine: Sender, program: &'a mut dyn Program) -> Moving<'a> {
        Moving {
            shelf,
            place: Some(place),
            machine,
            program,
            link: None,
            moved: Moved::default(),
            prepared: None,
            state_sent: None,
            whole: None,
            why: String::new(),
            last: None,
            given_up: false,
        }
    }

    /// Sends what the program needs, stops it, and sends its state.
    fn bring(
        &mut self,
        executable: Option<(FileKind, PathBuf)>,
        way: &mut Way<'_>,
        begun: Instant,
    ) -> Result<(), String> {
        if let Some((kind, path)) = executable {
            self.moved.executable_bytes = self.file(kind, &path, None, way)?.0;
            // To compile it may take minutes, in which the program runs on.
            self.until(Frame::Admitted, way)?;
        }
        // What came may be refused at once.
        self.refused_yet()?;
        self.rounds(way)?;
        self.refused_yet()?;
        if !(way.progress)(Progress::Stopping) {
            return Err("it was cancelled".into());
        }
        self.moved.before = begun.elapsed();
        let stopping = Instant::now();
        let place = self.place.as_ref().ok_or("the transfer is over")?;
        let (directory, state) = (place.path().to_owned(), place.file(STATE));
        self.program.stop(place)?;
        self.moved.stop = stopping.elapsed();
        let written = Instant::now();
        self.state_sent = Some(written);
        // It becomes durable here while it goes: what the other side has is worth nothing before both are.
        let (sent, synced) = thread::scope(|scope| {
            let sync = || {
                let synced = File::open(&state).and_then(|file| file.sync_all());
                synced
                    .and_then(|()| sync_directory(&directory))
                    .map(|()| written.elapsed())
            };
            let syncing = thread::Builder::new().spawn_scoped(scope, sync);
            let sent = self.file(FileKind::Snapshot, &state, None, way);
            let synced = match syncing {
                Ok(syncing) => syncing
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("its thread has failed"))),
                Err(_) => sync(),
            };
            (sent, synced)
        });
        self.moved.state_bytes = sent?.0;
        self.moved.sync = synced.map_err(|e| format!("its state can't be made durable here: {e}"))?;
        self.whole = Some(Instant::now());
        self.handle(Event::CopyDurable);
        Ok(())
    }

    /// Sends a file, `bandwidth` bytes a second at most. Returns its length, and how long was waited for that.
    fn file(
        &mut self,
        kind: FileKind,
        path: &Path,
        bandwidth: Option<u64>,
        way: &mut Way<'_>,
    ) -> Result<(u64, Duration), String> {
        let Some(link) = &self.link else {
            return Err("the connection was lost".into());
        };
        let of = fs::metadata(path).map_or(0, |m| m.len());
        let mut cancelled = false;
        let (begun, mut waited) = (Instant::now(), Duration::ZERO);
        let sent = files::send(link, kind, path, &mut |done| {
            let due = bandwidth.map_or(0.0, |most| done as f64 / most.max(1) as f64);
            loop {
                cancelled = !(way.progress)(Progress::Sent { kind, done, of });
                let early = Duration::from_secs_f64(due).saturating_sub(begun.elapsed());
                if cancelled || early.is_zero() {
                    return !cancelled;
                }
                let early = early.min(LOOK);
                thread::sleep(early);
                waited += early;
            }
        });
        match sent {
            Ok(len) => Ok((len, waited)),
            Err(_) if cancelled => Err("it was cancelled".into()),
            Err(FileError::Link(e)) => {
                // The other side may have said why.
                let deadline = Instant::now() + CLEARING;
                while let Ok(Some(frame)) = link.receive_within(CLEARING)
                    && Instant::now() < deadline
                {
                    if let Frame::Error(why) = frame {
                        return Err(why);
                    }
                }
                Err(e.to_string())
            }
            Err(e) => Err(format!("{}: {e}", path.display())),
        }
    }

    /// Waits until the other side says this, while the program runs on.
    fn until(&mut self, wanted: Frame, way: &mut Way<'_>) -> Result<(), String> {
        let deadline = Instant::now() + MOST_PREPARING;
        while self.machine.status() == SenderStatus::Moving && !self.given_up {
            if !(way.progress)(Progress::Waiting) {
                return Err("it was cancelled".into());
            }
            let Some(link) = &self.link else {
                return Err("the other side sent something unexpected".into());
            };
            if Instant::now() > deadline {
                return Err("the other machine takes too long with what was sent".into());
            }
            match link.receive_within(LOOK) {
                Ok(Some(frame)) if frame == wanted => return Ok(()),
                Ok(Some(frame)) => self.frame(frame),
                Ok(None) => {}
                Err(e) => return Err(e.to_string()),
            }
        }
        Err(self.why.clone())
    }

    /// Hears what the other side has said meanwhile.
    fn refused_yet(&mut self) -> Result<(), String> {
        while let Some(link) = &self.link {
            match link.poll() {
                Ok(None) => break,
                Ok(Some(frame)) => self.frame(frame),
                Err(e) => return Err(e.to_string()),
            }
            if self.machine.status() != SenderStatus::Moving {
                return Err(self.why.clone());
            }
        }
        Ok(())
    }

    /// Goes on until the transfer is over or stands still.
    fn until_over(&mut self, way: &mut Way<'_>) {
        let mut tries = AGAIN.iter();
        // When something was heard, or what is open was said again.
        let mut said = Instant::now();
        loop {
            match self.machine.status() {
                SenderStatus::Over | SenderStatus::Closing | SenderStatus::Home => return,
                SenderStatus::Moving | SenderStatus::Released | SenderStatus::Orphaned => {}
            }
            // These need somebody to decide.
            if let Some(Report::PeerForgot | Report::Contradiction { .. }) = self.last {
                return;
            }
            let moving = self.machine.status() == SenderStatus::Moving;
            if moving && self.whole.is_some_and(|whole| whole.elapsed() > MOST_PREPARING) {
                self.why = "the other machine takes too long to check the state".into();
                self.handle(Event::Cancel);
                continue;
            }
            if moving && !self.given_up && !(way.progress)(Progress::Waiting) {
                self.why = "it was cancelled".into();
                if let Some(link) = &self.link {
                    let _ = link.send(&Frame::Error(self.why.clone()));
                }
                self.handle(Event::Cancel);
                continue;
            }
            let patience = match (self.given_up, moving) {
                (true, _) => CLEARING,
                (false, true) => LOOK,
                (false, false) => REPEAT,
            };
            let received = match &self.link {
                Some(link) => link.receive_within(patience),
                None => Err(LinkError::Closed),
            };
            match received {
                Ok(Some(frame)) => {
                    said = Instant::now();
                    self.frame(frame);
                }
                Ok(None) if moving && !self.given_up && said.elapsed() < REPEAT => {}
                // The other side has said why it doesn't go on, and no more.
                Ok(None) if self.given_up => return,
                Ok(None) => {
                    said = Instant::now();
                    self.handle(Event::Contact);
                }
                Err(e) => {
                    if self.link.take().is_some() && self.why.is_empty() {
                        self.why = e.to_string();
                    }
                    self.handle(Event::Lost);
                    if matches!(
                        self.machine.status(),
                        SenderStatus::Over | SenderStatus::Closing | SenderStatus::Home
                    ) {
                        return;
                    }
                    let Some(pause) = tries.next() else { return };
                    thread::sleep(*pause);
                    (way.progress)(Progress::Reconnecting);
                    let Some(place) = &self.place else { return };
                    match (way.connect)().and_then(|link| greet_again(link, self.shelf.store(), place)) {
                        Ok(link) => {
                            self.link = Some(link);
                            self.handle(Event::Contact);
                        }
                        Err(e) => self.why = e.to_string(),
                    }
                }
            }
        }
    }

    fn frame(&mut self, frame: Frame) {
        match frame {
            Frame::Handover(bytes) => match ToSender::decode(&bytes) {
                Ok(message) => {
                    let own = message.transfer() == self.machine.transfer();
                    if own && matches!(message, ToSender::Prepared { .. }) && self.prepared.is_none() {
                        self.prepared = Some(Instant::now());
                        if let Some(sent) = self.state_sent {
                            self.moved.send = sent.elapsed();
                        }
                    }
                    if own {
                        self.handle(Event::Message(message));
                    } else if let Some(link) = &self.link {
                        // A lost connection is noticed when it is read from.
                        let _ = answer(link, self.shelf, message);
                    }
                }
                Err(_) => self.link = None,
            },
            Frame::Error(why) => {
                self.why = why;
                self.given_up = true;
            }
            Frame::Runs { pid, log } => self.moved.runs = Some((pid, log)),
            _ => self.link = None,
        }
    }

    fn handle(&mut self, event: Event<ToSender>) {
        let actions = self.machine.handle(event);
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<SenderAction>) {
        let (mut queue, mut events) = (VecDeque::from(actions), VecDeque::new());
        loop {
            let Some(action) = queue.pop_front() else {
                match events.pop_front() {
                    Some(event) => queue.extend(self.machine.handle(event)),
                    None => return,
                }
                continue;
            };
            let Some(place) = &self.place else { return };
            let event = match action {
                Action::Send(message) => {
                    if let Some(link) = &self.link {
                        let _ = link.send(&Frame::Handover(ToReceiver::encode(&message)));
                    }
                    None
                }
                Action::Persist(record) => Some(match place.persist(record.map(|r| r.encode())) {
                    Ok(()) => Event::Persisted,
                    Err(e) => {
                        self.why = format!("the transfer's record can't be written: {e}");
                        Event::PersistFailed
                    }
                }),
                Action::Run(_) => Some(match self.program.go_on() {
                    Ok(()) => Event::Runs,
                    Err(why) => {
                        self.why = why;
                        Event::RunFailed
                    }
                }),
                Action::EndProgram => {
                    if let Err(why) = self.program.end() {
                        self.why = why;
                    }
                    None
                }
                Action::DropCopy => {
                    let _ = place.remove_state();
                    None
                }
                Action::Report(report) => {
                    if report == Report::Moved
                        && let Some(prepared) = self.prepared
                    {
                        self.moved.start = prepared.elapsed();
                    }
                    if matches!(report, Report::PeerForgot | Report::Contradiction { .. }) {
                        self.why = crate::receiver::words(report);
                    }
                    self.last = Some(report);
                    None
                }
            };
            // What follows from it is done after all that was to be done before.
            events.extend(event);
        }
    }

    fn outcome(mut self) -> io::Result<Outcome> {
        let attempt = self.machine.transfer().attempt;
        let status = self.machine.status();
        if let Some(link) = self.link.take() {
            link.finish();
        }
        let Some(place) = self.place.take() else {
            return Err(io::Error::other("the transfer's place is gone"));
        };
        let state = place.file(STATE);
        let why = std::mem::take(&mut self.why);
        Ok(match (status, self.last) {
            (SenderStatus::Over | SenderStatus::Closing, Some(Report::Moved)) => {
                // What can't be removed now is removed by `dunlin settle`.
                let _ = place.remove();
                Outcome::Moved(self.moved)
            }
            (SenderStatus::Over | SenderStatus::Closing, _) => {
                let _ = place.remove();
                Outcome::Home(why)
            }
            (SenderStatus::Home, Some(Report::CannotRun)) => Outcome::Standing { state, why },
            // Its process waits until what was decided can be written.
            (SenderStatus::Home, Some(Report::DiskFails)) if place.has(STANDING)? => Outcome::Standing { state, why },
            (SenderStatus::Home, _) => Outcome::Home(why),
            _ => Outcome::InDoubt { attempt, why },
        })
    }
}

/// What is known of a transfer's program, for a person.
pub fn about(place: &Place) -> Option<About> {
    let bytes = fs::read(place.file("about")).ok()?;
    postcard::from_bytes(&bytes).ok()
}

/// Waits until a process that stands still has gone on or ended; false if it does neither.
pub fn has_left(place: &Path) -> io::Result<bool> {
    let deadline = Instant::now() + LEAVING;
    while is_locked(&place.join(STANDING))? {
        if Instant::now() > deadline {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}
