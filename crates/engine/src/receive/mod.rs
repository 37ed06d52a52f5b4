//! The receive worker: sockets to tunnel device, run to completion.
//!
//! Reads batches from its UDP sockets and TCP streams. Control packets go to the transport's control port. Data packets
//! are taken in runs of one peer and key: the key is looked up once, each packet is opened straight into the
//! buffer of `packet::coalesce`, checked (replay, then inner source address), and joined into frames for the device.
//! Worker 0 also runs the keepalive timer.

mod data;
mod frames;
mod old_wire;

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        mpsc::{Receiver as Commands, SyncSender},
    },
    time::Duration,
};

use culvert_offload::{DeleteReason, OffloadEvent, TransportId};
use culvert_sys::{Epoll, Eventfd, Interest, Ready, RecvBatch};

use self::data::{Data, Origin};
use crate::{
    device::Queue,
    engine::Shared,
    keepalive,
    transport::{MAX_FRAME, Transport, Wire, token},
};

/// The worker's own event in its readiness set.
const WAKE: u64 = 0;
/// Batches read from one socket before the others have their turn.
const BATCHES: usize = 4;
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

impl Receiver {
    pub(crate) fn new(shared: &Arc<Shared>, parts: ReceiverParts) -> Self {
        let data = Data::new(shared, parts.worker, parts.queue);
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
        if now >= self.shared.table.next_look() {
            keepalive::run(&self.shared, &mut self.data.outbox, now);
        }
        match self.shared.table.next_look() {
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
                    self.data.forget();
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
        for _ in 0..BATCHES {
            let mut control = false;
            let received = match socket.recv_batch(&mut self.batch) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What became of an earlier packet: reading it was the cure.
                Err(_) => continue,
            };
            for message in self.batch.messages() {
                let size = message.segment.max(1);
                let origin = Origin { transport, from: message.from, to: message.to.map(Into::into) };
                if !udp.is_relayed() {
                    control |= self.data.handle_message(origin, message.bytes, size);
                    continue;
                }
                for packet in message.bytes.chunks(size) {
                    if let Some((from, packet)) = udp.unwrap_relayed(message.from, packet) {
                        control |= self.data.handle_message(Origin { from, ..origin }, packet, packet.len());
                    }
                }
            }
            if control {
                // Now: up to half a megabyte of data is still to be written, and more may wait in the socket.
                transport.port.notify();
            }
            self.data.finish_batch();
            if received < RecvBatch::CAPACITY {
                break;
            }
        }
    }

    fn receive_frames(&mut self, transport: &Arc<Transport>) {
        let Wire::Tcp(tcp) = &transport.wire else { return };
        let mut control = false;
        let data = &mut self.data;
        let origin = Origin { transport, from: tcp.remote(), to: None };
        let result = tcp.receive(&mut self.stream, |packet| {
            control |= data.handle_message(origin, packet, packet.len());
        });
        if control {
            transport.port.notify();
        }
        self.data.finish_batch();
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
            && self.shared.table.remove_exactly(&peer)
        {
            let reason = if error.kind() == io::ErrorKind::InvalidData {
                DeleteReason::TransportError
            } else {
                DeleteReason::TransportDisconnect
            };
            peer.keys.end();
            self.shared.events.push(OffloadEvent::PeerGone(peer.id, reason, Some(Box::new(peer.stats()))));
        }
    }
}
