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

impl Progress {
    pub(super) fn start_limits(&mut self, own: &Keepalive) {
        let now = Instant::now();
        self.ends = self.pushed.session_timeout.or(own.session_timeout).map(|after| now + after);
        let inactive = self.pushed.inactive.or(own.inactive);
        self.inactive = inactive.map(|(period, bytes)| (period, bytes, now + period, 0));
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
        let leaving = self.leaving.as_ref().map(|(at, _)| *at);
        let inactive = self.inactive.map(|(_, _, due, _)| due);
        let around = Some(self.surroundings.deadline());
        [poll, leaving, self.ends, inactive, self.usage_due, around]
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
        if let Some((period, bytes, due, counted)) = &mut self.inactive
            && now >= *due
        {
            let mut stats = Vec::new();
            if offload.stats(self.peer, &mut stats).is_err() {
                *due = now + *period; // what is wrong will be told as an event
                return None;
            }
            let total = stats.first().map_or(0, |s| s.tunnel.rx_bytes + s.tunnel.tx_bytes);
            if total.saturating_sub(*counted) < (*bytes).max(1) {
                ovlog!(1, "Inactivity timeout (--inactive), exiting");
                return Some(Outcome::Ended(Ended::Soft(Request::Terminate, "inactive")));
            }
            *counted = total;
            *due = now + *period;
        }
        None
    }
}
