//! What becomes of received packets: control to its port, data through its key to the device or to another peer.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use culvert_offload::OffloadEvent;
use culvert_wire::{
    KeyId, LocalAddress, Opcode,
    data::{V1_HEADER_LEN, V2_HEADER_LEN, v2_peer_id},
};

use crate::{
    device::Queue,
    engine::Shared,
    key::Receiving,
    legacy::Scratch,
    message::{EMPTY_REPLY, Payload},
    outbox::{FLUSH_AT, Outbox, Single},
    packet::{Coalescer, SuperPacket, VNET_HEADER_LEN, Way, clamp_mss, destination, source},
    peer::{DropReason, Peer},
    probe,
    recent::Recent,
    sizes,
    table::Forwarding,
    transport::{Backpressure, Transport, Wire},
};

/// Least time between two address changes of a peer, in milliseconds (SEC-DATA-4).
const FLOAT_INTERVAL: u64 = 1000;

/// Where opened packets go.
pub(super) struct Data {
    pub(super) shared: Arc<Shared>,
    queue: Arc<dyn Queue>,
    pub(super) coalescer: Coalescer,
    pub(super) outbox: Outbox,
    /// The last inner source address.
    source: Recent,
    /// The last inner destination, where peers may talk to each other.
    destination: Recent,
    pub(super) moved: Vec<u8>,
    pub(super) scratch: Scratch,
    /// The time of the batch, in milliseconds of the engine's clock.
    pub(super) now: u64,
}

/// Where a received message came from, and where to.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) transport: &'a Arc<Transport>,
    pub(super) from: SocketAddr,
    /// The local address, where the socket tells it.
    pub(super) to: Option<LocalAddress>,
}

/// Packets of one peer under one key id, as they came.
pub(super) struct Run<'a> {
    pub(super) peer: &'a Arc<Peer>,
    pub(super) v1: bool,
    key: KeyId,
    /// Where they came from, if that is not where the peer is.
    pub(super) strange: Option<SocketAddr>,
    pub(super) to: Option<LocalAddress>,
}

/// What a run brought, counted once at its end.
#[derive(Default)]
struct Tally {
    packets: u64,
    link_bytes: u64,
    tunnel_packets: u64,
    tunnel_bytes: u64,
}

/// Where a payload goes.
pub(super) enum Delivery {
    /// To the device.
    Tunnel(usize),
    /// To another peer.
    Switched(usize),
    /// Nowhere: it was for the engine.
    Message,
}

impl Data {
    /// Drops what is remembered about the last packet: with its peer, a closed socket would stay alive.
    pub(super) fn forget(&mut self) {
        self.source.forget();
        self.destination.forget();
    }

    pub(super) fn new(shared: &Arc<Shared>, worker: usize, queue: Arc<dyn Queue>) -> Self {
        Self {
            shared: Arc::clone(shared),
            queue,
            coalescer: Coalescer::new(shared.joins),
            outbox: Outbox::new(worker),
            source: Recent::default(),
            destination: Recent::default(),
            moved: Vec::new(),
            scratch: Scratch::default(),
            now: 0,
        }
    }

    /// Handles the packets of one received message, each `size` bytes long but the last; returns whether one was left
    /// at the control port.
    pub(super) fn handle_message(&mut self, origin: Origin<'_>, bytes: &[u8], size: usize) -> bool {
        let mut control = false;
        let mut rest = bytes;
        while !rest.is_empty() {
            let first = rest.get(..size).unwrap_or(rest);
            let len = match first.first().and_then(|byte| Opcode::from_header(*byte)) {
                Some(opcode @ (Opcode::DataV1 | Opcode::DataV2)) => {
                    let v1 = opcode == Opcode::DataV1;
                    let run = run_len(rest, size, if v1 { V1_HEADER_LEN } else { V2_HEADER_LEN });
                    self.handle_run(origin, v1, &rest[..run], size);
                    run
                }
                Some(_) => {
                    // Joined trains mix control and data, so each packet is looked at.
                    let Origin { from, to, .. } = origin;
                    origin.transport.port.push(from, to, first);
                    control = true;
                    first.len()
                }
                None => {
                    self.shared.counters.unclaimed.fetch_add(1, Relaxed);
                    first.len()
                }
            };
            rest = &rest[len..];
        }
        control
    }

    /// Finds whose packets these are.
    fn find_peer(&self, origin: Origin<'_>, v1: bool, packet: &[u8]) -> Option<Arc<Peer>> {
        match &origin.transport.wire {
            Wire::Tcp(tcp) => tcp.peer.load_full(),
            Wire::Udp(_) if v1 => self.shared.table.by_address(origin.from),
            Wire::Udp(_) => self.shared.table.by_id(v2_peer_id(packet).ok()?),
        }
    }

