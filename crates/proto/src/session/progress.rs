//! An exchange goes on: who the peer is, what it said, when its keys may be used.

use std::{sync::Arc, time::Duration};

use culvert_crypto::{DataFormat, DataKey, TlsRole};
use culvert_wire::{KeyId, Now};

use super::{
    Peer, Phase, Session,
    exchange::{Failure, Step},
};
use crate::{
    AuthRequest, Authorization, CloseReason, Event, ExportedKey, Mode, NegotiatedParams, PeerInfo, Verdict,
    access::{Granted, Question},
    key_exchange::{Binding, KeyMessage},
    negotiate::{self, Agreement, Disagreement},
    options_string,
    peer_info::proto_bit::DATA_V2,
};

/// Peers on openvpn3 send with a key `hand-window` after it became active, whatever happens in between: at a
/// renegotiation within that time they keep the key they send with and drop the one that OpenVPN 2.x would go on with
/// (`ProtoContext::new_secondary_key`). This much later they have surely switched.
const SWITCH_MARGIN: Duration = Duration::from_secs(5);

impl Session {
    /// Does whatever can be done now: the exchange's steps, messages in both directions, packets to be.
    pub(super) fn advance(&mut self, now: Now) {
        while let Some(exchange) = &mut self.exchange {
            if matches!(self.phase, Phase::Closed) {
                break;
            }
            match exchange.next_step() {
                Ok(Some(step)) => self.take_step(now, step),
                Ok(None) => break,
                Err(failure) => {
                    self.fail(now, failure);
                    break;
                }
            }
        }
        self.hear_former();
        self.read_messages(now);
        self.flush_texts(now);
        if let Some(exchange) = &mut self.exchange {
            exchange.fill(now, &self.link);
        }
        self.leave_if_acked();
    }

    fn take_step(&mut self, now: Now, step: Step) {
        match step {
            Step::PeerKnown { identity, tls } => {
                if let Some(key) = self.current_key() {
                    self.emit(Event::VerifyPeer { key, identity, tls });
                }
            }
            Step::KeyMessage(message) => self.take_key_message(now, message),
            Step::Active => self.after_active(now),
        }
    }

    pub(super) fn current_key(&self) -> Option<KeyId> {
        self.exchange.as_ref().map(super::Exchange::key)
    }

    pub(super) fn peer_verdict(&mut self, now: Now, key: KeyId, verdict: Verdict) {
        if self.current_key() != Some(key) || self.is_ending() {
            return;
        }
        let Some(exchange) = &mut self.exchange else { return };
        exchange.access.answer(Question::Peer, verdict == Verdict::Accept);
        match verdict {
            Verdict::Accept if !self.config.mode.is_tls_server() => {
                if let Err(failure) = self.write_key_message() {
                    self.fail(now, failure);
                }
            }
            Verdict::Accept => {}
            Verdict::Deny(reason) => self.close_soon(now, Duration::ZERO, CloseReason::Denied(reason)),
        }
    }

    /// Sends our key message: user name and password go to an accepted server only.
    fn write_key_message(&mut self) -> Result<(), Failure> {
        let Some(exchange) = self.exchange.as_mut().filter(|exchange| exchange.wants_key_message()) else {
            return Ok(());
        };
        let feign = self.peer.as_ref().is_some_and(|peer| {
            self.config.mode == Mode::Server
                && options_string::has_comp_lzo(&peer.options)
                && !options_string::has_comp_lzo(&self.config.options.local)
        });
        // A client that still has compression configured is answered as if we had it too: `compress migrate`.
        let options = if feign {
            options_string::with_comp_lzo(&self.config.options.local)
        } else {
            self.config.options.local.clone()
        };
        let peer_info = PeerInfo::render(&self.config.peer_info);
        let (username, password) =
            match self.credentials.as_ref().filter(|_| !self.config.mode.is_tls_server()) {
                Some(credentials) => (credentials.username.as_str(), credentials.password.as_str()),
                None => ("", ""),
            };
        exchange.write_key_message(&options, username, password, peer_info)?;
        if self.config.forget_credentials {
            self.credentials = None;
        }
        Ok(())
    }

    fn take_key_message(&mut self, now: Now, message: KeyMessage) {
        let Some(info) = PeerInfo::parse(message.peer_info.as_deref().unwrap_or_default()) else {
            let text = "TLS Error: peer info is too long".to_owned();
            return self.fail(now, Failure::Protocol(text));
        };
        let info = Arc::new(info);
        let identity = self.exchange.as_ref().and_then(|exchange| exchange.identity()).cloned();
        let binding = Binding::new(&message.username, identity);
        let peer_role = if self.config.mode.is_tls_server() { TlsRole::Client } else { TlsRole::Server };
        let changed = match &mut self.peer {
            Some(peer) => {
                let changed = peer.binding.change(&binding, peer_role);
                if changed.is_none() {
                    // The same, in the memory that the new connection keeps anyway.
                    peer.binding = binding;
                }
                changed
            }
            None => {
                self.meet(&message, &info, binding);
                None
            }
        };
        if self.config.mode.is_tls_server()
            && let Err(failure) = self.write_key_message()
        {
            return self.fail(now, failure);
        }
        if let Some(changed) = changed {
            // SEC-AUTH-2
            self.log(1, changed.clone());
            self.answer_login(false);
            return self.refuse(now, None, CloseReason::Denied(changed));
        }
        if self.config.mode.is_tls_server() {
            self.ask_for_login(message, info);
            self.prepare_renegotiated(now);
        }
    }

