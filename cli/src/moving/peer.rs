//! The machine that a program moves to, as it is written down to be reached again.

use crate::moving::devices::{Device, Devices};
use crate::moving::ssh::{SCHEME, Shell};
use dunlin_transfer::link::{Link, LinkError};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// A receiving machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Peer {
    /// Where `dunlin serve` runs, which is paired with this one.
    Device(Device),
    /// Where a remote shell runs `dunlin receive`.
    Shell(Shell),
}

impl Peer {
    /// The machine that is meant. `state`: the directory of the user's state, where paired devices are known.
    pub(crate) fn new(to: &str, shell: &str, dunlin: &str, options: &[String], state: &Path) -> Result<Peer, String> {
        if to.starts_with(SCHEME) {
            return Shell::new(to, shell, dunlin, options).map(Peer::Shell);
        }
        if !options.is_empty() {
            let why =
                "what programs may use there is what its own `dunlin serve` grants; only with ssh:// it is said here";
            return Err(why.into());
        }
        let devices = Devices::open(state).map_err(|e| e.to_string())?;
        devices.find(to).map(Peer::Device)
    }

    /// What a person is told.
    pub(crate) fn address(&self) -> String {
        match self {
            Peer::Device(device) => device.name.clone(),
            Peer::Shell(shell) => shell.address.clone(),
        }
    }

    /// Connects.
    pub(crate) fn connect(&self, state: &Path) -> Result<Link, LinkError> {
        match self {
            Peer::Device(device) => {
                let connected = Devices::open(state)
                    .map_err(|e| e.to_string())
                    .and_then(|devices| devices.connect(device));
                connected.map_err(|why| io::Error::other(why).into())
            }
            Peer::Shell(shell) => shell.connect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let old = r#"{"address":"ssh://pi","shell":["ssh"],"dunlin":"dunlin","options":["--dir","/a"]}"#;
        let peer: Peer = serde_json::from_str(old).unwrap();
        assert_eq!(peer.address(), "ssh://pi");
        assert!(matches!(peer, Peer::Shell(_)));
        let state = tempfile::tempdir().unwrap();
        let key = "07".repeat(32);
        let new = format!(r#"{{"name":"pi","key":"{key}","address":"192.0.2.1:7746"}}"#);
        let peer: Peer = serde_json::from_str(&new).unwrap();
        assert!(matches!(peer, Peer::Device(_)));
        assert_eq!(serde_json::to_string(&peer).unwrap(), new);
        let unknown = peer.connect(state.path()).unwrap_err().to_string();
        assert!(unknown.contains("dunlin pair"), "{unknown}");
        let unknown = Peer::new("pi", "ssh", "dunlin", &[], state.path()).unwrap_err();
        assert!(unknown.contains("dunlin pair"), "{unknown}");
        assert!(Peer::new("pi", "ssh", "dunlin", &["--dir".into()], state.path()).is_err());
    }
}
