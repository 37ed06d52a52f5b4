use culvert_wire::{KeyId, PeerId};

use crate::{Credentials, DataConfig, PushedProtocol};

/// What the driver tells a session.
#[derive(Debug)]
pub enum Command {
    /// Answers [`crate::Event::VerifyPeer`].
    PeerVerdict(KeyId, Verdict),
    /// Answers [`crate::Event::Authenticate`].
    AuthVerdict(KeyId, Authorization),
    /// Answers [`crate::Event::PushReply`]: the pushed options passed the filter.
    ApplyPush(PushedProtocol),
    /// Server, before an answer to [`crate::Event::Configure`]: this client is offered something else. The decision is
    /// that of [`crate::NegotiatedParams::offered`]; where there is none, the client is refused.
    Offer(Box<DataConfig>),
    /// Answers [`crate::Event::Configure`]: the peer exists in the offload.
    Configured {
        /// Server: the id given to the peer. Others: the id from the negotiation, as in the event.
        peer_id: Option<PeerId>,
        /// Server: the options to push, without those that the session adds itself (`peer-id`, `cipher`,
        /// `protocol-flags`, `key-derivation`, `tun-mtu` is the driver's).
        push: Vec<String>,
    },
    /// Server: the peer is refused after login (`client-connect` failed, `disable`): AUTH_FAILED, then close.
    Refuse(Option<String>),
    /// New user name and password for the next key exchange (token, changed password).
    Credentials(Credentials),
    /// TLS server: from the next key exchange on, empty logins are judged too, or no longer
    /// ([`crate::SessionConfig::require_credentials`] in place of what the session began with).
    RequireCredentials(bool),
    /// Sends a control message (`INFO,…`, `CR_RESPONSE,…`, `PUSH_UPDATE,…`, `RESTART`).
    SendMessage(String),
    /// Usage of the sending key since its installation, from the offload's statistics.
    Usage {
        /// Packets in both directions.
        packets: u64,
        /// Payload bytes in both directions.
        bytes: u64,
    },
    /// Starts a renegotiation now (`KeyExhausted`, operator).
    Renegotiate,
    /// The peer's address changed, proven by authenticated data.
    Floated(std::net::SocketAddr),
    /// Leaves: exit notification where negotiated, then close.
    Exit,
}

/// Yes or no, decided elsewhere. Anything but `Accept` denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The peer may go on.
    Accept,
    /// It may not; the reason is for the log.
    Deny(String),
}

/// The answer to a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// Accepted.
    Accept,
    /// Refused, with the text that follows `AUTH_FAILED,` where one is wanted.
    Deny(Option<String>),
    /// Not decided yet: tells the client to wait (`AUTH_PENDING`) this many seconds with this extra text.
    Pending {
        /// Seconds to wait.
        timeout: u32,
        /// `INFO_PRE` text (`WEB_AUTH:…`, `CR_TEXT:…`), if any.
        extra: Option<String>,
    },
}
