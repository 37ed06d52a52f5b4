//! The control port of a transport: a bounded ring from the workers to the daemon, and the way back.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use culvert_offload::{ControlBatch, ControlPacket, ControlReceiver, ControlSender};
use culvert_wire::Transmit;

use crate::transport::Transport;

/// Packets that may wait. When it is full the newest is dropped: the control channel repeats itself, and a flood of
/// hard resets must not take memory or time from the data.
const CAPACITY: usize = 512;

/// Where workers leave control packets.
#[derive(Default)]
pub(crate) struct ControlPort {
    inner: Mutex<Inner>,
    overflow: AtomicU64,
}

#[derive(Default)]
struct Inner {
    packets: VecDeque<ControlPacket>,
    waker: Option<Waker>,
    closed: bool,
}

impl ControlPort {
    /// Leaves a packet. The reader is woken by [`Self::notify`], once per batch.
    pub(crate) fn push(&self, packet: ControlPacket) {
        let mut inner = self.lock();
        if inner.packets.len() < CAPACITY {
            inner.packets.push_back(packet);
        } else {
            self.overflow.fetch_add(1, Relaxed);
        }
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
        self.lock().closed = true;
        let lost = self.overflow.load(Relaxed);
        if lost > 0 {
            tracing::debug!(lost, "control packets were dropped because nobody took them");
        }
        self.notify();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The daemon's end for receiving.
pub(crate) struct PortReceiver(pub(crate) Arc<ControlPort>);

impl ControlReceiver for PortReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut ControlBatch) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        if inner.packets.is_empty() && !inner.closed {
            inner.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        batch.packets.extend(inner.packets.drain(..));
        Poll::Ready(Ok(()))
    }
}

/// The daemon's end for sending.
pub(crate) struct PortSender(pub(crate) Arc<Transport>);

impl ControlSender for PortSender {
    fn poll_send(&self, cx: &mut Context<'_>, packet: &Transmit<'_>) -> Poll<io::Result<()>> {
        self.0.poll_send_control(cx, packet)
    }
}
