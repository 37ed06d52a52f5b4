//! One task per transport of a server: reads its control port, answers strangers, routes packets to sessions.
//!
//! A UDP socket is one transport with many peers; every accepted TCP stream is a transport with one. Strangers cost
//! nothing: [`Endpoint`] keeps no state before a peer has proven its address.

use std::{collections::HashMap, future::poll_fn, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use culvert_offload::{ControlBatch, ControlPacket, ControlReceiver, ControlSender, Protocol, TransportId};
use culvert_proto::endpoint::{Accepted, Endpoint, EndpointAction, Handle, MAX_FIRST_PACKET};
use culvert_wire::Transmit;
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tracing::{debug, warn};

use crate::{
    clock,
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
    pub(super) local: Option<std::net::IpAddr>,
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
    /// The server leaves: strangers, and clients that heard it and call again, get no answer.
    Leave,
}

/// The server's end of a listener. Unbounded, because the server must not wait for a listener that waits for it; the
/// number of orders is bounded by that of sessions.
pub(super) type Orders = mpsc::UnboundedSender<ListenerOrder>;

/// Starts the task of a transport.
pub(super) fn spawn(
    id: ListenerId,
    protocol: Protocol,
    transport: TransportId,
    receiver: Box<dyn ControlReceiver>,
    control: Arc<dyn ControlSender>,
    endpoint: Endpoint,
    reports: mpsc::Sender<ListenerReport>,
) -> Orders {
    let (orders, inbox) = mpsc::unbounded_channel();
    let listener = Listener {
        id,
        protocol,
        transport,
        control,
        endpoint,
        reports,
        sessions: HashMap::new(),
        reply: Box::new([0; MAX_FIRST_PACKET]),
        leaving: false,
        over: false,
    };
    tokio::spawn(listener.run(receiver, inbox));
    orders
}

struct Listener {
    id: ListenerId,
    protocol: Protocol,
    transport: TransportId,
    control: Arc<dyn ControlSender>,
    endpoint: Endpoint,
    reports: mpsc::Sender<ListenerReport>,
    sessions: HashMap<Handle, SessionHandle>,
    /// What a stranger is answered with.
    reply: Box<[u8; MAX_FIRST_PACKET]>,
    leaving: bool,
    /// A stream whose bytes lead nowhere.
    over: bool,
}

/// How long a new stream may take for its first control packet (SEC-CTL-11).
const FIRST_PACKET: Duration = Duration::from_secs(10);

impl Listener {
    async fn run(
        mut self,
        mut receiver: Box<dyn ControlReceiver>,
        mut orders: mpsc::UnboundedReceiver<ListenerOrder>,
    ) {
        let mut batch = ControlBatch::default();
        let mut patience = pin!(sleep(FIRST_PACKET));
        while !self.over {
            tokio::select! {
                () = &mut patience, if self.is_strangers_stream() => {
                    debug!("a stream brought nothing in time");
                    break;
                }
                read = poll_fn(|cx| receiver.poll_recv(cx, &mut batch)) => {
                    if let Err(failure) = read {
                        debug!("control port failed: {failure}");
                        break;
                    }
                    if batch.packets.is_empty() {
                        break; // closed by the peer
                    }
                    for packet in std::mem::take(&mut batch.packets) {
                        self.handle(packet).await;
                    }
                }
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
            }
        }
        let _gone = self.reports.send(ListenerReport::Ended(self.id, self.transport)).await;
    }

    fn obey(&mut self, order: ListenerOrder) {
        match order {
            ListenerOrder::Leave => self.leaving = true,
            ListenerOrder::Established(handle) => self.endpoint.established(handle),
            ListenerOrder::Forget(handle) => {
                self.sessions.remove(&handle);
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
            EndpointAction::Route(handle) => {
                if let Some(session) = self.sessions.get(&handle)
                    && !session.send(SessionInput::Packet(packet))
                {
                    debug!("a session cannot keep up with its control packets; one was dropped");
                }
            }
            EndpointAction::Accept(accepted) => self.accept(packet, accepted).await,
            EndpointAction::Drop(reason) => {
                debug!("dropped a packet from {}: {reason:?}", packet.from);
                // Nothing that follows such a beginning can be trusted.
                self.over |= self.is_strangers_stream();
            }
        }
    }

    async fn accept(&mut self, packet: ControlPacket, mut accepted: Box<Accepted>) {
        let handle = accepted.handle;
        let evicted: Vec<_> = accepted
            .evicted
            .drain(..)
            .filter_map(|old| self.sessions.remove(&old))
            .map(|old| old.key)
            .collect();
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
        let gone = self.reports.send(ListenerReport::Evicted(evicted)).await.is_err();
        if gone || self.reports.send(ListenerReport::Accept(request)).await.is_err() {
            return;
        }
        if let Ok(Some(session)) = answered.await {
            session.send(SessionInput::Packet(packet));
            self.sessions.insert(handle, session);
        } else {
            self.endpoint.remove(handle);
            self.over |= self.is_strangers_stream();
        }
    }
}
