//! The kernel with the engine beside it: one offload, two data planes.
//!
//! Every peer goes to the kernel that can; who needs what the kernel lacks ([`crate::Shortfall`]) goes to the engine, which is
//! opened when the first such peer comes. Nobody else is slowed down.
//!
//! On a device with many peers both live side by side. The engine has a device of its own ([`Offload::device_of`]). A UDP
//! port is shared by two sockets, and the system divides its packets by peer id: peers of the engine have ids from
//! [`ENGINE_IDS`] on. A TCP stream moves to where its peer goes. A point-to-point device has one peer, which decides:
//! if the kernel cannot carry it, the engine takes the device's place.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use culvert_crypto::DataKey;
use culvert_sys::{UdpSocket, sockopt};
use culvert_wire::{OffloadKind, PeerId, Slot, Transmit};

use crate::{
    Backend, Capabilities, ControlBatch, ControlReceiver, ControlSender, Device, DeviceMode, DeviceSpec,
    Offload, OffloadError, OffloadEvent, PeerChange, PeerSpec, PeerStats, Placement, Protocol, Shortfall,
    SizeTest, TransportId, TransportSpec, UdpOptions,
};

/// The lowest id of a peer that the engine carries beside the kernel: the upper half of all ids.
pub const ENGINE_IDS: PeerId = match PeerId::new(0x80_0000) {
    Some(id) => id,
    None => PeerId::FIRST,
};

/// A kernel offload and, when it is needed, the engine.
pub struct Paired {
    spec: DeviceSpec,
    capabilities: Capabilities,
    engine_backend: Box<dyn Backend>,
    planes: Mutex<Planes>,
    transports: Mutex<BTreeMap<u32, Arc<Transport>>>,
    next_transport: AtomicU32,
    /// Where each peer was put; entries of peers that ended by themselves stay until they are deleted.
    sides: Mutex<HashMap<PeerId, Side>>,
    /// Who waits for events: the engine's begin later.
    waker: Mutex<Option<Waker>>,
}

#[derive(Default)]
struct Planes {
    /// `None` after the engine took its place.
    kernel: Option<Arc<dyn Offload>>,
    engine: Option<Arc<dyn Offload>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Kernel,
    Engine,
}

/// A transport of the pair: known to one of the two, or to both.
struct Transport {
    protocol: Protocol,
    state: Mutex<TransportState>,
}

struct TransportState {
    kernel: Option<TransportId>,
    engine: Option<TransportId>,
    /// The engine's socket of a shared port, until there is an engine.
    spare: Option<(OwnedFd, UdpOptions)>,
    receivers: Vec<Box<dyn ControlReceiver>>,
    sender: Arc<dyn ControlSender>,
    waker: Option<Waker>,
    closed: bool,
}

impl Paired {
    /// Pairs a kernel offload, opened with this description, with an engine that may be needed later.
    #[must_use]
    pub fn new(
        kernel: Arc<dyn Offload>,
        engine_backend: Box<dyn Backend>,
        spec: DeviceSpec,
        engine: &Capabilities,
    ) -> Self {
        let own = kernel.capabilities();
        let mut ciphers = own.ciphers.clone();
        ciphers.extend(engine.ciphers.iter().filter(|cipher| !own.ciphers.contains(cipher)));
        let capabilities = Capabilities {
            kind: own.kind,
            ciphers,
            // Not negotiated, lest everybody who knows it goes to the engine.
            epoch: own.epoch,
            data_v1: own.data_v1 || engine.data_v1,
            multi_peer: own.multi_peer,
            tcp: own.tcp || engine.tcp,
            tx_id: own.tx_id,
            framing: own.framing || engine.framing,
            mssfix: own.mssfix,
        };
        Self {
            spec,
            capabilities,
            engine_backend,
            planes: Mutex::new(Planes { kernel: Some(kernel), engine: None }),
            transports: Mutex::default(),
            next_transport: AtomicU32::new(0),
            sides: Mutex::default(),
            waker: Mutex::default(),
        }
    }

    fn kernel(&self) -> Option<Arc<dyn Offload>> {
        lock(&self.planes).kernel.clone()
    }

    fn engine(&self) -> Option<Arc<dyn Offload>> {
        lock(&self.planes).engine.clone()
    }

    fn transport(&self, id: TransportId) -> Result<Arc<Transport>, OffloadError> {
        lock(&self.transports).get(&id.0).cloned().ok_or(OffloadError::UnknownTransport(id))
    }

