//! Listening for other devices: who may connect, how many, how long; and the end of it.

use crate::make::apart;
use crate::moving::devices::{Devices, link};
use crate::serving::admission::{Admission, Rules};
use crate::serving::programs::Programs;
use crate::show;
use dunlin_transfer::link::LinkError;
use dunlin_transfer::receiver;
use dunlin_transfer::records::Shelf;
use dunlin_transfer::wire::Frame;
use dunlin_trust::channel::Channel;
use dunlin_trust::handshake::{self, Caller};
use dunlin_trust::peers::Peers;
use dunlin_trust::{Key, pairing};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// Connections that haven't said yet who they are, at most: those beyond are closed at once.
const MOST_STRANGERS: usize = 64;

/// The same of one address (of IPv6, of one network).
const MOST_STRANGERS_OF_ONE: usize = 12;

/// How long nothing is accepted when there is no descriptor left for it.
const PAUSE: Duration = Duration::from_millis(200);

/// How often it is looked whether programs have ended.
const LOOKING: Duration = Duration::from_millis(500);

/// How long transfers that may have changed hands are given to end, at the end.
const ENDING: Duration = Duration::from_secs(10);

/// A connection.
#[derive(Debug)]
struct Connection {
    id: u64,
    stream: TcpStream,
    from: IpAddr,
    /// Who it is, if that is known.
    peer: Option<Key>,
    decisive: Arc<AtomicBool>,
}

/// All that connections share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) devices: Devices,
    /// What others are told of this device when they are paired with it.
    pub(crate) about: pairing::About,
    /// Only pairing is answered, without these.
    pub(crate) receiving: Option<Receiving>,
    connections: Mutex<(u64, Vec<Connection>)>,
}

/// What it takes to receive programs.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub(crate) shelf: Shelf,
    pub(crate) rules: Arc<Rules>,
    pub(crate) programs: Arc<Programs>,
    pub(crate) max_connections: usize,
}

/// What counts as one address: of IPv6, a network, for whoever has one has 2^64 of them.
fn origin(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

/// Listens on addresses; at least one must work. That one is taken already is an error, unless the one before is it.
pub(crate) fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, String> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut why = "there is no address".to_owned();
    for address in addresses {
        match TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true).map_err(|e| e.to_string())?;
                listeners.push(listener);
            }
            // An IPv6 socket for all addresses has those of IPv4, too.
            Err(e)
                if e.kind() == io::ErrorKind::AddrInUse && address.ip().is_unspecified() && !listeners.is_empty() => {}
            // Where there is no IPv6, there may be IPv4.
            Err(e) if address.ip().is_unspecified() => why = format!("{address}: {e}"),
            Err(e) => return Err(format!("{address}: {e}")),
        }
    }
    if listeners.is_empty() { Err(why) } else { Ok(listeners) }
}

impl Server {
    /// Nobody is connected yet.
    pub(crate) fn new(devices: Devices, about: pairing::About, receiving: Option<Receiving>) -> Arc<Server> {
        Arc::new(Server {
            devices,
            about,
            receiving,
            connections: Mutex::default(),
        })
    }

