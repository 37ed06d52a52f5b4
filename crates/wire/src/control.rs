//! Control packets in their unwrapped form.
//!
//! ```text
//! offset 0   u8   opcode << 3 | key_id      \ header: ControlHeader, in clear under every wrapping
//!        1   u8   own_session_id[8]         /
//!        9   u8   ack_count                 \
//!       10   u32  ack_id[ack_count]          |
//!            u8   peer_session_id[8]         | body: what wrapping authenticates or encrypts;
//!                   iff ack_count > 0        | peer_session_id is the receiver's id
//!            u32  message_id                 |
//!                   absent in P_ACK_V1       |
//!            u8   payload[]                 /
//! ```
//!
//! Source: openvpn-rfc, "Control channel packet"; sizes: a bare reset has 14 bytes, a reset with one
//! acknowledgement 26, a single acknowledgement 22.

use crate::{
    AckBlock, KeyId, LocalSid, Opcode, RemoteSid, SessionId, WireError,
    reader::{Writer, take, take_u32},
};

/// Number of a message in the reliability layer: counts from 0 in each direction of each key, without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u32);

impl MessageId {
    /// The id after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// How far this id is ahead of `earlier`, modulo 2^32.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// The part of a control packet that is in clear under every wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlHeader {
    /// What the packet is; never a data opcode.
    pub opcode: Opcode,
    /// Which key exchange it belongs to.
    pub key_id: KeyId,
    /// The sender's session id.
    pub session_id: SessionId,
}

impl ControlHeader {
    /// Length on the wire.
    pub const LEN: usize = 9;

    /// Splits a packet into header and the rest, which is wrapped according to the configuration.
    ///
    /// # Errors
    /// When the packet is shorter than 9 bytes, is not a control packet, or names session id zero.
    pub fn parse(packet: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let (&[first], rest) = take::<1>(packet)?;
        let opcode = Opcode::from_header(first)
            .filter(|op| !matches!(op, Opcode::DataV1 | Opcode::DataV2))
            .ok_or(WireError::Opcode(first >> 3))?;
        let (sid, rest) = take::<8>(rest)?;
        let session_id = SessionId::new(*sid).ok_or(WireError::ZeroSessionId)?;
        Ok((Self { opcode, key_id: KeyId::from_header(first), session_id }, rest))
    }

    /// The bytes on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        let [a, b, c, d, e, f, g, h] = *self.session_id.as_bytes();
        [self.opcode.header(self.key_id), a, b, c, d, e, f, g, h]
    }
}

/// A whole control packet, unwrapped. The payload is borrowed; nothing else needs to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control<'a> {
    /// Opcode, key id, the sender's session id.
    pub header: ControlHeader,
    /// Ids of the receiver's messages that the sender has seen.
    pub acks: AckBlock,
    /// The receiver's session id as the sender knows it; present exactly if something is acknowledged.
    pub echoed: Option<SessionId>,
    /// Number of this message; `None` exactly in P_ACK_V1.
    pub message_id: Option<MessageId>,
    /// TLS bytes; of a reset: empty, or TLVs.
    pub payload: &'a [u8],
}

impl<'a> Control<'a> {
    /// Parses a packet that has no wrapping.
    ///
    /// # Errors
    /// See [`ControlHeader::parse`] and [`Control::parse_body`].
    pub fn parse(packet: &'a [u8]) -> Result<Self, WireError> {
        let (header, body) = ControlHeader::parse(packet)?;
        Self::parse_body(header, body)
    }

    /// Parses the body, which unwrapping has authenticated or decrypted.
    ///
    /// # Errors
    /// When a field is cut short, more than eight ids are acknowledged, the echoed session id is zero,
    /// or an acknowledgement carries a payload.
    pub fn parse_body(header: ControlHeader, body: &'a [u8]) -> Result<Self, WireError> {
        let (&[count], mut rest) = take::<1>(body)?;
        if usize::from(count) > AckBlock::MAX {
            return Err(WireError::TooManyAcks(count));
        }
        let mut acks = AckBlock::new();
        for _ in 0..count {
            let (id, after) = take_u32(rest)?;
            acks.push(MessageId(id));
            rest = after;
        }
        let mut echoed = None;
        if count > 0 {
            let (sid, after) = take::<8>(rest)?;
            echoed = Some(SessionId::new(*sid).ok_or(WireError::ZeroSessionId)?);
            rest = after;
        }
        if header.opcode == Opcode::AckV1 {
            if !rest.is_empty() {
                return Err(WireError::Trailing(rest.len()));
            }
            return Ok(Self { header, acks, echoed, message_id: None, payload: rest });
        }
        let (id, payload) = take_u32(rest)?;
        Ok(Self { header, acks, echoed, message_id: Some(MessageId(id)), payload })
    }

    /// The sender's session id, by the receiver's way of speaking.
    #[must_use]
    pub const fn sender(&self) -> RemoteSid {
        RemoteSid(self.header.session_id)
    }

    /// The echoed session id, by the receiver's way of speaking.
    #[must_use]
    pub const fn echoed_local(&self) -> Option<LocalSid> {
        match self.echoed {
            Some(sid) => Some(LocalSid(sid)),
            None => None,
        }
    }

    /// Length of the body that [`Control::emit_body`] writes.
    #[must_use]
    pub fn body_len(&self) -> usize {
        let message_id = if self.message_id.is_some() { 4 } else { 0 };
        body_overhead(self.acks.len()).saturating_add(message_id).saturating_add(self.payload.len())
    }

    /// Writes the body, returns its length.
    ///
    /// # Errors
    /// When the buffer is too small.
    pub fn emit_body(&self, buf: &mut [u8]) -> Result<usize, WireError> {
        let mut out = Writer::new(buf);
        let ids = self.acks.as_slice();
        out.put(&[u8::try_from(ids.len()).unwrap_or(0)])?;
        for id in ids {
            out.put(&id.0.to_be_bytes())?;
        }
        if !ids.is_empty() {
            // An acknowledgement without the receiver's id cannot be built by `Control`'s users: the id came with
            // the message that is acknowledged.
            out.put(self.echoed.ok_or(WireError::ZeroSessionId)?.as_bytes())?;
        }
        if let Some(id) = self.message_id {
            out.put(&id.0.to_be_bytes())?;
        }
        out.put(self.payload)?;
        Ok(out.written())
    }

    /// Writes header and body, returns the packet's length: the form without wrapping.
    ///
    /// # Errors
    /// When the buffer is too small.
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize, WireError> {
        let have = buf.len();
        let Some((header, body)) = buf.split_first_chunk_mut() else {
            return Err(WireError::NoRoom { need: ControlHeader::LEN, have });
        };
        *header = self.header.to_bytes();
        Ok(self.emit_body(body)?.saturating_add(ControlHeader::LEN))
    }
}

/// Length of the acknowledgement part for `acks` ids: the count, and with ids the echoed session id.
#[must_use]
pub const fn body_overhead(acks: usize) -> usize {
    if acks == 0 { 1 } else { acks.saturating_mul(4).saturating_add(9) }
}
