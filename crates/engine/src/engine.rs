use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    task::{Context, Poll},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use culvert_crypto::DataKey;
use culvert_offload::{
    Capabilities, ControlReceiver, ControlSender, DeleteReason, Device, DeviceSpec, EventQueue, Learned,
    Offload, OffloadError, OffloadEvent, PeerChange, PeerSpec, PeerStats, SizeTest, Station, TransportId,
    TransportSpec,
};
use culvert_sys::{Epoll, Eventfd};
use culvert_wire::{CipherName, OffloadKind, PeerId, Slot};

use crate::{
    EngineConfig,
    clock::Clock,
    control::{PortReceiver, PortSender},
    device::{OpenDevice, ProgramStart, QueueLength},
    key::Key,
    message::EXIT,
    outbox::{Outbox, Single},
    packet::Joins,
    peer::{Peer, plain},
    receive::{Command, Receiver, ReceiverParts},
    sizes,
    slots::KeySlots,
    table::Table,
    transmit::Transmitter,
    transport::{Backpressure, Tcp, Transport, Udp, Wire},
};

/// The userspace data plane of one device.
///
/// Calls change tables; workers read them. Dropping it stops the workers and waits for them, then the device closes.
pub(crate) struct Engine {
    shared: Arc<Shared>,
    config: EngineConfig,
    capabilities: Capabilities,
    device: Device,
    program: Option<ProgramStart>,
    replay_window: (u32, u32),
    transports: Mutex<HashMap<TransportId, Arc<Transport>>>,
    next_transport: AtomicU32,
    receivers: Vec<ReceiverHandle>,
    stop: Vec<Arc<Eventfd>>,
    threads: Vec<JoinHandle<()>>,
}

/// What calls and workers share.
pub(crate) struct Shared {
    pub(crate) table: Table,
    pub(crate) events: EventQueue,
    pub(crate) clock: Clock,
    pub(crate) joins: Joins,
    pub(crate) queue_length: Option<QueueLength>,
    pub(crate) client_to_client: bool,
    /// Inside the tunnel; what is pushed may make it larger.
    pub(crate) mtu: AtomicU16,
    pub(crate) counters: DeviceCounters,
    /// Wakes the worker that runs the keepalive timer.
    timer: OnceLock<Arc<Eventfd>>,
    stopping: AtomicBool,
}

