//! Sealed packets on their way to the sockets.
//!
//! One buffer per worker. Packets are sealed where they are sent from, one behind the other; consecutive packets of one
//! peer and one size form a train, which is one message of the socket. [`Outbox::flush`] hands everything over, in the
//! order in which packet ids were taken, and only then lets go of the peers' [turns](crate::turn::Turn).

mod old_wire;

use std::sync::{Arc, atomic::Ordering::Relaxed};

use culvert_offload::DeviceMode;
use culvert_wire::tcp::frame_prefix;

use crate::{
    engine::Shared,
    key::{Layout, Sending},
    legacy::Scratch,
    packet::{Nat, SuperPacket, Way, clamp_mss},
    peer::{DropReason, Peer},
    transport::{Backpressure, Cut, Train as SendTrain, Transport},
    turn::Held,
};

/// Sealed bytes that may wait before they must go: two full trains.
pub(crate) const FLUSH_AT: usize = 66 << 10;
/// The buffer: what may wait, and room for one more super-packet with its headers.
const CAPACITY: usize = FLUSH_AT + (128 << 10);
/// Bytes of one UDP train: below the limit of a datagram with its headers.
const MAX_TRAIN: usize = 65_000;
/// The largest sealed packet.
const MAX_PACKET: usize = 65_507;

/// What is to be sent to a peer.
pub(crate) trait Payloads {
    /// How many packets.
    fn count(&self) -> usize;
    /// Length of packet `index`.
    fn len(&self, index: usize) -> usize;
    /// Writes packet `index`.
    fn write(&self, index: usize, out: &mut [u8]);
    /// They are inner packets: counted as the tunnel's, and changed where the peer's options want it.
    fn is_tunnel(&self) -> bool;
    /// The IP packet in a packet that was written, if there is one.
    fn inner<'p>(&self, packet: &'p mut [u8]) -> Option<&'p mut [u8]> {
        Some(packet)
    }
}

impl Payloads for SuperPacket<'_> {
    fn count(&self) -> usize {
        SuperPacket::count(self)
    }

    fn len(&self, index: usize) -> usize {
        SuperPacket::len(self, index)
    }

    fn write(&self, index: usize, out: &mut [u8]) {
        SuperPacket::write(self, index, out);
    }

    fn is_tunnel(&self) -> bool {
        true
    }
}

/// One payload as it is.
#[derive(Clone, Copy)]
pub(crate) struct Single<'a> {
    pub(crate) payload: &'a [u8],
    pub(crate) is_tunnel: bool,
}

impl Payloads for Single<'_> {
    fn count(&self) -> usize {
        1
    }

    fn len(&self, _: usize) -> usize {
        self.payload.len()
    }

    fn write(&self, _: usize, out: &mut [u8]) {
        out.copy_from_slice(self.payload);
    }

    fn is_tunnel(&self) -> bool {
        self.is_tunnel
    }
}

/// The sealing buffer of a worker.
pub(crate) struct Outbox {
    worker: usize,
    buf: Vec<u8>,
    len: usize,
    trains: Vec<Train>,
    held: Vec<Held>,
    /// For payloads of the old wire.
    scratch: Scratch,
    /// TOS byte of the next train; only peers with `passtos` have one.
    tos: Option<u8>,
}

/// Packets of one peer, one behind the other.
#[derive(Clone, Copy)]
struct Train {
    /// Index into `held`.
    peer: usize,
    start: usize,
    end: usize,
    /// UDP: size of each packet but the last.
    segment: usize,
    count: usize,
    /// A shorter packet was its last, or another TOS byte comes.
    closed: bool,
    tos: Option<u8>,
    /// It may not be cut on its way.
    whole: bool,
}

impl Outbox {
    pub(crate) fn new(worker: usize) -> Self {
        Self {
            worker,
            buf: vec![0; CAPACITY],
            len: 0,
            trains: Vec::new(),
            held: Vec::new(),
            scratch: Scratch::default(),
            tos: None,
        }
    }

    /// Sealed bytes that wait.
    pub(crate) const fn waiting(&self) -> usize {
        self.len
    }

    /// Peers whose turn is kept.
    pub(crate) const fn peers(&self) -> usize {
        self.held.len()
    }

    /// Seals packets for a peer. Waits for the peer's turn if somebody else sends to it.
    pub(crate) fn push(
        &mut self,
        shared: &Shared,
        peer: &Arc<Peer>,
        payloads: &impl Payloads,
        backpressure: Backpressure<'_>,
    ) {
        let index = match self.held.iter().position(|held| Arc::ptr_eq(held.peer(), peer)) {
            Some(index) => index,
            None => {
                let held = Held::try_take(peer).unwrap_or_else(|| {
                    // Never wait for a turn while holding another: two workers could wait for each other.
                    self.flush(shared, backpressure);
                    Held::take(peer)
                });
                self.held.push(held);
                self.held.len() - 1
            }
        };
        self.seal(shared, index, payloads, backpressure);
    }

