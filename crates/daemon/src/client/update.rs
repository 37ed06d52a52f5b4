//! PUSH_UPDATE: what the server pushed changes while the tunnel carries traffic, in place.

use std::sync::Arc;

use culvert_config::{PushFilter, UpdateSequence, profile::ConnectionEntry};
use culvert_offload::{Offload, PeerChange};
use culvert_wire::OffloadKind;
use tracing::{error, warn};

use super::{Client, Outcome, Restart, drive::Progress};
use crate::{
    ovlog,
    tunnel::{Completion, TunnelSpec},
};

impl Client {
    /// Applies an update: all its messages together. One that cannot be applied is answered with a new connection, which
    /// brings the server's options anew.
    pub(super) async fn update(
        &mut self,
        entry: &ConnectionEntry,
        progress: &mut Progress,
        offload: &Arc<dyn Offload>,
        items: &[String],
    ) -> Option<Outcome> {
        let failed = || Some(Outcome::Restart(Restart::because("process-push-msg-failed")));
        let mut pushed = progress.pushed.clone();
        pushed.notes.clear();
        let message = format!("PUSH_UPDATE,{}", items.join(","));
        let filter = PushFilter::new(&self.profile.client);
        if let Err(rejected) = filter.update(&message, &mut UpdateSequence::default(), &mut pushed) {
            error!("{rejected}");
            return failed();
        }
        for note in &pushed.notes {
            ovlog!(1, "{note}");
        }
        progress.pushed = pushed;
        let spec = TunnelSpec::from_profile(&self.profile).with_pushed(&progress.pushed);
        self.update_peer(entry, progress, offload, &spec);
        let Some(up) = &mut self.up else { return None };
        up.guard.refuse_ipv6(&up.device, spec.routes.block_ipv6);
        // Until it is done: a device that is half changed must not be taken for what was pushed.
        up.made_of.clear();
        let updown = &self.profile.routes.dns_updown;
        match up.tunnel.change(&spec, &up.device.name, updown, Some(progress.link.outside())).await {
            Ok(completion) => {
                up.made_of = progress.pushed.lasting().map(str::to_owned).collect();
                match completion {
                    Completion::Complete => {
                        ovlog!(1, "PUSH_UPDATE: the pushed options were updated in place");
                    }
                    Completion::WithErrors => {
                        ovlog!(warn 1, "PUSH_UPDATE: the pushed options were updated, with errors; see above");
                    }
                }
                // With the addresses as they are now.
                self.tell_connected(progress, &spec, completion);
            }
            Err(failure) => {
                ovlog!(error 1, "PUSH_UPDATE: {failure}");
                return failed();
            }
        }
        None
    }

    /// The room that a packet has follows the MTU.
    fn update_peer(
        &mut self,
        entry: &ConnectionEntry,
        progress: &mut Progress,
        offload: &Arc<dyn Offload>,
        spec: &TunnelSpec,
    ) {
        let Some((params, peer)) = progress.params.clone().zip(progress.peer) else { return };
        let Some(wanted) = self.peer_spec(entry, progress, spec, &params) else { return };
        let by_kernel = offload.placement(&wanted).kind != OffloadKind::Engine;
        let change = PeerChange { mss: Some(wanted.mss), ..PeerChange::default() };
        if !by_kernel && let Err(failure) = offload.peer_set(peer, &change) {
            warn!("the MSS limit stays as it was: {failure}");
        }
        if let Some(up) = &mut self.up {
            up.guard.clamp_to(&up.device, wanted.mss.filter(|_| by_kernel));
        }
    }
}
