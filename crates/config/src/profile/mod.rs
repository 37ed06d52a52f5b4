//! What a configuration means: typed, checked, grouped by who consumes it.
//!
//! A [`Profile`] is made by [`crate::parse`] and [`crate::Parsed::check`] only. Defaults are OpenVPN 2.7.8's. Paths are as
//! written: relative ones mean the directory of `cd` ([`Process::cd`]), into which the daemon changes first.

mod client;
mod data;
mod device;
mod link;
mod management;
mod process;
mod proxy;
mod server;
mod tls;

pub use client::{AuthRetry, AuthUserPass, Client, PullFilter, PullVerdict, StaticChallenge};
pub use data::{AllowCompression, CipherPolicy, Data, DigestName};
pub use device::{Device, DnsUpdown, MssFix, Routes};
pub use link::{
    Bind, ConnectRetryMax, ConnectionEntry, Link, Local, Mtu, MtuDiscovery, Multihome, Remote, ResolvRetry,
    TlsCryptV2,
};
pub use management::{ControlSocket, ExternalKey, Management, ManagementAddress, ManagementPassword};
pub use process::{
    ExitCodes, Log, OffloadChoice, OffloadPolicy, Process, RemapUsr1, ScriptSecurity, Scripts, StatusFile,
    Syslog,
};
pub use proxy::{HttpProxy, HttpProxyAuth, Proxy, ProxyLogin, SocksProxy};
pub use server::{
    AuthGenToken, AuthUserPassVerify, CertPolicy, ConnectFreq, IfconfigPool, Ipv6Pool, PoolPersist,
    PortShare, Server, VerifyVia,
};
pub use tls::{
    CertProfile, CrlSource, Dh, KeyUsage, NameCheck, NameCheckKind, Pkcs11, RemoteRole, Session, Tls,
    TlsRole, TlsVersion,
};

use std::time::Duration;

use crate::{Origin, table::OptionRow, value::PingAction};

/// Everything that one process is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The first file named by `config`, as written; scripts see it as `config`.
    pub config_file: Option<std::path::PathBuf>,
    /// `mode`.
    pub mode: Mode,
    /// Log file, verbosity, status file.
    pub log: Log,
    /// What the process does to itself: user, directory, priority.
    pub process: Process,
    /// What all connections share.
    pub link: Link,
    /// The connections in the order to try; a server and a passive end have exactly one.
    pub connections: Vec<ConnectionEntry>,
    /// The virtual device and its addresses.
    pub device: Device,
    /// Routes and DNS of this machine.
    pub routes: Routes,
    /// Certificates and TLS.
    pub tls: Tls,
    /// Ciphers and framing of data packets.
    pub data: Data,
    /// Times of the control channel.
    pub session: Session,
    /// Pings, after `keepalive` was expanded for this end.
    pub keepalive: Keepalive,
    /// What only a server does; defaults elsewhere.
    pub server: Server,
    /// What only a pulling client does; defaults elsewhere.
    pub client: Client,
    /// External programs.
    pub scripts: Scripts,
    /// The management interface.
    pub management: Management,
    /// `setenv` and `setenv-safe` (names already prefixed with `OPENVPN_`), in order.
    pub setenv: Vec<(String, String)>,
    /// `compat-mode` as (major, minor, patch).
    pub compat_mode: Option<(u8, u8, u8)>,
    /// Every option line that was taken, in order: for the verdict, the notes and the last refusal.
    pub settings: Vec<Setting>,
}

/// One option line that was taken.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The option.
    pub row: &'static OptionRow,
    /// Where it stands.
    pub origin: Origin,
    /// Differs where arguments or block differ.
    pub(crate) given: u64,
}

/// `mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// One peer.
    #[default]
    P2p,
    /// Many clients.
    Server,
}

/// What a process is to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `mode server`.
    Server,
    /// `pull`: takes its configuration from a server.
    Client,
    /// Neither: both ends are configured alike.
    P2p,
}

impl Profile {
    /// Returns what this process is to its peer.
    pub fn role(&self) -> Role {
        match self.mode {
            Mode::Server => Role::Server,
            Mode::P2p if self.client.pull => Role::Client,
            Mode::P2p => Role::P2p,
        }
    }
}

/// Pings and idle limits of this end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// `ping`: send one after this much silence of ours.
    pub ping: Option<Duration>,
    /// `ping-exit`/`ping-restart`: what to do after this much silence of the peer.
    pub timeout: Option<(Duration, PingAction)>,
    /// `inactive SECONDS [BYTES]`: leave when fewer bytes passed in this time.
    pub inactive: Option<(Duration, u64)>,
    /// `session-timeout`.
    pub session_timeout: Option<Duration>,
}
