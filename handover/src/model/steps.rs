//! Everything that can happen next.

use super::half::{Half, Machine, Stage};
use super::sent::Message;
use super::world::{Bounds, ELSEWHERE, Lapse, Leg, Owner, World};
use crate::{Action, Event, Receiver, ReceiverStatus, SenderStage, SenderStatus, Settle, ToReceiver};

/// A step.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "the fields are for those who read the way to a broken promise")]
pub(super) enum Step {
    /// The program on a machine is to move to the other one.
    Begin,
    Deliver(usize, Message),
    /// A message that was lost or has arrived already.
    DeliverStale(usize, Message),
    Lose(usize, Message),
    Act(Side, &'static str),
    ActFails(Side),
    Answer(Side),
    Written(Side),
    WriteFails(Side, bool),
    Stop(usize),
    CopyDurable(Side),
    Contact(Side),
    Lost(Side),
    Cancel(Side),
    Settle(Side, Settle),
    Crash {
        site: usize,
        kills: bool,
        written: usize,
    },
    Wipe(usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Sender(usize),
    Receiver(usize),
}

impl Step {
    /// Whether it needs nothing to go wrong, and nobody to change their mind. Persons are needed only for what keeps
    /// failing and for disks that are lost: elsewhere contacts alone must resolve everything.
    pub(super) fn is_fair(&self, bounds: &Bounds) -> bool {
        let persons = bounds.failures > 0 || bounds.wipes > 0;
        if let Self::Settle(..) = self {
            return persons;
        }
        !matches!(
            self,
            Self::Begin
                | Self::DeliverStale(..)
                | Self::Lose(..)
                | Self::ActFails(_)
                | Self::WriteFails(..)
                | Self::Cancel(_)
                | Self::Crash { .. }
                | Self::Wipe(_)
        )
    }
}

/// Which half of a leg, for code that is the same for both.
trait Pick: Machine {
    fn half(leg: &mut Leg) -> &mut Half<Self>;
    fn half_ref(leg: &Leg) -> &Half<Self>;
    fn side(leg: usize) -> Side;
    /// A person's step that is true in this world.
    fn vouched(world: &World, leg: usize, settle: Settle) -> bool;
}

impl Pick for crate::Sender {
    fn half(leg: &mut Leg) -> &mut Half<Self> {
        &mut leg.sender
    }
    fn half_ref(leg: &Leg) -> &Half<Self> {
        &leg.sender
    }
    fn side(leg: usize) -> Side {
        Side::Sender(leg)
    }
    fn vouched(world: &World, number: usize, settle: Settle) -> bool {
        let leg = &world.legs[number];
        match settle {
            Settle::Again => true,
            Settle::Here => {
                let released = match leg.sender.disk.map(|d| d.stage) {
                    Some(SenderStage::Released { receipt, .. }) => Some(receipt),
                    _ => None,
                };
                let other = leg.receiver.disk.is_some_and(|d| Some(d.receipt) != released);
                leg.wiped[1] && !leg.gone_on && (leg.receiver.is_clear() || other)
            }
            Settle::Forget => {
                let stale = leg.gone_on && leg.sender.stage() != Stage::Home;
                leg.wiped[1] && (stale || world.lives_without(Owner::Sender(number)))
            }
        }
    }
}

impl Pick for Receiver {
    fn half(leg: &mut Leg) -> &mut Half<Self> {
        &mut leg.receiver
    }
    fn half_ref(leg: &Leg) -> &Half<Self> {
        &leg.receiver
    }
    fn side(leg: usize) -> Side {
        Side::Receiver(leg)
    }
    fn vouched(world: &World, number: usize, settle: Settle) -> bool {
        let leg = &world.legs[number];
        match settle {
            Settle::Again => true,
            Settle::Here => {
                let other = |stage| match stage {
                    SenderStage::Released { receipt, own } => {
                        !own && leg.receiver.disk.is_some_and(|d| d.receipt != receipt)
                    }
                    _ => false,
                };
                let no_sender = leg.sender.disk.map_or(leg.wiped[0], |d| other(d.stage));
                no_sender && !leg.gone_on && !leg.home
            }
            Settle::Forget => {
                let stale = leg.gone_on && leg.receiver.stage() != Stage::Running;
                leg.wiped[0] && (stale || world.lives_without(Owner::Receiver(number)))
            }
        }
    }
}

/// Calls `found` with every next step and the world after it.
pub(super) fn each(world: &World, bounds: &Bounds, found: &mut impl FnMut(Step, World)) {
    let mut next = Next { world, bounds, found };
    if world.legs.len() < bounds.transfers {
        for process in 0..world.processes.len() {
            let p = world.processes[process];
            let may_leave = match p.owner {
                Owner::Nobody => true,
                Owner::Sender(_) => false,
                Owner::Receiver(leg) => {
                    let machine = &world.legs[leg].receiver.machine;
                    let early = bounds.lapse == Some(Lapse::LeavesEarly);
                    early || machine.as_ref().is_none_or(Receiver::may_leave)
                }
            };
            if p.runs && may_leave {
                next.to(Step::Begin, |w| w.begin(process, bounds));
            }
        }
    }
    for leg in 0..world.legs.len() {
        next.messages(leg);
        next.half::<crate::Sender>(leg);
        next.half::<Receiver>(leg);
        next.progress(leg);
    }
    for site in 0..2 {
        next.faults(site);
    }
}

struct Next<'a, F> {
    world: &'a World,
    bounds: &'a Bounds,
    found: &'a mut F,
}

impl<F: FnMut(Step, World)> Next<'_, F> {
    fn to(&mut self, step: Step, change: impl FnOnce(&mut World)) {
        let mut world = self.world.clone();
        change(&mut world);
        world.settle(self.bounds);
        if world != *self.world {
            (self.found)(step, world);
        }
    }

