//! What ends sessions that are under way: a certificate that was revoked, a client that its file disables, a user who is
//! no longer in the file of users ([`super::users`]).
//!
//! Clients are judged again when the files behind a judgement change ([`super::watch`]), and at every reload. Who can no
//! longer be judged, because a list is garbage or a file cannot be read, stays, and is judged again later: nobody new is
//! let in meanwhile. Who is on its way while rules change is judged by the new ones before it is connected.

use std::sync::Arc;

use culvert_proto::{
    Command,
    tls::{Expiries, PeerIdentity, Standing, TlsFactory},
};

use super::{
    Server,
    admission::{Collected, Decision, Refused},
    client::State,
};
use crate::{ovlog, session_task::SessionKey};

/// Counts how often the rules for clients changed: whoever was judged by former ones is judged once more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// Those for certificates.
    certificates: u64,
    /// Those in clients' own files.
    files: u64,
}

/// All certificates were judged again, and who is to leave was named.
#[derive(Debug)]
pub(super) struct Round {
    by: Rules,
    /// Why some could not be judged.
    unknown: Option<String>,
    expiries: Expiries,
}

/// Judges certificates; hands over who is to leave and why, until nobody takes it. Returns why others could not be
/// judged: once is enough to say so, and keeps nobody else from being judged, whose list can be read.
fn judge(
    tls: &dyn TlsFactory,
    peers: Vec<(SessionKey, Arc<PeerIdentity>)>,
    mut withdraw: impl FnMut(SessionKey, String) -> bool,
) -> Option<String> {
    let mut unknown = None;
    for (key, identity) in peers {
        match tls.judge_again(&identity) {
            Standing::Good => {}
            Standing::Withdrawn(reason) => {
                if !withdraw(key, reason) {
                    break;
                }
            }
            Standing::Unknown(reason) => unknown = unknown.or(Some(reason)),
        }
    }
    unknown
}

impl Server {
    /// Judges every connected client's certificate by rules and lists as they are now, on a thread of its own.
    pub(super) fn judge_certificates_again(&mut self) {
        self.rules.certificates += 1;
        let by = self.rules;
        let connected = self.clients.iter().filter(|(_, client)| client.connected().is_some());
        let peers: Vec<_> = connected.map(|(&key, client)| (key, Arc::clone(&client.identity))).collect();
        let (tls, decisions) = (self.tls.current(), self.admission.decisions.clone());
        tokio::task::spawn_blocking(move || {
            let withdraw = |key, reason| decisions.blocking_send(Decision::Withdrawn(key, reason)).is_ok();
            let unknown = judge(&*tls, peers, withdraw);
            let round = Round { by, unknown, expiries: tls.expiries() };
            let _gone = decisions.blocking_send(Decision::Judged(round));
        });
    }

    /// A round of judgements is over.
    pub(super) fn round_judged(&mut self, round: Round) {
        if round.by.certificates != self.rules.certificates {
            return; // another one is under way
        }
        self.expiries = round.expiries;
        if let Some(reason) = self.watch.judged(round.unknown) {
            ovlog!(
                error 1,
                "{reason}; clients that are connected stay, nobody new is let in until --crl-verify can be read"
            );
        }
    }

    /// Collects every connected client's own configuration again.
    pub(super) fn judge_clients_again(&mut self) {
        self.rules.files += 1;
        for (&key, client) in &self.clients {
            if let Some(connected) = client.connected() {
                self.admission.judge_again(key, connected.own_name.clone(), connected.added.clone());
            }
        }
    }

    /// A connected client's own configuration was collected again.
    pub(super) fn collected_again(&mut self, key: SessionKey, collected: Result<Box<Collected>, Refused>) {
        match collected {
            Ok(collected) => self.reconfigure(key, &collected.overrides),
            Err(Refused::Withdrawn(reason)) => self.dismiss(key, &reason),
            Err(Refused::Unreadable(reason)) => {
                if let Some(client) = self.clients.get(&key) {
                    let _in = client.span.enter();
                    ovlog!(error 1, "{reason}; this client stays as it is");
                }
            }
        }
    }

