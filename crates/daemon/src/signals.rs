//! Signals, by OpenVPN's meaning.

use std::{
    io,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

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

/// What somebody within the process asks for. As with signals, one of each kind may be pending: however late they are
/// looked at, none is lost. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pending: Arc<Mutex<Vec<Request>>>,
    wake: Arc<Notify>,
}

impl Asked {
    /// Asks for something.
    pub fn raise(&self, request: Request) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if !pending.contains(&request) {
            pending.push(request);
        }
        self.wake.notify_one();
    }

    /// Waits for the next request; the oldest comes first. Cancel safe.
    pub async fn next(&self) -> Request {
        loop {
            let first = {
                let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
                (!pending.is_empty()).then(|| pending.remove(0))
            };
            if let Some(request) = first {
                return request;
            }
            self.wake.notified().await;
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
    asked: Asked,
}

#[cfg(unix)]
impl Signals {
    /// Does something that takes time, unless a signal ends it. Asking for statistics ends nothing.
    ///
    /// # Errors
    /// The signal.
    pub(crate) async fn unless_any<T>(
        &mut self,
        work: impl Future<Output = T>,
        log_statistics: impl Fn(),
    ) -> Result<T, Request> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                request = self.next() => match request {
                    Request::Statistics => log_statistics(),
                    request => return Err(request),
                },
            }
        }
    }

    /// Starts to listen. Within the runtime. What arrives at `asked` counts like a signal.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new(asked: Asked) -> io::Result<Self> {
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
            request = self.asked.next() => request,
            Some(()) = self.hangup.recv() => Request::Restart,
            Some(()) = self.user1.recv() => Request::SoftRestart,
            Some(()) = self.user2.recv() => Request::Statistics,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn signals_have_openvpns_meaning() {
        let mut signals = Signals::new(Asked::default()).expect("the system permits it");
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

    #[tokio::test]
    async fn what_is_asked_for_is_never_lost() {
        let asked = Asked::default();
        for _ in 0..100 {
            asked.raise(Request::Statistics);
        }
        asked.raise(Request::Terminate);
        assert_eq!(asked.next().await, Request::Statistics);
        assert_eq!(asked.next().await, Request::Terminate);
    }
}
