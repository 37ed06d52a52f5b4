use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use culvert_offload::{TransportSpec, UdpOptions};
use culvert_sys::{MAX_SEGMENTS, Outgoing, UdpSocket, sockopt};
use culvert_wire::Transmit;

use super::{Backpressure, Cut, Train, cut::Cutting, refusals::Refusals};
use crate::backend::EngineConfig;

/// Socket buffers where the configuration asks for none: what wireguard-go uses, too, for the same reason. A dropped
/// train is a burst of up to 64 lost packets.
const BUFFER: u32 = 7 << 20;

/// A set of UDP sockets on one port: one for each worker, or just one.
pub(crate) struct Udp {
    sockets: Vec<UdpSocket>,
    /// What each of them lets the kernel cut.
    cutting: Vec<Cutting>,
    options: UdpOptions,
    /// The kernel splits trains. Off for good once it said that this device cannot.
    segmentation: AtomicBool,
    /// Trains that have to be sent one by one all the same.
    refusals: Refusals,
    /// Datagrams that the system refused.
    failed: AtomicU64,
}

impl Udp {
    /// Binds a set of sockets. A connected socket is always alone: its peer is a single flow.
    pub(crate) fn bind(
        local: SocketAddr,
        remote: Option<SocketAddr>,
        options: UdpOptions,
        config: &EngineConfig,
        workers: usize,
    ) -> io::Result<Self> {
        let configure = |fd: BorrowedFd<'_>| options.apply(fd);
        let mut sockets = Vec::new();
        if let Some(remote) = remote {
            let mut socket = UdpSocket::bind(local, configure)?;
            socket.connect(remote)?;
            sockets.push(socket);
        } else if workers <= 1 {
            sockets.push(UdpSocket::bind(local, configure)?);
        } else {
            let first = UdpSocket::bind_shared(local, configure)?;
            for _ in 1..workers {
                sockets.push(first.share(configure)?);
            }
            sockets.insert(0, first);
        }
        Ok(Self::with_sockets(sockets, options, config))
    }

    /// Takes over a bound socket.
    pub(crate) fn adopt(socket: OwnedFd, options: UdpOptions, config: &EngineConfig) -> io::Result<Self> {
        Ok(Self::with_sockets(vec![UdpSocket::adopt(socket)?], options, config))
    }

    fn with_sockets(sockets: Vec<UdpSocket>, options: UdpOptions, config: &EngineConfig) -> Self {
        let mut segmentation = config.udp_segmentation;
        for socket in &sockets {
            // Buffers and joining only help speed: a refusal costs that and nothing else.
            let _ = sockopt::set_recv_buffer(socket, options.recv_buffer.unwrap_or(BUFFER));
            let _ = sockopt::set_send_buffer(socket, options.send_buffer.unwrap_or(BUFFER));
            let _ = sockopt::set_udp_gro(socket, config.udp_gro);
            segmentation &= sockopt::has_udp_segment(socket);
        }
        Self {
            cutting: sockets.iter().map(Cutting::new).collect(),
            sockets,
            options,
            segmentation: AtomicBool::new(segmentation),
            refusals: Refusals::default(),
            failed: AtomicU64::new(0),
        }
    }

    pub(crate) fn size_buffers(&self, recv: Option<u32>, send: Option<u32>) -> io::Result<()> {
        self.sockets.iter().try_for_each(|socket| sockopt::size_buffers(socket, recv, send))
    }

    /// The socket that worker `worker` receives from, if there is one for it.
    pub(crate) fn receiving_socket(&self, worker: usize) -> Option<&UdpSocket> {
        self.sockets.get(worker)
    }

