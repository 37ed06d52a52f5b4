//! One task per transport of a server: reads its control port, answers strangers, routes packets to sessions.
//!
//! A UDP socket is one transport with many peers; every accepted TCP stream is a transport with one. Strangers cost
//! nothing: [`Endpoint`] keeps no state before a peer has proven its address. And they take nothing away: packets of
//! sessions come first, strangers get a [`Share`] of this thread's time, and after each batch others have their turn.

use std::{
    collections::HashMap,
    future::{pending, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_config::{Profile, profile::ConnectFreq};
use culvert_offload::{ControlBatch, ControlPacket, ControlReceiver, ControlSender, Protocol, TransportId};
use culvert_proto::endpoint::{Accepted, Endpoint, EndpointAction, Handle, MAX_FIRST_PACKET, Rate};
use culvert_wire::{LocalAddress, Opcode, RemoteSid, Transmit};
use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
    time::sleep,
};
use tracing::{debug, warn};

use super::{refusals::Refusals, share::Share};
use crate::{
    clock,
    metrics::Tally,
    places::Place,
    session_task::{SessionHandle, SessionInput, SessionKey},
};

/// Names a listener task within its server; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ListenerId(pub(super) u64);

/// What a listener asks of the server. Handshakes wait for the answer; established peers do not come through here.
pub(super) struct AcceptRequest {
    pub(super) listener: ListenerId,
    pub(super) protocol: Protocol,
    pub(super) transport: TransportId,
    pub(super) control: Arc<dyn ControlSender>,
    pub(super) local: Option<LocalAddress>,
    pub(super) accepted: Box<Accepted>,
    /// The new session, or `None` when the server has no place for it.
    pub(super) answer: oneshot::Sender<Option<SessionHandle>>,
}

/// What a listener tells the server.
pub(super) enum ListenerReport {
    /// A stranger proved its address.
    Accept(AcceptRequest),
    /// These unfinished sessions gave way to a newer one.
    Evicted(Vec<SessionKey>),
    /// The transport is over (a TCP stream ended, a socket failed).
    Ended(ListenerId, TransportId),
}

/// What the server tells a listener.
pub(super) enum ListenerOrder {
    /// A session finished its handshake.
    Established(Handle),
    /// A session is over.
    Forget(Handle),
    /// A peer sends from a new address.
    Moved(Handle, SocketAddr),
    /// `connect-freq-initial`, `connect-freq` and the number of half-open sessions are others now.
    Limits(Limits),
    /// The server leaves: strangers, and clients that heard it and call again, get no answer.
    Leave,
}

/// How many strangers are answered, and let in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// `connect-freq-initial`.
    pub(super) initial: Option<Rate>,
    /// `connect-freq`.
    pub(super) sessions: Option<Rate>,
    /// Sessions on their way at a time: half of `max-clients` and at least 256. SEC-CTL-5 has a quarter; but crowds that come
    /// back need the room: with half of it, 2000 clients that came at once to a server for 4000 all got in, 99 % of them
    /// within 2.3 s (`culvert bench crowd`). Who is silent for long, or old, gives way in any case.
    pub(super) max_half_open: usize,
}

impl Limits {
    /// Those of a profile.
    pub(super) fn of(profile: &Profile) -> Self {
        let server = &profile.server;
        let rate = |freq: ConnectFreq| Rate { count: freq.count, per: freq.per };
        let clients = usize::try_from(server.max_clients).unwrap_or(usize::MAX);
        Self {
            initial: server.connect_freq_initial.map(rate),
            sessions: server.connect_freq.map(rate),
            max_half_open: (clients / 2).max(256),
        }
    }
}

/// The server's end of a listener. Unbounded, because the server must not wait for a listener that waits for it; the
/// number of orders is bounded by that of sessions.
pub(super) type Orders = mpsc::UnboundedSender<ListenerOrder>;

/// The control port of a transport.
pub(super) struct Port {
    /// Answers leave by the interface that the question came by (`multihome same-interface`).
    pub(super) same_interface: bool,
    pub(super) transport: TransportId,
    pub(super) receiver: Box<dyn ControlReceiver>,
    pub(super) control: Arc<dyn ControlSender>,
}

