//! Two machines, a program, up to two or three transfers of it, and a network that does everything to messages.

use super::half::{Half, Machine, Stage};
use super::sent::{Message, Sent};
use crate::{Action, Event, Found, Id, Receiver, Run, Sender, SenderStage, ToSender, Transfer};

/// How much may go wrong, and what the driver does wrong (nothing, in what it promises).
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Transfers, one after the other, from wherever the program is.
    pub transfers: usize,
    /// Crashes, of either machine, each at any step.
    pub crashes: u8,
    /// Writes and starts that fail.
    pub failures: u8,
    /// Cancellations, on either side.
    pub cancels: u8,
    /// Disks that are lost, and persons who say so.
    pub wipes: u8,
    /// Offers accepted in a transfer.
    pub offers: u8,
    pub lapse: Option<Lapse>,
}

/// An obligation that the driver neglects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lapse {
    /// Says that this record is durable, and it isn't.
    NotDurable(Stage),
    /// Says that the copy is durable, and it isn't.
    NoCopy,
    /// Lets a stopped program go on when its driver dies.
    GoesOnWithoutDriver,
    /// Does actions in another order.
    AnyOrder,
    /// Begins a transfer before the one that brought the program is durably over.
    LeavesEarly,
    /// Takes half a copy for a whole one after a restart.
    HalfACopy,
    /// Gives two preparations the same receipt.
    SameReceipt,
    /// Gives two transfers the same name.
    SameTransfer,
    /// Answers for a store that is lost.
    OtherStore,
    /// Says that the program didn't start, and it runs.
    StartedAllTheSame,
}

