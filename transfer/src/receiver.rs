//! The receiver's side of a connection.

mod incoming;

use self::incoming::{Refusal, executable, executable_of, module, round, snapshot};
use crate::files;
use crate::link::{Link, LinkError};
use crate::records::{
    EXECUTABLE, MODULE, Place, RUNNING, STARTED, Shelf, Side, is_locked, random, remove_if_there, write_durably,
};
use crate::wire::{About, FileKind, Frame, MOST_DESCRIPTION, Terms, VERSION};
use dunlin_handover::{
    Action, Encoded, Event, Id, Receiver, ReceiverAction, ReceiverRecord, ReceiverStatus, Report, Run, Settle,
    ToReceiver, ToSender, Transfer,
};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How often what is open is said again, or tried again, while nothing is heard.
const REPEAT: Duration = Duration::from_secs(2);

/// How long a process that is starting, and that nobody waits for any more, may take to notice.
const STARTING: Duration = Duration::from_secs(60);

/// Bytes of a program's name, at most: it is that of a file.
const MOST_NAME: usize = 255;

/// Characters that a person is told of why a sender gives up, at most.
const MOST_SAID: usize = 200;

/// The receiving machine: what it has and allows, and how it runs programs.
pub trait Host {
    /// The other side has said its first word: what was said on the connection is its own, and not repeated by another.
    fn greeted(&mut self) {}

    /// Under which conditions a program may come.
    fn terms(&mut self, about: &About) -> Terms;

    /// The executable of a program that is here already and may be run.
    fn executable(&mut self, about: &About) -> Option<PathBuf>;

    /// May this transfer be spoken of on this connection? Else it is as if it were not here.
    fn is_its_peer(&mut self, place: &Place) -> bool {
        let _ = place;
        true
    }

    /// Notes in a new transfer's directory whose it is.
    fn note_peer(&mut self, place: &Place) -> io::Result<()> {
        let _ = place;
        Ok(())
    }

    /// May a file of this length come? `came`: bytes of rounds and state that have come for the same transfer on this
    /// connection.
    fn make_room(&mut self, kind: FileKind, len: u64, came: u64) -> Result<(), String> {
        let _ = (kind, len, came);
        Ok(())
    }

    /// Makes the program's executable from the module that has come, if it is the program's.
    fn compile(&mut self, about: &About, module: &Path, executable: &Path) -> Result<(), String>;

    /// Is what has come that program's executable for this machine, and may it be run? If not, why.
    fn admit(&mut self, about: &About, executable: &Path) -> Result<(), String>;

    /// A program is about to come, and this is its executable: what can be done ahead of its state is done now. Nothing
    /// of the program runs before [`Host::start`], and nothing is to be seen of it until then but in the place.
    fn expect(&mut self, about: &About, executable: &Path, place: &Place) {
        let _ = (about, executable, place);
    }

    /// What was expected doesn't come any more, or not on this connection: what was done ahead is undone.
    fn forget(&mut self) {}

    /// A round of pre-copy has come, and is durable: it may be read before the program comes, or not at all.
    fn round(&mut self, about: &About, executable: &Path, place: &Place, number: u32) {
        let _ = (about, executable, place, number);
    }

    /// Would the program go on from this snapshot here? All that stands in the way; nothing is changed. The snapshot is
    /// whole, but becomes durable only meanwhile.
    fn check(&mut self, about: &About, executable: &Path, snapshot: &Path) -> Result<(), String>;

    /// Starts the program from its snapshot. It holds a lock on `running` as long as it lives, and makes `started`
    /// before its first instruction. An error means that it has ended: if there is no `started`, it never ran.
    fn start(&mut self, about: &About, executable: &Path, place: &Place) -> Result<Started, String>;

    /// The transfer is over, the program runs from this executable, which is about to be removed: keep it if you like.
    fn keep(&mut self, about: &About, executable: &Path);

