//! Keys of ciphers without tag in use.
//!
//! Packet ids count up to the same limits as an AEAD's. CFB and OFB carry the time at which the key came into use beside
//! the id: a later time begins anew, an earlier one is over.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{SystemTime, UNIX_EPOCH},
};

use culvert_crypto::{
    CryptoError, LegacyKey, LegacyOpener, LegacySealer, Stamp,
    usage::{PACKET_ID_RENEGOTIATE, PACKET_ID_STOP},
};
use culvert_wire::{
    KeyId, Opcode, TimedReplayWindow,
    data::{V1_HEADER_LEN, V2_HEADER_LEN, v2_header},
};

use super::{Header, Key, Layout, Opened, Receiving, RecvFormat, Refused, SendFormat, Sending};

/// Bytes under one key of a cipher with blocks of 64 bits, both directions together (OpenVPN's default of `reneg-bytes`
/// for them: more blocks would repeat).
const SHORT_BLOCK_BYTES: u64 = 64 << 20;
/// A block of 64 bits, in bytes.
const SHORT_BLOCK: usize = 8;

/// The sending side of a key.
pub(super) struct OldSend {
    sealer: LegacySealer,
    next: Stamp,
}

/// The receiving side.
pub(super) struct OldRecv {
    opener: LegacyOpener,
    /// The latest time of a packet.
    time: u32,
}

/// Both sides of a key, and the bytes around a payload under a header without any length.
pub(super) fn prepare(key: &LegacyKey) -> Result<(SendFormat, RecvFormat, Layout), CryptoError> {
    let sealer = LegacySealer::new(key.cipher, key.digest, &key.send)?;
    let opener = LegacyOpener::new(key.cipher, key.digest, &key.recv)?;
    let layout = Layout { prefix: sealer.prefix(), suffix: sealer.padding() };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Clocks of 64 bits that went past the field begin anew, as OpenVPN's do.
    #[expect(clippy::cast_possible_truncation, reason = "the field is as wide as it is")]
    let time = since.as_secs() as u32;
    let send = OldSend { sealer, next: Stamp { time, id: 1 } };
    Ok((SendFormat::Old(send), RecvFormat::Old(OldRecv { opener, time: 0 }), layout))
}

/// The layout under a header.
pub(super) const fn layout(inner: Layout, header: Header) -> Layout {
    let header = match header {
        Header::V1 => V1_HEADER_LEN,
        Header::V2(_) => V2_HEADER_LEN,
    };
    Layout { prefix: header + inner.prefix, suffix: inner.suffix }
}

impl OldSend {
    /// Seals as [`Sending::seal_in`]; the second value asks for a renegotiation.
    fn seal(&mut self, id: KeyId, header: Header, packet: &mut [u8], len: usize) -> Option<(usize, bool)> {
        let stamp = self.next;
        if stamp.id >= PACKET_ID_STOP {
            return None;
        }
        let body = match header {
            Header::V1 => {
                let (head, body) = packet.split_first_mut()?;
                *head = Opcode::DataV1.header(id);
                body
            }
            Header::V2(peer) => {
                let (head, body) = packet.split_first_chunk_mut()?;
                *head = v2_header(id, Some(peer));
                body
            }
        };
        self.next.id += 1;
        let header_len = layout(Layout { prefix: 0, suffix: 0 }, header).prefix;
        let sealed = self.sealer.seal(stamp, body, len).ok()?;
        Some((header_len + sealed, self.next.id >= PACKET_ID_RENEGOTIATE))
    }
}

#[cfg(test)]
impl OldSend {
    /// As another key of the same bytes, in use `secs` later.
    pub(super) const fn restart_later(&mut self, secs: u32) {
        self.next = Stamp { time: self.next.time + secs, id: 1 };
    }
}

impl Key {
    /// A cipher with short blocks carried what it may.
    fn is_short_block_spent(&self) -> bool {
        // CBC pads up to a block, nothing else pads.
        let [sent, _, received, _] = &self.traffic;
        self.layout_v2.suffix == SHORT_BLOCK
            && sent.load(Relaxed).saturating_add(received.load(Relaxed)) > SHORT_BLOCK_BYTES
    }
}

impl Sending<'_> {
    /// Bytes around a payload under this key.
    pub(crate) const fn layout(&self, header: Header) -> Layout {
        self.key.layout(header)
    }

    /// Seals `len` bytes of payload, which lie in `packet` behind the prefix of the layout; behind them there is room for
    /// its suffix. Returns the packet's length; `None`: this key may send no more.
    pub(crate) fn seal_in(&mut self, header: Header, packet: &mut [u8], len: usize) -> Option<usize> {
        if let SendFormat::Old(old) = &mut self.send.format {
            let (sealed, due) = old.seal(self.key.id, header, packet, len)?;
            if due || self.key.is_short_block_spent() {
                self.key.due.store(true, Relaxed);
            }
            return Some(sealed);
        }
        let whole = self.key.layout(header).overhead() + len;
        self.seal(header, packet.get_mut(..whole)?).then_some(whole)
    }
}

impl Receiving<'_> {
    /// As [`Receiving::open`].
    pub(super) fn open_old(
        &mut self,
        v1: bool,
        packet: &[u8],
        out: &mut [u8],
        secs: u64,
    ) -> Result<Opened, Refused> {
        let RecvFormat::Old(old) = &self.recv.format else { return Err(Refused::Malformed) };
        let header = if v1 { V1_HEADER_LEN } else { V2_HEADER_LEN };
        let body = packet.get(header..).ok_or(Refused::Malformed)?;
        let authenticated = old.opener.authenticates();
        let Ok(opened) = old.opener.open(body, out) else { return Err(self.refuse()) };
        out.copy_within(opened.start..opened.start + opened.len, 0);
        let replay = self.recv.replay;
        let recv = &mut *self.recv;
        if let RecvFormat::Old(old) = &mut recv.format {
            if opened.stamp.time < old.time {
                return Err(Refused::Replay);
            }
            if opened.stamp.time > old.time {
                old.time = opened.stamp.time;
                recv.window = TimedReplayWindow::new(replay.0, replay.1);
            }
        }
        let id = u64::from(opened.stamp.id);
        // Whoever can write any packet (`auth none`) does not move the peer.
        let newest = authenticated && id > recv.window.highest();
        recv.window.accept(id, secs).map_err(|_| Refused::Replay)?;
        if self.key.is_short_block_spent() {
            self.key.due.store(true, Relaxed);
        }
        Ok(Opened { len: opened.len, newest })
    }
}
