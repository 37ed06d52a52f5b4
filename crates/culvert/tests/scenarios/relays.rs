//! Datagrams through SOCKS proxies of every kind of address: the proxy's, the server's, and what stands in a header.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, OnceLock},
};

use culvert_testkit::{
    Management, NetnsLab, Release, Role, Signal, TempDir, Transport, Tunnel, TunnelSpec, eventually,
};

use crate::{SOON, World, assert_no_panic, proxies::Proxy};

/// How a relay tells where a datagram came from.
#[derive(Clone, Copy, Debug)]
enum Tells {
    Address,
    /// An IPv4 address as IPv6's.
    MappedAddress,
    Name,
}

/// What a SOCKS proxy on the server's machine relays for one client.
struct Relay {
    /// Towards the client.
    near: UdpSocket,
    /// Towards the server.
    far: UdpSocket,
    tells: Tells,
    client: OnceLock<SocketAddr>,
}

impl Relay {
    /// Starts the proxy, which has a relay of its own for each association.
    fn start(lab: &NetnsLab, at: IpAddr, server: IpAddr, tells: Tells) {
        let open = move || {
            let listener = TcpListener::bind((at, 1080)).unwrap();
            std::thread::spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    let (near, far) =
                        (UdpSocket::bind((at, 0)).unwrap(), UdpSocket::bind((server, 0)).unwrap());
                    let relay = Arc::new(Self { near, far, tells, client: OnceLock::new() });
                    for work in [Self::to_server as fn(&Self), Self::to_client] {
                        let relay = Arc::clone(&relay);
                        std::thread::spawn(move || work(&relay));
                    }
                    std::thread::spawn(move || relay.associate(stream));
                }
            });
        };
        lab.server.enter(open).unwrap();
    }

    /// The dialogue (RFC 1928): no login, UDP ASSOCIATE; and the stream until the client ends it.
    fn associate(&self, mut stream: TcpStream) {
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting).unwrap();
        stream.write_all(&[5, 0]).unwrap();
        let at = self.near.local_addr().unwrap();
        let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let mut expected = header(5, any.parse().unwrap());
        expected[1] = 3;
        let mut request = vec![0; expected.len()];
        stream.read_exact(&mut request).unwrap();
        assert_eq!(request, expected);
        stream.write_all(&header(5, at)).unwrap();
        while matches!(stream.read(&mut greeting), Ok(1..)) {}
    }

    fn to_server(&self) {
        let mut bytes = [0; 4096];
        while let Ok((len, client)) = self.near.recv_from(&mut bytes) {
            self.client.get_or_init(|| client);
            let address: (IpAddr, usize) = match bytes[3] {
                1 => (<[u8; 4]>::try_from(&bytes[4..8]).unwrap().into(), 8),
                4 => (<[u8; 16]>::try_from(&bytes[4..20]).unwrap().into(), 20),
                other => panic!("address type {other}"),
            };
            let (ip, at) = address;
            let port = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            self.far.send_to(&bytes[at + 2..len], (ip, port)).unwrap();
        }
    }

    fn to_client(&self) {
        let mut bytes = [0; 4096];
        while let Ok((len, from)) = self.far.recv_from(&mut bytes) {
            let head = match (self.tells, from.ip()) {
                (Tells::Name, _) => b"\0\0\0\x03\x0bvpn.example\x04\xaa".to_vec(),
                (Tells::MappedAddress, IpAddr::V4(v4)) => {
                    header(0, (v4.to_ipv6_mapped(), from.port()).into())
                }
                (Tells::Address | Tells::MappedAddress, _) => header(0, from),
            };
            self.near.send_to(&[&head, &bytes[..len]].concat(), self.client.get().unwrap()).unwrap();
        }
    }
}

/// What replies and datagrams begin with.
fn header(first: u8, address: SocketAddr) -> Vec<u8> {
    let mut header = vec![first, 0, 0];
    match address.ip() {
        IpAddr::V4(v4) => header.extend([&[1][..], &v4.octets()].concat()),
        IpAddr::V6(v6) => header.extend([&[4][..], &v6.octets()].concat()),
    }
    header.extend(address.port().to_be_bytes());
    header
}

