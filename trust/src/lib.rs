//! Who this device is, which others it knows, and channels that only they can open.
//!
//! A device has a key of its own ([`Identity`]), and a list of the keys of others ([`peers::Peers`]). Two devices learn
//! each other's key by [`pairing`]: one shows a short code, a person types it on the other. From then on either can
//! open a [`channel`] to the other: encrypted, both sides authenticated, and cut off is never taken for ended.
//!
//! Whoever is not paired learns nothing of a device, not even that Dunlin is there: the one who is called says nothing
//! before it has recognised the caller ([`handshake`]), and whatever is wrong with what it got, it is silent until the
//! same moment, and closes.
//!
//! It is the Noise protocol (patterns `IK` for channels, `XXpsk0` for pairing; Curve25519, AES-256-GCM, SHA-256), by
//! `snow`, with the ciphers of `ring`; and SPAKE2 for the code. TLS would do for the encryption, but there the one who
//! is called answers anyone: it shows its key before it knows who calls, and what it is by its alerts. In Noise's `IK`
//! the caller's first message can be read only with the key of the one that is meant, and says who calls.
//!
//! ```text
//! caller                                          called
//!   | 1, e, es, s, ss (number of this call)  --->   | known key, and a number that was not there before? else silence
//!   | <--- e, ee, se                                |
//!   | ===  records of at most 65,535 bytes, each with its length; an empty one is the end  ===
//! ```

pub mod channel;
pub mod directory;
pub mod handshake;
mod identity;
pub mod pairing;
pub mod peers;
mod replay;
mod wire;

pub use directory::Directory;
pub use identity::{Identity, Key};
pub use wire::Refused;
