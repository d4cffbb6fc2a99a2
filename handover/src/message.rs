//! What the two sides say to each other about who has the program.

use crate::ids::{Id, Transfer};
use serde::{Deserialize, Serialize};

/// To the receiver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "`transfer` is the one that it is about, everywhere")]
pub enum ToReceiver {
    /// A program comes; its state follows.
    Offer { transfer: Transfer },
    /// The sender has durably given up the program that was prepared under this receipt: run it.
    Commit {
        transfer: Transfer,
        receipt: Id,
        /// The sender has no copy, so a refusal would help nobody and is void.
        last: bool,
    },
    /// The sender lost the program in a crash and has no whole copy: is there one?
    Ask { transfer: Transfer },
    /// The sender holds no record of the transfer and never will again.
    Gone { transfer: Transfer },
}

/// To the sender.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "`transfer` is the one that it is about, everywhere")]
pub enum ToSender {
    /// The whole state is durable here and waits for the sender's word. Also the receiver's question in doubt.
    Prepared {
        transfer: Transfer,
        /// New for each preparation.
        receipt: Id,
    },
    /// With a receipt: durably, what was prepared under it never ran here and never will, unless the sender says that
    /// it is the last copy. Without: there is nothing prepared (yet).
    Refused { transfer: Transfer, receipt: Option<Id> },
    /// The program runs here or has run here; the sender may forget it.
    Taken { transfer: Transfer, receipt: Id },
    /// There is no record of the transfer here, nor is one in the making.
    Unknown {
        transfer: Transfer,
        /// That of the commit that this answers; none if it answers a question.
        receipt: Option<Id>,
    },
}

impl ToReceiver {
    /// The transfer that it is about.
    pub fn transfer(&self) -> Transfer {
        match *self {
            Self::Offer { transfer }
            | Self::Commit { transfer, .. }
            | Self::Ask { transfer }
            | Self::Gone { transfer } => transfer,
        }
    }

    /// The answer of a machine that has neither a record nor a [`crate::Receiver`] for the transfer. An offer gets none
    /// here: it is accepted ([`crate::Receiver::offered`]) or answered with [`ToSender::Refused`] without receipt.
    pub fn answer_without_record(&self) -> Option<ToSender> {
        match *self {
            Self::Commit { transfer, receipt, .. } => Some(ToSender::Unknown {
                transfer,
                receipt: Some(receipt),
            }),
            Self::Ask { transfer } => Some(ToSender::Unknown {
                transfer,
                receipt: None,
            }),
            Self::Offer { .. } | Self::Gone { .. } => None,
        }
    }
}

impl ToSender {
    /// The transfer that it is about.
    pub fn transfer(&self) -> Transfer {
        match *self {
            Self::Prepared { transfer, .. }
            | Self::Refused { transfer, .. }
            | Self::Taken { transfer, .. }
            | Self::Unknown { transfer, .. } => transfer,
        }
    }

    /// The answer of a machine that has neither a record nor a [`crate::Sender`] for the transfer, whose store of
    /// records is `store`. None if the transfer began in another store, about which this machine knows nothing.
    pub fn answer_without_record(&self, store: Id) -> Option<ToReceiver> {
        let transfer = self.transfer();
        let asks = !matches!(self, Self::Unknown { .. });
        (asks && transfer.store == store).then_some(ToReceiver::Gone { transfer })
    }
}
