//! A kernel offload with an engine beside it: who is put where, and what moves.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use culvert_offload::{
    Backend as _, Capabilities, ControlBatch, ControlPacket, ControlReceiver, DeviceMode, DeviceSpec,
    ENGINE_IDS, Framing, NatEnd, NatRule, Offload, OffloadError, OffloadEvent, Paired, PeerSpec, Port, Shape,
    Shortfall, TransportId, TransportSpec, UdpOptions, VpnAddresses,
    fake::{Call, FakeBackend, FakeOffload},
};
use culvert_wire::{CipherName, OffloadKind, PeerId, Transmit};

/// A pair of fakes: the first lacks what the module lacks.
struct Pair {
    kernels: FakeBackend,
    engines: FakeBackend,
    offload: Paired,
}

fn pair(mode: DeviceMode) -> Pair {
    pair_with(mode, |kernel| kernel)
}

fn pair_with(mode: DeviceMode, change: impl FnOnce(Capabilities) -> Capabilities) -> Pair {
    let spec = DeviceSpec {
        name: Some("tun7".to_owned()),
        kind: culvert_offload::DeviceKind::Tun,
        node: None,
        mtu: 1500,
        tx_queue_len: None,
        mode,
        max_peers: 16,
        client_to_client: false,
        replay_window: (64, 15),
        threads: None,
        ethernet: None,
    };
    let kernels = FakeBackend::with_capabilities(|all| {
        let kind = OffloadKind::Linux;
        change(Capabilities { kind, epoch: false, data_v1: false, framing: false, ..all })
    });
    let engines = FakeBackend::with_capabilities(|mut all| {
        all.ciphers.push(CipherName::Aes192Gcm);
        all
    });
    let known = engines.open(spec.clone()).unwrap().capabilities().clone();
    let engines_to_come = FakeBackend::with_capabilities(|_| known.clone());
    let kernel = kernels.open(spec.clone()).unwrap();
    let offload = Paired::new(kernel, Box::new(engines_to_come.clone()), spec, &known);
    Pair { kernels, engines: engines_to_come, offload }
}

impl Pair {
    fn kernel(&self) -> Arc<FakeOffload> {
        self.kernels.opened().remove(0)
    }

    fn engine(&self) -> Arc<FakeOffload> {
        self.engines.opened().into_iter().next().expect("an engine was opened")
    }

    fn open_udp(&self) -> (TransportId, Box<dyn ControlReceiver>) {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let spec = TransportSpec::BindUdp { local, remote: None, options: UdpOptions::default() };
        let (id, receiver, _) = self.offload.open_transport(spec).unwrap();
        (id, receiver)
    }

    fn open_tcp(&self) -> (TransportId, Box<dyn ControlReceiver>) {
        // Whatever descriptor: fakes do not look at it.
        let stream = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let spec = TransportSpec::AdoptTcp { stream, remote: SocketAddr::from(([192, 0, 2, 1], 4000)) };
        let (id, receiver, _) = self.offload.open_transport(spec).unwrap();
        (id, receiver)
    }
}

fn peer(id: PeerId, transport: TransportId) -> PeerSpec {
    let last = u8::try_from(id.get() & 0x7F).unwrap() + 2;
    PeerSpec {
        id,
        tx_id: None,
        transport,
        remote: SocketAddr::from(([192, 0, 2, 1], 1194)),
        local: None,
        vpn: VpnAddresses { v4: Some([10, 8, 0, last].into()), v6: None },
        iroutes: Vec::new(),
        keepalive: None,
        float: true,
        shape: Shape::PLAIN,
        cipher: CipherName::Aes256Gcm,
        mss: None,
        port: Port::default(),
        nat: Vec::new(),
    }
}

fn old(id: PeerId, transport: TransportId) -> PeerSpec {
    PeerSpec { shape: Shape { data_v1: true, ..Shape::PLAIN }, ..peer(id, transport) }
}

fn poll_recv(receiver: &mut Box<dyn ControlReceiver>) -> Option<Vec<Vec<u8>>> {
    let mut batch = ControlBatch::default();
    match receiver.poll_recv(&mut Context::from_waker(Waker::noop()), &mut batch) {
        Poll::Ready(result) => {
            result.unwrap();
            Some(batch.packets.into_iter().map(|packet| packet.bytes).collect())
        }
        Poll::Pending => None,
    }
}

fn control(bytes: &[u8]) -> ControlPacket {
    let from = SocketAddr::from(([192, 0, 2, 1], 1194));
    ControlPacket { at: Instant::now(), from, to: None, bytes: bytes.to_vec() }
}

#[test]
fn a_peer_that_the_kernel_carries_opens_no_engine() {
    let pair = pair(DeviceMode::MultiPeer);
    let (transport, _receiver) = pair.open_udp();
    let spec = peer(PeerId::FIRST, transport);
    let placement = pair.offload.placement(&spec);
    assert_eq!((placement.first_id, placement.because.len()), (PeerId::FIRST, 0));
    pair.offload.peer_new(spec).unwrap();
    assert!(pair.engines.opened().is_empty());
    assert_eq!(pair.offload.device_of(PeerId::FIRST), pair.kernel().device());
}

