//! Two devices get to know each other: one shows a code, a person types it on the other.
//!
//! ```text
//! the one where it is typed                            the one that shows it
//!   | 2, SPAKE2's message          ------------------>   | is a code shown? else silence; it is used up now
//!   | <------------------          SPAKE2's message      |
//!   both have the same key only if the code was the same; it goes into each message of Noise XXpsk0:
//!   | e                            ------------------>   | wrong code: closes
//!   | <------------------  e, ee, s, es (name, port)     |
//!   | s, se (name, port)           ------------------>   | keeps the caller's key
//!   | <------------------          (empty record)        |
//!   | keeps the other's key
//! ```
//!
//! SPAKE2 gives whoever guesses one try for each code, and nothing to try others on: one in a hundred million. The code
//! is in a file as long as `dunlin pair` shows it (and holds a lock on that), so that `dunlin serve`, which has the
//! port, can answer. The first one who comes with a message of SPAKE2 has used it up.

use crate::directory::Directory;
use crate::identity::{Identity, Key};
use crate::peers::{MOST_NAME, Peers, to_name};
use crate::wire::{Hurried, PAIR, Refused, builder};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use snow::HandshakeState;
use spake2::{Ed25519Group, Identity as Name, Password, Spake2};
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a code is good.
pub const CODE_LIFE: Duration = Duration::from_secs(300);

/// How long pairing may take once both are there.
const TIME: Duration = Duration::from_secs(10);

/// What both sides say they do: another version of it is a stranger.
const PROLOGUE: &[u8] = b"dunlin pairing 1";

/// The code that is shown.
const SHOWN: &str = "pairing";

/// What became of it.
const ENDED: &str = "pairing-ended";

/// Bytes of SPAKE2's messages.
const SPAKE: usize = 33;

/// Bytes of what each side says of itself: a port, and a name filled up with zeros.
const ABOUT: usize = 2 + MOST_NAME;

/// Bytes of the three messages of Noise.
const FIRST: usize = 32 + 16;
const SECOND: usize = 32 + 48 + ABOUT + 16;
const THIRD: usize = 48 + ABOUT + 16;

/// What a device says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What it is called.
    pub name: String,
    /// The port on which it can be called.
    pub port: u16,
}

