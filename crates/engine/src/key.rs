//! One negotiated data key in use: packet ids, replay windows, usage limits, epochs.
//!
//! Formats (protocol document, "Data channel"): classic packets are `header, packet id, tag, ciphertext`, epoch packets
//! `header, epoch, counter, ciphertext, tag`. [`Layout`] says how many bytes stand before and behind the ciphertext;
//! the sender writes its payload between them and calls [`Sending::seal`]. Ciphers without tag are in `old_wire`.

mod old_wire;

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed},
};

use culvert_crypto::{
    CryptoError, DataKey, EpochOpener, EpochPlace, EpochSealer, Opener, Sealer,
    usage::{
        EPOCH_RENEGOTIATE, FAILURES_DROP, FAILURES_RENEGOTIATE, GCM_RENEGOTIATE, PACKET_ID_RENEGOTIATE,
        PACKET_ID_STOP, usage_limit, usage_of,
    },
};
use culvert_offload::Traffic;
use culvert_wire::{
    CipherName, EpochId, KeyId, PacketId, PeerId, TimedReplayWindow,
    data::{
        DataV1, DataV2, DataV2Epoch, MAX_EPOCH_COUNTER, TAG_LEN, V1_CLASSIC_OVERHEAD, V1_HEADER_LEN,
        V2_CLASSIC_OVERHEAD, V2_EPOCH_PREFIX, v1_classic_prefix, v2_classic_prefix, v2_epoch_prefix,
    },
};

/// Future epochs kept by the receiver: stock OpenVPN's number.
const FUTURE_EPOCHS: u16 = culvert_crypto::FUTURE_EPOCHS;

/// The header of a peer's data packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// No peer id.
    V1,
    /// With the peer id that the peer wants to receive.
    V2(PeerId),
}

/// Bytes around the ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// In front of it.
    pub(crate) prefix: usize,
    /// Behind it.
    pub(crate) suffix: usize,
}

impl Layout {
    /// Both together.
    pub(crate) const fn overhead(self) -> usize {
        self.prefix + self.suffix
    }
}

/// Why a packet was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Too short, an impossible id or an unknown epoch.
    Malformed,
    /// Authentication failed.
    Auth,
    /// Seen before, or too old.
    Replay,
}

/// A packet that authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Bytes of payload.
    pub(crate) len: usize,
    /// No packet with a higher id was seen before: it may move the peer's address.
    pub(crate) newest: bool,
}

/// A data key, both directions.
pub(crate) struct Key {
    id: KeyId,
    layout_v1: Layout,
    layout_v2: Layout,
    send: Mutex<SendKey>,
    recv: Mutex<RecvKey>,
    /// What the send side of an epoch key needs to know about the receive side.
    recv_epoch: AtomicU16,
    recv_spent: AtomicBool,
    /// The limits ask for a renegotiation; and it was reported.
    due: AtomicBool,
    reported: AtomicBool,
    traffic: [AtomicU64; 4],
}

/// The receive side, held for a run of packets under one key.
pub(crate) struct Receiving<'a> {
    key: &'a Key,
    recv: MutexGuard<'a, RecvKey>,
}

/// The send side, held for a run of packets.
pub(crate) struct Sending<'a> {
    key: &'a Key,
    send: MutexGuard<'a, SendKey>,
}

struct SendKey {
    gcm: bool,
    format: SendFormat,
    /// Packets plus blocks under this key, or under this epoch.
    usage: u64,
}

enum SendFormat {
    /// The id of the next packet.
    Classic {
        sealer: Sealer,
        next: u32,
    },
    /// The counter of the next packet in the sealer's epoch.
    Epoch {
        sealer: EpochSealer,
        next: u64,
    },
    Old(old_wire::OldSend),
}

struct RecvKey {
    cipher: CipherName,
    replay: (u32, u32),
    format: RecvFormat,
    window: TimedReplayWindow,
    /// The window of the retiring epoch, if there is one: most keys never see a second.
    retiring: Option<Box<TimedReplayWindow>>,
    usage: u64,
    failures: u64,
}

enum RecvFormat {
    Classic(Opener),
    Epoch(EpochOpener),
    Old(old_wire::OldRecv),
}

