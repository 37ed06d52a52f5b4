//! The module's commands about one device, in the words of `ovpn.yaml`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, BorrowedFd},
};

use culvert_crypto::{DataKey, DirectionKey};
use culvert_wire::{CipherName, PeerId, Slot};
use netlink_bindings::{
    ovpn::{self, Peer, PushPeerNewInput, PushPeerSetInput},
    traits::Pusher,
};
use zeroize::Zeroize as _;

use super::netlink::{Refused, Requests, attributes, unsigned};
use crate::{Keepalive, Traffic, VpnAddresses};

/// The longest time that the module takes for a keepalive, in seconds.
pub(super) const LONGEST: u32 = 86_400;

/// The commands of a device.
pub(super) struct Commands {
    pub(super) requests: Requests,
    pub(super) ifindex: u32,
}

/// What a new peer is made of.
pub(super) struct NewPeer<'a> {
    pub(super) id: PeerId,
    pub(super) tx_id: Option<PeerId>,
    pub(super) socket: BorrowedFd<'a>,
    /// UDP only: a stream knows its ends.
    pub(super) ends: Option<Ends>,
    /// Many peers only.
    pub(super) vpn: Option<VpnAddresses>,
}

/// Where a peer's datagrams go to and come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) remote: SocketAddr,
    /// `None` leaves it to the routes.
    pub(super) local: Option<IpAddr>,
}

/// A peer as the module tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PeerState {
    pub(super) id: PeerId,
    /// UDP only.
    pub(super) remote: Option<SocketAddr>,
    /// Packets of the tunnel.
    pub(super) vpn: Traffic,
    /// Packets of OpenVPN.
    pub(super) link: Traffic,
}

impl Commands {
    /// Adds a peer, without keepalive: the module starts its timer before the peer is in its tables (Linux 7.3.4), and a
    /// timer that runs at once finds nobody and never runs again.
    pub(super) fn peer_new(&mut self, peer: &NewPeer<'_>) -> Result<(), Refused> {
        let mut request = ovpn::Request::new().op_peer_new_do();
        let socket = u32::try_from(peer.socket.as_raw_fd()).unwrap_or(u32::MAX);
        let mut nest = request
            .encode()
            .push_ifindex(self.ifindex)
            .nested_peer()
            .push_id(peer.id.get())
            .push_socket(socket);
        if let Some(tx_id) = peer.tx_id {
            nest = nest.push_tx_id(tx_id.get());
        }
        if let Some(ends) = peer.ends {
            nest = push_ends(nest, ends);
        }
        if let Some(vpn) = &peer.vpn {
            nest = push_vpn(nest, vpn);
        }
        nest.end_nested();
        self.requests.order(&request)
    }

    pub(super) fn peer_set(
        &mut self,
        id: PeerId,
        ends: Option<Ends>,
        vpn: Option<&VpnAddresses>,
        keepalive: Option<Keepalive>,
    ) -> Result<(), Refused> {
        let mut request = ovpn::Request::new().op_peer_set_do();
        let mut nest = request.encode().push_ifindex(self.ifindex).nested_peer().push_id(id.get());
        if let Some(ends) = ends {
            nest = push_ends(nest, ends);
        }
        if let Some(vpn) = vpn {
            nest = push_vpn(nest, vpn);
        }
        if let Some(keepalive) = keepalive {
            nest = push_keepalive(nest, keepalive);
        }
        nest.end_nested();
        self.requests.order(&request)
    }

    pub(super) fn peer_del(&mut self, id: PeerId) -> Result<(), Refused> {
        let mut request = ovpn::Request::new().op_peer_del_do();
        request.encode().push_ifindex(self.ifindex).nested_peer().push_id(id.get()).end_nested();
        self.requests.order(&request)
    }

    pub(super) fn peer(&mut self, id: PeerId) -> Result<Option<PeerState>, Refused> {
        let mut request = ovpn::Request::new().op_peer_get_do();
        request.encode().push_ifindex(self.ifindex).nested_peer().push_id(id.get()).end_nested();
        let mut found = None;
        self.requests.call(&request, |answer| found = answer.get_peer().ok().and_then(|peer| read(&peer)))?;
        Ok(found)
    }

