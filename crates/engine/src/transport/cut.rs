//! Who may cut a datagram that is too large for its path. It is a setting of the socket, not of a datagram: who needs
//! another than the usual one sets it, sends, and lets the next one set it back.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use culvert_sys::{UdpSocket, sockopt};

/// Who may cut a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cut {
    /// As the socket was made: by what the kernel knows, and by `mtu-disc`.
    #[default]
    Usual,
    /// The kernel, for an IPv6 path of this MTU, of which nobody told it.
    At(u16),
    /// Nobody: it is lost where it does not fit.
    Never,
}

/// The setting of one socket.
#[derive(Debug)]
pub(super) struct Cutting {
    /// It speaks IPv6.
    v6: bool,
    /// It is not the usual one. Until a path is found to be narrow, nobody takes the lock but who tests paths.
    changed: AtomicBool,
    now: Mutex<Cut>,
}

impl Cutting {
    pub(super) fn new(socket: &UdpSocket) -> Self {
        let v6 = sockopt::is_v6(socket).unwrap_or(false);
        Self { v6, changed: AtomicBool::new(false), now: Mutex::default() }
    }

    /// Makes one call that sends under a setting, and must not wait: others who send through the socket do, save those who
    /// looked before; theirs is a loss like any other.
    pub(super) fn with<T>(
        &self,
        socket: &UdpSocket,
        cut: Cut,
        send: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        if cut == Cut::Usual && !self.changed.load(Relaxed) {
            return send();
        }
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.store(true, Relaxed);
        // A socket that refuses cuts as it did before.
        match cut {
            Cut::At(mtu) if *now != cut => _ = self.set(socket, mtu),
            Cut::Usual | Cut::Never if *now != Cut::Usual => _ = self.set(socket, 0),
            Cut::At(_) | Cut::Usual | Cut::Never => {}
        }
        *now = if cut == Cut::Never { Cut::Usual } else { cut };
        let sent = if cut == Cut::Never {
            // Without the setting the packet would tell nothing.
            sockopt::forbid_cutting(socket).and_then(|usual| {
                let sent = send();
                let _ = sockopt::restore_mtu_discovery(socket, usual);
                sent
            })
        } else {
            send()
        };
        self.changed.store(*now != Cut::Usual, Relaxed);
        sent
    }

    fn set(&self, socket: &UdpSocket, mtu: u16) -> io::Result<()> {
        if self.v6 { sockopt::set_ipv6_mtu(socket, mtu) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who looks while a packet goes out that nobody may cut has to see that the setting is not the usual one.
    #[test]
    fn a_setting_is_known_while_it_holds() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(local.parse().unwrap(), |_| Ok(())).unwrap();
            let cutting = Cutting::new(&socket);
            let changed = |cut| {
                let meanwhile = cutting.with(&socket, cut, || Ok(cutting.changed.load(Relaxed))).unwrap();
                (meanwhile, cutting.changed.load(Relaxed))
            };
            assert_eq!(changed(Cut::Usual), (false, false), "{local}");
            assert_eq!(changed(Cut::Never), (true, false), "{local}");
            assert_eq!(changed(Cut::At(1280)), (true, true), "{local}");
            assert_eq!(changed(Cut::Never), (true, false), "{local}");
            assert_eq!(changed(Cut::At(1280)), (true, true), "{local}");
            assert_eq!(changed(Cut::Usual), (true, false), "{local}");
            let usual = sockopt::forbid_cutting(&socket).unwrap();
            sockopt::restore_mtu_discovery(&socket, usual).unwrap();
            let meanwhile =
                || cutting.with(&socket, Cut::Never, || sockopt::forbid_cutting(&socket)).unwrap();
            assert_ne!(meanwhile(), usual, "{local}");
            assert_eq!(sockopt::forbid_cutting(&socket).unwrap(), usual, "{local}");
        }
    }
}
