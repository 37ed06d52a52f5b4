//! An offload with the host's side of its device and a transport: what most behaviours begin with.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_wire::{Slot, Transmit};

use super::{
    Lab, PATIENCE, Tunnel, device, id, key, peer, stats, udp, wait,
    wire_peer::{TcpPeer, WireKey, WirePeer},
};
use crate::{
    ControlBatch, ControlPacket, ControlReceiver, ControlSender, DeviceMode, Offload, PeerSpec, PeerStats,
    TransportId, TransportSpec,
};

/// A device for many peers, with one transport.
#[allow(missing_docs, reason = "the names say it")]
pub struct Server {
    pub offload: Arc<dyn Offload>,
    pub tunnel: Box<dyn Tunnel>,
    pub transport: TransportId,
    pub receiver: Box<dyn ControlReceiver>,
    pub sender: Arc<dyn ControlSender>,
    /// Where peers send to.
    pub address: SocketAddr,
}

/// A server on a UDP port of 127.0.0.1.
pub fn server(lab: &impl Lab) -> Server {
    server_over(lab, udp())
}

/// A server on some transport.
pub fn server_over(lab: &impl Lab, spec: TransportSpec) -> Server {
    server_on(lab, lab.open(device(DeviceMode::MultiPeer)), spec)
}

/// A server on the device that was opened last.
pub fn server_on(lab: &impl Lab, offload: Arc<dyn Offload>, spec: TransportSpec) -> Server {
    let tunnel = lab.tunnel();
    let (transport, receiver, sender) = offload.open_transport(spec).unwrap();
    let address = offload.local_address(transport).expect("an address of the transport");
    Server { offload, tunnel, transport, receiver, sender, address }
}

/// A server at one end of a stream, and its peer at the other, which the server does not know yet.
pub fn tcp_server(lab: &impl Lab, number: u8) -> (Server, TcpPeer) {
    let (wire, spec) = TcpPeer::connect(number);
    (server_over(lab, spec), wire)
}

impl Server {
    /// Opens another transport, which new peers are added to from then on; returns the control port of the former.
    #[must_use]
    pub fn open(&mut self, spec: TransportSpec) -> (Box<dyn ControlReceiver>, Arc<dyn ControlSender>) {
        let (transport, receiver, sender) = self.offload.open_transport(spec).unwrap();
        self.transport = transport;
        self.address = self.offload.local_address(transport).expect("an address of the transport");
        (std::mem::replace(&mut self.receiver, receiver), std::mem::replace(&mut self.sender, sender))
    }

    /// Adds peer 10.8.0.`number` with key 0.
    pub fn add(&self, number: u8, change: impl FnOnce(PeerSpec) -> PeerSpec) -> (WirePeer, WireKey) {
        let wire = WirePeer::bind(number, self.address);
        self.install(number, wire.address(), change);
        (wire, WireKey::new(0))
    }

    /// Adds the peer at the other end of the stream, with key 0.
    pub fn add_stream(
        &self,
        wire: &TcpPeer,
        number: u8,
        change: impl FnOnce(PeerSpec) -> PeerSpec,
    ) -> WireKey {
        self.install(number, wire.address(), change);
        WireKey::new(0)
    }

    fn install(&self, number: u8, remote: SocketAddr, change: impl FnOnce(PeerSpec) -> PeerSpec) {
        let spec = change(peer(number, self.transport, remote));
        let id = spec.id;
        self.offload.peer_new(spec).unwrap();
        self.offload.key_new(id, Slot::Primary, key(0, false)).unwrap();
    }

    /// Waits for the next packet out of the tunnel, which has to be this one.
    pub fn expect(&self, packet: &[u8]) {
        assert_eq!(self.tunnel.recv(PATIENCE).as_deref(), Some(packet), "a packet out of the tunnel");
    }

    /// Waits for this packet out of the tunnel, whatever comes before it.
    pub fn expect_among_others(&self, packet: &[u8]) {
        while self.tunnel.recv(PATIENCE).expect("a packet out of the tunnel") != packet {}
    }

    /// Sends a packet each way: the peer is alive.
    pub fn expect_both_ways(&self, number: u8, wire: &WirePeer, key: &mut WireKey, mark: u32) {
        wire.send(key, &packet(number, 1, mark));
        self.expect(&packet(number, 1, mark));
        self.tunnel.send(&packet(1, number, mark));
        assert_eq!(wire.receive(key), packet(1, number, mark));
    }

    /// The counters of a peer.
    pub fn stats(&self, number: u8) -> PeerStats {
        stats(&*self.offload, id(number.into()))
    }

    /// Waits until the counters of a peer are as they should be.
    pub fn wait_for(&self, number: u8, what: &str, condition: impl Fn(&PeerStats) -> bool) -> PeerStats {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.stats(number);
            if condition(&stats) {
                return stats;
            }
            assert!(Instant::now() < deadline, "never happened: {what}: {stats:?}");
            std::thread::yield_now();
        }
    }

    /// Waits for so many control packets.
    pub fn control(&mut self, count: usize) -> Vec<ControlPacket> {
        let mut batch = ControlBatch::default();
        while batch.packets.len() < count {
            let before = batch.packets.len();
            wait(|cx| self.receiver.poll_recv(cx, &mut batch)).unwrap();
            assert!(batch.packets.len() > before, "the port was closed");
        }
        assert_eq!(batch.packets.len(), count);
        batch.packets
    }

    /// Waits until the control port says that nothing will come any more.
    pub fn port_ends(&mut self) {
        let mut batch = ControlBatch::default();
        // An error is an end, too.
        let _failure = wait(|cx| self.receiver.poll_recv(cx, &mut batch));
        assert!(batch.packets.is_empty(), "an end, not a packet");
    }

    /// Sends a control packet.
    pub fn send_control(&self, to: SocketAddr, bytes: &[u8]) {
        wait(|cx| self.sender.poll_send(cx, &Transmit { to, from: None, bytes })).unwrap();
    }
}

/// An IPv4 packet from 10.8.0.`from` to 10.8.0.`to`, distinguishable by its number.
#[must_use]
pub fn packet(from: u8, to: u8, number: u32) -> Vec<u8> {
    packet_between([10, 8, 0, from], [10, 8, 0, to], &number.to_be_bytes())
}

/// An IPv4 packet of `len` bytes from 10.8.0.`from` to 10.8.0.`to`.
#[must_use]
pub fn packet_of(from: u8, to: u8, len: usize) -> Vec<u8> {
    packet_between([10, 8, 0, from], [10, 8, 0, to], &vec![0xA5; len - 20])
}

/// An IPv4 packet of a protocol that nothing looks into.
#[must_use]
pub fn packet_between(from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).expect("a packet").to_be_bytes();
    let mut packet = vec![0x45, 0, len[0], len[1], 0, 0, 0x40, 0, 64, 253, 0, 0];
    packet.extend_from_slice(&from);
    packet.extend_from_slice(&to);
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = u16::try_from((sum & 0xFFFF) + (sum >> 16)).expect("a short header");
    packet[10..12].copy_from_slice(&(!sum).to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// An IPv6 packet from fd00:8::`from` to fd00:8::`to`, distinguishable by its number.
#[must_use]
pub fn packet6(from: u8, to: u8, number: u32) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 4, 253, 64];
    packet.extend_from_slice(&super::inner6(from).octets());
    packet.extend_from_slice(&super::inner6(to).octets());
    packet.extend_from_slice(&number.to_be_bytes());
    packet
}

/// Long enough for a packet that is there already.
pub const SHORTLY: Duration = Duration::from_millis(1);