    /// The data plane of a peer that was added.
    fn plane_of(&self, peer: PeerId) -> Result<Arc<dyn Offload>, OffloadError> {
        let plane = match lock(&self.sides).get(&peer) {
            Some(Side::Kernel) => self.kernel(),
            Some(Side::Engine) => self.engine(),
            None => None,
        };
        plane.ok_or(OffloadError::UnknownPeer(peer))
    }

    /// What keeps such a peer away from the kernel; empty when nothing does.
    fn shortfalls(&self, peer: &PeerSpec) -> Vec<Shortfall> {
        let protocol = self.transport(peer.transport).map_or(Protocol::Udp, |transport| transport.protocol);
        self.kernel().map(|kernel| kernel.capabilities().shortfalls(peer, protocol)).unwrap_or_default()
    }

    fn side_for(&self, peer: &PeerSpec) -> Side {
        if self.kernel().is_some() && self.shortfalls(peer).is_empty() { Side::Kernel } else { Side::Engine }
    }

    /// The engine, opened now if it was not.
    fn open_engine(&self) -> Result<Arc<dyn Offload>, OffloadError> {
        if let Some(engine) = self.engine() {
            return Ok(engine);
        }
        let engine = match self.spec.mode {
            DeviceMode::MultiPeer => {
                // Beside the kernel's, under a name that the system chooses.
                self.engine_backend.open(DeviceSpec { name: None, ..self.spec.clone() })?
            }
            DeviceMode::PointToPoint => self.replace_kernel()?,
        };
        lock(&self.planes).engine = Some(Arc::clone(&engine));
        if let Some(waker) = lock(&self.waker).take() {
            waker.wake();
        }
        Ok(engine)
    }

    /// The engine takes the place of the kernel's device, under its name; transports follow.
    fn replace_kernel(&self) -> Result<Arc<dyn Offload>, OffloadError> {
        let Some(kernel) = lock(&self.planes).kernel.take() else { return Err(OffloadError::DeviceGone) };
        let transports: Vec<_> = lock(&self.transports).values().cloned().collect();
        let mut states: Vec<_> = transports.iter().map(|transport| lock(&transport.state)).collect();
        let mut given = Vec::new();
        for state in &mut states {
            given.push(match state.kernel.take() {
                Some(id) => kernel.close_transport(id)?,
                None => None,
            });
            state.receivers.clear();
        }
        // The last owner removes the device, and with it the name is free.
        drop(kernel);
        let engine = self.engine_backend.open(self.spec.clone())?;
        for (state, spec) in states.iter_mut().zip(given) {
            let Some(spec) = spec else { continue };
            state.adopt(&*engine, spec)?;
        }
        Ok(engine)
    }

    /// Makes a transport known to the engine: a shared port's second socket, or a stream that moves.
    fn engine_transport(&self, id: TransportId, engine: &dyn Offload) -> Result<TransportId, OffloadError> {
        let transport = self.transport(id)?;
        let mut state = lock(&transport.state);
        if let Some(id) = state.engine {
            return Ok(id);
        }
        let spec = match (transport.protocol, state.spare.take(), state.kernel) {
            (Protocol::Udp, Some((socket, options)), _) => TransportSpec::AdoptUdp { socket, options },
            (Protocol::Tcp, _, Some(at_kernel)) => {
                let kernel = self.kernel().ok_or(OffloadError::DeviceGone)?;
                let given = kernel.close_transport(at_kernel)?;
                state.kernel = None;
                state.receivers.clear();
                given.ok_or(OffloadError::Unsupported("giving a stream to the engine"))?
            }
            _ => return Err(OffloadError::Unsupported("sharing this port with the engine")),
        };
        state.adopt(engine, spec)
    }

    /// Opens a port that kernel and engine share.
    fn open_shared(
        &self,
        kernel: &dyn Offload,
        local: SocketAddr,
        options: UdpOptions,
    ) -> Result<TransportState, OffloadError> {
        let failed = |source| OffloadError::system(format!("bind UDP {local}"), source);
        let configure = |fd: BorrowedFd<'_>| {
            options.apply(fd)?;
            // On both or on none: the system joins a flow's packets before it knows whose they are.
            let _unknown_to_old_kernels = sockopt::set_udp_gro(fd, true);
            Ok(())
        };
        let first = UdpSocket::bind_shared(local, configure).map_err(failed)?;
        sockopt::steer_by_peer_id(&first, ENGINE_IDS.get()).map_err(failed)?;
        // Both now: later, this process may be another user, whom the port does not belong to.
        let second = first.share(configure).map_err(failed)?;
        let spec = TransportSpec::AdoptUdp { socket: first.into(), options: options.clone() };
        let (id, receiver, sender) = kernel.open_transport(spec)?;
        Ok(TransportState {
            kernel: Some(id),
            engine: None,
            spare: Some((second.into(), options)),
            receivers: vec![receiver],
            sender,
            waker: None,
            closed: false,
        })
    }
}

