//! An offload that carries nothing: it keeps the interface's rules and records what it is told.
//!
//! For tests of what drives offloads. Time, packets and events come from the test: [`FakeOffload::push_event`],
//! [`FakeOffload::deliver`], [`FakeOffload::take_sent`].

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use culvert_crypto::DataKey;
use culvert_wire::{CipherName, KeyId, OffloadKind, PeerId, Slot, Transmit};

use crate::{
    Backend, Capabilities, ControlBatch, ControlPacket, ControlReceiver, ControlSender, Device, DeviceMode,
    DeviceSpec, Offload, OffloadError, OffloadEvent, PeerChange, PeerSpec, PeerStats, Support, Traffic,
    TransportId, TransportSpec, VpnAddresses,
};

/// A factory of [`FakeOffload`]s.
#[derive(Clone, Default)]
pub struct FakeBackend {
    opened: Arc<Mutex<Vec<Arc<FakeOffload>>>>,
    absent: Option<String>,
    capabilities: Option<Capabilities>,
}

impl FakeBackend {
    /// Makes a factory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a factory that says it cannot work, for this reason.
    #[must_use]
    pub fn absent(why: impl Into<String>) -> Self {
        Self { absent: Some(why.into()), ..Self::default() }
    }

    /// Makes a factory of offloads that can carry other things than everything.
    #[must_use]
    pub fn with_capabilities(change: impl FnOnce(Capabilities) -> Capabilities) -> Self {
        Self { capabilities: Some(change(everything())), ..Self::default() }
    }

    /// What it has opened so far, oldest first.
    #[must_use]
    pub fn opened(&self) -> Vec<Arc<FakeOffload>> {
        lock(&self.opened).clone()
    }
}

impl Backend for FakeBackend {
    fn kind(&self) -> OffloadKind {
        OffloadKind::Engine
    }

    fn probe(&self) -> Support {
        self.absent.clone().map_or_else(|| Support::Present("fake".to_owned()), Support::Absent)
    }

    fn open(&self, device: DeviceSpec) -> Result<Arc<dyn Offload>, OffloadError> {
        let capabilities = self.capabilities.clone().unwrap_or_else(everything);
        let offload = Arc::new(FakeOffload::new(&device, capabilities));
        lock(&self.opened).push(Arc::clone(&offload));
        Ok(offload)
    }
}

/// One recorded call that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the interface's methods")]
pub enum Call {
    OpenTransport(TransportId),
    CloseTransport(TransportId),
    PeerNew(PeerSpec),
    PeerSet(PeerId, PeerChange),
    PeerDel(PeerId),
    KeyNew(PeerId, Slot, KeyId, CipherName),
    KeySwap(PeerId),
    KeyDel(PeerId, Slot),
    NotifyExit(PeerId),
}

/// An offload that carries nothing.
pub struct FakeOffload {
    capabilities: Capabilities,
    device: Device,
    mode: DeviceMode,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    transports: BTreeMap<u32, FakeTransport>,
    next_transport: u32,
    peers: BTreeMap<PeerId, FakePeer>,
    events: VecDeque<OffloadEvent>,
    gone: bool,
    waker: Option<Waker>,
}

struct FakeTransport {
    port: Arc<Mutex<Port>>,
    spec: Option<TransportSpec>,
    local: Option<SocketAddr>,
}

struct FakePeer {
    spec: PeerSpec,
    primary: Option<KeyId>,
    secondary: Option<KeyId>,
    stats: PeerStats,
}

#[derive(Default)]
struct Port {
    arrived: VecDeque<ControlPacket>,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    closed: bool,
    waker: Option<Waker>,
}

/// What a fake carries unless told otherwise.
fn everything() -> Capabilities {
    Capabilities {
        kind: OffloadKind::Engine,
        ciphers: vec![CipherName::Aes256Gcm, CipherName::ChaCha20Poly1305, CipherName::Aes128Gcm],
        epoch: true,
        data_v1: true,
        multi_peer: true,
        tcp: true,
        tx_id: true,
        framing: true,
        mssfix: true,
    }
}

impl FakeOffload {
    fn new(spec: &DeviceSpec, capabilities: Capabilities) -> Self {
        let name = spec.name.clone().unwrap_or_else(|| "fake0".to_owned());
        Self { capabilities, device: Device { name, ifindex: 1 }, mode: spec.mode, state: Mutex::default() }
    }

