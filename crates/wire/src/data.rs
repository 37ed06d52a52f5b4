//! Data packets: where their fields are. Encryption is `culvert-crypto`'s, replay is [`crate::ReplayWindow`]'s.
//!
//! ```text
//! classic AEAD           DATA_V1                        DATA_V2
//!   u8   opcode<<3|key     0                              0
//!   u24  peer_id           -                              1   (0xFFFFFF: none)
//!   u32  packet_id         1                              4
//!        tag[16]           5                              8
//!        ciphertext       21..                           24..
//!   authenticated in clear: packet_id (1..5)              header and packet_id (0..8)
//!
//! epoch AEAD, DATA_V2 only
//!   u8   opcode<<3|key     0
//!   u24  peer_id           1
//!   u16  epoch             4
//!   u48  counter           6
//!        ciphertext       12..
//!        tag[16]          at the end
//!   authenticated in clear: 0..12
//! ```
//!
//! Source: openvpn-rfc, "Data channel"; the epoch format is OpenVPN 2.7's.

use crate::{EpochId, KeyId, Opcode, PacketId, PeerId, WireError};

/// Length of an AEAD tag.
pub const TAG_LEN: usize = 16;
/// Length of opcode and key id: the whole header of DATA_V1.
pub const V1_HEADER_LEN: usize = 1;
/// Length of opcode, key id and peer id: the header of DATA_V2.
pub const V2_HEADER_LEN: usize = 4;
/// Bytes before the ciphertext in the classic format: DATA_V1.
pub const V1_CLASSIC_OVERHEAD: usize = 21;
/// Bytes before the ciphertext in the classic format: DATA_V2.
pub const V2_CLASSIC_OVERHEAD: usize = 24;
/// Bytes before the ciphertext in the epoch format; [`TAG_LEN`] more follow it.
pub const V2_EPOCH_PREFIX: usize = 12;
/// The highest packet counter of an epoch: 48 bits.
pub const MAX_EPOCH_COUNTER: u64 = (1 << 48) - 1;

/// The 4-byte header of DATA_V2.
#[must_use]
pub const fn v2_header(key: KeyId, peer: Option<PeerId>) -> [u8; V2_HEADER_LEN] {
    let raw = match peer {
        Some(id) => id.get(),
        None => PeerId::UNDEFINED_WIRE,
    };
    let [_, a, b, c] = raw.to_be_bytes();
    [Opcode::DataV2.header(key), a, b, c]
}

/// Reads the peer id of a DATA_V2 packet: all that routing needs. `Ok(None)` is "none" (0xFFFFFF).
///
/// # Errors
/// When the packet is not DATA_V2 or is shorter than its header.
pub const fn v2_peer_id(packet: &[u8]) -> Result<Option<PeerId>, WireError> {
    let Some((&[first, a, b, c], _)) = packet.split_first_chunk() else {
        return Err(WireError::Truncated { need: V2_HEADER_LEN, have: packet.len() });
    };
    match Opcode::from_header(first) {
        Some(Opcode::DataV2) => Ok(PeerId::new(u32::from_be_bytes([0, a, b, c]))),
        _ => Err(WireError::Opcode(first >> 3)),
    }
}

/// The 8 bytes in front of the tag of a classic DATA_V2 packet; also its associated data.
#[must_use]
pub const fn v2_classic_prefix(key: KeyId, peer: Option<PeerId>, id: PacketId) -> [u8; 8] {
    let [a, b, c, d] = v2_header(key, peer);
    let [e, f, g, h] = id.get().to_be_bytes();
    [a, b, c, d, e, f, g, h]
}

/// The 5 bytes in front of the tag of a classic DATA_V1 packet; the last four are its associated data.
#[must_use]
pub const fn v1_classic_prefix(key: KeyId, id: PacketId) -> [u8; 5] {
    let [e, f, g, h] = id.get().to_be_bytes();
    [Opcode::DataV1.header(key), e, f, g, h]
}

/// The 12 bytes in front of the ciphertext of an epoch packet; also its associated data.
///
/// # Errors
/// When the counter is 0 or above 2^48 - 1.
pub fn v2_epoch_prefix(
    key: KeyId,
    peer: Option<PeerId>,
    epoch: EpochId,
    counter: u64,
) -> Result<[u8; V2_EPOCH_PREFIX], WireError> {
    let [a, b, c, d] = v2_header(key, peer);
    let [e, f, g, h, i, j, k, l] = epoch_packet_id(epoch, counter)?;
    Ok([a, b, c, d, e, f, g, h, i, j, k, l])
}

/// Packs epoch and counter: `u16 epoch, u48 counter`.
///
/// # Errors
/// When the counter is 0 or above 2^48 - 1.
pub const fn epoch_packet_id(epoch: EpochId, counter: u64) -> Result<[u8; 8], WireError> {
    if counter == 0 {
        return Err(WireError::ZeroPacketId);
    }
    if counter > MAX_EPOCH_COUNTER {
        return Err(WireError::CounterOverflow);
    }
    let [a, b] = epoch.get().to_be_bytes();
    let [_, _, c, d, e, f, g, h] = counter.to_be_bytes();
    Ok([a, b, c, d, e, f, g, h])
}

