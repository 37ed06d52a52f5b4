//! A device of the module, as the interface has it.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd as _, BorrowedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use culvert_crypto::DataKey;
use culvert_sys::since_boot;
use culvert_wire::{PeerId, Slot};

use super::{
    LinuxBackend,
    commands::{Commands, Ends, NewPeer},
    link::{Links, OwnedLink},
    module::{Missing, Module},
    netlink::Refused,
    peers::Peers,
    tcp::{Tcp, TcpReceiver},
    udp::{Udp, UdpReceiver},
    waiting::Waiting,
    watch::Watch,
};
use crate::{
    Capabilities, ControlReceiver, ControlSender, Device, DeviceMode, DeviceSpec, EventQueue, Framing,
    Offload, OffloadError, OffloadEvent, PeerChange, PeerSpec, PeerStats, Protocol, TransportId,
    TransportSpec, VpnAddresses,
};

// asm-generic/errno-base.h, asm-generic/errno.h
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EADDRINUSE: i32 = 98;

/// The kernel as data plane of one device.
pub(super) struct KernelOffload {
    shared: Arc<Shared>,
    capabilities: Capabilities,
    device: Device,
    /// Ends before the device goes.
    watch: Option<Watch>,
}

/// What calls and the watching thread share.
pub(super) struct Shared {
    pub(super) kernel: Mutex<Kernel>,
    pub(super) events: EventQueue,
    pub(super) waiting: Arc<Waiting>,
    pub(super) mode: DeviceMode,
    transports: Mutex<BTreeMap<u32, Transport>>,
    next_transport: AtomicU32,
}

/// The one ordered queue of commands, and the books that belong to it.
pub(super) struct Kernel {
    pub(super) commands: Commands,
    pub(super) peers: Peers,
    links: Links,
    link: OwnedLink,
    /// The device vanished.
    pub(super) gone: bool,
}

#[derive(Clone)]
enum Transport {
    Udp(Arc<Udp>),
    Tcp(Arc<Tcp>),
}

impl KernelOffload {
    pub(super) fn open(spec: &DeviceSpec, backend: LinuxBackend) -> Result<Self, OffloadError> {
        if spec.ethernet.is_some() {
            return Err(OffloadError::Unsupported("Ethernet frames: the module has IP devices only"));
        }
        let (requests, module) = Module::connect().map_err(|missing| match missing {
            Missing::System(source) => OffloadError::system("ask the kernel for its module ovpn", source),
            Missing::Module { .. } => {
                OffloadError::system(missing.to_string(), io::ErrorKind::Unsupported.into())
            }
        })?;
        let mut links = Links::open().map_err(|source| OffloadError::system("open rtnetlink", source))?;
        let link = links.acquire(spec.name.as_deref(), spec.mode, spec.mtu)?;
        let device = link.device.clone();
        let commands = Commands { requests, ifindex: device.ifindex };
        let mut kernel = Kernel { commands, peers: Peers::new(spec.mode), links, link, gone: false };
        let waiting = kernel
            .take_possession()
            .and_then(|()| Waiting::new().map_err(|source| OffloadError::system("watch the device", source)));
        let waiting = match waiting {
            Ok(waiting) => Arc::new(waiting),
            Err(failure) => {
                kernel.remove_device();
                return Err(failure);
            }
        };
        let shared = Arc::new(Shared {
            kernel: Mutex::new(kernel),
            events: EventQueue::default(),
            waiting,
            mode: spec.mode,
            transports: Mutex::default(),
            next_transport: AtomicU32::new(0),
        });
        let capabilities = module.capabilities(backend.trust_tcp);
        // From here on, dropping removes the device.
        let mut offload = Self { shared, capabilities, device, watch: None };
        let watch = Watch::start(&offload.shared, &module).map_err(|source| {
            OffloadError::system(format!("watch the device {}", offload.device.name), source)
        })?;
        offload.watch = Some(watch);
        Ok(offload)
    }

