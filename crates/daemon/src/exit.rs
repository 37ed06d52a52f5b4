//! How a run ends.

use culvert_config::profile::ExitCodes;
use culvert_mgmt::StateName;

use crate::{management::Management, ovlog, signals::Request};

/// The end of the process: its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// A normal end, also after a refused login.
    pub const SUCCESS: Self = Self(0);
    /// A fatal error.
    pub const FAILURE: Self = Self(1);

    /// `exit-codes distinct`: the login was refused.
    pub const LOGIN_REFUSED: Self = Self(3);
    /// `exit-codes distinct`: the peer was not reached, or fell silent.
    pub const UNREACHABLE: Self = Self(4);
    /// `exit-codes distinct`: TLS failed (`tls-exit`).
    pub const TLS_FAILED: Self = Self(5);

    /// The exit status: 0 or 1 as OpenVPN's, unless the profile asks for distinct ones.
    #[must_use]
    pub const fn status(self) -> u8 {
        self.0
    }
}

/// Why one life of a server, client or point-to-point end is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By a signal from outside.
    Signal(Request),
    /// By a signal to leave, after the peer was told (`explicit-exit-notify`).
    Told,
    /// By something that counts as a signal: its name and reason (`SIGTERM`, `auth-failure`).
    Soft(Request, &'static str),
    /// It cannot go on.
    Fatal(String),
    /// It cannot go on, since no peer was reached in as many attempts as are allowed.
    Unreachable(String),
}

/// OpenVPN's word for an end with a notification.
const TOLD: &str = "exit-with-notification";

impl Ended {
    /// Takes a signal that ends a life.
    pub(crate) const fn by_signal(request: Request) -> Self {
        Self::Signal(request)
    }

    /// The exit status of a process that ends so.
    pub(crate) fn exit(&self, codes: ExitCodes) -> Exit {
        match (codes, self) {
            (ExitCodes::Distinct, Self::Soft(_, "auth-failure")) => Exit::LOGIN_REFUSED,
            (ExitCodes::Distinct, Self::Unreachable(_) | Self::Soft(_, "ping-exit")) => Exit::UNREACHABLE,
            (ExitCodes::Distinct, Self::Soft(_, "tls-error")) => Exit::TLS_FAILED,
            (_, Self::Fatal(_) | Self::Unreachable(_)) => Exit::FAILURE,
            (_, Self::Signal(_) | Self::Told | Self::Soft(..)) => Exit::SUCCESS,
        }
    }

    /// Whether another life follows.
    pub(crate) const fn is_restart(&self) -> bool {
        matches!(self, Self::Signal(request) | Self::Soft(request, _)
            if matches!(request, Request::Restart | Request::SoftRestart))
    }

    /// What scripts see as `signal`: `sigterm`, `ping-restart`, …
    pub(crate) fn script_word(&self) -> String {
        match self {
            Self::Signal(request) | Self::Soft(request, "") => request.name().to_ascii_lowercase(),
            Self::Told => TOLD.to_owned(),
            Self::Soft(_, reason) => (*reason).to_owned(),
            Self::Fatal(_) | Self::Unreachable(_) => "UNKNOWN".to_owned(),
        }
    }

    /// Tells the management interface: EXITING or RECONNECTING, and why. Of a fatal error it learns through the log.
    pub(crate) fn tell(&self, management: &Management) {
        let (request, reason) = match self {
            Self::Signal(request) | Self::Soft(request, "") => (*request, request.name()),
            Self::Soft(request, reason) => (*request, *reason),
            Self::Told => (Request::Terminate, TOLD),
            Self::Fatal(_) | Self::Unreachable(_) => return,
        };
        let state = match request {
            Request::Restart | Request::SoftRestart => StateName::Reconnecting,
            Request::Terminate | Request::Interrupt | Request::Statistics => StateName::Exiting,
        };
        management.set_state(state, reason);
    }

    /// Writes OpenVPN's line about it.
    pub(crate) fn log(&self) {
        let (kind, request, reason) = match self {
            Self::Signal(request) => ("hard", *request, ""),
            Self::Soft(request, reason @ "connection-failed") => {
                ("connection failed(soft)", *request, *reason)
            }
            Self::Soft(request, reason) => ("soft", *request, *reason),
            Self::Told => ("soft", Request::Terminate, TOLD),
            Self::Fatal(text) | Self::Unreachable(text) => {
                for line in text.lines() {
                    ovlog!(error 0, "{line}");
                }
                ovlog!(error 0, "Exiting due to fatal error");
                return;
            }
        };
        let fate = match request {
            Request::Restart | Request::SoftRestart => "process restarting",
            Request::Terminate | Request::Interrupt | Request::Statistics => "process exiting",
        };
        ovlog!(1, "{}[{kind},{reason}] received, {fate}", request.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openvpns_codes_tell_little_and_distinct_ones_the_cause() {
        for (ended, openvpn, distinct) in [
            (Ended::Signal(Request::Terminate), 0, 0),
            (Ended::Told, 0, 0),
            (Ended::Soft(Request::Terminate, "inactive"), 0, 0),
            (Ended::Soft(Request::Terminate, "auth-failure"), 0, 3),
            (Ended::Soft(Request::Terminate, "ping-exit"), 0, 4),
            (Ended::Soft(Request::Terminate, "tls-error"), 0, 5),
            (Ended::Unreachable(String::new()), 1, 4),
            (Ended::Fatal(String::new()), 1, 1),
        ] {
            assert_eq!(ended.exit(ExitCodes::OpenVpn).status(), openvpn, "{ended:?}");
            assert_eq!(ended.exit(ExitCodes::Distinct).status(), distinct, "{ended:?}");
        }
    }
}
