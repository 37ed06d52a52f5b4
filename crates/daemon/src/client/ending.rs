//! What the end of a session means: another attempt, and where, or the end of this life.

use std::time::Duration;

use culvert_mgmt::Notification;
use culvert_proto::{AuthFailure, CloseReason};

use super::{Advance, Client, Outcome, Restart};
use crate::{exit::Ended, ovlog, signals::Request};

impl Client {
    /// The server refused the login: for now, or what `auth-retry` says.
    pub(super) fn login_refused(&mut self, failure: AuthFailure) -> Outcome {
        if self.profile.client.auth_user_pass.is_some() {
            let (kind, reason) = ("Auth".to_owned(), failure.reason.clone());
            self.management.tell(&Notification::VerificationFailed { kind, reason });
        }
        let Some(temporary) = failure.temporary else {
            return self.login.refused(self.management.auth_retry(), failure.reason.as_deref());
        };
        let advance = match temporary.advance {
            Some(culvert_proto::Advance::No) | None => Advance::Stay,
            Some(culvert_proto::Advance::Remote) => Advance::Remote,
            Some(culvert_proto::Advance::Address) => Advance::Address,
        };
        // Not beyond what this end's own administrator allows.
        let entry = self.profile.connections.get(self.remotes.current());
        let longest = entry.map_or(Duration::MAX, |entry| entry.connect_retry_max);
        let pause = temporary
            .backoff
            .map(|seconds| Duration::from_secs(u64::from(seconds)).max(self.pause()).min(longest));
        Outcome::Restart(Restart {
            advance,
            pause,
            ..Restart::because("auth-temp-failure (server temporary reject)")
        })
    }

    /// The session is over.
    pub(super) fn closed(&mut self, reason: CloseReason) -> Outcome {
        let reason = match reason {
            CloseReason::AuthFailed(failure) => return self.login_refused(failure),
            CloseReason::HandshakeTimeout => {
                let window = self.profile.session.hand_window.as_secs();
                ovlog!(
                    error 1,
                    "TLS Error: TLS key negotiation failed to occur within {window} seconds (check your network connectivity)"
                );
                "tls-error"
            }
            CloseReason::Tls(text) => {
                crate::log::log_error_lines(&text);
                "tls-error"
            }
            CloseReason::Protocol(text) | CloseReason::Denied(text) => {
                ovlog!(error 1, "{text}");
                "tls-error"
            }
            CloseReason::NoCommonCipher => {
                ovlog!(
                    error 1,
                    "OPTIONS ERROR: failed to negotiate cipher with server. Add the server's cipher to --data-ciphers if you want to connect to this server."
                );
                "process-push-msg-failed"
            }
            CloseReason::NoPushReply => "no-push-reply",
            CloseReason::PeerExit => "remote-exit",
            CloseReason::TransportEnded => {
                ovlog!(error 1, "Connection reset, restarting [0]");
                "connection-reset"
            }
            CloseReason::PeerRestart => "server-pushed-connection-reset",
            CloseReason::PeerHalt => {
                return Outcome::Ended(Ended::Soft(Request::Terminate, "server-pushed-halt"));
            }
            CloseReason::Local => "exit",
        };
        if reason == "tls-error" {
            ovlog!(error 1, "TLS Error: TLS handshake failed");
            if self.profile.tls.exit_on_failure {
                return Outcome::Ended(Ended::Soft(Request::Terminate, "tls-error"));
            }
        }
        Outcome::Restart(Restart::because(reason))
    }
}
