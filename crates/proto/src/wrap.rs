//! Control channel wrapping: none, tls-auth, tls-crypt (also with a tls-crypt-v2 client key), dynamic tls-crypt.
//!
//! ```text
//! none       header(9)                               body
//! tls-auth   header(9)  HMAC(n)  replay_id(8)        body               HMAC over replay_id, header, body
//! tls-crypt  header(9)  replay_id(8)  tag(32)        AES-256-CTR(body)  tag over header, replay_id, body
//!            … and behind it, on opcodes 10 and 11:  WKc                outside of tag and encryption
//! replay_id = u32 packet_id || u32 time (seconds at the first packet; the more significant half)
//! ```
//!
//! [`WrapKeys`] are prepared once per configured key (or once per tls-crypt-v2 client) and shared; [`Wrapping`] is one
//! session's state: its send counters, its replay windows, and from the first key on the second pair of both that
//! dynamic tls-crypt uses for renegotiations. The walk of an incoming packet: length, MAC in constant time, replay,
//! then the body's layout. What is learnt before the MAC is the header alone.
//!
//! Source: protocol document, "Control channel wrapping".

use std::sync::Arc;

use culvert_crypto::{
    AuthDigest, CryptoError, KeyDirection, KeyMaterial, MacKey, TLS_CRYPT_TAG_LEN, TlsCryptKey,
    TlsCryptV2ServerKey, TlsRole,
};
use culvert_wire::{Control, ControlHeader, KeyId, Now, Opcode, Replay, TimedReplayWindow, WireError};
use thiserror::Error;

/// First replay packet id of tls-crypt-v2 clients less one: tells the server that the client can resend its wrapped
/// key and understands TLVs in the reset ("early negotiation").
pub const EARLY_NEGOTIATION_START: u32 = 0x0f00_0000;

const REPLAY_ID_LEN: usize = 8;
const TLS_CRYPT_OVERHEAD: usize = REPLAY_ID_LEN + TLS_CRYPT_TAG_LEN;

/// Why a packet was not unwrapped, or could not be wrapped. On receipt: drop and count (TCP: close).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WrapError {
    /// Layout.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The MAC is wrong.
    #[error("control packet authentication failed")]
    Authentication,
    /// Replayed, or too old.
    #[error("control packet replay: {0}")]
    Replay(Replay),
    /// The sender's clock went back: its time is older than that of its earlier packets.
    #[error("control packet replay: time is older than before")]
    TimeBacktrack,
    /// An opcode with a wrapped client key, where tls-crypt-v2 is not in use.
    #[error("unexpected wrapped client key")]
    UnexpectedWkc,
    /// The packet counter is at its end and the clock has not moved.
    #[error("control packet counter is exhausted")]
    Exhausted,
    /// The library refused.
    #[error(transparent)]
    Crypto(CryptoError),
}

/// Limits of the replay windows: `replay-window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayLimits {
    /// Window in packets.
    pub size: u32,
    /// Time after which gaps close, in seconds.
    pub backtrack: u32,
}

impl Default for ReplayLimits {
    fn default() -> Self {
        Self { size: TimedReplayWindow::DEFAULT_SIZE, backtrack: TimedReplayWindow::DEFAULT_BACKTRACK }
    }
}

/// Prepared keys of one wrapping, for both directions. Shared by all sessions that use the same key.
pub struct WrapKeys {
    kind: Kind,
    /// The key itself, which dynamic tls-crypt mixes in.
    material: Option<KeyMaterial>,
    /// tls-crypt-v2 client: the wrapped key to append.
    wkc: Option<Box<[u8]>>,
}

#[expect(clippy::large_enum_variant, reason = "one value per key, behind an Arc")]
enum Kind {
    Plain,
    TlsAuth { send: MacKey, recv: MacKey },
    TlsCrypt { send: TlsCryptKey, recv: TlsCryptKey },
}

impl WrapKeys {
    /// No wrapping.
    #[must_use]
    pub const fn none() -> Self {
        Self { kind: Kind::Plain, material: None, wkc: None }
    }

