//! The thread that listens to the kernel: notifications about peers and links, sockets that became ready, counters.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use culvert_sys::{Eventfd, Interest, NetlinkFamily, NetlinkSocket, since_boot};

use super::{
    device::{Kernel, Shared},
    module::Module,
    netlink::Messages,
    notification::{Notification, is_removal},
    peers::Peer,
    waiting::Waiting,
};
use crate::{DeleteReason, OffloadEvent, PeerSpec, Protocol};

/// How often counters are looked at: for usage limits (AES-GCM's is about 13 minutes away at 10 Gbit/s, and an eighth of
/// it is left when a key is announced), for the last counters of a peer that expires, and for lost notifications.
const POLL: Duration = Duration::from_secs(10);

/// Notifications that may wait to be read: thousands of peers may end in one moment.
const RECV_BUFFER: u32 = 4 << 20;

// linux/rtnetlink.h
const RTNLGRP_LINK: u32 = 1;

const ENOBUFS: i32 = 105;
const ENODEV: i32 = 19;

// Tokens in the set of watched descriptors.
const WAKE: u64 = 0;
const PEERS: u64 = 1;
const LINKS: u64 = 2;

/// The running thread; dropping it ends it.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    wake: Arc<Eventfd>,
    thread: Option<JoinHandle<()>>,
}

struct Watcher {
    shared: Arc<Shared>,
    waiting: Arc<Waiting>,
    family: u16,
    ifindex: u32,
    peers: NetlinkSocket,
    links: NetlinkSocket,
    stop: Arc<AtomicBool>,
    wake: Arc<Eventfd>,
    buf: Box<[u8]>,
}

impl Watch {
    pub(super) fn start(shared: &Arc<Shared>, module: &Module) -> io::Result<Self> {
        let subscribe = |family, group| -> io::Result<NetlinkSocket> {
            let socket = NetlinkSocket::open(family)?;
            socket.set_recv_buffer(RECV_BUFFER)?;
            socket.join(group)?;
            Ok(socket)
        };
        let peers = subscribe(NetlinkFamily::Generic, module.group)?;
        let links = subscribe(NetlinkFamily::Route, RTNLGRP_LINK)?;
        let (stop, wake) = (Arc::new(AtomicBool::new(false)), Arc::new(Eventfd::new()?));
        let epoll = &shared.waiting.epoll;
        epoll.add(&*wake, WAKE, Interest::Read)?;
        epoll.add(&peers, PEERS, Interest::Read)?;
        epoll.add(&links, LINKS, Interest::Read)?;
        let watcher = Watcher {
            shared: Arc::clone(shared),
            waiting: Arc::clone(&shared.waiting),
            family: module.family,
            ifindex: shared.lock().commands.ifindex,
            peers,
            links,
            stop: Arc::clone(&stop),
            wake: Arc::clone(&wake),
            buf: vec![0; 64 << 10].into_boxed_slice(),
        };
        let thread = Builder::new().name("culvert-ovpn".to_owned()).spawn(move || watcher.run())?;
        Ok(Self { stop, wake, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.wake.raise();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join(); // it has said so itself
        }
    }
}

impl Watcher {
    fn run(mut self) {
        let mut ready = Vec::new();
        let mut due = Instant::now() + POLL;
        while !self.stop.load(Relaxed) {
            let left = due.saturating_duration_since(Instant::now());
            if let Err(failure) = self.waiting.epoll.wait(&mut ready, Some(left)) {
                tracing::error!("cannot wait for the kernel any more: {failure}");
                let shared = Arc::clone(&self.shared);
                return shared.lost_device(&mut shared.lock());
            }
            for event in &ready {
                match event.token {
                    WAKE => self.wake.lower(),
                    PEERS => self.hear_of_peers(),
                    LINKS => self.hear_of_links(),
                    socket => self.waiting.ready(socket),
                }
            }
            if Instant::now() >= due {
                due = Instant::now() + POLL;
                // What is on its way already comes first.
                self.hear_of_peers();
                self.reconcile(false);
            }
        }
    }

    fn hear_of_peers(&mut self) {
        let mut lost = false;
        loop {
            match self.peers.try_recv(&mut self.buf) {
                Ok(len) => {
                    let shared = Arc::clone(&self.shared);
                    let mut kernel = shared.lock();
                    for message in Messages(self.buf.get(..len).unwrap_or_default()) {
                        if let Some(notification) = Notification::read(&message, self.family, self.ifindex) {
                            self.take(&mut kernel, notification);
                        }
                    }
                }
                // Older ones are still to be read: what they echo is known until they were.
                Err(failure) if failure.raw_os_error() == Some(ENOBUFS) => lost = true,
                Err(_) => break,
            }
        }
        if lost {
            tracing::warn!("notifications of the ovpn module were lost; its peers are looked at again");
            self.reconcile(true);
        }
    }

