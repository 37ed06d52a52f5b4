//! systemd's notifications (`Type=notify`): a datagram to the socket named by `NOTIFY_SOCKET` (sd_notify(3)).

use culvert_sys::LocalDatagram;

/// The service manager, if it wants to know. A message that cannot be delivered is lost, as with sd_notify.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: Option<LocalDatagram>,
}

impl Notifier {
    /// Looks at the environment. Connected at once: the socket may be out of reach after `chroot`.
    #[must_use]
    pub(crate) fn from_env() -> Self {
        let name = std::env::var("NOTIFY_SOCKET").ok();
        Self { socket: name.and_then(|name| LocalDatagram::connect(&name).ok()) }
    }

    /// Whether somebody listens: then the process must not fork.
    #[must_use]
    pub(crate) fn is_active(&self) -> bool {
        self.socket.is_some()
    }

    /// After the configuration was accepted and sockets are open: `READY=1`.
    pub(crate) fn ready(&self) {
        let process = std::process::id();
        self.send(&format!("READY=1\nSTATUS=Pre-connection initialization successful\nMAINPID={process}"));
    }

    /// The tunnel is up.
    pub(crate) fn completed(&self) {
        self.send("STATUS=Initialization Sequence Completed");
    }

    /// The tunnel is up, but not everything worked.
    pub(crate) fn completed_with_errors(&self) {
        self.send("STATUS=Failed to start up: Initialization Sequence Completed With Errors\nERRNO=1");
    }

    /// The process ends: `STOPPING=1`.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(message.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn the_manager_learns_when_the_process_is_ready() {
        let path = std::env::temp_dir().join(format!("culvert-notify-{}", std::process::id()));
        let manager = UnixDatagram::bind(&path).expect("a socket for the test");
        let socket = LocalDatagram::connect(path.to_str().expect("a name")).expect("connected");
        let notifier = Notifier { socket: Some(socket) };
        notifier.ready();
        notifier.completed();
        let mut buffer = [0; 256];
        let mut next = || {
            let len = manager.recv(&mut buffer).expect("a message");
            String::from_utf8_lossy(&buffer[..len]).into_owned()
        };
        let pid = std::process::id();
        assert_eq!(
            next(),
            format!("READY=1\nSTATUS=Pre-connection initialization successful\nMAINPID={pid}")
        );
        assert_eq!(next(), "STATUS=Initialization Sequence Completed");
        std::fs::remove_file(&path).expect("the file goes");
    }
}
