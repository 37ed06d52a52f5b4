//! One task per session: feeds the protocol value, carries its keys to the offload, reports to its owner.
//!
//! The owner is the server task or the client task. A session waits for its owner (the channel of reports is bounded
//! and sending waits); an owner never waits for a session (a full inbox closes it), so no cycle of waits exists.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
};

use culvert_offload::{ControlPacket, ControlSender, Offload};
use culvert_proto::{CloseReason, Command, Event, KeyOp, Session};
use culvert_wire::{LocalAddress, Now, Opcode, PeerId, Transmit};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tracing::{Instrument, debug, error};

use crate::{
    clock,
    handshakes::{Handshakes, Outcome, Rank},
};

/// Names a session within its process; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionKey(pub(crate) u64);

/// What a session's inbox takes.
#[derive(Debug)]
pub(crate) enum SessionInput {
    /// A packet that belongs to the session.
    Packet(ControlPacket),
    /// An answer or order.
    Command(Command),
    /// The peer exists in the offload under this id: keys may go there.
    Bound(PeerId),
    /// The transport is over: a TCP stream was closed by the peer.
    TransportEnded,
}

/// What a session tells its owner.
#[derive(Debug)]
pub(crate) struct Report {
    /// The session.
    pub(crate) session: SessionKey,
    /// What happened. [`Event::Key`] never stands here: the session task executes it.
    pub(crate) event: Event,
}

/// The owner's end of a session.
#[derive(Clone, Debug)]
pub(crate) struct SessionHandle {
    /// Names the session.
    pub(crate) key: SessionKey,
    /// Boxed, because the channel holds memory for 32 inputs at least, and a server has many idle sessions.
    inbox: mpsc::Sender<Box<SessionInput>>,
    revoked: Arc<AtomicBool>,
}

impl SessionHandle {
    /// Takes the peer in the offload away from the session; to be called before the peer is removed. Its id may be
    /// another's a moment later, while this session still works on what it was given: no key of it may go there.
    pub(crate) fn revoke(&self) {
        self.revoked.store(true, Relaxed);
    }

    /// Hands over an input without waiting. Returns `false` when the session is gone or cannot keep up: the caller
    /// treats both as its end. (Packets are the exception: the protocol repeats them.)
    pub(crate) fn send(&self, input: SessionInput) -> bool {
        self.inbox.try_send(Box::new(input)).is_ok()
    }

    /// Waits until the session is gone.
    pub(crate) async fn closed(&self) {
        self.inbox.closed().await;
    }

    /// Sends a command; see [`Self::send`].
    pub(crate) fn command(&self, command: Command) -> bool {
        self.send(SessionInput::Command(command))
    }
}

/// Inputs that may wait in a session's inbox: two receive windows of packets and a few commands.
const INBOX: usize = 64;

/// The largest control packet that leaves (`max-packet-size` is at most 2048).
const PACKET_BUFFER: usize = 2048;

/// Where a session's packets and keys go.
#[derive(Clone)]
pub(crate) struct Ports {
    /// Sends control packets.
    pub(crate) control: Arc<dyn ControlSender>,
    /// The local address to send them from (`multihome`): the one that the peer called last.
    pub(crate) local: Option<LocalAddress>,
    /// Takes keys.
    pub(crate) offload: Arc<dyn Offload>,
    /// Runs what costs too much for the control plane's thread.
    pub(crate) handshakes: Arc<Handshakes<Session>>,
}

/// Starts the task of a session.
pub(crate) fn spawn(
    key: SessionKey,
    session: Session,
    ports: Ports,
    owner: mpsc::Sender<Report>,
    span: tracing::Span,
) -> SessionHandle {
    spawn_behind(std::future::ready(Ok(())), key, session, ports, owner, span)
}

/// The same, but nothing is done for the peer, nor answered, before the gate opens; its packets wait in the inbox. A gate
/// that does not open ends the session: its error is the reason.
pub(crate) fn spawn_behind(
    gate: impl Future<Output = Result<(), &'static str>> + Send + 'static,
    key: SessionKey,
    session: Session,
    ports: Ports,
    owner: mpsc::Sender<Report>,
    span: tracing::Span,
) -> SessionHandle {
    let (inbox, inputs) = mpsc::channel(INBOX);
    let binding = Binding::default();
    let revoked = Arc::clone(&binding.revoked);
    let task =
        SessionTask { key, session: Some(Box::new(session)), ports, binding, owner: owner.clone(), inputs };
    // In a box, lest the future be there twice: as it was given and as it runs.
    let refused = owner.clone();
    let opened = async move {
        match gate.await {
            Ok(()) => task.run().await,
            Err(reason) => {
                let event = Event::Closed(CloseReason::Denied(reason.to_owned()));
                let _gone = refused.send(Report { session: key, event }).await;
            }
        }
    };
    let running = Box::pin(opened.instrument(span));
    tokio::spawn(async move {
        // SEC-CORE-2: a panic ends this session alone, and its owner hears of it.
        if let Err(Panicked) = contained(running).await {
            error!("internal error in a session; it is closed, others go on. Please report this as a bug.");
            let reason = CloseReason::Protocol("internal error".to_owned());
            let _gone = owner.send(Report { session: key, event: Event::Closed(reason) }).await;
        }
    });
    SessionHandle { key, inbox, revoked }
}

