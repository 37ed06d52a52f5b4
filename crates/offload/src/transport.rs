use std::{
    io,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd}, // Unix only for now; the Windows driver owns its socket
};

use culvert_sys::sockopt;

/// Names a transport within its offload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransportId(pub u32);

/// What runs below OpenVPN's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// One packet per datagram.
    Udp,
    /// Packets prefixed by their length.
    Tcp,
}

/// A socket (set) to bind, or sockets to adopt.
#[derive(Debug)]
pub enum TransportSpec {
    /// Bind UDP sockets.
    BindUdp {
        /// Local address; port 0 lets the system choose.
        local: SocketAddr,
        /// The one peer, for a client: the socket is connected to it.
        remote: Option<SocketAddr>,
        /// Socket options.
        options: UdpOptions,
    },
    /// Take over a bound UDP socket.
    AdoptUdp {
        /// The socket.
        socket: OwnedFd,
        /// Socket options that the data plane needs to know.
        options: UdpOptions,
    },
    /// Take over a connected TCP stream (the daemon accepts and connects).
    AdoptTcp {
        /// The stream.
        stream: OwnedFd,
        /// Its peer.
        remote: SocketAddr,
    },
}

/// Options of a UDP socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UdpOptions {
    /// `SO_RCVBUF`; `None` lets the data plane choose.
    pub recv_buffer: Option<u32>,
    /// `SO_SNDBUF`; `None` lets the data plane choose.
    pub send_buffer: Option<u32>,
    /// Firewall mark.
    pub mark: Option<u32>,
    /// Bind to this device.
    pub bind_device: Option<String>,
    /// An IPv6 socket takes IPv6 only.
    pub v6_only: bool,
    /// Report and set the local address of each packet (`multihome`).
    pub multihome: bool,
    /// Path MTU discovery: `Some(true)` always (`mtu-disc yes`), `Some(false)` never (`no`); `None` as the system.
    pub mtu_discovery: Option<bool>,
    /// The relay of a SOCKS proxy: everything goes there, and comes from there, with a header in front.
    pub socks_relay: Option<SocksRelay>,
}

/// The relay of a SOCKS proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocksRelay {
    /// Where it listens.
    pub at: SocketAddr,
    /// The one server behind it, whose name the proxy may tell in place of an address.
    pub server: SocketAddr,
}

impl UdpOptions {
    /// Sets these options on a socket that is not bound yet. Buffer sizes are best effort, as in OpenVPN.
    ///
    /// # Errors
    /// When the system refuses one that the user asked for.
    pub fn apply(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        if let Some(bytes) = self.recv_buffer {
            sockopt::set_recv_buffer(socket, bytes)?;
        }
        if let Some(bytes) = self.send_buffer {
            sockopt::set_send_buffer(socket, bytes)?;
        }
        if let Some(mark) = self.mark {
            sockopt::set_mark(socket, mark)?;
        }
        if let Some(device) = &self.bind_device {
            sockopt::set_bind_device(socket, device)?;
        }
        if sockopt::is_v6(socket)? {
            sockopt::set_v6_only(socket, self.v6_only)?;
        }
        if self.multihome {
            sockopt::report_local_address(socket, true)?;
        }
        if let Some(on) = self.mtu_discovery {
            sockopt::set_mtu_discovery(socket, on)?;
        }
        Ok(())
    }
}