    /// The first key message: facts that hold for the session.
    fn meet(&mut self, message: &KeyMessage, info: &Arc<PeerInfo>, binding: Binding) {
        for (name, value) in &info.lines {
            self.log(1, format!("peer info: {name}={value}"));
        }
        if self.config.check_options {
            for warning in options_string::differences(&self.config.options.remote, &message.options) {
                // OpenVPN 2.5 warns at level 1; 2.6 and later hide what has had no consequence for years.
                self.log(7, warning);
            }
        }
        if info.is_openvpn3() {
            self.renegotiation.rest_between(self.config.timing.hand_window + SWITCH_MARGIN);
        }
        self.peer = Some(Peer { info: Arc::clone(info), options: message.options.clone(), binding });
    }

    fn ask_for_login(&mut self, message: KeyMessage, info: Arc<PeerInfo>) {
        let anonymous = message.username.is_empty() && message.password.is_empty();
        if anonymous && !self.require_credentials {
            self.answer_login(true);
        } else if let Some(key) = self.current_key() {
            self.emit(Event::Authenticate(AuthRequest {
                key,
                username: message.username,
                password: message.password,
                peer_info: info,
            }));
        }
    }

    fn answer_login(&mut self, accepted: bool) {
        if let Some(exchange) = &mut self.exchange {
            exchange.access.answer(Question::Login, accepted);
        }
    }

    pub(super) fn auth_verdict(&mut self, now: Now, key: KeyId, authorization: Authorization) {
        let undecided = self.exchange.as_ref().is_some_and(|e| e.access.is_undecided(Question::Login));
        if self.current_key() != Some(key) || !undecided || self.is_ending() {
            return;
        }
        match authorization {
            Authorization::Accept => {
                self.answer_login(true);
                let user = self.peer.as_ref().map(|peer| peer.binding.username.clone()).unwrap_or_default();
                if !user.is_empty() {
                    let line = "TLS: Username/Password authentication succeeded for username";
                    self.log(2, format!("{line} '{user}' "));
                }
                self.prepare_renegotiated(now);
                self.after_active(now);
            }
            Authorization::Deny(reason) => {
                self.answer_login(false);
                self.log(1, "TLS Auth Error: Auth Username/Password verification failed for peer");
                self.refuse(now, reason, CloseReason::Denied("authentication failed".to_owned()));
            }
            Authorization::Pending { timeout, extra } => self.announce_pending(now, timeout, extra),
        }
    }

    /// Goes on once everything is there: the exchange is active and the peer accepted.
    pub(super) fn after_active(&mut self, now: Now) {
        let Some(exchange) = self.exchange.as_ref().filter(|e| e.is_active() && !e.is_keyed()) else {
            return;
        };
        let Some(granted) = exchange.access.granted() else { return };
        match (&self.phase, self.config.mode) {
            (Phase::Handshaking, Mode::Server) => self.decide(now),
            (Phase::Handshaking, Mode::Client) => {
                self.log_initiated();
                self.begin_pulling(now);
            }
            (Phase::Handshaking, Mode::PointToPoint { tls_server }) => {
                self.log_initiated();
                self.agree_point_to_point(now, tls_server);
            }
            (Phase::Established, _) => self.install_renegotiated(now, &granted),
            (Phase::Pulling(_) | Phase::Configuring | Phase::Closing(_) | Phase::Closed, _) => {}
        }
    }

    pub(super) fn log_initiated(&mut self) {
        let name = self.peer_common_name().unwrap_or_default().to_owned();
        let family = if self.link.remote.is_ipv4() { "[AF_INET]" } else { "[AF_INET6]" };
        let remote = match self.link.remote {
            std::net::SocketAddr::V4(v4) => v4.to_string(),
            // OpenVPN writes no brackets around an IPv6 address.
            std::net::SocketAddr::V6(v6) => format!("{}:{}", v6.ip(), v6.port()),
        };
        self.log(1, format!("[{name}] Peer Connection Initiated with {family}{remote}"));
    }

    fn agree_point_to_point(&mut self, now: Now, tls_server: bool) {
        let (Some(peer), Some(exchange)) = (&self.peer, &self.exchange) else { return };
        let exported = match exchange.exported_peer_id() {
            Ok(exported) => exported,
            Err(failure) => return self.fail(now, failure),
        };
        match negotiate::point_to_point(&self.config.data, tls_server, &peer.info, exported) {
            Ok(agreed) => {
                let shared = negotiate::is_shared(&agreed, &self.config.data, &peer.info);
                self.log(3, negotiate::p2p_line(&agreed, shared));
                self.configure(Some(agreed));
            }
            Err(disagreement) => self.disagree(now, &disagreement),
        }
    }

