//! Session ids as cookies: how a server answers a first packet without keeping anything (SEC-CTL-1).
//!
//! The server's session id is a keyed MAC over time slot, the client's address and its session id. A client that
//! echoes it has proved that it receives at that address, and did so lately: the current slot and the two before are
//! accepted, none from the future. A slot is half of `hand-window`, so a cookie lives 1 to 1.5 times that long.
//!
//! Source: protocol document, "Stateless server handshake". The hashed layout is this server's own.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use culvert_crypto::{CookieKey, constant_time_eq};
use culvert_wire::{LocalSid, Now, RemoteSid, SessionId};

/// Slots before the current one whose cookies are accepted.
const PAST_SLOTS: u32 = 2;

/// Makes and checks session ids.
pub struct Cookies {
    key: CookieKey,
    slot_secs: u32,
}

impl Cookies {
    /// Cookies under a key, for a `hand-window`.
    #[must_use]
    pub fn new(key: CookieKey, hand_window: Duration) -> Self {
        let secs = u32::try_from(hand_window.as_secs()).unwrap_or(u32::MAX - 1);
        Self { key, slot_secs: (secs.saturating_add(1) / 2).max(1) }
    }

    /// The session id for a client's first packet.
    #[must_use]
    pub fn issue(&self, now: Now, from: SocketAddr, client: RemoteSid) -> LocalSid {
        // All zero is no session id. A client that meets this one chance in 2^64 is told its own id, which does not
        // verify: it starts again.
        LocalSid(SessionId::new(self.cookie(self.slot(now), from, client)).unwrap_or(client.0))
    }

    /// Checks an echoed session id.
    #[must_use]
    pub fn verify(&self, now: Now, from: SocketAddr, client: RemoteSid, echoed: LocalSid) -> bool {
        let slot = self.slot(now);
        // No early exit: the number of comparisons does not depend on the cookie's age.
        (0..=PAST_SLOTS).fold(false, |found, age| {
            let cookie = slot.checked_sub(age).map(|slot| self.cookie(slot, from, client));
            let equal = cookie.is_some_and(|cookie| constant_time_eq(&cookie, echoed.0.as_bytes()));
            found | equal
        })
    }

    const fn slot(&self, now: Now) -> u32 {
        now.unix / self.slot_secs
    }

    fn cookie(&self, slot: u32, from: SocketAddr, client: RemoteSid) -> [u8; 8] {
        let slot = slot.to_be_bytes();
        let port = from.port().to_be_bytes();
        let sid = client.0.as_bytes();
        match from.ip() {
            IpAddr::V4(ip) => self.key.mac(&[&slot, &[4], &ip.octets(), &port, sid]),
            IpAddr::V6(ip) => self.key.mac(&[&slot, &[6], &ip.octets(), &port, sid]),
        }
    }
}

#[cfg(test)]
#[path = "cookie_tests.rs"]
mod tests;