    /// Handles consecutive data packets with the same header.
    fn handle_run(&mut self, origin: Origin<'_>, v1: bool, bytes: &[u8], size: usize) {
        let count = bytes.len().div_ceil(size) as u64;
        let udp = origin.transport.is_udp();
        let from = origin.from;
        let peer = self.find_peer(origin, v1, bytes).filter(|peer| {
            // A peer of one kind of transport never speaks through the other.
            peer.transport.is_udp() == udp && (!udp || peer.float || peer.remote.load().address == from)
        });
        let (Some(peer), Some(first)) = (peer, bytes.first()) else {
            self.shared.counters.unclaimed.fetch_add(count, Relaxed);
            return;
        };
        let strange = (udp && peer.remote.load().address != from).then_some(from);
        let run = Run { peer: &peer, v1, key: KeyId::from_header(*first), strange, to: origin.to };
        let slots = peer.keys.load();
        let Some(key) = slots.find(run.key) else {
            (0..count).for_each(|_| peer.count_drop(DropReason::NoKey));
            return;
        };
        let mut receiving = key.receiving();
        let mut tally = Tally::default();
        for packet in bytes.chunks(size) {
            let handled = match peer.legacy.as_deref() {
                None => self.handle_packet(&run, &mut receiving, packet),
                Some(legacy) => self.handle_old_packet(&run, legacy, &mut receiving, packet),
            };
            match handled {
                Ok(delivered) => tally.add(packet.len(), delivered),
                Err(reason) => peer.count_drop(reason),
            }
        }
        drop(receiving);
        // Turns are never kept while waiting for the receive side of a key: two workers could wait for each other.
        self.outbox.flush(&self.shared, Backpressure::Drop);
        if tally.packets > 0 {
            peer.activity.last_received.store(self.now, Relaxed);
            key.count_received(tally.packets, tally.tunnel_bytes);
            peer.received.count_tunnel(tally.tunnel_packets, tally.tunnel_bytes);
            peer.received.count_link(tally.packets, tally.link_bytes);
        }
        if key.take_exhausted() {
            self.shared.events.push(OffloadEvent::KeyExhausted(peer.id, key.id()));
        }
    }

    /// Opens one packet and delivers its payload; returns the payload's length if it was an inner packet.
    fn handle_packet(
        &mut self,
        run: &Run<'_>,
        receiving: &mut Receiving<'_>,
        packet: &[u8],
    ) -> Result<Option<usize>, DropReason> {
        let slot = self.coalescer.slot(packet.len());
        let opened = match receiving.open(run.v1, packet, slot, self.now / 1000) {
            Ok(opened) => opened,
            Err(refused) => {
                self.coalescer.abandon();
                return Err(refused.into());
            }
        };
        if opened.newest
            && let Some(from) = run.strange
        {
            move_peer(&self.shared, run.peer, from, run.to, self.now);
        }
        self.settle(run.peer, opened.len)
    }

    /// Delivers the payload in the slot; returns its length if it was an inner packet.
    pub(super) fn settle(&mut self, peer: &Arc<Peer>, len: usize) -> Result<Option<usize>, DropReason> {
        match self.deliver(peer, len) {
            Ok(Delivery::Tunnel(len)) => {
                let queue = &self.queue;
                self.coalescer.commit(len, |frame| write_frame(queue, &self.shared, frame));
                Ok(Some(len))
            }
            Ok(Delivery::Switched(len)) => {
                self.coalescer.abandon();
                Ok(Some(len))
            }
            Ok(Delivery::Message) => {
                self.coalescer.abandon();
                Ok(None)
            }
            Err(reason) => {
                self.coalescer.abandon();
                Err(reason)
            }
        }
    }

