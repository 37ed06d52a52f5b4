//! Bytes and options from people who mean harm.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use culvert_testkit::traffic::{CounterStream, udp_socket};
use culvert_testkit::{
    Implementation, NetnsLab, Relay, Release, Role, Transport, Tunnel, TunnelSpec, Wrapping, eventually,
};

use crate::{SOON, World, assert_no_panic};

/// A small generator: the same garbage in every run.
struct Garbage(u64);

impl Garbage {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// Every kind of bad datagram made from good ones: replayed, truncated, extended, with a bit turned.
fn damaged(good: &[Vec<u8>], garbage: &mut Garbage) -> Vec<Vec<u8>> {
    let mut bad = Vec::new();
    for datagram in good {
        bad.push(datagram.clone());
        let cut = usize::try_from(garbage.next()).unwrap_or(0) % (datagram.len() + 1);
        bad.push(datagram[..cut].to_vec());
        bad.push([datagram.as_slice(), &garbage.bytes(40)].concat());
        let mut turned = datagram.clone();
        let place = usize::try_from(garbage.next()).unwrap_or(0) % turned.len().max(1);
        if let Some(byte) = turned.get_mut(place) {
            *byte ^= 1 << (garbage.next() % 8);
        }
        bad.push(turned);
    }
    bad
}

/// Random datagrams of every length, each opcode in front once.
fn random(garbage: &mut Garbage) -> Vec<Vec<u8>> {
    let lengths = (0..80).chain([100, 500, 1400, 1500, 9000, 60_000]);
    let mut datagrams: Vec<Vec<u8>> = lengths.map(|len| garbage.bytes(len)).collect();
    for opcode in 0..32_u8 {
        for len in [1, 5, 9, 13, 14, 26, 30, 60, 200] {
            let mut datagram = garbage.bytes(len);
            datagram[0] = opcode << 3;
            datagrams.push(datagram);
        }
    }
    datagrams
}

/// Whether the first byte says that this is a control packet (opcodes 1 to 5, 7, 8, 10, 11).
fn is_control(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| !matches!(first >> 3, 0 | 6 | 9 | 12..))
}

/// Throws everything at a working server, from the session's own address and from another.
fn storm(wrapping: Wrapping, release: Release) {
    let world = World::new();
    let lab = NetnsLab::new().unwrap();
    let server = SocketAddr::new(NetnsLab::SERVER_V4.into(), NetnsLab::PORT);
    let relay = Relay::start(&lab.client, SocketAddr::new(NetnsLab::CLIENT_V4.into(), 1195), server).unwrap();
    // `float` is on in server mode, so a replayed packet from another port could steal the session.
    let spec = TunnelSpec { wrapping, remote: Some(relay.address), ..TunnelSpec::default() };
    let tunnel = world.tunnel_in(lab, Role::Server, release, &spec);
    let stream = CounterStream::start(
        (&tunnel.lab.client, TunnelSpec::CLIENT_V4),
        (&tunnel.lab.server, TunnelSpec::SERVER_V4),
        100,
        Duration::from_millis(5),
    )
    .unwrap();
    let stranger = udp_socket(&tunnel.lab.client, SocketAddr::new(NetnsLab::CLIENT_V4.into(), 0)).unwrap();
    stranger.connect(server).unwrap();
    let mut garbage = Garbage(0x9e37_79b9_7f4a_7c15);
    let mut bad = damaged(&relay.recorded(), &mut garbage);
    bad.extend(random(&mut garbage));
    for datagram in &bad {
        let before = stream.sent();
        // Without wrapping a repeated hard reset from the client's own address is the client calling again: the
        // server answers, and the client follows. Nothing tells it from the real thing, so it is left out.
        if wrapping != Wrapping::None || !is_control(datagram) {
            relay.inject(datagram);
        }
        let _ = stranger.send(datagram); // too large for the wire is fine
        // Paced by the stream, so that the server's socket buffer is never what loses a packet.
        while stream.sent() == before {
            std::thread::yield_now();
        }
    }
    let report = stream.stop().unwrap();
    let told: Vec<String> =
        tunnel.server.lines().into_iter().filter(|line| !line.contains("dropped a packet")).collect();
    assert_eq!(report.lost(), 0, "{report:?}\n{}", told.join("\n"));
    assert_eq!(report.duplicates, 0, "a replayed packet came through: {report:?}");
    assert_no_panic(&tunnel);
    tunnel.wait_traffic(SOON).unwrap();
    new_client_is_welcome(tunnel);
}

