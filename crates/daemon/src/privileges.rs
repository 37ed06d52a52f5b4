//! What the process does to itself: background, user, directory, memory.
//!
//! Order: [`detach`] first of all (no thread may exist yet), [`protect`] before the first key is read,
//! [`Identity::resolve`] while the user database is still readable, [`Identity::assume`] when devices, sockets and
//! files are open.

use std::io;

use culvert_config::profile::Process;

/// Why the process could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivilegeError {
    /// No such user.
    #[error("failed to find UID for user {0}")]
    NoUser(String),
    /// No such group.
    #[error("failed to find GID for group {0}")]
    NoGroup(String),
    /// The system refused.
    #[error("{what} failed: {source}")]
    Refused {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// The user, group and directory to change to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {}

impl Identity {
    /// Looks up `user` and `group`.
    ///
    /// # Errors
    /// When there is no such user or group.
    pub fn resolve(process: &Process) -> Result<Self, PrivilegeError> {
        let _ = process;
        Ok(Self {})
    }

    /// Whether there is nothing to change to.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        true
    }

    /// Changes root directory, group and user of all threads, keeping the right to administer networks only.
    ///
    /// # Errors
    /// When a step is refused: the process must end then.
    pub fn assume(&self) -> Result<(), PrivilegeError> {
        Ok(())
    }
}

/// Goes into the background (`daemon`): forks, leaves the terminal; with a log file or syslog the standard descriptors
/// become `/dev/null`. Not under systemd's notification, which waits for the first process.
///
/// # Errors
/// When a thread is running already, or the system refuses.
pub fn detach(process: &Process, keep_output: bool) -> Result<(), PrivilegeError> {
    let _ = (process, keep_output);
    Ok(())
}

/// Makes the process unreadable for others: no core files, no ptrace (SEC-KEY-2).
///
/// # Errors
/// When the system refuses.
pub fn protect() -> Result<(), PrivilegeError> {
    Ok(())
}

/// Applies `nice` and `mlock`.
///
/// # Errors
/// When the system refuses.
pub fn schedule(process: &Process) -> Result<(), PrivilegeError> {
    let _ = process;
    Ok(())
}
