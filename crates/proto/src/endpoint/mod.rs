//! The server's door: packets of strangers, and the way to sessions for everybody else.
//!
//! ```text
//! packet -> session known by address and session id? ------------------------------> Route
//!        -> hard reset, wrapping verifies, budget left: reset with a cookie ------->  Reply   (nothing is kept)
//!        -> CONTROL, WKC or ACK, wrapping verifies, echoes the cookie: ------------>  Accept
//!        -> anything else --------------------------------------------------------->  Drop, by name
//! ```
//!
//! Not a session: replay state, TLS and everything later is [`crate::Session`]'s. Not a socket: the caller sends what
//! [`EndpointAction::Reply`] lends, and gives the accepted packet itself to the new session.
//!
//! A hard reset from the address of a running session is treated like a stranger's: the running session is not
//! disturbed, and a second one is accepted beside it only after the cookie came back (SEC-CTL-10); the caller ends
//! the old one when the new one is authenticated. On TCP the connection is the state: the first hard reset is
//! accepted at once, without cookie. The same holds for tls-crypt-v2 clients that cannot resend their wrapped key
//! (before 2.6), unless [`EndpointConfig::force_cookie`].
//!
//! Source: protocol document, "Stateless server handshake"; bounds from SEC-CTL-1 to SEC-CTL-5.

mod budget;
mod routes;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use culvert_crypto::{CookieKey, CryptoError, TlsCryptV2ServerKey, TlsRole};
use culvert_wire::{
    AckBlock, Control, ControlHeader, KeyId, LocalSid, MessageId, Now, Opcode, RemoteSid, WireError,
};

use self::{
    budget::{ReplyBudget, Window},
    routes::Routes,
};
use crate::{
    Transport,
    cookie::Cookies,
    wrap::{ReplayId, ReplayLimits, WrapError, WrapKeys, Wrapping},
};

pub use self::{budget::Rate, routes::Handle};

/// Longest packet that is looked at before its sender is known.
pub const MAX_FIRST_PACKET: usize = 2048;
/// Half-open sessions that every source prefix may have (SEC-CTL-5). It may have more while at most half of all that
/// there may be are taken: a site behind one address reconnects at once, and leaves as many places to others.
pub const MAX_HALF_OPEN_PER_PREFIX: usize = 16;
/// Payload of the reset that asks a tls-crypt-v2 client to append its wrapped key again:
/// type 1 (early negotiation flags), length 2, flag RESEND_WKC.
const RESEND_WKC_TLV: [u8; 6] = [0, 1, 0, 2, 0, 1];

/// What an endpoint needs to know.
pub struct EndpointConfig {
    /// With [`Transport::Tcp`] no cookies are needed.
    pub transport: Transport,
    /// Wrapping for opcodes other than 10 and 11: none, tls-auth or tls-crypt; `None` refuses such clients
    /// (tls-crypt-v2 alone is configured).
    pub wrap: Option<Arc<WrapKeys>>,
    /// `tls-crypt-v2`.
    pub tls_crypt_v2: Option<Arc<TlsCryptV2ServerKey>>,
    /// `tls-crypt-v2 … force-cookie`: refuse clients that cannot do the stateless start.
    pub force_cookie: bool,
    /// `replay-window` for the sessions.
    pub replay: ReplayLimits,
    /// `hand-window`: life of a cookie.
    pub hand_window: Duration,
    /// `connect-freq-initial`: replies to each host; its net gets ten times as many.
    pub initial_rate: Option<Rate>,
    /// `connect-freq`: new sessions in all.
    pub session_rate: Option<Rate>,
    /// Half-open sessions in all: max(256, `max-clients` / 2).
    pub max_half_open: usize,
}

/// What to do about a packet.
pub enum EndpointAction<'b> {
    /// Send this to where the packet came from.
    Reply(&'b [u8]),
    /// Make a session, and give it the packet.
    Accept(Box<Accepted>),
    /// The packet belongs to this session.
    Route(Handle),
    /// Count it and forget it.
    Drop(DropReason),
}

/// A peer worth a session.
pub struct Accepted {
    /// Names the session from now on; [`Endpoint::remove`] it at its end.
    pub handle: Handle,
    /// The peer's address.
    pub from: SocketAddr,
    /// The peer's session id.
    pub remote_sid: RemoteSid,
    /// How the session starts.
    pub start: Start,
    /// The session's wrapping, in the state in which it goes on.
    pub wrapping: Wrapping,
    /// tls-crypt-v2: type byte and content of the client key's metadata; to be judged by policy.
    pub metadata: Option<Vec<u8>>,
    /// Sessions to close: an older unfinished one from this address, or a half-open one that gave way when all places
    /// were taken. Their routes are gone already.
    pub evicted: Vec<Handle>,
}

