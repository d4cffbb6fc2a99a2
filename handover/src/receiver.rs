//! The receiver's side: it may run the program only when the sender can't any more, and then must.

use crate::event::{Action, Event, Report, Run, Settle};
use crate::guard::{Guard, holds};
use crate::ids::{Id, Transfer};
use crate::message::{ToReceiver, ToSender};
use crate::record::{ReceiverRecord, ReceiverStage};

/// What the receiver wants done.
pub type ReceiverAction = Action<ToSender, ReceiverRecord>;

/// The receiver of one transfer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Receiver {
    transfer: Transfer,
    receipt: Id,
    state: State,
    /// The last write failed, and the same is to be written again.
    failed: bool,
}

/// `-ing`: something is being written, all that happens meanwhile waits or is said again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum State {
    /// State comes in; nothing is durable.
    Receiving,
    /// Writing `Prepared`.
    Preparing { refuse: bool, gone: bool },
    /// Waits for the sender's word.
    Prepared,
    /// Writing `Running`.
    Accepting { last: bool },
    /// Belongs here; it was let run.
    Running { last: bool, how: Run, failed: bool },
    /// Writing `Taken`.
    Taking,
    /// Runs or has run.
    Taken,
    /// Writing `Refused`.
    Refusing,
    /// Will not run here, unless this is the last copy.
    Refused,
    /// Removing the record; with the copy, unless the program has run from it.
    Forgetting { drop: bool },
    /// No record any more.
    Over,
}

/// How far a receiver is, for those who ask and for `dunlin ps`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReceiverStatus {
    /// State comes in; a restart forgets it.
    Receiving,
    /// The whole state is durable and waits for the sender's word.
    Prepared,
    /// Belongs here; starts, or stands still after a crash or a failed start.
    Running,
    /// Runs or has run; only the sender must still hear it.
    Taken,
    /// Refused; kept until the sender holds the program again.
    Refused,
    /// There is no record any more: drop this machine.
    Over,
}

impl Receiver {
    /// Accepts an offer of a transfer for which there is neither record nor receiver here. `receipt` is a new random
    /// number.
    pub fn offered(transfer: Transfer, receipt: Id) -> Self {
        Self::in_state(transfer, receipt, State::Receiving)
    }

    /// Goes on from what is durable.
    pub fn restart(record: ReceiverRecord) -> (Self, Vec<ReceiverAction>) {
        let mut new = Self::in_state(record.transfer, record.receipt, State::Over);
        let actions = match record.stage {
            ReceiverStage::Prepared => {
                new.state = State::Prepared;
                new.contact()
            }
            ReceiverStage::Running { last } => match holds(Guard::RunningIsRecovered, false) {
                true => new.run(last, Run::Start),
                false => new.run(last, Run::Recover),
            },
            ReceiverStage::Taken => {
                new.state = State::Taken;
                new.contact()
            }
            ReceiverStage::Refused => {
                new.state = State::Refused;
                new.contact()
            }
        };
        (new, actions)
    }

    fn in_state(transfer: Transfer, receipt: Id, state: State) -> Self {
        Self {
            transfer,
            receipt,
            state,
            failed: false,
        }
    }

    /// The transfer.
    pub fn transfer(&self) -> Transfer {
        self.transfer
    }

    /// How far it is.
    pub fn status(&self) -> ReceiverStatus {
        match self.state {
            State::Receiving => ReceiverStatus::Receiving,
            State::Preparing { .. } | State::Prepared | State::Accepting { .. } => ReceiverStatus::Prepared,
            State::Running { .. } | State::Taking => ReceiverStatus::Running,
            State::Taken | State::Forgetting { drop: false } => ReceiverStatus::Taken,
            State::Refusing | State::Refused | State::Forgetting { drop: true } => ReceiverStatus::Refused,
            State::Over => ReceiverStatus::Over,
        }
    }

    /// Whether the program that came with this transfer may be moved onwards: a crash would no longer bring it back.
    pub fn may_leave(&self) -> bool {
        matches!(self.status(), ReceiverStatus::Taken | ReceiverStatus::Over)
    }

