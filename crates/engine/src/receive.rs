//! The receive worker: sockets to tunnel device, run to completion.
//!
//! Reads batches from its UDP sockets and TCP streams. Control packets go to the transport's control port. Data packets
//! are taken in runs of one peer and key: the key is looked up once, each packet is opened straight into the
//! [`Coalescer`]'s buffer, checked (replay, then inner source address), and joined into frames for the device.
//! Worker 0 also runs the keepalive timer.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver as Commands, SyncSender},
    },
    time::{Duration, Instant},
};

use culvert_offload::{ControlPacket, DeleteReason, DeviceMode, OffloadEvent, TransportId};
use culvert_sys::{Epoll, Eventfd, Interest, Ready, RecvBatch};
use culvert_wire::{KeyId, Opcode, data::v2_peer_id};

use crate::{
    device::Queue,
    engine::Shared,
    keepalive,
    key::{Header, Receiving},
    legacy,
    message::{EMPTY_REPLY, Payload},
    outbox::{FLUSH_AT, Outbox, Single},
    packet::{Coalescer, clamp_mss, destination, source},
    peer::{DropReason, Peer, Remote},
    transport::{Backpressure, MAX_FRAME, Transport, Wire, token},
};

/// The worker's own event in its readiness set.
const WAKE: u64 = 0;
/// Batches read from one socket before the others have their turn.
const BATCHES: usize = 4;
/// Least time between two address changes of a peer, in milliseconds (SEC-DATA-4).
const FLOAT_INTERVAL: u64 = 1000;
/// Bytes read from a stream at a time, beside an incomplete frame.
const STREAM_BUFFER: usize = 2 * (MAX_FRAME + 2);

/// What the calls ask of a worker.
pub(crate) enum Command {
    /// Receive from this transport.
    Add(Arc<Transport>),
    /// Let go of a transport, then say so.
    Remove(TransportId, SyncSender<()>),
}

/// Moves packets from the sockets to one queue of the device.
pub(crate) struct Receiver {
    shared: Arc<Shared>,
    worker: usize,
    epoll: Arc<Epoll>,
    wake: Arc<Eventfd>,
    commands: Commands<Command>,
    transports: HashMap<u64, Arc<Transport>>,
    batch: RecvBatch,
    stream: Vec<u8>,
    data: Data,
}

/// The worker's handles that others use.
pub(crate) struct ReceiverParts {
    pub(crate) worker: usize,
    pub(crate) epoll: Arc<Epoll>,
    pub(crate) wake: Arc<Eventfd>,
    pub(crate) commands: Commands<Command>,
    pub(crate) queue: Arc<dyn Queue>,
}

/// The data half: where opened packets go.
struct Data {
    shared: Arc<Shared>,
    queue: Arc<dyn Queue>,
    coalescer: Coalescer,
    outbox: Outbox,
    /// The last inner source address that was looked up, with the table's generation.
    source: Option<(u64, IpAddr, Arc<Peer>)>,
    moved: Vec<u8>,
    /// The time of the batch, in milliseconds of the engine's clock.
    now: u64,
}

/// Packets of one peer under one key id, as they came.
struct Run<'a> {
    peer: &'a Arc<Peer>,
    v1: bool,
    key: KeyId,
    /// Who sent them; a stream's peer is always who it was.
    from: Option<SocketAddr>,
    to: Option<IpAddr>,
}

impl Receiver {
    pub(crate) fn new(shared: &Arc<Shared>, parts: ReceiverParts) -> Self {
        let data = Data {
            shared: Arc::clone(shared),
            queue: parts.queue,
            coalescer: Coalescer::new(shared.joins),
            outbox: Outbox::new(parts.worker),
            source: None,
            moved: Vec::new(),
            now: 0,
        };
        Self {
            shared: Arc::clone(shared),
            worker: parts.worker,
            epoll: parts.epoll,
            wake: parts.wake,
            commands: parts.commands,
            transports: HashMap::new(),
            batch: RecvBatch::new(),
            stream: vec![0; STREAM_BUFFER],
            data,
        }
    }

