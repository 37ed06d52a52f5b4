//! Signals, by OpenVPN's meaning.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

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

/// The signals of this process. From its making on they no longer end it. (SIGPIPE is ignored from the start.)
#[cfg(unix)]
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    user1: Signal,
    user2: Signal,
    terminate: Signal,
    interrupt: Signal,
    /// What the management interface asks for.
    asked: mpsc::Receiver<Request>,
}

#[cfg(unix)]
impl Signals {
    /// Starts to listen. Within the runtime. What arrives at `asked` counts like a signal.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new(asked: mpsc::Receiver<Request>) -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            asked,
        })
    }

    /// Waits for the next signal. Cancel safe. Ending comes before restarting when several are there.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            biased;
            Some(()) = self.terminate.recv() => Request::Terminate,
            Some(()) = self.interrupt.recv() => Request::Interrupt,
            Some(request) = self.asked.recv() => request,
            Some(()) = self.hangup.recv() => Request::Restart,
            Some(()) = self.user1.recv() => Request::SoftRestart,
            Some(()) = self.user2.recv() => Request::Statistics,
            // Only when the runtime is going down.
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn signals_have_openvpns_meaning() {
        let (_management, asked) = mpsc::channel(1);
        let mut signals = Signals::new(asked).expect("the system permits it");
        let send = |name: &str| {
            let status = Command::new("kill").args([name, &std::process::id().to_string()]).status();
            assert!(status.expect("kill(1) is there").success());
        };
        for (name, request) in [
            ("-HUP", Request::Restart),
            ("-USR1", Request::SoftRestart),
            ("-USR2", Request::Statistics),
            ("-TERM", Request::Terminate),
            ("-INT", Request::Interrupt),
        ] {
            send(name);
            assert_eq!(signals.next().await, request);
        }
    }
}
