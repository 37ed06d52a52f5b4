//! Control messages, both directions.

use culvert_wire::Now;

use super::{Phase, Session, closing};
use crate::{
    AuthFailure, CloseReason, Event, Mode, PeerMessage,
    control_message::{ControlMessage, Departure, Extracted},
    push,
};

impl Session {
    pub(super) fn read_messages(&mut self, now: Now) {
        let mut texts = self.former.as_mut().map(|former| former.take_texts()).unwrap_or_default();
        texts.extend(self.exchange.as_mut().map(super::Exchange::take_texts).unwrap_or_default());
        for extracted in texts {
            match extracted {
                // Whoever is about to leave only acknowledges (SEC-CTL-9).
                _ if self.is_ending() => {}
                Extracted::Message(text) => self.take_message(now, &text),
                Extracted::Unprintable => {
                    self.log(1, "WARNING: Received unprintable control message");
                }
            }
        }
    }

    fn take_message(&mut self, now: Now, text: &str) {
        if text.is_empty() {
            return;
        }
        let message = ControlMessage::parse(text);
        match (message, self.config.mode) {
            (ControlMessage::Exit, _) => self.take_exit(now),
            (message, Mode::Server) => self.take_from_client(now, &message, text),
            (message, Mode::Client) => self.take_from_server(now, message, text),
            (_, Mode::PointToPoint { .. }) => self.log_unknown(text),
        }
    }

    fn take_from_client(&mut self, now: Now, message: &ControlMessage<'_>, text: &str) {
        match message {
            ControlMessage::PushRequest => {
                self.log(3, "PUSH: Received control message: 'PUSH_REQUEST'");
                self.push_requested(now);
            }
            ControlMessage::ChallengeResponse(response) => {
                self.emit(Event::Message(PeerMessage::ChallengeResponse((*response).to_owned())));
            }
            ControlMessage::AuthFailed(_)
            | ControlMessage::PushReply(_)
            | ControlMessage::PushUpdate(_)
            | ControlMessage::Restart(_)
            | ControlMessage::Halt(_)
            | ControlMessage::Info(_)
            | ControlMessage::AuthPending(_)
            | ControlMessage::Exit
            | ControlMessage::Unknown => self.log_unknown(text),
        }
    }

    fn take_from_server(&mut self, now: Now, message: ControlMessage<'_>, text: &str) {
        match message {
            ControlMessage::AuthFailed(reason) => self.take_auth_failed(now, reason, text),
            ControlMessage::PushReply(items) => {
                self.log(3, format!("PUSH: Received control message: '{}'", push::redacted(text)));
                self.take_push_reply(items);
            }
            ControlMessage::PushUpdate(items) => {
                self.log(3, format!("PUSH: Received control message: '{}'", push::redacted(text)));
                self.take_push_update(items);
            }
            ControlMessage::Restart(departure) => self.take_restart(now, &departure),
            ControlMessage::Halt(reason) => {
                self.emit(Event::Message(PeerMessage::Halt(reason.to_owned())));
                self.close_soon(now, closing::AT_ONCE, CloseReason::PeerHalt);
            }
            ControlMessage::Info(info) => self.emit(Event::Message(PeerMessage::Info(info.to_owned()))),
            ControlMessage::AuthPending(keywords) => self.take_auth_pending(keywords),
            ControlMessage::PushRequest
            | ControlMessage::ChallengeResponse(_)
            | ControlMessage::Exit
            | ControlMessage::Unknown => self.log_unknown(text),
        }
    }

    fn take_auth_failed(&mut self, now: Now, reason: Option<&str>, text: &str) {
        // A dynamic challenge carries the user's name and state; the reason is shown as it came otherwise.
        let shown = if text.contains("CRV1:") { "AUTH_FAILED,CRV1:..." } else { text };
        self.log(1, format!("AUTH: Received control message: {shown}"));
        let failure = AuthFailure::parse(reason);
        self.emit(Event::Message(PeerMessage::AuthFailed(failure.clone())));
        self.close_soon(now, closing::AT_ONCE, CloseReason::AuthFailed(failure));
    }

    fn take_restart(&mut self, now: Now, departure: &Departure<'_>) {
        self.emit(Event::Message(PeerMessage::Restart {
            next_remote: departure.next_remote,
            keep_password: departure.keep_password,
            text: departure.text.to_owned(),
        }));
        self.close_soon(now, closing::AT_ONCE, CloseReason::PeerRestart);
    }

    fn take_push_update(&mut self, items: &str) {
        if !matches!(self.phase, Phase::Established) {
            return;
        }
        match self.updates.add(items) {
            push::Accumulated::Continues => {}
            push::Accumulated::Complete(items) => {
                self.emit(Event::Message(PeerMessage::PushUpdate(items)));
            }
            push::Accumulated::TooMuch => {
                self.close(CloseReason::Protocol("the server pushed too many options".to_owned()));
            }
        }
    }

    fn log_unknown(&mut self, text: &str) {
        self.log(1, format!("WARNING: Received unknown control message: {}", push::redacted(text)));
    }

    /// Writes the messages that wait, once the key can carry them.
    pub(super) fn flush_texts(&mut self, now: Now) {
        while let Some(exchange) = self.exchange.as_mut().filter(|exchange| exchange.is_active()) {
            let Some(text) = self.texts.pop_front() else { break };
            if let Err(error) = exchange.write_text(&text) {
                return self.fail(now, error.into());
            }
            let name = self.peer_common_name().filter(|name| !name.is_empty()).unwrap_or("UNDEF").to_owned();
            self.log(3, format!("SENT CONTROL [{name}]: '{}' (status=1)", push::redacted(&text)));
        }
        self.texts_flushed(now);
    }
}
