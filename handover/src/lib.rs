//! How a program moves to another machine exactly once: the protocol, without I/O.

mod event;
mod guard;
mod ids;
mod message;
#[cfg(test)]
mod model;
mod receiver;
mod record;
mod sender;

pub use event::{Action, Event, Found, Report, Run, Settle};
pub use ids::{Id, Transfer};
pub use message::{ToReceiver, ToSender};
pub use receiver::{Receiver, ReceiverAction, ReceiverStatus};
pub use record::{Damaged, Encoded, MOST_BYTES, ReceiverRecord, ReceiverStage, SenderRecord, SenderStage};
pub use sender::{Sender, SenderAction, SenderStatus};