#[test]
fn a_server_puts_an_old_peer_beside_the_kernel_and_leaves_the_others_where_they_are() {
    let pair = pair(DeviceMode::MultiPeer);
    let (transport, _receiver) = pair.open_udp();
    pair.offload.peer_new(peer(PeerId::FIRST, transport)).unwrap();
    let spec = old(ENGINE_IDS, transport);
    let placement = pair.offload.placement(&spec);
    assert_eq!(placement.first_id, ENGINE_IDS);
    assert_eq!(placement.because, [Shortfall::DataV1]);
    pair.offload.peer_new(spec).unwrap();
    assert!(matches!(pair.engine().calls().last(), Some(Call::PeerNew(spec)) if spec.id == ENGINE_IDS));
    assert_eq!(pair.offload.device(), pair.kernel().device(), "the server's device is still the kernel's");
    assert_eq!(pair.offload.device_of(ENGINE_IDS).name, "fake0", "the engine's has another name");
    let mut stats = Vec::new();
    pair.offload.stats(None, &mut stats).unwrap();
    assert_eq!(stats.iter().map(|s| s.id).collect::<Vec<_>>(), [PeerId::FIRST, ENGINE_IDS]);
    pair.offload.peer_del(ENGINE_IDS).unwrap();
    assert!(matches!(pair.offload.peer_del(ENGINE_IDS), Err(OffloadError::UnknownPeer(_))));
}

#[test]
fn every_reason_leads_to_the_engine_and_is_named() {
    let pair = pair(DeviceMode::MultiPeer);
    let (transport, _receiver) = pair.open_udp();
    let plain = || peer(ENGINE_IDS, transport);
    let cipher = CipherName::Aes192Gcm;
    let (network, netmask) = ([10, 1, 0, 0].into(), [255, 255, 0, 0].into());
    let nat = NatRule { end: NatEnd::Source, network, netmask, alias: [10, 2, 0, 0].into() };
    for (spec, because) in [
        (PeerSpec { cipher, ..plain() }, Shortfall::Cipher(cipher)),
        (PeerSpec { shape: Shape { epoch: true, ..Shape::PLAIN }, ..plain() }, Shortfall::Epoch),
        (PeerSpec { shape: Shape { framing: Framing::Swap, ..Shape::PLAIN }, ..plain() }, Shortfall::Framing),
        (PeerSpec { nat: vec![nat], ..plain() }, Shortfall::Nat),
        (PeerSpec { shape: Shape { fragment: Some(1200), ..Shape::PLAIN }, ..plain() }, Shortfall::Fragments),
    ] {
        assert_eq!(pair.offload.placement(&spec).because, [because]);
        pair.offload.peer_new(spec).unwrap();
        assert!(matches!(pair.engine().calls().last(), Some(Call::PeerNew(_))));
        pair.offload.peer_del(ENGINE_IDS).unwrap();
    }
    assert!(
        pair.offload.capabilities().ciphers.contains(&cipher),
        "it is negotiated, since the engine has it"
    );
    assert!(!pair.offload.capabilities().epoch, "nobody is lured away from the kernel");
}

#[test]
fn control_packets_come_out_whichever_socket_they_arrived_at() {
    let pair = pair(DeviceMode::MultiPeer);
    let (transport, mut receiver) = pair.open_udp();
    assert_eq!(poll_recv(&mut receiver), None);
    pair.offload.peer_new(old(ENGINE_IDS, transport)).unwrap();
    pair.kernel().deliver(TransportId(0), control(b"one"));
    assert_eq!(poll_recv(&mut receiver).unwrap(), [b"one"]);
    pair.engine().deliver(TransportId(0), control(b"two"));
    assert_eq!(poll_recv(&mut receiver).unwrap(), [b"two"]);
    assert_eq!(poll_recv(&mut receiver), None);
}

#[test]
fn a_port_that_another_server_has_is_not_shared_with_it() {
    let first = pair(DeviceMode::MultiPeer);
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let local = free.local_addr().unwrap();
    drop(free);
    let spec = || TransportSpec::BindUdp { local, remote: None, options: UdpOptions::default() };
    let (transport, receiver, sender) = first.offload.open_transport(spec()).unwrap();
    let second = pair(DeviceMode::MultiPeer);
    let Err(failure) = second.offload.open_transport(spec()) else { panic!("the port was shared") };
    assert!(matches!(&failure, OffloadError::System { source, .. } if source.kind() == ErrorKind::AddrInUse));
    assert!(failure.to_string().starts_with(&format!("bind UDP {local}")), "{failure}");
    drop((first.offload.close_transport(transport).unwrap(), receiver, sender, first));
    second.offload.open_transport(spec()).unwrap();
}

