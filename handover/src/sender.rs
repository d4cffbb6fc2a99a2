//! The sender's side: it has the program, and must let go of it at the right moment.

use crate::event::{Action, Event, Found, Report, Run, Settle};
use crate::guard::{Guard, holds};
use crate::ids::{Id, Transfer};
use crate::message::{ToReceiver, ToSender};
use crate::record::{SenderRecord, SenderStage};

/// What the sender wants done.
pub type SenderAction = Action<ToReceiver, SenderRecord>;

/// The sender of one transfer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Sender {
    transfer: Transfer,
    state: State,
    /// The last write failed, and the same is to be written again.
    failed: bool,
}

/// `-ing`: something is being written, all that happens meanwhile waits or is said again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum State {
    /// Writing `Moving`.
    Opening { stop: bool },
    /// Offered.
    Moving { own: bool, receipt: Option<Id> },
    /// Restarted with neither process nor copy: whatever copy there is, the receiver has it.
    Orphaned,
    /// Writing `Released`.
    Releasing { receipt: Id, own: bool, stop: bool },
    /// The receiver's, unless it refuses.
    Released { receipt: Id, own: bool },
    /// Writing `Home`.
    Returning,
    /// The program was let run here.
    Home { how: Run, failed: bool },
    /// Removing the record.
    Forgetting,
    /// No record any more.
    Over,
}

/// How far a sender is, for those who ask and for `dunlin ps`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SenderStatus {
    /// The program may still be kept: cancelling works.
    Moving,
    /// The program stands still here: whether the receiver runs it will turn out at the next contact.
    Released,
    /// The transfer has failed, the program goes on here, or has failed to.
    Home,
    /// Restarted without any copy; asking the receiver.
    Orphaned,
    /// All is decided, the record is being removed.
    Closing,
    /// There is no record any more: drop this machine; the program may be moved again, if it is here.
    Over,
}

impl Sender {
    /// Begins a transfer of a program for which no other transfer is open here ([`Sender::status`] of every earlier one
    /// is [`SenderStatus::Over`], and [`crate::Receiver::may_leave`] is true).
    pub fn start(transfer: Transfer) -> (Self, Vec<SenderAction>) {
        let mut new = Self::in_state(transfer, State::Opening { stop: false });
        let actions = new.write(State::Opening { stop: false });
        (new, actions)
    }

    /// Goes on from what is durable.
    pub fn restart(record: SenderRecord, found: Found) -> (Self, Vec<SenderAction>) {
        let mut new = Self::in_state(record.transfer, State::Over);
        let actions = match (record.stage, found) {
            (SenderStage::Moving, Found::Process | Found::Copy) => new.write(State::Returning),
            (SenderStage::Moving, Found::Nothing) => {
                new.state = State::Orphaned;
                new.contact()
            }
            (SenderStage::Released { receipt, own }, _) => {
                new.state = State::Released { receipt, own };
                match holds(Guard::ReleasedStandsAfterRestart, false) {
                    true => new.write(State::Returning),
                    false => vec![],
                }
            }
            (SenderStage::Home, Found::Process) => new.go_on(Run::Resume),
            (SenderStage::Home, Found::Copy) => new.go_on(match holds(Guard::HomeIsRecovered, false) {
                true => Run::Resume,
                false => Run::Recover,
            }),
            (SenderStage::Home, Found::Nothing) => new.and(Report::Crashed, State::Forgetting),
        };
        (new, actions)
    }

    fn in_state(transfer: Transfer, state: State) -> Self {
        Self {
            transfer,
            state,
            failed: false,
        }
    }

    /// The transfer.
    pub fn transfer(&self) -> Transfer {
        self.transfer
    }

    /// How far it is.
    pub fn status(&self) -> SenderStatus {
        match self.state {
            State::Opening { .. } | State::Moving { .. } => SenderStatus::Moving,
            State::Orphaned => SenderStatus::Orphaned,
            State::Releasing { .. } | State::Released { .. } => SenderStatus::Released,
            State::Returning | State::Home { .. } => SenderStatus::Home,
            State::Forgetting => SenderStatus::Closing,
            State::Over => SenderStatus::Over,
        }
    }