    /// Whether rules changed since this client was judged. Then it is judged by those of now, and
    /// [`Self::newcomer_judged`] goes on with it.
    pub(super) fn judges_newcomer_again(&mut self, key: SessionKey) -> bool {
        let rules = self.rules;
        let Some(client) = self.clients.get_mut(&key) else { return false };
        let State::Configuring(pending) = &client.state else { return false };
        if std::mem::replace(&mut client.rules, rules) == rules {
            return false;
        }
        let identity = Arc::clone(&client.identity);
        self.admission.judge_newcomer_again(
            key,
            (self.tls.current(), identity),
            pending.own_name.clone(),
            pending.added.clone(),
        );
        true
    }

    /// A client on its way was judged by rules that changed meanwhile.
    pub(super) fn newcomer_judged(
        &mut self,
        key: SessionKey,
        standing: Standing,
        collected: Result<Box<Collected>, Refused>,
    ) {
        match (standing, collected) {
            (Standing::Withdrawn(reason) | Standing::Unknown(reason), _) => self.refuse(key, &reason),
            (Standing::Good, Err(refused)) => self.refuse(key, &refused.into_reason()),
            (Standing::Good, Ok(collected)) => self.collected_anew(key, *collected),
        }
    }

    /// Ends a session that is no longer wanted. The client is told to connect again, and hears then what is wrong.
    pub(super) fn dismiss(&mut self, key: SessionKey, reason: &str) {
        let Some(client) = self.clients.get(&key) else { return };
        if matches!(client.state, State::Handshaking) {
            return;
        }
        {
            let _in = client.span.enter();
            ovlog!(1, "MULTI: client is no longer admitted: {reason}");
        }
        client.handle.command(Command::SendMessage("RESTART".to_owned()));
        self.remove(key, "SIGTERM[soft,withdrawn] received, client-instance exiting");
    }
}

#[cfg(test)]
mod tests {
    use culvert_proto::tls::{TlsError, TlsSession};

    use super::*;

    /// Judges by the common name.
    struct ByName;

    impl TlsFactory for ByName {
        fn open(&self) -> Result<Box<dyn TlsSession>, TlsError> {
            Err(TlsError::Setup("judges only".to_owned()))
        }

        fn judge_again(&self, identity: &PeerIdentity) -> Standing {
            match identity.common_name.as_str() {
                "good" => Standing::Good,
                "revoked" => Standing::Withdrawn("revoked".to_owned()),
                other => Standing::Unknown(format!("no list of {other}")),
            }
        }
    }

    fn peers(names: &[&str]) -> Vec<(SessionKey, Arc<PeerIdentity>)> {
        let identity = |name: &&str| PeerIdentity { common_name: (*name).to_owned(), ..Default::default() };
        names.iter().zip(0..).map(|(name, key)| (SessionKey(key), Arc::new(identity(name)))).collect()
    }

    #[test]
    fn a_list_that_cannot_be_read_keeps_no_other_client_from_being_judged() {
        let mut leave = Vec::new();
        let names = ["revoked", "a", "good", "b", "revoked"];
        let unknown = judge(&ByName, peers(&names), |key, reason| {
            leave.push((key.0, reason));
            true
        });
        assert_eq!(leave, [(0, "revoked".to_owned()), (4, "revoked".to_owned())]);
        assert_eq!(unknown.as_deref(), Some("no list of a"));
        assert_eq!(judge(&ByName, peers(&["good"]), |_, _| true), None);
    }

    #[test]
    fn when_nobody_listens_any_more_the_round_ends() {
        let mut asked = 0;
        judge(&ByName, peers(&["revoked", "revoked"]), |_, _| {
            asked += 1;
            false
        });
        assert_eq!(asked, 1);
    }
}
