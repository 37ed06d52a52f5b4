//! A signal within a session: this end leaves, and may tell the peer first (`explicit-exit-notify`).

use std::{sync::Arc, time::Duration};

use culvert_offload::Offload;
use culvert_proto::Command;
use tokio::time::Instant;
use tracing::debug;

use super::{Client, Outcome, Restart, drive::Progress};
use crate::{exit::Ended, ovlog, signals::Request};

impl Client {
    pub(super) fn handle_signal(
        &self,
        progress: &mut Progress,
        offload: &Arc<dyn Offload>,
        request: Request,
    ) -> Option<Outcome> {
        match request {
            Request::Statistics => {
                self.log_statistics();
                return None;
            }
            Request::SoftRestart => {
                return Some(Outcome::Restart(Restart::by_hand()));
            }
            Request::Restart | Request::Terminate | Request::Interrupt => {}
        }
        let notify = self.exit_notify(progress);
        let (Some(peer), true, None) = (progress.peer, notify > 0, &progress.leaving) else {
            // A second signal, or nobody to tell.
            return Some(Outcome::Ended(Ended::by_signal(request)));
        };
        let ended = match request {
            Request::Terminate | Request::Interrupt => {
                ovlog!(1, "SIGTERM received, sending exit notification to peer");
                Ended::Told
            }
            request => Ended::by_signal(request),
        };
        let wait = if progress.cc_exit {
            progress.link.session.command(Command::Exit);
            Duration::from_secs(u64::from(notify))
        } else {
            if let Err(failure) = offload.notify_exit(peer) {
                debug!("cannot tell the peer: {failure}");
            }
            // The packet leaves at once; nothing answers it.
            Duration::from_millis(100)
        };
        progress.leaving = Some((Instant::now() + wait, ended));
        None
    }

    fn exit_notify(&self, progress: &Progress) -> u32 {
        let configured =
            self.profile.connections.get(self.remotes.current()).map_or(0, |e| e.explicit_exit_notify);
        progress.pushed.explicit_exit_notify.unwrap_or(configured)
    }
}