    fn connections(&self) -> MutexGuard<'_, (u64, Vec<Connection>)> {
        self.connections.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Accepts connections until `stop` can be read from, or `over` says so.
    pub(crate) fn accept(
        self: &Arc<Server>,
        listeners: &[TcpListener],
        stop: &impl AsFd,
        over: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        let step = Timespec::try_from(LOOKING).map_err(io::Error::other)?;
        loop {
            let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
            fds.extend(listeners.iter().map(|l| PollFd::new(l, PollFlags::IN)));
            match poll(&mut fds, Some(&step)) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            }
            if !fds[0].revents().is_empty() || over() {
                return Ok(());
            }
            let ready: Vec<bool> = fds[1..].iter().map(|fd| !fd.revents().is_empty()).collect();
            for (listener, _) in listeners.iter().zip(ready).filter(|(_, ready)| *ready) {
                match listener.accept() {
                    Ok((stream, from)) => self.meet(stream, from.ip()),
                    // Somebody has hung up already, or there is no descriptor, or memory, at the moment.
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => thread::sleep(PAUSE),
                }
            }
            if let Some(receiving) = &self.receiving {
                receiving.programs.look();
            }
        }
    }

    /// Somebody has connected.
    fn meet(self: &Arc<Server>, stream: TcpStream, from: IpAddr) {
        let from = origin(from);
        let Ok(own) = stream.try_clone() else { return };
        if stream.set_nonblocking(false).is_err() {
            return;
        }
        let id = {
            let (last, connections) = &mut *self.connections();
            let strangers = || connections.iter().filter(|c| c.peer.is_none());
            let same = strangers().filter(|c| c.from == from).count();
            if strangers().count() >= MOST_STRANGERS || same >= MOST_STRANGERS_OF_ONE {
                return;
            }
            *last += 1;
            connections.push(Connection {
                id: *last,
                stream: own,
                from,
                peer: None,
                decisive: Arc::default(),
            });
            *last
        };
        let server = self.clone();
        let work = move || {
            let ended = server.answer(stream, id);
            server.connections().1.retain(|c| c.id != id);
            if let Err(why) = ended {
                show::complain(&format!("dunlin serve: {}", show::clean(&why)));
            }
        };
        let spawned = thread::Builder::new().name("dunlin-connection".into()).spawn(work);
        if spawned.is_err() {
            self.connections().1.retain(|c| c.id != id);
        }
    }

    fn answer(&self, stream: TcpStream, id: u64) -> Result<(), String> {
        let Devices { directory, own } = &self.devices;
        match handshake::answer(stream, directory, own) {
            Ok(Caller::Peer(channel)) => match &self.receiving {
                Some(receiving) => self.receive(channel, receiving, id),
                None => Ok(()),
            },
            Ok(Caller::ToPair { stream, until }) => {
                match pairing::answer(&stream, until, directory, own, &self.about) {
                    // Whoever shows the code is told. What strangers try is not worth a line.
                    Ok(_) | Err(_) => Ok(()),
                }
            }
            Err(_) => Ok(()),
        }
    }

    /// A paired device is connected.
    fn receive(&self, channel: Channel, receiving: &Receiving, id: u64) -> Result<(), String> {
        let peer = channel.peer();
        let known = Peers::read(&self.devices.directory).ok();
        let name = known.and_then(|peers| Some(peers.by_key(peer)?.name.clone()));
        let name = name.unwrap_or_else(|| peer.to_string());
        let of = |e: String| format!("{name}: {e}");
        let link = link(channel).map_err(|e| of(e.to_string()))?;
        let Receiving {
            shelf, rules, programs, ..
        } = receiving;
        let host = Admission::new(rules, programs, shelf, Some(peer));
        let mut host = host.ok_or_else(|| of("this machine is neither x86_64 nor aarch64".into()))?;
        let welcome = {
            let connections = &mut self.connections().1;
            let all = connections.iter().filter(|c| c.peer.is_some());
            let own = all.clone().filter(|c| c.peer == Some(peer)).count();
            // One device doesn't take all.
            let most = receiving.max_connections;
            let welcome = all.count() < most && own < most.div_ceil(2);
            // One that isn't stays among the strangers, of which there are few.
            if welcome && let Some(connection) = connections.iter_mut().find(|c| c.id == id) {
                let from = connection.stream.peer_addr().ok();
                host.called_from = from.map(|from| (self.devices.clone(), from.ip().to_canonical()));
                connection.peer = Some(peer);
                connection.decisive = host.decisive.clone();
            }
            welcome
        };
        if !welcome {
            let why = "too many connections are open there; try again later";
            let _ = link.greet(shelf.store());
            let _ = link.receive_within(Duration::from_secs(2));
            let _ = link.send(&Frame::Error(why.into()));
            link.finish();
            return Err(of("has too many connections".into()));
        }
        match receiver::serve(&link, shelf, &mut host) {
            Ok(()) | Err(LinkError::Closed) => Ok(()),
            Err(e) => Err(of(e.to_string())),
        }
    }

    /// Ends what is being compiled, and all connections: at once those of which no transfer can have changed hands, the
    /// others when they are over, or after [`ENDING`]. Whatever is cut, its records are durable, and the next contact
    /// goes on from them.
    pub(crate) fn end(&self) {
        apart::end();
        let deadline = Instant::now() + ENDING;
        loop {
            let mut left = 0;
            for connection in &self.connections().1 {
                match connection.decisive.load(SeqCst) {
                    true => left += 1,
                    false => drop(connection.stream.shutdown(Shutdown::Both)),
                }
            }
            if left == 0 || Instant::now() > deadline {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::configuration::Executables;
    use dunlin_interface::options::Options;
    use dunlin_transfer::link::Link;
    use dunlin_transfer::records::random;
    use std::path::Path;

    #[test]
    fn one_network_counts_as_one_address() {
        let ip = |text: &str| origin(text.parse().unwrap());
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::2:3:4:5"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_eq!(ip("::ffff:192.0.2.1"), ip("192.0.2.1"));
        assert_ne!(ip("192.0.2.1"), ip("192.0.2.2"));
    }

    /// A device at `here`, which takes so many connections, and the link of another one that is paired with it.
    fn met(here: &Path, there: &Path, max_connections: usize) -> (Arc<Server>, Link, Key) {
        let shelf = Shelf::open(here).unwrap();
        let (devices, caller) = (Devices::open(here).unwrap(), Devices::open(there).unwrap());
        let rules = Rules {
            options: Options::default(),
            emulator: None,
            executables: Executables::Paired,
            max_programs: 1,
            total_memory: None,
            max_executable: 1,
            max_state: 1,
        };
        let receiving = Receiving {
            programs: Arc::new(Programs::open(here).unwrap()),
            rules: Arc::new(rules),
            shelf,
            max_connections,
        };
        let (key, own) = (caller.own.key(), devices.own.key());
        Peers::add(&devices.directory, "there", key, Some("127.0.0.9:1".into())).unwrap();
        Peers::add(&caller.directory, "here", own, None).unwrap();
        let about = pairing::About {
            name: "here".into(),
            port: 1,
        };
        let server = Server::new(devices, about, Some(receiving));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, from) = listener.accept().unwrap();
        server.meet(accepted, from.ip());
        let channel = handshake::call(stream, &caller.directory, &caller.own, own).unwrap();
        (server, link(channel).unwrap(), key)
    }

    #[test]
    fn a_device_that_is_not_welcome_stays_a_stranger() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        let peers = |server: &Server| server.connections().1.iter().map(|c| c.peer).collect::<Vec<_>>();
        let (server, link, _) = met(&here, &there, 0);
        assert!(matches!(link.receive(), Ok(Frame::Hello { .. })));
        assert_eq!(peers(&server), [None]);
        link.greet(random().unwrap()).unwrap();
        assert!(matches!(link.receive(), Ok(Frame::Error(_))));
        assert_eq!(peers(&server), [None]);
    }

    #[test]
    fn where_a_device_is_counts_once_it_has_said_something() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        let (server, link, key) = met(&here, &there, 2);
        let address = || {
            Peers::read(&server.devices.directory)
                .unwrap()
                .by_key(key)
                .unwrap()
                .address
                .clone()
        };
        assert!(matches!(link.receive(), Ok(Frame::Hello { .. })));
        assert_eq!(server.connections().1[0].peer, Some(key));
        assert_eq!(address().unwrap(), "127.0.0.9:1");
        link.greet(random().unwrap()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while address().unwrap() != "127.0.0.1:1" {
            assert!(Instant::now() < deadline);
        }
    }

    #[test]
    fn listening_needs_one_address_that_works() {
        let any = "127.0.0.1:0".parse().unwrap();
        let first = listen(&[any]).unwrap();
        let taken = first[0].local_addr().unwrap();
        assert!(listen(&[taken]).is_err());
        assert!(listen(&[any, taken]).is_err());
        assert!(listen(&[]).is_err());
    }
}