    fn transport(&self, id: TransportId) -> Result<Transport, OffloadError> {
        let found = self.shared.lock_transports().get(&id.0).cloned();
        found.ok_or(OffloadError::UnknownTransport(id))
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_transports(&self) -> MutexGuard<'_, BTreeMap<u32, Transport>> {
        self.transports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer is gone from the module: its stream, if it has one, is a plain stream again, in an unknown place.
    pub(super) fn break_stream_of(&self, peer: &PeerSpec) {
        if let Some(Transport::Tcp(tcp)) = self.lock_transports().get(&peer.transport.0) {
            tcp.break_off();
        }
    }

    /// What carries a peer's packets, while its transport is open.
    pub(super) fn protocol_of(&self, peer: &PeerSpec) -> Option<Protocol> {
        self.lock_transports().get(&peer.transport.0).map(|transport| match transport {
            Transport::Udp(_) => Protocol::Udp,
            Transport::Tcp(_) => Protocol::Tcp,
        })
    }

    /// Where a peer's datagrams go to and come from, while its transport is open.
    pub(super) fn ends_of(&self, peer: &PeerSpec) -> Option<Ends> {
        self.lock_transports().get(&peer.transport.0)?.ends(peer)
    }

    /// The device vanished: nothing will come from it any more.
    pub(super) fn lost_device(&self, kernel: &mut Kernel) {
        if !kernel.gone {
            kernel.gone = true;
            kernel.peers.specs().for_each(|peer| self.break_stream_of(peer));
            self.events.push(OffloadEvent::DeviceGone);
            self.events.end();
        }
    }

    /// Tells an error of a command about a peer in the interface's words.
    fn explain(&self, kernel: &mut Kernel, what: &str, id: PeerId, refused: Refused) -> OffloadError {
        match refused.errno() {
            Some(ENOENT) => OffloadError::UnknownPeer(id),
            Some(EEXIST | EADDRINUSE) => OffloadError::PeerExists(id),
            Some(ENODEV) => {
                self.lost_device(kernel);
                OffloadError::DeviceGone
            }
            _ => OffloadError::system(format!("{what} of peer {id}"), refused.into_io()),
        }
    }
}

impl Kernel {
    /// Finds out whether the module takes commands from this process, and removes peers of a former owner.
    fn take_possession(&mut self) -> Result<(), OffloadError> {
        let name = &self.link.device.name;
        let stale = self.commands.peers().map_err(|refused| match refused.errno() {
            Some(EPERM) => OffloadError::NotPermitted(
                "the ovpn module takes commands only from processes with CAP_NET_ADMIN in the initial user namespace; a \
                 rootless container has it not",
            ),
            _ => OffloadError::system(format!("list the peers of {name}"), refused.into_io()),
        })?;
        for peer in stale {
            if let Err(refused) = self.commands.peer_del(peer.id) {
                tracing::debug!("removing the stale peer {}: {refused}", peer.id);
            }
        }
        Ok(())
    }

    /// Removes a peer that is not in the books: its notification is not about a successor.
    pub(super) fn remove(&mut self, id: PeerId) -> Result<(), Refused> {
        self.commands.peer_del(id)?;
        self.peers.deleted(id);
        Ok(())
    }

    pub(super) fn device_exists(&mut self) -> bool {
        let index = self.link.device.ifindex;
        self.links.exists(index)
    }

    /// Removes what is left of the peers, with their keys, and then the device, if it was made here.
    fn remove_device(&mut self) {
        if self.gone {
            return;
        }
        for id in self.peers.ids().collect::<Vec<_>>() {
            let _gone = self.commands.peer_del(id);
        }
        if self.link.made_here
            && let Err(refused) = self.links.delete(self.link.device.ifindex)
        {
            tracing::warn!("cannot remove the device {}: {refused}", self.link.device.name);
        }
    }

