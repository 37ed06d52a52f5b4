//! The log: OpenVPN's classic lines, from `tracing` events.
//!
//! The walk: [`Logger::install`] makes this the process's subscriber. [`crate::ovlog!`] says at which `verb` a line
//! appears; library crates use `tracing`'s own macros, whose levels are mapped: error and warn appear at verb 1, info
//! at 3, debug at 4, trace at 7; a library that needs another number gives the target `"verbN"`. A line inside a
//! [`PeerSpan`] begins with the peer's name. The formatted line goes to a queue of 8192 lines, which a thread
//! ([`Logger::start_writer`]) empties: logging never waits for a disk (SEC-LOG-2). Until the thread is started (it must
//! not be, before `daemon` forks) lines are written at once.
//!
//! Control characters in a line are escaped as `\x0a`: a line is one line whatever a peer sent (SEC-LOG-1).

mod layer;
mod line;
mod mute;
mod outage;
mod sink;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use culvert_config::{LogDestination, profile};
use jiff::{Timestamp, tz::TimeZone};
use tracing_subscriber::layer::SubscriberExt as _;

use self::{
    layer::Classic,
    line::Prefix,
    mute::{Mute, Muted},
    outage::Destination,
    sink::Sink,
    writer::{Entry, Owner, Queue},
};

pub use line::Severity as Gravity;
use line::Severity;

/// Somebody who wants every line that is logged, beside the log.
pub trait LogTap: Send + Sync {
    /// Takes a line: from which verbosity on it appears, how grave it is, whose it is, what it says. Called within the
    /// log's lock: it must neither wait nor log.
    fn line(&self, verb: u8, gravity: Gravity, peer: Option<&str>, text: &str);
}

/// How lines look and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent options")]
pub struct LogConfig {
    /// `verb`, 0 to 11.
    pub verb: u8,
    /// `mute`.
    pub mute: Option<u32>,
    /// `suppress-timestamps`.
    pub suppress_timestamps: bool,
    /// `machine-readable-output`.
    pub machine_readable: bool,
    /// `log-json`.
    pub json: bool,
    /// `errors-to-stderr`.
    pub errors_to_stderr: bool,
    /// Where to.
    pub destination: LogDestination,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self::from(&profile::Log::default())
    }
}

impl From<&profile::Log> for LogConfig {
    fn from(log: &profile::Log) -> Self {
        Self {
            verb: log.verb,
            mute: log.mute,
            suppress_timestamps: log.suppress_timestamps,
            machine_readable: log.machine_readable,
            json: log.json,
            errors_to_stderr: log.errors_to_stderr,
            destination: log.destination.clone(),
        }
    }
}

/// Another configuration that can come into force ([`Logger::prepare`]).
pub(crate) struct LogChange {
    config: LogConfig,
    /// Where to, if that changed.
    sink: Option<Sink>,
}

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file.
    #[error("Cannot open log file '{}': {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another subscriber was there first.
    #[error("the process has a log already")]
    Installed,
}

/// The process's log. Clones are the same log.
#[derive(Clone, Debug)]
pub struct Logger {
    shared: Arc<Shared>,
}

/// What the layer and the handles share.
#[derive(Debug)]
struct Shared {
    verb: AtomicU8,
    zone: TimeZone,
    /// Lines that could not be written.
    lost: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tap: Tap,
    config: LogConfig,
    prefix: Prefix,
    mute: Mute,
    output: Output,
}

/// The tap, or what it is to be shown once it is there: the first lines say which program runs.
enum Tap {
    Awaited(Vec<EarlyLine>),
    None,
    There(Arc<dyn LogTap>),
}

/// Lines that are kept for a tap.
const EARLY_LINES: usize = 100;

/// A line from before the tap.
struct EarlyLine {
    verb: u8,
    severity: Severity,
    peer: Option<String>,
    text: String,
}

impl Default for Tap {
    fn default() -> Self {
        Self::Awaited(Vec::new())
    }
}