    /// `tls-auth`: server and client use opposite directions.
    #[must_use]
    pub fn tls_auth(key: KeyMaterial, digest: AuthDigest, direction: KeyDirection) -> Self {
        let (send, recv) = key.tls_auth(digest, direction);
        Self { kind: Kind::TlsAuth { send, recv }, material: Some(key), wkc: None }
    }

    /// `tls-crypt`, and a tls-crypt-v2 client key on the server's side.
    ///
    /// # Errors
    /// When the library refuses, which it does not.
    pub fn tls_crypt(key: KeyMaterial, role: TlsRole) -> Result<Self, CryptoError> {
        let (send, recv) = key.tls_crypt(role)?;
        Ok(Self { kind: Kind::TlsCrypt { send, recv }, material: Some(key), wkc: None })
    }

    /// `tls-crypt-v2` on the client's side: `wkc` is appended to opcodes 10 and 11.
    ///
    /// # Errors
    /// When the library refuses, which it does not.
    pub fn tls_crypt_v2_client(key: KeyMaterial, wkc: &[u8]) -> Result<Self, CryptoError> {
        Ok(Self { wkc: Some(wkc.into()), ..Self::tls_crypt(key, TlsRole::Client)? })
    }

    /// Returns whether packets travel as they are.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        matches!(self.kind, Kind::Plain)
    }

    /// Length of the wrapped client key that this side appends; 0 without one.
    #[must_use]
    pub fn wkc_len(&self) -> usize {
        self.wkc.as_ref().map_or(0, |wkc| wkc.len())
    }

    /// What wrapping adds to a packet, without WKc.
    #[must_use]
    pub const fn overhead(&self) -> usize {
        match &self.kind {
            Kind::Plain => 0,
            Kind::TlsAuth { send, .. } => send.digest().len() + REPLAY_ID_LEN,
            Kind::TlsCrypt { .. } => TLS_CRYPT_OVERHEAD,
        }
    }

    /// Checks and opens a packet without looking at replay: for the stateless start, and inside [`Wrapping`].
    ///
    /// A wrapped client key behind the packet is skipped. `scratch` needs the packet's length; the returned view
    /// borrows it (tls-crypt) or the packet.
    ///
    /// # Errors
    /// When MAC or layout are wrong.
    pub fn open_stateless<'p>(
        &self,
        packet: &'p [u8],
        scratch: &'p mut [u8],
    ) -> Result<(Control<'p>, Option<ReplayId>), WrapError> {
        let (header, rest) = ControlHeader::parse(packet)?;
        let rest = if carries_wkc(header.opcode) {
            if !matches!(self.kind, Kind::TlsCrypt { .. }) {
                return Err(WrapError::UnexpectedWkc);
            }
            TlsCryptV2ServerKey::split_packet(rest).map_err(|_| WrapError::UnexpectedWkc)?.0
        } else {
            rest
        };
        match &self.kind {
            Kind::Plain => Ok((Control::parse_body(header, rest)?, None)),
            Kind::TlsAuth { recv, .. } => {
                let (mac, rest) = split(rest, recv.digest().len())?;
                let (id, body) = split(rest, REPLAY_ID_LEN)?;
                recv.verify([id, &header.to_bytes(), body], mac).map_err(|_| WrapError::Authentication)?;
                Ok((Control::parse_body(header, body)?, ReplayId::from_slice(id)))
            }
            Kind::TlsCrypt { recv, .. } => {
                let (id, rest) = split(rest, REPLAY_ID_LEN)?;
                let Some((tag, ciphertext)) = rest.split_first_chunk() else {
                    return Err(WireError::Truncated { need: TLS_CRYPT_TAG_LEN, have: rest.len() }.into());
                };
                let have = scratch.len();
                let need = ciphertext.len();
                let body = scratch.get_mut(..need).ok_or(WireError::NoRoom { need, have })?;
                body.copy_from_slice(ciphertext);
                recv.open(&[&header.to_bytes(), id], tag, body).map_err(|_| WrapError::Authentication)?;
                Ok((Control::parse_body(header, body)?, ReplayId::from_slice(id)))
            }
        }
    }

    /// Wraps a packet under a given replay id and returns the length written into `out`.
    ///
    /// # Errors
    /// When `out` is too small, or a wrapped client key is called for that this side does not have.
    pub fn seal_stateless(
        &self,
        id: ReplayId,
        packet: &Control<'_>,
        out: &mut [u8],
    ) -> Result<usize, WrapError> {
        let header = packet.header.to_bytes();
        let prefix = ControlHeader::LEN + self.overhead();
        let have = out.len();
        let Some((front, body)) = out.split_at_mut_checked(prefix) else {
            return Err(WireError::NoRoom { need: prefix, have }.into());
        };
        let body_len = packet.emit_body(body)?;
        let (body, behind) = body.split_at_mut(body_len);
        let (first, wrap) = front.split_at_mut(ControlHeader::LEN);
        first.copy_from_slice(&header);
        match &self.kind {
            Kind::Plain => {}
            Kind::TlsAuth { send, .. } => {
                let id = id.to_bytes();
                let mac = send.mac([&id[..], &header, body]);
                let (mac_field, id_field) = wrap.split_at_mut(send.digest().len());
                mac_field.copy_from_slice(mac.as_bytes());
                id_field.copy_from_slice(&id);
            }
            Kind::TlsCrypt { send, .. } => {
                let id = id.to_bytes();
                let tag = send.seal(&[&header, &id], body).map_err(WrapError::Crypto)?;
                let (id_field, tag_field) = wrap.split_at_mut(REPLAY_ID_LEN);
                id_field.copy_from_slice(&id);
                tag_field.copy_from_slice(&tag);
            }
        }
        let mut len = prefix + body_len;
        if carries_wkc(packet.header.opcode) {
            let wkc = self.wkc.as_deref().ok_or(WrapError::UnexpectedWkc)?;
            let have = behind.len();
            let field = behind.get_mut(..wkc.len()).ok_or(WireError::NoRoom { need: wkc.len(), have })?;
            field.copy_from_slice(wkc);
            len += wkc.len();
        }
        Ok(len)
    }
}

