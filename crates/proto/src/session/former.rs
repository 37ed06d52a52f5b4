//! The exchange before the newest, to which a peer may still send control messages.
//!
//! OpenVPN 2.x sends them with its newest key. Peers on openvpn3 send them with the key that encrypts their data: the former
//! one, until `hand-window` after a renegotiation. A farewell or the answer to a challenge then comes with a key that
//! would be forgotten already. So the former exchange hears and acknowledges for a while; it says nothing of its own.
//!
//! Source: openvpn3 core, `openvpn/ssl/proto.hpp`, `select_control_send_context` and `become_primary`.

use std::time::{Duration, Instant};

use culvert_wire::{Control, KeyId, Now};

use super::{Session, exchange::Exchange, link::Link};
use crate::{Mode, control_message::Extracted};

/// What was on its way when the newest exchange began has arrived by then, twice repeated.
const UNDER_WAY: Duration = Duration::from_secs(10);

/// An exchange that another one has followed.
pub(super) struct Former {
    exchange: Exchange,
    until: Instant,
}

impl Former {
    pub(super) const fn key(&self) -> KeyId {
        self.exchange.key()
    }

    pub(super) const fn until(&self) -> Instant {
        self.until
    }

    pub(super) fn handle_packet(&mut self, now: Now, packet: &Control<'_>) -> Result<(), &'static str> {
        self.exchange.handle_packet(now, packet)
    }

    pub(super) fn take_texts(&mut self) -> Vec<Extracted> {
        self.exchange.take_texts()
    }

    /// Writes acknowledgements, if some wait.
    pub(super) fn emit(&mut self, now: Now, link: &mut Link, out: &mut [u8]) -> Option<usize> {
        self.exchange.emit(now, link, out)
    }
}

impl Session {
    /// Another exchange begins: the one that was the newest only hears from now on.
    pub(super) fn retire_exchange(&mut self, now: Now) {
        let Some(mut exchange) = self.exchange.take() else { return };
        exchange.retire();
        // A server's many peers cost memory, and all but these use the newest key only.
        let only_newest = self.config.mode == Mode::Server
            && self.peer.as_ref().is_some_and(|peer| !peer.info.is_openvpn3());
        // The peer's new key is negotiated within one `hand-window`, and sends within another.
        let stay = if only_newest { UNDER_WAY } else { self.config.timing.hand_window * 2 };
        let until = now.mono + stay;
        self.former = Some(Box::new(Former { exchange, until }));
    }

    /// Decrypts what came for the former exchange. Its errors end nothing but itself: the newest one is in charge.
    pub(super) fn hear_former(&mut self) {
        if self.former.as_mut().is_some_and(|former| former.exchange.next_step().is_err()) {
            self.former = None;
        }
    }

    pub(super) fn expire_former(&mut self, now: Now) {
        if self.former.as_ref().is_some_and(|former| former.until <= now.mono) {
            self.former = None;
        }
    }

    /// Does as openvpn3: says something with the former key, and wraps its packets as those of the newest.
    #[cfg(test)]
    pub(crate) fn say_with_former_key(&mut self, now: Now, text: &str) {
        self.link.wrapping.use_dynamic_always();
        let former = self.former.as_mut().expect("a former key");
        former.exchange.write_text(text).expect("TLS is up");
        former.exchange.fill(now, &self.link);
    }
}
