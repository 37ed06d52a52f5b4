//! Sockets that play a peer: they seal and open classic DATA_V2 packets one at a time, in the plainest way.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
};

use culvert_crypto::{DataKey, Opener, Sealer};
use culvert_wire::{
    DataV2, KeyId, PacketId, PeerId,
    data::{TAG_LEN, V2_CLASSIC_OVERHEAD, v2_classic_prefix},
    tcp::frame_prefix,
};

use super::{PATIENCE, id, key};
use crate::TransportSpec;

/// A peer of the offload under test, over UDP.
pub struct WirePeer {
    /// Its socket.
    pub socket: UdpSocket,
    /// The offload's address: packets go there, and have to come from there.
    pub to: SocketAddr,
    /// The ids that its packets carry.
    pub ids: Ids,
}

/// A peer of the offload under test, over TCP.
pub struct TcpPeer {
    /// Its end of the stream.
    pub stream: TcpStream,
    ids: Ids,
}

/// The peer ids in packets.
#[derive(Clone, Copy)]
pub struct Ids {
    /// In those to the offload.
    pub sent: PeerId,
    /// In those from the offload.
    pub received: PeerId,
}

/// One of a peer's keys.
pub struct WireKey {
    id: KeyId,
    sealer: Sealer,
    opener: Opener,
    next: u32,
}

impl WireKey {
    /// The other end's half of [`key`].
    #[must_use]
    pub fn new(key_id: u8) -> Self {
        let DataKey::Classic { id, cipher, send, recv } = key(key_id, true) else {
            unreachable!("a classic key")
        };
        Self {
            id,
            sealer: Sealer::new(cipher, &send).unwrap(),
            opener: Opener::new(cipher, &recv).unwrap(),
            next: 1,
        }
    }

    /// Seals a payload with the next packet id.
    pub fn seal(&mut self, peer: PeerId, payload: &[u8]) -> Vec<u8> {
        let packet_id = PacketId::new(self.next).unwrap();
        self.next += 1;
        let prefix = v2_classic_prefix(self.id, Some(peer), packet_id);
        let mut packet = prefix.to_vec();
        packet.resize(V2_CLASSIC_OVERHEAD, 0);
        packet.extend_from_slice(payload);
        let (head, body) = packet.split_at_mut(V2_CLASSIC_OVERHEAD);
        let tag: &mut [u8; TAG_LEN] = (&mut head[prefix.len()..]).try_into().unwrap();
        self.sealer.seal_in_place(packet_id, &prefix, body, tag).unwrap();
        packet
    }

    /// Opens a packet, which has to carry this id and this key's.
    #[must_use]
    pub fn open(&self, peer: PeerId, packet: &[u8]) -> Vec<u8> {
        let data = DataV2::parse(packet).expect("DATA_V2");
        assert_eq!(data.key_id(), self.id, "the key that it was sealed with");
        assert_eq!(data.peer_id(), Some(peer));
        let mut payload = data.ciphertext().to_vec();
        self.opener
            .open_in_place(data.packet_id(), data.aad(), data.tag(), &mut payload)
            .expect("it authenticates");
        payload
    }
}

impl Ids {
    fn both(number: u8) -> Self {
        Self { sent: id(number.into()), received: id(number.into()) }
    }
}

impl WirePeer {
    /// A peer of that address, on the loopback device of the same family.
    #[must_use]
    pub fn bind(number: u8, to: SocketAddr) -> Self {
        let local: IpAddr = if to.is_ipv4() { [127, 0, 0, 1].into() } else { "::1".parse().unwrap() };
        let socket = UdpSocket::bind((local, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, to, ids: Ids::both(number) }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Sends a datagram.
    pub fn send_raw(&self, packet: &[u8]) {
        self.socket.send_to(packet, self.to).unwrap();
    }

    /// Seals and sends a payload.
    pub fn send(&self, key: &mut WireKey, payload: &[u8]) {
        self.send_raw(&key.seal(self.ids.sent, payload));
    }

    /// Waits for a datagram of the offload.
    #[must_use]
    pub fn receive_raw(&self) -> Vec<u8> {
        let mut buf = vec![0; 65_536];
        let (len, from) = self.socket.recv_from(&mut buf).expect("a packet for the peer");
        assert_eq!(from, self.to, "the address that the packet came from");
        buf.truncate(len);
        buf
    }

    /// Waits for a packet and opens it.
    #[must_use]
    pub fn receive(&self, key: &WireKey) -> Vec<u8> {
        key.open(self.ids.received, &self.receive_raw())
    }

    /// Fails when a datagram has arrived.
    pub fn expect_nothing(&self) {
        self.socket.set_nonblocking(true).unwrap();
        assert!(self.socket.recv(&mut [0; 64]).is_err(), "nothing was sent to this peer");
        self.socket.set_nonblocking(false).unwrap();
    }
}

impl TcpPeer {
    /// A peer at one end of a stream, and the offload's end.
    #[must_use]
    pub fn connect(number: u8) -> (Self, TransportSpec) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, remote) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let spec = TransportSpec::AdoptTcp { stream: OwnedFd::from(accepted), remote };
        (Self { stream, ids: Ids::both(number) }, spec)
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a packet.
    pub fn send_raw(&mut self, packet: &[u8]) {
        self.write(&frame(packet));
    }

    /// Seals and sends a payload.
    pub fn send(&mut self, key: &mut WireKey, payload: &[u8]) {
        let packet = key.seal(self.ids.sent, payload);
        self.send_raw(&packet);
    }

    /// Waits for a packet.
    #[must_use]
    pub fn receive_raw(&mut self) -> Vec<u8> {
        let mut prefix = [0; 2];
        self.stream.read_exact(&mut prefix).expect("a frame");
        let mut packet = vec![0; u16::from_be_bytes(prefix).into()];
        self.stream.read_exact(&mut packet).expect("a whole frame");
        packet
    }

    /// Waits for a packet and opens it.
    #[must_use]
    pub fn receive(&mut self, key: &WireKey) -> Vec<u8> {
        let packet = self.receive_raw();
        key.open(self.ids.received, &packet)
    }
}

/// A packet with its length in front.
#[must_use]
pub fn frame(packet: &[u8]) -> Vec<u8> {
    [&frame_prefix(packet.len()).unwrap()[..], packet].concat()
}