impl Key {
    /// Prepares a key; `replay` is the window's size in packets and seconds.
    pub(crate) fn new(key: &DataKey, replay: (u32, u32)) -> Result<Self, CryptoError> {
        let cipher = key.cipher();
        let mut layout_v1 = Layout { prefix: V1_CLASSIC_OVERHEAD, suffix: 0 };
        let (send_format, recv_format, layout_v2) = match key {
            DataKey::Classic { send, recv, .. } => (
                SendFormat::Classic { sealer: Sealer::new(cipher, send)?, next: 1 },
                RecvFormat::Classic(Opener::new(cipher, recv)?),
                Layout { prefix: V2_CLASSIC_OVERHEAD, suffix: 0 },
            ),
            DataKey::Epoch { send, recv, .. } => (
                SendFormat::Epoch { sealer: EpochSealer::new(cipher, send)?, next: 1 },
                RecvFormat::Epoch(EpochOpener::new(cipher, recv, FUTURE_EPOCHS)?),
                Layout { prefix: V2_EPOCH_PREFIX, suffix: TAG_LEN },
            ),
            DataKey::Legacy(key) => {
                let (send, recv, inner) = old_wire::prepare(key)?;
                layout_v1 = old_wire::layout(inner, Header::V1);
                (send, recv, old_wire::layout(inner, Header::V2(PeerId::FIRST)))
            }
        };
        Ok(Self {
            id: key.id(),
            layout_v1,
            layout_v2,
            send: Mutex::new(SendKey { gcm: cipher.is_gcm(), format: send_format, usage: 0 }),
            recv: Mutex::new(RecvKey {
                cipher,
                replay,
                format: recv_format,
                window: TimedReplayWindow::new(replay.0, replay.1),
                retiring: None,
                usage: 0,
                failures: 0,
            }),
            recv_epoch: AtomicU16::new(EpochId::FIRST.get()),
            recv_spent: AtomicBool::new(false),
            due: AtomicBool::new(false),
            reported: AtomicBool::new(false),
            traffic: Default::default(),
        })
    }

    pub(crate) const fn id(&self) -> KeyId {
        self.id
    }

    /// Bytes around the ciphertext under this header.
    pub(crate) const fn layout(&self, header: Header) -> Layout {
        match header {
            Header::V2(_) => self.layout_v2,
            Header::V1 => self.layout_v1,
        }
    }