/// A classic AEAD packet under DATA_V1.
#[derive(Clone, Copy, Debug)]
pub struct DataV1<'a> {
    key: KeyId,
    id: PacketId,
    aad: &'a [u8; 4],
    tag: &'a [u8; TAG_LEN],
    ciphertext: &'a [u8],
}

impl<'a> DataV1<'a> {
    /// Checks opcode and length (at least one byte of ciphertext), and that the packet id is not zero.
    ///
    /// # Errors
    /// When one of these does not hold.
    pub fn parse(packet: &'a [u8]) -> Result<Self, WireError> {
        let truncated = WireError::Truncated { need: V1_CLASSIC_OVERHEAD + 1, have: packet.len() };
        let (&first, rest) = packet.split_first().ok_or(truncated)?;
        if Opcode::from_header(first) != Some(Opcode::DataV1) {
            return Err(WireError::Opcode(first >> 3));
        }
        let (aad, rest) = rest.split_first_chunk().ok_or(truncated)?;
        let (tag, ciphertext) = rest.split_first_chunk().ok_or(truncated)?;
        if ciphertext.is_empty() {
            return Err(truncated);
        }
        let id = PacketId::new(u32::from_be_bytes(*aad)).ok_or(WireError::ZeroPacketId)?;
        Ok(Self { key: KeyId::from_header(first), id, aad, tag, ciphertext })
    }

    /// Which key it is under.
    #[must_use]
    pub const fn key_id(self) -> KeyId {
        self.key
    }

    /// Its number under that key.
    #[must_use]
    pub const fn packet_id(self) -> PacketId {
        self.id
    }

    /// What is authenticated in clear: the packet id alone.
    #[must_use]
    pub const fn aad(self) -> &'a [u8] {
        self.aad
    }

    /// The tag.
    #[must_use]
    pub const fn tag(self) -> &'a [u8; TAG_LEN] {
        self.tag
    }

    /// The encrypted payload, not empty.
    #[must_use]
    pub const fn ciphertext(self) -> &'a [u8] {
        self.ciphertext
    }
}

/// A classic AEAD packet under DATA_V2.
#[derive(Clone, Copy, Debug)]
pub struct DataV2<'a> {
    prefix: &'a [u8; 8],
    id: PacketId,
    tag: &'a [u8; TAG_LEN],
    ciphertext: &'a [u8],
}

impl<'a> DataV2<'a> {
    /// Checks opcode and length (at least one byte of ciphertext), and that the packet id is not zero.
    ///
    /// # Errors
    /// When one of these does not hold.
    pub fn parse(packet: &'a [u8]) -> Result<Self, WireError> {
        let truncated = WireError::Truncated { need: V2_CLASSIC_OVERHEAD + 1, have: packet.len() };
        let (prefix, rest) = packet.split_first_chunk().ok_or(truncated)?;
        let &[first, _, _, _, a, b, c, d] = prefix;
        if Opcode::from_header(first) != Some(Opcode::DataV2) {
            return Err(WireError::Opcode(first >> 3));
        }
        let (tag, ciphertext) = rest.split_first_chunk().ok_or(truncated)?;
        if ciphertext.is_empty() {
            return Err(truncated);
        }
        let id = PacketId::new(u32::from_be_bytes([a, b, c, d])).ok_or(WireError::ZeroPacketId)?;
        Ok(Self { prefix, id, tag, ciphertext })
    }

    /// Which key it is under.
    #[must_use]
    pub const fn key_id(self) -> KeyId {
        let [first, ..] = self.prefix;
        KeyId::from_header(*first)
    }

    /// The sender's peer id; `None` is "none".
    #[must_use]
    pub const fn peer_id(self) -> Option<PeerId> {
        let &[_, a, b, c, ..] = self.prefix;
        PeerId::new(u32::from_be_bytes([0, a, b, c]))
    }

    /// Its number under that key.
    #[must_use]
    pub const fn packet_id(self) -> PacketId {
        self.id
    }

    /// What is authenticated in clear: header and packet id.
    #[must_use]
    pub const fn aad(self) -> &'a [u8] {
        self.prefix
    }

    /// The tag.
    #[must_use]
    pub const fn tag(self) -> &'a [u8; TAG_LEN] {
        self.tag
    }

    /// The encrypted payload, not empty.
    #[must_use]
    pub const fn ciphertext(self) -> &'a [u8] {
        self.ciphertext
    }
}

/// An AEAD packet in the epoch format.
#[derive(Clone, Copy, Debug)]
pub struct DataV2Epoch<'a> {
    prefix: &'a [u8; V2_EPOCH_PREFIX],
    epoch: EpochId,
    counter: u64,
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG_LEN],
}

