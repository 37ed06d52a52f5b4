//! A socket that plays a peer: it seals and opens classic DATA_V2 packets one at a time, in the plainest way.

use std::net::{SocketAddr, UdpSocket};

use culvert_crypto::{DataKey, Opener, Sealer};
use culvert_wire::{
    DataV2, KeyId, PacketId,
    data::{TAG_LEN, V2_CLASSIC_OVERHEAD, v2_classic_prefix},
};

use super::{PATIENCE, id, key};

/// A peer of the offload under test.
pub(super) struct WirePeer {
    pub(super) socket: UdpSocket,
    to: SocketAddr,
    number: u8,
}

/// One of its keys.
pub(super) struct WireKey {
    id: KeyId,
    sealer: Sealer,
    opener: Opener,
    next: u32,
}

impl WireKey {
    /// The other end's half of [`key`].
    pub(super) fn new(key_id: u8) -> Self {
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
}

impl WirePeer {
    pub(super) fn bind(number: u8) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { to: socket.local_addr().unwrap(), socket, number }
    }

    pub(super) fn connect(&mut self, to: SocketAddr) {
        self.to = to;
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Seals a payload with the next packet id.
    pub(super) fn seal(&self, key: &mut WireKey, payload: &[u8]) -> Vec<u8> {
        let packet_id = PacketId::new(key.next).unwrap();
        key.next += 1;
        let prefix = v2_classic_prefix(key.id, Some(id(self.number.into())), packet_id);
        let mut packet = prefix.to_vec();
        packet.resize(V2_CLASSIC_OVERHEAD, 0);
        packet.extend_from_slice(payload);
        let (head, body) = packet.split_at_mut(V2_CLASSIC_OVERHEAD);
        let tag: &mut [u8; TAG_LEN] = (&mut head[prefix.len()..]).try_into().unwrap();
        key.sealer.seal_in_place(packet_id, &prefix, body, tag).unwrap();
        packet
    }

    pub(super) fn send_raw(&self, packet: &[u8]) {
        self.socket.send_to(packet, self.to).unwrap();
    }

    pub(super) fn send(&self, key: &mut WireKey, payload: &[u8]) {
        self.send_raw(&self.seal(key, payload));
    }

    /// Waits for a packet and opens it.
    pub(super) fn receive(&self, key: &WireKey) -> Vec<u8> {
        let mut buf = [0; 2048];
        let len = self.socket.recv(&mut buf).expect("a packet for the peer");
        let data = DataV2::parse(&buf[..len]).expect("DATA_V2");
        assert_eq!(data.key_id(), key.id, "the key that it was sealed with");
        assert_eq!(data.peer_id(), Some(id(self.number.into())));
        let mut payload = data.ciphertext().to_vec();
        key.opener
            .open_in_place(data.packet_id(), data.aad(), data.tag(), &mut payload)
            .expect("it authenticates");
        payload
    }
}
