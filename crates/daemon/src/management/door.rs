//! The door of the management interface: clients that have not given its password yet (SEC-MGMT-1).
//!
//! They have places of their own, for a minute at most, so that they keep nobody out who knows the password. And they
//! guess slowly: after a wrong password no other of the same host is looked at for a second, over whichever connection it
//! comes, and also when the first one was closed.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as TaskMutex, OwnedMutexGuard},
    time::sleep,
};

use crate::places::{self, Place, Places, WhenFull};

/// Clients before the password at a time; then the oldest one goes.
const PLACES: usize = 16;
/// How long a client may take for the password: somebody may be typing it.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long after a wrong password the next one is looked at.
const AFTER_WRONG: Duration = Duration::from_secs(1);

/// Who stands at the door, and whose turn it is.
pub(super) struct Door {
    places: Arc<Places>,
    turns: Mutex<HashMap<IpAddr, Arc<TaskMutex<()>>>>,
}

/// A password may be looked at.
pub(super) struct Turn {
    _held: OwnedMutexGuard<()>,
}

impl Turn {
    /// It was wrong: the next one of this host waits.
    pub(super) fn was_wrong(self) {
        tokio::spawn(async move {
            sleep(AFTER_WRONG).await;
            drop(self);
        });
    }
}

impl Door {
    pub(super) fn new() -> Self {
        Self { places: Places::new(PLACES, WhenFull::OldestLeaves), turns: Mutex::default() }
    }

    /// Gives a client a place before the door.
    pub(super) fn arrive(&self, from: IpAddr) -> Option<Place> {
        self.places.take(from)
    }

    /// Waits until a password from this host may be looked at, in the order of arrival.
    pub(super) async fn turn(&self, from: IpAddr) -> Turn {
        let of_host = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody holds or awaits these any more.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(places::host(from)).or_default())
        };
        Turn { _held: of_host.lock_owned().await }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    /// SEC-MGMT-1
    #[tokio::test]
    async fn after_a_wrong_password_a_host_waits_and_others_do_not() {
        let door = Door::new();
        let guesser: IpAddr = "192.0.2.1".parse().unwrap();
        let start = tokio::time::Instant::now();
        door.turn(guesser).await.was_wrong();
        let mut next = pin!(door.turn(guesser));
        assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let _other_host = door.turn("192.0.2.2".parse().unwrap()).await;
        drop(next.await);
        assert!(start.elapsed() >= AFTER_WRONG);
    }
}
