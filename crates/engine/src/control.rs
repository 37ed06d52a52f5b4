//! The control port of a transport: two bounded queues from the workers to the daemon, and the way back.
//!
//! Senders that the daemon prefers, since they proved who they are or at least where, have a queue of their own, in
//! which each has a share: neither strangers nor each other can displace their packets. What does not fit is dropped
//! before it is copied; the control channel repeats itself.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use culvert_offload::{ControlBatch, ControlPacket, ControlReceiver, ControlSender};
use culvert_wire::{LocalAddress, SessionId, Transmit};

use crate::transport::Transport;

/// Packets of strangers that may wait: a flood of hard resets must not take memory or time from the data.
const STRANGERS: usize = 512;

/// Packets of strangers that are handed out at a time, so that others get a word in.
const STRANGERS_AT_A_TIME: usize = 32;

/// Packets of one preferred sender that may wait: a receive window, and acknowledgements.
const EACH: u8 = 16;

/// Where workers leave control packets.
#[derive(Default)]
pub(crate) struct ControlPort {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    preferred: VecDeque<ControlPacket>,
    strangers: VecDeque<ControlPacket>,
    /// How many packets of each preferred sender wait.
    senders: HashMap<SessionId, u8>,
    overflow: u64,
    waker: Option<Waker>,
    closed: bool,
}

impl ControlPort {
    /// Leaves a packet. The reader is woken by [`Self::notify`], once per batch.
    pub(crate) fn push(&self, from: SocketAddr, to: Option<LocalAddress>, bytes: &[u8]) {
        let mut inner = self.lock();
        let Inner { preferred, strangers, senders, overflow, .. } = &mut *inner;
        let queue = match sender(bytes).and_then(|sender| senders.get_mut(&sender)) {
            Some(waiting) if *waiting < EACH => {
                *waiting += 1;
                preferred
            }
            None if strangers.len() < STRANGERS => strangers,
            _ => {
                *overflow += 1;
                return;
            }
        };
        queue.push_back(ControlPacket { at: Instant::now(), from, to, bytes: bytes.to_vec() });
    }

    /// Wakes the reader.
    pub(crate) fn notify(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        let lost = {
            let mut inner = self.lock();
            inner.closed = true;
            inner.overflow
        };
        if lost > 0 {
            tracing::debug!(lost, "control packets were dropped because nobody took them");
        }
        self.notify();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Hands out what waits; of strangers' packets only some.
    fn take(&mut self, batch: &mut ControlBatch) {
        for packet in self.preferred.drain(..) {
            // None: it is not preferred any more.
            if let Some(waiting) = sender(&packet.bytes).and_then(|sender| self.senders.get_mut(&sender)) {
                *waiting = waiting.saturating_sub(1);
            }
            batch.packets.push(packet);
        }
        let some = self.strangers.len().min(STRANGERS_AT_A_TIME);
        batch.packets.extend(self.strangers.drain(..some));
    }
}

/// The sender's session id, in the clear at the start of each control packet: `u8 opcode/key id, u8 session id[8]`.
fn sender(packet: &[u8]) -> Option<SessionId> {
    packet.get(1..)?.first_chunk().copied().and_then(SessionId::new)
}

/// The daemon's end for receiving.
pub(crate) struct PortReceiver(pub(crate) Arc<ControlPort>);

impl ControlReceiver for PortReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut ControlBatch) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        if inner.preferred.is_empty() && inner.strangers.is_empty() && !inner.closed {
            inner.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        inner.take(batch);
        Poll::Ready(Ok(()))
    }

    fn prefer(&mut self, sender: SessionId) {
        self.0.lock().senders.entry(sender).or_default();
    }

    fn forget(&mut self, sender: SessionId) {
        self.0.lock().senders.remove(&sender);
    }
}

/// The daemon's end for sending.
pub(crate) struct PortSender(pub(crate) Arc<Transport>);

impl ControlSender for PortSender {
    fn poll_send(&self, cx: &mut Context<'_>, packet: &Transmit<'_>) -> Poll<io::Result<()>> {
        self.0.poll_send_control(cx, packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of sender `sender`, with its number behind the header.
    fn packet(sender: u8, number: u8) -> Vec<u8> {
        let mut packet = vec![4 << 3];
        packet.extend([sender; 8]);
        packet.push(number);
        packet
    }

    fn push(port: &ControlPort, sender: u8, number: u8) {
        port.push(SocketAddr::from(([192, 0, 2, sender], 1194)), None, &packet(sender, number));
    }

    /// Everything that waits, in the order and the portions of its reader.
    fn take_all(receiver: &mut PortReceiver) -> Vec<Vec<Vec<u8>>> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut portions = Vec::new();
        loop {
            let mut batch = ControlBatch::default();
            if receiver.poll_recv(&mut cx, &mut batch).is_pending() {
                return portions;
            }
            portions.push(batch.packets.into_iter().map(|packet| packet.bytes).collect());
        }
    }

    fn port() -> (Arc<ControlPort>, PortReceiver) {
        let port = Arc::new(ControlPort::default());
        (Arc::clone(&port), PortReceiver(port))
    }

    #[test]
    fn a_flood_of_strangers_displaces_no_packet_of_a_preferred_sender() {
        let (port, mut receiver) = port();
        receiver.prefer(SessionId::new([1; 8]).unwrap());
        for number in 0..=255 {
            for stranger in 2..20 {
                push(&port, stranger, number);
            }
        }
        push(&port, 1, 0);
        push(&port, 1, 1);
        let portions = take_all(&mut receiver);
        assert_eq!(portions[0][..2], [packet(1, 0), packet(1, 1)]);
        assert!(portions.iter().all(|portion| portion.len() <= STRANGERS_AT_A_TIME + 2));
        assert_eq!(portions.concat().len(), STRANGERS + 2);
    }

    #[test]
    fn preferred_senders_do_not_displace_each_other() {
        let (port, mut receiver) = port();
        for sender in [1, 2] {
            receiver.prefer(SessionId::new([sender; 8]).unwrap());
        }
        (0..100).for_each(|number| push(&port, 1, number));
        push(&port, 2, 0);
        let taken = take_all(&mut receiver).concat();
        assert_eq!(taken.len(), usize::from(EACH) + 1);
        assert_eq!(taken.last(), Some(&packet(2, 0)));
        // What was taken gives its place free.
        push(&port, 1, 100);
        assert_eq!(take_all(&mut receiver).concat(), [packet(1, 100)]);
    }

    #[test]
    fn who_is_forgotten_is_a_stranger_again() {
        let (port, mut receiver) = port();
        let sender = SessionId::new([1; 8]).unwrap();
        receiver.prefer(sender);
        push(&port, 1, 0);
        receiver.forget(sender);
        push(&port, 2, 0);
        push(&port, 1, 1);
        assert_eq!(take_all(&mut receiver).concat(), [packet(1, 0), packet(2, 0), packet(1, 1)]);
    }

    #[test]
    fn a_packet_too_short_for_a_session_id_is_a_strangers() {
        let (port, mut receiver) = port();
        port.push(SocketAddr::from(([192, 0, 2, 1], 1194)), None, &[4 << 3, 1, 2]);
        assert_eq!(take_all(&mut receiver).concat(), [[4 << 3, 1, 2]]);
    }
}
