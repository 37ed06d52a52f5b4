//! Two engines with devices in memory, joined by loopback sockets; tests in network namespaces of their own.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's support is a test")]

pub mod relay;
pub mod streams;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::Command,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::{Duration, Instant},
};

use culvert_crypto::{AuthDigest, DataKey, DirectionKey, LegacyHalf, LegacyKey};
use culvert_engine::{EngineBackend, EngineConfig, MemoryDevice};
use culvert_offload::{
    ControlBatch, ControlPacket, ControlReceiver, ControlSender, DeviceMode, DeviceSpec, Offload,
    OffloadEvent, PeerSpec, PeerStats, Port, Shape, TransportId, TransportSpec, UdpOptions, VpnAddresses,
};
use culvert_wire::{CipherName, KeyId, PeerId, Slot};

/// Far more than anything here takes: only a failing test waits this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One engine with its device and one transport.
pub struct End {
    pub offload: Arc<dyn Offload>,
    pub host: MemoryDevice,
    pub transport: TransportId,
    pub receiver: Box<dyn ControlReceiver>,
    pub sender: Arc<dyn ControlSender>,
}

pub fn device(mode: DeviceMode) -> DeviceSpec {
    DeviceSpec {
        name: None,
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
    }
}

pub fn loopback() -> TransportSpec {
    udp_on([127, 0, 0, 1].into())
}

/// A UDP socket on this address, and whatever port is free.
pub fn udp_on(address: IpAddr) -> TransportSpec {
    TransportSpec::BindUdp {
        local: SocketAddr::new(address, 0),
        remote: None,
        options: UdpOptions::default(),
    }
}

/// Both ends of a stream on this address.
pub fn stream_pair(address: IpAddr) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(SocketAddr::new(address, 0)).unwrap();
    let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let b = listener.accept().unwrap().0;
    for stream in [&a, &b] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    (a, b)
}

/// One end of a stream as a transport.
pub fn tcp_on(stream: TcpStream) -> TransportSpec {
    let remote = stream.peer_addr().unwrap();
    TransportSpec::AdoptTcp { stream: OwnedFd::from(stream), remote }
}

impl End {
    pub fn open(spec: &DeviceSpec, config: EngineConfig, transport: TransportSpec) -> Self {
        let (offload, host) = EngineBackend::with_config(config).open_in_memory(spec).unwrap();
        let (transport, receiver, sender) = offload.open_transport(transport).unwrap();
        Self { offload, host, transport, receiver, sender }
    }

    pub fn udp(mode: DeviceMode) -> Self {
        Self::open(&device(mode), EngineConfig::default(), loopback())
    }

    pub fn address(&self) -> SocketAddr {
        self.offload.local_address(self.transport).unwrap()
    }

    /// Adds a peer with a primary key.
    pub fn add_peer(&self, peer: PeerSpec, key: DataKey) {
        let id = peer.id;
        self.offload.peer_new(peer).unwrap();
        self.offload.key_new(id, Slot::Primary, key).unwrap();
    }

    pub fn stats(&self, id: PeerId) -> PeerStats {
        let mut out = Vec::new();
        self.offload.stats(Some(id), &mut out).unwrap();
        out[0]
    }

    /// Waits for the next event.
    pub fn event(&self) -> OffloadEvent {
        wait(|cx| self.offload.poll_event(cx)).expect("the engine ended")
    }

    /// Waits for control packets.
    pub fn control(&mut self) -> Vec<ControlPacket> {
        let mut batch = ControlBatch::default();
        wait(|cx| self.receiver.poll_recv(cx, &mut batch)).unwrap();
        batch.packets
    }

    /// Takes the next inner packet.
    pub fn packet(&self) -> Vec<u8> {
        self.host.recv_timeout(PATIENCE).expect("no packet came out of the tunnel")
    }

    /// Waits until the peer's counters satisfy the condition.
    pub fn wait_for_stats(
        &self,
        id: PeerId,
        what: &str,
        condition: impl Fn(&PeerStats) -> bool,
    ) -> PeerStats {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.stats(id);
            if condition(&stats) {
                return stats;
            }
            assert!(Instant::now() < deadline, "never happened: {what}: {stats:?}");
            std::thread::yield_now();
        }
    }
}

