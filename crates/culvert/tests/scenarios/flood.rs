//! Control packets between floods: of strangers that knock, and of the tunnel's own data.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use culvert_testkit::traffic::{CounterStream, udp_socket};
use culvert_testkit::{NetnsLab, Release, Role, Transport, Tunnel, TunnelSpec, eventually};

use crate::{SOON, World, assert_no_panic};

/// A line that each TLS handshake logs, the first and every renegotiation.
const HANDSHAKE: &str = "Control Channel: TLS";

/// Renegotiations come every few seconds; one whose packets are lost repeats them after seconds, too.
const PATIENCE: Duration = Duration::from_secs(60);

fn wait_for_handshakes(tunnel: &Tunnel, wanted: usize) {
    eventually(PATIENCE, || match tunnel.client.lines_with(HANDSHAKE).len() {
        seen if seen >= wanted => Ok(()),
        seen => Err(format!("{seen} handshakes\n{}\n{}", tunnel.server.tail(), tunnel.client.tail())),
    });
}

fn with_renegotiations(transport: Transport) -> TunnelSpec {
    TunnelSpec {
        transport,
        server_extra: "reneg-sec 3".to_owned(),
        client_extra: "reneg-sec 3".to_owned(),
        ..TunnelSpec::default()
    }
}

/// Strangers beside the client: as many source addresses as there are sockets.
struct Strangers {
    sockets: Vec<UdpSocket>,
    sent: AtomicU64,
}

impl Strangers {
    /// Packets that leave without a pause.
    const BURST: usize = 64;

    fn beside_the_client(tunnel: &Tunnel) -> Self {
        let (client, server) = (&tunnel.lab.client, &tunnel.lab.server);
        client.ip(&["route", "add", "local", "198.18.0.0/15", "dev", "lo"]).unwrap();
        server.ip(&["route", "add", "198.18.0.0/15", "via", &NetnsLab::CLIENT_V4.to_string()]).unwrap();
        let target = SocketAddr::new(NetnsLab::SERVER_V4.into(), NetnsLab::PORT);
        let sockets = (0..=255).map(|host| {
            let address = Ipv4Addr::new(198, 18, host, 1);
            let socket = udp_socket(client, SocketAddr::new(address.into(), 0)).unwrap();
            socket.connect(target).unwrap();
            // Answers are not read: a flood does not care.
            socket.set_nonblocking(true).unwrap();
            socket
        });
        Self { sockets: sockets.collect(), sent: AtomicU64::new(0) }
    }

    /// Knocks until told to stop: hard resets, and messages of sessions that never were.
    fn knock(&self, over: &AtomicBool) {
        let mut packets = (1_u64..).zip(self.sockets.iter().cycle());
        while !over.load(Relaxed) {
            for (number, socket) in packets.by_ref().take(Self::BURST) {
                let opcode = if number.is_multiple_of(3) { 4_u8 << 3 } else { 7 << 3 };
                let sid = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                // `u8 opcode, u8 session id[8], u8 acks, u32 message id`
                let packet = [&[opcode][..], &sid.to_be_bytes(), &[0, 0, 0, 0, 0]].concat();
                let _ = socket.send(&packet);
                self.sent.store(number, Relaxed);
            }
            // Thousands a second, and not all that the machine can send: the tunnel's ends run here, too.
            thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn strangers_who_knock_disturb_neither_data_nor_renegotiations() {
    let tunnel = World::new().tunnel(Role::Server, Release::V2_6, &with_renegotiations(Transport::Udp4));
    let strangers = Strangers::beside_the_client(&tunnel);
    let over = AtomicBool::new(false);
    let (server, client) =
        ((&tunnel.lab.server, TunnelSpec::SERVER_V4), (&tunnel.lab.client, TunnelSpec::CLIENT_V4));
    let interval = Duration::from_millis(5);
    let up = CounterStream::start(client, server, 200, interval).unwrap();
    let down = CounterStream::start(server, client, 200, interval).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| strangers.knock(&over));
        wait_for_handshakes(&tunnel, 4);
        over.store(true, Relaxed);
    });
    assert!(strangers.sent.load(Relaxed) > 10_000, "that was no flood");
    for (direction, stream) in [("client to server", up), ("server to client", down)] {
        let report = stream.stop().unwrap();
        assert_eq!(report.lost(), 0, "{direction}: {report:?}\n{}", tunnel.server.tail());
    }
    // None of the client's own packets was lost among the strangers', so nothing had to be repeated in vain.
    assert!(!tunnel.client.has_logged("TLS key negotiation failed"), "{}", tunnel.client.tail());
    assert_no_panic(&tunnel);
    tunnel.wait_traffic(SOON).unwrap();
}

