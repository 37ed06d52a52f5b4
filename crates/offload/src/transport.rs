use std::net::SocketAddr;
use std::os::fd::OwnedFd; // Unix only for now; the Windows driver owns its socket

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
}