    /// Tells whoever runs this what is going on.
    fn tell(&mut self, about: &str, report: &str);
}

/// A program that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its process.
    pub pid: u32,
    /// Where its output goes.
    pub log: PathBuf,
}

/// What is happening with one transfer.
struct Open {
    place: Place,
    machine: Receiver,
    about: About,
    /// Its executable, once that was looked for.
    executable: Option<PathBuf>,
    /// A person wants what crashed here to go on from its copy, as `dunlin resume` would.
    anew: bool,
    /// The number of the last round that came on this connection; 0: none.
    rounds: u32,
    /// Bytes of rounds and state that were announced on this connection.
    came: u64,
}

impl Open {
    fn new(place: Place, machine: Receiver, about: About) -> Open {
        Open {
            place,
            machine,
            about,
            executable: None,
            anew: false,
            rounds: 0,
            came: 0,
        }
    }
}

/// A connection on which programs may come, and who receives them.
struct Session<'a> {
    link: &'a Link,
    shelf: &'a Shelf,
    host: &'a mut dyn Host,
    offered: Option<About>,
    open: Option<Open>,
    /// The sender has said why it gives up.
    gave_up: bool,
}

/// Serves one connection until it ends. An error is one of the connection: of the transfer there is nothing to be lost.
pub fn serve(link: &Link, shelf: &Shelf, host: &mut dyn Host) -> Result<(), LinkError> {
    link.greet(shelf.store())?;
    let theirs = match link.receive()? {
        Frame::Hello {
            version: VERSION,
            store,
        } => Id(store),
        Frame::Hello { version, .. } => return Err(LinkError::Version(version)),
        _ => return Err(LinkError::Unexpected),
    };
    host.greeted();
    if let Err(e) = remind(link, shelf, host, theirs) {
        host.tell("", &format!("earlier transfers can't be looked at: {e}"));
    }
    let mut session = Session {
        link,
        shelf,
        host,
        offered: None,
        open: None,
        gave_up: false,
    };
    let ended = session.run();
    session.close();
    match ended {
        Err(LinkError::Closed) => {
            link.finish();
            Ok(())
        }
        other => other,
    }
}