    /// Works until told to stop.
    pub(crate) fn run(mut self) -> io::Result<()> {
        self.epoll.add(&*self.wake, WAKE, Interest::Read)?;
        let mut ready = Vec::new();
        while !self.shared.is_stopping() {
            let timeout = self.run_keepalive();
            self.epoll.wait(&mut ready, timeout)?;
            self.data.now = self.shared.clock.millis();
            for event in &ready {
                self.handle_ready(*event);
            }
        }
        Ok(())
    }

    /// Sends pings and expires peers; returns how long nothing will be due.
    fn run_keepalive(&mut self) -> Option<Duration> {
        if self.worker != 0 {
            return None;
        }
        let now = self.shared.clock.millis();
        if now >= self.shared.keepalive.next() {
            keepalive::run(&self.shared, &mut self.data.outbox, now);
        }
        match self.shared.keepalive.next() {
            u64::MAX => None,
            next => Some(Duration::from_millis(next.saturating_sub(now))),
        }
    }

    fn handle_ready(&mut self, ready: Ready) {
        if ready.token == WAKE {
            self.wake.lower();
            self.handle_commands();
            return;
        }
        let Some(transport) = self.transports.get(&ready.token).cloned() else { return };
        match &transport.wire {
            Wire::Udp(_) => self.receive_datagrams(&transport),
            Wire::Tcp(tcp) => {
                if ready.writable {
                    tcp.handle_writable();
                }
                if ready.readable {
                    self.receive_frames(&transport);
                }
            }
        }
    }

    fn handle_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Add(transport) => {
                    let token = token(transport.id);
                    let watched = match &transport.wire {
                        Wire::Udp(udp) => match udp.receiving_socket(self.worker) {
                            Some(socket) => self.epoll.add(socket, token, Interest::Read),
                            None => continue,
                        },
                        Wire::Tcp(tcp) => tcp.watch(),
                    };
                    match watched {
                        Ok(()) => _ = self.transports.insert(token, transport),
                        Err(_) => transport.port.close(),
                    }
                }
                Command::Remove(id, done) => {
                    if let Some(transport) = self.transports.remove(&token(id)) {
                        match &transport.wire {
                            Wire::Udp(udp) => {
                                if let Some(socket) = udp.receiving_socket(self.worker) {
                                    // Not being watched is what is wanted.
                                    let _ = self.epoll.remove(socket);
                                }
                            }
                            Wire::Tcp(tcp) => tcp.unwatch(),
                        }
                    }
                    // Who asked may have given up waiting.
                    let _ = done.send(());
                }
            }
        }
    }

    fn receive_datagrams(&mut self, transport: &Arc<Transport>) {
        let Wire::Udp(udp) = &transport.wire else { return };
        let Some(socket) = udp.receiving_socket(self.worker) else { return };
        let mut control = false;
        for _ in 0..BATCHES {
            match socket.recv_batch(&mut self.batch) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What became of an earlier packet: reading it was the cure.
                Err(_) => continue,
            }
            for message in self.batch.messages() {
                let size = message.segment.max(1);
                control |= self.data.handle_train(transport, message.from, message.to, message.bytes, size);
            }
            self.data.finish_batch();
        }
        if control {
            transport.port.notify();
        }
    }

    fn receive_frames(&mut self, transport: &Arc<Transport>) {
        let Wire::Tcp(tcp) = &transport.wire else { return };
        let mut control = false;
        let data = &mut self.data;
        let to = None;
        let result = tcp.receive(&mut self.stream, |packet| {
            let size = packet.len().max(1);
            control |= data.handle_train(transport, tcp.remote(), to, packet, size);
        });
        self.data.finish_batch();
        if control {
            transport.port.notify();
        }
        if let Err(error) = result {
            self.lose_stream(transport, &error);
        }
    }

    /// A stream ended: so does its peer.
    fn lose_stream(&mut self, transport: &Arc<Transport>, error: &io::Error) {
        let Wire::Tcp(tcp) = &transport.wire else { return };
        tracing::debug!(remote = %tcp.remote(), %error, "stream ended");
        self.transports.remove(&token(transport.id));
        tcp.shut();
        transport.port.close();
        if let Some(peer) = tcp.peer.swap(None)
            && self.shared.table.remove(peer.id).is_ok()
        {
            let reason = if error.kind() == io::ErrorKind::InvalidData {
                DeleteReason::TransportError
            } else {
                DeleteReason::TransportDisconnect
            };
            peer.keys.store(Arc::default());
            self.shared.events.push(OffloadEvent::PeerGone(peer.id, reason));
        }
    }
}

