//! How a program moves to another machine exactly once: the protocol, without I/O.
//!
//! The promise: *never two; never lost; in doubt it stands still with its whole state durable on both sides, and the
//! next contact (or `dunlin settle`) resolves it.* One [`Sender`] and one [`Receiver`] for each [`Transfer`] keep it.
//! They are told what happened ([`Event`]) and say what is to be done ([`Action`]); who drives them has the sockets,
//! the disk and the processes. They are searched exhaustively in `model`, with the very code that runs in the product.
//!
//! # A move
//!
//! `=x=>` is written durably before what is below it. The state itself travels beside these messages.
//!
//! ```text
//! sender                                             receiver
//!   | =Moving=>                                          |
//!   | --- Offer ---------------------------------------> | offered(): room, grants, executable: all checked
//!   |     (pages go while the program runs)              |
//!   | the program is stopped, the last pages go          |
//!   | own copy durable (CopyDurable)                     | copy durable (CopyDurable)
//!   |                                                    | =Prepared(receipt)=>
//!   | <--------------------------- Prepared(receipt) --- |
//!   | =Released(receipt)=>       here it changes hands   |
//!   | --- Commit(receipt) -----------------------------> |
//!   |                                                    | =Running=>
//!   |                                                    | Run(Start); Runs
//!   |                                                    | =Taken=>
//!   | <------------------------------ Taken(receipt) --- |
//!   | EndProgram, DropCopy                               |
//!   | =(no record)=>                                     |
//!   | --- Gone ----------------------------------------> |
//!   |                                                    | =(no record)=>
//! ```
//!
//! Between stop and start lie three writes one after the other: the copies (both at once) with `Prepared`, `Released`,
//! `Running`.
//!
//! # A move that fails
//!
//! Before `Released` was asked for, whatever goes wrong (cancelled, connection lost, refused, too slow) brings the
//! program back; after it, only the receiver's durable word that it never ran it.
//!
//! ```text
//! sender                                             receiver
//!   | Lost, Cancel, or Refused                           | Prepared, or less
//!   | =Home=>                                            |
//!   | Run(Resume)                                        |
//!   | --- Gone ----------------------------------------> |
//!   | Runs; DropCopy                                     | =(no record)=>
//!   | =(no record)=>                                     | DropCopy
//!
//!   | Released: in doubt, stands still                   | Prepared, and cancelled; or Running, and RunFailed
//!   |                                                    | =Refused(receipt)=>
//!   | <---------------------------- Refused(receipt) --- | keeps its copy
//!   | =Home=>                                            |
//!   | Run(Resume); --- Gone ---------------------------> | =(no record)=>; DropCopy
//! ```
//!
//! # What a crash leads to
//!
//! A machine restarts from its record alone. Whatever is lost on the way is said again at the next [`Event::Contact`],
//! by either side.
//!
//! ```text
//! sender's record   program here         after the restart
//! none              -                    as if there had been no move; whoever asks hears Gone
//! Moving            process or copy      =Home=>, goes on here, Gone
//! Moving            nothing (crashed)    asks: Prepared -> =Released=> and Commit(last): the move saves the program;
//!                                        Unknown -> it has crashed, as it would have without the move
//! Released          whatever             stands still; Commit again at each contact; answers:
//!                                          Taken -> ends and forgets   Refused -> takes it back
//!                                          Prepared -> Commit          Unknown -> the receiver lost its disk: a person
//! Home              process              it goes on (nothing to do if it does already)
//! Home              copy                 Run(Recover): it may have gone on already, see there
//! Home              nothing              crashed while it ran here
//!
//! receiver's record                      after the restart
//! none                                   what came in is dropped; whoever asks hears Unknown
//! Prepared                               stands still; Prepared again at each contact; answers:
//!                                          Commit -> runs it           Gone -> drops it
//! Running                                Run(Recover): it may have gone on already, see there
//! Taken                                  says so until it hears Gone
//! Refused                                says so, and keeps its copy, until it hears Gone
//!                                          Commit(last) -> runs it: the sender has no copy
//! ```
//!
//! # Why it is so
//!
//! - *An attempt has a name, and a preparation has one.* Ids are never used again, so a late message of another
//!   attempt matches nothing. The receipt is the receiver's: an `Offer` that comes a second time, after all is over
//!   and forgotten, is prepared under a new one, and the old `Commit` does not start it; its question is answered by
//!   `Gone`.
//! - *No record means: over* (presumed abort). The sender's record is durable before the `Offer`, so a sender that
//!   knows nothing has either aborted or forgotten, both for ever. That is true of the store of records in which the
//!   transfer began, and only that one says `Gone`.
//! - *The sender's copy is its own.* It is durable before the release: a refusal, or the loss of the receiver, can
//!   still bring the program back, whatever happened to the sender's process.
//! - *`Home` before it goes on.* If the sender let the program run while the record still says `Moving`, a crash would
//!   take the receiver's copy, or its own, for the newest state, and what was done since would be done again.
//! - *`Running` before it starts; `Taken` when it runs.* The first, so that no crash lets it start twice; the second,
//!   so that a crash after the program has gone elsewhere doesn't bring it back from the old copy, and so that the
//!   sender keeps its copy until the start has worked.
//! - *The instant of going on can't be written down.* A crash after `Running` (or `Home`) and before `Taken` (or the
//!   record's removal) leaves open whether anything ran: [`Run::Recover`]. Later it is a crash as any other of a
//!   running program.
//!
//! # What the driver must do
//!
//! 1. Actions in order, each done before the next, all before the next event; [`Action::Persist`] and [`Action::Run`]
//!    need only be begun. Each is answered by exactly one event.
//! 2. A record is replaced or removed atomically and is durable (the file, and its directory) when
//!    [`Event::Persisted`] says so. The copy that [`Event::CopyDurable`] announces may become durable as late as the
//!    next [`Event::Persisted`], if one synchronisation serves both. Records are small ([`MOST_BYTES`]): make the room
//!    for them when the transfer begins, so that a full disk doesn't keep the program from going home.
//! 3. A program that was stopped goes on only by [`Action::Run`]: not by itself when its driver dies or a connection
//!    closes, unless there is no record. A new driver gives it [`Found::Process`].
//! 4. [`Found::Copy`] only for a copy of this transfer that is whole and durable. A copy without a record is rubbish.
//! 5. A transfer begins only when every earlier one of that program here is over, or, if the program came with it,
//!    [`Receiver::may_leave`]. The program is stopped for it only after the `Offer`.
//! 6. Messages go to the machine of their transfer, and only if they come from that transfer's peer, by its key. Where
//!    there is none, [`ToReceiver::answer_without_record`] or [`ToSender::answer_without_record`] answers.
//! 7. [`Event::Contact`] when a connection to the peer is there, and again every second or so while it is.
//!    [`Event::Lost`] when it breaks or a deadline passes; never needed for safety.
//! 8. [`Event::RunFailed`] only if it is certain that nothing ran and nothing will.
//! 9. Ids come from the system's random numbers. The store's is made with the directory of the records, and they are
//!    not restored from a backup: an old record is a lie.
//!
//! ```
//! use dunlin_handover::*;
//!
//! let transfer = Transfer { program: Id([1; 16]), store: Id([2; 16]), attempt: Id([3; 16]) };
//! let receipt = Id([4; 16]);
//! let (mut sender, begin) = Sender::start(transfer);
//! assert!(matches!(begin[..], [Action::Persist(Some(_))]));
//! let offer = sender.handle(Event::Persisted);
//! assert_eq!(offer, [Action::Send(ToReceiver::Offer { transfer })]);
//!
//! let mut receiver = Receiver::offered(transfer, receipt);
//! assert!(matches!(receiver.handle(Event::CopyDurable)[..], [Action::Persist(Some(_))]));
//! let prepared = receiver.handle(Event::Persisted);
//! assert_eq!(prepared, [Action::Send(ToSender::Prepared { transfer, receipt })]);
//!
//! // Not released before the sender's own copy is durable.
//! assert!(sender.handle(Event::Message(ToSender::Prepared { transfer, receipt })).is_empty());
//! assert!(matches!(sender.handle(Event::CopyDurable)[..], [Action::Persist(Some(_))]));
//! let commit = ToReceiver::Commit { transfer, receipt, last: false };
//! assert_eq!(sender.handle(Event::Persisted), [Action::Send(commit)]);
//!
//! assert!(matches!(receiver.handle(Event::Message(commit))[..], [Action::Persist(Some(_))]));
//! assert_eq!(receiver.handle(Event::Persisted), [Action::Run(Run::Start)]);
//! ```

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
