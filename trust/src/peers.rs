//! The devices that this one knows: names, keys, and where they were met last.

use crate::directory::Directory;
use crate::identity::Key;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};
use std::net::IpAddr;

/// Where they are kept.
const FILE: &str = "peers.json";

/// Bytes of a name, at most.
pub const MOST_NAME: usize = 64;

/// How many there may be.
const MOST_PEERS: usize = 1000;

/// A device that is known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// What it is called here; no two have the same.
    pub name: String,
    /// Who it is.
    pub key: Key,
    /// Where it is reached, as `HOST:PORT`, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// All of them, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    peers: Vec<Peer>,
}

/// Can a device be called so? It is one word, and can't be taken for an option, an address or a path.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    (1..=MOST_NAME).contains(&name.len())
        && name.chars().all(plain)
        && name.starts_with(char::is_alphanumeric)
        && name.parse::<IpAddr>().is_err()
}

/// A name that is made of one that may not be. It has no dots: whoever chooses it is not the one who uses it, and who
/// says an address, or the name of a host, means that.
pub fn to_name(given: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let dashed = given.chars().map(|c| if c == '.' { '-' } else { c });
    let name: String = dashed.filter(|c| plain(*c)).take(MOST_NAME).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if is_name(name) {
        name.to_owned()
    } else {
        "device".to_owned()
    }
}

impl Peers {
    /// Those that are known now.
    pub fn read(directory: &Directory) -> io::Result<Peers> {
        let Some(bytes) = directory.read(FILE)? else {
            return Ok(Peers::default());
        };
        serde_json::from_slice(&bytes).map_err(|e| {
            let path = directory.file(FILE);
            io::Error::new(ErrorKind::InvalidData, format!("{} is damaged: {e}", path.display()))
        })
    }

    /// Changes the list; nobody else does meanwhile.
    fn change<T>(directory: &Directory, how: impl FnOnce(&mut Peers) -> io::Result<T>) -> io::Result<T> {
        let _lock = directory.lock()?;
        let mut peers = Peers::read(directory)?;
        let before = peers.clone();
        let done = how(&mut peers)?;
        peers.peers.sort_by(|a, b| a.name.cmp(&b.name));
        if peers != before {
            directory.replace(FILE, &serde_json::to_vec_pretty(&peers)?)?;
        }
        Ok(done)
    }

    /// All of them.
    pub fn all(&self) -> &[Peer] {
        &self.peers
    }

    /// The one with this key.
    pub fn by_key(&self, key: Key) -> Option<&Peer> {
        self.peers.iter().find(|p| p.key == key)
    }

    /// The one that is called so.
    pub fn by_name(&self, name: &str) -> Option<&Peer> {
        self.peers.iter().find(|p| p.name == name)
    }

    /// Adds a device, or what is new of one that is known. Another one that has its name already keeps that: the new
    /// one is called NAME-2. Returns what it is called.
    pub fn add(directory: &Directory, given: &str, key: Key, address: Option<String>) -> io::Result<String> {
        let given = to_name(given);
        Peers::change(directory, |peers| {
            if let Some(known) = peers.peers.iter_mut().find(|p| p.key == key) {
                known.address = address.or_else(|| known.address.take());
                return Ok(known.name.clone());
            }
            if peers.peers.len() >= MOST_PEERS {
                return Err(io::Error::other("too many devices are known already; forget some"));
            }
            let short: String = given.chars().take(MOST_NAME - 5).collect();
            let more = (2..).map(|n| format!("{short}-{n}"));
            let name = std::iter::once(given.clone())
                .chain(more)
                .find(|name| peers.by_name(name).is_none())
                .unwrap_or_default();
            peers.peers.push(Peer {
                name: name.clone(),
                key,
                address,
            });
            Ok(name)
        })
    }