    /// Takes note of what happened and says what is to be done.
    pub fn handle(&mut self, event: Event<ToSender>) -> Vec<SenderAction> {
        match event {
            Event::Message(message) if holds(Guard::SameTransfer, message.transfer() == self.transfer) => {
                self.message(message)
            }
            Event::Message(_) => vec![],
            Event::CopyDurable => match &mut self.state {
                State::Moving { own, .. } => {
                    *own = true;
                    self.release_if_ready()
                }
                _ => vec![],
            },
            Event::Persisted => self.persisted(),
            Event::PersistFailed => self.persist_failed(),
            Event::Contact => self.contact(),
            Event::Lost => self.stop(false),
            Event::Cancel => self.stop(true),
            Event::Runs => match self.state {
                State::Home { .. } => self.finish(vec![Action::Report(Report::Home), Action::DropCopy]),
                _ => vec![],
            },
            Event::RunFailed => match &mut self.state {
                State::Home { failed, .. } => {
                    *failed = true;
                    vec![Action::Report(Report::CannotRun)]
                }
                _ => vec![],
            },
            Event::Settle(settle) => self.settle(settle),
        }
    }

    fn message(&mut self, message: ToSender) -> Vec<SenderAction> {
        match self.state {
            State::Opening { .. } | State::Releasing { .. } | State::Forgetting => vec![],
            State::Moving { own, .. } => match message {
                ToSender::Prepared { receipt, .. } => {
                    let receipt = Some(receipt);
                    self.state = State::Moving { own, receipt };
                    self.release_if_ready()
                }
                ToSender::Refused { .. } => self.write(State::Returning),
                ToSender::Taken { receipt, .. } => vec![Action::Report(Report::Contradiction { receipt })],
                ToSender::Unknown { .. } => vec![],
            },
            State::Orphaned => match message {
                ToSender::Prepared { receipt, .. }
                | ToSender::Refused {
                    receipt: Some(receipt), ..
                } => self.write(State::Releasing {
                    receipt,
                    own: false,
                    stop: false,
                }),
                ToSender::Unknown { receipt: None, .. } => self.and(Report::Crashed, State::Forgetting),
                ToSender::Taken { receipt, .. } => vec![Action::Report(Report::Contradiction { receipt })],
                ToSender::Refused { receipt: None, .. } | ToSender::Unknown { .. } => vec![],
            },
            State::Released { receipt, own } => self.message_after_release(message, receipt, own),
            State::Returning => self.say_gone(holds(Guard::GoneWhenDurable, false), &message),
            State::Home { .. } | State::Over => self.say_gone(true, &message),
        }
    }

    fn message_after_release(&mut self, message: ToSender, released: Id, own: bool) -> Vec<SenderAction> {
        match message {
            ToSender::Prepared { receipt, .. } if receipt == released => self.contact(),
            ToSender::Taken { receipt, .. } if receipt == released => {
                let report = Action::Report(Report::Moved);
                self.finish(vec![report, Action::EndProgram, Action::DropCopy])
            }
            ToSender::Refused { receipt, .. } if holds(Guard::RefusalOfThisReceipt, receipt == Some(released)) => {
                match holds(Guard::ReturnNeedsOwnCopy, own) {
                    true => self.write(State::Returning),
                    false => self.contact(),
                }
            }
            ToSender::Refused { receipt: None, .. } => vec![],
            ToSender::Unknown { receipt, .. } if receipt == Some(released) => vec![Action::Report(Report::PeerForgot)],
            ToSender::Unknown { .. } => vec![],
            ToSender::Prepared { receipt, .. }
            | ToSender::Taken { receipt, .. }
            | ToSender::Refused {
                receipt: Some(receipt), ..
            } => vec![Action::Report(Report::Contradiction { receipt })],
        }
    }

    fn release_if_ready(&mut self) -> Vec<SenderAction> {
        let State::Moving { own, receipt } = self.state else {
            return vec![];
        };
        let ready = holds(Guard::ReleaseNeedsReceipt, receipt.is_some()) && holds(Guard::ReleaseNeedsOwnCopy, own);
        match ready {
            true => self.write(State::Releasing {
                receipt: receipt.unwrap_or_default(),
                own,
                stop: false,
            }),
            false => vec![],
        }
    }

    /// Says that the transfer is gone to whoever asks.
    fn say_gone(&self, durable: bool, message: &ToSender) -> Vec<SenderAction> {
        match durable && !matches!(message, ToSender::Unknown { .. }) {
            true => vec![self.gone()],
            false => vec![],
        }
    }

    fn gone(&self) -> SenderAction {
        let transfer = self.transfer;
        Action::Send(ToReceiver::Gone { transfer })
    }