/// Says how it stands with what has come earlier from the same sender, and of which it may not have heard the end.
fn remind(link: &Link, shelf: &Shelf, host: &mut dyn Host, sender: Id) -> io::Result<()> {
    for (side, attempt) in shelf.list()? {
        let Some(place) = (side == Side::In)
            .then(|| shelf.find_idle(side, attempt))
            .transpose()?
            .flatten()
        else {
            continue;
        };
        if !host.is_its_peer(&place) {
            continue;
        }
        match place.record::<ReceiverRecord>()? {
            None => place.remove()?,
            Some(record) if record.transfer.store == sender => {
                for action in Receiver::restart(record).1 {
                    if let Action::Send(message) = action {
                        let _ = link.send(&Frame::Handover(message.encode()));
                    }
                }
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Does what a person wants with a transfer that stands still here, or tries what can be done without the other side
/// (`Settle::Again`). Without a person's word, what is in doubt stays so. Returns how far it is then.
pub fn settle(place: Place, host: &mut dyn Host, settle: Option<Settle>) -> io::Result<ReceiverStatus> {
    let Some(record) = place.record::<ReceiverRecord>()? else {
        place.remove()?;
        return Ok(ReceiverStatus::Over);
    };
    let about = read_about(&place)?;
    let (machine, mut actions) = Receiver::restart(record);
    if settle == Some(Settle::Forget) && !matches!(left(&place)?, Left::Runs) {
        // It is not wanted here: nothing starts it now.
        actions.retain(|action| !matches!(action, Action::Run(_)));
    }
    let mut open = Open::new(place, machine, about);
    perform(&mut open, None, host, actions);
    if let Some(settle) = settle {
        open.anew = settle == Settle::Again;
        let actions = open.machine.handle(Event::Settle(settle));
        perform(&mut open, None, host, actions);
    }
    let status = open.machine.status();
    if status == ReceiverStatus::Over {
        open.place.remove()?;
    }
    Ok(status)
}

fn read_about(place: &Place) -> io::Result<About> {
    let bytes = std::fs::read(place.file("about"))?;
    postcard::from_bytes(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

impl Session<'_> {
    fn run(&mut self) -> Result<(), LinkError> {
        loop {
            let Some(frame) = self.link.receive_within(REPEAT)? else {
                self.handle(Event::Contact);
                continue;
            };
            match frame {
                Frame::About(about) if about.name.len() <= MOST_NAME => {
                    // What its place is kept for is that one from now on.
                    self.close();
                    let mut terms = self.host.terms(&about);
                    let bytes = |t: &Terms| postcard::to_stdvec(t).map_or(usize::MAX, |b| b.len());
                    while bytes(&terms) > MOST_DESCRIPTION && terms.findings.len() > 1 {
                        terms.findings.pop();
                    }
                    self.offered = terms.findings.is_empty().then_some(about);
                    self.link.send(&Frame::Terms(terms))?;
                }
                Frame::Handover(bytes) => {
                    let message = ToReceiver::decode(&bytes).map_err(|_| LinkError::Unexpected)?;
                    self.message(message)?;
                }
                Frame::File { kind, len } => self.file(kind, len)?,
                Frame::Error(why) => {
                    if !std::mem::replace(&mut self.gave_up, true) {
                        let name = self.open.as_ref().map_or("", |o| &o.about.name).to_owned();
                        let why: String = why.chars().take(MOST_SAID).collect();
                        self.host.tell(&name, &format!("the sender gives up: {why}"));
                    }
                }
                _ => return Err(LinkError::Unexpected),
            }
        }
    }

    /// The transfer is not worked at any more on this connection.
    fn close(&mut self) {
        self.handle(Event::Lost);
        self.host.forget();
        self.open = None;
    }

    fn message(&mut self, message: ToReceiver) -> Result<(), LinkError> {
        let transfer = message.transfer();
        if self.open.as_ref().is_none_or(|o| o.machine.transfer() != transfer) {
            self.close();
            match self.load(transfer, &message) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(e) => {
                    // Nothing is known of what is on the disk, so nothing is said of the transfer.
                    return self.link.send(&Frame::Error(format!(
                        "the receiver can't read or write its records: {e}"
                    )));
                }
            }
        }
        self.handle(Event::Message(message));
        Ok(())
    }

    /// Opens the transfer that a message is about; false if there is none.
    fn load(&mut self, transfer: Transfer, message: &ToReceiver) -> io::Result<bool> {
        if let Some(place) = self.shelf.find(Side::In, transfer.attempt)? {
            if !self.host.is_its_peer(&place) {
                return Err(io::Error::other(
                    "there is a transfer of that name from another machine",
                ));
            }
            if let Some(record) = place.record::<ReceiverRecord>()? {
                if record.transfer != transfer {
                    return Err(io::Error::other("there is another transfer of that name"));
                }
                let about = read_about(&place)?;
                let (machine, actions) = Receiver::restart(record);
                let mut open = Open::new(place, machine, about);
                perform(&mut open, Some(self.link), self.host, actions);
                self.open = Some(open);
                return Ok(true);
            }
            place.remove()?;
        }
        let reply = match (message, self.offered.take()) {
            (ToReceiver::Offer { .. }, Some(about)) => {
                let place = self.shelf.create(Side::In, transfer.attempt)?;
                let bytes = postcard::to_stdvec(&about).map_err(io::Error::other)?;
                write_durably(&place.file("about"), &bytes)?;
                place.note_boot()?;
                self.host.note_peer(&place)?;
                let machine = Receiver::offered(transfer, random()?);
                let mut open = Open::new(place, machine, about);
                // If it is not here, it comes first of all.
                if let Ok(executable) = executable_of(&mut open, self.host) {
                    self.host.expect(&open.about, &executable, &open.place);
                }
                self.open = Some(open);
                return Ok(true);
            }
            (ToReceiver::Offer { .. }, None) => Some(ToSender::Refused {
                transfer,
                receipt: None,
            }),
            (other, _) => other.answer_without_record(),
        };
        if let Some(reply) = reply {
            // A lost connection is noticed when it is read from.
            let _ = self.link.send(&Frame::Handover(reply.encode()));
        }
        Ok(false)
    }

    fn handle(&mut self, event: Event<ToReceiver>) {
        let Some(open) = &mut self.open else { return };
        let actions = open.machine.handle(event);
        perform(open, Some(self.link), self.host, actions);
        if open.machine.status() == ReceiverStatus::Over
            && let Some(open) = self.open.take()
        {
            // It is there only if the program runs from it.
            if let Ok(true) = open.place.has(EXECUTABLE) {
                self.host.keep(&open.about, &open.place.file(EXECUTABLE));
            }
            if let Err(e) = open.place.remove() {
                self.host.tell(
                    &open.about.name,
                    &format!("what is left of the transfer can't be removed: {e}"),
                );
            }
        }
    }

    /// A file comes in.
    fn file(&mut self, kind: FileKind, len: u64) -> Result<(), LinkError> {
        let Some(open) = &mut self.open else {
            return Err(LinkError::Unexpected);
        };
        if open.machine.status() != ReceiverStatus::Receiving {
            return Err(LinkError::Unexpected);
        }
        if let Err(why) = self.host.make_room(kind, len, open.came) {
            self.link.send(&Frame::Error(why))?;
            self.handle(Event::Cancel);
            return files::ignore(self.link);
        }
        if let FileKind::Round(_) | FileKind::Snapshot = kind {
            open.came = open.came.saturating_add(len);
        }
        let came = match kind {
            FileKind::Executable => executable(self.link, self.host, open, len),
            FileKind::Module => module(self.link, self.host, open, len),
            FileKind::Round(number) => round(self.link, self.host, open, number, len),
            FileKind::Snapshot => snapshot(self.link, self.host, open, len),
        };
        match came.map(|()| kind) {
            Ok(FileKind::Executable | FileKind::Module) => self.link.send(&Frame::Admitted)?,
            // The sender has heard of it.
            Ok(FileKind::Round(_)) => {}
            Ok(FileKind::Snapshot) => self.handle(Event::CopyDurable),
            Err(Refusal::Link(e)) => return Err(e),
            Err(Refusal::Here(why)) => {
                self.host.forget();
                self.link.send(&Frame::Error(why))?;
                self.handle(Event::Cancel);
            }
        }
        Ok(())
    }
}

/// Does what a side wants done, and what follows from it.
fn perform(open: &mut Open, link: Option<&Link>, host: &mut dyn Host, actions: Vec<ReceiverAction>) {
    let (mut queue, mut events) = (VecDeque::from(actions), VecDeque::new());
    loop {
        let Some(action) = queue.pop_front() else {
            match events.pop_front() {
                Some(event) => queue.extend(open.machine.handle(event)),
                None => return,
            }
            continue;
        };
        let event = match action {
            Action::Send(message) => {
                if let Some(link) = link {
                    // A lost connection is noticed when it is read from.
                    let _ = link.send(&Frame::Handover(message.encode()));
                }
                None
            }
            Action::Persist(record) => Some(match open.place.persist(record.map(|r| r.encode())) {
                Ok(()) => Event::Persisted,
                Err(e) => {
                    host.tell(
                        &open.about.name,
                        &format!("the transfer's record can't be written: {e}"),
                    );
                    Event::PersistFailed
                }
            }),
            Action::Run(how) => run(open, link, host, how),
            Action::EndProgram => None,
            Action::DropCopy => {
                host.forget();
                let others = [EXECUTABLE, MODULE].map(|name| remove_if_there(&open.place.file(name)));
                if let Err(e) = others.into_iter().fold(open.place.remove_state(), Result::and) {
                    host.tell(&open.about.name, &format!("its copy can't be removed: {e}"));
                }
                None
            }
            Action::Report(report) => {
                host.tell(&open.about.name, &words(report));
                None
            }
        };
        // What follows from it is done after all that was to be done before.
        events.extend(event);
    }
}

fn run(open: &mut Open, link: Option<&Link>, host: &mut dyn Host, how: Run) -> Option<Event<ToReceiver>> {
    let stands_still = |why: String| {
        if let Some(link) = link {
            let _ = link.send(&Frame::Error(why.clone()));
        }
        why
    };
    if how == Run::Recover {
        match left(&open.place) {
            Ok(Left::Runs) => return Some(Event::Runs),
            Ok(Left::NeverRan) => {}
            Ok(Left::Unknown) if open.anew => {}
            Ok(Left::Unknown) => {
                let why = "it came here, and has crashed, perhaps after it had gone on; it stands still until somebody \
                           says `dunlin settle` here";
                host.tell(&open.about.name, &stands_still(why.into()));
                return None;
            }
            Err(e) => {
                let why = format!("whether it runs can't be found out: {e}");
                host.tell(&open.about.name, &stands_still(why));
                return None;
            }
        }
        for name in [RUNNING, STARTED] {
            if let Err(e) = remove_if_there(&open.place.file(name)) {
                host.tell(&open.about.name, &stands_still(format!("it can't be started: {e}")));
                return None;
            }
        }
    }
    let started = executable_of(open, host).and_then(|exe| host.start(&open.about, &exe, &open.place));
    Some(match started {
        Ok(Started { pid, log }) => {
            if let Some(link) = link {
                let log = log.display().to_string();
                let _ = link.send(&Frame::Runs { pid, log });
            }
            Event::Runs
        }
        Err(why) => {
            if let Some(link) = link {
                let _ = link.send(&Frame::Error(format!("it can't be started there: {why}")));
            }
            host.tell(&open.about.name, &why);
            match open.place.has(STARTED) {
                Ok(false) => Event::RunFailed,
                // It may have run, so nobody may say that it has not.
                Ok(true) | Err(_) => return None,
            }
        }
    })
}

/// What is left of a start that nobody has seen the end of.
enum Left {
    /// The program runs.
    Runs,
    /// None of its instructions has run, and none will.
    NeverRan,
    /// It may have run.
    Unknown,
}

fn left(place: &Place) -> io::Result<Left> {
    let deadline = Instant::now() + STARTING;
    loop {
        let started = place.has(STARTED)?;
        if !is_locked(&place.file(RUNNING))? {
            // It may have been made, and its process ended, between the two looks.
            let started = started || place.has(STARTED)?;
            return Ok(match place.is_same_boot() && !started {
                true => Left::NeverRan,
                false => Left::Unknown,
            });
        }
        if started {
            return Ok(Left::Runs);
        }
        // It will notice that nobody waits for it, and end.
        if Instant::now() > deadline {
            return Err(io::Error::other("its process neither goes on nor ends"));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a person is told of a report.
pub fn words(report: Report) -> String {
    match report {
        Report::Home => "it goes on where it was".into(),
        Report::Moved => "it has moved".into(),
        Report::InDoubt => "whether it has moved is not known; both sides have its state".into(),
        Report::TooLate => "it is too late to undo the transfer".into(),
        Report::DiskFails => "the transfer's record can't be written".into(),
        Report::CannotRun => "it does not start from its state, and stands still".into(),
        Report::PeerForgot => "the other machine knows nothing of it any more; it stands still".into(),
        Report::Contradiction { receipt } => format!("the other side contradicts itself (receipt {receipt})"),
        Report::Crashed => "it crashed with its machine".into(),
        Report::NothingToSettle => "there is nothing to settle in that way".into(),
    }
}
