//! What holds by means of the machine while the engine carries the data: rules of nftables, disciplines of tc, and routes
//! that somebody else adds. Of these only the refusal of IPv6 can be tried with OpenVPN as the subject.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use culvert_testkit::{Inner, Namespace, NetnsLab, Release, Role, Tunnel, TunnelSpec, eventually, traffic};

use crate::{SOON, World};

const DEVICE: &str = "tun0";

fn spec(server_extra: &str, client_extra: &str) -> TunnelSpec {
    TunnelSpec {
        inner: Inner::V4AndV6,
        server_extra: server_extra.to_owned(),
        client_extra: client_extra.to_owned(),
        ..TunnelSpec::default()
    }
}

/// Fails unless a connection over IPv6 is answered with "no route"; IPv4 works, or there were no tunnel.
fn assert_ipv6_is_refused(tunnel: &Tunnel, (from, to): (&Namespace, IpAddr)) {
    let connected = from.enter(|| TcpStream::connect((to, 7))).unwrap();
    let kind = connected.map(drop).map_err(|failure| failure.kind());
    assert_eq!(kind, Err(ErrorKind::NetworkUnreachable), "{}{}", tunnel.server.tail(), tunnel.client.tail());
    tunnel.wait_traffic(SOON).unwrap();
}

fn tables(namespace: &Namespace) -> String {
    namespace.run("nft", &["list", "tables"]).unwrap()
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_that_blocks_ipv6_refuses_it_whether_configured_or_pushed() {
    for spec in [spec("", "disable-dco\nblock-ipv6"), spec("push \"block-ipv6\"", "disable-dco")] {
        let mut tunnel = World::new().tunnel(Role::Client, Release::V2_6, &spec);
        assert_ipv6_is_refused(&tunnel, (&tunnel.lab.client, TunnelSpec::SERVER_V6));
        tunnel.client.stop(SOON).unwrap();
        assert_eq!(tables(&tunnel.lab.client), "", "nothing stays");
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_that_blocks_ipv6_answers_its_clients() {
    let spec = spec("disable-dco\nblock-ipv6", "");
    let mut tunnel = World::new().tunnel(Role::Server, Release::V2_6, &spec);
    assert_ipv6_is_refused(&tunnel, (&tunnel.lab.client, TunnelSpec::SERVER_V6));
    tunnel.server.stop(SOON).unwrap();
    assert_eq!(tables(&tunnel.lab.server), "", "nothing stays");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_shaper_limits_the_device_whether_configured_or_pushed() {
    for spec in [spec("", "disable-dco\nshaper 20000"), spec("push \"shaper 20000\"", "disable-dco")] {
        let mut tunnel = World::new().tunnel(Role::Client, Release::V2_6, &spec);
        let disciplines = || tunnel.lab.client.run("tc", &["qdisc", "show"]).unwrap();
        let ours = |text: &str| {
            text.lines().any(|line| {
                line.contains("tbf")
                    && line.contains(&format!("dev {DEVICE} "))
                    && line.contains("rate 160Kbit")
            })
        };
        assert!(ours(&disciplines()), "{}", disciplines());
        tunnel.client.stop(SOON).unwrap();
        let after = tunnel.lab.client.run("tc", &["qdisc", "show"]).unwrap();
        assert!(!after.contains("tbf"), "{after}");
    }
}

const BEHIND: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 77, 1));
const NETWORK: &str = "192.168.77.0/24";

/// One address behind the client, and one of its own, from which the server is asked.
struct Askers {
    server: UdpSocket,
    behind: UdpSocket,
    own: UdpSocket,
}

impl Askers {
    fn new(lab: &NetnsLab) -> Self {
        let socket =
            |namespace, address| traffic::udp_socket(namespace, SocketAddr::new(address, 0)).unwrap();
        let server = socket(&lab.server, TunnelSpec::SERVER_V4);
        server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let asker = |address| {
            let asker = socket(&lab.client, address);
            asker.connect(server.local_addr().unwrap()).unwrap();
            asker
        };
        let (behind, own) = (asker(BEHIND), asker(TunnelSpec::CLIENT_V4));
        Self { server, behind, own }
    }

    /// Whether the server takes a datagram of the network behind: one of the client's own tells when it is over.
    fn takes_packets_of_the_network(&self, round: u32) -> Option<bool> {
        let (question, end) = (format!("behind {round}"), format!("own {round}"));
        self.behind.send(question.as_bytes()).ok()?;
        self.own.send(end.as_bytes()).ok()?;
        let mut taken = false;
        let mut buffer = [0; 64];
        while let Ok(len) = self.server.recv(&mut buffer) {
            taken |= buffer[..len] == *question.as_bytes();
            if buffer[..len] == *end.as_bytes() {
                return Some(taken);
            }
        }
        None
    }

    fn wait_until_packets_of_the_network_are_taken(&self, expected: bool) {
        let mut round = 0;
        eventually(SOON, || {
            round += 1;
            match self.takes_packets_of_the_network(round) {
                Some(taken) if taken == expected => Ok(()),
                seen => Err(format!("packets of the network behind the client are taken: {seen:?}")),
            }
        });
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_route_via_a_client_makes_the_network_behind_it_reachable_until_it_goes() {
    let lab = NetnsLab::new().unwrap();
    // Not every kernel has the type "dummy".
    lab.client.ip(&["link", "add", "behind", "type", "veth", "peer", "name", "beyond"]).unwrap();
    lab.client.ip(&["address", "add", &format!("{BEHIND}/24"), "dev", "behind"]).unwrap();
    for end in ["behind", "beyond"] {
        lab.client.ip(&["link", "set", end, "up"]).unwrap();
    }
    let spec = TunnelSpec { server_extra: "disable-dco".to_owned(), ..TunnelSpec::default() };
    let tunnel = World::new().tunnel_in(lab, Role::Server, Release::V2_6, &spec);
    let askers = Askers::new(&tunnel.lab);
    askers.wait_until_packets_of_the_network_are_taken(false);

    let via = TunnelSpec::CLIENT_V4.to_string();
    let route = |verb: &str| {
        tunnel.lab.server.ip(&["route", verb, NETWORK, "via", &via, "dev", DEVICE]).unwrap();
    };
    route("add");
    let (behind, server) = ((&tunnel.lab.client, BEHIND), (&tunnel.lab.server, TunnelSpec::SERVER_V4));
    for (from, to) in [(behind, server), (server, behind)] {
        traffic::echo(from, to, SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    }
    route("del");
    askers.wait_until_packets_of_the_network_are_taken(false);
    tunnel.wait_traffic(SOON).unwrap();
}