    fn persisted(&mut self) -> Vec<SenderAction> {
        let transfer = self.transfer;
        match self.state {
            State::Opening { stop: true } => self.write(State::Returning),
            State::Opening { stop: false } => {
                self.state = State::Moving {
                    own: false,
                    receipt: None,
                };
                vec![Action::Send(ToReceiver::Offer { transfer })]
            }
            // Nothing was said yet, so the receiver can't have begun.
            State::Releasing {
                stop: true, own: true, ..
            } => self.write(State::Returning),
            State::Releasing { receipt, own, .. } => {
                self.state = State::Released { receipt, own };
                self.contact()
            }
            State::Returning => {
                let mut actions = self.go_on(Run::Resume);
                actions.push(self.gone());
                actions
            }
            State::Forgetting => {
                self.state = State::Over;
                vec![self.gone()]
            }
            State::Moving { .. } | State::Orphaned | State::Released { .. } | State::Home { .. } | State::Over => {
                vec![]
            }
        }
    }

    fn persist_failed(&mut self) -> Vec<SenderAction> {
        let report = Action::Report(Report::DiskFails);
        match self.state {
            // Nothing was offered, or nothing committed.
            State::Opening { .. } | State::Releasing { own: true, .. } => {
                let mut actions = vec![report];
                actions.extend(self.write(State::Returning));
                actions
            }
            State::Releasing { .. } | State::Returning | State::Forgetting => {
                self.failed = true;
                vec![report]
            }
            State::Moving { .. } | State::Orphaned | State::Released { .. } | State::Home { .. } | State::Over => {
                vec![]
            }
        }
    }

    fn contact(&mut self) -> Vec<SenderAction> {
        let transfer = self.transfer;
        if self.failed {
            return self.write(self.state);
        }
        match self.state {
            State::Orphaned => vec![Action::Send(ToReceiver::Ask { transfer })],
            State::Released { receipt, own } => vec![Action::Send(ToReceiver::Commit {
                transfer,
                receipt,
                last: !own,
            })],
            State::Home { .. } => vec![self.gone()],
            _ => vec![],
        }
    }

    /// The connection is lost, or (`cancel`) somebody wants the program to stay.
    fn stop(&mut self, cancel: bool) -> Vec<SenderAction> {
        let guard = match cancel {
            true => Guard::NoCancelAfterRelease,
            false => Guard::NoReturnAfterRelease,
        };
        match &mut self.state {
            State::Opening { stop } | State::Releasing { stop, own: true, .. } => {
                *stop = true;
                vec![]
            }
            State::Moving { .. } => self.write(State::Returning),
            State::Released { .. } if holds(guard, false) => self.write(State::Returning),
            State::Released { .. } | State::Releasing { .. } | State::Orphaned if cancel => {
                vec![Action::Report(Report::TooLate)]
            }
            State::Released { .. } => vec![Action::Report(Report::InDoubt)],
            _ => vec![],
        }
    }

    fn settle(&mut self, settle: Settle) -> Vec<SenderAction> {
        match (settle, self.state) {
            (Settle::Again, State::Home { how, failed: true }) => self.go_on(how),
            (Settle::Again, State::Home { how: Run::Recover, .. }) => self.go_on(Run::Recover),
            (Settle::Again, _) => self.contact(),
            (Settle::Here, State::Released { own: true, .. }) => self.write(State::Returning),
            (Settle::Forget, State::Orphaned | State::Released { .. }) => {
                self.finish(vec![Action::EndProgram, Action::DropCopy])
            }
            (Settle::Forget, State::Home { failed: true, .. } | State::Home { how: Run::Recover, .. }) => {
                self.finish(vec![Action::EndProgram, Action::DropCopy])
            }
            _ => vec![Action::Report(Report::NothingToSettle)],
        }
    }

    fn go_on(&mut self, how: Run) -> Vec<SenderAction> {
        self.state = State::Home { how, failed: false };
        vec![Action::Run(how)]
    }

    fn finish(&mut self, mut first: Vec<SenderAction>) -> Vec<SenderAction> {
        first.extend(self.write(State::Forgetting));
        first
    }

    fn and(&mut self, report: Report, state: State) -> Vec<SenderAction> {
        let mut actions = vec![Action::Report(report)];
        actions.extend(self.write(state));
        actions
    }

    /// Goes into a state in which something is being written, and asks for that.
    fn write(&mut self, state: State) -> Vec<SenderAction> {
        self.state = state;
        self.failed = false;
        let stage = match state {
            State::Opening { .. } => Some(SenderStage::Moving),
            State::Releasing { receipt, own, .. } => Some(SenderStage::Released { receipt, own }),
            State::Returning => Some(SenderStage::Home),
            _ => None,
        };
        let transfer = self.transfer;
        vec![Action::Persist(stage.map(|stage| SenderRecord { transfer, stage }))]
    }
}