    /// Takes note of what happened and says what is to be done.
    pub fn handle(&mut self, event: Event<ToReceiver>) -> Vec<ReceiverAction> {
        match event {
            Event::Message(message) if holds(Guard::SameTransfer, message.transfer() == self.transfer) => {
                self.message(message)
            }
            Event::Message(_) => vec![],
            Event::CopyDurable => match self.state {
                State::Receiving => self.write(State::Preparing {
                    refuse: false,
                    gone: false,
                }),
                _ => vec![],
            },
            Event::Persisted => self.persisted(),
            Event::PersistFailed => self.persist_failed(),
            Event::Contact => self.contact(),
            Event::Lost => match self.state {
                State::Receiving => self.drop_unprepared(),
                State::Prepared if holds(Guard::PreparedStays, false) => self.write(State::Forgetting { drop: true }),
                _ => vec![],
            },
            Event::Cancel => self.cancel(),
            Event::Runs => match self.state {
                State::Running { .. } => {
                    let mut actions = vec![Action::Report(Report::Moved)];
                    actions.extend(self.write(State::Taking));
                    actions
                }
                _ => vec![],
            },
            Event::RunFailed => self.run_failed(),
            Event::Settle(settle) => self.settle(settle),
        }
    }

    fn message(&mut self, message: ToReceiver) -> Vec<ReceiverAction> {
        match message {
            ToReceiver::Offer { .. } | ToReceiver::Ask { .. } => match self.state {
                State::Over => self.unknown(&message),
                _ => self.contact_if_stable(),
            },
            ToReceiver::Commit { receipt, last, .. } => match self.state {
                State::Over => self.unknown(&message),
                // What was released is another preparation: nothing of that is here.
                _ if !holds(Guard::CommitOfThisReceipt, receipt == self.receipt) => vec![],
                State::Prepared => self.write(State::Accepting { last }),
                State::Refused if holds(Guard::RefusedStands, last) => self.write(State::Accepting { last }),
                _ => self.contact_if_stable(),
            },
            ToReceiver::Gone { .. } => match &mut self.state {
                State::Receiving => {
                    self.state = State::Over;
                    vec![Action::DropCopy]
                }
                State::Preparing { .. } if self.failed => self.write(State::Forgetting { drop: true }),
                State::Preparing { gone, .. } => {
                    *gone = true;
                    vec![]
                }
                State::Prepared | State::Refused => self.write(State::Forgetting { drop: true }),
                State::Taken => self.write(State::Forgetting { drop: false }),
                // Said again by the peer when asked.
                _ => vec![],
            },
        }
    }

    fn unknown(&self, message: &ToReceiver) -> Vec<ReceiverAction> {
        message.answer_without_record().map(Action::Send).into_iter().collect()
    }

    /// What is durable, said to the sender.
    fn contact_if_stable(&self) -> Vec<ReceiverAction> {
        let (transfer, receipt) = (self.transfer, self.receipt);
        match self.state {
            State::Prepared => vec![Action::Send(ToSender::Prepared { transfer, receipt })],
            State::Running { .. } if holds(Guard::TakenWhenItRuns, false) => {
                vec![Action::Send(ToSender::Taken { transfer, receipt })]
            }
            State::Taken => vec![Action::Send(ToSender::Taken { transfer, receipt })],
            State::Refused => vec![Action::Send(ToSender::Refused {
                transfer,
                receipt: Some(receipt),
            })],
            _ => vec![],
        }
    }

    fn contact(&mut self) -> Vec<ReceiverAction> {
        match (self.failed, self.state) {
            (true, State::Preparing { .. }) => {
                let mut actions = vec![self.not_prepared()];
                actions.extend(self.write(self.state));
                actions
            }
            (true, _) => self.write(self.state),
            (false, _) => self.contact_if_stable(),
        }
    }

    fn persisted(&mut self) -> Vec<ReceiverAction> {
        match self.state {
            State::Preparing { gone: true, .. } => self.write(State::Forgetting { drop: true }),
            State::Preparing { refuse: true, .. } => self.write(State::Refusing),
            State::Preparing { .. } if holds(Guard::StartNeedsCommit, false) => {
                self.write(State::Accepting { last: false })
            }
            State::Preparing { .. } => self.say(State::Prepared),
            State::Accepting { last } => self.run(last, Run::Start),
            State::Taking => self.say(State::Taken),
            State::Refusing => {
                let mut actions = self.say(State::Refused);
                if holds(Guard::RefusedIsKept, false) {
                    actions.push(Action::DropCopy);
                }
                actions
            }
            State::Forgetting { drop } => {
                self.state = State::Over;
                match drop {
                    true => vec![Action::DropCopy],
                    false => vec![],
                }
            }
            State::Receiving
            | State::Prepared
            | State::Running { .. }
            | State::Taken
            | State::Refused
            | State::Over => vec![],
        }
    }