/// What tls-auth and tls-crypt number packets with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayId {
    /// Counts packets, from 1.
    pub packet_id: u32,
    /// Unix seconds at the sender's first packet.
    pub time: u32,
}

impl ReplayId {
    /// Tells whether a tls-crypt-v2 client signals early negotiation with its first packets.
    #[must_use]
    pub const fn signals_early_negotiation(self) -> bool {
        self.packet_id & 0xff00_0000 == EARLY_NEGOTIATION_START
    }

    fn from_slice(bytes: &[u8]) -> Option<Self> {
        let (id, time) = bytes.split_first_chunk()?;
        let time = time.first_chunk()?;
        Some(Self { packet_id: u32::from_be_bytes(*id), time: u32::from_be_bytes(*time) })
    }

    fn to_bytes(self) -> [u8; REPLAY_ID_LEN] {
        let mut bytes = [0; REPLAY_ID_LEN];
        bytes[..4].copy_from_slice(&self.packet_id.to_be_bytes());
        bytes[4..].copy_from_slice(&self.time.to_be_bytes());
        bytes
    }
}

/// One session's control channel wrapping.
pub struct Wrapping {
    /// The configured keys.
    keys: Arc<WrapKeys>,
    base: Lane,
    /// Dynamic tls-crypt: all packets with key id > 0, once the first key exchange derived its key.
    renegotiation: Option<Lane>,
    /// The peer wraps key id 0 so, too: openvpn3 does from its first renegotiation on.
    dynamic_always: bool,
    limits: ReplayLimits,
}

impl Wrapping {
    /// Starts with packet id 1.
    #[must_use]
    pub fn new(keys: Arc<WrapKeys>, limits: ReplayLimits) -> Self {
        Self::continuing(keys, limits, 0)
    }