/// Fills the tunnel, in one direction, until told to stop; returns how many bytes arrived.
fn saturate(tunnel: &Tunnel, upwards: bool, over: &AtomicBool) -> u64 {
    let (client, server) = (&tunnel.lab.client, &tunnel.lab.server);
    let (from, to, address) = if upwards {
        (client, server, TunnelSpec::SERVER_V4)
    } else {
        (server, client, TunnelSpec::CLIENT_V4)
    };
    let listener = to.enter(|| TcpListener::bind(SocketAddr::new(address, 7008))).unwrap().unwrap();
    let target = listener.local_addr().unwrap();
    let mut stream = from.enter(|| TcpStream::connect_timeout(&target, SOON)).unwrap().unwrap();
    let (mut far, _) = listener.accept().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let data = vec![0x5a; 256 << 10];
            while !over.load(Relaxed) && stream.write_all(&data).is_ok() {}
        });
        let mut buffer = vec![0; 256 << 10];
        let mut total = 0;
        while let Ok(len @ 1..) = far.read(&mut buffer) {
            total += len as u64;
        }
        total
    })
}

/// Renegotiations go on while the tunnel is full of data, in each direction at once.
fn renegotiate_in_a_full_tunnel(role: Role, transport: Transport) {
    let tunnel = World::new().tunnel(role, Release::V2_6, &with_renegotiations(transport));
    let over = AtomicBool::new(false);
    let carried = thread::scope(|scope| {
        let filled = [true, false].map(|upwards| {
            let (tunnel, over) = (&tunnel, &over);
            scope.spawn(move || saturate(tunnel, upwards, over))
        });
        wait_for_handshakes(&tunnel, 4);
        over.store(true, Relaxed);
        filled.map(|stream| stream.join().unwrap())
    });
    assert!(carried.iter().all(|&bytes| bytes > 1 << 20), "that was not full: {carried:?} bytes");
    assert!(!tunnel.client.has_logged("TLS key negotiation failed"), "{}", tunnel.client.tail());
    assert_no_panic(&tunnel);
    tunnel.wait_traffic(SOON).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_renegotiates_in_a_full_tunnel_over_udp() {
    renegotiate_in_a_full_tunnel(Role::Server, Transport::Udp4);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_renegotiates_in_a_full_tunnel_over_tcp() {
    renegotiate_in_a_full_tunnel(Role::Server, Transport::Tcp4);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_renegotiates_in_a_full_tunnel_over_tcp() {
    renegotiate_in_a_full_tunnel(Role::Client, Transport::Tcp4);
}

/// Nobody of a crowd that comes at once has to wait for the end of a handshake that was cut off, nor does a client that was
/// there before.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_crowd_that_comes_at_once_gets_in_renegotiates_and_leaves() {
    let world = World::new();
    let spec = TunnelSpec { server_extra: "duplicate-cn\nverb 3".to_owned(), ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    let pki = &world.materials.certificates(spec.algorithm).pki;
    let server = SocketAddr::new(NetnsLab::SERVER_V4.into(), NetnsLab::PORT);
    let mut crowd = tunnel.lab.client.command(env!("CARGO_BIN_EXE_culvert"));
    crowd.args([
        "bench",
        "crowd",
        &server.to_string(),
        "--clients",
        "200",
        "--stay",
        "1",
        "--patience",
        "30",
    ]);
    crowd.arg("--ca").arg(&pki.ca).arg("--cert").arg(&pki.client.cert).arg("--key").arg(&pki.client.key);
    let output = crowd.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaint}\n{}", tunnel.server.tail());
    assert!(said.starts_with("200 of 200 clients came, renegotiated and left\n"), "{said}");
    tunnel.wait_traffic(SOON).unwrap();
    assert_no_panic(&tunnel);
}