impl Data {
    /// Handles the packets of one received message; returns whether one was left at the control port.
    fn handle_train(
        &mut self,
        transport: &Arc<Transport>,
        from: SocketAddr,
        to: Option<IpAddr>,
        bytes: &mut [u8],
        size: usize,
    ) -> bool {
        let mut control = false;
        let mut rest = bytes;
        while !rest.is_empty() {
            let first = rest.get(..size).unwrap_or(rest);
            let len = match first.first().and_then(|byte| Opcode::from_header(*byte)) {
                Some(Opcode::DataV1) => {
                    let run = run_len(rest, size, 1);
                    let peer = match &transport.wire {
                        Wire::Udp(_) => self.shared.table.by_address(from),
                        Wire::Tcp(tcp) => tcp.peer.load_full(),
                    };
                    self.handle_run(transport, peer.as_ref(), true, (from, to), &rest[..run], size);
                    run
                }
                Some(Opcode::DataV2) => {
                    let run = run_len(rest, size, 4);
                    let peer = match &transport.wire {
                        Wire::Udp(_) => v2_peer_id(first).ok().and_then(|id| self.shared.table.by_id(id)),
                        Wire::Tcp(tcp) => tcp.peer.load_full(),
                    };
                    self.handle_run(transport, peer.as_ref(), false, (from, to), &rest[..run], size);
                    run
                }
                Some(_) => {
                    // Design C2: joined trains mix control and data, so each segment is looked at.
                    transport.port.push(ControlPacket {
                        at: Instant::now(),
                        from,
                        to,
                        bytes: first.to_vec(),
                    });
                    control = true;
                    first.len()
                }
                None => {
                    self.shared.counters.unclaimed.fetch_add(1, Relaxed);
                    first.len()
                }
            };
            rest = &mut rest[len..];
        }
        control
    }

