//! `up-delay` of a point-to-point end that waits: addresses, routes and `up` only when its peer has answered. Privileges
//! are needed until then.

use std::sync::Arc;

use culvert_config::{Profile, Role};
use culvert_mgmt::StateName;
use culvert_offload::Offload;

use super::{Server, Standing};
use crate::{
    hooks::Hooks, life::Life, management::Addresses, ovlog, session_task::SessionKey, tunnel::Completion,
    tunnel::TunnelSpec,
};

/// Whether the tunnel waits for the peer.
pub(super) fn is_set(profile: &Profile) -> bool {
    profile.scripts.up_delay && profile.role() == Role::P2p
}

impl Standing {
    /// A device of which nothing is made yet.
    pub(super) fn waiting(hooks: &Arc<Hooks>, offload: Arc<dyn Offload>) -> Self {
        Self { offload, hooks: Arc::clone(hooks), tunnel: None, completion: Completion::Complete }
    }
}

impl Server {
    /// The one peer is there: the tunnel comes up now, if it waited for that.
    pub(super) async fn come_up(
        &mut self,
        life: &mut Life,
        standing: &mut Standing,
        key: SessionKey,
    ) -> Result<(), String> {
        if standing.tunnel.is_none() {
            *standing = Standing::raise(&self.profile, &self.hooks, Arc::clone(&standing.offload)).await?;
            life.drop_privileges()?;
        }
        self.tell_peer_is_there(key);
        Ok(())
    }

    /// Says that the one peer is connected.
    pub(super) fn tell_peer_is_there(&mut self, key: SessionKey) {
        let Some(client) = self.clients.get(&key) else { return };
        ovlog!(1, "Initialization Sequence Completed");
        let tunnel = TunnelSpec::from_profile(&self.profile).addresses();
        let addresses = Addresses { remote: Some(client.remote), ..tunnel };
        self.interface.hub.set_state_at(StateName::Connected, "SUCCESS", addresses);
        self.sealed = self.profile.tls.single_session;
    }
}
