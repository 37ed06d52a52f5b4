//! Datagrams to a local service: the system log, the service manager.

use std::io;

#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// A connected datagram socket of the local family. Sending never waits: a full socket is an error.
#[derive(Debug)]
pub struct LocalDatagram {
    socket: UnixDatagram,
}

impl LocalDatagram {
    /// Connects to a path, or to an abstract name where the first character is `@` (the form of `NOTIFY_SOCKET`).
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(name: &str) -> io::Result<Self> {
        let address = match name.strip_prefix('@') {
            #[cfg(target_os = "linux")]
            Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name.as_bytes())?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Sends one message.
    ///
    /// # Errors
    /// As the system says; `WouldBlock` when the other side is slow.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        self.socket.send(message).map(drop)
    }
}