#[test]
fn a_stream_moves_to_the_engine_with_its_peer() {
    let pair = pair(DeviceMode::MultiPeer);
    let (transport, mut receiver) = pair.open_tcp();
    assert_eq!(poll_recv(&mut receiver), None);
    pair.offload.peer_new(old(ENGINE_IDS, transport)).unwrap();
    assert!(pair.kernel().calls().contains(&Call::CloseTransport(TransportId(0))));
    assert_eq!(poll_recv(&mut receiver), None, "the port goes on");
    pair.engine().deliver(TransportId(0), control(b"hello"));
    assert_eq!(poll_recv(&mut receiver).unwrap(), [b"hello"]);
    pair.engine().hang_up(TransportId(0));
    assert_eq!(poll_recv(&mut receiver).unwrap(), [[]; 0], "the end of the stream is the end of the port");
}

#[test]
fn where_the_kernels_tcp_is_not_trusted_streams_go_to_the_engine_and_datagrams_do_not() {
    let pair = pair_with(DeviceMode::MultiPeer, |kernel| Capabilities { tcp: false, ..kernel });
    let (stream, _tcp) = pair.open_tcp();
    let placement = pair.offload.placement(&peer(ENGINE_IDS, stream));
    assert_eq!((placement.first_id, placement.because), (ENGINE_IDS, vec![Shortfall::Tcp]));
    pair.offload.peer_new(peer(ENGINE_IDS, stream)).unwrap();
    assert!(matches!(pair.engine().calls().last(), Some(Call::PeerNew(_))));
    let (datagrams, _udp) = pair.open_udp();
    pair.offload.peer_new(peer(PeerId::FIRST, datagrams)).unwrap();
    assert!(matches!(pair.kernel().calls().last(), Some(Call::PeerNew(_))));
}

#[test]
fn on_a_point_to_point_device_the_engine_takes_the_kernels_place_and_name() {
    let pair = pair(DeviceMode::PointToPoint);
    let (transport, mut receiver) = pair.open_tcp();
    let spec = old(PeerId::FIRST, transport);
    assert_eq!(
        pair.offload.placement(&spec).first_id,
        PeerId::FIRST,
        "ids of two equal ends are their own matter"
    );
    pair.offload.peer_new(spec).unwrap();
    assert_eq!(pair.offload.device().name, "tun7");
    assert!(Arc::strong_count(&pair.kernel()) <= 2, "the pair holds the kernel's device no more");
    pair.engine().deliver(TransportId(0), control(b"hello"));
    assert_eq!(poll_recv(&mut receiver).unwrap(), [b"hello"]);
    // And what comes later stays there.
    pair.offload.peer_del(PeerId::FIRST).unwrap();
    drop(pair.offload.close_transport(transport).unwrap());
    assert_eq!(pair.offload.placement(&peer(PeerId::FIRST, transport)).kind, OffloadKind::Engine);
    let (again, _receiver) = pair.open_tcp();
    pair.offload.peer_new(peer(PeerId::FIRST, again)).unwrap();
    assert!(matches!(pair.engine().calls().last(), Some(Call::PeerNew(_))));
}

#[test]
fn events_of_both_are_told_also_those_of_an_engine_that_came_later() {
    let pair = pair(DeviceMode::MultiPeer);
    let (transport, _receiver) = pair.open_udp();
    let poll = || pair.offload.poll_event(&mut Context::from_waker(Waker::noop()));
    assert_eq!(poll(), Poll::Pending);
    pair.offload.peer_new(old(ENGINE_IDS, transport)).unwrap();
    let moved = |id| OffloadEvent::Floated(id, SocketAddr::from(([192, 0, 2, 9], 9)));
    pair.engine().push_event(moved(ENGINE_IDS));
    pair.kernel().push_event(moved(PeerId::FIRST));
    assert_eq!(poll(), Poll::Ready(Some(moved(PeerId::FIRST))));
    assert_eq!(poll(), Poll::Ready(Some(moved(ENGINE_IDS))));
    pair.kernel().push_event(OffloadEvent::DeviceGone);
    assert_eq!(poll(), Poll::Ready(Some(OffloadEvent::DeviceGone)));
    assert_eq!(poll(), Poll::Ready(None));
}

#[test]
fn answers_leave_from_the_socket_that_strangers_know() {
    let pair = pair(DeviceMode::MultiPeer);
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let spec = TransportSpec::BindUdp { local, remote: None, options: UdpOptions::default() };
    let (transport, _receiver, sender) = pair.offload.open_transport(spec).unwrap();
    pair.offload.peer_new(old(ENGINE_IDS, transport)).unwrap();
    let to = SocketAddr::from(([192, 0, 2, 1], 1194));
    let packet = Transmit { to, from: None, bytes: b"reply" };
    assert!(matches!(
        sender.poll_send(&mut Context::from_waker(Waker::noop()), &packet),
        Poll::Ready(Ok(()))
    ));
    assert_eq!(pair.kernel().take_sent(TransportId(0)), [(to, b"reply".to_vec())]);
}
