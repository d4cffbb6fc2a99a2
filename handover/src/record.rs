//! What is durable on either side, and how records and messages are encoded.

use crate::ids::{Id, Transfer};
use crate::message::{ToReceiver, ToSender};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What a sender knows after a crash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SenderRecord {
    /// The transfer.
    pub transfer: Transfer,
    /// How far it is.
    pub stage: SenderStage,
}

/// How far a transfer is at its sender.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum SenderStage {
    /// The program may have been offered. Since it was stopped for this it has not gone on here.
    Moving,
    /// The receiver alone may run it.
    Released {
        /// The preparation that may run.
        receipt: Id,
        /// The program's whole state is durable here, too.
        own: bool,
    },
    /// The transfer is over, the program goes on here: perhaps it does already.
    Home,
}

/// What a receiver knows after a crash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ReceiverRecord {
    /// The transfer.
    pub transfer: Transfer,
    /// The preparation.
    pub receipt: Id,
    /// How far it is.
    pub stage: ReceiverStage,
}

/// How far a transfer is at its receiver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ReceiverStage {
    /// The whole state is durable here; it has not run.
    Prepared,
    /// It belongs here and may have begun to run.
    Running {
        /// There is no other copy.
        last: bool,
    },
    /// It began to run, and what becomes of it is no longer this transfer's business.
    Taken,
    /// It has not run and doesn't, unless this is the last copy.
    Refused,
}

/// Bytes of an encoded record or message, at most. A record fits into one sector, so that a file for it can be there
/// before the disk is full.
pub const MOST_BYTES: usize = 128;

/// The version of what is encoded here.
const VERSION: u8 = 1;

/// Why bytes are no record or message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damaged {
    /// Fewer or more bytes than anything encoded here has.
    #[error("{0} bytes are no record or message of a transfer")]
    Length(usize),
    /// Some bit is wrong: not written to its end, for example.
    #[error("the checksum is wrong")]
    Checksum,
    /// Another version of Dunlin wrote it.
    #[error("version {0} of the transfer protocol is not known here, only version {VERSION}")]
    Version(u8),
    /// The checksum is right, the contents are not.
    #[error("the contents make no sense")]
    Contents,
}

/// Kinds of encoded things: none is read as another.
trait Kind {
    const KIND: u8;
}

/// What has an encoding: the version, the kind, postcard, and a CRC-32 of all that (little-endian).
#[allow(private_bounds, reason = "only the types of this crate are encoded")]
pub trait Encoded: Serialize + DeserializeOwned + Kind {
    /// The encoding, of at most [`MOST_BYTES`].
    fn encode(&self) -> Vec<u8> {
        let mut bytes = postcard::to_extend(self, vec![VERSION, Self::KIND]).expect("plain fields always have one");
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// What was encoded.
    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let length = || Damaged::Length(bytes.len());
        if bytes.len() > MOST_BYTES {
            return Err(length());
        }
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or_else(length)?;
        let [version, kind, fields @ ..] = body else {
            return Err(length());
        };
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return Err(Damaged::Checksum);
        }
        if *version != VERSION {
            return Err(Damaged::Version(*version));
        }
        match postcard::take_from_bytes(fields) {
            Ok((value, [])) if *kind == Self::KIND => Ok(value),
            _ => Err(Damaged::Contents),
        }
    }
}

impl Kind for SenderRecord {
    const KIND: u8 = 1;
}
impl Kind for ReceiverRecord {
    const KIND: u8 = 2;
}
impl Kind for ToReceiver {
    const KIND: u8 = 3;
}
impl Kind for ToSender {
    const KIND: u8 = 4;
}
impl Encoded for SenderRecord {}
impl Encoded for ReceiverRecord {}
impl Encoded for ToReceiver {}
impl Encoded for ToSender {}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSFER: Transfer = Transfer {
        program: Id([255; 16]),
        store: Id([254; 16]),
        attempt: Id([253; 16]),
    };

    #[test]
    fn what_is_encoded_comes_back_and_nothing_else_does() {
        let record = SenderRecord {
            transfer: TRANSFER,
            stage: SenderStage::Released {
                receipt: Id([252; 16]),
                own: true,
            },
        };
        let bytes = record.encode();
        assert_eq!(SenderRecord::decode(&bytes), Ok(record));
        assert!(bytes.len() <= MOST_BYTES);
        assert_eq!(ReceiverRecord::decode(&bytes), Err(Damaged::Contents));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SenderRecord::decode(&damaged), Err(Damaged::Checksum));
        }
        for end in 0..bytes.len() {
            assert!(SenderRecord::decode(&bytes[..end]).is_err());
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(SenderRecord::decode(&longer).is_err());
    }

    #[test]
    fn everything_fits() {
        let (transfer, receipt) = (TRANSFER, Id([1; 16]));
        let stage = ReceiverStage::Running { last: true };
        let record = ReceiverRecord {
            transfer,
            receipt,
            stage,
        }
        .encode();
        let last = true;
        let commit = ToReceiver::Commit {
            transfer,
            receipt,
            last,
        }
        .encode();
        let refused = ToSender::Refused {
            transfer,
            receipt: Some(receipt),
        }
        .encode();
        let unknown = ToSender::Unknown {
            transfer,
            receipt: Some(receipt),
        }
        .encode();
        assert!([record, commit, refused, unknown].iter().all(|b| b.len() <= MOST_BYTES));
    }

    #[test]
    fn another_version_says_so() {
        let mut bytes = vec![2, SenderRecord::KIND];
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        assert_eq!(SenderRecord::decode(&bytes), Err(Damaged::Version(2)));
    }
}
