//! Opening a channel between devices that know each other: Noise `IK`, and silence for everyone else.

use crate::channel::Channel;
use crate::directory::Directory;
use crate::identity::{Identity, Key};
use crate::peers::Peers;
use crate::replay;
use crate::wire::{CALL, Hurried, PAIR, Refused, builder};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long a handshake may take. Whoever isn't recognised hears nothing for just as long.
pub const HANDSHAKE: Duration = Duration::from_secs(4);

/// What both sides say they open: another version of it is a stranger.
const PROLOGUE: &[u8] = b"dunlin channel 1";

/// Bytes of the caller's message: ephemeral key, its own key and the tag, number and tag.
const FIRST: usize = 32 + 48 + 8 + 16;

/// Bytes of the answer: ephemeral key, and a tag.
const SECOND: usize = 32 + 16;

/// Calls a device by its key.
pub fn call(stream: TcpStream, directory: &Directory, own: &Identity, peer: Key) -> Result<Channel, Refused> {
    let mut noise = builder("IK", PROLOGUE)?
        .local_private_key(&own.secret)?
        .remote_public_key(&peer.0)?
        .build_initiator()?;
    let number = replay::next(directory)?;
    let mut first = [CALL; 1 + FIRST];
    noise.write_message(&number.to_le_bytes(), &mut first[1..])?;
    stream.set_nodelay(true)?;
    // The one who is called may be busy; that it is silent is known at the end of its own time.
    let mut hurried = Hurried::new(&stream, Instant::now() + 2 * HANDSHAKE);
    hurried.write(&first)?;
    let second: [u8; SECOND] = hurried.read().map_err(|_| Refused::Silent)?;
    noise.read_message(&second, &mut [0; 16]).map_err(|_| Refused::Silent)?;
    Channel::new(stream, noise, peer)
}

/// Who has called.
#[derive(Debug)]
pub enum Caller {
    /// A device that is known here.
    Peer(Channel),
    /// Somebody who wants to be paired, and has said only that yet.
    ToPair {
        /// The connection.
        stream: TcpStream,
        /// When the time for saying who it is is over.
        until: Instant,
    },
}

/// Hears who calls. Everyone but known devices, and those who want to be paired, was answered with silence until
/// [`HANDSHAKE`] was over: [`Refused::Silent`].
pub fn answer(stream: TcpStream, directory: &Directory, own: &Identity) -> Result<Caller, Refused> {
    let until = Instant::now() + HANDSHAKE;
    let mut hurried = Hurried::new(&stream, until);
    match recognise(&mut hurried, directory, own) {
        Ok(Some((noise, peer))) => Channel::new(stream, noise, peer).map(Caller::Peer),
        Ok(None) => Ok(Caller::ToPair { stream, until }),
        Err(_) => {
            hurried.ignore();
            Err(Refused::Silent)
        }
    }
}

/// `None` for somebody who wants to be paired.
fn recognise(
    hurried: &mut Hurried<'_>,
    directory: &Directory,
    own: &Identity,
) -> Result<Option<(snow::HandshakeState, Key)>, Refused> {
    hurried.stream.set_nodelay(true)?;
    match hurried.read()? {
        [CALL] => {}
        [PAIR] => return Ok(None),
        [_] => return Err(Refused::Silent),
    }
    let first: [u8; FIRST] = hurried.read()?;
    let mut noise = builder("IK", PROLOGUE)?
        .local_private_key(&own.secret)?
        .build_responder()?;
    let mut number = [0; FIRST];
    let len = noise.read_message(&first, &mut number)?;
    let peer = noise.get_remote_static().and_then(|key| key.try_into().ok());
    let (Some(peer), 8, Some(number)) = (peer.map(Key), len, number.first_chunk()) else {
        return Err(Refused::Silent);
    };
    // Looked up each time: one that is forgotten has no key here any more.
    let known = Peers::read(directory)?.by_key(peer).is_some();
    if !known || !replay::is_new(directory, peer, u64::from_le_bytes(*number))? {
        return Err(Refused::Silent);
    }
    let mut second = [0; SECOND];
    noise.write_message(&[], &mut second)?;
    hurried.write(&second)?;
    Ok(Some((noise, peer)))
}
