//! Ciphers in the file of one client: what it is offered in place of what all others are.
//!
//! The session has decided before anybody knows which client it is, so it decides again. Source: OpenVPN 2.7 `multi.c`
//! (`multi_client_set_protocol_options`), where the options of the instance are those of the file by then.

use culvert_proto::Command;

use super::{Server, client::State};
use crate::{session_task::SessionKey, settings::session::own_data_config};

impl Server {
    /// Has the session decide by the client's own list, where it has one; returns whether the client stays. One with which
    /// there is no common cipher is refused by the session.
    pub(super) fn offer_own_ciphers(&mut self, key: SessionKey) -> bool {
        let Some(client) = self.clients.get_mut(&key) else { return false };
        let State::Configuring(pending) = &mut client.state else { return false };
        let Some(offer) = own_data_config(&self.profile, self.offload.capabilities(), &pending.overrides)
        else {
            return true;
        };
        let params = pending.params.offered(&offer);
        let told = client.handle.command(Command::Offer(Box::new(offer)));
        match params {
            Some(params) => pending.params = params,
            None => return false,
        }
        if !told {
            self.remove(key, "the session does not take orders any more");
        }
        told
    }
}