    pub(super) fn peers(&mut self) -> Result<Vec<PeerState>, Refused> {
        let mut request = ovpn::Request::new().op_peer_get_dump();
        request.encode().push_ifindex(self.ifindex);
        let mut peers = Vec::new();
        self.requests.call(&request, |answer| {
            peers.extend(answer.get_peer().ok().and_then(|peer| read(&peer)));
        })?;
        Ok(peers)
    }

    /// Installs a key; the message is wiped afterwards.
    pub(super) fn key_new(&mut self, id: PeerId, slot: Slot, key: &DataKey) -> Result<(), Refused> {
        let DataKey::Classic { id: key_id, cipher, send, recv } = key else {
            return Err(Refused::from(std::io::Error::from(std::io::ErrorKind::Unsupported)));
        };
        let mut buffer = Vec::with_capacity(256);
        let mut request = ovpn::Request::new_with_buf(&mut buffer).op_key_new_do();
        let len = usize::from(cipher.key_len());
        request
            .encode()
            .push_ifindex(self.ifindex)
            .nested_keyconf()
            .push_peer_id(id.get())
            .push_slot(slot_number(slot))
            .push_key_id(key_id.get().into())
            .push_cipher_alg(cipher_number(*cipher))
            .nested_encrypt_dir()
            .push_cipher_key(cipher_key(send, len))
            .push_nonce_tail(&send.implicit_iv)
            .end_nested()
            .nested_decrypt_dir()
            .push_cipher_key(cipher_key(recv, len))
            .push_nonce_tail(&recv.implicit_iv)
            .end_nested()
            .end_nested();
        let done = self.requests.order(&request);
        drop(request);
        buffer.zeroize();
        done
    }

    pub(super) fn key_swap(&mut self, id: PeerId) -> Result<(), Refused> {
        let mut request = ovpn::Request::new().op_key_swap_do();
        request.encode().push_ifindex(self.ifindex).nested_keyconf().push_peer_id(id.get()).end_nested();
        self.requests.order(&request)
    }

    pub(super) fn key_del(&mut self, id: PeerId, slot: Slot) -> Result<(), Refused> {
        let mut request = ovpn::Request::new().op_key_del_do();
        request
            .encode()
            .push_ifindex(self.ifindex)
            .nested_keyconf()
            .push_peer_id(id.get())
            .push_slot(slot_number(slot))
            .end_nested();
        self.requests.order(&request)
    }
}

/// Writers of a peer's attributes: those of a new peer and of a change differ in type only.
trait PeerAttributes: Sized {
    fn remote4(self, address: Ipv4Addr) -> Self;
    fn remote6(self, address: &[u8]) -> Self;
    fn scope(self, scope: u32) -> Self;
    fn port(self, port: u16) -> Self;
    fn local4(self, address: Ipv4Addr) -> Self;
    fn local6(self, address: &[u8]) -> Self;
    fn vpn4(self, address: Ipv4Addr) -> Self;
    fn vpn6(self, address: &[u8]) -> Self;
    fn interval(self, seconds: u32) -> Self;
    fn timeout(self, seconds: u32) -> Self;
}

macro_rules! peer_attributes {
    ($($writer:ident)*) => {
        $(impl<P: Pusher> PeerAttributes for $writer<P> {
            fn remote4(self, address: Ipv4Addr) -> Self { self.push_remote_ipv4(address) }
            fn remote6(self, address: &[u8]) -> Self { self.push_remote_ipv6(address) }
            fn scope(self, scope: u32) -> Self { self.push_remote_ipv6_scope_id(scope) }
            fn port(self, port: u16) -> Self { self.push_remote_port(port) }
            fn local4(self, address: Ipv4Addr) -> Self { self.push_local_ipv4(address) }
            fn local6(self, address: &[u8]) -> Self { self.push_local_ipv6(address) }
            fn vpn4(self, address: Ipv4Addr) -> Self { self.push_vpn_ipv4(address) }
            fn vpn6(self, address: &[u8]) -> Self { self.push_vpn_ipv6(address) }
            fn interval(self, seconds: u32) -> Self { self.push_keepalive_interval(seconds) }
            fn timeout(self, seconds: u32) -> Self { self.push_keepalive_timeout(seconds) }
        })*
    };
}

peer_attributes!(PushPeerNewInput PushPeerSetInput);

