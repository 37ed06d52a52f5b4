//! Who sends to a peer.

use std::sync::{
    Arc, PoisonError,
    atomic::Ordering::{Acquire, Relaxed, Release},
};

use crate::{
    peer::Peer,
    sync::{AtomicBool, Condvar, Mutex},
};

/// The right to send to a peer, from taking packet ids until the packets are with the socket.
///
/// Packets must leave in the order of their ids: stock peers keep a window of 64, less than two batches. A worker may
/// hold several peers' turns while it collects a batch, but never waits for one while it holds another: it sends what
/// it has and lets go first.
#[derive(Default)]
pub(crate) struct Turn {
    taken: AtomicBool,
    waiting: Mutex<u32>,
    freed: Condvar,
}

/// Holds a peer's [`Turn`].
pub(crate) struct Held(Arc<Peer>);

impl Held {
    /// Takes the turn, if nobody has it.
    pub(crate) fn try_take(peer: &Arc<Peer>) -> Option<Self> {
        peer.turn.try_take().then(|| Self(Arc::clone(peer)))
    }

    /// Takes the turn, waiting for whoever has it. The caller holds no other.
    pub(crate) fn take(peer: &Arc<Peer>) -> Self {
        peer.turn.take();
        Self(Arc::clone(peer))
    }

    /// Somebody else waits for it.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.turn.is_awaited()
    }

    /// Whose turn it is.
    pub(crate) const fn peer(&self) -> &Arc<Peer> {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.turn.give();
    }
}

impl Turn {
    fn try_take(&self) -> bool {
        self.taken.compare_exchange(false, true, Acquire, Relaxed).is_ok()
    }

    fn take(&self) {
        if self.try_take() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting += 1;
        while !self.try_take() {
            waiting = self.freed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        *waiting -= 1;
    }

    fn is_awaited(&self) -> bool {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) > 0
    }

    fn give(&self) {
        self.taken.store(false, Release);
        // The lock orders this after a waiter's last look at `taken`, so that its wake-up is not lost.
        if *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) > 0 {
            self.freed.notify_one();
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::{sync::Arc, sync::atomic::AtomicU64, thread};

    use super::*;

    /// Counts in two steps, which only somebody alone can do without losing any.
    fn count(counter: &AtomicU64) {
        let before = counter.load(Relaxed);
        counter.store(before + 1, Relaxed);
    }

    /// Two workers in every order of their steps, or three with at most so many changes between them as find all bugs in
    /// practice (loom's documentation): all of them take minutes.
    fn workers(number: u64, work: fn(&Turn, &AtomicU64) -> bool) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = (number > 2).then_some(3);
        model.check(move || {
            let shared = Arc::new((Turn::default(), AtomicU64::new(0)));
            let spawn = || {
                let shared = Arc::clone(&shared);
                thread::spawn(move || work(&shared.0, &shared.1))
            };
            let others: Vec<_> = (1..number).map(|_| spawn()).collect();
            let own = u64::from(work(&shared.0, &shared.1));
            let counted: u64 = others.into_iter().map(|other| u64::from(other.join().unwrap())).sum();
            assert_eq!(shared.1.load(Relaxed), own + counted);
            assert!(shared.0.try_take(), "nobody has it");
        });
    }

    /// A lost wake-up would be a deadlock, which loom reports.
    #[test]
    fn loom_a_turn_is_one_workers_and_reaches_all_who_wait() {
        let work = |turn: &Turn, counter: &AtomicU64| {
            turn.take();
            count(counter);
            turn.give();
            true
        };
        workers(2, work);
        workers(3, work);
    }

    #[test]
    fn loom_a_turn_that_is_only_tried_for_is_one_workers() {
        workers(3, |turn, counter| {
            let taken = turn.try_take();
            if taken {
                count(counter);
                turn.give();
            }
            taken
        });
    }
}