    /// Starts after packet id `sent`: a server after its stateless reset (1), a tls-crypt-v2 client
    /// ([`EARLY_NEGOTIATION_START`]).
    #[must_use]
    pub fn continuing(keys: Arc<WrapKeys>, limits: ReplayLimits, sent: u32) -> Self {
        let base = Lane::new(LaneKeys::Prepared(Arc::clone(&keys)), limits, sent);
        Self { keys, base, renegotiation: None, dynamic_always: false, limits }
    }

    /// The keys of key id 0.
    #[must_use]
    pub const fn keys(&self) -> &Arc<WrapKeys> {
        &self.keys
    }

    /// What wrapping adds to a packet with this key id, without WKc. Stock OpenVPN reserves 16 bytes more under
    /// tls-crypt when it cuts TLS bytes; see [`Wrapping::reserved`].
    #[must_use]
    pub fn overhead(&self, key: KeyId) -> usize {
        self.lane(key).keys.overhead()
    }

    /// What to reserve for wrapping when TLS bytes are cut into packets, so that packets are as long as stock ones.
    #[must_use]
    pub fn reserved(&self, key: KeyId) -> usize {
        let keys = &self.lane(key).keys;
        keys.overhead() + if keys.is_tls_crypt() { 16 } else { 0 }
    }

    /// Switches renegotiations (key ids > 0) to a tls-crypt key of their own: the exporter's 256 bytes, xored with
    /// the configured key if there is one. Counters and replay windows of those packets start fresh.
    pub fn enable_dynamic(&mut self, mut exported: KeyMaterial, role: TlsRole) {
        if let Some(base) = &self.keys.material {
            exported.xor(base);
        }
        self.renegotiation = Some(Lane::new(LaneKeys::Dynamic(exported, role), self.limits, 0));
    }

    /// Wraps a packet and returns its length in `out`; each call takes a new packet id, also for a retransmission.
    ///
    /// # Errors
    /// When `out` is too small or the counter is at its end.
    pub fn wrap(&mut self, now: Now, packet: &Control<'_>, out: &mut [u8]) -> Result<usize, WrapError> {
        let lane = self.lane_mut(packet.header.key_id);
        let keys = lane.keys.prepare()?;
        let id = if keys.is_none() { ReplayId { packet_id: 0, time: 0 } } else { lane.next_id(now)? };
        keys.seal_stateless(id, packet, out)
    }

    /// Checks and opens a packet: MAC, then replay, then layout. `scratch` needs the packet's length.
    ///
    /// # Errors
    /// When one of these is wrong; no state has changed then, except that a replayed packet was noted.
    pub fn unwrap<'p>(
        &mut self,
        now: Now,
        packet: &'p [u8],
        scratch: &'p mut [u8],
    ) -> Result<Control<'p>, WrapError> {
        let key = ControlHeader::parse(packet)?.0.key_id;
        // First, for without wrapping everything with the layout of a packet would be taken for one.
        let dynamic = key == KeyId::FIRST && self.is_dynamic(packet, scratch)?;
        let lane = match &mut self.renegotiation {
            Some(lane) if dynamic || key != KeyId::FIRST => lane,
            _ => &mut self.base,
        };
        let (control, id) = lane.keys.prepare()?.open_stateless(packet, scratch)?;
        if let Some(id) = id {
            lane.replay.accept(id, now)?;
        }
        self.dynamic_always |= dynamic;
        Ok(control)
    }

    /// Returns whether a packet is wrapped by dynamic tls-crypt.
    fn is_dynamic(&self, packet: &[u8], scratch: &mut [u8]) -> Result<bool, WrapError> {
        let Some(lane) = &self.renegotiation else { return Ok(false) };
        Ok(lane.keys.prepare()?.open_stateless(packet, scratch).is_ok())
    }

    /// What the first packet of a peer with key id 0 under dynamic tls-crypt does.
    #[cfg(test)]
    pub(crate) const fn use_dynamic_always(&mut self) {
        self.dynamic_always = true;
    }

    /// The lane of what is sent.
    fn lane(&self, key: KeyId) -> &Lane {
        match &self.renegotiation {
            Some(lane) if self.dynamic_always || key != KeyId::FIRST => lane,
            _ => &self.base,
        }
    }

    fn lane_mut(&mut self, key: KeyId) -> &mut Lane {
        match &mut self.renegotiation {
            Some(lane) if self.dynamic_always || key != KeyId::FIRST => lane,
            _ => &mut self.base,
        }
    }
}