/// How an accepted session starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The stateless exchange is done: this is our session id, our reset (message 0) is acknowledged, both
    /// directions go on with message 1 ([`crate::reliable::Reliable::after_stateless_reset`]).
    AfterCookie(LocalSid),
    /// The packet is the peer's hard reset: choose a session id, answer with a reset.
    FromReset,
}

/// Why a packet of a stranger was dropped: one counter each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// Layout.
    Malformed(WireError),
    /// Longer than [`MAX_FIRST_PACKET`].
    Oversize,
    /// A data packet, or a control packet that belongs to no session and cannot start one.
    Unexpected(Opcode),
    /// A key id other than 0 from a stranger.
    KeyId,
    /// The wrapping does not verify.
    Wrapping(WrapError),
    /// The wrapped client key does not verify.
    WrappedKey,
    /// The client cannot do the stateless start, and `force-cookie` is set.
    NoCookieSupport,
    /// No session id echoed, or more acknowledged than a third packet can.
    NotThirdPacket,
    /// The echoed session id is not a valid cookie.
    Cookie,
    /// The budget for replies, or for new sessions, is used up.
    RateLimit,
    /// Too many half-open sessions, from this prefix or in all.
    HalfOpen,
}

impl DropReason {
    /// A word for it, as metrics have it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Oversize => "oversize",
            Self::Unexpected(_) => "unexpected",
            Self::KeyId => "key_id",
            Self::Wrapping(_) => "wrapping",
            Self::WrappedKey => "wrapped_key",
            Self::NoCookieSupport => "no_cookie_support",
            Self::NotThirdPacket => "not_third_packet",
            Self::Cookie => "cookie",
            Self::RateLimit => "rate_limit",
            Self::HalfOpen => "half_open",
        }
    }
}

impl From<WrapError> for DropReason {
    fn from(error: WrapError) -> Self {
        match error {
            WrapError::Wire(error) => Self::Malformed(error),
            error => Self::Wrapping(error),
        }
    }
}

/// The door of one listening socket.
pub struct Endpoint {
    config: EndpointConfig,
    cookies: Cookies,
    /// Only where strangers are answered; it is large, and every TCP stream has a door of its own.
    budget: Option<ReplyBudget>,
    sessions: Option<Window>,
    routes: Routes,
    scratch: Box<[u8; MAX_FIRST_PACKET]>,
}

impl Endpoint {
    /// Opens the door. `secret` is random, fresh at each start.
    #[must_use]
    pub fn new(config: EndpointConfig, secret: &[u8; 32]) -> Self {
        let (mut cookie_key, mut budget_key) = ([0; 16], [0; 16]);
        cookie_key.copy_from_slice(&secret[..16]);
        budget_key.copy_from_slice(&secret[16..]);
        Self {
            cookies: Cookies::new(CookieKey::new(cookie_key), config.hand_window),
            budget: (config.transport == Transport::Udp)
                .then(|| ReplyBudget::new(CookieKey::new(budget_key), config.initial_rate)),
            sessions: config.session_rate.map(Window::new),
            routes: Routes::default(),
            scratch: Box::new([0; MAX_FIRST_PACKET]),
            config,
        }
    }

