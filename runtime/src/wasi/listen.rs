//! Listening sockets that a person gives a program (`--tcplisten`).

use crate::wasi::WasiError;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

/// Listens on an address. Waiting is done by polling, so the socket itself never blocks: a connection may be gone again
/// by then.
pub(in crate::wasi) fn listen(address: &SocketAddr) -> Result<OwnedFd, WasiError> {
    let bound = TcpListener::bind(address).and_then(|l| l.set_nonblocking(true).map(|()| l));
    bound.map(OwnedFd::from).map_err(|error| WasiError::Listen {
        address: *address,
        error,
    })
}