    /// The calls so far, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.state).calls.clone()
    }

    /// The calls since the last time this was asked.
    #[must_use]
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut lock(&self.state).calls)
    }

    /// Lets something happen in the data plane. A [`OffloadEvent::PeerGone`] also removes the peer, as a real one would.
    pub fn push_event(&self, event: OffloadEvent) {
        let mut state = lock(&self.state);
        if let OffloadEvent::PeerGone(id, ..) = &event {
            state.peers.remove(id);
        }
        state.gone |= event == OffloadEvent::DeviceGone;
        state.events.push_back(event);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Lets a control packet arrive on a transport.
    pub fn deliver(&self, transport: TransportId, packet: ControlPacket) {
        if let Some(port) = self.port(transport) {
            let mut port = lock(&port);
            port.arrived.push_back(packet);
            wake(port);
        }
    }

    /// What was sent on a transport since the last time this was asked: destination and packet.
    #[must_use]
    pub fn take_sent(&self, transport: TransportId) -> Vec<(SocketAddr, Vec<u8>)> {
        self.port(transport).map(|port| std::mem::take(&mut lock(&port).sent)).unwrap_or_default()
    }

    /// Closes a stream from the peer's side: its port ends.
    pub fn hang_up(&self, transport: TransportId) {
        if let Some(port) = self.port(transport) {
            let mut port = lock(&port);
            port.closed = true;
            wake(port);
        }
    }

    /// The keys in a peer's slots: primary, secondary.
    #[must_use]
    pub fn keys(&self, peer: PeerId) -> (Option<KeyId>, Option<KeyId>) {
        lock(&self.state).peers.get(&peer).map_or((None, None), |peer| (peer.primary, peer.secondary))
    }

    fn port(&self, transport: TransportId) -> Option<Arc<Mutex<Port>>> {
        lock(&self.state).transports.get(&transport.0).map(|t| Arc::clone(&t.port))
    }

    fn with_peer(
        &self,
        id: PeerId,
        call: Call,
        change: impl FnOnce(&mut FakePeer) -> Result<(), OffloadError>,
    ) -> Result<(), OffloadError> {
        let mut state = lock(&self.state);
        change(state.peers.get_mut(&id).ok_or(OffloadError::UnknownPeer(id))?)?;
        state.calls.push(call);
        Ok(())
    }

    fn check(&self, vpn: &VpnAddresses) -> Result<(), OffloadError> {
        match self.mode {
            DeviceMode::PointToPoint => Ok(()),
            DeviceMode::MultiPeer => vpn.check(),
        }
    }
}

impl State {
    /// Returns whether an address (or network) inside the tunnel belongs to somebody other than `id`.
    fn is_taken(&self, prefixes: &[(IpAddr, u8)], id: PeerId) -> bool {
        self.peers
            .iter()
            .filter(|(other, _)| **other != id)
            .any(|(_, peer)| owned(&peer.spec).iter().any(|prefix| prefixes.contains(prefix)))
    }
}

fn owned(spec: &PeerSpec) -> Vec<(IpAddr, u8)> {
    let v4 = spec.vpn.v4.map(|ip| (IpAddr::V4(ip), 32));
    let v6 = spec.vpn.v6.map(|ip| (IpAddr::V6(ip), 128));
    v4.into_iter().chain(v6).chain(spec.iroutes.iter().copied()).collect()
}

impl Offload for FakeOffload {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn device(&self) -> Device {
        self.device.clone()
    }

    fn open_transport(
        &self,
        spec: TransportSpec,
    ) -> Result<(TransportId, Box<dyn ControlReceiver>, Arc<dyn ControlSender>), OffloadError> {
        let mut state = lock(&self.state);
        let id = TransportId(state.next_transport);
        state.next_transport += 1;
        let port = Arc::new(Mutex::new(Port::default()));
        let local = match &spec {
            TransportSpec::BindUdp { local, .. } => Some(*local),
            TransportSpec::AdoptUdp { .. } | TransportSpec::AdoptTcp { .. } => None,
        };
        state.transports.insert(id.0, FakeTransport { port: Arc::clone(&port), spec: Some(spec), local });
        state.calls.push(Call::OpenTransport(id));
        Ok((id, Box::new(FakePort(Arc::clone(&port))), Arc::new(FakePort(port))))
    }

    fn close_transport(&self, id: TransportId) -> Result<Option<TransportSpec>, OffloadError> {
        let mut state = lock(&self.state);
        let transport = state.transports.remove(&id.0).ok_or(OffloadError::UnknownTransport(id))?;
        let mut port = lock(&transport.port);
        port.closed = true;
        wake(port);
        state.calls.push(Call::CloseTransport(id));
        Ok(transport.spec)
    }

    fn local_address(&self, id: TransportId) -> Option<SocketAddr> {
        lock(&self.state).transports.get(&id.0)?.local
    }