    /// Decides about one packet. `buf` takes the reply and needs [`MAX_FIRST_PACKET`] bytes. Strangers' packets
    /// leave nothing behind but the budget's fixed table (SEC-CTL-1, SEC-CTL-2).
    pub fn handle_datagram<'b>(
        &mut self,
        now: Now,
        from: SocketAddr,
        packet: &[u8],
        buf: &'b mut [u8],
    ) -> EndpointAction<'b> {
        match self.decide(now, from, packet, buf) {
            Ok(action) => action,
            Err(reason) => EndpointAction::Drop(reason),
        }
    }

    /// Returns the session that a packet belongs to; `None` for packets of strangers, and what is no packet.
    #[must_use]
    pub fn route(&mut self, now: Now, from: SocketAddr, packet: &[u8]) -> Option<Handle> {
        let (header, _) = ControlHeader::parse(packet).ok()?;
        let handle = self.routes.find(from, RemoteSid(header.session_id))?;
        self.routes.heard(handle, now.mono);
        Some(handle)
    }

    /// Changes `connect-freq-initial`, `connect-freq` and the number of half-open sessions while sessions go on. What was
    /// used up under a limit that stays the same remains so.
    pub fn set_limits(&mut self, initial: Option<Rate>, sessions: Option<Rate>, max_half_open: usize) {
        if let Some(budget) = &mut self.budget {
            budget.set_rate(initial);
        }
        if self.config.session_rate != sessions {
            self.sessions = sessions.map(Window::new);
        }
        self.config.initial_rate = initial;
        self.config.session_rate = sessions;
        self.config.max_half_open = max_half_open;
    }

    /// The session finished its handshake: it no longer counts as half-open.
    pub fn established(&mut self, handle: Handle) {
        self.routes.established(handle);
    }

    /// The session is over. Unknown handles are ignored.
    pub fn remove(&mut self, handle: Handle) {
        self.routes.remove(handle);
    }

    /// The peer's authenticated data came from another address: its control packets are expected from there.
    ///
    /// # Errors
    /// The session that owns the new address; nothing has changed then (SEC-DATA-4).
    pub fn float(&mut self, handle: Handle, to: SocketAddr) -> Result<(), Handle> {
        self.routes.float(handle, to)
    }

    /// Where a session's packets come from.
    #[must_use]
    pub fn address(&self, handle: Handle) -> Option<SocketAddr> {
        self.routes.address(handle)
    }

    /// Number of half-open sessions.
    #[must_use]
    pub fn half_open(&self) -> usize {
        self.routes.half_open()
    }

    fn decide<'b>(
        &mut self,
        now: Now,
        from: SocketAddr,
        packet: &[u8],
        buf: &'b mut [u8],
    ) -> Result<EndpointAction<'b>, DropReason> {
        let (header, _) = ControlHeader::parse(packet).map_err(|error| refuse_data(packet, error))?;
        if let Some(handle) = self.route(now, from, packet) {
            return Ok(EndpointAction::Route(handle));
        }
        if header.key_id != KeyId::FIRST {
            return Err(DropReason::KeyId);
        }
        if packet.len() > MAX_FIRST_PACKET {
            return Err(DropReason::Oversize);
        }
        match header.opcode {
            Opcode::HardResetClientV2 | Opcode::HardResetClientV3 => {
                self.handle_reset(now, from, header, packet, buf)
            }
            Opcode::ControlV1 | Opcode::ControlWkcV1 | Opcode::AckV1
                if self.config.transport == Transport::Udp =>
            {
                self.handle_third(now, from, header, packet)
            }
            other => Err(DropReason::Unexpected(other)),
        }
    }

    /// A first packet: answer without keeping anything, or (TCP, old tls-crypt-v2 clients) start a session.
    fn handle_reset<'b>(
        &mut self,
        now: Now,
        from: SocketAddr,
        header: ControlHeader,
        packet: &[u8],
        buf: &'b mut [u8],
    ) -> Result<EndpointAction<'b>, DropReason> {
        let client = self.client_keys(header.opcode, packet)?;
        let (control, id) = client.keys.open_stateless(packet, &mut self.scratch[..])?;
        if control.message_id != Some(MessageId(0)) {
            return Err(DropReason::NotThirdPacket);
        }
        let can_resend = id.is_some_and(ReplayId::signals_early_negotiation);
        let wrapped = header.opcode == Opcode::HardResetClientV3;
        if self.config.transport == Transport::Tcp {
            if !self.routes.is_empty() {
                // A peer that starts anew opens a new stream.
                return Err(DropReason::Unexpected(header.opcode));
            }
            return self.accept(now, from, header, Start::FromReset, client);
        }
        if wrapped && !can_resend && self.config.force_cookie {
            return Err(DropReason::NoCookieSupport);
        }
        if !self.budget.as_mut().is_none_or(|budget| budget.take(now, from.ip())) {
            return Err(DropReason::RateLimit);
        }
        if wrapped && !can_resend {
            return self.accept(now, from, header, Start::FromReset, client);
        }
        let remote = RemoteSid(header.session_id);
        let reply = Control {
            header: ControlHeader {
                opcode: Opcode::HardResetServerV2,
                key_id: KeyId::FIRST,
                session_id: self.cookies.issue(now, from, remote).0,
            },
            acks: AckBlock::from_iter([MessageId(0)]),
            echoed: Some(header.session_id),
            message_id: Some(MessageId(0)),
            payload: if wrapped { &RESEND_WKC_TLV } else { &[] },
        };
        let id = ReplayId { packet_id: 1, time: now.unix };
        let len = client.keys.seal_stateless(id, &reply, buf)?;
        Ok(EndpointAction::Reply(&buf[..len]))
    }

    /// A third packet: it must prove that the sender got our reply.
    fn handle_third<'b>(
        &mut self,
        now: Now,
        from: SocketAddr,
        header: ControlHeader,
        packet: &[u8],
    ) -> Result<EndpointAction<'b>, DropReason> {
        let client = self.client_keys(header.opcode, packet)?;
        let (control, _) = client.keys.open_stateless(packet, &mut self.scratch[..])?;
        let latest = MessageId(1);
        let fits = control.acks.as_slice().iter().all(|&ack| ack <= latest)
            && control.message_id.is_none_or(|id| id <= latest);
        let Some(echoed) = control.echoed_local().filter(|_| fits) else {
            return Err(DropReason::NotThirdPacket);
        };
        if !self.cookies.verify(now, from, RemoteSid(header.session_id), echoed) {
            return Err(DropReason::Cookie);
        }
        let accepted = self.accept(now, from, header, Start::AfterCookie(echoed), client)?;
        // Only now: what is refused may be repeated, and would give back without end.
        if let Some(budget) = &mut self.budget {
            budget.give_back(now, from.ip());
        }
        Ok(accepted)
    }

    fn accept<'b>(
        &mut self,
        now: Now,
        from: SocketAddr,
        header: ControlHeader,
        start: Start,
        client: ClientKeys,
    ) -> Result<EndpointAction<'b>, DropReason> {
        let is_crowded = self.routes.half_open() >= self.config.max_half_open / 2;
        if is_crowded && self.routes.half_open_from(from.ip()) >= MAX_HALF_OPEN_PER_PREFIX {
            return Err(DropReason::HalfOpen);
        }
        if !self.sessions.as_mut().is_none_or(|window| window.take(now)) {
            return Err(DropReason::RateLimit);
        }
        let remote_sid = RemoteSid(header.session_id);
        let (handle, evicted) = self
            .routes
            .insert(now.mono, from, remote_sid, self.config.max_half_open)
            .ok_or(DropReason::HalfOpen)?;
        let sent = match start {
            // Replay id 1 was the stateless reset's; repeating it would look like a replay.
            Start::AfterCookie(_) => 1,
            Start::FromReset => 0,
        };
        let wrapping = Wrapping::continuing(client.keys, self.config.replay, sent);
        let metadata = client.metadata;
        let accepted = Accepted { handle, from, remote_sid, start, wrapping, metadata, evicted };
        Ok(EndpointAction::Accept(Box::new(accepted)))
    }

    /// The keys for a stranger's packet: the configured ones, or those in the wrapped key behind it.
    fn client_keys(&self, opcode: Opcode, packet: &[u8]) -> Result<ClientKeys, DropReason> {
        if !matches!(opcode, Opcode::HardResetClientV3 | Opcode::ControlWkcV1) {
            let keys = self.config.wrap.clone().ok_or(DropReason::Unexpected(opcode))?;
            return Ok(ClientKeys { keys, metadata: None });
        }
        let server = self.config.tls_crypt_v2.as_ref().ok_or(DropReason::Unexpected(opcode))?;
        let unwrap = || -> Result<ClientKeys, CryptoError> {
            let (_, wkc) = TlsCryptV2ServerKey::split_packet(packet)?;
            let client = server.unwrap(wkc)?;
            let keys = Arc::new(WrapKeys::tls_crypt(client.key, TlsRole::Server)?);
            Ok(ClientKeys { keys, metadata: Some(client.metadata) })
        };
        unwrap().map_err(|_| DropReason::WrappedKey)
    }
}

struct ClientKeys {
    keys: Arc<WrapKeys>,
    metadata: Option<Vec<u8>>,
}

/// Names data packets as such: strangers' data is expected after a restart, and is not malformed.
fn refuse_data(packet: &[u8], error: WireError) -> DropReason {
    match packet.first().copied().and_then(Opcode::from_header) {
        Some(opcode) if opcode.is_data() => DropReason::Unexpected(opcode),
        _ => DropReason::Malformed(error),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
