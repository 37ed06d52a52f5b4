//! The transmit worker: tunnel device to sockets, run to completion.
//!
//! Reads frames until the device has none, seals them into its [`Outbox`], and flushes when the device is empty or
//! enough waits; never by timer.

use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use culvert_sys::{Epoll, Eventfd, Interest};

use crate::{
    bridge,
    device::{FrameSizes, Queue},
    engine::Shared,
    outbox::{FLUSH_AT, Outbox},
    packet::{SuperPacket, VNET_HEADER_LEN, destination},
    peer::Peer,
    recent::Recent,
    table::Forwarding,
    transport::Backpressure,
};

/// The largest frame: a super-packet and its virtio header.
const MAX_FRAME: usize = VNET_HEADER_LEN + 65_535;

/// Moves packets from one queue of the device to the peers.
pub(crate) struct Transmitter {
    shared: Arc<Shared>,
    queue: Arc<dyn Queue>,
    stop: Arc<Eventfd>,
    outbox: Outbox,
    /// The last destination.
    recent: Recent,
    sizes: FrameSizes,
}

impl Transmitter {
    pub(crate) fn new(shared: Arc<Shared>, worker: usize, queue: Arc<dyn Queue>, stop: Arc<Eventfd>) -> Self {
        Self {
            shared,
            queue,
            stop,
            outbox: Outbox::new(worker),
            recent: Recent::default(),
            sizes: FrameSizes::default(),
        }
    }

    /// Works until told to stop, or until the device is gone.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let epoll = Epoll::new()?;
        epoll.add(&*self.stop, 0, Interest::Read)?;
        epoll.add(self.queue.readiness(), 1, Interest::Read)?;
        let mut buf = vec![0; MAX_FRAME];
        let mut ready = Vec::new();
        while !self.shared.is_stopping() {
            // A sleeper must not keep a peer, and with it a closed socket, alive.
            self.recent.forget();
            epoll.wait(&mut ready, None)?;
            if !self.read_all(&mut buf) {
                break; // whoever watches this thread reports that the device is gone
            }
        }
        Ok(())
    }

    /// Reads until there is nothing; `false` when the device is gone.
    fn read_all(&mut self, buf: &mut [u8]) -> bool {
        let alive = loop {
            match self.queue.read(buf) {
                Ok(len) => {
                    self.handle_frame(&buf[..len]);
                    self.fit_queue(len);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!(%error, "the tunnel device gives nothing more");
                    break false;
                }
            }
            if self.outbox.waiting() >= FLUSH_AT {
                self.outbox.flush_complete(&self.shared, Backpressure::Wait(&self.stop));
            }
            if self.shared.is_stopping() {
                break true;
            }
        };
        self.flush();
        alive
    }

    fn flush(&mut self) {
        self.outbox.flush(&self.shared, Backpressure::Wait(&self.stop));
    }

    /// Has the device's queue follow the size of the frames.
    fn fit_queue(&mut self, len: usize) {
        if let Some(mean) = self.sizes.count(len)
            && let Some(length) = &self.shared.queue_length
        {
            length.follow(mean, self.shared.clock.millis());
        }
    }

    fn handle_frame(&mut self, frame: &[u8]) {
        let Some(packet) = SuperPacket::parse(frame) else {
            self.shared.counters.malformed_frames.fetch_add(1, Relaxed);
            return;
        };
        let peer = match self.shared.table.forwarding() {
            Forwarding::PointToPoint => self.shared.table.by_id(None),
            Forwarding::Routed => self.find_peer(packet.bytes()),
            Forwarding::Bridged => {
                let backpressure = Backpressure::Wait(&self.stop);
                return bridge::from_device(&self.shared, &mut self.outbox, packet.bytes(), backpressure);
            }
        };
        let Some(peer) = peer else {
            self.shared.counters.unrouted.fetch_add(packet.count() as u64, Relaxed);
            return;
        };
        self.outbox.push(&self.shared, &peer, &packet, Backpressure::Wait(&self.stop));
    }

    fn find_peer(&mut self, packet: &[u8]) -> Option<Arc<Peer>> {
        self.recent.find(&self.shared.table, destination(packet)?).cloned()
    }
}
