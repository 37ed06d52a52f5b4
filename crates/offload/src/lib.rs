//! The interface to data planes, and its implementations in kernels and drivers.
//!
//! An **offload** carries data packets; culvert's process only negotiates. The interface is modelled on the nouns and
//! verbs of the Linux `ovpn` module (`Documentation/netlink/specs/ovpn.yaml`), so that its backend is a translation:
//! a device, transports (sockets) in it, peers on transports, two key slots per peer. Nothing above this crate asks
//! which implementation is running; differences are data ([`Capabilities`]).
//!
//! The walk of a session: [`Backend::open`] makes the device, [`Offload::open_transport`] a socket whose control
//! packets come out of its [`ControlReceiver`]; after the handshake [`Offload::peer_new`] and [`Offload::key_new`]
//! hand the data over; [`Offload::key_swap`] after each renegotiation; [`Offload::peer_del`] at the end.
//!
//! Every implementation runs the suite in [`conformance`]; what drives offloads is tested with the one in [`fake`].

#![forbid(unsafe_code)]

pub mod conformance;
mod control;
mod error;
mod ethernet;
mod event;
mod event_queue;
pub mod fake;
#[cfg(target_os = "linux")]
mod linux;
mod needs;
mod paired;
mod peer;
mod sizes;
mod transport;

pub use control::{ControlBatch, ControlPacket, ControlReceiver, ControlSender};
pub use error::OffloadError;
pub use ethernet::{Ethernet, Learned, Port, Station};
pub use event::{DeleteReason, OffloadEvent};
pub use event_queue::EventQueue;
#[cfg(target_os = "linux")]
pub use linux::LinuxBackend;
pub use needs::{Placement, Shortfall};
pub use paired::{ENGINE_IDS, Paired};
pub use peer::{
    Drops, Framing, Keepalive, NatEnd, NatRule, PeerChange, PeerSpec, PeerStats, Shape, Traffic, VpnAddresses,
};
pub use sizes::{MeasuredSizes, SizeTest};
pub use transport::{Protocol, SocksRelay, TransportId, TransportSpec, UdpOptions};

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
};

use culvert_crypto::DataKey;
use culvert_wire::{CipherName, OffloadKind, PeerId, Slot};

/// A factory of offloads of one kind.
pub trait Backend: Send + Sync {
    /// Which kind this is.
    fn kind(&self) -> OffloadKind;

    /// Finds out whether this backend can work here, without changing anything.
    fn probe(&self) -> Support;

    /// Creates the device.
    ///
    /// # Errors
    /// When the device cannot be created; nothing is left behind then.
    fn open(&self, device: DeviceSpec) -> Result<Arc<dyn Offload>, OffloadError>;
}

/// What [`Backend::probe`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// Works; the text names implementation and version: "kernel ovpn 7.3.4".
    Present(String),
    /// Does not work; the text says why, and what to do about it.
    Absent(String),
}

/// One network device and the data plane behind it.
///
/// Calls are synchronous and short (a netlink request, a table update). They are made by one task, in order.
pub trait Offload: Send + Sync {
    /// What this offload can carry.
    fn capabilities(&self) -> &Capabilities;

    /// The network device, for the host configuration.
    fn device(&self) -> Device;

    /// The device that carries a peer, where an offload has several.
    fn device_of(&self, peer: PeerId) -> Device {
        let _ = peer;
        self.device()
    }

    /// Starts the program that is the device, where one is, with all of its environment but what tells it about the
    /// socket. Once: what it has to know may come from the peer.
    ///
    /// # Errors
    /// When it cannot be started.
    fn start_program(&self, env: &[(String, String)]) -> Result<(), OffloadError> {
        let _ = env;
        Ok(())
    }

    /// Where such a peer would be put; its id does not matter for that.
    fn placement(&self, peer: &PeerSpec) -> Placement {
        let _ = peer;
        Placement { first_id: PeerId::FIRST, kind: self.capabilities().kind, because: Vec::new() }
    }