/// Starts the client again, without the relay: a stranger's address to the server.
fn new_client_is_welcome(mut tunnel: Tunnel) {
    let relay = format!("remote {} 1195", NetnsLab::CLIENT_V4);
    let server = format!("remote {} {}", NetnsLab::SERVER_V4, NetnsLab::PORT);
    tunnel.edit_config(Role::Client, |text| text.replace(&relay, &server)).unwrap();
    tunnel.restart(Role::Client).unwrap();
    tunnel.client.wait_up(Duration::from_secs(20)).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn bad_datagrams_do_not_disturb_a_server_without_wrapping() {
    storm(Wrapping::None, Release::V2_6);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn bad_datagrams_do_not_disturb_a_server_with_tls_auth() {
    storm(Wrapping::TlsAuth, Release::V2_6);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn bad_datagrams_do_not_disturb_a_server_with_tls_crypt_v2() {
    storm(Wrapping::TlsCryptV2, Release::V2_7);
}

/// SEC-CTL-11: streams that say nothing are closed, and one that talks nonsense; how many is not limited while there is room.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_on_tcp_closes_the_streams_of_silent_strangers() {
    let world = World::new();
    if !matches!(world.subject, Implementation::Culvert(_)) {
        println!("OpenVPN itself waits as long as the kernel does");
        return;
    }
    let spec = TunnelSpec { transport: Transport::Tcp4, ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    let server = SocketAddr::new(NetnsLab::SERVER_V4.into(), NetnsLab::PORT);
    let is_closed = |stream: &mut TcpStream, patience: Duration| {
        stream.set_read_timeout(Some(patience)).unwrap();
        match stream.read(&mut [0; 64]) {
            Ok(length) => length == 0,
            Err(failure) => failure.kind() == ErrorKind::ConnectionReset,
        }
    };
    tunnel
        .lab
        .client
        .enter(|| {
            let mut silent: Vec<_> = (0..300).map(|_| TcpStream::connect(server).unwrap()).collect();
            for stream in &mut silent {
                assert!(is_closed(stream, SOON * 2), "{}", tunnel.server.tail());
            }
            let mut nonsense = TcpStream::connect(server).unwrap();
            nonsense
                .write_all(&[0, 20, 4 << 3, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
                .unwrap();
            assert!(is_closed(&mut nonsense, SOON / 2), "{}", tunnel.server.tail());
        })
        .unwrap();
    assert_no_panic(&tunnel);
    tunnel.wait_traffic(SOON).unwrap();
}

/// Options that a server has no business to push, or malformed ones; each carries the word `evil` or the
/// address 203.0.113.66.
const BAD_PUSHES: &[&str] = &[
    "route evil;touch 255.255.255.0",
    "route 203.0.113.66 255.255.255.255 vpn_gateway 0;evil",
    "route 203.0.113.66 255.0.255.0",
    "route-ipv6 fd66::/64;evil",
    "route-ipv6 fd66::/129",
    "dhcp-option DNS 203.0.113.66;evil",
    "dhcp-option DOMAIN evil;$(touch${IFS}evil)",
    "up /bin/evil",
    "route-up /bin/evil",
    "script-security 3",
    "plugin /evil.so",
    "cd /evil",
    "writepid /evil",
    "no-such-option evil",
];

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_bad_push_reaches_neither_script_nor_route() {
    let world = World::new();
    if !matches!(world.subject, Implementation::Culvert(_)) {
        println!("OpenVPN itself reads `0;evil` as a metric of 0 and hands a pushed domain on as it is");
        return;
    }
    let folder = culvert_testkit::TempDir::new().unwrap();
    let dump = folder.path().join("environment");
    let script = folder
        .write_script("dump", &format!("#!/bin/sh\n{{ echo \"$@\"; env; }} >>{}\n", dump.display()))
        .unwrap();
    for push in BAD_PUSHES {
        let _ = fs::remove_file(&dump);
        let spec = TunnelSpec {
            server_extra: format!("push \"{push}\"\npush \"route 192.0.2.0 255.255.255.0\""),
            client_extra: format!(
                "script-security 2\nup {0}\nroute-up {0}\nconnect-retry-max 1",
                script.display()
            ),
            ..TunnelSpec::default()
        };
        let tunnel = world.start(Role::Client, Release::V2_6, &spec);
        // Either it goes on without the option, or it refuses the whole reply and says why.
        eventually(SOON, || {
            let done = ["Initialization Sequence Completed", "received, process"];
            if done.iter().any(|text| tunnel.client.has_logged(text)) {
                return Ok(());
            }
            Err(format!("{push}: neither up nor ended\n{}", tunnel.client.tail()))
        });
        let routes = [
            tunnel.lab.client.ip(&["route", "show", "table", "all"]).unwrap(),
            tunnel.lab.client.ip(&["-6", "route", "show", "table", "all"]).unwrap(),
        ]
        .concat();
        let environment = fs::read_to_string(&dump).unwrap_or_default();
        for trace in ["evil", "203.0.113.66", "fd66:"] {
            assert!(!routes.contains(trace), "{push}: route\n{routes}");
            let leaked = environment.lines().find(|line| line.contains(trace));
            assert!(leaked.is_none(), "{push}: the script saw {leaked:?}");
        }
        if tunnel.client.has_logged("Initialization Sequence Completed") {
            assert!(routes.contains("192.0.2.0/24"), "{push}: the good route is missing\n{routes}");
        }
        assert_no_panic(&tunnel);
    }
}
