use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use culvert_wire::{CipherName, LocalAddress, PeerId};

use crate::{OffloadError, Port, TransportId};

/// A peer to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSpec {
    /// The id by which its packets are received, and sent unless `tx_id` differs.
    pub id: PeerId,
    /// The id to send with, where the two differ.
    pub tx_id: Option<PeerId>,
    /// The transport it is reached through.
    pub transport: TransportId,
    /// Its address.
    pub remote: SocketAddr,
    /// The local address to send from, where it matters.
    pub local: Option<LocalAddress>,
    /// Its addresses inside the tunnel.
    pub vpn: VpnAddresses,
    /// Networks behind it (`iroute`), as address and prefix length.
    pub iroutes: Vec<(IpAddr, u8)>,
    /// Keepalive in the data channel; `None` leaves it off.
    pub keepalive: Option<Keepalive>,
    /// Whether the peer's address may change (`float`).
    pub float: bool,
    /// The form of its data packets.
    pub shape: Shape,
    /// The cipher of its keys.
    pub cipher: CipherName,
    /// Clamp the MSS of TCP connections to this (IPv4 value; IPv6 is 20 less); `None` leaves it alone.
    pub mss: Option<u16>,
    /// Its place on an Ethernet device.
    pub port: Port,
    /// Rewrites addresses of its IPv4 packets (`client-nat`); each address by the first rule that fits.
    pub nat: Vec<NatRule>,
}

/// One network stands for another of the same size. An address fits where `address & netmask` is the network itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatRule {
    /// Which address of a packet that is sent; of one that is received it is the other.
    pub end: NatEnd,
    /// The network on this side.
    pub network: Ipv4Addr,
    /// Which bits it has.
    pub netmask: Ipv4Addr,
    /// The network inside the tunnel.
    pub alias: Ipv4Addr,
}

/// An end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatEnd {
    /// `snat`.
    Source,
    /// `dnat`.
    Destination,
}

/// A peer's addresses inside the tunnel: the ones that it may send from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VpnAddresses {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl VpnAddresses {
    /// Refuses addresses that no host can have: multicast, loopback and the like. Offloads do so on devices with many
    /// peers, where these addresses decide.
    ///
    /// # Errors
    /// With the first such address.
    pub fn check(&self) -> Result<(), OffloadError> {
        let v4 = self
            .v4
            .filter(|ip| ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast());
        // The lowest hold the unspecified address, loopback and the "compatible" form of IPv4.
        let v6 = self.v6.filter(|ip| ip.is_multicast() || ip.to_bits() <= u32::MAX.into());
        match v4.map(IpAddr::from).or(v6.map(IpAddr::from)) {
            Some(unusable) => Err(OffloadError::UnusableAddress(unusable)),
            None => Ok(()),
        }
    }
}

/// Keepalive of the data channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Send a ping after this long without sending; zero: never.
    pub interval: Duration,
    /// Give the peer up after this long without receiving; zero: never.
    pub timeout: Duration,
}

/// The form of a peer's data packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// `DATA_V1` (no peer id) instead of `DATA_V2`.
    pub data_v1: bool,
    /// The epoch format, whose keys follow each other by themselves.
    pub epoch: bool,
    /// Compression framing around every payload.
    pub framing: Framing,
    /// Within the framing, take what the peer compressed, up to this many bytes of payload.
    pub decompress: Option<u16>,
    /// Cut payloads, and put the peer's together (`fragment`): the most bytes that are encrypted at a time, less the header.
    pub fragment: Option<u16>,
    /// Copy the TOS byte of inner packets to the outer ones (`passtos`); kernels do without.
    pub pass_tos: bool,
}

impl Shape {
    /// `DATA_V2` without framing: the fast path.
    pub const PLAIN: Self = Self {
        data_v1: false,
        epoch: false,
        framing: Framing::None,
        decompress: None,
        fragment: None,
        pass_tos: false,
    };
}

/// Compression framing: what stands around a payload inside the encryption. Nothing is ever compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No framing.
    #[default]
    None,
    /// `comp-lzo no`, `compress lzo`: one byte `FA` in front.
    Lzo,
    /// `compress`, `compress stub`, `compress lz4`: `FB` swapped with the first byte.
    Swap,
    /// `compress stub-v2`, `compress lz4-v2`: `50 00` in front of payloads that begin with 0x50.
    V2,
}

/// A change to a peer in place. `None` leaves things as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerChange {
    /// New remote address.
    pub remote: Option<SocketAddr>,
    /// New keepalive.
    pub keepalive: Option<Keepalive>,
    /// New VPN addresses and iroutes.
    pub vpn: Option<(VpnAddresses, Vec<(IpAddr, u8)>)>,
    /// New MSS limit.
    pub mss: Option<Option<u16>>,
}

/// A peer's counters since it was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStats {
    /// The peer.
    pub id: PeerId,
    /// Its address now.
    pub remote: SocketAddr,
    /// Payload bytes taken from the tunnel device and delivered to it, pings excluded.
    pub tunnel: Traffic,
    /// Bytes of whole data packets on the transport, pings included.
    pub link: Traffic,
    /// Data packets on the transport under the current primary key, and payload bytes: what usage limits count.
    pub key: Traffic,
    /// Packets dropped, by reason.
    pub drops: Drops,
}

/// Bytes and packets in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Traffic {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
}

/// Packets from a peer that were not delivered, and packets to it that could not be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Authentication failed.
    pub auth: u64,
    /// Replayed, or too old for the window.
    pub replay: u64,
    /// The inner source address is not the peer's.
    pub source: u64,
    /// No key with that key id.
    pub no_key: u64,
    /// Too short, or bad framing.
    pub malformed: u64,
    /// To be sent, but longer than a datagram, or than `fragment` can cut.
    pub too_large: u64,
}

impl std::ops::Add for Drops {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            auth: self.auth + other.auth,
            replay: self.replay + other.replay,
            source: self.source + other.source,
            no_key: self.no_key + other.no_key,
            malformed: self.malformed + other.malformed,
            too_large: self.too_large + other.too_large,
        }
    }
}