    /// Binds or adopts sockets and returns their control port.
    ///
    /// # Errors
    /// When a socket cannot be bound or adopted.
    #[allow(clippy::type_complexity, reason = "the two ends of one control port")]
    fn open_transport(
        &self,
        spec: TransportSpec,
    ) -> Result<(TransportId, Box<dyn ControlReceiver>, Arc<dyn ControlSender>), OffloadError>;

    /// Closes a transport and gives its sockets back for another offload to adopt, where that is possible.
    ///
    /// # Errors
    /// When the transport is unknown.
    fn close_transport(&self, id: TransportId) -> Result<Option<TransportSpec>, OffloadError>;

    /// Sizes the buffers of a transport's sockets, in bytes; `None` leaves them as they are.
    ///
    /// # Errors
    /// When the transport is unknown, or data does not pass sockets' buffers (kernels).
    fn size_buffers(
        &self,
        id: TransportId,
        recv: Option<u32>,
        send: Option<u32>,
    ) -> Result<(), OffloadError> {
        let _ = (id, recv, send);
        Err(OffloadError::Unsupported("buffers of sockets"))
    }

    /// The local address of a transport, for whoever had the system choose a port; `None` where it is unknown.
    fn local_address(&self, id: TransportId) -> Option<SocketAddr> {
        let _ = id;
        None
    }

    /// Adds a peer. It carries nothing until it has a key.
    ///
    /// # Errors
    /// When the id or one of the VPN addresses is taken, no host can have such an address, or the transport is unknown.
    fn peer_new(&self, peer: PeerSpec) -> Result<(), OffloadError>;

    /// Changes a peer in place.
    ///
    /// # Errors
    /// When the peer is unknown.
    fn peer_set(&self, peer: PeerId, change: &PeerChange) -> Result<(), OffloadError>;

    /// Removes a peer with its keys.
    ///
    /// # Errors
    /// When the peer is unknown.
    fn peer_del(&self, peer: PeerId) -> Result<(), OffloadError>;

    /// Installs a key into a slot, replacing what was there. The key is consumed: packet ids start anew with each
    /// installation, so no key may ever be installed twice (nonce reuse).
    ///
    /// # Errors
    /// When the peer is unknown or the cipher is not carried.
    fn key_new(&self, peer: PeerId, slot: Slot, key: DataKey) -> Result<(), OffloadError>;

    /// Exchanges the two slots atomically.
    ///
    /// # Errors
    /// When the peer is unknown or has no secondary key.
    fn key_swap(&self, peer: PeerId) -> Result<(), OffloadError>;

    /// Empties a slot.
    ///
    /// # Errors
    /// When the peer is unknown.
    fn key_del(&self, peer: PeerId, slot: Slot) -> Result<(), OffloadError>;

    /// Tells the peer over the data channel (OCC_EXIT) that this side leaves. Sent once, not acknowledged; for peers
    /// that do not take the exit message of the control channel.
    ///
    /// # Errors
    /// When the peer is unknown, or the offload cannot send data of its own (kernels).
    fn notify_exit(&self, peer: PeerId) -> Result<(), OffloadError> {
        let _ = peer;
        Err(OffloadError::Unsupported("exit notification in the data channel"))
    }

    /// Has the sizes of packets tested that reach a peer; what is found counts at once, and comes as
    /// [`OffloadEvent::PathMtu`]. A peer that does not answer tests is soon left alone. Asked once more, it tests the path
    /// anew: this end is somewhere else now.
    ///
    /// # Errors
    /// When the peer is unknown, or the offload cannot send data of its own (kernels).
    fn test_sizes(&self, peer: PeerId, test: SizeTest) -> Result<(), OffloadError> {
        let _ = (peer, test);
        Err(OffloadError::Unsupported("tests of packet sizes"))
    }