/// Drops that belong to no peer.
#[derive(Debug, Default)]
pub(crate) struct DeviceCounters {
    /// Packets from the device without a peer to send them to.
    pub(crate) unrouted: AtomicU64,
    /// Frames from the device that contradict themselves.
    pub(crate) malformed_frames: AtomicU64,
    /// Received packets that are no peer's, and what is not OpenVPN.
    pub(crate) unclaimed: AtomicU64,
    /// Frames that the device did not take.
    pub(crate) device_refused: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        table: Table,
        joins: Joins,
        queue_length: Option<QueueLength>,
        client_to_client: bool,
        mtu: u16,
    ) -> Self {
        Self {
            table,
            events: EventQueue::default(),
            clock: Clock::start(),
            joins,
            queue_length,
            client_to_client,
            mtu: mtu.into(),
            counters: DeviceCounters::default(),
            timer: OnceLock::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Has the keepalive timer wake this worker, which is the one that runs it. The first is.
    pub(crate) fn set_timer(&self, wake: &Arc<Eventfd>) {
        self.timer.get_or_init(|| Arc::clone(wake));
    }

    /// Has keepalive look at a peer at this time if not sooner, whoever's sleep that cuts short.
    pub(crate) fn look_by(&self, id: PeerId, at: u64) {
        if self.table.look_by(id, at)
            && let Some(timer) = self.timer.get()
        {
            timer.raise();
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }
}

/// The calls' end of a receive worker.
struct ReceiverHandle {
    commands: mpsc::Sender<Command>,
    wake: Arc<Eventfd>,
    epoll: Arc<Epoll>,
}

impl ReceiverHandle {
    fn send(&self, command: Command) {
        // A worker that ended has nothing to add or remove.
        let _ = self.commands.send(command);
        self.wake.raise();
    }
}

impl Engine {
    /// Starts the workers of a device: one that transmits and one that receives for each of its queues.
    pub(crate) fn start(
        spec: &DeviceSpec,
        device: OpenDevice,
        config: EngineConfig,
    ) -> Result<Self, OffloadError> {
        let table = Table::new(spec.mode, spec.ethernet);
        let shared =
            Arc::new(Shared::new(table, device.joins, device.queue_length, spec.client_to_client, spec.mtu));
        let mut engine = Self {
            shared,
            config,
            capabilities: capabilities(),
            device: device.device,
            program: device.program,
            replay_window: spec.replay_window,
            transports: Mutex::default(),
            next_transport: AtomicU32::new(0),
            receivers: Vec::new(),
            stop: Vec::new(),
            threads: Vec::new(),
        };
        // What was started before a failure is stopped by dropping it.
        for (worker, queue) in device.queues.into_iter().enumerate() {
            let failed = |source| OffloadError::system("start a worker of the engine", source);
            engine.start_workers(worker, &queue).map_err(failed)?;
        }
        Ok(engine)
    }

    fn start_workers(&mut self, worker: usize, queue: &Arc<dyn crate::device::Queue>) -> io::Result<()> {
        let stop = Arc::new(Eventfd::new()?);
        let transmitter =
            Transmitter::new(Arc::clone(&self.shared), worker, Arc::clone(queue), Arc::clone(&stop));
        self.stop.push(stop);
        self.spawn(format!("culvert-tx{worker}"), || transmitter.run())?;

        let (commands, receiver_commands) = mpsc::channel();
        let (epoll, wake) = (Arc::new(Epoll::new()?), Arc::new(Eventfd::new()?));
        self.shared.set_timer(&wake);
        self.receivers.push(ReceiverHandle { commands, wake: Arc::clone(&wake), epoll: Arc::clone(&epoll) });
        let parts =
            ReceiverParts { worker, epoll, wake, commands: receiver_commands, queue: Arc::clone(queue) };
        let receiver = Receiver::new(&self.shared, parts);
        self.spawn(format!("culvert-rx{worker}"), || receiver.run())
    }

    fn spawn(
        &mut self,
        name: String,
        run: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = Builder::new().name(name.clone()).spawn(move || {
            let watch = DeathWatch { shared, name };
            match run() {
                Ok(()) => {}
                Err(error) => tracing::error!(worker = watch.name, %error, "a worker of the engine failed"),
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }

    fn lock_transports(&self) -> MutexGuard<'_, HashMap<TransportId, Arc<Transport>>> {
        self.transports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn transport(&self, id: TransportId) -> Result<Arc<Transport>, OffloadError> {
        self.lock_transports().get(&id).cloned().ok_or(OffloadError::UnknownTransport(id))
    }

    /// The worker that serves a stream.
    fn stream_worker(&self, id: TransportId) -> Option<&ReceiverHandle> {
        self.receivers.get(id.0 as usize % self.receivers.len().max(1))
    }

    fn open_wire(&self, id: TransportId, spec: TransportSpec) -> Result<Wire, OffloadError> {
        match spec {
            TransportSpec::BindUdp { local, remote, options } => {
                Udp::bind(local, remote, options, &self.config, self.receivers.len())
                    .map(Wire::Udp)
                    .map_err(|source| OffloadError::system(format!("bind UDP {local}"), source))
            }
            TransportSpec::AdoptUdp { socket, options } => Udp::adopt(socket, options, &self.config)
                .map(Wire::Udp)
                .map_err(|source| OffloadError::system("take over a UDP socket", source)),
            TransportSpec::AdoptTcp { stream, remote } => {
                let worker = self.stream_worker(id).ok_or(OffloadError::DeviceGone)?;
                Tcp::adopt(stream, plain(remote), Arc::clone(&worker.epoll), id).map(Wire::Tcp).map_err(
                    |source| OffloadError::system(format!("take over the stream to {remote}"), source),
                )
            }
        }
    }

    /// Has the keepalive timer know about a peer's next deadline.
    fn watch_over(&self, peer: &Peer) {
        self.shared.look_by(peer.id, peer.activity.next());
    }

    fn change_keys(
        &self,
        id: PeerId,
        change: impl FnMut(&mut KeySlots) -> Result<(), OffloadError>,
    ) -> Result<(), OffloadError> {
        let is_there = self.shared.table.find(id)?.keys.change(change)?;
        if is_there { Ok(()) } else { Err(OffloadError::UnknownPeer(id)) }
    }
}

impl Offload for Engine {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn device(&self) -> Device {
        self.device.clone()
    }

    fn start_program(&self, env: &[(String, String)]) -> Result<(), OffloadError> {
        self.program.as_ref().map_or(Ok(()), |program| program.start(env))
    }

    fn open_transport(
        &self,
        spec: TransportSpec,
    ) -> Result<(TransportId, Box<dyn ControlReceiver>, Arc<dyn ControlSender>), OffloadError> {
        let id = TransportId(self.next_transport.fetch_add(1, Relaxed));
        let transport = Arc::new(Transport::new(id, self.open_wire(id, spec)?));
        self.lock_transports().insert(id, Arc::clone(&transport));
        if transport.is_udp() {
            for receiver in &self.receivers {
                receiver.send(Command::Add(Arc::clone(&transport)));
            }
        } else if let Some(receiver) = self.stream_worker(id) {
            receiver.send(Command::Add(Arc::clone(&transport)));
        }
        let receiver = PortReceiver(Arc::clone(&transport.port));
        Ok((id, Box::new(receiver), Arc::new(PortSender(transport))))
    }

    fn close_transport(&self, id: TransportId) -> Result<Option<TransportSpec>, OffloadError> {
        let transport = self.lock_transports().remove(&id).ok_or(OffloadError::UnknownTransport(id))?;
        for receiver in &self.receivers {
            let (done, wait) = mpsc::sync_channel(1);
            receiver.send(Command::Remove(id, done));
            // Ends at once when the worker is gone.
            let _ = wait.recv_timeout(Duration::from_secs(5));
        }
        Ok(transport.close().ok())
    }

    fn size_buffers(
        &self,
        id: TransportId,
        recv: Option<u32>,
        send: Option<u32>,
    ) -> Result<(), OffloadError> {
        let sized = match &self.transport(id)?.wire {
            Wire::Udp(udp) => udp.size_buffers(recv, send),
            Wire::Tcp(tcp) => tcp.size_buffers(recv, send),
        };
        sized.map_err(|source| OffloadError::system("size the buffers of a socket", source))
    }

    fn local_address(&self, id: TransportId) -> Option<std::net::SocketAddr> {
        match &self.transport(id).ok()?.wire {
            Wire::Udp(udp) => udp.local_addr().ok(),
            Wire::Tcp(tcp) => tcp.local_addr().ok(),
        }
    }

    fn peer_new(&self, spec: PeerSpec) -> Result<(), OffloadError> {
        let transport = self.transport(spec.transport)?;
        let peer = Arc::new(Peer::new(&spec, Arc::clone(&transport), &self.shared.clock));
        self.shared.table.insert(&spec, Arc::clone(&peer))?;
        if let Wire::Tcp(tcp) = &transport.wire {
            tcp.peer.store(Some(Arc::clone(&peer)));
            // The stream may have ended before its worker could know whose it is.
            if tcp.is_broken() && tcp.peer.swap(None).is_some() && self.shared.table.remove(spec.id).is_ok() {
                self.shared.events.push(OffloadEvent::PeerGone(
                    spec.id,
                    DeleteReason::TransportDisconnect,
                    None,
                ));
            }
        }
        self.watch_over(&peer);
        Ok(())
    }

    fn peer_set(&self, id: PeerId, change: &PeerChange) -> Result<(), OffloadError> {
        let peer = self.shared.table.find(id)?;
        if let Some((vpn, iroutes)) = &change.vpn {
            self.shared.table.set_vpn(id, vpn, iroutes)?;
        }
        if let Some(remote) = change.remote.map(plain)
            && !self.shared.table.move_address(&peer, remote, None)
        {
            return Err(OffloadError::PeerExists(id));
        }
        if change.remote.is_some() {
            sizes::moved(&self.shared, &peer, self.shared.clock.millis());
        }
        if let Some(mss) = change.mss {
            peer.mss.store(mss.unwrap_or(0), Relaxed);
        }
        if let Some(keepalive) = change.keepalive {
            peer.activity.set(keepalive);
            self.watch_over(&peer);
        }
        Ok(())
    }

    fn peer_del(&self, id: PeerId) -> Result<(), OffloadError> {
        self.shared.table.remove(id)?.end();
        Ok(())
    }

    fn key_new(&self, id: PeerId, slot: Slot, key: DataKey) -> Result<(), OffloadError> {
        let cipher = key.cipher();
        let key = Arc::new(Key::new(&key, self.replay_window).map_err(|_| OffloadError::Cipher(cipher))?);
        self.change_keys(id, |slots| {
            match slot {
                Slot::Primary => slots.primary = Some(Arc::clone(&key)),
                Slot::Secondary => slots.secondary = Some(Arc::clone(&key)),
            }
            Ok(())
        })?;
        sizes::can_send(&self.shared, &*self.shared.table.find(id)?);
        Ok(())
    }

    fn key_swap(&self, id: PeerId) -> Result<(), OffloadError> {
        self.change_keys(id, |slots| {
            if slots.secondary.is_none() {
                return Err(OffloadError::NoSecondaryKey(id));
            }
            std::mem::swap(&mut slots.primary, &mut slots.secondary);
            Ok(())
        })
    }

    fn key_del(&self, id: PeerId, slot: Slot) -> Result<(), OffloadError> {
        self.change_keys(id, |slots| {
            match slot {
                Slot::Primary => slots.primary = None,
                Slot::Secondary => slots.secondary = None,
            }
            Ok(())
        })
    }

    fn notify_exit(&self, id: PeerId) -> Result<(), OffloadError> {
        let peer = self.shared.table.find(id)?;
        let mut outbox = Outbox::new(0);
        let exit = Single { payload: &EXIT, is_tunnel: false };
        outbox.push(&self.shared, &peer, &exit, Backpressure::Drop);
        outbox.flush(&self.shared, Backpressure::Drop);
        Ok(())
    }

    fn test_sizes(&self, id: PeerId, test: SizeTest) -> Result<(), OffloadError> {
        let peer = self.shared.table.find(id)?;
        sizes::begin(&self.shared, &peer, test);
        Ok(())
    }

    fn stats(&self, peer: Option<PeerId>, out: &mut Vec<PeerStats>) -> Result<(), OffloadError> {
        match peer {
            Some(id) => out.push(self.shared.table.find(id)?.stats()),
            None => out.extend(self.shared.table.all().map(|peer| peer.stats())),
        }
        Ok(())
    }

    fn ask_about_stations(&self, ask: bool) {
        if let Some(bridge) = self.shared.table.bridge() {
            bridge.ask(ask);
        }
    }

    fn judge_station(&self, peer: PeerId, station: Station, allowed: bool) {
        if let Some(bridge) = self.shared.table.bridge() {
            bridge.judge(peer, station, allowed, self.shared.clock.millis());
        }
    }

    fn station_owner(&self, station: Station) -> Option<PeerId> {
        self.shared.table.bridge()?.owner(station)
    }

    fn stations(&self, out: &mut Vec<Learned>) {
        if let Some(bridge) = self.shared.table.bridge() {
            bridge.list(self.shared.clock.millis(), out);
        }
    }

    fn expire_stations(&self, idle: Duration) {
        if let Some(bridge) = self.shared.table.bridge() {
            for (peer, station) in bridge.expire(self.shared.clock.millis(), idle) {
                self.shared.events.push(OffloadEvent::Forgotten(peer, station));
            }
        }
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<OffloadEvent>> {
        self.shared.events.poll(cx)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Relaxed);
        for stop in &self.stop {
            stop.raise();
        }
        for receiver in &self.receivers {
            receiver.wake.raise();
        }
        for thread in self.threads.drain(..) {
            // A worker that panicked has reported itself.
            let _ = thread.join();
        }
        for (_, transport) in self.lock_transports().drain() {
            transport.port.close();
        }
        self.shared.table.all().for_each(|peer| peer.end());
        self.shared.events.end();
        tracing::debug!(counters = ?self.shared.counters, "the engine stopped");
    }
}

/// Reports the device as gone when a worker ends other than by being told to.
struct DeathWatch {
    shared: Arc<Shared>,
    name: String,
}

impl Drop for DeathWatch {
    fn drop(&mut self) {
        if !self.shared.is_stopping() {
            if std::thread::panicking() {
                tracing::error!(worker = self.name, "a worker of the engine panicked: this is a bug");
            }
            self.shared.events.push(OffloadEvent::DeviceGone);
            self.shared.events.end();
        }
    }
}

/// Best first: those with a tag, then by block size and strength.
const CIPHERS: [CipherName; 20] = [
    CipherName::Aes256Gcm,
    CipherName::ChaCha20Poly1305,
    CipherName::Aes128Gcm,
    CipherName::Aes192Gcm,
    CipherName::Aes256Cbc,
    CipherName::Aes192Cbc,
    CipherName::Aes128Cbc,
    CipherName::Aes256Cfb,
    CipherName::Aes192Cfb,
    CipherName::Aes128Cfb,
    CipherName::Aes256Ofb,
    CipherName::Aes192Ofb,
    CipherName::Aes128Ofb,
    CipherName::Camellia256Cbc,
    CipherName::Camellia192Cbc,
    CipherName::Camellia128Cbc,
    CipherName::DesEde3Cbc,
    CipherName::Cast5Cbc,
    CipherName::BfCbc,
    CipherName::None,
];

/// Returns what the engine carries.
#[must_use]
pub fn capabilities() -> Capabilities {
    Capabilities {
        kind: OffloadKind::Engine,
        ciphers: CIPHERS.to_vec(),
        epoch: true,
        data_v1: true,
        multi_peer: true,
        tcp: true,
        tx_id: true,
        framing: true,
        mssfix: true,
    }
}

#[cfg(test)]
mod tests {
    use culvert_offload::{DeviceKind, DeviceMode};

    use super::*;
    use crate::device::memory_device;

    #[test]
    fn of_several_workers_the_first_runs_the_timer() {
        let spec = DeviceSpec {
            name: None,
            kind: DeviceKind::Tun,
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
        let (device, _host) = memory_device(Joins { tcp: true, udp: true }, 2).unwrap();
        let engine = Engine::start(&spec, device, EngineConfig::default()).unwrap();
        let [first, _] = &engine.receivers[..] else { panic!("two workers") };
        assert!(engine.shared.timer.get().is_some_and(|timer| Arc::ptr_eq(timer, &first.wake)));
    }
}