impl Tap {
    fn show(&mut self, verb: u8, severity: Severity, peer: Option<&str>, text: &str) {
        match self {
            Self::Awaited(lines) if lines.len() < EARLY_LINES => {
                let (peer, text) = (peer.map(str::to_owned), text.to_owned());
                lines.push(EarlyLine { verb, severity, peer, text });
            }
            Self::Awaited(_) | Self::None => {}
            Self::There(tap) => tap.line(verb, severity, peer, text),
        }
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tap").field(&matches!(self, Self::There(_))).finish()
    }
}

impl State {
    /// Writes a line, and shows it to the tap.
    fn write(&mut self, now: Timestamp, verb: u8, severity: Severity, peer: Option<&str>, text: &str) {
        let line = line::render(&self.prefix, now, verb, severity, peer, text);
        self.output.write(severity, line, &self.prefix);
        self.tap.show(verb, severity, peer, text);
    }
}

/// Where finished lines go.
#[derive(Debug)]
enum Output {
    /// Written by the caller: before the process forks.
    Direct(Destination),
    /// Written by the thread.
    Queue(Arc<Queue>),
}

impl Output {
    fn write(&mut self, severity: Severity, line: String, prefix: &Prefix) {
        match self {
            Self::Direct(destination) => {
                let render = |severity, text: &str| own_line(prefix, severity, text);
                // Nobody else sees the log yet.
                let _alarm = destination.write(severity, &line, &render);
            }
            Self::Queue(queue) => queue.push(Entry::Line(severity, line)),
        }
    }
}

/// A line about the log itself.
fn own_line(prefix: &Prefix, severity: Severity, text: &str) -> String {
    line::render(prefix, Timestamp::now(), 1, severity, None, text)
}

/// The log, as long as there is one.
struct Log(Weak<Shared>);

impl Owner for Log {
    fn render(&self, severity: Severity, text: &str) -> String {
        let shared = self.0.upgrade();
        shared.map_or_else(|| text.to_owned(), |shared| own_line(&shared.lock().prefix, severity, text))
    }

    fn alarm(&self, text: &str) {
        if let Some(shared) = self.0.upgrade() {
            shared.lock().tap.show(1, Severity::Error, None, text);
        }
    }
}

impl Shared {
    fn new(config: LogConfig, sink: Sink, zone: TimeZone) -> Self {
        let mut mute = Mute::default();
        mute.set_limit(config.mute);
        let lost = Arc::<AtomicU64>::default();
        Self {
            verb: AtomicU8::new(config.verb),
            state: Mutex::new(State {
                tap: Tap::default(),
                prefix: prefix_of(&config, &zone),
                mute,
                output: Output::Direct(Destination::new(sink, Arc::clone(&lost))),
                config,
            }),
            lost,
            zone,
        }
    }

    fn verb(&self) -> u8 {
        self.verb.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an event's line, unless it is muted.
    fn event(
        &self,
        kind: &tracing::callsite::Identifier,
        now: Timestamp,
        verb: u8,
        severity: Severity,
        peer: Option<&str>,
        text: &str,
    ) {
        let mut state = self.lock();
        match state.mute.look(kind) {
            Muted::Write(note) => {
                if let Some(note) = note {
                    state.write(now, 1, Severity::Info, None, &note);
                }
                state.write(now, verb, severity, peer, text);
            }
            Muted::Skip(Some(note)) => state.write(now, 1, Severity::Info, None, note),
            Muted::Skip(None) => {}
        }
    }

    /// Writes a line that no event stands for.
    fn line(&self, now: Timestamp, verb: u8, severity: Severity, peer: Option<&str>, text: &str) {
        self.lock().write(now, verb, severity, peer, text);
    }
}

fn prefix_of(config: &LogConfig, zone: &TimeZone) -> Prefix {
    if config.json {
        Prefix::Json
    } else if config.machine_readable {
        Prefix::Machine
    } else if config.suppress_timestamps || matches!(config.destination, LogDestination::Syslog(_)) {
        Prefix::Nothing
    } else {
        Prefix::Clock { zone: zone.clone(), micros: config.verb >= 4 }
    }
}

#[cfg(test)]
impl Logger {
    /// One that keeps everything to itself.
    pub(crate) fn silent() -> Self {
        Self::build(LogConfig::default(), Sink::Memory(Arc::default()), TimeZone::UTC).0
    }
}

impl Logger {
    /// Opens the destination and makes this the subscriber of all `tracing` events. Lines are written at once.
    ///
    /// # Errors
    /// When the file cannot be opened, or at the second call.
    pub fn install(config: LogConfig) -> Result<Self, LogError> {
        // Read now: the file of the time zone may be out of reach after chroot.
        let zone = TimeZone::system();
        let sink = Sink::open(&config.destination, config.errors_to_stderr, &zone)?;
        let (logger, subscriber) = Self::build(config, sink, zone);
        tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Installed)?;
        Ok(logger)
    }