/// A future did not come to its end.
struct Panicked;

/// Runs a future to its end, or to its panic.
async fn contained(mut future: Pin<Box<impl Future<Output = ()>>>) -> Result<(), Panicked> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(_reported_by_the_panic_itself) => Poll::Ready(Err(Panicked)),
    })
    .await
}

struct SessionTask {
    key: SessionKey,
    /// `None` only while a handshake step runs on its own thread.
    session: Option<Box<Session>>,
    ports: Ports,
    binding: Binding,
    owner: mpsc::Sender<Report>,
    inputs: mpsc::Receiver<Box<SessionInput>>,
}

/// The peer in the offload that a session's keys are for.
#[derive(Default)]
struct Binding {
    peer: Option<PeerId>,
    /// The owner has taken the peer back. Owner and session run on one thread, so that nothing comes between looking
    /// here and the call to the offload.
    revoked: Arc<AtomicBool>,
}

impl SessionTask {
    async fn run(mut self) {
        loop {
            if self.drain().await.is_break() {
                return;
            }
            let Some(deadline) = self.session.as_ref().map(|session| session.poll_timeout()) else { return };
            let far = clock::now().mono + std::time::Duration::from_secs(3600);
            tokio::select! {
                input = self.inputs.recv() => match input {
                    Some(input) => self.handle(*input).await,
                    None => return,
                },
                () = sleep_until(Instant::from_std(deadline.unwrap_or(far))) => {
                    if let Some(session) = &mut self.session {
                        session.handle_timeout(clock::now());
                    }
                }
            }
        }
    }

    async fn handle(&mut self, input: SessionInput) {
        match input {
            SessionInput::Packet(packet) => self.handle_packet(packet).await,
            SessionInput::Bound(peer) => self.binding.peer = Some(peer),
            SessionInput::TransportEnded => {
                let event = Event::Closed(CloseReason::TransportEnded);
                let _gone = self.owner.send(Report { session: self.key, event }).await;
                self.session = None;
            }
            SessionInput::Command(command) => {
                if let Some(session) = &mut self.session {
                    session.handle_command(clock::now(), command);
                }
            }
        }
    }

    /// Feeds a packet. One that carries TLS bytes of a handshake may cost a millisecond of signatures, so it is handled on
    /// a thread of [`Handshakes`] while this task keeps its place.
    async fn handle_packet(&mut self, packet: ControlPacket) {
        let Some(mut session) = self.session.take() else { return };
        let now = clock::at(packet.at);
        let carries_tls = packet
            .bytes
            .first()
            .and_then(|&first| Opcode::from_header(first))
            .is_some_and(|op| matches!(op, Opcode::ControlV1 | Opcode::ControlWkcV1));
        if !(carries_tls && session.is_tls_handshaking()) {
            // Only a packet that proved to be the peer's moves the address.
            if feed(&mut session, now, &packet) && packet.to.is_some() {
                self.ports.local = packet.to;
            }
            self.session = Some(session);
            return;
        }
        let rank = if session.established() { Rank::Established } else { Rank::Newcomer };
        let step = move |session: &mut Session| {
            feed(session, now, &packet);
        };
        self.session = match self.ports.handshakes.run(rank, session, step).await {
            Outcome::Done(session) => Some(session),
            Outcome::Busy(session) => {
                debug!("too many handshakes at a time; a packet was dropped");
                Some(session)
            }
            Outcome::Panicked(panic) => std::panic::resume_unwind(panic), // caught and reported by `spawn`
        };
    }