    /// Notes where a device was met.
    pub fn met(directory: &Directory, key: Key, address: &str) -> io::Result<()> {
        if Peers::read(directory)?.by_key(key).and_then(|p| p.address.as_deref()) == Some(address) {
            return Ok(());
        }
        Peers::change(directory, |peers| {
            if let Some(peer) = peers.peers.iter_mut().find(|p| p.key == key) {
                peer.address = Some(address.to_owned());
            }
            Ok(())
        })
    }

    /// Calls a device otherwise.
    pub fn rename(directory: &Directory, from: &str, to: &str) -> io::Result<()> {
        let wrong = |why: String| io::Error::new(ErrorKind::InvalidInput, why);
        if !is_name(to) {
            let why = format!(
                "a name has letters, digits, '-', '_' and '.', at most {MOST_NAME}, no '-' or '.' first, and is no address"
            );
            return Err(wrong(why));
        }
        Peers::change(directory, |peers| {
            if from != to && peers.by_name(to).is_some() {
                return Err(wrong("another device is called so".into()));
            }
            match peers.peers.iter_mut().find(|p| p.name == from) {
                Some(peer) => peer.name = to.to_owned(),
                None => return Err(io::Error::new(ErrorKind::NotFound, "no device is called so")),
            }
            Ok(())
        })
    }

    /// Forgets a device: it is a stranger from now on.
    pub fn forget(directory: &Directory, name: &str) -> io::Result<()> {
        Peers::change(directory, |peers| {
            let at = peers.peers.iter().position(|p| p.name == name);
            let at = at.ok_or_else(|| io::Error::new(ErrorKind::NotFound, "no device is called so"))?;
            peers.peers.remove(at);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_added_renamed_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let (a, b) = (Key([1; 32]), Key([2; 32]));
        assert_eq!(Peers::add(&directory, "pi\x1b[31m!", a, None).unwrap(), "pi31m");
        Peers::rename(&directory, "pi31m", "pi").unwrap();
        assert_eq!(Peers::add(&directory, "pi", b, Some("h:1".into())).unwrap(), "pi-2");
        assert_eq!(Peers::add(&directory, "other", a, Some("i:2".into())).unwrap(), "pi");
        let peers = Peers::read(&directory).unwrap();
        assert_eq!(peers.all().len(), 2);
        assert_eq!(peers.by_name("pi").unwrap().address.as_deref(), Some("i:2"));
        Peers::met(&directory, b, "h:3").unwrap();
        let peers = Peers::read(&directory).unwrap();
        assert_eq!(peers.by_key(b).unwrap().address.as_deref(), Some("h:3"));
        for bad in [
            "",
            "-x",
            "a b",
            "a:1",
            "../x",
            "a\n",
            "192.0.2.1",
            "::1",
            &"x".repeat(65),
        ] {
            assert_eq!(
                Peers::rename(&directory, "pi", bad).unwrap_err().kind(),
                ErrorKind::InvalidInput
            );
        }
        assert!(Peers::rename(&directory, "pi", "pi-2").is_err());
        assert_eq!(
            Peers::forget(&directory, "none").unwrap_err().kind(),
            ErrorKind::NotFound
        );
        Peers::forget(&directory, "pi").unwrap();
        assert_eq!(Peers::read(&directory).unwrap().by_key(a), None);
    }

    #[test]
    fn no_device_calls_itself_what_another_ones_address_is() {
        for (given, name) in [
            ("192.0.2.1", "192-0-2-1"),
            (".pi.local", "pi-local"),
            ("2001:db8::1", "2001db81"),
            ("...", "device"),
        ] {
            assert_eq!(to_name(given), name);
        }
        assert!(is_name("pi.local") && is_name("1.2.3") && !is_name("1.2.3.4"));
    }

    #[test]
    fn many_can_change_them_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let directory = &directory;
                scope.spawn(move || Peers::add(directory, "same", Key([n; 32]), None).unwrap());
            }
        });
        let peers = Peers::read(&directory).unwrap();
        let mut names: Vec<&str> = peers.all().iter().map(|p| p.name.as_str()).collect();
        names.dedup();
        assert_eq!(names.len(), 8, "{names:?}");
    }
}
