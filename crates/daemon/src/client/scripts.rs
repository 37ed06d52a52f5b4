//! What scripts and plugins of a client are asked and told about its peer.

use culvert_proto::{Verdict, tls::PeerIdentity};

use super::{Client, drive::Progress};
use crate::scripts::{Hook, ScriptEnv, Trust, ipchange_arguments};

impl Client {
    /// The peer proved who it is: `ipchange` hears where it is, once for each connection and before anything is pulled.
    pub(super) async fn announce_peer(&self, progress: &mut Progress) {
        if std::mem::replace(&mut progress.announced, true) {
            return;
        }
        progress.env.set_peer_address(Trust::Trusted, progress.link.remote);
        let ipchange = self.hooks.scripts.ipchange.clone();
        let arguments = ipchange_arguments(progress.link.remote);
        self.hooks.run(Hook::IpChange, ipchange.as_ref(), &arguments, &progress.env).await;
    }

    /// `tls-verify` of a client: root first.
    pub(super) async fn judge(&self, identity: &PeerIdentity, env: &ScriptEnv) -> Verdict {
        if !self.hooks.are_set(Hook::TlsVerify, self.hooks.scripts.tls_verify.as_ref()) {
            return Verdict::Accept;
        }
        self.hooks.judge_certificates(None, identity, env).await
    }
}