    /// The module's counters of a peer.
    fn link_traffic(&mut self, id: PeerId) -> crate::Traffic {
        self.commands.peer(id).ok().flatten().map(|state| state.link).unwrap_or_default()
    }
}

impl Transport {
    /// The address to send from: the one that is asked for, or the one that the socket is bound to.
    fn ends(&self, spec: &PeerSpec) -> Option<Ends> {
        let Self::Udp(udp) = self else { return None };
        let bound = || udp.local_address().map(|local| local.ip()).filter(|local| !local.is_unspecified());
        Some(Ends {
            remote: plain(spec.remote),
            local: spec.local.map(|local| local.ip).or_else(bound).map(|ip| ip.to_canonical()),
        })
    }
}

/// The module speaks plain IPv4 where a dual-stack socket has the mapped form.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    match (address.ip().to_canonical(), address) {
        (IpAddr::V4(v4), _) => (v4, address.port()).into(),
        (IpAddr::V6(_), address) => address,
    }
}

impl Offload for KernelOffload {
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
        let waiting = &self.shared.waiting;
        let (transport, receiver, sender): (_, Box<dyn ControlReceiver>, Arc<dyn ControlSender>) = match spec
        {
            TransportSpec::BindUdp { options, .. } | TransportSpec::AdoptUdp { options, .. }
                if options.socks_relay.is_some() =>
            {
                return Err(OffloadError::Unsupported("a SOCKS relay"));
            }
            TransportSpec::BindUdp { local, options, .. } => {
                let udp = Udp::bind(local, options, waiting)
                    .map_err(|source| OffloadError::system(format!("bind UDP {local}"), source))?;
                udp_port(udp)
            }
            TransportSpec::AdoptUdp { socket, options } => udp_port(
                Udp::adopt(socket, options, waiting)
                    .map_err(|source| OffloadError::system("take over a UDP socket", source))?,
            ),
            TransportSpec::AdoptTcp { stream, remote } => {
                let tcp = Tcp::adopt(stream, plain(remote), waiting).map_err(|source| {
                    OffloadError::system(format!("take over the stream to {remote}"), source)
                })?;
                let tcp = Arc::new(tcp);
                (Transport::Tcp(Arc::clone(&tcp)), Box::new(TcpReceiver::new(Arc::clone(&tcp))), tcp)
            }
        };
        let id = TransportId(self.shared.next_transport.fetch_add(1, Relaxed));
        self.shared.lock_transports().insert(id.0, transport);
        Ok((id, receiver, sender))
    }

    fn close_transport(&self, id: TransportId) -> Result<Option<TransportSpec>, OffloadError> {
        let transport =
            self.shared.lock_transports().remove(&id.0).ok_or(OffloadError::UnknownTransport(id))?;
        Ok(match transport {
            Transport::Udp(udp) => udp.close(),
            Transport::Tcp(tcp) => tcp.close(),
        })
    }

    fn local_address(&self, id: TransportId) -> Option<SocketAddr> {
        match self.transport(id).ok()? {
            Transport::Udp(udp) => udp.local_address(),
            Transport::Tcp(tcp) => tcp.local_address(),
        }
    }

    fn peer_new(&self, spec: PeerSpec) -> Result<(), OffloadError> {
        let transport = self.transport(spec.transport)?;
        if spec.shape.data_v1
            || spec.shape.epoch
            || spec.shape.framing != Framing::None
            || spec.shape.fragment.is_some()
        {
            return Err(OffloadError::Unsupported("this form of data packets"));
        }
        let mut kernel = self.shared.lock();
        if kernel.gone {
            return Err(OffloadError::DeviceGone);
        }
        if kernel.peers.contains(spec.id) {
            return Err(OffloadError::PeerExists(spec.id));
        }
        kernel.peers.check(&spec)?;
        let vpn = (self.shared.mode == DeviceMode::MultiPeer).then_some(spec.vpn);
        let ends = transport.ends(&spec);
        let new = |kernel: &mut Kernel, socket: BorrowedFd<'_>| {
            let peer = NewPeer {
                id: spec.id,
                tx_id: spec.tx_id.filter(|tx_id| *tx_id != spec.id),
                socket,
                ends,
                vpn,
            };
            match kernel.commands.peer_new(&peer) {
                // Whose peer that is does not matter: the id is ours to give.
                Err(refused) if refused.errno() == Some(EEXIST) => {
                    kernel.remove(spec.id)?;
                    kernel.commands.peer_new(&peer)?;
                }
                done => done?,
            }
            let Some(keepalive) = spec.keepalive else { return Ok(()) };
            kernel.commands.peer_set(spec.id, None, None, Some(keepalive)).inspect_err(|_| {
                // A peer that would never be given up is none.
                let _gone = kernel.remove(spec.id);
            })
        };
        let done: Result<(), Refused> = match &transport {
            Transport::Udp(udp) => {
                udp.socket().map_err(Refused::from).and_then(|socket| new(&mut kernel, socket.as_fd()))
            }
            Transport::Tcp(tcp) => tcp.attach(|stream| new(&mut kernel, stream.as_fd())),
        };
        match done {
            Ok(()) => {
                kernel.peers.insert(spec, since_boot());
                Ok(())
            }
            Err(refused) => Err(self.shared.explain(&mut kernel, "installation", spec.id, refused)),
        }
    }

    fn peer_set(&self, id: PeerId, change: &PeerChange) -> Result<(), OffloadError> {
        let mut kernel = self.shared.lock();
        let mut wanted = kernel.peers.get(id)?.spec.clone();
        if let Some((vpn, iroutes)) = &change.vpn {
            (wanted.vpn, wanted.iroutes) = (*vpn, iroutes.clone());
            kernel.peers.check(&wanted)?;
        }
        if let Some(remote) = change.remote {
            wanted.remote = remote;
            if kernel.peers.is_occupied(&wanted) {
                return Err(OffloadError::PeerExists(id));
            }
        }
        if change.keepalive.is_some() {
            wanted.keepalive = change.keepalive;
        }
        let transport = self.transport(wanted.transport)?;
        let ends = change.remote.and_then(|_| transport.ends(&wanted));
        let multi = self.shared.mode == DeviceMode::MultiPeer;
        let before = kernel.peers.get(id)?.spec.vpn;
        let vpn = change.vpn.as_ref().map(|(vpn, _)| replacing(before, *vpn)).filter(|_| multi);
        let vpn = vpn.as_ref();
        if ends.is_some() || vpn.is_some() || change.keepalive.is_some() {
            let done = kernel.commands.peer_set(id, ends, vpn, change.keepalive);
            done.map_err(|refused| self.shared.explain(&mut kernel, "change", id, refused))?;
        }
        kernel.peers.change(wanted);
        if change.keepalive.is_some() {
            kernel.peers.get_mut(id)?.keepalive_set(since_boot());
        }
        Ok(())
    }

    fn peer_del(&self, id: PeerId) -> Result<(), OffloadError> {
        let mut kernel = self.shared.lock();
        kernel.peers.get(id)?;
        match kernel.commands.peer_del(id) {
            Ok(()) => {}
            // Gone by itself: the notification is on its way, and is nobody's any more.
            Err(refused) if refused.errno() == Some(ENOENT) => {}
            // Out of our books all the same: what stays in the module is not ours, and the next look at it removes it.
            // Kept, the id could never be given again.
            Err(refused) => {
                let _peer = kernel.peers.remove(id);
                return Err(self.shared.explain(&mut kernel, "removal", id, refused));
            }
        }
        let peer = kernel.peers.deleted(id);
        drop(kernel);
        if let Some(peer) = peer
            && let Ok(Transport::Tcp(tcp)) = self.transport(peer.spec.transport)
        {
            tcp.detached();
        }
        Ok(())
    }

    fn key_new(&self, id: PeerId, slot: Slot, key: DataKey) -> Result<(), OffloadError> {
        let mut kernel = self.shared.lock();
        kernel.peers.get(id)?;
        if !self.capabilities.ciphers.contains(&key.cipher()) {
            return Err(OffloadError::Cipher(key.cipher()));
        }
        if matches!(key, DataKey::Epoch { .. }) {
            return Err(OffloadError::Unsupported("the epoch data format"));
        }
        let done = kernel.commands.key_new(id, slot, &key);
        done.map_err(|refused| self.shared.explain(&mut kernel, "key installation", id, refused))?;
        let link = kernel.link_traffic(id);
        kernel.peers.get_mut(id)?.key_installed(slot, key.id(), key.cipher(), link);
        Ok(())
    }

    fn key_swap(&self, id: PeerId) -> Result<(), OffloadError> {
        let mut kernel = self.shared.lock();
        // The module would leave the peer without a key to send with.
        if !kernel.peers.get(id)?.has_secondary() {
            return Err(OffloadError::NoSecondaryKey(id));
        }
        let done = kernel.commands.key_swap(id);
        done.map_err(|refused| self.shared.explain(&mut kernel, "key switch", id, refused))?;
        let link = kernel.link_traffic(id);
        kernel.peers.get_mut(id)?.keys_swapped(link);
        Ok(())
    }

    fn key_del(&self, id: PeerId, slot: Slot) -> Result<(), OffloadError> {
        let mut kernel = self.shared.lock();
        kernel.peers.get(id)?;
        let done = kernel.commands.key_del(id, slot);
        done.map_err(|refused| self.shared.explain(&mut kernel, "key removal", id, refused))?;
        kernel.peers.get_mut(id)?.key_deleted(slot);
        Ok(())
    }

    fn stats(&self, peer: Option<PeerId>, out: &mut Vec<PeerStats>) -> Result<(), OffloadError> {
        let mut kernel = self.shared.lock();
        match peer {
            Some(id) => {
                kernel.peers.get(id)?;
                let state = match kernel.commands.peer(id) {
                    // It ended by itself; until the news of that was read, the last counters stand.
                    Err(refused) if refused.errno() == Some(ENOENT) => None,
                    Err(refused) => return Err(self.shared.explain(&mut kernel, "counters", id, refused)),
                    Ok(state) => state,
                };
                out.push(kernel.peers.get_mut(id)?.stats(state));
            }
            None => {
                let dump = kernel.commands.peers().map_err(|refused| {
                    OffloadError::system("list the peers of the device", refused.into_io())
                })?;
                for state in dump {
                    if let Ok(peer) = kernel.peers.get_mut(state.id) {
                        out.push(peer.stats(Some(state)));
                    }
                }
            }
        }
        Ok(())
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<OffloadEvent>> {
        self.shared.events.poll(cx)
    }
}

/// New addresses as the module has to be told them: one that is not mentioned stays, and none is the unspecified one.
fn replacing(before: VpnAddresses, new: VpnAddresses) -> VpnAddresses {
    VpnAddresses {
        v4: new.v4.or(before.v4.map(|_| Ipv4Addr::UNSPECIFIED)),
        v6: new.v6.or(before.v6.map(|_| Ipv6Addr::UNSPECIFIED)),
    }
}

fn udp_port(udp: Udp) -> (Transport, Box<dyn ControlReceiver>, Arc<dyn ControlSender>) {
    let udp = Arc::new(udp);
    (Transport::Udp(Arc::clone(&udp)), Box::new(UdpReceiver::new(Arc::clone(&udp))), udp)
}

impl Drop for KernelOffload {
    fn drop(&mut self) {
        drop(self.watch.take());
        self.shared.lock().remove_device();
        // Whoever reads a port is told that nothing will come any more.
        let transports = std::mem::take(&mut *self.shared.lock_transports());
        for transport in transports.into_values() {
            let _closed = match transport {
                Transport::Udp(udp) => udp.close(),
                Transport::Tcp(tcp) => tcp.close(),
            };
        }
        self.shared.events.end();
    }
}
