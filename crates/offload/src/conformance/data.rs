//! Behaviour that shows in packets.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_wire::Slot;

use super::{
    Lab, PATIENCE, Tunnel, device, event, id, key, peer, stats, udp, wait,
    wire_peer::{WireKey, WirePeer},
};
use crate::{
    ControlBatch, ControlReceiver, DeleteReason, DeviceMode, Keepalive, Offload, OffloadEvent, PeerSpec,
    PeerStats, TransportId,
};

struct Server {
    offload: Arc<dyn Offload>,
    tunnel: Box<dyn Tunnel>,
    transport: TransportId,
    receiver: Box<dyn ControlReceiver>,
    address: SocketAddr,
}

fn server(lab: &impl Lab) -> Server {
    let offload = lab.open(device(DeviceMode::MultiPeer));
    let tunnel = lab.tunnel();
    let (transport, receiver, _) = offload.open_transport(udp()).unwrap();
    let address = offload.local_address(transport).expect("an address of the transport");
    Server { offload, tunnel, transport, receiver, address }
}

impl Server {
    /// Adds peer 10.8.0.`number` with key 0.
    fn add(&self, number: u8, change: impl FnOnce(PeerSpec) -> PeerSpec) -> (WirePeer, WireKey) {
        let mut wire = WirePeer::bind(number);
        wire.connect(self.address);
        self.offload.peer_new(change(peer(number, self.transport, wire.address()))).unwrap();
        self.offload.key_new(id(number.into()), Slot::Primary, key(0, false)).unwrap();
        (wire, WireKey::new(0))
    }

    fn expect(&self, packet: &[u8]) {
        assert_eq!(self.tunnel.recv(PATIENCE).as_deref(), Some(packet), "a packet out of the tunnel");
    }

    fn wait_for(&self, number: u8, what: &str, condition: impl Fn(&PeerStats) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(&stats(&*self.offload, id(number.into()))) {
            assert!(Instant::now() < deadline, "never happened: {what}");
            std::thread::yield_now();
        }
    }
}

/// A UDP packet from 10.8.0.`from` to 10.8.0.`to`, distinguishable by its number.
fn packet(from: u8, to: u8, number: u32) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 24, 0, 0, 0x40, 0, 64, 253, 0, 0, 10, 8, 0, from, 10, 8, 0, to];
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = u16::try_from((sum & 0xFFFF) + (sum >> 16)).expect("a short header");
    packet[10..12].copy_from_slice(&(!sum).to_be_bytes());
    packet.extend_from_slice(&number.to_be_bytes());
    packet
}

/// What one end sends the other end receives, and both are counted.
pub fn packets_go_both_ways(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    for number in 0..100 {
        wire.send(&mut key, &packet(2, 1, number));
        server.expect(&packet(2, 1, number));
        server.tunnel.send(&packet(1, 2, number));
        assert_eq!(wire.receive(&key), packet(1, 2, number));
    }
    server.wait_for(2, "all are counted", |s| s.tunnel.rx_packets == 100 && s.tunnel.tx_packets == 100);
}

/// The second copy of a packet goes nowhere.
pub fn a_replayed_packet_is_dropped(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    let first = wire.seal(&mut key, &packet(2, 1, 1));
    wire.send_raw(&first);
    wire.send_raw(&first);
    wire.send(&mut key, &packet(2, 1, 2));
    server.expect(&packet(2, 1, 1));
    server.expect(&packet(2, 1, 2));
}

/// A key in the secondary slot decrypts at once; the primary one is used for sending until the swap.
pub fn both_slots_decrypt_and_the_primary_encrypts(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut old) = server.add(2, |spec| spec);
    server.offload.key_new(id(2), Slot::Secondary, key(1, false)).unwrap();
    let mut new = WireKey::new(1);
    wire.send(&mut new, &packet(2, 1, 1));
    wire.send(&mut old, &packet(2, 1, 2));
    server.expect(&packet(2, 1, 1));
    server.expect(&packet(2, 1, 2));
    server.tunnel.send(&packet(1, 2, 3));
    assert_eq!(wire.receive(&old), packet(1, 2, 3));

    server.offload.key_swap(id(2)).unwrap();
    server.tunnel.send(&packet(1, 2, 4));
    assert_eq!(wire.receive(&new), packet(1, 2, 4));
    wire.send(&mut old, &packet(2, 1, 5));
    server.expect(&packet(2, 1, 5));
}

/// Packets under way during a swap arrive.
pub fn a_swap_while_receiving_loses_nothing(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut old) = server.add(2, |spec| spec);
    server.offload.key_new(id(2), Slot::Secondary, key(1, false)).unwrap();
    let mut new = WireKey::new(1);
    for number in 0..60 {
        let key = if number % 2 == 0 { &mut old } else { &mut new };
        wire.send(key, &packet(2, 1, number));
        if number % 10 == 5 {
            server.offload.key_swap(id(2)).unwrap();
        }
    }
    for number in 0..60 {
        server.expect(&packet(2, 1, number));
    }
}