    fn build(
        config: LogConfig,
        sink: Sink,
        zone: TimeZone,
    ) -> (Self, impl tracing::Subscriber + Send + Sync) {
        let shared = Arc::new(Shared::new(config, sink, zone));
        let subscriber = tracing_subscriber::registry().with(Classic { shared: Arc::clone(&shared) });
        (Self { shared }, subscriber)
    }

    /// Makes standard output and error lead into the log's file too, as OpenVPN does: what scripts and plugins print is
    /// found there, also of a process in the background.
    ///
    /// # Errors
    /// When the file cannot be opened again, or the system refuses.
    pub(crate) fn take_standard_output(path: &std::path::Path) -> Result<(), LogError> {
        let file = sink::open_file(path, true)?;
        let before = culvert_sys::process::redirect_output(&file)
            .map_err(|source| LogError::File { path: path.to_owned(), source })?;
        // The first one stays: later ones are logs.
        let _again = outage::STANDARD_ERROR.set(before);
        Ok(())
    }

    /// Applies another configuration; the destination is opened anew only if it changed.
    ///
    /// # Errors
    /// When the file cannot be opened; everything stays as it was then.
    pub fn reconfigure(&self, config: LogConfig) -> Result<(), LogError> {
        self.prepare(config).map(|change| self.apply(change))
    }

    /// Does that part of [`Self::reconfigure`] which may fail, or wait for a slow disk; nothing is changed.
    pub(crate) fn prepare(&self, config: LogConfig) -> Result<LogChange, LogError> {
        let state = self.shared.lock();
        let same = state.config.destination == config.destination
            && state.config.errors_to_stderr == config.errors_to_stderr;
        drop(state);
        // Whoever logs meanwhile does not wait for a slow disk.
        let sink = (!same)
            .then(|| Sink::open(&config.destination, config.errors_to_stderr, &self.shared.zone))
            .transpose()?;
        Ok(LogChange { config, sink })
    }

    /// Does the rest.
    pub(crate) fn apply(&self, LogChange { config, sink }: LogChange) {
        let mut state = self.shared.lock();
        if let Some(sink) = sink {
            match &mut state.output {
                Output::Direct(old) => old.switch(sink),
                Output::Queue(queue) => queue.push(Entry::Switch(sink)),
            }
        }
        state.prefix = prefix_of(&config, &self.shared.zone);
        state.mute.set_limit(config.mute);
        let verb = config.verb;
        state.config = config;
        drop(state);
        self.set_verb(verb);
    }

