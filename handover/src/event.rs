//! What happens to a side of a transfer, and what it wants done.

use crate::ids::Id;

/// What happens to a side of a transfer; `M` is what the other side says to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event<M> {
    /// The peer, and it is certain that it is the peer, says this.
    Message(M),
    /// The program is stopped, and its whole state is durable in this machine's own copy: written, synchronised, its
    /// directory, too.
    CopyDurable,
    /// The record of the last [`Action::Persist`] is durable (or durably removed).
    Persisted,
    /// The last [`Action::Persist`] failed; the record before it, the new one, or for a removal none, may be there.
    PersistFailed,
    /// There is a connection to the peer, or there still is one and a while has passed: what is open is said again.
    Contact,
    /// The connection is lost or a deadline has passed.
    Lost,
    /// The program runs, in answer to [`Action::Run`].
    Runs,
    /// Not one of the program's instructions ran in answer to [`Action::Run`], and none will.
    RunFailed,
    /// A person or the machine (no memory, a grant that was taken away, shutdown) wants the transfer undone. Always
    /// safe: where it is too late, it is refused.
    Cancel,
    /// `dunlin settle`.
    Settle(Settle),
}

/// How a person resolves what stands still. Not while [`Action::Run`] is under way: its event comes first, or, after
/// [`Run::Recover`], the decision to let the program stand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Settle {
    /// Try again what failed (a full disk, a start). Always safe.
    Again,
    /// The program goes on here. The person vouches that it doesn't run on the other side and never will: that machine,
    /// or its disk, is gone.
    Here,
    /// This side's copy and record are destroyed. The person vouches that the program isn't needed from here.
    Forget,
}

/// What is to be done, in the order given, each before the next, and all before the next event is handed over. What
/// [`Action::Persist`] and [`Action::Run`] only begin is finished when their events say so.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action<M, R> {
    /// Send it if there is a connection, else drop it: it is said again at the next [`Event::Contact`].
    Send(M),
    /// Make the transfer's record be this one, or remove it: atomically and durably, also against power cuts. Exactly
    /// one [`Event::Persisted`] or [`Event::PersistFailed`] answers; no second one is asked for before that.
    Persist(Option<R>),
    /// Let the program run. Exactly one [`Event::Runs`] or [`Event::RunFailed`] answers, unless it is
    /// [`Run::Recover`] and the policy is to let it stand.
    Run(Run),
    /// End the stopped program's process, and be sure that it has ended.
    EndProgram,
    /// Remove this machine's own copy of the state.
    DropCopy,
    /// Tell the person.
    Report(Report),
}

/// From what the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Run {
    /// The sender's stopped process goes on (nothing to do if it wasn't stopped yet); if there is none, the own copy.
    Resume,
    /// The receiver starts it from its copy. It has never gone on from there.
    Start,
    /// There was a crash about when the program began to run. If its process lives, that is it (let it go on if it is
    /// stopped): [`Event::Runs`]. If not, it has crashed with the machine, possibly having done something since the
    /// copy was made: whether it goes on from the copy is what was agreed on for crashes of this program (its
    /// checkpoints, its undo journal); else it stands still.
    Recover,
}

/// What a person is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Report {
    /// The program goes on at the sender; the transfer has failed.
    Home,
    /// The program is handed over (sender), or runs (receiver).
    Moved,
    /// It isn't known whether the receiver runs it. Both have its whole state; the next contact resolves it.
    InDoubt,
    /// It is too late to cancel: the receiver may run it already.
    TooLate,
    /// The transfer's record can't be written; the program stands still until it can.
    DiskFails,
    /// The program doesn't start from its copy. It stands still.
    CannotRun,
    /// The peer, to which the program was released, knows nothing of it: it has lost its disk. Stands still until a
    /// person says [`Settle::Here`], if this machine has a copy.
    PeerForgot,
    /// The peer says what can't be, such as another receipt than the one released. Stands still, as with
    /// [`Report::PeerForgot`].
    Contradiction {
        /// The receipt that the peer named.
        receipt: Id,
    },
    /// The program crashed with this machine while it was moved, as it would have if it had not been moved, and there
    /// is no whole copy of it from this transfer.
    Crashed,
    /// Nothing to settle in that way here.
    NothingToSettle,
}

/// What a sender finds of the program when it restarts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Found {
    /// The program's process lives: only what drove the transfer had died.
    Process,
    /// No process, but the own copy of this transfer, whole and durable.
    Copy,
    /// Neither.
    Nothing,
}
