//! The conversation with one peer.
//!
//! [`Session`] orders the calls of its parts and keeps none of their rules: an `exchange` per key (TLS over the
//! reliability layer), the `link` (address, session ids, wrapping), the schedule of the data keys, and a [`Phase`].
//! The files beside this one are the session's concepts: `receive` (packets in), `progress` (an exchange goes on),
//! `former` (the exchange before it), `diagnosis` (what was missing),
//! `server` and `client` (what is theirs: pushing, pulling), `messages` (control messages), `timers`, `closing`.
//!
//! A session lives as long as one pair of session ids: a peer that reconnects gets a new one.

mod client;
mod closing;
mod diagnosis;
mod exchange;
mod former;
mod link;
mod messages;
mod progress;
mod receive;
mod server;
mod timers;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_crypto::TlsRole;
use culvert_wire::{KeyId, LocalSid, Now, Opcode, RemoteSid, Transmit};

use self::{
    client::Pull,
    closing::Closing,
    diagnosis::Refused,
    exchange::{Beginning, Exchange},
    former::Former,
    link::Link,
    server::Pushing,
};
use crate::{
    Command, Credentials, Event, KeyRing, Note, PeerInfo, ProtoError, SessionConfig,
    endpoint::{Accepted, Start},
    key_exchange::{Binding, KeySource},
    keys::KeySchedule,
    negotiate::Agreement,
    push::Accumulator,
    renegotiation::Renegotiation,
    tls::TlsFactory,
    wrap::Wrapping,
};

/// Fills a buffer with random bytes: passed in, so that a simulation can replay a session.
pub type RandomSource = Box<dyn FnMut(&mut [u8]) + Send>;

/// The conversation with one peer.
pub struct Session {
    config: Arc<SessionConfig>,
    tls: Arc<dyn TlsFactory>,
    random: RandomSource,
    link: Link,
    /// The newest key's exchange. `None` only if not even the first could be opened.
    exchange: Option<Exchange>,
    /// The exchange before, for a while.
    former: Option<Box<Former>>,
    phase: Phase,
    /// What the first key message said of the peer.
    peer: Option<Peer>,
    /// What both ends agreed about the data channel; fixed for the session.
    agreement: Option<Agreement>,
    schedule: KeySchedule,
    renegotiation: Renegotiation,
    credentials: Option<Credentials>,
    /// [`SessionConfig::require_credentials`], or what the driver said since.
    require_credentials: bool,
    pushing: Pushing,
    /// Continuations of a push update.
    updates: Accumulator,
    /// A login or certificate that is undecided by then is refused; `None`: at the end of `hand-window`.
    verdict_due: Option<Instant>,
    /// Control messages that wait for an active key.
    texts: VecDeque<String>,
    events: VecDeque<Event>,
    started: bool,
    /// What was not taken while this exchange lasts.
    refused: Refused,
}

/// How far the session is. What a phase needs it owns.
enum Phase {
    /// The first key is being negotiated, or awaits verdicts.
    Handshaking,
    /// Pulling client: the key is active, options are awaited.
    Pulling(Pull),
    /// The driver makes the peer in its offload.
    Configuring,
    /// The first key is installed.
    Established,
    /// The end is certain; acknowledgements and farewells still flow.
    Closing(Closing),
    Closed,
}

/// The peer, as its first key message described it.
struct Peer {
    info: Arc<PeerInfo>,
    options: String,
    binding: Binding,
}

impl Session {
    /// Starts a session with a TLS server: a pulling client, or the client end of a point-to-point tunnel.
    #[must_use]
    pub fn client(
        config: Arc<SessionConfig>,
        tls: Arc<dyn TlsFactory>,
        wrapping: Wrapping,
        remote: SocketAddr,
        credentials: Option<Credentials>,
        mut random: RandomSource,
        now: Now,
    ) -> Self {
        let opcode =
            if wrapping.keys().wkc_len() > 0 { Opcode::HardResetClientV3 } else { Opcode::HardResetClientV2 };
        let sids = (Link::draw_sid(&mut random), None);
        let link = Link::new(remote, sids, wrapping, config.transport, config.max_packet_size);
        let mut session = Self::new(config, tls, link, random);
        session.credentials = credentials;
        session.open_exchange(now, KeyId::FIRST, Beginning::Reset(opcode));
        session
    }

    /// Starts a session with a TLS client that the endpoint accepted. The packet that made the endpoint accept it
    /// goes into [`Self::handle_datagram`] next.
    #[must_use]
    pub fn accepted(
        config: Arc<SessionConfig>,
        tls: Arc<dyn TlsFactory>,
        accepted: Accepted,
        mut random: RandomSource,
        now: Now,
    ) -> Self {
        let (local_sid, beginning) = match accepted.start {
            Start::AfterCookie(sid) => (sid, Beginning::Stateless),
            Start::FromReset => (Link::draw_sid(&mut random), Beginning::Reset(Opcode::HardResetServerV2)),
        };
        let sids = (local_sid, Some(accepted.remote_sid));
        let link =
            Link::new(accepted.from, sids, accepted.wrapping, config.transport, config.max_packet_size);
        let mut session = Self::new(config, tls, link, random);
        session.open_exchange(now, KeyId::FIRST, beginning);
        session
    }