    /// Delivers events, then packets: a key is installed before the packet that makes the peer use it leaves.
    async fn drain(&mut self) -> std::ops::ControlFlow<()> {
        use std::ops::ControlFlow::{Break, Continue};
        // Not a part of this future, which exists for hours while this function runs for microseconds.
        let mut buffer = vec![0; PACKET_BUFFER];
        loop {
            let Some(session) = &mut self.session else { return Break(()) };
            let mut closed = None;
            while let Some(event) = session.poll_event() {
                match event {
                    Event::Key(op) => {
                        if let Err(reason) = self.binding.install(&*self.ports.offload, op) {
                            closed = Some(Event::Closed(CloseReason::Protocol(reason)));
                            break;
                        }
                    }
                    Event::Closed(reason) => {
                        closed = Some(Event::Closed(reason));
                        break;
                    }
                    event => {
                        if self.owner.send(Report { session: self.key, event }).await.is_err() {
                            return Break(());
                        }
                    }
                }
            }
            let now = clock::now();
            let mut sent = false;
            while let Some(packet) = session.poll_transmit(now, &mut buffer) {
                sent = true;
                let packet = Transmit { from: self.ports.local, ..packet };
                if let Err(failure) = poll_fn(|cx| self.ports.control.poll_send(cx, &packet)).await {
                    debug!("cannot send to {}: {failure}", packet.to);
                }
            }
            if let Some(event) = closed {
                let _gone = self.owner.send(Report { session: self.key, event }).await;
                return Break(());
            }
            if !sent {
                return Continue(());
            }
        }
    }
}

/// Hands a packet over; returns whether it was taken.
fn feed(session: &mut Session, now: Now, packet: &ControlPacket) -> bool {
    match session.handle_datagram(now, packet.from, &packet.bytes) {
        Ok(()) => true,
        Err(dropped) => {
            debug!("{dropped} (from {})", packet.from);
            false
        }
    }
}

impl Binding {
    /// Executes a key operation. A failure ends the session loudly instead of leaving half a key ring.
    fn install(&self, offload: &dyn Offload, op: KeyOp) -> Result<(), String> {
        if self.revoked.load(Relaxed) {
            return Err("the session is over".to_owned());
        }
        let Some(peer) = self.peer else { return Err("internal error: a key before its peer".to_owned()) };
        let done = match op {
            KeyOp::New(slot, key) => offload.key_new(peer, slot, key),
            KeyOp::Swap => offload.key_swap(peer),
            KeyOp::Delete(slot) => offload.key_del(peer, slot),
        };
        done.map_err(|failure| format!("the offload refused a key operation: {failure}"))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use culvert_offload::{
        Backend as _, DeviceMode, DeviceSpec, PeerSpec, Port, Shape, TransportSpec, UdpOptions, VpnAddresses,
        fake::{Call, FakeBackend},
    };

    use super::*;

    /// A fake offload with peer 0, whoever that is.
    fn offload_with_a_peer() -> Arc<culvert_offload::fake::FakeOffload> {
        let backend = FakeBackend::new();
        let device = DeviceSpec {
            name: None,
            kind: culvert_offload::DeviceKind::Tun,
            node: None,
            mtu: 1500,
            tx_queue_len: None,
            mode: DeviceMode::MultiPeer,
            max_peers: 16,
            client_to_client: false,
            replay_window: (64, 15),
            threads: None,
            ethernet: None,
        };
        let offload = backend.open(device).unwrap();
        let address = SocketAddr::from(([192, 0, 2, 1], 1194));
        let spec = TransportSpec::BindUdp { local: address, remote: None, options: UdpOptions::default() };
        let (transport, ..) = offload.open_transport(spec).unwrap();
        let peer = PeerSpec {
            id: PeerId::FIRST,
            tx_id: None,
            transport,
            remote: address,
            local: None,
            vpn: VpnAddresses::default(),
            iroutes: Vec::new(),
            keepalive: None,
            float: true,
            shape: Shape::PLAIN,
            cipher: culvert_wire::CipherName::Aes256Gcm,
            mss: None,
            port: Port::default(),
            nat: Vec::new(),
        };
        offload.peer_new(peer).unwrap();
        let offload = backend.opened().remove(0);
        drop(offload.take_calls());
        offload
    }

    #[test]
    fn a_session_whose_peer_was_taken_away_reaches_no_successor_with_the_same_id() {
        let offload = offload_with_a_peer();
        let binding = Binding { peer: Some(PeerId::FIRST), ..Binding::default() };
        binding.install(&*offload, KeyOp::Delete(culvert_wire::Slot::Primary)).unwrap();
        assert_eq!(offload.take_calls(), [Call::KeyDel(PeerId::FIRST, culvert_wire::Slot::Primary)]);
        binding.revoked.store(true, Relaxed);
        assert!(binding.install(&*offload, KeyOp::Delete(culvert_wire::Slot::Primary)).is_err());
        assert_eq!(offload.take_calls(), []);
    }
}
