//! What the crowd found, for people.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Visit,
    member::{Failure, Span},
};

/// Outcomes of all members.
pub(super) struct Report {
    clients: usize,
    connect: Vec<Duration>,
    renegotiate: Vec<Duration>,
    failed: BTreeMap<String, usize>,
}

impl Report {
    pub(super) const fn new(clients: usize) -> Self {
        Self { clients, connect: Vec::new(), renegotiate: Vec::new(), failed: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, outcome: Result<Visit, Failure>) {
        match outcome {
            Ok(visit) => {
                self.connect.push(visit.connect);
                self.renegotiate.push(visit.renegotiate);
            }
            Err(failure) => *self.failed.entry(failure.to_string()).or_default() += 1,
        }
    }

    /// Returns the text; an error when anybody failed.
    pub(super) fn finish(mut self, span: &Span) -> Result<String, String> {
        let mut text =
            format!("{} of {} clients came, renegotiated and left\n", self.connect.len(), self.clients);
        let connects = rate(self.clients, span.connected);
        text.push_str(&row("connects", connects, &mut self.connect));
        text.push_str(&row("renegotiations", rate(self.clients, span.renegotiated), &mut self.renegotiate));
        for (why, count) in &self.failed {
            text.push_str(&format!("{count} failed: {why}\n"));
        }
        if self.failed.is_empty() { Ok(text) } else { Err(text) }
    }
}

fn rate(count: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64().max(f64::MIN_POSITIVE)
}

fn row(what: &str, rate: f64, times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |percent: usize| {
        times.get((times.len().saturating_sub(1)) * percent / 100).copied().unwrap_or_default()
    };
    let [median, p99, last] = [50, 99, 100].map(|percent| at(percent).as_secs_f64() * 1e3);
    format!(
        "{what}: {rate:.0} a second; each took {median:.0} ms (median), {p99:.0} ms (99 %), {last:.0} ms (longest)\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(millis: u64) -> Visit {
        Visit { connect: Duration::from_millis(millis), renegotiate: Duration::from_millis(1) }
    }

    #[test]
    fn times_are_told_by_rank() {
        let mut report = Report::new(100);
        (1..=100).for_each(|n| report.add(Ok(visit(n))));
        let span = Span { connected: Duration::from_secs(2), renegotiated: Duration::from_secs(1) };
        let text = report.finish(&span).unwrap();
        assert!(
            text.contains("connects: 50 a second; each took 50 ms (median), 99 ms (99 %), 100 ms (longest)"),
            "{text}"
        );
        assert!(text.contains("renegotiations: 100 a second"), "{text}");
    }

    #[test]
    fn who_failed_is_told_with_the_reason() {
        let mut report = Report::new(2);
        report.add(Ok(visit(1)));
        report.add(Err(Failure::Patience("connecting")));
        let span = Span { connected: Duration::from_secs(1), renegotiated: Duration::from_secs(1) };
        assert!(report.finish(&span).unwrap_err().contains("1 failed: no answer in time: connecting"));
    }
}
