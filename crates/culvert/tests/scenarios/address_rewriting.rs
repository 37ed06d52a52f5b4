//! `client-nat`: a network behind the server under another address.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use culvert_testkit::{Release, Role, Topology, Tunnel, TunnelSpec, traffic::udp_socket};

use crate::{SOON, World};

/// Where something is behind the server, and where the client sees it.
const REAL: Ipv4Addr = Ipv4Addr::new(10, 70, 0, 1);
const SEEN: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
const PORT: u16 = 4000;
const RULE: &str = "client-nat dnat 10.64.0.0 255.255.0.0 10.70.0.0";
const ROUTE: &str = "route 10.64.0.0 255.255.0.0";

/// Datagrams there and back, answered by who has the real address.
fn prove_datagrams(tunnel: &Tunnel) {
    let there = udp_socket(&tunnel.lab.server, (REAL, PORT).into()).unwrap();
    let here = udp_socket(&tunnel.lab.client, (Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
    for socket in [&there, &here] {
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    }
    let (question, mut buffer) = ([7; 1000], [0; 2000]);
    let until = Instant::now() + SOON;
    loop {
        // Lost, or refused, as long as there is no route.
        let _not_yet = here.send_to(&question, (SEEN, PORT));
        if let Ok((len, from)) = there.recv_from(&mut buffer) {
            assert_eq!((len, &buffer[..len]), (question.len(), &question[..]));
            there.send_to(b"answer", from).unwrap();
        }
        if let Ok((len, from)) = here.recv_from(&mut buffer) {
            assert_eq!((&buffer[..len], from), (&b"answer"[..], SocketAddr::from((SEEN, PORT))));
            return;
        }
        assert!(Instant::now() < until, "{}\n{}", tunnel.client.tail(), tunnel.server.tail());
    }
}

/// A stream in both directions, in segments that the device joins and cuts.
fn prove_stream(tunnel: &Tunnel) {
    const LEN: usize = 300_000;
    let bind = || TcpListener::bind((REAL, PORT)).unwrap();
    let listener = tunnel.lab.server.enter(bind).unwrap();
    let to = SocketAddr::from((SEEN, PORT));
    let connect = || TcpStream::connect_timeout(&to, SOON).unwrap();
    let mut here = tunnel.lab.client.enter(connect).unwrap();
    let (mut there, _) = listener.accept().unwrap();
    for stream in [&here, &there] {
        stream.set_read_timeout(Some(SOON)).unwrap();
    }
    let sent: Vec<u8> = (0..LEN).map(|n| u8::try_from(n % 251).unwrap()).collect();
    for _ in 0..2 {
        std::thread::scope(|scope| {
            scope.spawn(|| here.write_all(&sent).unwrap());
            let mut received = vec![0; LEN];
            there.read_exact(&mut received).unwrap();
            assert!(received == sent);
        });
        std::mem::swap(&mut here, &mut there);
    }
}

fn prove(role: Role, spec: TunnelSpec) {
    let world = World::new();
    let (server, client) = world.ends(role, Release::V2_7);
    let tunnel = Tunnel::start_up(&spec, &server, &client, &world.materials).unwrap();
    tunnel.lab.server.add_address(IpAddr::V4(REAL)).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    prove_datagrams(&tunnel);
    prove_stream(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_of_2_7_pushes_it_to_a_client() {
    let server_extra = format!("push \"{RULE}\"\npush \"{ROUTE}\"");
    prove(Role::Client, TunnelSpec { server_extra, ..TunnelSpec::default() });
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_point_to_point_end_has_it_in_its_file() {
    let topology = Topology::PointToPoint;
    let client_extra = format!("{RULE}\n{ROUTE}\ndisable-dco");
    prove(Role::Client, TunnelSpec { topology, client_extra, ..TunnelSpec::default() });
}
