//! Waiting for sockets without a runtime: one thread watches all of them and wakes who waits.

use std::{
    collections::HashMap,
    io,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Waker},
};

use culvert_sys::{Epoll, Interest};

/// The set of watched sockets.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) epoll: Epoll,
    next: AtomicU64,
    waiters: Mutex<HashMap<u64, Arc<Waiter>>>,
}

/// The tasks that wait for one socket.
#[derive(Debug)]
pub(super) struct Waiter {
    token: u64,
    wakers: Mutex<Wakers>,
}

#[derive(Debug, Default)]
struct Wakers {
    read: Option<Waker>,
    write: Option<Waker>,
}

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// Tokens from here on are sockets; those below are the watcher's own descriptors.
const FIRST_TOKEN: u64 = 16;

impl Waiting {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new()?, next: AtomicU64::new(FIRST_TOKEN), waiters: Mutex::default() })
    }

    /// Begins to watch a socket; nobody waits for it yet.
    pub(super) fn add(&self, socket: impl AsFd) -> io::Result<Arc<Waiter>> {
        let token = self.next.fetch_add(1, Relaxed);
        self.epoll.add(socket, token, Interest::Once { read: false, write: false })?;
        let waiter = Arc::new(Waiter { token, wakers: Mutex::default() });
        self.lock().insert(token, Arc::clone(&waiter));
        Ok(waiter)
    }

    /// Ends it; whoever waits is woken.
    pub(super) fn remove(&self, socket: impl AsFd, waiter: &Waiter) {
        // That it is not in the set any more is what is wanted.
        let _ = self.epoll.remove(socket);
        self.lock().remove(&waiter.token);
        waiter.wake();
    }

    /// Has the task woken when the socket is ready, once.
    pub(super) fn wait(
        &self,
        socket: impl AsFd,
        waiter: &Waiter,
        direction: Direction,
        cx: &Context<'_>,
    ) -> io::Result<()> {
        let mut wakers = waiter.lock();
        let place = match direction {
            Direction::Read => &mut wakers.read,
            Direction::Write => &mut wakers.write,
        };
        *place = Some(cx.waker().clone());
        let interest = Interest::Once { read: wakers.read.is_some(), write: wakers.write.is_some() };
        // A socket that became ready meanwhile is reported at once.
        self.epoll.change(socket, waiter.token, interest)
    }

    /// A socket is ready.
    pub(super) fn ready(&self, token: u64) {
        let waiter = self.lock().get(&token).cloned();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Waiter>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Wakes both directions: who is not served looks and waits again.
    pub(super) fn wake(&self) {
        let Wakers { read, write } = std::mem::take(&mut *self.lock());
        for waker in read.into_iter().chain(write) {
            waker.wake();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Wakers> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