/// A tunnel that carries data; the server heard nobody but the proxy.
fn carries(lab: NetnsLab, transport: Transport, client_extra: String) -> Tunnel {
    let world = World::new();
    let without = client_extra.contains("lport").then_some("nobind");
    let spec = TunnelSpec { transport, client_extra, without, ..TunnelSpec::default() };
    let tunnel = world.tunnel_in(lab, Role::Client, Release::V2_7, &spec);
    tunnel.prove_traffic().unwrap_or_else(|failure| panic!("{failure}"));
    let initiated = tunnel.server.lines_with("Peer Connection Initiated with");
    let is_proxy = |line: &String| line.contains("10.99.0.1:") || line.contains("fd99::1:");
    assert!(!initiated.is_empty() && initiated.iter().all(is_proxy), "{initiated:?}");
    assert_no_panic(&tunnel);
    tunnel
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn proxy_and_server_may_be_of_different_address_families() {
    let (v4, v6) = (IpAddr::from(NetnsLab::SERVER_V4), IpAddr::from(NetnsLab::SERVER_V6));
    for (transport, proxy, server) in
        [(Transport::Udp4, v6, v4), (Transport::Udp6, v4, v6), (Transport::Udp6, v6, v6)]
    {
        // With an address to bind: it is the way to the relay that it belongs to.
        let lab = NetnsLab::new().unwrap();
        Relay::start(&lab, proxy, server, Tells::Address);
        carries(lab, transport, format!("socks-proxy {proxy} 1080\nlport 5000"));
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_relay_may_tell_the_server_by_a_name_or_by_an_address_of_the_other_kind() {
    for tells in [Tells::Name, Tells::MappedAddress] {
        let lab = NetnsLab::new().unwrap();
        Relay::start(&lab, NetnsLab::SERVER_V4.into(), NetnsLab::SERVER_V4.into(), tells);
        carries(lab, Transport::Udp4, "socks-proxy 10.99.0.1 1080".to_owned());
    }
}

/// The nearest address of the name is that of a machine where no proxy runs.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn every_address_of_a_proxy_s_name_is_tried() {
    let lab = NetnsLab::new().unwrap();
    let nearest = Ipv4Addr::new(10, 99, 0, 3);
    lab.server.add_address(nearest.into()).unwrap();
    let hosts = format!("{nearest} proxy.example\n{} proxy.example\n", NetnsLab::SERVER_V4);
    fs::write(format!("/etc/netns/{}/hosts", lab.client.name()), hosts).unwrap();
    Relay::start(&lab, NetnsLab::SERVER_V4.into(), NetnsLab::SERVER_V4.into(), Tells::Address);
    let tunnel = carries(lab, Transport::Udp4, "socks-proxy proxy.example 1080".to_owned());
    assert!(
        tunnel.client.has_logged("connect to [AF_INET]10.99.0.3:1080 failed"),
        "{}",
        tunnel.client.tail()
    );
    assert!(!tunnel.client.has_logged("SIGUSR1"), "{}", tunnel.client.tail());
}

/// All of the client's packets go into the tunnel but those to the relay, also after the server changed its mind about routes.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn an_update_keeps_the_way_to_the_relay() {
    let lab = NetnsLab::new().unwrap();
    let far = "203.0.113.5";
    lab.server.ip(&["address", "add", far, "dev", "lo"]).unwrap();
    lab.client.ip(&["route", "add", "default", "via", "10.99.0.1"]).unwrap();
    Relay::start(&lab, far.parse().unwrap(), NetnsLab::SERVER_V4.into(), Tells::Address);
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("management");
    let world = World::new();
    let spec = TunnelSpec {
        server_extra: format!("management {} unix", socket.display()),
        client_extra: format!("socks-proxy {far} 1080\nredirect-gateway def1"),
        ..TunnelSpec::default()
    };
    let tunnel = world.tunnel_in(lab, Role::Client, Release::V2_7, &spec);
    let to_relay = || tunnel.lab.client.ip(&["route", "get", far]).unwrap();
    assert!(to_relay().contains("via 10.99.0.1"), "{}", to_relay());
    let mut management = Management::connect(&socket).unwrap();
    management.command("push-update-broad \"route 10.66.0.0 255.255.0.0\"").unwrap();
    eventually(SOON, || match tunnel.lab.client.ip(&["route"]).unwrap() {
        routes if routes.contains("10.66.0.0/16") => Ok(()),
        routes => Err(format!("{routes}\n{}", tunnel.client.tail())),
    });
    assert!(to_relay().contains("via 10.99.0.1"), "{}", to_relay());
    tunnel.wait_traffic(SOON).unwrap();
}

/// The kernel took the route to the proxy away, as it does when the machine sleeps, and the tunnel still stands.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_kept_tunnel_does_not_swallow_the_call_to_the_proxy() {
    let lab = NetnsLab::new().unwrap();
    let far = "203.0.113.5";
    lab.server.ip(&["address", "add", far, "dev", "lo"]).unwrap();
    lab.client.ip(&["route", "add", "default", "via", "10.99.0.1"]).unwrap();
    Relay::start(&lab, far.parse().unwrap(), NetnsLab::SERVER_V4.into(), Tells::Address);
    let spec = TunnelSpec {
        server_extra: "keepalive 120 600".to_owned(),
        client_extra: format!(
            "socks-proxy {far} 1080\nredirect-gateway def1\npersist-tun\nconnect-timeout 3"
        ),
        ..TunnelSpec::default()
    };
    let tunnel = World::new().tunnel_in(lab, Role::Client, Release::V2_7, &spec);
    let mark = tunnel.client.mark();
    tunnel.client.signal(Signal::Restart).unwrap();
    tunnel.client.wait_for_after(mark, "process restarting", SOON).unwrap();
    tunnel.lab.set_wire(false).unwrap();
    tunnel.lab.set_wire(true).unwrap();
    tunnel.lab.client.ip(&["route", "add", "default", "via", "10.99.0.1"]).unwrap();
    tunnel.client.wait_up_after(mark, SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert!(tunnel.client.has_logged("Preserving previous TUN/TAP instance"), "{}", tunnel.client.tail());
    assert_no_panic(&tunnel);
}

/// As above, through a proxy that is not the test's.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn dante_relays_between_address_families() {
    let (v4, v6) = (NetnsLab::SERVER_V4.to_string(), NetnsLab::SERVER_V6.to_string());
    for (transport, at) in [(Transport::Udp4, &v6), (Transport::Udp6, &v4), (Transport::Udp6, &v6)] {
        let lab = NetnsLab::new().unwrap();
        let _proxy = Proxy::dante_at(&lab, at);
        carries(lab, transport, format!("socks-proxy {at} 1080"));
    }
}
