//! What the data plane tells of the peer, and of its device.

use culvert_config::{profile::ConnectionEntry, value::PingAction};
use culvert_offload::{DeleteReason, OffloadEvent};
use culvert_proto::Command;

use super::{Advance, Client, Outcome, Restart, drive::Progress};
use crate::{address::AfAddress, exit::Ended, ovlog, signals::Request, sizes};

impl Client {
    pub(super) fn handle_offload(
        &mut self,
        entry: &ConnectionEntry,
        progress: &mut Progress,
        event: OffloadEvent,
    ) -> Option<Outcome> {
        match event {
            OffloadEvent::PeerGone(peer, ..) | OffloadEvent::ExitNotified(peer)
                if progress.peer != Some(peer) =>
            {
                None
            }
            OffloadEvent::PeerGone(_, DeleteReason::Expired, _) => {
                progress.peer = None;
                Some(progress.fell_silent())
            }
            // Also when somebody else removed it: without a peer in the data plane there is no connection.
            OffloadEvent::PeerGone(..) => {
                progress.peer = None;
                ovlog!(1, "Connection reset, restarting [0]");
                Some(Outcome::Restart(Restart::because("connection-reset")))
            }
            OffloadEvent::ExitNotified(_) => Some(Outcome::Restart(Restart::because("remote-exit"))),
            // News of a peer of an earlier session on a device that was kept.
            OffloadEvent::KeyExhausted(peer, _)
            | OffloadEvent::Floated(peer, _)
            | OffloadEvent::PathMtu(peer, _)
            | OffloadEvent::SizesMeasured(peer, _)
                if progress.peer != Some(peer) =>
            {
                None
            }
            OffloadEvent::KeyExhausted(..) => {
                progress.link.session.command(Command::Renegotiate);
                None
            }
            OffloadEvent::Floated(_, address) => {
                ovlog!(1, "peer moved to {}", AfAddress(address));
                progress.link.remote = address;
                progress.link.session.command(Command::Floated(address));
                None
            }
            OffloadEvent::PathMtu(..) | OffloadEvent::SizesMeasured(..) => {
                sizes::log(&event, &entry.mtu);
                None
            }
            // A client's device has one peer, of which nothing is learned.
            OffloadEvent::Learned { .. } | OffloadEvent::Forgotten(..) => None,
            OffloadEvent::DeviceGone => Some(self.lost_device()),
        }
    }

    /// The device was removed, or its module: the next attempt makes another.
    pub(super) fn lost_device(&mut self) -> Outcome {
        ovlog!(error 1, "the tunnel device is gone: connecting again with a new one");
        self.device_lost = true;
        Outcome::Restart(Restart { advance: Advance::Stay, ..Restart::because("device-gone") })
    }
}

impl Progress {
    /// Nothing was heard for the time of `ping-restart` or `ping-exit`.
    pub(super) fn fell_silent(&self) -> Outcome {
        // As OpenVPN: whose silence it is.
        let server = self.env.get("X509_0_CN").unwrap_or("UNDEF");
        match self.on_silence {
            PingAction::Restart => {
                ovlog!(1, "[{server}] Inactivity timeout (--ping-restart), restarting");
                Outcome::Restart(Restart::because("ping-restart"))
            }
            PingAction::Exit => {
                ovlog!(1, "[{server}] Inactivity timeout (--ping-exit), exiting");
                Outcome::Ended(Ended::Soft(Request::Terminate, "ping-exit"))
            }
        }
    }
}