fn push_ends<P: PeerAttributes>(mut nest: P, ends: Ends) -> P {
    nest = match ends.remote {
        SocketAddr::V4(remote) => nest.remote4(*remote.ip()),
        SocketAddr::V6(remote) => {
            let nest = nest.remote6(&remote.ip().octets());
            if remote.scope_id() == 0 { nest } else { nest.scope(remote.scope_id()) }
        }
    };
    nest = nest.port(ends.remote.port());
    match (ends.local, ends.remote) {
        (Some(IpAddr::V4(local)), SocketAddr::V4(_)) => nest.local4(local),
        (Some(IpAddr::V6(local)), SocketAddr::V6(_)) => nest.local6(&local.octets()),
        // An address of the other family cannot be the one that packets to this peer leave from.
        _ => nest,
    }
}

fn push_vpn<P: PeerAttributes>(mut nest: P, vpn: &VpnAddresses) -> P {
    if let Some(v4) = vpn.v4 {
        nest = nest.vpn4(v4);
    }
    if let Some(v6) = vpn.v6 {
        nest = nest.vpn6(&v6.octets());
    }
    nest
}

/// The module takes both times or none: where one is "never", its longest stands for it. (The longest timeout is set
/// anew before it can pass, see [`super::peers`]; a ping a day does no harm.)
fn push_keepalive<P: PeerAttributes>(nest: P, keepalive: Keepalive) -> P {
    let seconds = |time: std::time::Duration| {
        let rounded = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        u32::try_from(rounded).unwrap_or(LONGEST).min(LONGEST)
    };
    let (interval, timeout) = match (seconds(keepalive.interval), seconds(keepalive.timeout)) {
        (0, 0) => (0, 0),
        (interval, 0) => (interval, LONGEST),
        (0, timeout) => (LONGEST, timeout),
        both => both,
    };
    nest.interval(interval).timeout(timeout)
}

fn cipher_key(key: &DirectionKey, len: usize) -> &[u8] {
    key.secret.get(..len).unwrap_or(&key.secret)
}

const fn slot_number(slot: Slot) -> u32 {
    match slot {
        Slot::Primary => 0,
        Slot::Secondary => 1,
    }
}

/// The module takes the length of the key for the variant of AES.
const fn cipher_number(cipher: CipherName) -> u32 {
    const AES_GCM: u32 = 1;
    const CHACHA20_POLY1305: u32 = 2;
    const NONE: u32 = 0;
    match cipher {
        CipherName::Aes128Gcm | CipherName::Aes192Gcm | CipherName::Aes256Gcm => AES_GCM,
        CipherName::ChaCha20Poly1305 => CHACHA20_POLY1305,
        _ => NONE,
    }
}

/// Reads a peer. Counters are read from the bytes: the generated reader knows only their narrow form.
fn read(peer: &ovpn::IterablePeer<'_>) -> Option<PeerState> {
    const FIRST_COUNTER: u16 = 16;
    let mut counters = [0_u64; 8];
    for (kind, value) in attributes(peer.get_buf()) {
        let place = kind.checked_sub(FIRST_COUNTER).and_then(|place| counters.get_mut(usize::from(place)));
        if let (Some(counter), Some(value)) = (place, unsigned(value)) {
            *counter = value;
        }
    }
    let traffic = |[rx_bytes, tx_bytes, rx_packets, tx_packets]: [u64; 4]| Traffic {
        rx_bytes,
        rx_packets,
        tx_bytes,
        tx_packets,
    };
    let [a, b, c, d, e, f, g, h] = counters;
    Some(PeerState {
        id: PeerId::new(peer.get_id().ok()?)?,
        remote: remote(*peer),
        vpn: traffic([a, b, c, d]),
        link: traffic([e, f, g, h]),
    })
}

/// Reads a remote address from a peer or an event.
pub(super) fn remote(peer: ovpn::IterablePeer<'_>) -> Option<SocketAddr> {
    let (mut ip, mut port, mut scope) = (None, None, 0);
    for attribute in peer.flatten() {
        match attribute {
            Peer::RemoteIpv4(address) => ip = Some(IpAddr::V4(address)),
            Peer::RemoteIpv6(bytes) => {
                ip = <[u8; 16]>::try_from(bytes).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
            }
            Peer::RemoteIpv6ScopeId(id) => scope = id,
            Peer::RemotePort(number) => port = Some(number),
            _ => {}
        }
    }
    Some(match ip? {
        IpAddr::V4(ip) => (ip, port?).into(),
        IpAddr::V6(ip) => std::net::SocketAddrV6::new(ip, port?, 0, scope).into(),
    })
}