impl TransportState {
    /// Of one side only.
    fn of(
        side: Side,
        (id, receiver, sender): (TransportId, Box<dyn ControlReceiver>, Arc<dyn ControlSender>),
    ) -> Self {
        let (kernel, engine) = match side {
            Side::Kernel => (Some(id), None),
            Side::Engine => (None, Some(id)),
        };
        Self { kernel, engine, spare: None, receivers: vec![receiver], sender, waker: None, closed: false }
    }

    /// Opens sockets at the engine. Control packets that come out there are read too; those to peers leave there only
    /// where the kernel has no socket.
    fn adopt(&mut self, engine: &dyn Offload, spec: TransportSpec) -> Result<TransportId, OffloadError> {
        let (id, receiver, sender) = engine.open_transport(spec)?;
        self.engine = Some(id);
        self.receivers.push(receiver);
        if self.kernel.is_none() {
            self.sender = sender;
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(id)
    }
}

impl Offload for Paired {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn device(&self) -> Device {
        let planes = lock(&self.planes);
        let main = planes.kernel.as_ref().or(planes.engine.as_ref());
        main.map_or_else(|| Device { name: String::new(), ifindex: 0 }, |offload| offload.device())
    }

    fn device_of(&self, peer: PeerId) -> Device {
        self.plane_of(peer).map_or_else(|_| self.device(), |plane| plane.device())
    }

    fn placement(&self, peer: &PeerSpec) -> Placement {
        let because = self.shortfalls(peer);
        let side = self.side_for(peer);
        let beside = self.spec.mode == DeviceMode::MultiPeer && side == Side::Engine;
        let kind = match side {
            Side::Kernel => self.capabilities.kind,
            Side::Engine => OffloadKind::Engine,
        };
        Placement { first_id: if beside { ENGINE_IDS } else { PeerId::FIRST }, kind, because }
    }

    fn open_transport(
        &self,
        spec: TransportSpec,
    ) -> Result<(TransportId, Box<dyn ControlReceiver>, Arc<dyn ControlSender>), OffloadError> {
        let protocol = match spec {
            TransportSpec::AdoptTcp { .. } => Protocol::Tcp,
            TransportSpec::BindUdp { .. } | TransportSpec::AdoptUdp { .. } => Protocol::Udp,
        };
        let state = match (self.kernel(), spec) {
            (Some(kernel), TransportSpec::BindUdp { local, options, .. })
                if self.spec.mode == DeviceMode::MultiPeer =>
            {
                self.open_shared(&*kernel, local, options)?
            }
            (Some(kernel), spec) => TransportState::of(Side::Kernel, kernel.open_transport(spec)?),
            (None, spec) => TransportState::of(Side::Engine, self.open_engine()?.open_transport(spec)?),
        };
        let transport = Arc::new(Transport { protocol, state: Mutex::new(state) });
        let id = TransportId(self.next_transport.fetch_add(1, Relaxed));
        lock(&self.transports).insert(id.0, Arc::clone(&transport));
        let receiver = Box::new(PairedReceiver(Arc::clone(&transport)));
        Ok((id, receiver, Arc::new(PairedSender(transport))))
    }

    fn close_transport(&self, id: TransportId) -> Result<Option<TransportSpec>, OffloadError> {
        let transport = lock(&self.transports).remove(&id.0).ok_or(OffloadError::UnknownTransport(id))?;
        let mut state = lock(&transport.state);
        state.closed = true;
        state.spare = None;
        let mut given = None;
        if let (Some(engine), Some(id)) = (self.engine(), state.engine.take()) {
            given = engine.close_transport(id)?;
        }
        if let (Some(kernel), Some(id)) = (self.kernel(), state.kernel.take()) {
            given = kernel.close_transport(id)?;
        }
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        Ok(given)
    }

    fn size_buffers(
        &self,
        id: TransportId,
        recv: Option<u32>,
        send: Option<u32>,
    ) -> Result<(), OffloadError> {
        let transport = self.transport(id)?;
        let state = lock(&transport.state);
        match (state.engine, state.kernel) {
            (Some(id), _) => self.engine().ok_or(OffloadError::DeviceGone)?.size_buffers(id, recv, send),
            (None, Some(id)) => self.kernel().ok_or(OffloadError::DeviceGone)?.size_buffers(id, recv, send),
            (None, None) => Err(OffloadError::UnknownTransport(id)),
        }
    }

