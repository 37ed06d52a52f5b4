//! From `tracing` events to lines.

use std::{fmt, sync::Arc, time::Instant};

use jiff::Timestamp;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::Interest,
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::{Shared, line::Severity};

/// The target of the spans that name a peer.
pub(super) const PEER_TARGET: &str = "culvert::peer";
/// Lines per second and peer (SEC-LOG-1).
const PEER_RATE: f64 = 20.0;
/// Lines that a peer may log at once: a whole handshake with all its lines.
const PEER_BURST: f64 = 100.0;
/// From this verbosity on somebody looks for a fault and wants every line.
const UNLIMITED_VERB: u8 = 6;

/// Returns the verbosity from which on an event is shown.
pub(super) fn verb_of(metadata: &Metadata<'_>) -> u8 {
    let written = metadata.target().strip_prefix("verb").and_then(|number| number.parse().ok());
    written.unwrap_or(match *metadata.level() {
        Level::ERROR | Level::WARN => 1,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 7,
    })
}

fn severity_of(metadata: &Metadata<'_>, verb: u8) -> Severity {
    match *metadata.level() {
        Level::ERROR if verb == 0 => Severity::Fatal,
        Level::ERROR => Severity::Error,
        Level::WARN => Severity::Warning,
        Level::INFO | Level::DEBUG | Level::TRACE => Severity::Info,
    }
}

/// The layer over tracing's registry of spans.
pub(super) struct Classic {
    pub(super) shared: Arc<Shared>,
}

impl<S> Layer<S> for Classic
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.shown(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.shown(metadata)
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if attributes.metadata().target() != PEER_TARGET {
            return;
        }
        let mut name = Words::default();
        attributes.record(&mut name);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Peer::new(name.name));
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(peer) = extensions.get_mut::<Peer>() {
            let mut name = Words::default();
            values.record(&mut name);
            peer.name = name.name;
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let verb = verb_of(metadata);
        if verb > self.shared.verb() {
            return;
        }
        let mut words = Words::default();
        event.record(&mut words);
        let severity = severity_of(metadata, verb);
        let now = Timestamp::now();

        let owner = context
            .event_scope(event)
            .and_then(|mut scope| scope.find(|span| span.metadata().target() == PEER_TARGET));
        let Some(owner) = owner else {
            self.shared.event(&metadata.callsite(), now, verb, severity, None, &words.finish());
            return;
        };
        let (name, verdict) = {
            let mut extensions = owner.extensions_mut();
            let Some(peer) = extensions.get_mut::<Peer>() else { return };
            let unlimited = self.shared.verb() >= UNLIMITED_VERB || severity == Severity::Fatal;
            (
                peer.name.clone(),
                if unlimited { Allowance::Write(0) } else { peer.bucket.take(Instant::now()) },
            )
        };
        if let Allowance::Write(lost) = verdict {
            if lost > 0 {
                let text = format!("{lost} lines left out: more than {PEER_RATE} per second for this peer");
                self.shared.line(now, verb, Severity::Warning, Some(&name), &text);
            }
            self.shared.event(&metadata.callsite(), now, verb, severity, Some(&name), &words.finish());
        }
    }
}

impl Classic {
    fn shown(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.is_span() {
            metadata.target() == PEER_TARGET
        } else {
            verb_of(metadata) <= self.shared.verb()
        }
    }
}

/// What a span of a peer remembers.
struct Peer {
    name: String,
    bucket: Bucket,
}

impl Peer {
    fn new(name: String) -> Self {
        Self { name, bucket: Bucket::new(Instant::now()) }
    }
}

/// Whether a line of a peer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowance {
    /// Yes; so many before it were not.
    Write(u64),
    Drop,
}

/// A token bucket: [`PEER_BURST`] lines at once, [`PEER_RATE`] per second.
struct Bucket {
    tokens: f64,
    filled: Instant,
    lost: u64,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { tokens: PEER_BURST, filled: now, lost: 0 }
    }

    fn take(&mut self, now: Instant) -> Allowance {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * PEER_RATE).min(PEER_BURST);
        self.filled = now;
        if self.tokens < 1.0 {
            self.lost += 1;
            return Allowance::Drop;
        }
        self.tokens -= 1.0;
        Allowance::Write(std::mem::take(&mut self.lost))
    }
}

/// Collects the message and other fields of an event.
#[derive(Default)]
struct Words {
    message: String,
    name: String,
    fields: String,
}

impl Words {
    fn finish(self) -> String {
        if self.fields.is_empty() { self.message } else { self.message + &self.fields }
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "name" => value.clone_into(&mut self.name),
            other => self.fields.push_str(&format!(" {other}={value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "name" => self.name = format!("{value:?}"),
            other => self.fields.push_str(&format!(" {other}={value:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// SEC-LOG-1
    #[test]
    fn a_peer_writes_20_lines_per_second_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let written = (0..1000).filter(|_| bucket.take(start) != Allowance::Drop).count();
        assert_eq!(written, 100);
        assert_eq!(bucket.take(start + Duration::from_secs(1)), Allowance::Write(900));
        let written =
            (0..1000).filter(|_| bucket.take(start + Duration::from_secs(1)) != Allowance::Drop).count();
        assert_eq!(written, 19);
    }
}
