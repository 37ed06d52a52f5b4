//! Transports: UDP socket sets and TCP streams.

mod cut;
mod refusals;
mod tcp;
mod udp;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use culvert_offload::{TransportId, TransportSpec};
use culvert_sys::{Eventfd, wait_writable};
use culvert_wire::{LocalAddress, Transmit};

pub(crate) use cut::Cut;
pub(crate) use tcp::{MAX_FRAME, Tcp, token};
pub(crate) use udp::Udp;

use crate::control::ControlPort;

/// A way to peers, and its control port.
pub(crate) struct Transport {
    pub(crate) id: TransportId,
    pub(crate) port: Arc<ControlPort>,
    pub(crate) wire: Wire,
    closed: AtomicBool,
}

/// What a transport is made of.
pub(crate) enum Wire {
    Udp(Udp),
    Tcp(Tcp),
}

/// Sealed packets for one destination, in order, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Train<'a> {
    pub(crate) bytes: &'a [u8],
    /// UDP: size of each packet but the last.
    pub(crate) segment: usize,
    pub(crate) to: SocketAddr,
    pub(crate) from: Option<LocalAddress>,
    /// TOS byte of the outer packets (`passtos`).
    pub(crate) tos: Option<u8>,
    /// UDP: who may cut them on their way.
    pub(crate) cut: Cut,
}

/// What to do when a socket takes no more.
#[derive(Clone, Copy)]
pub(crate) enum Backpressure<'a> {
    /// Wait for room, or for the event: the tunnel's own queue then holds the senders back.
    Wait(&'a Eventfd),
    /// Drop.
    Drop,
}

impl Backpressure<'_> {
    /// Waits for room if that is the rule; `false` means drop.
    fn wait(self, fd: impl std::os::fd::AsFd) -> bool {
        match self {
            // A socket that takes nothing for this long is stuck: its packets are too old to be worth it.
            Self::Wait(stop) => wait_writable(fd, stop, Duration::from_secs(1)).unwrap_or(false),
            Self::Drop => false,
        }
    }
}

impl Transport {
    pub(crate) fn new(id: TransportId, wire: Wire) -> Self {
        Self { id, port: Arc::default(), wire, closed: AtomicBool::new(false) }
    }

    pub(crate) const fn is_udp(&self) -> bool {
        matches!(self.wire, Wire::Udp(_))
    }

    /// Bytes in front of each packet.
    pub(crate) const fn prefix(&self) -> usize {
        match self.wire {
            Wire::Udp(_) => 0,
            Wire::Tcp(_) => culvert_wire::tcp::FRAME_PREFIX_LEN,
        }
    }

    /// Sends trains through the socket of worker `worker`. What cannot be sent is dropped, as networks do.
    pub(crate) fn send(&self, worker: usize, trains: &[Train<'_>], backpressure: Backpressure<'_>) {
        if self.closed.load(Relaxed) {
            return;
        }
        match &self.wire {
            Wire::Udp(udp) => udp.send(worker, trains, backpressure),
            Wire::Tcp(tcp) => trains.iter().for_each(|train| tcp.send(train.bytes, train.tos, backpressure)),
        }
    }

    pub(crate) fn poll_send_control(&self, cx: &Context<'_>, packet: &Transmit<'_>) -> Poll<io::Result<()>> {
        if self.closed.load(Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        match &self.wire {
            Wire::Udp(udp) => Poll::Ready(udp.send_control(packet)),
            Wire::Tcp(tcp) => tcp.poll_send_control(cx, packet.bytes),
        }
    }

    /// Stops sending; the workers have let go of it already. Returns its sockets.
    pub(crate) fn close(&self) -> io::Result<TransportSpec> {
        self.closed.store(true, Relaxed);
        self.port.close();
        match &self.wire {
            Wire::Udp(udp) => udp.give_back(),
            Wire::Tcp(tcp) => tcp.give_back(),
        }
    }
}
