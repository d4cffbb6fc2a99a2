//! One machine's half of one transfer, as the driver of the real thing would keep it: what dies in a crash and what is
//! on disk.

use crate::{
    Action, Event, Receiver, ReceiverRecord, ReceiverStage, ReceiverStatus, Sender, SenderRecord, SenderStage,
    SenderStatus, ToReceiver, ToSender,
};
use std::fmt::Debug;
use std::hash::Hash;

/// Kinds of records, as far as the tests of the driver's obligations tell them apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Stage {
    Moving,
    Released,
    Home,
    SenderNone,
    Prepared,
    Running,
    Taken,
    Refused,
    ReceiverNone,
}

/// A sender or a receiver.
pub(super) trait Machine: Clone + Eq + Hash + Debug {
    type In: Copy + Debug;
    type Out: Copy + Eq + Hash + Debug;
    type Record: Copy + Eq + Hash + Debug;
    fn react(&mut self, event: Event<Self::In>) -> Vec<Action<Self::Out, Self::Record>>;
    fn is_over(&self) -> bool;
    fn stage(record: Option<Self::Record>) -> Stage;
}

impl Machine for Sender {
    type In = ToSender;
    type Out = ToReceiver;
    type Record = SenderRecord;
    fn react(&mut self, event: Event<ToSender>) -> Vec<Action<ToReceiver, SenderRecord>> {
        self.handle(event)
    }
    fn is_over(&self) -> bool {
        self.status() == SenderStatus::Over
    }
    fn stage(record: Option<SenderRecord>) -> Stage {
        match record.map(|r| r.stage) {
            Some(SenderStage::Moving) => Stage::Moving,
            Some(SenderStage::Released { .. }) => Stage::Released,
            Some(SenderStage::Home) => Stage::Home,
            None => Stage::SenderNone,
        }
    }
}

impl Machine for Receiver {
    type In = ToReceiver;
    type Out = ToSender;
    type Record = ReceiverRecord;
    fn react(&mut self, event: Event<ToReceiver>) -> Vec<Action<ToSender, ReceiverRecord>> {
        self.handle(event)
    }
    fn is_over(&self) -> bool {
        self.status() == ReceiverStatus::Over
    }
    fn stage(record: Option<ReceiverRecord>) -> Stage {
        match record.map(|r| r.stage) {
            Some(ReceiverStage::Prepared) => Stage::Prepared,
            Some(ReceiverStage::Running { .. }) => Stage::Running,
            Some(ReceiverStage::Taken) => Stage::Taken,
            Some(ReceiverStage::Refused) => Stage::Refused,
            None => Stage::ReceiverNone,
        }
    }
}

/// The machine, what it asked for, and its disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Half<M: Machine> {
    pub machine: Option<M>,
    /// Not done yet; nothing else happens to the machine before it is.
    pub queue: Vec<Action<M::Out, M::Record>>,
    /// A write that may or may not have reached the disk.
    pub writing: Option<Option<M::Record>>,
    /// The answer to the last `Run`.
    pub ran: Option<bool>,
    /// On disk: the record.
    pub disk: Option<M::Record>,
    /// On disk: the program's whole state.
    pub copy: bool,
}

impl<M: Machine> Half<M> {
    pub(super) fn new() -> Self {
        Self {
            machine: None,
            queue: vec![],
            writing: None,
            ran: None,
            disk: None,
            copy: false,
        }
    }

    /// What is on disk.
    pub(super) fn stage(&self) -> Stage {
        M::stage(self.disk)
    }

    /// Hands an event to the machine.
    pub(super) fn feed(&mut self, event: Event<M::In>) {
        if let Some(machine) = &mut self.machine {
            let actions = machine.react(event);
            self.queue.extend(actions);
        }
    }

    /// Whether the event changes nothing.
    pub(super) fn ignores(&self, event: Event<M::In>) -> bool {
        self.machine.as_ref().is_none_or(|machine| {
            let mut after = machine.clone();
            after.react(event).is_empty() && after == *machine
        })
    }

    /// Whether the machine is there and has nothing left to do before its next event.
    pub(super) fn is_ready(&self) -> bool {
        self.machine.is_some() && self.queue.is_empty()
    }

    /// Whether the machine is ready for the event, and it changes something.
    pub(super) fn takes(&self, event: Event<M::In>) -> bool {
        self.is_ready() && !self.ignores(event)
    }

    /// Everything that a crash takes away; `written` if it came too late for the write under way.
    pub(super) fn crash(&mut self, written: bool) {
        if let (Some(record), true) = (self.writing, written) {
            self.disk = record;
        }
        *self = Self {
            disk: self.disk,
            copy: self.copy,
            ..Self::new()
        };
    }

    /// Whether nothing of the transfer is left here.
    pub(super) fn is_clear(&self) -> bool {
        self.machine.is_none() && self.disk.is_none() && self.writing.is_none()
    }
}
