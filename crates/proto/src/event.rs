use std::{net::SocketAddr, sync::Arc};

use culvert_wire::{KeyId, RemoteSid};
use zeroize::Zeroizing;

use crate::{KeyOp, NegotiatedParams, PeerInfo, tls::PeerIdentity};

/// What a session tells its driver.
#[derive(Debug)]
pub enum Event {
    /// The peer's first valid packet arrived (`TLS: Initial packet from …, sid=…`).
    Started(SocketAddr, RemoteSid),
    /// TLS is up; the certificate chain passed the configured checks. Wants [`crate::Command::PeerVerdict`].
    VerifyPeer {
        /// The key being negotiated.
        key: KeyId,
        /// Who the peer is.
        identity: Arc<PeerIdentity>,
        /// Protocol version, cipher suite and group, for the log.
        tls: String,
    },
    /// User name and password arrived. Wants [`crate::Command::AuthVerdict`].
    Authenticate(AuthRequest),
    /// The server pushed nothing unasked, so it was asked (`PUSH_REQUEST`).
    OptionsRequested,
    /// Options were pushed (all continuations together). Wants [`crate::Command::ApplyPush`].
    PushReply(Vec<String>),
    /// Data channel parameters are fixed. Wants [`crate::Command::Configured`], on a server perhaps after
    /// [`crate::Command::Offer`].
    Configure(NegotiatedParams),
    /// An operation on the peer's keys in the offload; execute in order.
    Key(KeyOp),
    /// The push reply was sent (server) or the first key is active (others): the tunnel is up.
    Established,
    /// A renegotiation finished: its key is in the offload.
    Renegotiated(KeyId),
    /// A message from the peer.
    Message(PeerMessage),
    /// Something worth a line in the log.
    Note(Note),
    /// The session is over; nothing follows.
    Closed(CloseReason),
}

/// A login to judge.
pub struct AuthRequest {
    /// The key being negotiated; 0 is the first login, others are renegotiations.
    pub key: KeyId,
    /// User name as it came, control characters included; empty when none was sent.
    pub username: String,
    /// Password.
    pub password: Zeroizing<String>,
    /// What the peer says of itself.
    pub peer_info: Arc<PeerInfo>,
}

impl std::fmt::Debug for AuthRequest {
    /// Without the password, and with no hint at how long it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, username, password: _, peer_info } = self;
        f.debug_struct("AuthRequest")
            .field("key", key)
            .field("username", username)
            .field("peer_info", peer_info)
            .finish_non_exhaustive()
    }
}

/// A control message from the peer. Source: protocol document, "Server → client messages".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// `AUTH_FAILED…`: the login was refused; the session closes.
    AuthFailed(AuthFailure),
    /// `AUTH_PENDING…`: wait this many seconds for the login.
    AuthPending(u32),
    /// `INFO` or `INFO_PRE`: text for a user interface.
    Info(String),
    /// `CR_RESPONSE,…` (to a server).
    ChallengeResponse(String),
    /// `RESTART…`: connect again.
    Restart {
        /// Go on to the next remote.
        next_remote: bool,
        /// Keep cached passwords.
        keep_password: bool,
        /// Free text.
        text: String,
    },
    /// `HALT…`: stop.
    Halt(String),
    /// `EXIT`: the peer leaves.
    Exit,
    /// `PUSH_UPDATE,…`: items, all continuations together.
    PushUpdate(Vec<String>),
    /// A one-option push reply on renegotiation that carries a new token.
    AuthToken(Vec<String>),
}

/// A refused login, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthFailure {
    /// The text after `AUTH_FAILED,`, as it came.
    pub reason: Option<String>,
    /// `TEMP`: seconds to wait, and where to go next.
    pub temporary: Option<TemporaryFailure>,
}

/// `AUTH_FAILED,TEMP[…]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemporaryFailure {
    /// Seconds to wait before the next attempt.
    pub backoff: Option<u32>,
    /// `advance`: `no`, `remote` or `addr`.
    pub advance: Option<Advance>,
    /// Free text.
    pub text: String,
}

/// Where to connect after a temporary failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// The same address again.
    No,
    /// The next `remote`.
    Remote,
    /// The next address of this remote.
    Address,
}

/// Lines for the log that have no consequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Level and text; peer text in it is not yet escaped.
    Line(u8, String),
    /// A packet was dropped, and why (counted and logged with a rate limit).
    Dropped(&'static str),
}

/// Why a session ended. Its line in the log is the driver's: no [`Note::Line`] repeats it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The key exchange took longer than `hand-window`.
    HandshakeTimeout,
    /// TLS failed; the text says how.
    Tls(String),
    /// The peer broke the protocol.
    Protocol(String),
    /// The peer was refused by our policy.
    Denied(String),
    /// Our login was refused.
    AuthFailed(AuthFailure),
    /// No cipher in common.
    NoCommonCipher,
    /// No push reply came.
    NoPushReply,
    /// The peer left.
    PeerExit,
    /// The peer wants us to connect again.
    PeerRestart,
    /// The peer wants us to stop.
    PeerHalt,
    /// The driver asked for it.
    Local,
    /// The stream below was closed; only a driver says so.
    TransportEnded,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_login_prints_has_no_password() {
        let request = AuthRequest {
            key: KeyId::FIRST,
            username: "alice".to_owned(),
            password: Zeroizing::new("correct horse".to_owned()),
            peer_info: Arc::default(),
        };
        let printed = format!("{:?}", Event::Authenticate(request));
        assert!(printed.contains("alice") && !printed.contains("horse"), "{printed}");
    }
}
