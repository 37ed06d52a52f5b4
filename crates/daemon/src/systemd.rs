//! systemd's notifications (`Type=notify`): a datagram to the socket named by `NOTIFY_SOCKET`.

/// The service manager, if it wants to know.
#[derive(Debug)]
pub struct Notifier {}

impl Notifier {
    /// Looks at the environment.
    #[must_use]
    pub fn from_env() -> Self {
        Self {}
    }

    /// Whether somebody listens: then the process must not fork.
    #[must_use]
    pub fn is_active(&self) -> bool {
        false
    }

    /// After the configuration was accepted and sockets are open: `READY=1`.
    pub fn ready(&self) {}

    /// The tunnel is up: `STATUS=Initialization Sequence Completed`.
    pub fn completed(&self) {}

    /// The tunnel is up with errors.
    pub fn completed_with_errors(&self) {}

    /// Any other status line.
    pub fn status(&self, text: &str) {
        let _ = text;
    }

    /// The process ends: `STOPPING=1`.
    pub fn stopping(&self) {}
}
