//! A connection to the other side: frames out, frames in, and nobody waits for ever.
//!
//! A thread reads ahead, a few frames at most; another says [`Frame::Working`] every few seconds; a third one notices
//! when the other side doesn't. Silence for [`SILENCE`] is the end of the connection, in both directions: whatever is
//! being written then fails.

use crate::wire::{Frame, VERSION, read_frame, write_frame};
use dunlin_handover::Id;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long the other side may be silent before it counts as gone.
pub const SILENCE: Duration = Duration::from_secs(30);

/// How often a side says that it is there.
const PULSE: Duration = Duration::from_secs(5);

/// How long the other side may take to read the last of what was sent and to hang up.
const ENDING: Duration = Duration::from_secs(10);

/// How often silence is looked for.
const WATCH: Duration = Duration::from_millis(200);

/// Frames that are read ahead, at most.
const AHEAD: usize = 4;

/// Why there is nothing more to come.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other side has hung up.
    #[error("the connection was closed")]
    Closed,
    /// Nothing came for [`SILENCE`].
    #[error("the other side is silent (for {} s)", SILENCE.as_secs())]
    Silent,
    /// It can't be read or written, or isn't understood.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It speaks another version of the protocol.
    #[error("the other side speaks version {0} of the protocol, this one version {ours}: update the older one", ours = crate::wire::VERSION)]
    Version(u32),
    /// It sent what doesn't belong here.
    #[error("the other side sent something unexpected")]
    Unexpected,
}

/// What the threads of a connection share.
struct Shared {
    out: Mutex<Box<dyn Write + Send>>,
    over: Mutex<bool>,
    ends: Condvar,
    silent: AtomicBool,
    /// What was read waits to be taken.
    full: AtomicBool,
    begun: Instant,
    /// When something was heard last, in milliseconds since then.
    heard: AtomicU64,
    hang_up: Box<dyn Fn() + Send + Sync>,
}

impl Shared {
    fn out(&self) -> MutexGuard<'_, Box<dyn Write + Send>> {
        self.out.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn hang_up(&self) {
        if !self.end() {
            (self.hang_up)();
        }
    }

    /// The threads have nothing more to do. Tells whether that was so before.
    fn end(&self) -> bool {
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        self.ends.notify_all();
        std::mem::replace(&mut over, true)
    }

    /// Waits so long, or until the connection is over: then it is true.
    fn is_over_within(&self, time: Duration) -> bool {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ends.wait_timeout_while(over, time, |over| !*over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// What one of them does.
type Work = Box<dyn FnOnce(&Shared) + Send>;

/// A connection.
pub struct Link {
    shared: Arc<Shared>,
    frames: Receiver<io::Result<Frame>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Link {
    /// A connection over two streams. To drop the second one must tell the other side that nothing more comes;
    /// `hang_up` makes reading and writing them fail, from any thread, at once.
    pub fn new(
        from: impl Read + Send + 'static,
        to: impl Write + Send + 'static,
        hang_up: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Link> {
        let (sender, frames) = sync_channel(AHEAD);
        let shared = Arc::new(Shared {
            out: Mutex::new(Box::new(to)),
            over: Mutex::new(false),
            ends: Condvar::new(),
            silent: AtomicBool::new(false),
            full: AtomicBool::new(false),
            begun: Instant::now(),
            heard: AtomicU64::new(0),
            hang_up: Box::new(hang_up),
        });
        let threads: [(&str, Work); 3] = [
            ("dunlin-link", Box::new(move |shared| read_ahead(from, &sender, shared))),
            ("dunlin-pulse", Box::new(pulse)),
            ("dunlin-watch", Box::new(watch)),
        ];
        for (name, work) in threads {
            let shared = shared.clone();
            thread::Builder::new().name(name.into()).spawn(move || work(&shared))?;
        }
        Ok(Link { shared, frames })
    }

    /// Sends this side's [`Frame::Hello`].
    pub fn greet(&self, store: Id) -> Result<(), LinkError> {
        self.send(&Frame::Hello {
            version: VERSION,
            store: store.0,
        })
    }

    /// Sends a frame.
    pub fn send(&self, frame: &Frame) -> Result<(), LinkError> {
        let sent = write_frame(&mut *self.shared.out(), frame);
        sent.map_err(|e| self.why().unwrap_or(LinkError::Io(e)))
    }

    /// The next frame that says something.
    pub fn receive(&self) -> Result<Frame, LinkError> {
        match self.frames.recv() {
            Ok(Ok(frame)) => Ok(frame),
            Ok(Err(e)) => Err(self.why().unwrap_or(LinkError::Io(e))),
            Err(_) => Err(self.why().unwrap_or(LinkError::Closed)),
        }
    }

    /// As [`Link::receive`], but `None` if nothing comes for so long.
    pub fn receive_within(&self, time: Duration) -> Result<Option<Frame>, LinkError> {
        match self.frames.recv_timeout(time) {
            Ok(Ok(frame)) => Ok(Some(frame)),
            Ok(Err(e)) => Err(self.why().unwrap_or(LinkError::Io(e))),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(self.why().unwrap_or(LinkError::Closed)),
        }
    }

    /// Is there something to receive now, or has the connection ended?
    pub fn poll(&self) -> Result<Option<Frame>, LinkError> {
        match self.frames.try_recv() {
            Ok(Ok(frame)) => Ok(Some(frame)),
            Ok(Err(e)) => Err(self.why().unwrap_or(LinkError::Io(e))),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(self.why().unwrap_or(LinkError::Closed)),
        }
    }

    /// Says that nothing more comes, and waits until the other side has read all of it and hangs up, too.
    pub fn finish(&self) {
        *self.shared.out() = Box::new(io::sink());
        let deadline = Instant::now() + ENDING;
        while matches!(self.receive_within(ENDING), Ok(Some(_))) && Instant::now() < deadline {}
        self.shared.end();
    }

    fn why(&self) -> Option<LinkError> {
        self.shared.silent.load(SeqCst).then_some(LinkError::Silent)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.hang_up();
    }
}

fn read_ahead(from: impl Read, to: &SyncSender<io::Result<Frame>>, shared: &Shared) {
    let mut from = Heard(from, shared);
    loop {
        let (frame, last) = match read_frame(&mut from) {
            Ok(Some(Frame::Working)) => continue,
            Ok(Some(frame)) => (Ok(frame), false),
            Ok(None) => return,
            Err(e) => (Err(e), true),
        };
        // While this side doesn't take what was read, it is not the other one that is silent.
        shared.full.store(true, SeqCst);
        let gone = to.send(frame).is_err();
        shared.heard.store(shared.now(), SeqCst);
        shared.full.store(false, SeqCst);
        if gone || last {
            return;
        }
    }
}

/// Notes when something was read.
struct Heard<'a, R>(R, &'a Shared);

impl<R: Read> Read for Heard<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(buffer)?;
        self.1.heard.store(self.1.now(), SeqCst);
        Ok(n)
    }
}

fn pulse(shared: &Shared) {
    while !shared.is_over_within(PULSE) {
        if write_frame(&mut *shared.out(), &Frame::Working).is_err() {
            return;
        }
    }
}

fn watch(shared: &Shared) {
    while !shared.is_over_within(WATCH) {
        let silence = shared.now().saturating_sub(shared.heard.load(SeqCst));
        if !shared.full.load(SeqCst) && u128::from(silence) > SILENCE.as_millis() {
            shared.silent.store(true, SeqCst);
            shared.hang_up();
            return;
        }
    }
}