    /// Everything sent may arrive, again and again, at any time, in any order, or not.
    fn messages(&mut self, number: usize) {
        let (world, bounds) = (self.world, self.bounds);
        let leg = &world.legs[number];
        for (message, fresh) in leg.sent.each() {
            let direction = message.direction();
            if fresh {
                self.to(Step::Lose(number, message), |w| w.legs[number].sent.is_used(direction));
            }
            let step = match fresh {
                true => Step::Deliver(number, message),
                false => Step::DeliverStale(number, message),
            };
            let arrives = move |w: &mut World| {
                if fresh {
                    w.legs[number].sent.is_used(direction);
                }
            };
            let busy = |queue: bool, machine: bool| machine && !queue;
            match message {
                Message::ToReceiver(message) => {
                    let half = &leg.receiver;
                    let ignored = half.machine.is_some() && !fresh && half.ignores(Event::Message(message));
                    if busy(half.queue.is_empty(), half.machine.is_some()) || ignored {
                        continue;
                    }
                    self.to(step, |w| {
                        arrives(w);
                        if half.machine.is_some() {
                            w.legs[number].receiver.feed(Event::Message(message));
                        } else if let ToReceiver::Offer { transfer } = message {
                            if w.legs[number].offers < bounds.offers {
                                let receipt = w.receipt(number, bounds);
                                w.legs[number].receiver.machine = Some(Receiver::offered(transfer, receipt));
                            }
                        } else if let Some(answer) = message.answer_without_record() {
                            w.legs[number].sent.add(Message::ToSender(answer));
                        }
                    });
                }
                Message::ToSender(message) => {
                    let half = &leg.sender;
                    let ignored = half.machine.is_some() && !fresh && half.ignores(Event::Message(message));
                    if busy(half.queue.is_empty(), half.machine.is_some()) || ignored {
                        continue;
                    }
                    self.to(step, |w| {
                        arrives(w);
                        let leg = &mut w.legs[number];
                        let store = match leg.wiped[0] && bounds.lapse != Some(Lapse::OtherStore) {
                            true => ELSEWHERE,
                            false => message.transfer().store,
                        };
                        if half.machine.is_some() {
                            leg.sender.feed(Event::Message(message));
                        } else if let Some(answer) = message.answer_without_record(store) {
                            w.legs[number].sent.add(Message::ToReceiver(answer));
                        }
                    });
                }
            }
            // A driver that hands messages to the wrong machine.
            for other in (0..world.legs.len()).filter(|&o| o != number && world.legs[o].from == leg.from) {
                let step = Step::DeliverStale(other, message);
                match message {
                    Message::ToReceiver(m) if world.legs[other].receiver.takes(Event::Message(m)) => {
                        self.to(step, |w| w.legs[other].receiver.feed(Event::Message(m)));
                    }
                    Message::ToSender(m) if world.legs[other].sender.takes(Event::Message(m)) => {
                        self.to(step, |w| w.legs[other].sender.feed(Event::Message(m)));
                    }
                    _ => {}
                }
            }
        }
    }