/// Where a lane's keys come from.
enum LaneKeys {
    /// Prepared once.
    Prepared(Arc<WrapKeys>),
    /// Dynamic tls-crypt: prepared for each packet. Few ever travel under this key, and prepared it would be the
    /// largest part of an idle session: 3 KiB.
    Dynamic(KeyMaterial, TlsRole),
}

impl LaneKeys {
    fn prepare(&self) -> Result<Arc<WrapKeys>, WrapError> {
        match self {
            Self::Prepared(keys) => Ok(Arc::clone(keys)),
            Self::Dynamic(material, role) => {
                WrapKeys::tls_crypt(material.duplicate(), *role).map(Arc::new).map_err(WrapError::Crypto)
            }
        }
    }

    fn overhead(&self) -> usize {
        match self {
            Self::Prepared(keys) => keys.overhead(),
            Self::Dynamic(..) => TLS_CRYPT_OVERHEAD,
        }
    }

    fn is_tls_crypt(&self) -> bool {
        match self {
            Self::Prepared(keys) => matches!(keys.kind, Kind::TlsCrypt { .. }),
            Self::Dynamic(..) => true,
        }
    }
}

/// Keys with their counters.
struct Lane {
    keys: LaneKeys,
    /// The last packet id used.
    sent: u32,
    /// Set when the first packet is sent.
    sent_time: Option<u32>,
    replay: ReplayState,
}

impl Lane {
    fn new(keys: LaneKeys, limits: ReplayLimits, sent: u32) -> Self {
        Self { keys, sent, sent_time: None, replay: ReplayState::new(limits) }
    }

    fn next_id(&mut self, now: Now) -> Result<ReplayId, WrapError> {
        let mut time = *self.sent_time.get_or_insert(now.unix);
        let packet_id = match self.sent.checked_add(1) {
            Some(id) => id,
            None if now.unix > time => {
                time = now.unix;
                1
            }
            None => return Err(WrapError::Exhausted),
        };
        self.sent = packet_id;
        self.sent_time = Some(time);
        Ok(ReplayId { packet_id, time })
    }
}

/// What was seen of the peer's replay ids.
struct ReplayState {
    limits: ReplayLimits,
    time: u32,
    window: TimedReplayWindow,
}

impl ReplayState {
    fn new(limits: ReplayLimits) -> Self {
        Self { limits, time: 0, window: TimedReplayWindow::new(limits.size, limits.backtrack) }
    }

    fn accept(&mut self, id: ReplayId, now: Now) -> Result<(), WrapError> {
        if id.time < self.time {
            return Err(WrapError::TimeBacktrack);
        }
        if id.time > self.time {
            if id.packet_id == 0 {
                return Err(WrapError::Replay(Replay::Zero));
            }
            *self = Self { time: id.time, ..Self::new(self.limits) };
        }
        self.window.accept(u64::from(id.packet_id), u64::from(now.unix)).map_err(WrapError::Replay)
    }
}

const fn carries_wkc(opcode: Opcode) -> bool {
    matches!(opcode, Opcode::HardResetClientV3 | Opcode::ControlWkcV1)
}

fn split(bytes: &[u8], at: usize) -> Result<(&[u8], &[u8]), WireError> {
    bytes.split_at_checked(at).ok_or(WireError::Truncated { need: at, have: bytes.len() })
}

#[cfg(test)]
#[path = "wrap_tests.rs"]
mod tests;