/// A deleted key is gone.
pub fn a_deleted_key_decrypts_no_more(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut old) = server.add(2, |spec| spec);
    server.offload.key_new(id(2), Slot::Secondary, key(1, false)).unwrap();
    server.offload.key_swap(id(2)).unwrap();
    server.offload.key_del(id(2), Slot::Secondary).unwrap();
    wire.send(&mut old, &packet(2, 1, 1));
    wire.send(&mut WireKey::new(1), &packet(2, 1, 2));
    server.expect(&packet(2, 1, 2));
}

/// A removed peer's packets go nowhere, and others are not disturbed.
pub fn a_removed_peer_gets_and_sends_nothing(lab: &impl Lab) {
    let server = server(lab);
    let (gone, mut gone_key) = server.add(2, |spec| spec);
    let (stays, mut stays_key) = server.add(3, |spec| spec);
    server.offload.peer_del(id(2)).unwrap();
    gone.send(&mut gone_key, &packet(2, 1, 1));
    stays.send(&mut stays_key, &packet(3, 1, 2));
    server.expect(&packet(3, 1, 2));
    server.tunnel.send(&packet(1, 2, 3));
    server.tunnel.send(&packet(1, 3, 4));
    assert_eq!(stays.receive(&stays_key), packet(1, 3, 4));
    gone.socket.set_nonblocking(true).unwrap();
    assert!(gone.socket.recv(&mut [0; 64]).is_err(), "nothing was sent to the removed peer");
}

/// On a device with many peers, the destination decides; of two networks that hold it, the narrower one.
pub fn packets_find_their_peer_by_destination(lab: &impl Lab) {
    let server = server(lab);
    let network = ([10, 8, 0, 64].into(), 26);
    let (router, router_key) = server.add(2, |spec| PeerSpec { iroutes: vec![network], ..spec });
    lab.route(network, [10, 8, 0, 2].into());
    let (host, host_key) = server.add(70, |spec| spec);
    lab.route(([10, 8, 0, 70].into(), 32), [10, 8, 0, 70].into());
    server.tunnel.send(&packet(1, 70, 1));
    server.tunnel.send(&packet(1, 77, 2));
    assert_eq!(host.receive(&host_key), packet(1, 70, 1));
    assert_eq!(router.receive(&router_key), packet(1, 77, 2));
}

/// SEC-DATA-5: an inner source address has to be the peer's.
pub fn a_packet_with_a_foreign_source_is_dropped(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    let (_other, _) = server.add(3, |spec| spec);
    wire.send(&mut key, &packet(3, 1, 1));
    wire.send(&mut key, &packet(99, 1, 2));
    wire.send(&mut key, &packet(2, 1, 3));
    server.expect(&packet(2, 1, 3));
}

/// Control packets are handed up with their sender's address, in between data too.
pub fn control_packets_come_out_of_the_port(lab: &impl Lab) {
    let mut server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    let reset = [7 << 3, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0];
    wire.send(&mut key, &packet(2, 1, 1));
    wire.send_raw(&reset);
    wire.send(&mut key, &packet(2, 1, 2));
    server.expect(&packet(2, 1, 1));
    server.expect(&packet(2, 1, 2));
    let mut batch = ControlBatch::default();
    wait(|cx| server.receiver.poll_recv(cx, &mut batch)).unwrap();
    assert_eq!(batch.packets[0].bytes, reset);
    assert_eq!(batch.packets[0].from, wire.address());
}

/// A peer that says nothing is let go of, and the offload says why.
pub fn a_silent_peer_expires(lab: &impl Lab) {
    let server = server(lab);
    let keepalive = Keepalive { interval: Duration::ZERO, timeout: Duration::from_secs(1) };
    let (_wire, _) = server.add(2, |spec| PeerSpec { keepalive: Some(keepalive), ..spec });
    let gone = event(&*server.offload);
    assert!(
        matches!(gone, OffloadEvent::PeerGone(peer, DeleteReason::Expired, _) if peer == id(2)),
        "{gone:?}"
    );
    assert!(server.offload.peer_del(id(2)).is_err(), "it does not exist any more");
}

/// A tunnel without traffic carries pings.
pub fn a_quiet_tunnel_is_pinged(lab: &impl Lab) {
    let server = server(lab);
    let keepalive = Keepalive { interval: Duration::from_secs(1), timeout: Duration::from_secs(60) };
    let (wire, key) = server.add(2, |spec| PeerSpec { keepalive: Some(keepalive), ..spec });
    let ping =
        [0x2A, 0x18, 0x7B, 0xF3, 0x64, 0x1E, 0xB4, 0xCB, 0x07, 0xED, 0x2D, 0x0A, 0x98, 0x1F, 0xC7, 0x48];
    assert_eq!(wire.receive(&key), ping);
}
