//! Ciphers in the file of one client: what it is offered in place of what all others are.
//!
//! The session has decided before anybody knows which client it is, so it decides again. Where it found no common cipher it
//! has left that open, and decides now, too. Source: OpenVPN 2.7 `multi.c` (`multi_client_set_protocol_options`), where the
//! options of the instance are those of the file by then.

use culvert_proto::Command;
use culvert_wire::CipherName;

use super::{Server, client::State};
use crate::{
    session_task::SessionKey,
    settings::session::{data_config, own_data_config},
};

impl Server {
    /// Has the session decide by the client's own list, where it has one; returns the cipher if the client stays. One with
    /// which there is no common cipher is refused by the session.
    pub(super) fn offer_own_ciphers(&mut self, key: SessionKey) -> Option<CipherName> {
        let client = self.clients.get_mut(&key)?;
        let State::Configuring(pending) = &mut client.state else { return None };
        let capabilities = self.offload.capabilities();
        let offer =
            match (own_data_config(&self.profile, capabilities, &pending.overrides), pending.params.cipher) {
                (Some(own), _) => own,
                (None, None) => data_config(&self.profile, capabilities),
                (None, cipher) => return cipher,
            };
        let params = pending.params.offered(&offer);
        let told = client.handle.command(Command::Offer(Box::new(offer)));
        let params = params?;
        let cipher = params.cipher;
        pending.params = params;
        if !told {
            self.remove(key, "the session does not take orders any more");
        }
        cipher.filter(|_| told)
    }
}