impl About {
    fn bytes(&self) -> [u8; ABOUT] {
        let mut bytes = [0; ABOUT];
        bytes[..2].copy_from_slice(&self.port.to_le_bytes());
        let name = to_name(&self.name);
        bytes[2..2 + name.len()].copy_from_slice(name.as_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> About {
        let (port, name) = bytes.split_at(2);
        About {
            name: to_name(String::from_utf8_lossy(name).trim_end_matches('\0')),
            port: u16::from_le_bytes([port[0], port[1]]),
        }
    }
}

/// Why two devices don't know each other yet.
#[derive(Debug, thiserror::Error)]
pub enum NotPaired {
    /// Somebody has typed another code.
    #[error("the code is not the one that the other device shows; nothing was stored, and that code is used up")]
    WrongCode,
    /// Nobody answers who shows a code.
    #[error("the other device shows no code, or it is used up (`dunlin pair` there shows a new one)")]
    NoCode,
    /// Both are the same device.
    #[error("it is this very device")]
    Itself,
    /// They were too slow, or the connection broke.
    #[error("pairing was cut off; nothing was stored here")]
    CutOff,
    /// It can't be stored, or the like.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl From<io::Error> for NotPaired {
    fn from(e: io::Error) -> NotPaired {
        NotPaired::Refused(e.into())
    }
}

impl From<snow::Error> for NotPaired {
    fn from(e: snow::Error) -> NotPaired {
        NotPaired::Refused(e.into())
    }
}

/// A code as people type it: its digits.
pub fn digits(code: &str) -> Option<String> {
    let code: String = code.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    (code.len() == 8 && code.bytes().all(|b| b.is_ascii_digit())).then_some(code)
}

#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    code: String,
    /// Tells two apart.
    id: u64,
    /// In seconds since 1970: the device may have slept.
    until: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Ended {
    id: u64,
    paired: Option<String>,
    why: String,
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(u64::MAX, |t| t.as_secs())
}

/// A code that is shown on this device; used up when this is dropped.
#[derive(Debug)]
pub struct Code {
    directory: Directory,
    shown: Shown,
    /// Locked.
    _file: File,
}

/// What became of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// Nobody has come yet.
    Open,
    /// A device is known now, and called so.
    Paired(String),
    /// It is used up, or too old.
    Failed(String),
}

impl Code {
    /// Shows a new one; `None` if one is shown already.
    pub fn show(directory: &Directory) -> io::Result<Option<Code>> {
        let _lock = directory.lock()?;
        if is_shown(directory)? {
            return Ok(None);
        }
        let mut random = [0; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let random = u128::from_le_bytes(random);
        let shown = Shown {
            // The bias of this remainder is 2^-69.
            code: format!("{:08}", (random >> 32) % 100_000_000),
            id: (random as u64) >> 12,
            until: now().saturating_add(CODE_LIFE.as_secs()),
        };
        let (new, file) = directory.write_new(SHOWN, &serde_json::to_vec(&shown)?)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        std::fs::rename(&new, directory.file(SHOWN))?;
        Ok(Some(Code {
            directory: directory.clone(),
            shown,
            _file: file,
        }))
    }

    /// As it is shown: `1234 5678`.
    pub fn text(&self) -> String {
        let (a, b) = self.shown.code.split_at(4);
        format!("{a} {b}")
    }

    /// What has become of it until now.
    pub fn became(&self) -> io::Result<Became> {
        let ended = self.directory.read(ENDED)?;
        let ended = ended.and_then(|b| serde_json::from_slice::<Ended>(&b).ok());
        if let Some(ended) = ended.filter(|e| e.id == self.shown.id) {
            return Ok(match ended.paired {
                Some(name) => Became::Paired(name),
                None => Became::Failed(ended.why),
            });
        }
        match now() > self.shown.until.saturating_add(TIME.as_secs()) {
            true => Ok(Became::Failed("nobody has typed the code in time".into())),
            false => Ok(Became::Open),
        }
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        let Ok(_lock) = self.directory.lock() else { return };
        if let Ok(Some(shown)) = shown(&self.directory)
            && shown.id == self.shown.id
        {
            let _ = self.directory.remove(SHOWN);
        }
        let _ = self.directory.remove(ENDED);
    }
}

fn shown(directory: &Directory) -> io::Result<Option<Shown>> {
    let bytes = directory.read(SHOWN)?;
    Ok(bytes.and_then(|b| serde_json::from_slice(&b).ok()))
}

/// Is a code shown now? One whose `dunlin pair` is gone is not.
fn is_shown(directory: &Directory) -> io::Result<bool> {
    let Ok(file) = File::open(directory.file(SHOWN)) else {
        return Ok(false);
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(shown(directory)?.is_some_and(|s| now() <= s.until)),
        Err(e) => Err(e.into()),
    }
}

/// The code that is shown now; it is used up if `take`.
fn code(directory: &Directory, take: bool) -> io::Result<Option<Shown>> {
    let _lock = directory.lock()?;
    if !is_shown(directory)? {
        return Ok(None);
    }
    let found = shown(directory)?;
    if take {
        directory.remove(SHOWN)?;
    }
    Ok(found)
}

fn names() -> (Name, Name) {
    (Name::new(b"dunlin: code typed"), Name::new(b"dunlin: code shown"))
}

fn noise<'a>(own: &'a Identity, key: &'a [u8; 32]) -> Result<snow::Builder<'a>, Refused> {
    let builder = builder("XXpsk0", PROLOGUE)?;
    Ok(builder.local_private_key(&own.secret)?.psk(0, key)?)
}

fn remote(noise: &HandshakeState) -> Result<Key, NotPaired> {
    let key = noise.get_remote_static().and_then(|key| key.try_into().ok());
    key.map(Key).ok_or(NotPaired::CutOff)
}

fn psk(spake: Spake2<Ed25519Group>, theirs: &[u8]) -> Result<[u8; 32], NotPaired> {
    let key = spake.finish(theirs).map_err(|_| NotPaired::CutOff)?;
    key.try_into().map_err(|_| NotPaired::CutOff)
}

/// Pairs with the device at the other end, which shows a code. `host`: how it was reached. Returns what it is called.
pub fn type_code(
    stream: &TcpStream,
    directory: &Directory,
    own: &Identity,
    about: &About,
    code: &str,
    host: &str,
) -> Result<(String, Key), NotPaired> {
    stream.set_nodelay(true)?;
    let mut hurried = Hurried::new(stream, Instant::now() + TIME);
    let (a, b) = names();
    let (spake, message) = Spake2::<Ed25519Group>::start_a(&Password::new(code), &a, &b);
    hurried.write(&[&[PAIR][..], &message].concat())?;
    let theirs: [u8; SPAKE] = hurried.read().map_err(|_| NotPaired::NoCode)?;
    let key = psk(spake, &theirs)?;
    let mut noise = noise(own, &key)?.build_initiator()?;
    let mut first = [0; FIRST];
    noise.write_message(&[], &mut first)?;
    hurried.write(&first)?;
    let second: [u8; SECOND] = hurried.read().map_err(|_| NotPaired::WrongCode)?;
    let mut said = [0; SECOND];
    noise
        .read_message(&second, &mut said)
        .map_err(|_| NotPaired::WrongCode)?;
    let (key, theirs) = (remote(&noise)?, About::read(&said[..ABOUT]));
    if key == own.key() {
        return Err(NotPaired::Itself);
    }
    let mut third = [0; THIRD];
    noise.write_message(&about.bytes(), &mut third)?;
    hurried.write(&third)?;
    let mut noise = noise.into_transport_mode()?;
    let last: [u8; 16] = hurried.read().map_err(|_| NotPaired::CutOff)?;
    noise.read_message(&last, &mut [0; 16]).map_err(|_| NotPaired::CutOff)?;
    let name = Peers::add(directory, &theirs.name, key, Some(host.to_owned()))?;
    Ok((name, key))
}

/// Answers somebody who wants to be paired, if a code is shown here; whoever shows it hears what became of it.
/// Otherwise, silence until that moment, as for any stranger.
pub fn answer(
    stream: &TcpStream,
    until: Instant,
    directory: &Directory,
    own: &Identity,
    about: &About,
) -> Result<String, NotPaired> {
    let mut hurried = Hurried::new(stream, until);
    let begun = begin(&mut hurried, directory);
    let (key, id) = begun.inspect_err(|_| hurried.ignore())?;
    let mut hurried = Hurried::new(stream, Instant::now() + TIME);
    let paired = finish(&mut hurried, directory, own, about, &key);
    let ended = match &paired {
        Ok(name) => Ended {
            id,
            paired: Some(name.clone()),
            why: String::new(),
        },
        Err(why) => {
            let (paired, why) = (
                None,
                match why {
                    NotPaired::WrongCode => "somebody has typed another code; nothing was stored".into(),
                    why => why.to_string(),
                },
            );
            Ended { id, paired, why }
        }
    };
    directory.replace(ENDED, &serde_json::to_vec(&ended).map_err(io::Error::from)?)?;
    paired
}

/// Agrees on a key with whoever has come. Nothing is said unless a code is shown.
fn begin(hurried: &mut Hurried<'_>, directory: &Directory) -> Result<([u8; 32], u64), NotPaired> {
    let theirs: [u8; SPAKE] = hurried.read()?;
    let shown = code(directory, false)?.ok_or(NotPaired::NoCode)?;
    let (a, b) = names();
    let (spake, message) = Spake2::<Ed25519Group>::start_b(&Password::new(&shown.code), &a, &b);
    // What is no message of SPAKE2 doesn't use the code up.
    let key = psk(spake, &theirs)?;
    let taken = code(directory, true)?.ok_or(NotPaired::NoCode)?;
    if taken.id != shown.id {
        return Err(NotPaired::NoCode);
    }
    hurried.write(&message)?;
    Ok((key, shown.id))
}

fn finish(
    hurried: &mut Hurried<'_>,
    directory: &Directory,
    own: &Identity,
    about: &About,
    key: &[u8; 32],
) -> Result<String, NotPaired> {
    let mut noise = noise(own, key)?.build_responder()?;
    let first: [u8; FIRST] = hurried.read().map_err(|_| NotPaired::CutOff)?;
    noise
        .read_message(&first, &mut [0; FIRST])
        .map_err(|_| NotPaired::WrongCode)?;
    let mut second = [0; SECOND];
    noise.write_message(&about.bytes(), &mut second)?;
    hurried.write(&second)?;
    let third: [u8; THIRD] = hurried.read().map_err(|_| NotPaired::CutOff)?;
    let mut said = [0; THIRD];
    noise.read_message(&third, &mut said).map_err(|_| NotPaired::CutOff)?;
    let (key, theirs) = (remote(&noise)?, About::read(&said[..ABOUT]));
    if key == own.key() {
        return Err(NotPaired::Itself);
    }
    let host = hurried.stream.peer_addr()?.ip().to_canonical();
    let address = std::net::SocketAddr::new(host, theirs.port).to_string();
    let name = Peers::add(directory, &theirs.name, key, Some(address))?;
    let mut noise = noise.into_transport_mode()?;
    let mut last = [0; 16];
    noise.write_message(&[], &mut last)?;
    // If it is lost, the other one doesn't know this device, and says so.
    let _ = hurried.write(&last);
    Ok(name)
}