    /// Takes the send side.
    pub(crate) fn sending(&self) -> Sending<'_> {
        Sending { key: self, send: self.send.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Takes the receive side.
    pub(crate) fn receiving(&self) -> Receiving<'_> {
        Receiving { key: self, recv: self.recv.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Returns `true` once, after a limit asked for a renegotiation.
    pub(crate) fn take_exhausted(&self) -> bool {
        self.due.load(Relaxed) && !self.reported.swap(true, Relaxed)
    }

    /// Counts what was sent: packets, payload bytes.
    pub(crate) fn count_sent(&self, packets: u64, bytes: u64) {
        self.traffic[0].fetch_add(bytes, Relaxed);
        self.traffic[1].fetch_add(packets, Relaxed);
    }

    /// Counts what was received: packets, payload bytes.
    pub(crate) fn count_received(&self, packets: u64, bytes: u64) {
        self.traffic[2].fetch_add(bytes, Relaxed);
        self.traffic[3].fetch_add(packets, Relaxed);
    }

    /// What went over this key.
    pub(crate) fn traffic(&self) -> Traffic {
        let [tx_bytes, tx_packets, rx_bytes, rx_packets] =
            [0, 1, 2, 3].map(|i| self.traffic[i].load(Relaxed));
        Traffic { rx_bytes, rx_packets, tx_bytes, tx_packets }
    }
}

impl Sending<'_> {
    /// Seals a packet: `packet` holds its payload between the bytes of [`Key::layout`], which are filled in.
    /// `false`: this key may send no more (SEC-DATA-2).
    pub(crate) fn seal(&mut self, header: Header, packet: &mut [u8]) -> bool {
        let layout = self.key.layout(header);
        let cost = usage_of(packet.len().saturating_sub(layout.overhead()));
        let SendKey { gcm, format, usage } = &mut *self.send;
        match format {
            SendFormat::Classic { sealer, next } => {
                if *next >= PACKET_ID_STOP || (*gcm && *usage + cost > culvert_crypto::usage::GCM_LIMIT) {
                    return false;
                }
                let Some(id) = PacketId::new(*next) else { return false };
                *next += 1;
                *usage += cost;
                if *next >= PACKET_ID_RENEGOTIATE || (*gcm && *usage > GCM_RENEGOTIATE) {
                    self.key.due.store(true, Relaxed);
                }
                seal_classic(sealer, self.key.id, header, id, packet).is_some()
            }
            SendFormat::Epoch { sealer, next } => {
                let over = *gcm && *usage + cost > culvert_crypto::usage::GCM_LIMIT;
                let peer_over = self.key.recv_spent.load(Relaxed)
                    && self.key.recv_epoch.load(Relaxed) == sealer.key().epoch().get();
                if over || peer_over || *next > MAX_EPOCH_COUNTER {
                    if sealer.advance().is_err() {
                        return false;
                    }
                    (*next, *usage) = (1, 0);
                }
                let counter = *next;
                *next += 1;
                *usage += cost;
                if sealer.key().epoch().get() >= EPOCH_RENEGOTIATE {
                    self.key.due.store(true, Relaxed);
                }
                seal_epoch(sealer, self.key.id, header, counter, packet).is_some()
            }
            // Its packets are not as long as they seem: see `seal_in`.
            SendFormat::Old(_) => false,
        }
    }
}

fn seal_classic(sealer: &Sealer, key: KeyId, header: Header, id: PacketId, packet: &mut [u8]) -> Option<()> {
    match header {
        Header::V2(peer) => {
            let prefix = v2_classic_prefix(key, Some(peer), id);
            let (head, rest) = packet.split_first_chunk_mut::<8>()?;
            let (tag, payload) = rest.split_first_chunk_mut::<TAG_LEN>()?;
            *head = prefix;
            sealer.seal_in_place(id, &prefix, payload, tag).ok()
        }
        Header::V1 => {
            let prefix = v1_classic_prefix(key, id);
            let (head, rest) = packet.split_first_chunk_mut::<5>()?;
            let (tag, payload) = rest.split_first_chunk_mut::<TAG_LEN>()?;
            *head = prefix;
            sealer.seal_in_place(id, &prefix[V1_HEADER_LEN..], payload, tag).ok()
        }
    }
}

fn seal_epoch(
    sealer: &EpochSealer,
    key: KeyId,
    header: Header,
    counter: u64,
    packet: &mut [u8],
) -> Option<()> {
    let Header::V2(peer) = header else { return None };
    let epoch_key = sealer.key();
    let prefix = v2_epoch_prefix(key, Some(peer), epoch_key.epoch(), counter).ok()?;
    let (head, rest) = packet.split_first_chunk_mut::<V2_EPOCH_PREFIX>()?;
    let (payload, tag) = rest.split_last_chunk_mut::<TAG_LEN>()?;
    *head = prefix;
    epoch_key.seal_in_place(counter, &prefix, payload, tag).ok()
}

impl Receiving<'_> {
    /// Opens a packet into `out`, which has room for the whole packet. `secs` is any clock that does not go back.
    pub(crate) fn open(
        &mut self,
        v1: bool,
        packet: &[u8],
        out: &mut [u8],
        secs: u64,
    ) -> Result<Opened, Refused> {
        if self.recv.failures > FAILURES_DROP {
            return Err(Refused::Auth);
        }
        let result = match &self.recv.format {
            RecvFormat::Classic(opener) if v1 => {
                let data = DataV1::parse(packet).map_err(|_| Refused::Malformed)?;
                let len = data.ciphertext().len();
                let out = out.get_mut(..len).ok_or(Refused::Malformed)?;
                let opened =
                    opener.open_gather(data.packet_id(), data.aad(), data.tag(), data.ciphertext(), out);
                opened.map(|()| (u64::from(data.packet_id().get()), len))
            }
            RecvFormat::Classic(opener) => {
                let data = DataV2::parse(packet).map_err(|_| Refused::Malformed)?;
                let len = data.ciphertext().len();
                let out = out.get_mut(..len).ok_or(Refused::Malformed)?;
                let opened =
                    opener.open_gather(data.packet_id(), data.aad(), data.tag(), data.ciphertext(), out);
                opened.map(|()| (u64::from(data.packet_id().get()), len))
            }
            RecvFormat::Epoch(_) => return self.open_epoch(packet, out, secs),
            RecvFormat::Old(_) => return self.open_old(v1, packet, out, secs),
        };
        let Ok((id, len)) = result else { return Err(self.refuse()) };
        let newest = id > self.recv.window.highest();
        self.recv.window.accept(id, secs).map_err(|_| Refused::Replay)?;
        self.count_usage(len);
        Ok(Opened { len, newest })
    }

