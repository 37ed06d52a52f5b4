//! The engine's parts one by one, for measuring: what `culvert bench engine` runs.
//!
//! Not an interface to build on. Each type here wraps what the workers use, as they use it, and offers one batch of work as
//! one call; a batch is what the workers do between two system calls.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use culvert_crypto::{DataKey, DirectionKey};
pub use culvert_offload::OffloadError;
use culvert_offload::{DeviceMode, PeerSpec, Port, Shape, TransportId, UdpOptions, VpnAddresses};
use culvert_wire::{CipherName, KeyId, PeerId};

use crate::{
    EngineConfig,
    clock::Clock,
    engine::Shared,
    key::{Header, Key},
    outbox::Outbox,
    packet::{Coalescer, Joins, SuperPacket, VNET_HEADER_LEN},
    peer::Peer,
    table::Table,
    transport::{Backpressure, Transport, Udp, Wire},
};

/// The format of data packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Packet ids of 32 bits.
    Classic,
    /// Keys that change by epoch.
    Epoch,
}

/// Seconds and packets of the replay windows: OpenVPN's defaults.
const REPLAY: (u32, u32) = (64, 15);
const JOINS: Joins = Joins { tcp: true, udp: true };
/// IPv4 and TCP, no options.
const INNER_HEADERS: usize = 40;

fn key(cipher: CipherName, format: Format, send: u8, recv: u8) -> Result<Key, OffloadError> {
    let id = KeyId::FIRST;
    let half = |byte| DirectionKey { secret: [byte; 32], implicit_iv: [byte; 8] };
    let (send, recv) = (half(send), half(recv));
    let key = match format {
        Format::Classic => DataKey::Classic { id, cipher, send, recv },
        Format::Epoch => DataKey::Epoch { id, cipher, send, recv },
    };
    Key::new(&key, REPLAY).map_err(|_| OffloadError::Cipher(cipher))
}

/// A data key of both ends of a tunnel: packets are sealed at one and opened at the other, with packet ids, usage limits
/// and the replay window.
pub struct KeyPair {
    header: Header,
    sender: Key,
    receiver: Key,
}

impl KeyPair {
    /// Makes the two ends.
    ///
    /// # Errors
    /// A cipher that the engine does not have.
    pub fn new(cipher: CipherName, format: Format) -> Result<Self, OffloadError> {
        let header = Header::V2(PeerId::FIRST);
        Ok(Self { header, sender: key(cipher, format, 1, 2)?, receiver: key(cipher, format, 2, 1)? })
    }

    /// Bytes that a packet is longer than its payload.
    #[must_use]
    pub fn overhead(&self) -> usize {
        self.sender.layout(self.header).overhead()
    }

    /// Seals the packets that lie one behind the other in `train`, each `size` bytes with its [overhead](Self::overhead);
    /// returns how many were sealed.
    pub fn seal(&self, train: &mut [u8], size: usize) -> usize {
        let mut sending = self.sender.sending();
        train
            .chunks_exact_mut(size)
            .map(|packet| sending.seal(self.header, packet))
            .take_while(|sealed| *sealed)
            .count()
    }

    /// Opens a train that was sealed just before, each packet into `out`; returns how many were authentic and new.
    pub fn open(&self, train: &[u8], size: usize, out: &mut [u8]) -> usize {
        let mut receiving = self.receiver.receiving();
        train.chunks_exact(size).filter(|packet| receiving.open(false, packet, out, 0).is_ok()).count()
    }
}

/// A frame as a TUN device gives it: a TCP super-packet over IPv4 with this many payload bytes, to be cut into segments of
/// at most `segment`.
#[must_use]
pub fn super_packet(payload: u16, segment: u16) -> Vec<u8> {
    let total = usize::from(payload) + INNER_HEADERS;
    let mut frame = vec![1, 1]; // checksum to be finished; TCP over IPv4
    for number in [40, segment, 20, 16] {
        frame.extend_from_slice(&u16::to_ne_bytes(number)); // headers, segment, where the checksum starts and goes
    }
    frame.extend_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 8, 0, 2, 10, 8, 0, 1]);
    frame.extend_from_slice(&[
        0x13, 0x88, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 9, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0,
    ]);
    frame.resize(VNET_HEADER_LEN + total, 0xA5);
    frame
}

/// Cuts a frame of the device into the packets that the other end of the tunnel would give to its device.
#[must_use]
pub fn cut(frame: &[u8]) -> Vec<Vec<u8>> {
    let Some(packet) = SuperPacket::parse(frame) else { return Vec::new() };
    let cut = |index| {
        let mut out = vec![0; packet.len(index)];
        packet.write(index, &mut out);
        out
    };
    (0..packet.count()).map(cut).collect()
}

/// The transmit worker's outbox, with one peer: everything between the device and the socket.
pub struct Transmit {
    shared: Shared,
    peer: Arc<Peer>,
    outbox: Outbox,
}

impl Transmit {
    /// Prepares a peer with a key. Its transport is closed: what is sent goes nowhere, at no cost.
    ///
    /// # Errors
    /// A cipher that the engine does not have, or no socket.
    pub fn new(cipher: CipherName) -> Result<Self, OffloadError> {
        let shared = Shared::new(Table::new(DeviceMode::PointToPoint, None), JOINS, None, false, 1500);
        let peer = Arc::new(Peer::new(&spec(PeerId::FIRST, 1), closed_transport()?, &shared.clock));
        let primary = Some(Arc::new(key(cipher, Format::Classic, 1, 2)?));
        peer.keys.change(|slots| {
            slots.primary = primary.clone();
            Ok::<_, OffloadError>(())
        })?;
        Ok(Self { shared, peer, outbox: Outbox::new(0) })
    }

