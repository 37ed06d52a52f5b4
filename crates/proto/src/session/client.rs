//! What a pulling client does: asks for options, waits for them, checks what they say of the data channel.

use std::time::{Duration, Instant};

use culvert_wire::Now;

use super::{Phase, Session};
use crate::{
    CloseReason, Event, PeerMessage, PushedProtocol,
    control_message::auth_pending_timeout,
    negotiate,
    push::{Accumulated, Accumulator},
};

/// Time between two requests.
const REQUEST_INTERVAL: Duration = Duration::from_secs(5);
/// A server that pushes unasked is given this long before the first request. Stock clients look once a second.
const PATIENCE: Duration = Duration::from_millis(300);

/// Waiting for options.
pub(super) struct Pull {
    accumulator: Accumulator,
    /// When the key became active.
    since: Instant,
    next_request: Instant,
    /// Pushed later by `AUTH_PENDING`.
    give_up: Instant,
    /// The last packet of the server.
    heard: Instant,
    /// The options are with the driver.
    received: bool,
}

impl Pull {
    pub(super) fn poll_timeout(&self, silence: Duration) -> Option<Instant> {
        (!self.received).then(|| self.next_request.min(self.give_up).min(self.heard + silence))
    }
}

impl Session {
    pub(super) fn begin_pulling(&mut self, now: Now) {
        self.phase = Phase::Pulling(Pull {
            accumulator: Accumulator::default(),
            since: now.mono,
            next_request: now.mono + PATIENCE,
            give_up: now.mono + self.config.timing.hand_window,
            heard: now.mono,
            received: false,
        });
    }

    /// A packet of the server arrived.
    pub(super) fn hear(&mut self, now: Now) {
        if let Phase::Pulling(pull) = &mut self.phase {
            pull.heard = now.mono;
        }
    }

    pub(super) fn expire_pull(&mut self, now: Now) {
        let silence = self.config.timing.hand_window;
        let Phase::Pulling(pull) = &mut self.phase else { return };
        if pull.received {
            return;
        }
        if pull.give_up <= now.mono || pull.heard + silence <= now.mono {
            self.close(CloseReason::NoPushReply);
        } else if pull.next_request <= now.mono {
            pull.next_request = now.mono + REQUEST_INTERVAL;
            self.texts.push_back("PUSH_REQUEST".to_owned());
            self.emit(Event::OptionsRequested);
        }
    }

    pub(super) fn take_push_reply(&mut self, items: &str) {
        match &mut self.phase {
            Phase::Pulling(pull) if !pull.received => match pull.accumulator.add(items) {
                Accumulated::Continues => {}
                Accumulated::Complete(options) => {
                    pull.received = true;
                    self.emit(Event::PushReply(options));
                }
                Accumulated::TooMuch => {
                    self.close(CloseReason::Protocol("the server pushed too many options".to_owned()));
                }
            },
            Phase::Established => {
                // On renegotiation servers push a new token; nothing else may change that way.
                let token = |option: &&str| option.trim_start().starts_with("auth-token");
                let tokens: Vec<_> = items.split(',').filter(token).map(str::to_owned).collect();
                if !tokens.is_empty() {
                    self.emit(Event::Message(PeerMessage::AuthToken(tokens)));
                }
            }
            Phase::Pulling(_)
            | Phase::Handshaking
            | Phase::Configuring
            | Phase::Closing(_)
            | Phase::Closed => {}
        }
    }

    pub(super) fn apply_push(&mut self, now: Now, pushed: &PushedProtocol) {
        if !matches!(&self.phase, Phase::Pulling(pull) if pull.received) {
            return;
        }
        let Some(peer) = &self.peer else { return };
        match negotiate::client(&self.config.data, pushed, &peer.options) {
            Ok(agreed) => self.configure(Some(agreed)),
            Err(disagreement) => self.disagree(now, &disagreement),
        }
    }

    /// The server asks for patience.
    pub(super) fn take_auth_pending(&mut self, keywords: &str) {
        let hand_window = self.config.timing.hand_window;
        let longest = self.longest_wait();
        let wait = auth_pending_timeout(keywords).map_or(hand_window, |n| Duration::from_secs(u64::from(n)));
        let wait = wait.min(longest);
        if let Phase::Pulling(pull) = &mut self.phase {
            pull.give_up = pull.since + wait;
            self.emit(Event::Message(PeerMessage::AuthPending(
                u32::try_from(wait.as_secs()).unwrap_or(u32::MAX),
            )));
        }
    }
}