    /// Appends the counters of one peer, or of all.
    ///
    /// # Errors
    /// When the peer is unknown.
    fn stats(&self, peer: Option<PeerId>, out: &mut Vec<PeerStats>) -> Result<(), OffloadError>;

    /// Whether addresses that are learned from now on are to be judged before they carry anything: [`Ethernet::ask`],
    /// changed in place.
    fn ask_about_stations(&self, ask: bool) {
        let _ = ask;
    }

    /// Says whether a peer may have an address that [`OffloadEvent::Learned`] told of. An address that is not allowed is
    /// asked about again later, if the peer still uses it.
    fn judge_station(&self, peer: PeerId, station: Station, allowed: bool) {
        let _ = (peer, station, allowed);
    }

    /// Appends the addresses that were learned, on an Ethernet device.
    fn stations(&self, out: &mut Vec<Learned>) {
        let _ = out;
    }

    /// The peer that has a learned address, be it judged yet or not.
    fn station_owner(&self, station: Station) -> Option<PeerId> {
        let _ = station;
        None
    }

    /// Forgets learned addresses that were idle for so long (`stale-routes-check`); [`OffloadEvent::Forgotten`] tells
    /// of each.
    fn expire_stations(&self, idle: std::time::Duration) {
        let _ = idle;
    }

    /// Returns the next event; `Ready(None)` once the device is gone.
    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<OffloadEvent>>;
}

/// What an offload can carry. Negotiation offers only what stands here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Who this is.
    pub kind: OffloadKind,
    /// Ciphers, best first.
    pub ciphers: Vec<CipherName>,
    /// Takes [`DataKey`]s of the epoch format.
    pub epoch: bool,
    /// Serves peers without peer id (DATA_V1).
    pub data_v1: bool,
    /// Serves many peers on one device.
    pub multi_peer: bool,
    /// Carries peers over TCP.
    pub tcp: bool,
    /// Sends to a peer id other than the one it receives by.
    pub tx_id: bool,
    /// Frames payloads as peers that were told to compress expect it, and cuts them (`fragment`).
    pub framing: bool,
    /// Clamps the MSS of TCP connections inside the tunnel.
    pub mssfix: bool,
}

/// The device to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Its name; `None` takes the first free `tunN` or `tapN`. A trailing `%d` is filled in by the system.
    pub name: Option<String>,
    /// What it is.
    pub kind: DeviceKind,
    /// Path of the clone device (`dev-node`), `/dev/net/tun` by default.
    pub node: Option<String>,
    /// MTU inside the tunnel.
    pub mtu: u16,
    /// Length of the transmit queue; `None` lets the offload choose.
    pub tx_queue_len: Option<u32>,
    /// One peer or many: a point-to-point device skips routing by address.
    pub mode: DeviceMode,
    /// Largest number of peers at a time.
    pub max_peers: u32,
    /// Packets between peers are switched inside the device (`client-to-client`).
    pub client_to_client: bool,
    /// Replay window in packets, and in seconds.
    pub replay_window: (u32, u32),
    /// Threads that the offload may use; `None` lets it count cores.
    pub threads: Option<usize>,
    /// Its packets are Ethernet frames; `None`: IP packets.
    pub ethernet: Option<Ethernet>,
}

/// What a device is. Kernels make TUN devices only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceKind {
    /// A TUN device.
    #[default]
    Tun,
    /// None: packets that come in vanish, none go out (`dev null`).
    Null,
    /// This program exchanges packets over a socket (`dev-node unix:PROGRAM`), once it is started
    /// ([`Offload::start_program`]). The path is absolute: nothing is searched for it.
    Program(PathBuf),
}

/// Whether a device has one peer or many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceMode {
    /// Everything goes to the one peer; inner addresses are not looked at.
    PointToPoint,
    /// Packets find their peer by inner destination address.
    MultiPeer,
}

/// The network device of an offload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Interface name.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
}
