//! Deadlines: one place that acts on them, one that names the next.

use std::time::Instant;

use culvert_wire::Now;

use super::{Phase, Session};
use crate::{CloseReason, KeyRing, Mode, Timing};

impl Session {
    /// Acts on every deadline that has passed.
    pub(super) fn expire(&mut self, now: Now) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.expire_closing(now);
        self.expire_exchange(now);
        let ops = self.schedule.handle_timeout(now.mono);
        self.emit_keys(ops);
        self.expire_pull(now);
        self.expire_verdict(now);
        self.expire_former(now);
        self.renegotiate_if_due(now);
    }

    /// When something has to be done next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if matches!(self.phase, Phase::Closed) {
            return None;
        }
        let exchange = self.exchange.as_ref();
        let pull = match &self.phase {
            Phase::Pulling(pull) => pull.poll_timeout(self.config.timing.hand_window),
            _ => None,
        };
        let renegotiation =
            if self.may_renegotiate() { self.renegotiation.deadline(&self.config.timing) } else { None };
        [
            exchange.and_then(super::Exchange::poll_timeout),
            self.exchange_deadline(),
            self.schedule.poll_timeout(),
            pull,
            self.pending_verdict(),
            self.closing_deadline(),
            self.former.as_ref().map(|former| former.until()),
            renegotiation,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The end of `hand-window`, while the exchange is not active; that of `tran-window` once it is overdue.
    fn exchange_deadline(&self) -> Option<Instant> {
        let exchange = self.exchange.as_ref().filter(|exchange| !exchange.is_active())?;
        let Timing { hand_window, tran_window, .. } = self.config.timing;
        Some(exchange.began() + if exchange.is_overdue() { tran_window } else { hand_window })
    }

    fn expire_exchange(&mut self, now: Now) {
        let serves_on = self.serves_on();
        let missed = self.exchange_deadline().is_some_and(|at| at <= now.mono);
        let missing = if missed { self.missing() } else { String::new() };
        match &mut self.exchange {
            Some(exchange) if missed && serves_on && !exchange.is_overdue() => {
                exchange.set_overdue();
                let line = format!("TLS Error: {missing}. The key before serves on until `tran-window` ends");
                self.log(1, line);
            }
            Some(_) if missed => {
                self.log(1, format!("TLS Error: {missing}"));
                self.close(CloseReason::HandshakeTimeout);
            }
            Some(exchange) if !serves_on && exchange.is_exhausted(now.mono) => {
                self.close(CloseReason::Protocol("the peer acknowledges nothing".to_owned()));
            }
            _ => {}
        }
    }

    /// A client that does not answer a renegotiation is served with the key it has, as by OpenVPN's server: some on Go
    /// libraries never renegotiate. Other ends notice a dead peer faster by beginning anew.
    fn serves_on(&self) -> bool {
        let Timing { hand_window, tran_window, .. } = self.config.timing;
        self.config.mode == Mode::Server && self.established() && tran_window > hand_window
    }

    /// Only an active exchange waits for verdicts by this deadline; before that `hand-window` is the limit.
    fn pending_verdict(&self) -> Option<Instant> {
        if self.is_ending() {
            return None;
        }
        let waits = |e: &&super::Exchange| e.is_active() && e.access.granted().is_none();
        let exchange = self.exchange.as_ref().filter(waits)?;
        Some(self.verdict_due.unwrap_or(exchange.began() + self.config.timing.hand_window))
    }

    fn expire_verdict(&mut self, now: Now) {
        if self.pending_verdict().is_some_and(|at| at <= now.mono) {
            self.log(1, "TLS Auth Error: Auth Username/Password verification failed for peer");
            self.refuse(now, None, CloseReason::Denied("no verdict in time".to_owned()));
        }
    }

    /// What the offload counted under the sending key. While the next key already waits for its turn, counts of the
    /// old one ask for nothing.
    pub(super) fn take_usage(&mut self, now: Now, counts: (u64, u64)) {
        if !self.is_switch_pending() {
            self.renegotiation.usage(now.mono, counts, &self.config.timing);
            self.renegotiate_if_due(now);
        }
    }

    /// The sending key shall be replaced: by the next one where it is there already.
    pub(super) fn demand_renegotiation(&mut self, now: Now) {
        if !self.schedule.hasten(now.mono) {
            self.renegotiation.demand(now.mono);
            self.renegotiate_if_due(now);
        }
    }

    const fn is_switch_pending(&self) -> bool {
        matches!(self.schedule.ring(), KeyRing::Rekeying { .. })
    }

    /// A renegotiation may begin: the newest key sends, so that the peer surely has it, and nothing of ours would be
    /// lost with its exchange.
    fn may_renegotiate(&self) -> bool {
        matches!(self.phase, Phase::Established)
            && !self.is_switch_pending()
            && self.exchange.as_ref().is_some_and(|e| e.is_keyed() && e.is_idle() && self.texts.is_empty())
    }

    pub(super) fn renegotiate_if_due(&mut self, now: Now) {
        if self.may_renegotiate() && self.renegotiation.is_due(now.mono, &self.config.timing) {
            let usage = self.renegotiation.describe(now.mono, &self.config.timing);
            self.log(3, format!("TLS: soft reset {usage}"));
            self.begin_renegotiation(now);
        }
    }
}