    /// Cuts a frame, seals its packets into trains, and hands those over; returns the bytes that went out.
    pub fn send(&mut self, frame: &[u8]) -> usize {
        let Some(packet) = SuperPacket::parse(frame) else { return 0 };
        self.outbox.push(&self.shared, &self.peer, &packet, Backpressure::Drop);
        let waiting = self.outbox.waiting();
        self.outbox.flush(&self.shared, Backpressure::Drop);
        waiting
    }
}

/// The receive worker's coalescer.
pub struct Join {
    coalescer: Coalescer,
}

impl Default for Join {
    fn default() -> Self {
        Self { coalescer: Coalescer::new(JOINS) }
    }
}

impl Join {
    /// Joins packets, a copy standing for their decryption; returns how many frames they became.
    pub fn join(&mut self, packets: &[Vec<u8>]) -> usize {
        let mut frames = 0;
        for packet in packets {
            if let Some(slot) = self.coalescer.slot(packet.len()).get_mut(..packet.len()) {
                slot.copy_from_slice(packet);
                self.coalescer.commit(packet.len(), |_| frames += 1);
            }
        }
        self.coalescer.flush(|_| frames += 1);
        frames
    }
}

/// The table of a server with many peers, each with as many addresses inside the tunnel.
pub struct Peers {
    table: Table,
    transport: Arc<Transport>,
    clock: Clock,
    routes_each: u32,
}

impl Peers {
    /// Makes a table of `count` peers, ids counted from 0, with `routes_each` addresses inside the tunnel each: its own,
    /// the others as if they were behind it.
    ///
    /// # Errors
    /// No socket, or more peers than there are ids.
    pub fn new(count: u32, routes_each: u32) -> Result<Self, OffloadError> {
        let (transport, clock) = (closed_transport()?, Clock::start());
        let peers = Self { table: Table::new(DeviceMode::MultiPeer, None), transport, clock, routes_each };
        (0..count).filter_map(PeerId::new).try_for_each(|id| peers.connect(id))?;
        Ok(peers)
    }

    /// Adds a peer.
    ///
    /// # Errors
    /// It is there already.
    pub fn connect(&self, id: PeerId) -> Result<(), OffloadError> {
        let spec = spec(id, self.routes_each);
        let peer = Peer::new(&spec, Arc::clone(&self.transport), &self.clock);
        self.table.insert(&spec, Arc::new(peer))
    }

    /// Removes a peer.
    ///
    /// # Errors
    /// It is not there.
    pub fn disconnect(&self, id: PeerId) -> Result<(), OffloadError> {
        self.table.remove(id).map(drop)
    }

    /// Whether inner address `number`, counted through all peers, leads to one.
    #[must_use]
    pub fn finds(&self, number: u32) -> bool {
        self.table.by_vpn_address(inner_address(number).into()).is_some()
    }
}

/// Inner addresses are neither in order nor neighbours, as those of real networks: a prime step through 10.0.0.0/8.
fn inner_address(number: u32) -> Ipv4Addr {
    const STEP: u32 = 7_919;
    Ipv4Addr::from_bits(0x0A00_0000 | number.wrapping_add(1).wrapping_mul(STEP) & 0x00FF_FFFF)
}

fn spec(id: PeerId, routes: u32) -> PeerSpec {
    let first = id.get().wrapping_mul(routes);
    PeerSpec {
        id,
        tx_id: None,
        transport: TransportId(0),
        remote: SocketAddr::from((Ipv4Addr::from_bits(0xC600_0000 | id.get()), 1194)),
        local: None,
        vpn: VpnAddresses { v4: Some(inner_address(first)), v6: None },
        iroutes: (1..routes).map(|n| (inner_address(first.wrapping_add(n)).into(), 32)).collect(),
        keepalive: None,
        float: true,
        shape: Shape::PLAIN,
        cipher: CipherName::Aes256Gcm,
        mss: None,
        port: Port::default(),
        nat: Vec::new(),
    }
}

fn closed_transport() -> Result<Arc<Transport>, OffloadError> {
    let failed = |source| OffloadError::system("bind a socket", source);
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let udp = Udp::bind(local, None, UdpOptions::default(), &EngineConfig::default(), 1).map_err(failed)?;
    let transport = Transport::new(TransportId(0), Wire::Udp(udp));
    transport.close().map_err(failed)?;
    Ok(Arc::new(transport))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_does_its_whole_batch() {
        let pair = KeyPair::new(CipherName::Aes256Gcm, Format::Epoch).unwrap();
        let size = 1400 + pair.overhead();
        let mut train = vec![0; 10 * size];
        assert_eq!(pair.seal(&mut train, size), 10);
        assert_eq!(pair.open(&train, size, &mut vec![0; size]), 10);
        assert_eq!(pair.open(&train, size, &mut vec![0; size]), 0, "the replay window is part of it");

        let frame = super_packet(65_000, 1400);
        let mut transmit = Transmit::new(CipherName::Aes256Gcm).unwrap();
        let packets = 65_000_usize.div_ceil(1400);
        assert_eq!(transmit.send(&frame), 65_000 + packets * (INNER_HEADERS + 24));

        let packets_of_frame = cut(&frame);
        assert_eq!(packets_of_frame.len(), packets);
        assert_eq!(Join::default().join(&packets_of_frame), 1);
    }

    #[test]
    fn a_peers_addresses_are_found_from_its_connect_to_its_disconnect() {
        let peers = Peers::new(3, 2).unwrap();
        assert!(peers.finds(5) && !peers.finds(6));
        let fourth = PeerId::new(3).unwrap();
        peers.connect(fourth).unwrap();
        assert!(peers.finds(6) && peers.finds(7));
        peers.disconnect(fourth).unwrap();
        assert!(!peers.finds(6) && !peers.finds(7) && peers.finds(5));
    }
}