    fn persist_failed(&mut self) -> Vec<ReceiverAction> {
        let mut actions = vec![Action::Report(Report::DiskFails)];
        match self.state {
            // The sender keeps the program. If it has lost it in a crash, it asks, and this may be the only copy: it is
            // kept until the sender says that it is gone.
            State::Preparing { .. } => {
                self.failed = true;
                actions.push(self.not_prepared());
            }
            State::Accepting { .. } | State::Taking | State::Refusing | State::Forgetting { .. } => self.failed = true,
            State::Receiving
            | State::Prepared
            | State::Running { .. }
            | State::Taken
            | State::Refused
            | State::Over => return vec![],
        }
        actions
    }

    fn cancel(&mut self) -> Vec<ReceiverAction> {
        match &mut self.state {
            State::Receiving => self.drop_unprepared(),
            State::Preparing { refuse, .. } => {
                *refuse = true;
                vec![]
            }
            State::Prepared => self.write(State::Refusing),
            State::Refusing | State::Refused | State::Forgetting { drop: true } | State::Over => vec![],
            _ => vec![Action::Report(Report::TooLate)],
        }
    }

    fn drop_unprepared(&mut self) -> Vec<ReceiverAction> {
        self.state = State::Over;
        vec![Action::DropCopy, self.not_prepared()]
    }

    fn not_prepared(&self) -> ReceiverAction {
        let (transfer, receipt) = (self.transfer, None);
        Action::Send(ToSender::Refused { transfer, receipt })
    }

    fn run_failed(&mut self) -> Vec<ReceiverAction> {
        match &mut self.state {
            State::Running { last: false, how, .. } if holds(Guard::NoRefusalAfterRestart, *how == Run::Start) => {
                let mut actions = vec![Action::Report(Report::CannotRun)];
                actions.extend(self.write(State::Refusing));
                actions
            }
            State::Running { failed, .. } => {
                *failed = true;
                vec![Action::Report(Report::CannotRun)]
            }
            _ => vec![],
        }
    }

    fn settle(&mut self, settle: Settle) -> Vec<ReceiverAction> {
        match (settle, self.state) {
            (Settle::Again, State::Running { last, how, failed }) if failed || how == Run::Recover => {
                self.run(last, how)
            }
            (Settle::Again, _) => self.contact(),
            (Settle::Here, State::Prepared | State::Refused) => self.write(State::Accepting { last: true }),
            (Settle::Forget, State::Prepared | State::Refused | State::Running { failed: true, .. })
            | (Settle::Forget, State::Running { how: Run::Recover, .. }) => {
                self.write(State::Forgetting { drop: true })
            }
            (Settle::Forget, State::Taken) => self.write(State::Forgetting { drop: false }),
            _ => vec![Action::Report(Report::NothingToSettle)],
        }
    }

    fn run(&mut self, last: bool, how: Run) -> Vec<ReceiverAction> {
        self.state = State::Running {
            last,
            how,
            failed: false,
        };
        vec![Action::Run(how)]
    }

    fn say(&mut self, state: State) -> Vec<ReceiverAction> {
        self.state = state;
        self.contact_if_stable()
    }

    /// Goes into a state in which something is being written, and asks for that.
    fn write(&mut self, state: State) -> Vec<ReceiverAction> {
        self.state = state;
        self.failed = false;
        let stage = match state {
            State::Preparing { .. } => Some(ReceiverStage::Prepared),
            State::Accepting { last } => Some(ReceiverStage::Running { last }),
            State::Taking => Some(ReceiverStage::Taken),
            State::Refusing => Some(ReceiverStage::Refused),
            _ => None,
        };
        let (transfer, receipt) = (self.transfer, self.receipt);
        vec![Action::Persist(stage.map(|stage| ReceiverRecord {
            transfer,
            receipt,
            stage,
        }))]
    }
}
