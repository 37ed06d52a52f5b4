use std::time::Duration;

use culvert_crypto::AuthDigest;
use culvert_wire::CipherName;
use zeroize::Zeroizing;

/// What a session needs to know about its configuration. Shared by all sessions of a listener.
#[derive(Debug)]
pub struct SessionConfig {
    /// Our part in the conversation.
    pub mode: Mode,
    /// What runs below.
    pub transport: Transport,
    /// Intervals and limits in time.
    pub timing: Timing,
    /// Largest IP packet that a control packet may make (`max-packet-size`): 154..=2048, 1250 by default.
    pub max_packet_size: u16,
    /// Data channel offers.
    pub data: DataConfig,
    /// The options string to send, and the one expected from the peer.
    pub options: OptionsStrings,
    /// `NAME=value` lines to send with the key exchange. Ciphers and protocol flags are already in it.
    pub peer_info: Vec<(String, String)>,
    /// Tell the peer when leaving, and for how many seconds (`explicit-exit-notify`).
    pub exit_notify: Option<u32>,
    /// Compare the peer's options string and report differences.
    pub check_options: bool,
    /// TLS server: ask for a verdict about user name and password even when both are empty.
    pub require_credentials: bool,
    /// TLS client: forget user name and password once they are sent (`auth-nocache`). Whoever drives the session gives them
    /// anew ([`crate::Command::Credentials`]) before the verdict on the peer of each renegotiation.
    pub forget_credentials: bool,
    /// Keying material to export from the first TLS connection, for other programs: label and length
    /// (`keying-material-exporter`).
    pub exporter: Option<(String, u16)>,
}

/// Our part in the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// TLS server that pushes options (`mode server`).
    Server,
    /// TLS client that pulls options (`client`).
    Client,
    /// Two equal ends; the driver's side has the TLS role.
    PointToPoint {
        /// Whether this end is the TLS server.
        tls_server: bool,
    },
}

impl Mode {
    /// Returns whether this end is the TLS server.
    #[must_use]
    pub const fn is_tls_server(self) -> bool {
        matches!(self, Self::Server | Self::PointToPoint { tls_server: true })
    }
}

/// What runs below OpenVPN's packets, as far as the protocol cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams: lost, reordered, repeated.
    Udp,
    /// A stream: any error ends the session.
    Tcp,
}

/// Intervals of a session. Source: protocol document, "Timers and restarts".
#[derive(Clone, Debug)]
pub struct Timing {
    /// Time allowed for one key exchange (`hand-window`, 60 s).
    pub hand_window: Duration,
    /// Life of a replaced key (`tran-window`, 3600 s).
    pub tran_window: Duration,
    /// First retransmission (`tls-timeout`, 2 s).
    pub tls_timeout: Duration,
    /// Renegotiate after this time; the jitter has been subtracted already; zero: never.
    pub reneg_after: Duration,
    /// `reneg-sec` as configured: half of it bounds the delay of the key switch.
    pub reneg_sec: Duration,
    /// Renegotiate after this many bytes under one key.
    pub reneg_bytes: Option<u64>,
    /// Renegotiate after this many packets under one key.
    pub reneg_packets: Option<u64>,
}

/// Data channel offers.
#[derive(Clone, Debug)]
pub struct DataConfig {
    /// `data-ciphers`, best first, already reduced to what the offload carries.
    pub ciphers: Vec<CipherName>,
    /// `data-ciphers-fallback`, or `cipher` where that serves as one.
    pub fallback: Option<CipherName>,
    /// The digest for ciphers without tag (`auth`); `None` is `auth none`.
    pub digest: Option<AuthDigest>,
    /// The offload takes epoch keys.
    pub epoch: bool,
    /// The offload serves peers without peer id.
    pub data_v1: bool,
}

/// The options strings of the key exchange. Source: protocol document, "Options string (OCC)".
#[derive(Clone, Debug, Default)]
pub struct OptionsStrings {
    /// Sent to the peer.
    pub local: String,
    /// Expected from the peer.
    pub remote: String,
}

/// User name and password to send; zeroized on drop.
#[derive(Clone)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password, token, or challenge response.
    pub password: Zeroizing<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}