    /// The address that the sockets are bound to.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sockets.first().map_or(Err(io::ErrorKind::NotConnected.into()), UdpSocket::local_addr)
    }

    fn sending_socket(&self, worker: usize) -> Option<(&UdpSocket, &Cutting)> {
        let index = worker % self.sockets.len().max(1);
        Some((self.sockets.get(index)?, self.cutting.get(index)?))
    }

    pub(super) fn send(&self, worker: usize, trains: &[Train<'_>], backpressure: Backpressure<'_>) {
        let Some((socket, cutting)) = self.sending_socket(worker) else { return };
        if let Some(relay) = self.options.socks_relay {
            let packets = trains.iter().flat_map(|train| {
                train.bytes.chunks(train.segment.max(1)).map(|packet| with_socks_header(train.to, packet))
            });
            let packets: Vec<Vec<u8>> = packets.collect();
            let messages = packets.iter().map(|bytes| to_relay(relay.at, bytes)).collect();
            self.send_messages((socket, cutting, Cut::Usual), messages, backpressure);
            return;
        }
        // One group, nearly always.
        for group in trains.chunk_by(|one, other| one.cut == other.cut) {
            let Some(first) = group.first() else { continue };
            let mut messages = Vec::with_capacity(group.len());
            for train in group {
                self.push(&mut messages, socket, train);
            }
            self.send_messages((socket, cutting, first.cut), messages, backpressure);
        }
    }

    fn send_messages(
        &self,
        (socket, cutting, cut): (&UdpSocket, &Cutting, Cut),
        mut messages: Vec<Outgoing<'_>>,
        backpressure: Backpressure<'_>,
    ) {
        let mut at = 0;
        let mut retried = false;
        while at < messages.len() {
            match cutting.with(socket, cut, || socket.send_batch(&messages[at..])) {
                Ok(sent) => {
                    at += sent.max(1);
                    retried = false;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !backpressure.wait(socket) {
                        self.failed.fetch_add((messages.len() - at) as u64, Relaxed);
                        return;
                    }
                }
                Err(error) if messages[at].segment.is_some() && is_about_segments(&error) => {
                    self.note_refusal(&error, &messages[at], socket.peer());
                    let singles = split(messages[at]);
                    messages.splice(at..=at, singles);
                }
                // A connected socket reports here what happened to an earlier packet; this one was not tried.
                Err(_) if !retried => retried = true,
                Err(_) => {
                    self.failed.fetch_add(1, Relaxed);
                    at += 1;
                    retried = false;
                }
            }
        }
    }

    /// Turns a train into messages: one where the kernel splits it, or as many as it has packets.
    fn push<'a>(&self, messages: &mut Vec<Outgoing<'a>>, socket: &UdpSocket, train: &Train<'a>) {
        let to = (socket.peer() != Some(train.to)).then_some(train.to);
        let from = train.from.map(Into::into);
        let whole = Outgoing { bytes: train.bytes, segment: None, to, from, tos: train.tos };
        if train.bytes.len() <= train.segment {
            messages.push(whole);
            return;
        }
        let whole = Outgoing { segment: u16::try_from(train.segment).ok(), ..whole };
        if self.segmentation.load(Relaxed) && !self.refusals.contains(train.to, train.segment) {
            debug_assert!(train.bytes.len().div_ceil(train.segment) <= MAX_SEGMENTS, "the outbox counts");
            messages.push(whole);
        } else {
            messages.extend(split(whole));
        }
    }

    fn note_refusal(&self, error: &io::Error, train: &Outgoing<'_>, peer: Option<SocketAddr>) {
        if error.raw_os_error() == Some(EIO) {
            tracing::debug!(
                "the network device cannot split datagrams (no checksum offload): sending singly"
            );
            self.segmentation.store(false, Relaxed);
        } else if let (Some(size), Some(to)) = (train.segment, train.to.or(peer)) {
            tracing::debug!(size, %to, "datagrams exceed the path's MTU: sending singly");
            self.refusals.note(to, size.into());
        }
    }

    /// The way to this address may be wider than it was: trains are tried there again.
    pub(crate) fn forget_refusals(&self, to: SocketAddr) {
        self.refusals.forget(to);
    }

    /// Takes the header of a SOCKS relay off. `None`: it is not from the relay, or malformed.
    pub(crate) fn unwrap_relayed<'a>(
        &self,
        from: SocketAddr,
        bytes: &'a [u8],
    ) -> Option<(SocketAddr, &'a [u8])> {
        let relay = self.options.socks_relay.filter(|relay| relay.at == from)?;
        let (from, packet) = culvert_wire::socks::split_header(bytes).ok()?;
        // A proxy whose sockets are of both families writes IPv4 addresses as IPv6's.
        let plain = |from: SocketAddr| SocketAddr::new(from.ip().to_canonical(), from.port());
        Some((from.map_or(relay.server, plain), packet))
    }

    /// Whether everything goes through a SOCKS relay.
    pub(crate) const fn is_relayed(&self) -> bool {
        self.options.socks_relay.is_some()
    }

    /// Sends a control packet. A full socket drops it: the protocol repeats.
    pub(super) fn send_control(&self, packet: &Transmit<'_>) -> io::Result<()> {
        let Some(socket) = self.sockets.first() else { return Ok(()) };
        let to = (socket.peer() != Some(packet.to)).then_some(packet.to);
        let with_header;
        let message = match self.options.socks_relay {
            Some(relay) => {
                with_header = with_socks_header(packet.to, packet.bytes);
                to_relay(relay.at, &with_header)
            }
            None => {
                let from = packet.from.map(Into::into);
                Outgoing { bytes: packet.bytes, segment: None, to, from, tos: None }
            }
        };
        match socket.send_batch(&[message]) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            // What it reports may be an earlier packet's fate: try this one.
            Err(_) => match socket.send_batch(&[message]) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                _ => Ok(()),
            },
        }
    }

    pub(super) fn give_back(&self) -> io::Result<TransportSpec> {
        let socket = self.sockets.first().ok_or(io::ErrorKind::NotConnected)?;
        let socket = socket.as_fd().try_clone_to_owned()?;
        Ok(TransportSpec::AdoptUdp { socket, options: self.options.clone() })
    }
}

/// `EIO`: the device has no checksum offload, which splitting needs.
const EIO: i32 = 5;
/// `EINVAL`: a segment with its headers exceeds the route's MTU.
const EINVAL: i32 = 22;
/// `EMSGSIZE`: the same, on newer kernels.
const EMSGSIZE: i32 = 90;

fn is_about_segments(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EIO | EINVAL | EMSGSIZE))
}

/// A datagram for a SOCKS relay. It is copied: who goes through a proxy has slower parts on the way.
fn with_socks_header(to: SocketAddr, packet: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(culvert_wire::socks::V6_HEADER_LEN + packet.len());
    culvert_wire::socks::push_header(to, &mut bytes);
    bytes.extend_from_slice(packet);
    bytes
}

const fn to_relay(relay: SocketAddr, bytes: &[u8]) -> Outgoing<'_> {
    Outgoing { bytes, segment: None, to: Some(relay), from: None, tos: None }
}

/// One message for each packet of a train.
fn split(train: Outgoing<'_>) -> impl Iterator<Item = Outgoing<'_>> {
    let size = train.segment.map_or(train.bytes.len(), usize::from).max(1);
    train.bytes.chunks(size).map(move |bytes| Outgoing { bytes, segment: None, ..train })
}
