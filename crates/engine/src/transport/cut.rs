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
#[derive(Debug, Default)]
pub(super) struct Cutting {
    /// It is not the usual one. Until a path is found to be narrow, nobody takes the lock but who tests paths.
    changed: AtomicBool,
    now: Mutex<Cut>,
}

impl Cutting {
    /// Sends under a setting. Others may send through the socket meanwhile, but none who needs another one, save those
    /// who looked before: theirs is a loss like any other.
    pub(super) fn send(&self, socket: &UdpSocket, cut: Cut, send: impl FnOnce()) {
        if cut == Cut::Usual && !self.changed.load(Relaxed) {
            return send();
        }
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if let Cut::Never = cut {
            // Rare, and over at once; without the setting the packet would tell nothing.
            if let Ok(usual) = set(socket, Cut::Usual).and_then(|()| sockopt::forbid_cutting(socket)) {
                send();
                let _ = sockopt::restore_mtu_discovery(socket, usual);
            }
            self.changed.store(false, Relaxed);
            *now = Cut::Usual;
            return;
        }
        if *now != cut {
            // A socket that refuses cuts as it did before.
            let _ = set(socket, cut);
            *now = cut;
            self.changed.store(cut != Cut::Usual, Relaxed);
        }
        send();
    }
}

fn set(socket: &UdpSocket, cut: Cut) -> io::Result<()> {
    let mtu = match cut {
        Cut::At(mtu) => mtu,
        Cut::Usual | Cut::Never => 0,
    };
    if sockopt::is_v6(socket)? { sockopt::set_ipv6_mtu(socket, mtu) } else { Ok(()) }
}