impl<'a> DataV2Epoch<'a> {
    /// Checks opcode and length (at least one byte of ciphertext), and that neither epoch nor counter is zero.
    ///
    /// # Errors
    /// When one of these does not hold.
    pub fn parse(packet: &'a [u8]) -> Result<Self, WireError> {
        let truncated = WireError::Truncated { need: V2_EPOCH_PREFIX + 1 + TAG_LEN, have: packet.len() };
        let (prefix, rest) = packet.split_first_chunk().ok_or(truncated)?;
        let &[first, _, _, _, a, b, c, d, e, f, g, h] = prefix;
        if Opcode::from_header(first) != Some(Opcode::DataV2) {
            return Err(WireError::Opcode(first >> 3));
        }
        let (ciphertext, tag) = rest.split_last_chunk().ok_or(truncated)?;
        if ciphertext.is_empty() {
            return Err(truncated);
        }
        let epoch = EpochId::new(u16::from_be_bytes([a, b])).ok_or(WireError::ZeroPacketId)?;
        let counter = u64::from_be_bytes([0, 0, c, d, e, f, g, h]);
        if counter == 0 {
            return Err(WireError::ZeroPacketId);
        }
        Ok(Self { prefix, epoch, counter, ciphertext, tag })
    }

    /// Which key it is under.
    #[must_use]
    pub const fn key_id(self) -> KeyId {
        let [first, ..] = self.prefix;
        KeyId::from_header(*first)
    }

    /// The sender's peer id; `None` is "none".
    #[must_use]
    pub const fn peer_id(self) -> Option<PeerId> {
        let &[_, a, b, c, ..] = self.prefix;
        PeerId::new(u32::from_be_bytes([0, a, b, c]))
    }

    /// Which of that key's epochs.
    #[must_use]
    pub const fn epoch(self) -> EpochId {
        self.epoch
    }

    /// Its number within the epoch: 1..=2^48-1.
    #[must_use]
    pub const fn counter(self) -> u64 {
        self.counter
    }

    /// What is authenticated in clear: everything before the ciphertext.
    #[must_use]
    pub const fn aad(self) -> &'a [u8] {
        self.prefix
    }

    /// The tag.
    #[must_use]
    pub const fn tag(self) -> &'a [u8; TAG_LEN] {
        self.tag
    }

    /// The encrypted payload, not empty.
    #[must_use]
    pub const fn ciphertext(self) -> &'a [u8] {
        self.ciphertext
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyId = KeyId::new(3).unwrap();

    #[test]
    fn a_classic_v2_packet_has_its_fields_where_the_picture_says() {
        let id = PacketId::new(0x0102_0304).unwrap();
        let mut packet = v2_classic_prefix(KEY, PeerId::new(0x17), id).to_vec();
        packet.extend([0xAA; TAG_LEN]);
        packet.extend(b"payload");
        let view = DataV2::parse(&packet).unwrap();
        assert_eq!(view.key_id(), KEY);
        assert_eq!(view.peer_id(), PeerId::new(0x17));
        assert_eq!(view.packet_id(), id);
        assert_eq!(view.aad(), [0x4B, 0, 0, 0x17, 1, 2, 3, 4]);
        assert_eq!(view.tag(), &[0xAA; TAG_LEN]);
        assert_eq!(view.ciphertext(), b"payload");
    }

    #[test]
    fn a_classic_v1_packet_authenticates_its_packet_id_only() {
        let mut packet = v1_classic_prefix(KEY, PacketId::FIRST).to_vec();
        packet.extend([0xAA; TAG_LEN]);
        packet.push(1);
        let view = DataV1::parse(&packet).unwrap();
        assert_eq!((view.key_id(), view.packet_id()), (KEY, PacketId::FIRST));
        assert_eq!(view.aad(), [0, 0, 0, 1]);
        assert_eq!(view.ciphertext(), [1]);
    }

    #[test]
    fn an_epoch_packet_has_its_tag_at_the_end() {
        let epoch = EpochId::new(4).unwrap();
        let mut packet = v2_epoch_prefix(KEY, None, epoch, 9).unwrap().to_vec();
        packet.extend(b"payload");
        packet.extend([0xAA; TAG_LEN]);
        let view = DataV2Epoch::parse(&packet).unwrap();
        assert_eq!((view.epoch(), view.counter(), view.peer_id()), (epoch, 9, None));
        assert_eq!(view.aad(), &packet[..V2_EPOCH_PREFIX]);
        assert_eq!((view.ciphertext(), view.tag()), (&b"payload"[..], &[0xAA; TAG_LEN]));
    }

    #[test]
    fn packets_without_payload_or_with_id_zero_are_refused() {
        let mut packet = v2_classic_prefix(KEY, None, PacketId::FIRST).to_vec();
        packet.extend([0; TAG_LEN]);
        assert!(matches!(DataV2::parse(&packet), Err(WireError::Truncated { need: 25, have: 24 })));
        packet.push(0);
        packet[7] = 0;
        assert!(matches!(DataV2::parse(&packet), Err(WireError::ZeroPacketId)));
        assert!(matches!(DataV2Epoch::parse(&packet), Err(WireError::Truncated { .. })));
    }
}
