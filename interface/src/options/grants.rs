//! What a person grants a program of the host besides arguments and environment: directories, and sockets to listen on.

use super::BadValue;
use dunlin_migrate::state::files::GrantMode;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// A directory of the host that the guest may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The directory on the host.
    pub host: PathBuf,
    /// The guest's name for it.
    pub guest: String,
    /// Whether its files travel with the program.
    pub mode: GrantMode,
}

impl Grant {
    /// Parses the value of `--dir`, `--carry` or `--carry-all`: `HOST[::GUEST]`.
    pub(super) fn parse(mode: GrantMode, value: &OsStr) -> Result<Grant, BadValue> {
        let bytes = value.as_bytes();
        let (host, guest) = match bytes.windows(2).position(|w| w == b"::") {
            Some(at) => (&bytes[..at], &bytes[at + 2..]),
            None => (bytes, bytes),
        };
        let text = OsStr::from_bytes(guest);
        let guest = text.to_str().ok_or_else(|| BadValue::new(text, "is not UTF-8"))?;
        if bytes.contains(&0) {
            return Err(BadValue::new(value, "contains a NUL byte"));
        }
        if host.is_empty() || guest.is_empty() {
            return Err(BadValue::new(value, "must be HOST or HOST::GUEST"));
        }
        Ok(Grant {
            host: PathBuf::from(OsStr::from_bytes(host)),
            guest: guest.to_owned(),
            mode,
        })
    }

    /// The inverse of [`Grant::parse`].
    pub(super) fn value(&self) -> OsString {
        OsString::from_vec([self.host.as_os_str().as_bytes(), b"::", self.guest.as_bytes()].concat())
    }
}

/// Parses the value of `--tcplisten`: an IP address and a port.
pub(super) fn parse_listen(value: &OsStr) -> Result<SocketAddr, BadValue> {
    let address = value.to_str().and_then(|text| text.parse().ok());
    address.ok_or_else(|| BadValue::new(value, "must be ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_and_written() {
        for mode in [GrantMode::Shared, GrantMode::Carry, GrantMode::CarryAll] {
            let grant = Grant::parse(mode, OsStr::new("/a b::/x")).unwrap();
            assert_eq!(
                (grant.host.as_os_str(), grant.guest.as_str()),
                (OsStr::new("/a b"), "/x")
            );
            assert_eq!(Grant::parse(mode, &grant.value()), Ok(grant));
            let error = Grant::parse(mode, OsStr::new("::/x")).unwrap_err().to_string();
            assert!(error.contains("must be HOST or HOST::GUEST"), "{error}");
        }
        assert!(Grant::parse(GrantMode::Shared, OsStr::from_bytes(b"/a::\xff")).is_err());
    }

    #[test]
    fn addresses_are_numbers() {
        assert!(parse_listen(OsStr::new("127.0.0.1:80")).is_ok() && parse_listen(OsStr::new("[::1]:0")).is_ok());
        for wrong in ["", "80", "localhost:80", "127.0.0.1", "127.0.0.1:65536"] {
            assert!(parse_listen(OsStr::new(wrong)).is_err(), "{wrong}");
        }
    }
}