    fn take(&self, kernel: &mut Kernel, notification: Notification) {
        match notification {
            // The device is about to go, and every peer with it: one piece of news. (No peer of ours is ever replaced.)
            Notification::Deleted(_, DeleteReason::Teardown) => {
                if !kernel.gone && !kernel.device_exists() {
                    self.shared.lost_device(kernel);
                }
            }
            Notification::Deleted(id, reason) => {
                if let Some(peer) = kernel.peers.heard_of_end(id) {
                    self.gone(peer, reason);
                }
            }
            Notification::Floated(id, address) => {
                let Ok(peer) = kernel.peers.get(id) else { return };
                let moved = PeerSpec { remote: address, ..peer.spec.clone() };
                if moved.float && !kernel.peers.is_occupied(&moved) {
                    kernel.peers.change(moved);
                    self.shared.events.push(OffloadEvent::Floated(id, address));
                } else {
                    let ends = self.shared.ends_of(&peer.spec);
                    // The module follows every peer that authenticates; this one may not move, or not there.
                    if let Err(refused) = kernel.commands.peer_set(id, ends, None, None) {
                        tracing::debug!("setting peer {id} back to its address: {refused}");
                    }
                }
            }
            Notification::KeyUsedUp(id, key) => {
                tracing::warn!(
                    "peer {id} has used up its key {key}: nothing is sent until the next one is negotiated"
                );
                self.shared.events.push(OffloadEvent::KeyExhausted(id, key));
            }
        }
    }

    /// A peer ended by itself.
    fn gone(&self, mut peer: Peer, reason: DeleteReason) {
        self.shared.break_stream_of(&peer.spec);
        let last = Box::new(peer.stats(None));
        self.shared.events.push(OffloadEvent::PeerGone(peer.spec.id, reason, Some(last)));
    }

    fn hear_of_links(&mut self) {
        loop {
            match self.links.try_recv(&mut self.buf) {
                Ok(len) => {
                    let mut messages = Messages(self.buf.get(..len).unwrap_or_default());
                    if messages.any(|message| is_removal(&message, self.ifindex)) {
                        self.shared.lost_device(&mut self.shared.lock());
                    }
                }
                Err(failure) if failure.raw_os_error() == Some(ENOBUFS) => {
                    let mut kernel = self.shared.lock();
                    if !kernel.device_exists() {
                        self.shared.lost_device(&mut kernel);
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Compares the module's peers with ours, and looks at the counters. `overrun`: notifications were lost.
    fn reconcile(&self, overrun: bool) {
        let mut kernel = self.shared.lock();
        if kernel.gone {
            return;
        }
        let dump = match kernel.commands.peers() {
            Ok(dump) => dump,
            Err(refused) if refused.errno() == Some(ENODEV) => return self.shared.lost_device(&mut kernel),
            Err(refused) => return tracing::debug!("cannot look at the peers: {refused}"),
        };
        if overrun {
            kernel.peers.forget_echoes();
        }
        let (lost, foreign) = kernel.peers.reconcile(&dump);
        for id in lost {
            // Without an overrun, the notification is only late.
            let peer = if overrun { kernel.peers.heard_of_end(id) } else { kernel.peers.deleted(id) };
            if let Some(peer) = peer {
                let reason = match self.shared.protocol_of(&peer.spec) {
                    Some(Protocol::Tcp) => DeleteReason::TransportDisconnect,
                    _ => DeleteReason::Expired,
                };
                self.gone(peer, reason);
            }
        }
        for id in foreign {
            tracing::debug!("removing peer {id}, which is not ours");
            let _gone = kernel.remove(id);
        }
        if overrun {
            self.follow(&mut kernel, &dump);
        }
        for (id, key) in kernel.peers.exhausted() {
            self.shared.events.push(OffloadEvent::KeyExhausted(id, key));
        }
        for id in kernel.peers.tiring(since_boot()) {
            let keepalive = kernel.peers.get(id).ok().and_then(|peer| peer.spec.keepalive);
            if let Err(refused) = kernel.commands.peer_set(id, None, None, keepalive) {
                tracing::debug!("setting the keepalive of peer {id} anew: {refused}");
            }
        }
    }

    /// Catches up with peers that moved while nobody heard.
    fn follow(&self, kernel: &mut Kernel, dump: &[super::commands::PeerState]) {
        for state in dump {
            let Ok(peer) = kernel.peers.get_mut(state.id) else { continue };
            if let Some(remote) = state.remote
                && remote != super::device::plain(peer.spec.remote)
            {
                self.take(kernel, Notification::Floated(state.id, remote));
            }
        }
    }
}
