//! Paired devices: who is meant, and how they are reached over TCP.

use dunlin_transfer::link::Link;
use dunlin_trust::channel::Channel;
use dunlin_trust::peers::{Peer, Peers};
use dunlin_trust::{Directory, Identity, Key, handshake};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The port of `dunlin serve`, unless another is said; IANA has assigned it to nobody.
pub(crate) const PORT: u16 = 7746;

/// How long a device may take to accept a connection.
const CONNECTING: Duration = Duration::from_secs(5);

/// Devices that are tried at once, to find out whose an address is.
const AT_ONCE: usize = 6;

/// A device that a program moves to; written down so that it can be reached again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    /// What it was called.
    pub name: String,
    /// Who it is.
    pub key: Key,
    /// Where it was, as `HOST:PORT`.
    pub address: String,
}

/// What this device knows of itself and of others.
#[derive(Clone, Debug)]
pub(crate) struct Devices {
    /// Where that is kept.
    pub directory: Directory,
    /// This device's own key.
    pub own: Identity,
}

/// `HOST[:PORT]` with a port.
pub(crate) fn with_port(address: &str) -> String {
    if let Ok(ip) = address.trim_matches(['[', ']']).parse::<IpAddr>() {
        return SocketAddr::new(ip, PORT).to_string();
    }
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => address.to_owned(),
        _ => format!("{address}:{PORT}"),
    }
}

/// Connects to wherever a name leads.
pub(crate) fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECTING) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

impl Devices {
    /// Of the user whose state is kept there.
    pub(crate) fn open(state: &Path) -> io::Result<Devices> {
        let directory = Directory::open(state)?;
        let own = Identity::open(&directory)?;
        Ok(Devices { directory, own })
    }

    /// The device that is meant: by its name, or by where it is.
    pub(crate) fn find(&self, to: &str) -> Result<Device, String> {
        let peers = Peers::read(&self.directory).map_err(|e| e.to_string())?;
        let device = |peer: &Peer, address: &str| Device {
            name: peer.name.clone(),
            key: peer.key,
            address: address.to_owned(),
        };
        if let Some(peer) = peers.by_name(to) {
            return match &peer.address {
                Some(address) => Ok(device(peer, address)),
                None => Err("where it is isn't known; say HOST[:PORT]".into()),
            };
        }
        let address = with_port(to);
        let mut all: Vec<&Peer> = peers.all().iter().collect();
        if all.is_empty() {
            return Err(format!(
                "it is not paired with this device: `dunlin pair` there, then `dunlin pair {to}` here"
            ));
        }
        // Those that were met there first; but addresses change hands.
        all.sort_by_key(|p| p.address.as_ref() != Some(&address));
        self.whose(&address, &all).map(|peer| device(peer, &address))
    }

    /// Which of these devices is at an address: each is called there, and one may answer.
    fn whose<'a>(&self, address: &str, peers: &[&'a Peer]) -> Result<&'a Peer, String> {
        for some in peers.chunks(AT_ONCE) {
            let (tell, told) = mpsc::channel();
            for peer in some {
                let (this, key, address, tell) = (self.clone(), peer.key, address.to_owned(), tell.clone());
                let call = move || {
                    let called = this.call(&address, key);
                    let closed = called.and_then(|channel| {
                        let peer = channel.peer();
                        channel.close().map_err(|e| e.to_string())?;
                        Ok(peer)
                    });
                    let _ = tell.send(closed);
                };
                thread::Builder::new().spawn(call).map_err(|e| e.to_string())?;
            }
            drop(tell);
            let mut why = String::new();
            for called in told {
                match called {
                    Ok(key) => {
                        let found = some.iter().find(|p| p.key == key);
                        return found.copied().ok_or_else(|| "it is another".into());
                    }
                    Err(e) => why = e,
                }
            }
            // What can't be connected to is nobody's.
            if !why.contains(NOT_PAIRED) {
                return Err(why);
            }
        }
        let why = "no device that is paired with this one answers there (`dunlin pair`, or `dunlin peers`)";
        Err(why.into())
    }

    /// Calls a device.
    fn call(&self, address: &str, key: Key) -> Result<Channel, String> {
        let stream = connect(address).map_err(|e| format!("{address}: {e}"))?;
        handshake::call(stream, &self.directory, &self.own, key).map_err(|e| match e {
            dunlin_trust::Refused::Silent => format!("{address} {NOT_PAIRED}"),
            e => format!("{address}: {e}"),
        })
    }

    /// A device has called from there: it may be reached there, too, on the port that it was last.
    pub(crate) fn called_from(&self, key: Key, ip: IpAddr) -> io::Result<()> {
        let peers = Peers::read(&self.directory)?;
        let last = peers
            .by_key(key)
            .and_then(|p| p.address.as_ref()?.parse::<SocketAddr>().ok());
        match last {
            Some(last) if last.ip() != ip => {
                let now = SocketAddr::new(ip, last.port());
                Peers::met(&self.directory, key, &now.to_string())
            }
            // A host's name leads where it should by itself.
            _ => Ok(()),
        }
    }

    /// Connects to a device, where it was met last, or where it was before.
    pub(crate) fn connect(&self, device: &Device) -> Result<Link, String> {
        let peers = Peers::read(&self.directory).map_err(|e| e.to_string())?;
        let Some(peer) = peers.by_key(device.key) else {
            let name = &device.name;
            return Err(format!(
                "{name} is not paired with this device any more (`dunlin pair`)"
            ));
        };
        let mut addresses = vec![device.address.as_str()];
        addresses.extend(peer.address.as_deref().filter(|a| *a != device.address));
        let mut why = String::new();
        for address in addresses {
            match self.call(address, device.key) {
                Ok(channel) => {
                    // It saves saying where it is the next time, no more.
                    let _ = Peers::met(&self.directory, device.key, address);
                    return link(channel).map_err(|e| e.to_string());
                }
                Err(e) => why = e,
            }
        }
        Err(why)
    }
}

/// What is told of a device that is silent.
const NOT_PAIRED: &str = "does not answer: either this device is not known there (any more; `dunlin pair`), or `dunlin \
                          serve` is not what listens there";

/// A connection of [`dunlin_transfer`] over a channel.
pub(crate) fn link(channel: Channel) -> io::Result<Link> {
    let (incoming, outgoing, end) = channel.split()?;
    Link::new(incoming, outgoing, move || end.now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_a_port() {
        for (given, whole) in [
            ("pi", "pi:7746"),
            ("pi:80", "pi:80"),
            ("192.0.2.1", "192.0.2.1:7746"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("2001:db8::1", "[2001:db8::1]:7746"),
            ("[2001:db8::1]", "[2001:db8::1]:7746"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
            ("pi:99999", "pi:99999:7746"),
        ] {
            assert_eq!(with_port(given), whole);
        }
    }
}