    /// What is the same for senders and receivers: disks, contacts, persons.
    fn half<M: Pick>(&mut self, leg: usize) {
        let (world, side) = (self.world, M::side(leg));
        let half = M::half_ref(&world.legs[leg]);
        if half.machine.is_none() {
            return;
        }
        let acts = match self.bounds.lapse {
            Some(Lapse::AnyOrder) => half.queue.len(),
            _ => half.queue.len().min(1),
        };
        for at in 0..acts {
            self.act::<M>(leg, at);
        }
        // With the lapse, what would be begun at once may be begun before what stands in front of it.
        if !half.queue.is_empty() {
            return;
        }
        if let Some(record) = half.writing {
            self.to(Step::Written(side), |w| {
                let half = M::half(&mut w.legs[leg]);
                (half.disk, half.writing) = (record, None);
                half.feed(Event::Persisted);
                w.written(leg);
            });
            for written in [false, true] {
                if world.failures > 0 {
                    self.to(Step::WriteFails(side, written), |w| {
                        w.failures -= 1;
                        let half = M::half(&mut w.legs[leg]);
                        half.writing = None;
                        if written {
                            half.disk = record;
                        }
                        half.feed(Event::PersistFailed);
                        w.written(leg);
                    });
                }
            }
        }
        if let Some(ran) = half.ran {
            self.to(Step::Answer(side), |w| {
                let half = M::half(&mut w.legs[leg]);
                half.ran = None;
                half.feed(if ran { Event::Runs } else { Event::RunFailed });
            });
        }
        if half.takes(Event::Contact) {
            self.to(Step::Contact(side), |w| M::half(&mut w.legs[leg]).feed(Event::Contact));
        }
        if half.takes(Event::Lost) {
            self.to(Step::Lost(side), |w| M::half(&mut w.legs[leg]).feed(Event::Lost));
        }
        for settle in [Settle::Again, Settle::Here, Settle::Forget] {
            // An answer under way is waited for.
            let free = half.ran.is_none() && half.takes(Event::Settle(settle));
            if free && M::vouched(world, leg, settle) {
                self.to(Step::Settle(side, settle), |w| {
                    M::half(&mut w.legs[leg]).feed(Event::Settle(settle));
                });
            }
        }
        if world.cancels > 0 {
            self.to(Step::Cancel(side), |w| {
                w.cancels -= 1;
                M::half(&mut w.legs[leg]).feed(Event::Cancel);
            });
        }
    }