    fn local_address(&self, id: TransportId) -> Option<SocketAddr> {
        let transport = self.transport(id).ok()?;
        let state = lock(&transport.state);
        match (state.kernel, state.engine) {
            (Some(id), _) => self.kernel()?.local_address(id),
            (None, Some(id)) => self.engine()?.local_address(id),
            (None, None) => None,
        }
    }

    fn peer_new(&self, mut peer: PeerSpec) -> Result<(), OffloadError> {
        let side = self.side_for(&peer);
        let id = peer.id;
        let plane = match side {
            Side::Kernel => {
                let transport = self.transport(peer.transport)?;
                let at_kernel = lock(&transport.state).kernel;
                peer.transport = at_kernel.ok_or(OffloadError::UnknownTransport(peer.transport))?;
                self.kernel().ok_or(OffloadError::DeviceGone)?
            }
            Side::Engine => {
                let engine = self.open_engine()?;
                peer.transport = self.engine_transport(peer.transport, &*engine)?;
                engine
            }
        };
        plane.peer_new(peer)?;
        lock(&self.sides).insert(id, side);
        Ok(())
    }

    fn peer_set(&self, peer: PeerId, change: &PeerChange) -> Result<(), OffloadError> {
        self.plane_of(peer)?.peer_set(peer, change)
    }

    fn peer_del(&self, peer: PeerId) -> Result<(), OffloadError> {
        let plane = self.plane_of(peer)?;
        lock(&self.sides).remove(&peer);
        plane.peer_del(peer)
    }

    fn key_new(&self, peer: PeerId, slot: Slot, key: DataKey) -> Result<(), OffloadError> {
        self.plane_of(peer)?.key_new(peer, slot, key)
    }

    fn key_swap(&self, peer: PeerId) -> Result<(), OffloadError> {
        self.plane_of(peer)?.key_swap(peer)
    }

    fn key_del(&self, peer: PeerId, slot: Slot) -> Result<(), OffloadError> {
        self.plane_of(peer)?.key_del(peer, slot)
    }

    fn notify_exit(&self, peer: PeerId) -> Result<(), OffloadError> {
        self.plane_of(peer)?.notify_exit(peer)
    }

    fn test_sizes(&self, peer: PeerId, test: SizeTest) -> Result<(), OffloadError> {
        self.plane_of(peer)?.test_sizes(peer, test)
    }

    fn stats(&self, peer: Option<PeerId>, out: &mut Vec<PeerStats>) -> Result<(), OffloadError> {
        match peer {
            Some(id) => self.plane_of(id)?.stats(peer, out),
            None => {
                let planes = [self.kernel(), self.engine()];
                planes.into_iter().flatten().try_for_each(|plane| plane.stats(None, out))
            }
        }
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<OffloadEvent>> {
        *lock(&self.waker) = Some(cx.waker().clone());
        let planes = [self.kernel(), self.engine()];
        let mut open = false;
        for plane in planes.into_iter().flatten() {
            match plane.poll_event(cx) {
                Poll::Ready(Some(event)) => return Poll::Ready(Some(event)),
                // One device gone is the pair gone: who drives it starts anew.
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => open = true,
            }
        }
        if open { Poll::Pending } else { Poll::Ready(None) }
    }
}

/// Reads what comes out of either side.
struct PairedReceiver(Arc<Transport>);

impl ControlReceiver for PairedReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut ControlBatch) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0.state);
        let before = batch.packets.len();
        let mut failure = None;
        // A side that closed its port is not asked any more; the other goes on.
        state.receivers.retain_mut(|receiver| match receiver.poll_recv(cx, batch) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => batch.packets.len() > before,
            Poll::Ready(Err(error)) => {
                failure = Some(error);
                false
            }
        });
        if batch.packets.len() > before {
            return Poll::Ready(Ok(()));
        }
        if let Some(failure) = failure {
            return Poll::Ready(Err(failure));
        }
        if state.receivers.is_empty() || state.closed {
            return Poll::Ready(Ok(()));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Sends from the socket that strangers know.
struct PairedSender(Arc<Transport>);

impl ControlSender for PairedSender {
    fn poll_send(&self, cx: &mut Context<'_>, packet: &Transmit<'_>) -> Poll<io::Result<()>> {
        let sender = Arc::clone(&lock(&self.0.state).sender);
        sender.poll_send(cx, packet)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