    /// Decides about the payload in the slot.
    fn deliver(&mut self, peer: &Arc<Peer>, len: usize) -> Result<Delivery, DropReason> {
        let payload = &mut self.coalescer.opened(len)[..len];
        match Payload::classify(payload) {
            Payload::Packet => {}
            Payload::Ping | Payload::OtherOcc => return Ok(Delivery::Message),
            Payload::Exit => {
                self.shared.events.push(OffloadEvent::ExitNotified(peer.id));
                return Ok(Delivery::Message);
            }
            Payload::LoadRequest(size) => {
                probe::answer_with_load(&self.shared, &mut self.outbox, peer, size, self.now);
                return Ok(Delivery::Message);
            }
            Payload::Load => {
                probe::note_load(peer, len, self.now);
                return Ok(Delivery::Message);
            }
            Payload::LargestRequest => {
                probe::answer_with_largest(&self.shared, &mut self.outbox, peer, self.now);
                return Ok(Delivery::Message);
            }
            Payload::LargestReply(largest) => {
                probe::note_answer(&self.shared, peer, largest, self.now);
                return Ok(Delivery::Message);
            }
            Payload::OptionsRequest => {
                // Whoever sends to the peer just now makes this answer unimportant.
                let reply = Single { payload: &EMPTY_REPLY, is_tunnel: false };
                self.outbox.try_push(&self.shared, peer, &reply);
                return Ok(Delivery::Message);
            }
        }
        match self.shared.table.forwarding() {
            Forwarding::Bridged => return self.deliver_frame(peer, len),
            Forwarding::PointToPoint => {
                adjust(peer, payload);
                return Ok(Delivery::Tunnel(len));
            }
            Forwarding::Routed => adjust(peer, payload),
        }
        let from = source(payload).ok_or(DropReason::Malformed)?;
        // SEC-DATA-5.
        if !self.source.find(&self.shared.table, from).is_some_and(|owner| Arc::ptr_eq(owner, peer)) {
            return Err(DropReason::Source);
        }
        if self.shared.client_to_client
            && let Some(to) = destination(payload)
            && let Some(other) = self.destination.find(&self.shared.table, to).cloned()
        {
            self.moved.clear();
            self.moved.extend_from_slice(payload);
            if !Arc::ptr_eq(&other, peer) {
                let single = Single { payload: &self.moved, is_tunnel: true };
                self.outbox.push(&self.shared, &other, &single, Backpressure::Drop);
                if self.outbox.waiting() >= FLUSH_AT {
                    self.outbox.flush(&self.shared, Backpressure::Drop);
                }
            }
            return Ok(Delivery::Switched(len));
        }
        Ok(Delivery::Tunnel(len))
    }

    /// Everything of a batch is handled: nothing of it stays here.
    pub(super) fn finish_batch(&mut self) {
        let queue = &self.queue;
        self.coalescer.flush(|frame| write_frame(queue, &self.shared, frame));
        self.outbox.flush(&self.shared, Backpressure::Drop);
    }
}

impl Tally {
    /// Counts a packet of `link` bytes, and the inner packet that was in it, if there was one.
    fn add(&mut self, link: usize, tunnel: Option<usize>) {
        self.packets += 1;
        self.link_bytes += link as u64;
        if let Some(len) = tunnel {
            self.tunnel_packets += 1;
            self.tunnel_bytes += len as u64;
        }
    }
}

/// Changes in a received packet what the peer's options want changed.
pub(super) fn adjust(peer: &Peer, packet: &mut [u8]) {
    if let Some(nat) = &peer.nat {
        nat.rewrite(packet, Way::In);
    }
    if let Some(mss) = peer.mss() {
        clamp_mss(packet, mss);
    }
}

/// Bytes at the start of a message that belong to packets with the same first `header` bytes.
fn run_len(bytes: &[u8], size: usize, header: usize) -> usize {
    let first = bytes.get(..header);
    let same = bytes.chunks(size).take_while(|packet| packet.get(..header) == first).count().max(1);
    (same * size).min(bytes.len())
}

/// The peer proved that it is somewhere else now.
pub(super) fn move_peer(
    shared: &Shared,
    peer: &Arc<Peer>,
    from: SocketAddr,
    to: Option<LocalAddress>,
    now: u64,
) {
    let last = peer.activity.last_float.load(Relaxed);
    if peer.remote.load().address == from || (last != 0 && now.saturating_sub(last) < FLOAT_INTERVAL) {
        return;
    }
    // Also for one that fails: it takes a lock, and may not be asked for with each packet.
    peer.activity.last_float.store(now.max(1), Relaxed);
    if !shared.table.move_address(peer, from, to) {
        return; // somebody else lives there
    }
    shared.events.push(OffloadEvent::Floated(peer.id, from));
    sizes::moved(shared, peer, now);
}

/// Writes a frame to the device; packet by packet if it refuses them joined.
fn write_frame(queue: &Arc<dyn Queue>, shared: &Shared, frame: &[u8]) {
    let Err(error) = queue.write(frame) else { return };
    let packet = SuperPacket::parse(frame).filter(|packet| packet.count() > 1);
    let Some(packet) = packet.filter(|_| error.kind() == io::ErrorKind::InvalidInput) else {
        // A device that is down, or a packet that the kernel refuses, is what loss is.
        shared.counters.device_refused.fetch_add(1, Relaxed);
        return;
    };
    for index in 0..packet.count() {
        let mut single = vec![0; VNET_HEADER_LEN + packet.len(index)];
        packet.write(index, &mut single[VNET_HEADER_LEN..]);
        if queue.write(&single).is_err() {
            shared.counters.device_refused.fetch_add(1, Relaxed);
        }
    }
}