    fn new(config: Arc<SessionConfig>, tls: Arc<dyn TlsFactory>, link: Link, random: RandomSource) -> Self {
        Self {
            require_credentials: config.require_credentials,
            config,
            tls,
            random,
            link,
            exchange: None,
            former: None,
            phase: Phase::Handshaking,
            peer: None,
            agreement: None,
            schedule: KeySchedule::default(),
            renegotiation: Renegotiation::default(),
            credentials: None,
            pushing: Pushing::default(),
            updates: Accumulator::default(),
            verdict_due: None,
            texts: VecDeque::new(),
            events: VecDeque::new(),
            started: false,
            refused: Refused::default(),
        }
    }

    /// Takes one packet.
    ///
    /// # Errors
    /// When the packet was dropped.
    pub fn handle_datagram(&mut self, now: Now, from: SocketAddr, bytes: &[u8]) -> Result<(), ProtoError> {
        let taken = self.receive(now, from, bytes);
        self.advance(now);
        taken
    }

    /// Takes an answer or order of the driver. Answers that come too late have no effect.
    pub fn handle_command(&mut self, now: Now, command: Command) {
        if self.is_closed() {
            return;
        }
        match command {
            Command::PeerVerdict(key, verdict) => self.peer_verdict(now, key, verdict),
            Command::AuthVerdict(key, authorization) => self.auth_verdict(now, key, authorization),
            Command::ApplyPush(pushed) => self.apply_push(now, &pushed),
            Command::Offer(offer) => self.offer(now, &offer),
            Command::Configured { peer_id, push } => self.configured(now, peer_id, push),
            Command::Refuse(reason) => {
                self.refuse(now, reason, crate::CloseReason::Denied("refused".to_owned()))
            }
            Command::Credentials(credentials) => self.credentials = Some(credentials),
            Command::RequireCredentials(required) => self.require_credentials = required,
            Command::SendMessage(text) => self.texts.push_back(text),
            Command::Usage { packets, bytes } => self.take_usage(now, (packets, bytes)),
            Command::Renegotiate => self.demand_renegotiation(now),
            Command::Floated(address) => self.link.remote = address,
            Command::Exit => self.exit(now),
        }
        self.advance(now);
    }

    /// Acts on expired deadlines; early calls are harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        self.expire(now);
        self.advance(now);
    }

    /// Returns the next packet to send, written into `buf`, which wants 2048 bytes. Goes on after
    /// [`Event::Closed`]: what is left are acknowledgements and a last alert.
    pub fn poll_transmit<'b>(&mut self, now: Now, buf: &'b mut [u8]) -> Option<Transmit<'b>> {
        let newest = self.exchange.as_mut().and_then(|exchange| exchange.emit(now, &mut self.link, buf));
        let len = match newest {
            Some(len) => len,
            None => self.former.as_mut()?.emit(now, &mut self.link, buf)?,
        };
        Some(Transmit { to: self.link.remote, from: None, bytes: buf.get(..len)? })
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            // Most sessions are idle most of the time, and there are many.
            self.events = VecDeque::new();
        }
        event
    }

    /// Returns when [`Self::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_deadline()
    }

    /// The peer's address.
    #[must_use]
    pub const fn remote(&self) -> SocketAddr {
        self.link.remote
    }

    /// Our session id.
    #[must_use]
    pub const fn local_sid(&self) -> LocalSid {
        self.link.local_sid
    }

    /// The peer's session id, once it is known.
    #[must_use]
    pub const fn remote_sid(&self) -> Option<RemoteSid> {
        self.link.remote_sid
    }

    /// Returns whether [`Event::Closed`] was emitted.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Returns whether the newest key's TLS handshake still goes on: the next packet may cost a millisecond.
    #[must_use]
    pub fn is_tls_handshaking(&self) -> bool {
        self.exchange.as_ref().is_some_and(Exchange::is_tls_handshaking)
    }

    /// Returns whether the data channel is up.
    #[must_use]
    pub const fn established(&self) -> bool {
        matches!(self.phase, Phase::Established)
    }

    /// The common name of the peer's certificate, once its key message arrived; empty without certificate.
    #[must_use]
    pub fn peer_common_name(&self) -> Option<&str> {
        self.peer.as_ref().map(|peer| peer.binding.common_name())
    }

    /// The data keys in the offload.
    #[must_use]
    pub const fn keys(&self) -> KeyRing {
        self.schedule.ring()
    }

    fn role(&self) -> TlsRole {
        if self.config.mode.is_tls_server() { TlsRole::Server } else { TlsRole::Client }
    }

    fn open_exchange(&mut self, now: Now, key: KeyId, beginning: Beginning) {
        let role = self.role();
        match self.tls.open() {
            Ok(tls) => {
                let own = KeySource::generate(role, &mut self.random);
                let settings = (role, self.config.timing.tls_timeout);
                self.exchange = Some(Exchange::new(now, key, beginning, tls, own, settings));
                self.verdict_due = None;
            }
            Err(error) => self.close(crate::CloseReason::Tls(error.to_string())),
        }
    }

    /// Queues an event; nothing follows [`Event::Closed`].
    fn emit(&mut self, event: Event) {
        if !self.is_closed() {
            self.events.push_back(event);
        }
    }

    fn log(&mut self, level: u8, line: impl Into<String>) {
        self.emit(Event::Note(Note::Line(level, line.into())));
    }

    fn emit_keys(&mut self, ops: Vec<crate::KeyOp>) {
        for op in ops {
            self.emit(Event::Key(op));
        }
    }

    /// Half of `reneg-sec`, but `hand-window` at least: how long logins may be pending.
    fn longest_wait(&self) -> Duration {
        let timing = &self.config.timing;
        timing.hand_window.max(timing.reneg_sec / 2)
    }

    const fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Closing(_) | Phase::Closed)
    }
}