    fn open_epoch(&mut self, packet: &[u8], out: &mut [u8], secs: u64) -> Result<Opened, Refused> {
        let data = DataV2Epoch::parse(packet).map_err(|_| Refused::Malformed)?;
        let RecvFormat::Epoch(opener) = &self.recv.format else { return Err(Refused::Malformed) };
        let (place, key) = opener.find(data.epoch()).ok_or(Refused::Malformed)?;
        let len = data.ciphertext().len();
        let out = out.get_mut(..len).ok_or(Refused::Malformed)?;
        if key.open_gather(data.counter(), data.aad(), data.tag(), data.ciphertext(), out).is_err() {
            return Err(self.refuse());
        }
        if place == EpochPlace::Future {
            self.advance(data.epoch())?;
        }
        let recv = &mut *self.recv;
        let window = match place {
            EpochPlace::Retiring => recv.retiring.as_deref_mut().ok_or(Refused::Malformed)?,
            EpochPlace::Current | EpochPlace::Future => &mut recv.window,
        };
        let newest = place != EpochPlace::Retiring && data.counter() > window.highest();
        window.accept(data.counter(), secs).map_err(|_| Refused::Replay)?;
        self.count_usage(len);
        Ok(Opened { len, newest })
    }

    /// Makes a proven future epoch the current one, and has the send side follow.
    fn advance(&mut self, epoch: EpochId) -> Result<(), Refused> {
        let recv = &mut *self.recv;
        let RecvFormat::Epoch(opener) = &mut recv.format else { return Err(Refused::Malformed) };
        opener.advance_to(epoch).map_err(|_| Refused::Malformed)?;
        let fresh = TimedReplayWindow::new(recv.replay.0, recv.replay.1);
        recv.retiring = Some(Box::new(std::mem::replace(&mut recv.window, fresh)));
        (recv.usage, recv.failures) = (0, 0);
        self.key.recv_spent.store(false, Relaxed);
        self.key.recv_epoch.store(epoch.get(), Relaxed);
        // The send side is never held while the receive side is taken, so this order is safe.
        let mut send = self.key.send.lock().unwrap_or_else(PoisonError::into_inner);
        let SendKey { format, usage, .. } = &mut *send;
        if let SendFormat::Epoch { sealer, next } = format
            && sealer.follow(epoch).is_ok_and(|changed| changed)
        {
            (*next, *usage) = (1, 0);
        }
        Ok(())
    }

    fn count_usage(&mut self, len: usize) {
        let recv = &mut *self.recv;
        recv.usage += usage_of(len);
        match recv.format {
            RecvFormat::Classic(_) => {
                if recv.cipher.is_gcm() && recv.usage > GCM_RENEGOTIATE {
                    self.key.due.store(true, Relaxed);
                }
            }
            RecvFormat::Epoch(_) => {
                if usage_limit(recv.cipher).is_some_and(|limit| recv.usage > limit) {
                    self.key.recv_spent.store(true, Relaxed);
                }
            }
            RecvFormat::Old(_) => {}
        }
    }

    fn refuse(&mut self) -> Refused {
        self.recv.failures += 1;
        if self.recv.failures > FAILURES_RENEGOTIATE {
            match self.recv.format {
                RecvFormat::Classic(_) | RecvFormat::Old(_) => self.key.due.store(true, Relaxed),
                RecvFormat::Epoch(_) => self.key.recv_spent.store(true, Relaxed),
            }
        }
        Refused::Auth
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