    /// Handles consecutive data packets with the same header.
    fn handle_run(
        &mut self,
        transport: &Arc<Transport>,
        peer: Option<&Arc<Peer>>,
        v1: bool,
        (from, to): (SocketAddr, Option<IpAddr>),
        bytes: &[u8],
        size: usize,
    ) {
        let count = bytes.len().div_ceil(size) as u64;
        let udp = transport.is_udp();
        // A peer of one kind of transport never speaks through the other.
        let Some(peer) =
            peer.filter(|peer| peer.transport.is_udp() == udp && (peer.header == Header::V1) == v1)
        else {
            self.shared.counters.unclaimed.fetch_add(count, Relaxed);
            return;
        };
        let strange = udp && peer.remote.load().address != from;
        if strange && !peer.float {
            self.shared.counters.unclaimed.fetch_add(count, Relaxed);
            return;
        }
        let Some(first) = bytes.first() else { return };
        let run = Run { peer, v1, key: KeyId::from_header(*first), from: strange.then_some(from), to };
        let slots = peer.keys.load();
        let Some(key) = slots.find(run.key) else {
            (0..count).for_each(|_| peer.count_drop(DropReason::NoKey));
            return;
        };
        let mut receiving = key.receiving();
        let (mut packets, mut link_bytes, mut tunnel_packets, mut tunnel_bytes) = (0, 0, 0, 0);
        for packet in bytes.chunks(size) {
            match self.handle_packet(&run, &mut receiving, packet) {
                Ok(delivered) => {
                    packets += 1;
                    link_bytes += packet.len() as u64;
                    if let Some(len) = delivered {
                        tunnel_packets += 1;
                        tunnel_bytes += len as u64;
                    }
                }
                Err(reason) => peer.count_drop(reason),
            }
        }
        drop(receiving);
        // Turns are never kept while waiting for the receive side of a key: two workers could wait for each other.
        self.outbox.flush(&self.shared, Backpressure::Drop);
        if packets > 0 {
            peer.activity.last_received.store(self.now, Relaxed);
            peer.received.count_link(packets, link_bytes);
            peer.received.count_tunnel(tunnel_packets, tunnel_bytes);
            key.count_received(packets, tunnel_bytes);
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
            && let Some(from) = run.from
        {
            move_peer(&self.shared, run.peer, from, run.to, self.now);
        }
        // The slot again: the borrow ended, and it is where it was.
        let slot = self.coalescer.opened(packet.len());
        let verdict = match legacy::unframe(run.peer.framing, slot, opened.len) {
            None => Err(DropReason::Malformed),
            Some(len) => self.deliver(run.peer, len),
        };
        match verdict {
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
            Payload::OptionsRequest => {
                // Whoever sends to the peer just now makes this answer unimportant.
                let reply = Single { payload: &EMPTY_REPLY, is_tunnel: false };
                self.outbox.try_push(&self.shared, peer, &reply);
                return Ok(Delivery::Message);
            }
        }
        if let Some(mss) = peer.mss() {
            clamp_mss(payload, mss);
        }
        if self.shared.table.mode() == DeviceMode::PointToPoint {
            return Ok(Delivery::Tunnel(len));
        }
        let from = source(payload).ok_or(DropReason::Malformed)?;
        if !owns(&self.shared, &mut self.source, peer, from) {
            return Err(DropReason::Source);
        }
        if self.shared.client_to_client
            && let Some(to) = destination(payload)
            && let Some(other) = self.shared.table.by_vpn_address(to)
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
    fn finish_batch(&mut self) {
        let queue = &self.queue;
        self.coalescer.flush(|frame| write_frame(queue, &self.shared, frame));
        self.outbox.flush(&self.shared, Backpressure::Drop);
    }
}

/// Where a payload goes.
enum Delivery {
    /// To the device.
    Tunnel(usize),
    /// To another peer.
    Switched(usize),
    /// Nowhere: it was for the engine.
    Message,
}

/// Bytes at the start of a message that belong to packets with the same first `header` bytes.
fn run_len(bytes: &[u8], size: usize, header: usize) -> usize {
    let first = bytes.get(..header);
    let same = bytes.chunks(size).take_while(|packet| packet.get(..header) == first).count().max(1);
    (same * size).min(bytes.len())
}

/// Returns whether an inner source address belongs to the peer (SEC-DATA-5).
fn owns(
    shared: &Shared,
    last: &mut Option<(u64, IpAddr, Arc<Peer>)>,
    peer: &Arc<Peer>,
    from: IpAddr,
) -> bool {
    let generation = shared.table.generation();
    if let Some((seen, address, owner)) = last
        && (*seen, *address) == (generation, from)
    {
        return Arc::ptr_eq(owner, peer);
    }
    let Some(owner) = shared.table.by_vpn_address(from) else { return false };
    let mine = Arc::ptr_eq(&owner, peer);
    *last = Some((generation, from, owner));
    mine
}

/// The peer proved that it is somewhere else now.
fn move_peer(shared: &Shared, peer: &Arc<Peer>, from: SocketAddr, to: Option<IpAddr>, now: u64) {
    let last = peer.activity.last_float.load(Relaxed);
    if peer.remote.load().address == from || (last != 0 && now.saturating_sub(last) < FLOAT_INTERVAL) {
        return;
    }
    if !shared.table.move_address(peer, from) {
        return; // somebody else lives there
    }
    peer.activity.last_float.store(now.max(1), Relaxed);
    peer.remote.store(Arc::new(Remote { address: from, local: to }));
    shared.table.republish();
    shared.events.push(OffloadEvent::Floated(peer.id, from));
}

fn write_frame(queue: &Arc<dyn Queue>, shared: &Shared, frame: &[u8]) {
    // A device that is down, or a packet that the kernel refuses, is what loss is.
    if queue.write(frame).is_err() {
        shared.counters.device_refused.fetch_add(1, Relaxed);
    }
}