    /// The driver makes the peer of what was agreed. `None`: a server offers this client something else first.
    pub(super) fn configure(&mut self, agreed: Option<Agreement>) {
        let exported = self.export_for_others();
        let Some(peer) = &self.peer else { return };
        let undecided = || negotiate::shared_flags(&self.config.data, &peer.info, None);
        let params = NegotiatedParams {
            cipher: agreed.map(|agreed| agreed.cipher),
            data_v2: agreed.map_or_else(|| peer.info.has(DATA_V2), |agreed| agreed.data_v2),
            peer_id: agreed.and_then(|agreed| agreed.peer_id),
            flags: agreed.map_or_else(undecided, |agreed| agreed.flags),
            peer_info: Arc::clone(&peer.info),
            peer_options: peer.options.clone(),
            exported,
        };
        self.agreement = agreed;
        self.phase = Phase::Configuring;
        self.emit(Event::Configure(params));
    }

    /// Exports what the configuration asks for.
    fn export_for_others(&mut self) -> Option<Arc<ExportedKey>> {
        let (label, len) = self.config.exporter.as_ref()?;
        match self.exchange.as_ref()?.exported(label, *len) {
            Ok(key) => Some(Arc::new(key)),
            Err(_failure) => {
                self.log(1, "WARNING: Export keying material failed!");
                None
            }
        }
    }

    /// The driver has made the peer: the first key goes in, and the tunnel is up.
    pub(super) fn configured(&mut self, now: Now, peer_id: Option<culvert_wire::PeerId>, push: Vec<String>) {
        if !matches!(self.phase, Phase::Configuring) {
            return;
        }
        let granted = self.exchange.as_ref().and_then(|exchange| exchange.access.granted());
        let Some(granted) = granted else { return };
        let Some(agreed) = &mut self.agreement else {
            return self.disagree(now, &Disagreement::NoSharedCipher);
        };
        if self.config.mode == Mode::Server {
            agreed.peer_id = peer_id;
        }
        let agreed = *agreed;
        if let Err(failure) = self.install(&granted, &agreed) {
            return self.fail(now, failure);
        }
        self.use_key(now);
        self.phase = Phase::Established;
        if self.config.mode == Mode::Server {
            self.prepare_push(now, &agreed, push);
        } else {
            self.emit(Event::Established);
        }
    }

    /// Installs a renegotiated key before our key message leaves. A client may send with the key as soon as it has that
    /// message: at once, if its old key is younger than its switch delay. Our acknowledgement comes with such data.
    fn prepare_renegotiated(&mut self, now: Now) {
        let Some(exchange) = &self.exchange else { return };
        if !matches!(self.phase, Phase::Established) || !exchange.has_both_key_messages() {
            return;
        }
        let (Some(granted), Some(agreed)) = (exchange.access.granted(), self.agreement) else { return };
        if let Err(failure) = self.install(&granted, &agreed) {
            self.fail(now, failure);
        }
    }

    fn install_renegotiated(&mut self, now: Now, granted: &Granted) {
        let (Some(agreed), Some(key)) = (self.agreement, self.current_key()) else { return };
        if let Err(failure) = self.install(granted, &agreed) {
            return self.fail(now, failure);
        }
        self.use_key(now);
        self.emit(Event::Renegotiated(key));
    }

    /// The exchange's data key is in use at both ends.
    fn use_key(&mut self, now: Now) {
        let Some(exchange) = &mut self.exchange else { return };
        exchange.set_keyed();
        self.schedule.activate((exchange.began(), now.mono), &self.config.timing);
        self.verdict_due = None;
        self.renegotiation.key_active(now.mono);
    }

    /// Derives the exchange's data key and hands it to the offload, once.
    fn install(&mut self, granted: &Granted, agreed: &Agreement) -> Result<(), Failure> {
        let role = self.role();
        let Some(exchange) = self.exchange.as_mut().filter(|exchange| !exchange.is_installed()) else {
            return Ok(());
        };
        let material = exchange.data_keys(granted, agreed.flags.tls_ekm, &self.link)?;
        let unusable = |error: culvert_crypto::CryptoError| Failure::Protocol(error.to_string());
        let (cipher, id) = (agreed.cipher, exchange.key());
        let key: Result<DataKey, _> = if cipher.is_aead() {
            let format = if agreed.flags.aead_epoch { DataFormat::Epoch } else { DataFormat::Classic };
            material.data_key(role, cipher, format, id)
        } else {
            material.legacy_data_key(role, cipher, self.config.data.digest, id)
        };
        let key = key.map_err(unusable)?;
        if exchange.key() == KeyId::FIRST && agreed.flags.dyn_tls_crypt {
            let dynamic = exchange.dynamic_tls_crypt()?;
            self.link.enable_dynamic(dynamic, role);
        }
        exchange.set_installed();
        let ops = self.schedule.install(key);
        self.emit_keys(ops);
        Ok(())
    }
}