/// Starts the task of a transport; a stream keeps its place until its client is no stranger any more.
pub(super) fn spawn(
    id: ListenerId,
    protocol: Protocol,
    port: Port,
    place: Option<Place>,
    endpoint: Endpoint,
    reports: mpsc::Sender<ListenerReport>,
    tally: Arc<Tally>,
) -> Orders {
    let Port { same_interface, transport, receiver, control } = port;
    let (orders, inbox) = mpsc::unbounded_channel();
    let listener = Listener {
        id,
        protocol,
        same_interface,
        transport,
        receiver,
        control,
        place,
        endpoint,
        reports,
        tally,
        sessions: HashMap::new(),
        share: Share::new(Instant::now()),
        reply: Box::new([0; MAX_FIRST_PACKET]),
        leaving: false,
        over: false,
        refusals: Refusals::default(),
    };
    tokio::spawn(listener.run(inbox));
    orders
}

struct Listener {
    id: ListenerId,
    protocol: Protocol,
    /// See [`Port`].
    same_interface: bool,
    transport: TransportId,
    receiver: Box<dyn ControlReceiver>,
    control: Arc<dyn ControlSender>,
    /// A stream's place among those of strangers, while its client is one.
    place: Option<Place>,
    endpoint: Endpoint,
    reports: mpsc::Sender<ListenerReport>,
    tally: Arc<Tally>,
    sessions: HashMap<Handle, Routed>,
    /// What strangers may take of this thread's time.
    share: Share,
    /// What a stranger is answered with.
    reply: Box<[u8; MAX_FIRST_PACKET]>,
    leaving: bool,
    /// A stream whose bytes lead nowhere.
    over: bool,
    /// Says why strangers are not answered.
    refusals: Refusals,
}

/// A session that packets are routed to.
struct Routed {
    session: SessionHandle,
    /// Its peer's session id.
    sender: RemoteSid,
}

/// Whether a client's first packet has this form.
fn is_greeting(packet: &[u8]) -> bool {
    packet
        .first()
        .and_then(|&first| Opcode::from_header(first))
        .is_some_and(|opcode| matches!(opcode, Opcode::HardResetClientV2 | Opcode::HardResetClientV3))
}

/// How long a new stream may take for its first control packet (SEC-CTL-11).
const FIRST_PACKET: Duration = Duration::from_secs(10);

/// Waits until somebody else got the place; for ever where there is none to lose.
async fn lost(place: Option<&Place>) {
    match place {
        Some(place) => place.lost().await,
        None => pending().await,
    }
}

