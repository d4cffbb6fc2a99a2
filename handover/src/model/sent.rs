//! Sets of messages, small enough for millions of worlds.

use crate::{ToReceiver, ToSender};
use std::cell::RefCell;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Message {
    ToReceiver(ToReceiver),
    ToSender(ToSender),
}

impl Message {
    /// 0 to the sender, 1 to the receiver.
    pub(super) fn direction(&self) -> usize {
        usize::from(matches!(self, Self::ToReceiver(_)))
    }
}

thread_local! {
    /// Every message that was sent in any world of this thread; its place is its number.
    static ALL: RefCell<Vec<Message>> = const { RefCell::new(vec![]) };
}

/// What was ever sent. All of it may arrive at any time, again and again, or never. The last message of each direction
/// is fresh until it is lost or has arrived: no other arrives without anything unusual.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Sent {
    ever: u128,
    fresh: [Option<u8>; 2],
}

impl Sent {
    pub(super) fn add(&mut self, message: Message) {
        let number = ALL.with_borrow_mut(|all| {
            all.iter().position(|m| *m == message).unwrap_or_else(|| {
                all.push(message);
                all.len() - 1
            })
        });
        assert!(number < 128, "few enough for a set");
        self.ever |= 1 << number;
        self.fresh[message.direction()] = Some(number as u8);
    }

    /// Everything, and whether it is fresh.
    pub(super) fn each(self) -> impl Iterator<Item = (Message, bool)> {
        let numbers = (0..128u8).filter(move |n| self.ever & (1 << n) != 0);
        numbers.map(move |n| {
            let message = ALL.with_borrow(|all| all[usize::from(n)]);
            (message, self.fresh[message.direction()] == Some(n))
        })
    }

    pub(super) fn any(self, is: impl Fn(&Message) -> bool) -> bool {
        self.each().any(|(message, _)| is(&message))
    }

    /// The fresh message of a direction was lost or has arrived.
    pub(super) fn is_used(&mut self, direction: usize) {
        self.fresh[direction] = None;
    }
}