    fn peer_new(&self, peer: PeerSpec) -> Result<(), OffloadError> {
        let mut state = lock(&self.state);
        if !state.transports.contains_key(&peer.transport.0) {
            return Err(OffloadError::UnknownTransport(peer.transport));
        }
        self.check(&peer.vpn)?;
        let full = self.mode == DeviceMode::PointToPoint && !state.peers.is_empty();
        if full || state.peers.contains_key(&peer.id) || state.is_taken(&owned(&peer), peer.id) {
            return Err(OffloadError::PeerExists(peer.id));
        }
        let stats = PeerStats {
            id: peer.id,
            remote: peer.remote,
            tunnel: Traffic::default(),
            link: Traffic::default(),
            key: Traffic::default(),
            drops: crate::Drops::default(),
        };
        state.calls.push(Call::PeerNew(peer.clone()));
        state.peers.insert(peer.id, FakePeer { spec: peer, primary: None, secondary: None, stats });
        Ok(())
    }

    fn peer_set(&self, id: PeerId, change: &PeerChange) -> Result<(), OffloadError> {
        if let Some((vpn, iroutes)) = &change.vpn {
            self.check(vpn)?;
            let state = lock(&self.state);
            let spec = &state.peers.get(&id).ok_or(OffloadError::UnknownPeer(id))?.spec;
            let wanted = PeerSpec { vpn: *vpn, iroutes: iroutes.clone(), ..spec.clone() };
            if state.is_taken(&owned(&wanted), id) {
                return Err(OffloadError::PeerExists(id));
            }
        }
        self.with_peer(id, Call::PeerSet(id, change.clone()), |peer| {
            if let Some(remote) = change.remote {
                peer.spec.remote = remote;
                peer.stats.remote = remote;
            }
            if let Some((vpn, iroutes)) = &change.vpn {
                peer.spec.vpn = *vpn;
                peer.spec.iroutes.clone_from(iroutes);
            }
            Ok(())
        })
    }

    fn peer_del(&self, id: PeerId) -> Result<(), OffloadError> {
        let mut state = lock(&self.state);
        state.peers.remove(&id).ok_or(OffloadError::UnknownPeer(id))?;
        state.calls.push(Call::PeerDel(id));
        Ok(())
    }

    fn key_new(&self, id: PeerId, slot: Slot, key: DataKey) -> Result<(), OffloadError> {
        let cipher = key.cipher();
        if !self.capabilities.ciphers.contains(&cipher) {
            return Err(OffloadError::Cipher(cipher));
        }
        self.with_peer(id, Call::KeyNew(id, slot, key.id(), cipher), |peer| {
            match slot {
                Slot::Primary => peer.primary = Some(key.id()),
                Slot::Secondary => peer.secondary = Some(key.id()),
            }
            Ok(())
        })
    }

    fn key_swap(&self, id: PeerId) -> Result<(), OffloadError> {
        self.with_peer(id, Call::KeySwap(id), |peer| {
            if peer.secondary.is_none() {
                return Err(OffloadError::NoSecondaryKey(id));
            }
            std::mem::swap(&mut peer.primary, &mut peer.secondary);
            Ok(())
        })
    }

    fn key_del(&self, id: PeerId, slot: Slot) -> Result<(), OffloadError> {
        self.with_peer(id, Call::KeyDel(id, slot), |peer| {
            match slot {
                Slot::Primary => peer.primary = None,
                Slot::Secondary => peer.secondary = None,
            }
            Ok(())
        })
    }

    fn notify_exit(&self, id: PeerId) -> Result<(), OffloadError> {
        self.with_peer(id, Call::NotifyExit(id), |_| Ok(()))
    }

    fn stats(&self, peer: Option<PeerId>, out: &mut Vec<PeerStats>) -> Result<(), OffloadError> {
        let state = lock(&self.state);
        match peer {
            Some(id) => out.push(state.peers.get(&id).ok_or(OffloadError::UnknownPeer(id))?.stats),
            None => out.extend(state.peers.values().map(|peer| peer.stats)),
        }
        Ok(())
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<OffloadEvent>> {
        let mut state = lock(&self.state);
        if let Some(event) = state.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if state.gone {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

struct FakePort(Arc<Mutex<Port>>);

impl ControlReceiver for FakePort {
    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut ControlBatch) -> Poll<io::Result<()>> {
        let mut port = lock(&self.0);
        if port.arrived.is_empty() && !port.closed {
            port.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        batch.packets.extend(port.arrived.drain(..));
        Poll::Ready(Ok(()))
    }
}

impl ControlSender for FakePort {
    fn poll_send(&self, _: &mut Context<'_>, packet: &Transmit<'_>) -> Poll<io::Result<()>> {
        let mut port = lock(&self.0);
        if port.closed {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        port.sent.push((packet.to, packet.bytes.to_vec()));
        Poll::Ready(Ok(()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the reader without holding the lock.
fn wake(mut port: MutexGuard<'_, Port>) {
    let waker = port.waker.take();
    drop(port);
    waker.into_iter().for_each(Waker::wake);
}
