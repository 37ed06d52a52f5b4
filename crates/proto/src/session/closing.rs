//! The end of a session: farewells that still have to arrive, and the one event that nothing follows.

use std::time::{Duration, Instant};

use culvert_wire::Now;

use super::{Phase, Session, exchange::Failure};
use crate::{CloseReason, Event, Mode, PeerMessage, TemporaryFailure, peer_info::proto_bit};

/// A server keeps a refused or leaving client this long: acknowledgements and repeats go on.
const LINGER: Duration = Duration::from_secs(5);
/// A leaving end with nobody to tell `explicit-exit-notify` waits this long for outstanding messages.
const FAREWELL: Duration = Duration::from_secs(2);
/// Close as soon as the packets at hand are sent.
pub(super) const AT_ONCE: Duration = Duration::ZERO;

/// A session that ends.
pub(super) struct Closing {
    reason: CloseReason,
    /// How long to stay once the farewell could be written.
    stay: Duration,
    until: Option<Instant>,
    /// Leave earlier when everything is acknowledged.
    leave_when_acked: bool,
}

impl Session {
    /// Ends the session now.
    pub(super) fn close(&mut self, reason: CloseReason) {
        if !matches!(self.phase, Phase::Closed) {
            self.emit(Event::Closed(reason));
            self.phase = Phase::Closed;
            self.texts.clear();
        }
    }

    /// Ends the session after `stay`, or with the next deadline. Repeats do not prolong it (SEC-CTL-9).
    pub(super) fn close_soon(&mut self, now: Now, stay: Duration, reason: CloseReason) {
        if !self.is_ending() {
            let until = Some(now.mono + stay);
            self.phase = Phase::Closing(Closing { reason, stay, until, leave_when_acked: false });
        }
    }

    /// An exchange failed: what TLS still has to say is sent, then the session ends.
    pub(super) fn fail(&mut self, now: Now, failure: Failure) {
        let reason = match failure {
            Failure::Tls(error) => CloseReason::Tls(error.to_string()),
            Failure::Protocol(text) => CloseReason::Protocol(text),
        };
        match &mut self.phase {
            // Nothing will be acknowledged any more.
            Phase::Closing(closing) => closing.until = Some(now.mono),
            _ => self.close_soon(now, AT_ONCE, reason),
        }
        self.texts.clear();
    }

    /// Refuses the peer: a server tells it why and stays a while, others leave. `TEMP` asks to come again later; who has
    /// not announced to know it would take it for a wrong password and give up, and is told to restart instead. (OpenVPN
    /// sends what it is given.)
    pub(super) fn refuse(&mut self, now: Now, text: Option<String>, reason: CloseReason) {
        if self.is_ending() {
            return;
        }
        if !self.config.mode.is_tls_server() {
            return self.close_soon(now, AT_ONCE, reason);
        }
        self.texts.clear();
        let knows_temp = self.peer.as_ref().is_some_and(|peer| peer.info.has(proto_bit::AUTH_FAIL_TEMP));
        self.texts.push_back(match text {
            Some(text) if TemporaryFailure::is_meant_by(&text) && !knows_temp => "RESTART".to_owned(),
            Some(text) => format!("AUTH_FAILED,{text}"),
            None => "AUTH_FAILED".to_owned(),
        });
        // Without an active key the farewell waits; the exchange's own deadline bounds that.
        self.phase = Phase::Closing(Closing { reason, stay: LINGER, until: None, leave_when_acked: false });
    }

    /// The driver leaves.
    pub(super) fn exit(&mut self, now: Now) {
        if self.is_ending() {
            // A second order, or one that crosses the peer's farewell: no more waiting.
            return self.close(CloseReason::Local);
        }
        let told =
            self.agreement.is_some_and(|agreed| agreed.flags.cc_exit) && self.config.mode != Mode::Server;
        let notify = self.config.exit_notify.filter(|_| matches!(self.phase, Phase::Established));
        if let Some(seconds) = notify.filter(|_| told) {
            self.texts.push_back("EXIT".to_owned());
            self.leave(now, Duration::from_secs(u64::from(seconds)));
        } else if !self.texts.is_empty()
            || self.exchange.as_ref().is_some_and(|e| e.is_active() && !e.is_idle())
        {
            self.leave(now, FAREWELL);
        } else {
            self.close(CloseReason::Local);
        }
    }

    fn leave(&mut self, now: Now, stay: Duration) {
        let until = Some(now.mono + stay);
        self.phase =
            Phase::Closing(Closing { reason: CloseReason::Local, stay, until, leave_when_acked: true });
    }

    /// The peer leaves.
    pub(super) fn take_exit(&mut self, now: Now) {
        self.emit(Event::Message(PeerMessage::Exit));
        let stay = if self.config.mode == Mode::Server { LINGER } else { AT_ONCE };
        self.close_soon(now, stay, CloseReason::PeerExit);
    }

    /// Everything that waited was written (or cannot be yet): the time of a refusal starts here.
    pub(super) fn texts_flushed(&mut self, now: Now) {
        let written = self.texts.is_empty();
        if let Phase::Closing(closing) = &mut self.phase
            && written
            && closing.until.is_none()
        {
            closing.until = Some(now.mono + closing.stay);
        }
    }

    pub(super) fn expire_closing(&mut self, now: Now) {
        let Phase::Closing(closing) = &self.phase else { return };
        if closing.until.is_some_and(|until| until <= now.mono) {
            let reason = closing.reason.clone();
            self.close(reason);
        }
    }

    /// Ends the session before its time if all it waited for were acknowledgements.
    pub(super) fn leave_if_acked(&mut self) {
        let idle = self.texts.is_empty() && self.exchange.as_ref().is_none_or(super::Exchange::is_idle);
        let Phase::Closing(closing) = &self.phase else { return };
        if closing.leave_when_acked && idle {
            let reason = closing.reason.clone();
            self.close(reason);
        }
    }

    pub(super) fn closing_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Closing(closing) => closing.until,
            _ => None,
        }
    }
}
