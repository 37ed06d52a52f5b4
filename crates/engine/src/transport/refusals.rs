//! Which trains the system refused to split, by where they were to go.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// Destinations that are remembered. One that is forgotten is refused once more, which costs a system call.
const CAPACITY: usize = 64;

/// Segments that exceed the MTU of the route to their destination. Each destination stands for itself, so that one peer
/// behind a narrow link does not cost the others their trains.
#[derive(Default)]
pub(super) struct Refusals {
    /// Something was refused. Until then, which is nearly always, nobody takes the lock.
    any: AtomicBool,
    /// The smallest refused segment of each destination, oldest first.
    list: Mutex<VecDeque<(SocketAddr, usize)>>,
}

impl Refusals {
    /// Whether a segment of that size, or a smaller one, was refused to that destination.
    pub(super) fn contains(&self, to: SocketAddr, segment: usize) -> bool {
        self.any.load(Relaxed) && self.lock().iter().any(|&(address, size)| address == to && size <= segment)
    }

    /// Remembers a refusal.
    pub(super) fn note(&self, to: SocketAddr, segment: usize) {
        let mut list = self.lock();
        if let Some((_, size)) = list.iter_mut().find(|(address, _)| *address == to) {
            *size = segment.min(*size);
        } else {
            if list.len() == CAPACITY {
                list.pop_front();
            }
            list.push_back((to, segment));
        }
        self.any.store(true, Relaxed);
    }

    /// Forgets what was refused to a destination: the way there is another one.
    pub(super) fn forget(&self, to: SocketAddr) {
        if self.any.load(Relaxed) {
            let mut list = self.lock();
            list.retain(|(address, _)| *address != to);
            self.any.store(!list.is_empty(), Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(SocketAddr, usize)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn a_refusal_is_about_its_destination_and_about_larger_segments() {
        let refusals = Refusals::default();
        assert!(!refusals.contains(peer(1), 1400));
        refusals.note(peer(1), 1400);
        assert!(refusals.contains(peer(1), 1400));
        assert!(!refusals.contains(peer(1), 1399));
        assert!(!refusals.contains(peer(2), 1400));
        refusals.note(peer(1), 1300);
        refusals.note(peer(1), 1350);
        assert!(refusals.contains(peer(1), 1300));
    }

    #[test]
    fn a_refusal_is_forgotten_for_its_destination_alone() {
        let refusals = Refusals::default();
        refusals.note(peer(1), 1400);
        refusals.note(peer(2), 1400);
        refusals.forget(peer(1));
        assert!(!refusals.contains(peer(1), 1400) && refusals.contains(peer(2), 1400));
        refusals.forget(peer(2));
        assert!(!refusals.contains(peer(2), 1400));
    }

    #[test]
    fn the_oldest_refusal_makes_room() {
        let refusals = Refusals::default();
        for port in 0..=64 {
            refusals.note(peer(port), 1400);
        }
        assert!(!refusals.contains(peer(0), 1400));
        assert!(refusals.contains(peer(1), 1400) && refusals.contains(peer(64), 1400));
    }
}