    /// Seals packets for a peer unless somebody else sends to it just now; returns whether it did.
    pub(crate) fn try_push(&mut self, shared: &Shared, peer: &Arc<Peer>, payloads: &impl Payloads) -> bool {
        let Some(index) = self.try_hold(peer) else { return false };
        self.seal(shared, index, payloads, Backpressure::Drop);
        true
    }

    /// Takes the peer's turn until the next flush, unless somebody else sends to it just now; returns its place.
    pub(crate) fn try_hold(&mut self, peer: &Arc<Peer>) -> Option<usize> {
        let place = self.held.iter().position(|held| Arc::ptr_eq(held.peer(), peer));
        place.or_else(|| {
            self.held.push(Held::try_take(peer)?);
            Some(self.held.len() - 1)
        })
    }

    /// Sends one payload at once, in a datagram that nobody may cut on the way; returns its size. `None`: there is no key,
    /// or somebody else sends to the peer just now.
    pub(crate) fn send_whole(
        &mut self,
        shared: &Shared,
        peer: &Arc<Peer>,
        payload: &Single<'_>,
    ) -> Option<usize> {
        // All that waits goes first; the turns stay.
        self.send_all(shared, Backpressure::Drop);
        self.try_push(shared, peer, payload);
        let size = self.len;
        self.trains.iter_mut().for_each(|train| train.whole = true);
        self.send_all(shared, Backpressure::Drop);
        (size > 0).then_some(size)
    }

    fn seal(
        &mut self,
        shared: &Shared,
        index: usize,
        payloads: &impl Payloads,
        backpressure: Backpressure<'_>,
    ) {
        let Some(peer) = self.held.get(index).map(|held| Arc::clone(held.peer())) else { return };
        let slots = peer.keys.load();
        let Some(key) = &slots.primary else {
            return peer.count_drop(DropReason::NoKey);
        };
        let mss = if payloads.is_tunnel() && payloads.count() == 1 { peer.mss() } else { None };
        let mut sending = key.sending();
        let (packets, bytes) = match peer.legacy.as_deref() {
            None => self.seal_all((shared, backpressure), (index, &peer), &mut sending, payloads, mss),
            Some(legacy) => {
                let old = (index, &*peer, legacy);
                self.seal_old((shared, backpressure), old, &mut sending, payloads, mss)
            }
        };
        drop(sending);
        key.count_sent(packets, bytes);
        if payloads.is_tunnel() {
            peer.sent.count_tunnel(packets, bytes);
        }
        if key.take_exhausted() {
            shared.events.push(culvert_offload::OffloadEvent::KeyExhausted(peer.id, key.id()));
        }
    }