/// Whose a process is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Owner {
    Nobody,
    /// The sender of this transfer moves it.
    Sender(usize),
    /// The receiver of this transfer started it.
    Receiver(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Process {
    pub site: usize,
    pub runs: bool,
    pub owner: Owner,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Leg {
    /// The sender's machine; the receiver's is the other one.
    pub from: usize,
    pub sender: Half<Sender>,
    pub receiver: Half<Receiver>,
    /// The program was stopped for this, and its state went out to the receiver.
    pub stopped: bool,
    /// The program has gone on from that stop, wherever.
    pub gone_on: bool,
    /// It was durable that the program goes on at the sender.
    pub home: bool,
    pub offers: u8,
    /// The disk of the sender's or the receiver's machine was lost since the transfer began.
    pub wiped: [bool; 2],
    pub sent: Sent,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct World {
    pub legs: Vec<Leg>,
    pub processes: Vec<Process>,
    pub crashes: u8,
    pub failures: u8,
    pub cancels: u8,
    pub wipes: u8,
    /// The program died in a crash while it existed nowhere but in memory.
    pub crashed: bool,
    /// A promise that a step broke.
    pub broken: Option<&'static str>,
}

pub(super) const ELSEWHERE: Id = Id([99; 16]);

fn id(kind: u8, number: usize) -> Id {
    let mut id = [kind; 16];
    id[0] = number as u8;
    Id(id)
}

impl World {
    /// The program runs on machine 0.
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            legs: vec![],
            processes: vec![Process {
                site: 0,
                runs: true,
                owner: Owner::Nobody,
            }],
            crashes: bounds.crashes,
            failures: bounds.failures,
            cancels: bounds.cancels,
            wipes: bounds.wipes,
            crashed: false,
            broken: None,
        }
    }

    pub(super) fn process_of(&self, owner: Owner) -> Option<usize> {
        self.processes.iter().position(|p| p.owner == owner)
    }

    pub(super) fn running(&self) -> usize {
        self.processes.iter().filter(|p| p.runs).count()
    }

    /// Whether there is a whole durable copy of the program as it is now, which some record will bring to life.
    pub(super) fn has_copy(&self) -> bool {
        self.legs.iter().any(|leg| {
            let sender = match leg.sender.stage() {
                Stage::Moving | Stage::Released => !leg.gone_on,
                Stage::Home => true,
                _ => false,
            };
            let receiver = match leg.receiver.stage() {
                Stage::Prepared | Stage::Refused => !leg.gone_on && !leg.home,
                Stage::Running => true,
                _ => false,
            };
            leg.sender.copy && sender || leg.receiver.copy && receiver
        })
    }

    /// Whether a process has the program as it is now.
    pub(super) fn has_process(&self) -> bool {
        let current = |p: &Process| match p.owner {
            Owner::Sender(leg) => p.runs || !self.legs[leg].gone_on,
            _ => p.runs,
        };
        self.processes.iter().any(current)
    }

    /// Whether the program runs elsewhere, or died in a crash: nobody needs what this owner has.
    pub(super) fn lives_without(&self, owner: Owner) -> bool {
        self.crashed || self.processes.iter().any(|p| p.runs && p.owner != owner)
    }

    /// What the promise forbids, if it is so here.
    pub(super) fn violation(&self) -> Option<&'static str> {
        let released_unprepared = |leg: &Leg| {
            let SenderStage::Released { receipt, .. } = leg.sender.disk?.stage else {
                return None;
            };
            let asks = |m: &Message| match *m {
                Message::ToSender(ToSender::Prepared { receipt: r, .. }) => r == receipt,
                Message::ToSender(ToSender::Refused { receipt: r, .. }) => r == Some(receipt),
                _ => false,
            };
            (!leg.sent.any(asks)).then_some(())
        };
        if self.broken.is_some() {
            self.broken
        } else if self.running() > 1 {
            Some("two run")
        } else if !self.crashed && !self.has_process() && !self.has_copy() {
            Some("lost")
        } else if self.legs.iter().any(|leg| released_unprepared(leg).is_some()) {
            Some("released what was not prepared")
        } else {
            // Only a sender that had lost the program anyway releases it without a copy of its own.
            let alone = |(number, leg): (usize, &Leg)| match leg.sender.disk.map(|d| d.stage) {
                Some(SenderStage::Released { own: true, .. }) => !leg.sender.copy && !leg.gone_on,
                Some(SenderStage::Released { own: false, .. }) => self.process_of(Owner::Sender(number)).is_some(),
                _ => false,
            };
            let alone = self.legs.iter().enumerate().any(alone);
            alone.then_some("in doubt without the sender's copy")
        }
    }

    /// Whether all is over, and the program runs in one place (or died in a crash as it would have without transfers).
    pub(super) fn is_resolved(&self) -> bool {
        let clear = |leg: &Leg| leg.sender.is_clear() && leg.receiver.is_clear();
        let idle = |leg: &Leg| leg.sender.queue.is_empty() && leg.receiver.queue.is_empty();
        let place = self.running() == 1 && self.processes.len() == 1 || self.crashed && self.processes.is_empty();
        place && self.legs.iter().all(|leg| clear(leg) && idle(leg))
    }

    pub(super) fn begin(&mut self, process: usize, bounds: &Bounds) {
        let number = self.legs.len();
        let name = match bounds.lapse {
            Some(Lapse::SameTransfer) => 0,
            _ => number,
        };
        let from = self.processes[process].site;
        let transfer = Transfer {
            program: id(1, 0),
            store: id(2, from),
            attempt: id(3, name),
        };
        self.processes[process].owner = Owner::Sender(number);
        self.legs.push(Leg {
            from,
            sender: Half::new(),
            receiver: Half::new(),
            stopped: false,
            gone_on: false,
            home: false,
            offers: 0,
            wiped: [false; 2],
            sent: Sent::default(),
        });
        let (sender, actions) = Sender::start(transfer);
        self.legs[number].sender.machine = Some(sender);
        self.legs[number].sender.queue = actions;
        self.settle(bounds);
    }

    pub(super) fn receipt(&mut self, leg: usize, bounds: &Bounds) -> Id {
        self.legs[leg].offers += 1;
        match bounds.lapse {
            Some(Lapse::SameReceipt) => id(4, 0),
            _ => id(4, 1 + leg * 16 + usize::from(self.legs[leg].offers)),
        }
    }

    /// A crash of a machine (with its processes, or only of what drives the transfers there), and its restart. Writes
    /// under way whose bit is set have reached the disk.
    pub(super) fn crash(&mut self, site: usize, kills: bool, written: usize, bounds: &Bounds) {
        let mut bit = 0;
        let mut is_written = |is_writing: bool| {
            bit += usize::from(is_writing);
            is_writing && written & (1 << (bit - 1)) != 0
        };
        for leg in &mut self.legs {
            if leg.from == site {
                let done = is_written(leg.sender.writing.is_some());
                leg.sender.crash(done);
                leg.home |= leg.sender.stage() == Stage::Home;
            } else {
                let done = is_written(leg.receiver.writing.is_some());
                leg.receiver.crash(done);
            }
        }
        if kills {
            self.processes.retain(|p| p.site != site);
            self.crashed |= !self.has_process() && !self.has_copy();
        }
        for p in self.processes.iter_mut().filter(|p| p.site == site) {
            if let Owner::Sender(leg) = p.owner {
                let recordless = self.legs[leg].sender.disk.is_none();
                if recordless || bounds.lapse == Some(Lapse::GoesOnWithoutDriver) {
                    if !p.runs {
                        p.runs = true;
                        self.legs[leg].gone_on = true;
                    }
                    if recordless {
                        p.owner = Owner::Nobody;
                    }
                }
            }
        }
        for number in 0..self.legs.len() {
            let found = match self.process_of(Owner::Sender(number)) {
                Some(_) => Found::Process,
                None if self.legs[number].sender.copy => Found::Copy,
                None if bounds.lapse == Some(Lapse::HalfACopy) && self.legs[number].stopped => Found::Copy,
                None => Found::Nothing,
            };
            let leg = &mut self.legs[number];
            if leg.from == site {
                if let Some(record) = leg.sender.disk {
                    let (machine, actions) = Sender::restart(record, found);
                    leg.sender.machine = Some(machine);
                    leg.sender.queue = actions;
                } else {
                    leg.sender.copy = false;
                }
            } else if let Some(record) = leg.receiver.disk {
                let (machine, actions) = Receiver::restart(record);
                leg.receiver.machine = Some(machine);
                leg.receiver.queue = actions;
            } else {
                leg.receiver.copy = false;
            }
        }
        self.settle(bounds);
    }

    /// A machine's disk is lost, and whatever is in its memory.
    pub(super) fn wipe(&mut self, site: usize, bounds: &Bounds) {
        for leg in &mut self.legs {
            let side = usize::from(leg.from != site);
            leg.wiped[side] = true;
            match side {
                0 => leg.sender = Half::new(),
                _ => leg.receiver = Half::new(),
            }
        }
        self.processes.retain(|p| p.site != site);
        self.crashed |= !self.has_process() && !self.has_copy();
        self.settle(bounds);
    }

    /// Does at once what a crash just before or after would not tell apart: sending (a crash before it is the loss of
    /// the message) and beginning to write. Forgets machines that are over.
    pub(super) fn settle(&mut self, bounds: &Bounds) {
        for number in 0..self.legs.len() {
            while let Some(first) = first_light(&mut self.legs[number].sender, bounds) {
                if let Action::Send(message) = first {
                    self.legs[number].sent.add(Message::ToReceiver(message));
                }
            }
            while let Some(first) = first_light(&mut self.legs[number].receiver, bounds) {
                if let Action::Send(message) = first {
                    self.legs[number].sent.add(Message::ToSender(message));
                }
            }
            let leg = &mut self.legs[number];
            if leg.sender.is_ready() && leg.sender.machine.as_ref().is_some_and(Machine::is_over) {
                leg.sender.machine = None;
                leg.sender.copy = false;
                if let Some(process) = self.process_of(Owner::Sender(number)) {
                    self.processes[process].owner = Owner::Nobody;
                }
            }
            let receiver = &mut self.legs[number].receiver;
            if receiver.is_ready() && receiver.machine.as_ref().is_some_and(Machine::is_over) {
                receiver.machine = None;
                receiver.copy = false;
            }
        }
        self.processes.sort_by_key(|p| (p.site, p.runs));
    }

    /// The sender's process goes on, or is made anew from the sender's copy.
    pub(super) fn run_at_sender(&mut self, number: usize, how: Run) {
        let leg = &mut self.legs[number];
        let ran = match self.processes.iter_mut().find(|p| p.owner == Owner::Sender(number)) {
            Some(process) if process.runs => true,
            Some(process) => {
                process.runs = true;
                if leg.gone_on {
                    self.broken = Some("went on twice from one stop");
                }
                true
            }
            None if leg.sender.copy => {
                if leg.gone_on && how != Run::Recover {
                    self.broken = Some("went on twice from one stop");
                }
                self.processes.push(Process {
                    site: leg.from,
                    runs: true,
                    owner: Owner::Sender(number),
                });
                true
            }
            None => false,
        };
        leg.gone_on |= ran && leg.stopped;
        leg.sender.ran = Some(ran);
    }

    /// The receiver starts the program from its copy.
    pub(super) fn run_at_receiver(&mut self, number: usize, how: Run) {
        let leg = &mut self.legs[number];
        let lives = self.processes.iter().any(|p| p.owner == Owner::Receiver(number));
        let ran = match lives {
            true => true,
            false if leg.receiver.copy => {
                if leg.gone_on && how != Run::Recover {
                    self.broken = Some("went on twice from one stop");
                }
                self.processes.push(Process {
                    site: 1 - leg.from,
                    runs: true,
                    owner: Owner::Receiver(number),
                });
                true
            }
            false => false,
        };
        leg.gone_on |= ran;
        leg.receiver.ran = Some(ran);
    }

    /// Ends the process that the sender holds.
    pub(super) fn end_at_sender(&mut self, number: usize) {
        self.processes.retain(|p| p.owner != Owner::Sender(number));
    }

    /// A write has reached the disk.
    pub(super) fn written(&mut self, number: usize) {
        let leg = &mut self.legs[number];
        leg.home |= leg.sender.stage() == Stage::Home;
    }
}

/// Takes the first action if it is one that is done at once.
fn first_light<M: Machine>(half: &mut Half<M>, bounds: &Bounds) -> Option<Action<M::Out, M::Record>> {
    let first = *half.queue.first()?;
    match first {
        Action::Send(_) | Action::Report(_) => {}
        Action::Persist(record) if bounds.lapse == Some(Lapse::NotDurable(M::stage(record))) => {
            half.queue.remove(0);
            half.feed(Event::Persisted);
            return Some(first);
        }
        Action::Persist(record) => {
            assert!(half.writing.is_none(), "one write at a time");
            half.writing = Some(record);
        }
        Action::Run(_) | Action::EndProgram | Action::DropCopy => return None,
    }
    half.queue.remove(0);
    Some(first)
}
