//! What a pushing server does: decides about the data channel, tells clients to wait, pushes options.

use std::time::{Duration, Instant};

use culvert_wire::{CipherName, Now};

use super::{Phase, Session};
use crate::{
    CloseReason, DataConfig, Event, Mode,
    negotiate::{self, Agreement, Disagreement},
    peer_info::{
        cipher_list,
        proto_bit::{AUTH_PENDING_KW, REQUEST_PUSH},
    },
    push,
};

/// Requests within this time after a reply are ignored: the reply is on its way.
const REPEAT_REPLY: Duration = Duration::from_secs(30);

/// The server's part of pushing.
#[derive(Debug, Default)]
pub(super) struct Pushing {
    /// The client asked, perhaps before the answer was known.
    requested: bool,
    /// The reply, in messages.
    reply: Vec<String>,
    replied: Option<Instant>,
}

impl Session {
    /// The client is accepted: what will its data channel be? Where all are offered no cipher that it has, something may
    /// still be offered to it alone, once the driver knows which client it is.
    pub(super) fn decide(&mut self, now: Now) {
        let Some(peer) = &self.peer else { return };
        match negotiate::server(&self.config.data, &peer.info, &peer.options) {
            Ok(agreed) => {
                self.log_initiated();
                self.configure(Some(agreed));
            }
            Err(Disagreement::NoSharedCipher) => {
                self.log_initiated();
                self.configure(None);
            }
            Err(disagreement) => self.disagree(now, &disagreement),
        }
    }

    /// This client is offered something else than all others: decides again, before anything came of the first decision.
    pub(super) fn offer(&mut self, now: Now, offer: &DataConfig) {
        let (Phase::Configuring, Mode::Server, Some(peer)) = (&self.phase, self.config.mode, &self.peer)
        else {
            return;
        };
        match negotiate::server(offer, &peer.info, &peer.options) {
            Ok(agreed) => self.agreement = Some(agreed),
            Err(disagreement) => self.disagree_about(now, &disagreement, &offer.ciphers),
        }
    }

    /// No common ground: a server tells the client, others just leave.
    pub(super) fn disagree(&mut self, now: Now, disagreement: &Disagreement) {
        let config = std::sync::Arc::clone(&self.config);
        self.disagree_about(now, disagreement, &config.data.ciphers);
    }

    fn disagree_about(&mut self, now: Now, disagreement: &Disagreement, own: &[CipherName]) {
        let reason = match disagreement {
            Disagreement::NoSharedCipher => CloseReason::NoCommonCipher,
            Disagreement::NeedsDataV2 | Disagreement::Contradiction(_) => {
                CloseReason::Protocol(disagreement.text().to_owned())
            }
        };
        if *disagreement == Disagreement::NoSharedCipher {
            let own = cipher_list(own);
            let theirs =
                self.peer.as_ref().map(|peer| peer.info.cipher_names().join(":")).unwrap_or_default();
            self.log(
                1,
                format!(
                    "PUSH: No common cipher between server and client. Server data-ciphers: '{own}', \
                     client supported ciphers '{theirs}'"
                ),
            );
        } else {
            self.log(1, disagreement.text());
        }
        self.refuse(now, Some(disagreement.text().to_owned()), reason);
    }

    /// The login is decided later: the client shall wait.
    pub(super) fn announce_pending(&mut self, now: Now, timeout: u32, extra: Option<String>) {
        let (Some(exchange), Some(peer)) = (&self.exchange, &self.peer) else { return };
        let wait = Duration::from_secs(u64::from(timeout)).min(self.longest_wait());
        let began = exchange.began();
        let due = now.mono + wait;
        let pending = if peer.info.has(AUTH_PENDING_KW) {
            format!("AUTH_PENDING,timeout {}", wait.as_secs())
        } else {
            "AUTH_PENDING".to_owned()
        };
        // Never beyond what one key exchange may take in all.
        self.verdict_due = Some(due.min(began + self.longest_wait()));
        self.texts.push_back(pending);
        if let Some(extra) = extra {
            self.texts.push_back(format!("INFO_PRE,{extra}"));
        }
    }

    /// The first key is installed: the reply can be told, and is if the client asked or need not ask.
    pub(super) fn prepare_push(&mut self, now: Now, agreed: &Agreement, mut options: Vec<String>) {
        let Some(peer) = &self.peer else { return };
        options.extend(negotiate::pushed_options(agreed, &peer.info, agreed.peer_id));
        let unasked = peer.info.has(REQUEST_PUSH);
        loop {
            match push::split_reply(&options) {
                Ok(reply) => {
                    self.pushing.reply = reply;
                    break;
                }
                Err(push::OptionTooLong(long)) => {
                    self.log(1, format!("--push option is too long: '{long}'"));
                    options.retain(|option| *option != long);
                }
            }
        }
        if unasked || self.pushing.requested {
            self.push_reply(now);
        }
    }

    pub(super) fn push_requested(&mut self, now: Now) {
        if !matches!(self.phase, Phase::Established) {
            self.pushing.requested = true;
            return;
        }
        let repeated = self.pushing.replied.is_some_and(|at| now.mono < at + REPEAT_REPLY);
        if !repeated {
            self.push_reply(now);
        }
    }

    fn push_reply(&mut self, now: Now) {
        self.texts.extend(self.pushing.reply.iter().cloned());
        if self.pushing.replied.replace(now.mono).is_none() {
            self.emit(Event::Established);
        }
    }
}