    /// Seals payloads where they are sent from; returns packets and bytes of payload.
    fn seal_all(
        &mut self,
        (shared, backpressure): (&Shared, Backpressure<'_>),
        (index, peer): (usize, &Peer),
        sending: &mut Sending<'_>,
        payloads: &impl Payloads,
        mss: Option<u16>,
    ) -> (u64, u64) {
        let nat = if payloads.is_tunnel() { peer.nat.as_ref() } else { None };
        let (mut packets, mut bytes) = (0, 0);
        let layout = sending.layout(peer.header);
        for i in 0..payloads.count() {
            let payload_len = payloads.len(i);
            let slot = Slot::new(peer, layout, payload_len);
            if payload_len == 0 {
                continue;
            }
            if slot.room > MAX_PACKET {
                peer.count_drop(DropReason::TooLarge);
                continue;
            }
            if self.len + slot.room > self.buf.len() {
                self.send_all(shared, backpressure);
            }
            let buf = &mut self.buf[self.len..self.len + slot.room];
            let body = &mut buf[slot.payload_at()..];
            payloads.write(i, &mut body[..payload_len]);
            if (nat.is_some() || mss.is_some())
                && let Some(inner) = payloads.inner(&mut body[..payload_len])
            {
                adjust(inner, nat, mss);
            }
            let Some(len) = slot.finish(peer, sending, buf) else { break };
            self.append(index, len, peer.transport.is_udp());
            packets += 1;
            bytes += payload_len as u64;
        }
        (packets, bytes)
    }

    /// Adds the sealed packet at the buffer's end to the open train, or begins another.
    fn append(&mut self, peer: usize, len: usize, udp: bool) {
        let start = self.len;
        self.len += len;
        if let Some(train) = self.trains.last_mut()
            && train.peer == peer
            && train.tos == self.tos
            && (!udp
                || (!train.closed
                    && len <= train.segment
                    && train.count < culvert_sys::MAX_SEGMENTS
                    && train.end - train.start + len <= MAX_TRAIN))
        {
            train.end += len;
            train.count += 1;
            train.closed = len < train.segment;
            return;
        }
        self.trains.push(Train {
            peer,
            start,
            end: start + len,
            segment: len,
            count: 1,
            closed: false,
            tos: self.tos,
            whole: false,
        });
    }

    /// Hands everything to the sockets and lets go of the turns.
    pub(crate) fn flush(&mut self, shared: &Shared, backpressure: Backpressure<'_>) {
        if self.held.is_empty() {
            return;
        }
        self.send_all(shared, backpressure);
        self.held.clear();
    }

    /// Hands all trains but the last to the sockets: more packets may yet continue that one. It goes, too, if it is all
    /// there is, or if somebody waits for the turn that it keeps.
    pub(crate) fn flush_complete(&mut self, shared: &Shared, backpressure: Backpressure<'_>) {
        let awaited = |train: &Train| self.held.get(train.peer).is_none_or(Held::is_awaited);
        let Some(open) = self.trains.pop_if(|train| !awaited(train)) else {
            return self.flush(shared, backpressure);
        };
        if self.trains.is_empty() {
            self.trains.push(open);
            return self.flush(shared, backpressure);
        }
        self.send_all(shared, backpressure);
        self.buf.copy_within(open.start..open.end, 0);
        self.len = open.end - open.start;
        let last = self.held.swap_remove(open.peer);
        self.held.clear();
        self.held.push(last);
        self.trains.push(Train { peer: 0, start: 0, end: self.len, ..open });
    }

    /// Hands everything to the sockets.
    fn send_all(&mut self, shared: &Shared, backpressure: Backpressure<'_>) {
        let mut rest = &self.trains[..];
        while let Some(first) = rest.first() {
            let Some(transport) = self.transport(first) else { break };
            let same = |train: &&Train| self.transport(train).is_some_and(|t| Arc::ptr_eq(t, transport));
            let (now, later) = rest.split_at(rest.iter().take_while(same).count());
            let trains: Vec<_> = now.iter().filter_map(|train| self.for_socket(train)).collect();
            // A stream of one of many peers must not hold up the others; a lone peer's may hold up the tunnel.
            let patient = transport.is_udp() || shared.table.mode() == DeviceMode::PointToPoint;
            transport.send(self.worker, &trains, if patient { backpressure } else { Backpressure::Drop });
            rest = later;
        }
        let millis = shared.clock.millis();
        for train in &self.trains {
            if let Some(held) = self.held.get(train.peer) {
                let peer = held.peer();
                let prefix = peer.transport.prefix() * train.count;
                peer.sent.count_link(train.count as u64, (train.end - train.start - prefix) as u64);
                peer.activity.last_sent.store(millis, Relaxed);
            }
        }
        self.trains.clear();
        self.len = 0;
    }

    fn transport(&self, train: &Train) -> Option<&Arc<Transport>> {
        self.held.get(train.peer).map(|held| &held.peer().transport)
    }

    fn for_socket(&self, train: &Train) -> Option<SendTrain<'_>> {
        let peer = self.held.get(train.peer)?.peer();
        let remote = **peer.remote.load();
        Some(SendTrain {
            bytes: self.buf.get(train.start..train.end)?,
            segment: train.segment,
            to: remote.address,
            from: remote.local,
            tos: train.tos,
            cut: if train.whole { Cut::Never } else { peer.cut(remote.address) },
        })
    }
}

/// Changes in a packet to be sent what the peer's options want changed.
fn adjust(packet: &mut [u8], nat: Option<&Nat>, mss: Option<u16>) {
    if let Some(nat) = nat {
        nat.rewrite(packet, Way::Out);
    }
    if let Some(mss) = mss {
        clamp_mss(packet, mss);
    }
}

/// The place of one packet in the buffer: length prefix (streams), header, payload, what follows it.
#[derive(Clone, Copy)]
struct Slot {
    prefix: usize,
    layout: Layout,
    room: usize,
}

impl Slot {
    fn new(peer: &Peer, layout: Layout, payload_len: usize) -> Self {
        let prefix = peer.transport.prefix();
        Self { prefix, layout, room: prefix + layout.overhead() + payload_len }
    }

    const fn payload_at(&self) -> usize {
        self.prefix + self.layout.prefix
    }

    /// Seals the payload in its place; returns the length of the whole. `None`: the key sends no more.
    fn finish(self, peer: &Peer, key: &mut Sending<'_>, buf: &mut [u8]) -> Option<usize> {
        let (prefix, packet) = buf.split_at_mut(self.prefix);
        let packet_len = packet.len();
        if !key.seal(peer.header, packet) {
            return None;
        }
        if !prefix.is_empty() {
            prefix.copy_from_slice(&frame_prefix(packet_len).ok()?);
        }
        Some(self.prefix + packet_len)
    }
}

const _: () = assert!(CAPACITY > MAX_PACKET, "a packet of any size fits");
