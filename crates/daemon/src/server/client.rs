//! What the server knows of one session, from its first packet to its end.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use culvert_config::ClientOverrides;
use culvert_host::Route;
use culvert_offload::{PeerSpec, PeerStats, Protocol, Station, TransportId, VpnAddresses};
use culvert_proto::{NegotiatedParams, PeerInfo, endpoint::Handle, tls::PeerIdentity};
use culvert_wire::{CipherName, LocalAddress, PeerId};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    listeners::ListenerId, login::LoginState, management::Managed, push::ClientAddresses,
    push_update::Difference, revocation::Rules,
};
use crate::{address::RealAddress, log::PeerSpan, pool::Lease, session_task::SessionHandle};

/// One session of a server.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) handle: SessionHandle,
    pub(super) listener: ListenerId,
    /// Its name at the listener's door.
    pub(super) endpoint: Handle,
    pub(super) transport: TransportId,
    pub(super) protocol: Protocol,
    /// The peer's address now.
    pub(super) remote: SocketAddr,
    /// The local address it spoke to, where the transport knows it.
    pub(super) local: Option<LocalAddress>,
    /// Shared with the session.
    pub(super) identity: Arc<PeerIdentity>,
    /// What it logged in as.
    pub(super) username: String,
    pub(super) login: LoginState,
    /// Its password, until the management interface was asked about it; never kept otherwise.
    pub(super) password: Option<Zeroizing<String>>,
    /// What the management interface decided.
    pub(super) managed: Managed,
    pub(super) peer_info: Arc<PeerInfo>,
    pub(super) span: PeerSpan,
    /// Addresses from the pool, given back at its end.
    pub(super) lease: Option<Lease>,
    /// Fixed addresses that were reserved in the pool, given back at its end.
    pub(super) reserved: Vec<IpAddr>,
    /// Its last counters, once the offload let it go.
    pub(super) last_stats: Option<Box<PeerStats>>,
    /// What it was judged by, while it is on its way.
    pub(super) rules: Rules,
    /// Its listener knows that it gives way to nobody.
    pub(super) is_settled: bool,
    pub(super) state: State,
}

/// Where a session stands.
#[derive(Debug)]
pub(super) enum State {
    /// TLS, key exchange, login.
    Handshaking,
    /// Its configuration is being collected.
    Configuring(Box<Pending>),
    /// The offload carries its data.
    Connected(Box<Connected>),
}

/// What is known of a client between negotiation and connection.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) params: NegotiatedParams,
    pub(super) common_name: String,
    /// The name that it came with: its file, its place in the pool and its duplicates go by it. `common_name`, which all
    /// others see, is another one after `override-username`.
    pub(super) own_name: String,
    pub(super) overrides: ClientOverrides,
    /// What `client-connect` added to them.
    pub(super) added: String,
    /// Hooks were asked about its connection: they hear of its end, whatever they said.
    pub(super) were_asked: bool,
    /// Addresses and networks that `learn-address` agreed to.
    pub(super) announced: Vec<String>,
    pub(super) addresses: ClientAddresses,
    /// When its parameters were fixed: what scripts see as the beginning, also at the end.
    pub(super) since: SystemTime,
}

/// What a connected client holds; given back at its end.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) common_name: String,
    /// See [`Pending::own_name`].
    pub(super) own_name: String,
    /// Its id in the offload.
    pub(super) peer: PeerId,
    /// Its place among [`super::peer_ids::PeerIds`]: the same, unless the id came out of the key exchange.
    pub(super) slot: PeerId,
    pub(super) vpn: VpnAddresses,
    /// The same as it was told to the client.
    pub(super) addresses: ClientAddresses,
    /// What the configuration gave it when it was last told: the management interface may have changed that.
    pub(super) configured: ClientAddresses,
    pub(super) iroutes: Vec<(IpAddr, u8)>,
    /// What it was pushed, addresses apart.
    pub(super) pushed: Vec<String>,
    /// What the configuration says otherwise by now, and the client cannot be told.
    pub(super) untold: Difference,
    /// Ethernet addresses that were learned from it.
    pub(super) stations: BTreeSet<Station>,
    /// What `client-connect` added to its file.
    pub(super) added: String,
    /// The form of its packets, as the offload was told.
    pub(super) spec: PeerSpec,
    /// Networks that somebody routed to it by hand, where the engine has to be told.
    pub(super) routed: Vec<(IpAddr, u8)>,
    /// Routes of the machine that lead to it.
    pub(super) routes: Vec<Route>,
    pub(super) cipher: CipherName,
    pub(super) since: SystemTime,
    /// When it was connected: `session-timeout` counts from here.
    pub(super) started: Instant,
    /// `session-timeout`.
    pub(super) ends: Option<Instant>,
    /// `inactive`.
    pub(super) inactivity: Option<Inactivity>,
}

/// Watches for a client that carries too little.
#[derive(Debug)]
pub(super) struct Inactivity {
    pub(super) period: Duration,
    pub(super) bytes: u64,
    /// When the current period ends, and the byte count at its start.
    pub(super) due: Instant,
    pub(super) counted: u64,
}

impl Inactivity {
    /// Watches from now on.
    pub(super) fn from_now((period, bytes): (Duration, u64)) -> Self {
        Self { period, bytes, due: Instant::now() + period, counted: 0 }
    }
}

impl Connected {
    /// Gives it other limits: `session-timeout` of the time that it has had, `inactive` from now on where it differs.
    pub(super) fn limit(&mut self, session_timeout: Option<Duration>, inactive: Option<(Duration, u64)>) {
        self.ends = session_timeout.map(|after| self.started + after);
        let watched = self.inactivity.as_ref().map(|watch| (watch.period, watch.bytes));
        if watched != inactive {
            self.inactivity = inactive.map(Inactivity::from_now);
        }
    }
}

impl Client {
    /// The address as status files and log prefixes write it.
    pub(super) fn real_address(&self) -> RealAddress {
        RealAddress { address: self.remote, protocol: self.protocol }
    }

    /// Whether it has a place among the streams of strangers.
    pub(super) fn is_stranger_over_tcp(&self) -> bool {
        self.protocol == Protocol::Tcp && !self.is_settled
    }

    /// What the offload holds for it.
    pub(super) fn connected(&self) -> Option<&Connected> {
        match &self.state {
            State::Connected(connected) => Some(connected),
            State::Handshaking | State::Configuring(_) => None,
        }
    }
}
