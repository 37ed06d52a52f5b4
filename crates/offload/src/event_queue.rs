use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::OffloadEvent;

/// Events on their way from a data plane to the daemon.
///
/// Never full in practice: each peer has at most a handful outstanding (gone once, exhausted once per key, floats once
/// a second), and the bound below drops repeats of floats only.
#[derive(Debug, Default)]
pub struct EventQueue {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<OffloadEvent>,
    waker: Option<Waker>,
    ended: bool,
}

/// Beyond this many waiting events, floats are not reported: the next packet of the peer reports it again.
const CROWDED: usize = 65_536;

impl EventQueue {
    /// Reports an event and wakes who waits.
    pub fn push(&self, event: OffloadEvent) {
        let mut inner = self.lock();
        if inner.queue.len() >= CROWDED && matches!(event, OffloadEvent::Floated(..)) {
            return;
        }
        inner.queue.push_back(event);
        wake(inner);
    }

    /// No event will follow.
    pub fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        wake(inner);
    }

    /// Takes the oldest event; `Ready(None)` after the end.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<Option<OffloadEvent>> {
        let mut inner = self.lock();
        if let Some(event) = inner.queue.pop_front() {
            return Poll::Ready(Some(event));
        }
        if inner.ended {
            return Poll::Ready(None);
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes without holding the lock.
fn wake(mut inner: MutexGuard<'_, Inner>) {
    let waker = inner.waker.take();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}