impl Listener {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<ListenerOrder>) {
        let mut batch = ControlBatch::default();
        let mut patience = pin!(sleep(FIRST_PACKET));
        while !self.over {
            tokio::select! {
                // An order may say that it is no stranger's any more.
                biased;
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                () = &mut patience, if self.is_strangers_stream() => {
                    debug!("a stream brought nothing in time");
                    break;
                }
                () = lost(self.place.as_ref()) => {
                    debug!("a stream gave way to another stranger's");
                    break;
                }
                read = poll_fn(|cx| self.receiver.poll_recv(cx, &mut batch)) => {
                    if let Err(failure) = read {
                        debug!("control port failed: {failure}");
                        break;
                    }
                    if batch.packets.is_empty() {
                        break; // closed by the peer
                    }
                    self.handle_batch(std::mem::take(&mut batch.packets)).await;
                    yield_now().await;
                }
            }
        }
        let _gone = self.reports.send(ListenerReport::Ended(self.id, self.transport)).await;
    }

    fn obey(&mut self, order: ListenerOrder) {
        match order {
            ListenerOrder::Leave => self.leaving = true,
            ListenerOrder::Limits(Limits { initial, sessions, max_half_open }) => {
                self.endpoint.set_limits(initial, sessions, max_half_open);
            }
            ListenerOrder::Established(handle) => {
                self.endpoint.established(handle);
                self.place = None;
            }
            ListenerOrder::Forget(handle) => {
                self.forget(handle);
                self.endpoint.remove(handle);
            }
            ListenerOrder::Moved(handle, address) => {
                if self.endpoint.float(handle, address).is_err() {
                    warn!(
                        "a peer claims the address {address} of another one; its control packets stay where they were"
                    );
                }
            }
        }
    }

    /// Whether this is a TCP stream without a session.
    fn is_strangers_stream(&self) -> bool {
        self.protocol == Protocol::Tcp && self.sessions.is_empty()
    }

    fn forget(&mut self, handle: Handle) -> Option<SessionKey> {
        let routed = self.sessions.remove(&handle)?;
        self.receiver.forget(routed.sender.0);
        Some(routed.session.key)
    }

    /// Packets of sessions first, then those of strangers. Without time left for these, nobody new is greeted; but who was
    /// greeted already is heard, because 2.5 cannot repeat its answer: it acknowledges our greeting only once.
    async fn handle_batch(&mut self, packets: Vec<ControlPacket>) {
        let mut strangers = Vec::new();
        for mut packet in packets {
            if !self.same_interface {
                packet.to = packet.to.map(LocalAddress::anywhere);
            }
            match self.endpoint.route(clock::at(packet.at), packet.from, &packet.bytes) {
                Some(handle) => self.route(handle, packet),
                None => strangers.push(packet),
            }
        }
        let mut ignored = 0;
        for packet in strangers {
            let start = Instant::now();
            // A stream has one stranger, who cannot repeat what was taken out of it.
            let greets = self.protocol == Protocol::Tcp || self.share.has_time(start);
            if !is_greeting(&packet.bytes) {
                // Not charged: an accepted client waits for others, and their limits bound it.
                self.handle(packet).await;
            } else if greets {
                self.handle(packet).await;
                let end = Instant::now();
                self.share.charge(end, end.saturating_duration_since(start));
            } else {
                ignored += 1;
            }
        }
        if ignored > 0 {
            self.tally.dropped_many("no_time", ignored);
            debug!("more strangers than there is time for: {ignored} packets dropped");
        }
    }

    fn route(&self, handle: Handle, packet: ControlPacket) {
        if let Some(routed) = self.sessions.get(&handle)
            && !routed.session.send(SessionInput::Packet(packet))
        {
            debug!("a session cannot keep up with its control packets; one was dropped");
        }
    }

    async fn handle(&mut self, packet: ControlPacket) {
        let now = clock::at(packet.at);
        match self.endpoint.handle_datagram(now, packet.from, &packet.bytes, &mut self.reply[..]) {
            EndpointAction::Reply(_) | EndpointAction::Accept(_) if self.leaving => {}
            EndpointAction::Reply(bytes) => {
                let reply = Transmit { to: packet.from, from: packet.to, bytes };
                if let Err(failure) = poll_fn(|cx| self.control.poll_send(cx, &reply)).await {
                    debug!("cannot answer {}: {failure}", packet.from);
                }
            }
            EndpointAction::Route(handle) => self.route(handle, packet),
            EndpointAction::Accept(accepted) => self.accept(packet, accepted).await,
            EndpointAction::Drop(reason) => {
                self.tally.dropped(reason.word());
                debug!("dropped a packet from {}: {reason:?}", packet.from);
                self.refusals.tell(packet.from, reason);
                // Nothing that follows such a beginning can be trusted.
                self.over |= self.is_strangers_stream();
            }
        }
    }

    async fn accept(&mut self, packet: ControlPacket, mut accepted: Box<Accepted>) {
        let (handle, sender) = (accepted.handle, accepted.remote_sid);
        let evicted: Vec<_> = accepted.evicted.drain(..).filter_map(|old| self.forget(old)).collect();
        let (answer, answered) = oneshot::channel();
        let request = AcceptRequest {
            listener: self.id,
            protocol: self.protocol,
            transport: self.transport,
            control: Arc::clone(&self.control),
            local: packet.to,
            accepted,
            answer,
        };
        let gone = !evicted.is_empty() && self.reports.send(ListenerReport::Evicted(evicted)).await.is_err();
        if gone || self.reports.send(ListenerReport::Accept(request)).await.is_err() {
            return;
        }
        if let Ok(Some(session)) = answered.await {
            session.send(SessionInput::Packet(packet));
            self.receiver.prefer(sender.0);
            self.sessions.insert(handle, Routed { session, sender });
        } else {
            self.endpoint.remove(handle);
            self.over |= self.is_strangers_stream();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        task::{Context, Poll},
    };

    use culvert_proto::{Transport, endpoint::EndpointConfig, wrap::ReplayLimits, wrap::WrapKeys};

    use super::*;
    use crate::places::{Places, WhenFull};

    /// `u8 opcode, u8 session id[8], u8 acks, u32 message id`.
    fn hard_reset() -> Vec<u8> {
        [&[7 << 3][..], &[1; 8], &[0; 5]].concat()
    }

    /// A port at which strangers knock faster than anybody can answer, until `most` batches were taken.
    struct Flood {
        batches: Arc<AtomicUsize>,
        most: usize,
    }

    impl ControlReceiver for Flood {
        fn poll_recv(&mut self, _: &mut Context<'_>, batch: &mut ControlBatch) -> Poll<io::Result<()>> {
            let number = self.batches.fetch_add(1, Relaxed);
            if number >= self.most {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            }
            let hard_reset = hard_reset();
            let [low, high] = [number % 250, number / 250 % 250].map(|n| u8::try_from(n).unwrap_or(0));
            let from = SocketAddr::from(([192, 0, high, low], 1194));
            batch.packets.push(ControlPacket { at: Instant::now(), from, to: None, bytes: hard_reset });
            Poll::Ready(Ok(()))
        }
    }

    /// Counts what is sent.
    #[derive(Default)]
    struct Replies(AtomicUsize);

    impl ControlSender for Replies {
        fn poll_send(&self, _: &mut Context<'_>, _: &Transmit<'_>) -> Poll<io::Result<()>> {
            self.0.fetch_add(1, Relaxed);
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn only_hard_resets_of_clients_are_greetings() {
        let first_byte = |opcode: u8| [opcode << 3, 1, 2, 3];
        let greetings: Vec<u8> = (0..32).filter(|&opcode| is_greeting(&first_byte(opcode))).collect();
        assert_eq!(greetings, [7, 10], "P_CONTROL_HARD_RESET_CLIENT_V2 and _V3; 4 and 11 answer a greeting");
        assert!(!is_greeting(&[]));
    }

    /// A stream that brings nothing.
    struct Silent;

    impl ControlReceiver for Silent {
        fn poll_recv(&mut self, _: &mut Context<'_>, _: &mut ControlBatch) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    fn endpoint(transport: Transport) -> Endpoint {
        let config = EndpointConfig {
            transport,
            wrap: Some(Arc::new(WrapKeys::none())),
            tls_crypt_v2: None,
            force_cookie: false,
            replay: ReplayLimits::default(),
            hand_window: Duration::from_secs(60),
            initial_rate: None,
            session_rate: None,
            max_half_open: 256,
        };
        Endpoint::new(config, &[7; 32])
    }

    fn port(transport: TransportId, receiver: Box<dyn ControlReceiver>, control: Arc<Replies>) -> Port {
        Port { same_interface: false, transport, receiver, control }
    }

    #[tokio::test]
    async fn sec_ctl_11_a_full_net_of_streams_gives_way_to_another_net() {
        let places = Places::new(2, WhenFull::OldestLeavesAfter(Duration::from_secs(10)));
        let (reports, mut inbox) = mpsc::channel(4);
        let adopt = |number: u32, last: u8| {
            let place = places.take([192, 0, 2, last].into()).expect("there is room");
            let port = port(TransportId(number), Box::new(Silent), Arc::default());
            let door = endpoint(Transport::Tcp);
            spawn(
                ListenerId(number.into()),
                Protocol::Tcp,
                port,
                Some(place),
                door,
                reports.clone(),
                Arc::default(),
            )
        };
        let _streams = [adopt(0, 1), adopt(1, 2)];
        let _newcomer = places.take([198, 51, 100, 1].into()).expect("another net gets a place");
        let Some(ListenerReport::Ended(ended, _)) = inbox.recv().await else { panic!("no stream ended") };
        assert_eq!(ended, ListenerId(0));
    }

    #[tokio::test]
    async fn sec_ctl_11_a_client_that_is_no_stranger_any_more_gives_its_place_back() {
        let places = Places::new(1, WhenFull::NewcomerLeaves);
        let place = places.take([192, 0, 2, 1].into());
        let (reports, _inbox) = mpsc::channel(4);
        let port = port(TransportId(0), Box::new(Silent), Arc::default());
        let mut door = endpoint(Transport::Tcp);
        let from = SocketAddr::from(([192, 0, 2, 1], 1194));
        let EndpointAction::Accept(accepted) =
            door.handle_datagram(clock::now(), from, &hard_reset(), &mut [0; MAX_FIRST_PACKET])
        else {
            panic!("over a stream the first packet proves the address")
        };
        let orders = spawn(ListenerId(0), Protocol::Tcp, port, place, door, reports, Arc::default());
        assert!(places.take([192, 0, 2, 1].into()).is_none());
        let _told = orders.send(ListenerOrder::Established(accepted.handle));
        yield_now().await;
        assert!(places.take([192, 0, 2, 1].into()).is_some());
    }

    #[tokio::test]
    async fn a_flood_of_strangers_is_answered_and_lets_others_have_their_turn() {
        let (batches, most) = (Arc::new(AtomicUsize::new(0)), 100_000);
        let receiver = Box::new(Flood { batches: Arc::clone(&batches), most });
        let replies = Arc::new(Replies::default());
        let (reports, _inbox) = mpsc::channel(1);
        let _orders = spawn(
            ListenerId(0),
            Protocol::Udp,
            port(TransportId(0), receiver, Arc::clone(&replies)),
            None,
            endpoint(Transport::Udp),
            reports,
            Arc::default(),
        );
        for _ in 0..10 {
            yield_now().await;
        }
        assert!(replies.0.load(Relaxed) > 0);
        assert!(batches.load(Relaxed) < most, "this task ran only when the flood was over");
    }
}