    fn act<M: Pick>(&mut self, leg: usize, at: usize) {
        let (world, side) = (self.world, M::side(leg));
        let is_sender = matches!(side, Side::Sender(_));
        match M::half_ref(&world.legs[leg]).queue[at] {
            Action::Run(how) => {
                self.to(Step::Act(side, "run"), |w| {
                    M::half(&mut w.legs[leg]).queue.remove(at);
                    match is_sender {
                        true => w.run_at_sender(leg, how),
                        false => w.run_at_receiver(leg, how),
                    }
                });
                // A process that was only stopped always goes on.
                let lives = match side {
                    Side::Sender(leg) => world.process_of(Owner::Sender(leg)).is_some(),
                    Side::Receiver(leg) => world.process_of(Owner::Receiver(leg)).is_some(),
                };
                if world.failures > 0 && !lives {
                    self.to(Step::ActFails(side), |w| {
                        w.failures -= 1;
                        M::half(&mut w.legs[leg]).queue.remove(at);
                        if self.bounds.lapse == Some(Lapse::StartedAllTheSame) && !is_sender {
                            w.run_at_receiver(leg, how);
                        }
                        M::half(&mut w.legs[leg]).ran = Some(false);
                    });
                }
            }
            Action::EndProgram => self.to(Step::Act(side, "end program"), |w| {
                M::half(&mut w.legs[leg]).queue.remove(at);
                w.end_at_sender(leg);
            }),
            Action::DropCopy => self.to(Step::Act(side, "drop copy"), |w| {
                let half = M::half(&mut w.legs[leg]);
                half.queue.remove(at);
                half.copy = false;
            }),
            Action::Persist(record) if at > 0 => self.to(Step::Act(side, "write too early"), |w| {
                let half = M::half(&mut w.legs[leg]);
                half.queue.remove(at);
                half.disk = record;
                half.feed(Event::Persisted);
            }),
            Action::Send(_) | Action::Report(_) | Action::Persist(_) => {}
        }
    }

    /// The program is stopped, and copies of its state become whole.
    fn progress(&mut self, number: usize) {
        let leg = &self.world.legs[number];
        let lies = self.bounds.lapse == Some(Lapse::NoCopy);
        if let (Some(process), Some(machine)) = (self.world.process_of(Owner::Sender(number)), &leg.sender.machine) {
            let offered = leg
                .sent
                .any(|m| matches!(m, Message::ToReceiver(ToReceiver::Offer { .. })));
            let runs = self.world.processes[process].runs;
            let ready = leg.sender.is_ready();
            if runs && ready && offered && !leg.stopped && machine.status() == SenderStatus::Moving {
                self.to(Step::Stop(number), |w| {
                    w.processes[process].runs = false;
                    w.legs[number].stopped = true;
                });
            }
            if !runs && !leg.sender.copy && ready && machine.status() != SenderStatus::Over {
                self.to(Step::CopyDurable(Side::Sender(number)), |w| {
                    w.legs[number].sender.copy = !lies;
                    w.legs[number].sender.feed(Event::CopyDurable);
                });
            }
        }
        let receiving = |r: &Receiver| r.status() == ReceiverStatus::Receiving;
        if leg.stopped && leg.receiver.is_ready() && leg.receiver.machine.as_ref().is_some_and(receiving) {
            self.to(Step::CopyDurable(Side::Receiver(number)), |w| {
                w.legs[number].receiver.copy = !lies;
                w.legs[number].receiver.feed(Event::CopyDurable);
            });
        }
    }

    fn faults(&mut self, site: usize) {
        let (world, bounds) = (self.world, self.bounds);
        let writing = |leg: &Leg| match leg.from == site {
            true => leg.sender.writing.is_some(),
            false => leg.receiver.writing.is_some(),
        };
        let writes = world.legs.iter().filter(|leg| writing(leg)).count();
        if world.crashes > 0 && !world.legs.is_empty() {
            for kills in [true, false] {
                for written in 0..1 << writes {
                    self.to(Step::Crash { site, kills, written }, |w| {
                        w.crashes -= 1;
                        w.crash(site, kills, written, bounds);
                    });
                }
            }
        }
        if world.wipes > 0 && !world.legs.is_empty() {
            self.to(Step::Wipe(site), |w| {
                w.wipes -= 1;
                w.wipe(site, bounds);
            });
        }
    }
}