/// Two point-to-point engines that are each other's peer 7, under the key of `seed`.
pub fn pair(config: EngineConfig, make_key: impl Fn(Side) -> DataKey, shape: Shape) -> (End, End) {
    let open = || End::open(&device(DeviceMode::PointToPoint), config, loopback());
    let (a, b) = (open(), open());
    let cipher = make_key(Side::A).cipher();
    a.add_peer(PeerSpec { shape, cipher, ..peer(7, a.transport, b.address()) }, make_key(Side::A));
    b.add_peer(PeerSpec { shape, cipher, ..peer(7, b.transport, a.address()) }, make_key(Side::B));
    (a, b)
}

pub fn peer(id: u32, transport: TransportId, remote: SocketAddr) -> PeerSpec {
    PeerSpec {
        id: PeerId::new(id).unwrap(),
        tx_id: None,
        transport,
        remote,
        local: None,
        vpn: VpnAddresses::default(),
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

/// Which end a key is for: one's sending half is the other's receiving half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

pub fn classic(cipher: CipherName, id: u8, seed: u8, side: Side) -> DataKey {
    let (send, recv) = halves(seed, side);
    DataKey::Classic { id: KeyId::new(id).unwrap(), cipher, send, recv }
}

pub fn epoch(cipher: CipherName, id: u8, seed: u8, side: Side) -> DataKey {
    let (send, recv) = halves(seed, side);
    DataKey::Epoch { id: KeyId::new(id).unwrap(), cipher, send, recv }
}

/// A key of a cipher without tag.
pub fn old(cipher: CipherName, digest: Option<AuthDigest>, seed: u8, side: Side) -> DataKey {
    let half = |direction: u8| LegacyHalf { cipher: [seed ^ direction; 64], hmac: [direction; 64] };
    let (send, recv) = match side {
        Side::A => (half(0x10), half(0x20)),
        Side::B => (half(0x20), half(0x10)),
    };
    DataKey::Legacy(Box::new(LegacyKey { id: KeyId::FIRST, cipher, digest, send, recv }))
}

/// The usual key.
pub fn key(side: Side) -> DataKey {
    classic(CipherName::Aes256Gcm, 0, 1, side)
}

fn halves(seed: u8, side: Side) -> (DirectionKey, DirectionKey) {
    let half = |direction: u8| DirectionKey { secret: [seed ^ direction; 32], implicit_iv: [direction; 8] };
    match side {
        Side::A => (half(0x10), half(0x20)),
        Side::B => (half(0x20), half(0x10)),
    }
}

/// An IPv4 packet of a protocol that nothing looks into.
pub fn ipv4(from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, len[0], len[1], 0, 0, 0x40, 0, 64, 253, 0, 0];
    packet.extend_from_slice(&from);
    packet.extend_from_slice(&to);
    packet.extend_from_slice(payload);
    packet
}

/// The usual packet, distinguishable by its number.
pub fn numbered(number: u32) -> Vec<u8> {
    ipv4([10, 8, 0, 1], [10, 8, 0, 2], &number.to_be_bytes())
}

pub fn vpn(address: [u8; 4]) -> VpnAddresses {
    VpnAddresses { v4: Some(Ipv4Addr::from(address)), v6: None }
}

/// Polls until ready, sleeping in between.
pub fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Poll::Ready(value) = poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let left = deadline.checked_duration_since(Instant::now()).expect("nothing happened for a long time");
        std::thread::park_timeout(left);
    }
}

/// Runs the ignored test `inside::TEST` of this program in a network namespace of its own, so that devices and
/// addresses go with it. `wrapper` is put in front of the program.
pub fn in_namespace(test: &str, wrapper: &[&str]) {
    let root = Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success());
    if !root || !std::path::Path::new("/dev/net/tun").exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "this test needs root, unshare(1) and /dev/net/tun, and CI is set"
        );
        eprintln!("left out: this test needs root, unshare(1) and /dev/net/tun");
        return;
    }
    let output = Command::new("unshare")
        .args(["--net", "--"])
        .args(wrapper)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("inside::{test}"), "--ignored", "--test-threads=1"])
        .output()
        .expect("unshare starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

/// Runs `ip ARGUMENTS`.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}
