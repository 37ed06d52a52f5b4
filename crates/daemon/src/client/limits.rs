//! What is due at a time within a session: the status file, and what ends a session that lasts too long or carries too little.

use std::{sync::Arc, time::Duration};

use culvert_config::profile::{ConnectionEntry, Keepalive};
use culvert_offload::Offload;
use tokio::time::Instant;

use super::{Client, Outcome, Restart, drive::Progress};
use crate::{exit::Ended, life::Life, ovlog, signals::Request, usage};

impl Client {
    /// Writes the status file; returns when it is due again.
    pub(super) fn write_status(&self, life: &mut Life) -> Instant {
        let every = self.profile.log.status.as_ref().map_or(Duration::ZERO, |status| status.interval);
        if every.is_zero() {
            return Instant::now() + Duration::from_secs(86_400);
        }
        if let Some(file) = life.status_file() {
            file.write(self.statistics());
        }
        Instant::now() + every
    }
}

/// `inactive`: so many bytes within a period keep a session. The period begins anew whenever they have been carried.
pub(super) struct Inactivity {
    period: Duration,
    bytes: u64,
    /// What was carried when the period began.
    counted: u64,
    ends: Instant,
    /// When to look next at what was carried.
    look: Instant,
}

impl Inactivity {
    fn new(period: Duration, bytes: u64, now: Instant) -> Self {
        let mut inactivity = Self { period, bytes: bytes.max(1), counted: 0, ends: now + period, look: now };
        inactivity.look_later(now);
        inactivity
    }

    fn deadline(&self) -> Instant {
        self.look.min(self.ends)
    }

    /// Often enough to end in time, seldom enough to cost nothing.
    fn look_later(&mut self, now: Instant) {
        self.look = now + (self.period / 20).clamp(Duration::from_secs(1), Duration::from_secs(30));
    }

    /// Takes what was carried by now, if that is known; returns whether too little was for too long.
    fn is_over(&mut self, now: Instant, total: Option<u64>) -> bool {
        self.look_later(now);
        // What is wrong with the counters will be told as an event.
        let Some(total) = total else {
            self.ends = self.ends.max(self.look);
            return false;
        };
        if total.saturating_sub(self.counted) >= self.bytes {
            (self.counted, self.ends) = (total, now + self.period);
        }
        now >= self.ends
    }
}

impl Progress {
    pub(super) fn start_limits(&mut self, own: &Keepalive) {
        let now = Instant::now();
        self.ends = self.pushed.session_timeout.or(own.session_timeout).map(|after| now + after);
        let inactive = self.pushed.inactive.or(own.inactive);
        self.inactive = inactive.map(|(period, bytes)| Inactivity::new(period, bytes, now));
    }

    /// Tells the session what its key carried.
    fn report_usage(&self, offload: &Arc<dyn Offload>) {
        let mut stats = Vec::new();
        if self.peer.is_some()
            && offload.stats(self.peer, &mut stats).is_ok()
            && let Some(peer) = stats.first()
        {
            self.link.session.command(usage::report(peer));
        }
    }

    /// When something is due next.
    pub(super) fn deadline(&self, entry: &ConnectionEntry, status: Instant) -> Instant {
        let poll = (!self.answered).then(|| self.link.began + entry.connect_timeout);
        let answer = self.answer_due.filter(|_| !self.answered);
        let leaving = self.leaving.as_ref().map(|(at, _)| *at);
        let inactive = self.inactive.as_ref().map(Inactivity::deadline);
        let around = Some(self.surroundings.deadline());
        [poll, answer, leaving, self.ends, inactive, self.usage_due, around]
            .into_iter()
            .flatten()
            .fold(status, Instant::min)
    }

    /// What is due now.
    pub(super) fn overdue(&mut self, entry: &ConnectionEntry, offload: &Arc<dyn Offload>) -> Option<Outcome> {
        let now = Instant::now();
        if let Some((at, ended)) = &self.leaving
            && now >= *at
        {
            return Some(Outcome::Ended(ended.clone()));
        }
        if !self.answered && self.answer_due.is_some_and(|due| now >= due) {
            return Some(self.fell_silent());
        }
        if !self.answered && now >= self.link.began + entry.connect_timeout {
            ovlog!(1, "Server poll timeout, restarting");
            return Some(Outcome::Restart(Restart {
                pause: Some(Duration::ZERO),
                ..Restart::because("server_poll")
            }));
        }
        if self.ends.is_some_and(|ends| now >= ends) {
            ovlog!(1, "Session timeout, exiting");
            return Some(Outcome::Ended(Ended::Soft(Request::Terminate, "session-timeout")));
        }
        if self.usage_due.is_some_and(|due| now >= due) {
            self.usage_due = Some(now + usage::INTERVAL);
            self.report_usage(offload);
        }
        if let Some(inactivity) = self.inactive.as_mut().filter(|inactivity| now >= inactivity.deadline()) {
            let mut stats = Vec::new();
            let asked = offload.stats(self.peer, &mut stats);
            let total = stats.first().map_or(0, |stats| stats.tunnel.rx_bytes + stats.tunnel.tx_bytes);
            if inactivity.is_over(now, asked.is_ok().then_some(total)) {
                ovlog!(1, "Inactivity timeout (--inactive), exiting");
                return Some(Outcome::Ended(Ended::Soft(Request::Terminate, "inactive")));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_one_period_after_it_last_carried_enough() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let mut inactivity = Inactivity::new(4 * second, 100, start);
        assert!(!inactivity.is_over(start + second, Some(100)));
        assert!(!inactivity.is_over(start + 2 * second, Some(199)));
        assert!(!inactivity.is_over(start + 4 * second, Some(199)), "counted from the first second on");
        assert!(!inactivity.is_over(start + 5 * second, None), "nothing is known");
        assert!(inactivity.is_over(start + 6 * second, Some(199)));
        assert!(!inactivity.is_over(start + 7 * second, Some(200)), "it carries something again");
    }

    #[test]
    fn a_long_period_is_looked_at_seldom() {
        let start = Instant::now();
        let hour = Inactivity::new(Duration::from_secs(3600), 0, start);
        assert_eq!(hour.deadline(), start + Duration::from_secs(30));
        let short = Inactivity::new(Duration::from_secs(1), 0, start);
        assert_eq!(short.deadline(), start + Duration::from_secs(1));
    }
}