    /// Starts the writer thread: from here on no caller waits. After `daemon` forked, and before the runtime. A second
    /// call does nothing.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start_writer(&self) -> io::Result<()> {
        let mut state = self.shared.lock();
        let Output::Direct(destination) = &mut state.output else { return Ok(()) };
        let nowhere = Destination::new(Sink::Stdout { split: false }, Arc::default());
        let destination = std::mem::replace(destination, nowhere);
        let owner = Log(Arc::downgrade(&self.shared));
        state.output = Output::Queue(Queue::start(destination, owner)?);
        Ok(())
    }

    /// Changes `verb` (pushed, or by the management interface).
    pub fn set_verb(&self, verb: u8) {
        let mut state = self.shared.lock();
        state.config.verb = verb;
        state.prefix = prefix_of(&state.config, &self.shared.zone);
        drop(state);
        if self.shared.verb.swap(verb, Ordering::Relaxed) != verb {
            tracing::callsite::rebuild_interest_cache();
        }
    }

    /// Returns `verb`: scripts see it.
    #[must_use]
    pub fn verb(&self) -> u8 {
        self.shared.verb()
    }

    /// Returns the time zone of the machine.
    #[must_use]
    pub fn zone(&self) -> TimeZone {
        self.shared.zone.clone()
    }

    /// Returns how many lines could not be written so far.
    #[must_use]
    pub fn lost_lines(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Changes `mute`.
    pub fn set_mute(&self, mute: Option<u32>) {
        let mut state = self.shared.lock();
        state.config.mute = mute;
        state.mute.set_limit(mute);
    }

    /// Returns `mute`.
    #[must_use]
    pub fn mute(&self) -> Option<u32> {
        self.shared.lock().config.mute
    }

    /// Shows every line to somebody else, too: what was logged so far, and what comes. `None`: nobody is interested.
    pub fn set_tap(&self, tap: Option<Arc<dyn LogTap>>) {
        let mut state = self.shared.lock();
        let new = tap.map_or(Tap::None, Tap::There);
        if let Tap::Awaited(lines) = std::mem::replace(&mut state.tap, new) {
            for EarlyLine { verb, severity, peer, text } in lines {
                state.tap.show(verb, severity, peer.as_deref(), &text);
            }
        }
    }

    /// Writes a line as it is, without time stamp: answers to questions. It may be several lines.
    pub fn plain(&self, line: &str) {
        let state = &mut *self.shared.lock();
        state.output.write(Severity::Info, line.to_owned(), &state.prefix);
    }

    /// Writes a line as it is, without time stamp: `Options error:` and what explains it.
    pub fn plain_error(&self, line: &str) {
        let state = &mut *self.shared.lock();
        state.output.write(Severity::Fatal, line.to_owned(), &state.prefix);
    }

    /// Waits until what was logged so far is written, but not longer than a second.
    pub fn flush(&self) {
        let queue = match &self.shared.lock().output {
            Output::Direct(_) => return,
            Output::Queue(queue) => Arc::clone(queue),
        };
        queue.flush();
    }
}

/// The name of a peer in front of its lines: `udp4:192.0.2.1:1194`, after its login `CN/udp4:192.0.2.1:1194`.
///
/// Enter it with `tracing::Instrument` (`task.instrument(peer.span())`), or `let _in = peer.enter();`.
#[derive(Clone, Debug)]
pub struct PeerSpan {
    span: tracing::Span,
}

impl PeerSpan {
    /// Returns a span of a peer with this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { span: tracing::info_span!(target: layer::PEER_TARGET, "peer", name) }
    }

    /// Changes the name.
    pub fn rename(&self, name: &str) {
        self.span.record("name", name);
    }

    /// Returns the span.
    #[must_use]
    pub fn span(&self) -> tracing::Span {
        self.span.clone()
    }

    /// Enters the span until the guard is dropped. Not across an await.
    pub fn enter(&self) -> tracing::span::EnteredSpan {
        self.span.clone().entered()
    }
}

/// Logs a message of several lines as errors of verb 1: the reason, then what to do about it. The text is ours: whatever
/// came from a peer has lost its line ends before.
pub(crate) fn log_error_lines(text: &str) {
    for line in text.lines() {
        crate::ovlog!(error 1, "{line}");
    }
}

/// Logs a line that appears from this `verb` on: `ovlog!(1, "Initialization Sequence Completed")`.
///
/// `ovlog!(error 1, …)` and `ovlog!(warn 1, …)` also mark the line as error or warning (syslog priority, flags of
/// machine-readable output, `errors-to-stderr`).
#[macro_export]
macro_rules! ovlog {
    (error $verb:literal, $($text:tt)+) => {
        ::tracing::event!(target: concat!("verb", $verb), ::tracing::Level::ERROR, $($text)+)
    };
    (warn $verb:literal, $($text:tt)+) => {
        ::tracing::event!(target: concat!("verb", $verb), ::tracing::Level::WARN, $($text)+)
    };
    ($verb:literal, $($text:tt)+) => {
        ::tracing::event!(target: concat!("verb", $verb), ::tracing::Level::INFO, $($text)+)
    };
}
