//! The device's own key, and keys as they are written.

use crate::directory::Directory;
use crate::wire::builder;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, ErrorKind};
use std::str::FromStr;

/// Where it is kept.
const FILE: &str = "identity";

/// The public key of a device: who it is. Printed in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(pub [u8; 32]);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Key, String> {
        let why = || "it is no key: 64 hexadecimal digits".to_owned();
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(why());
        }
        let mut key = [0; 32];
        for (n, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).map_err(|_| why())?;
        }
        Ok(Key(key))
    }
}

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(text: String) -> Result<Key, String> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.to_string()
    }
}

/// The device's own key.
#[derive(Clone)]
pub struct Identity {
    pub(crate) secret: [u8; 32],
    public: Key,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public)
    }
}

impl Identity {
    /// A new one.
    pub fn generate() -> io::Result<Identity> {
        let pair = builder("IK", b"").and_then(|b| Ok(b.generate_keypair()?));
        let pair = pair.map_err(io::Error::other)?;
        match (pair.private.try_into(), pair.public.try_into()) {
            (Ok(secret), Ok(public)) => Ok(Identity {
                secret,
                public: Key(public),
            }),
            _ => Err(io::Error::other("a key has another length than expected")),
        }
    }

    /// This device's; made the first time.
    pub fn open(directory: &Directory) -> io::Result<Identity> {
        if directory.read(FILE)?.is_none() {
            let new = Identity::generate()?;
            directory.create(FILE, &[new.secret, new.public.0].concat())?;
        }
        let bytes = directory.read(FILE)?.unwrap_or_default();
        match (bytes.len(), bytes.first_chunk(), bytes.last_chunk()) {
            (64, Some(secret), Some(public)) => Ok(Identity {
                secret: *secret,
                public: Key(*public),
            }),
            _ => {
                let path = directory.file(FILE);
                let why = format!(
                    "{} is damaged: it has not 64 bytes; remove it, and pair again",
                    path.display()
                );
                Err(io::Error::new(ErrorKind::InvalidData, why))
            }
        }
    }

    /// What others know it by.
    pub fn key(&self) -> Key {
        self.public
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn it_is_made_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let keys: Vec<Key> = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(|| Identity::open(&directory).unwrap().key()));
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|k| *k == keys[0]), "{keys:?}");
        let path = directory.file(FILE);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Identity::open(&directory).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Identity::open(&directory).unwrap().key(), keys[0]);
        fs::write(&path, [7; 63]).unwrap();
        assert_eq!(Identity::open(&directory).unwrap_err().kind(), ErrorKind::InvalidData);
        let names = fs::read_dir(dir.path().join("trust")).unwrap();
        assert_eq!(names.count(), 1, "nothing else is left there");
        fs::set_permissions(dir.path().join("trust"), fs::Permissions::from_mode(0o750)).unwrap();
        assert_eq!(
            Directory::open(dir.path()).unwrap_err().kind(),
            ErrorKind::PermissionDenied
        );
    }

    #[test]
    fn keys_are_read_as_they_are_printed() {
        let key = Identity::generate().unwrap().key();
        assert_eq!(key.to_string().parse(), Ok(key));
        for bad in ["", "0", &"é".repeat(32), &"+1".repeat(32)] {
            assert!(bad.parse::<Key>().is_err(), "{bad}");
        }
    }
}
