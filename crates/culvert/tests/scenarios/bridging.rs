//! TAP devices: Ethernet through the tunnel, with real peers at the other end.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::Path,
    time::Duration,
};

use culvert_sys::{Tun, TunConfig, TunLayer};
use culvert_testkit::{
    Daemon, Inner, Layer, Namespace, NetnsLab, Release, Role, TempDir, Topology, Tunnel, TunnelSpec,
    eventually, traffic,
};

use crate::{SOON, World, assert_no_panic};

/// Long enough for a packet that comes, when it is to be shown that none does.
const A_WHILE: Duration = Duration::from_millis(1500);

fn tap() -> TunnelSpec {
    TunnelSpec { layer: Layer::Tap, ..TunnelSpec::default() }
}

fn both() -> TunnelSpec {
    TunnelSpec { inner: Inner::V4AndV6, ..tap() }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_tap_carries_both_protocols_in_both_roles() {
    let world = World::new();
    for role in [Role::Server, Role::Client] {
        for topology in [Topology::Subnet, Topology::PointToPoint] {
            for release in [Release::V2_5, Release::V2_6, Release::V2_7] {
                let tunnel = world.tunnel(role, release, &TunnelSpec { topology, ..both() });
                tunnel.prove_traffic().unwrap();
                assert_no_panic(&tunnel);
                // 2.5 counts the Ethernet header into tun-mtu, and warns of every later release.
                for end in [&tunnel.server, &tunnel.client] {
                    let differs = end.has_logged("is used inconsistently") && release != Release::V2_5;
                    assert!(!differs, "{}", end.tail());
                }
            }
        }
    }
}

/// The only tunnel device of a namespace.
fn device(namespace: &Namespace) -> String {
    namespace.tunnel_devices().unwrap().tun.pop().unwrap()
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_clients_routes_lead_over_the_gateway_and_its_address_is_the_one_asked_for() {
    let spec = TunnelSpec {
        server_extra: "push \"route 10.77.0.0 255.255.0.0\"\npush \"route-ipv6 fd00:77::/64\"".to_owned(),
        client_extra: "lladdr 02:00:00:00:00:0a".to_owned(),
        ..both()
    };
    let tunnel = World::new().tunnel(Role::Client, Release::V2_6, &spec);
    let client = &tunnel.lab.client;
    let device = device(client);
    let shown = |arguments: &[&str]| client.ip(arguments).unwrap();
    let via = |gateway: &str| format!("via {gateway} dev {device}");
    assert!(shown(&["route", "show", "10.77.0.0/16"]).contains(&via("10.8.0.1")));
    assert!(shown(&["-6", "route", "show", "fd00:77::/64"]).contains(&via("fd00:8::1")));
    let link = shown(&["link", "show", &device]);
    assert!(link.contains("link/ether 02:00:00:00:00:0a") && link.contains("mtu 1500"), "{link}");
}

/// An executable in the folder; `LOG` in its text is a file there.
fn script(folder: &TempDir, name: &str, text: &str) -> String {
    let log = folder.path().join("log").display().to_string();
    let path = folder.write_script(name, &format!("#!/bin/sh\n{}\n", text.replace("LOG", &log))).unwrap();
    path.display().to_string()
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// The text, unless it is as it should be.
fn holds(text: String, is_right: impl FnOnce(&str) -> bool) -> Result<(), String> {
    if is_right(&text) { Ok(()) } else { Err(text) }
}

/// Waits for the server's status file to hold this.
fn has_status(tunnel: &Tunnel, text: &str) {
    eventually(SOON, || holds(tunnel.status(Role::Server), |status| status.contains(text)));
}

/// The server's file says `server-bridge` in place of `server`.
fn bridged(server_bridge: &str, extra: &str) -> TunnelSpec {
    TunnelSpec {
        without: Some("server 10.8.0.0 255.255.255.0"),
        server_extra: format!("{server_bridge}\nscript-security 2\n{extra}"),
        ..tap()
    }
}

/// Puts a bridge with the server's address into the server's namespace, and a host behind it.
fn bridge(lab: &NetnsLab) -> (Namespace, IpAddr) {
    let (host, _) = lab.add_client(5).unwrap();
    let address = Ipv4Addr::new(10, 8, 0, 50);
    lab.server.ip(&["link", "add", "br0", "type", "bridge"]).unwrap();
    lab.server.ip(&["address", "add", "10.8.0.1/24", "dev", "br0"]).unwrap();
    lab.server.ip(&["address", "flush", "dev", "wire5"]).unwrap();
    lab.server.ip(&["link", "set", "wire5", "master", "br0"]).unwrap();
    lab.server.ip(&["link", "set", "br0", "up"]).unwrap();
    host.ip(&["address", "add", &format!("{address}/24"), "dev", "wire"]).unwrap();
    (host, address.into())
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_reaches_a_host_behind_the_servers_bridge() {
    let lab = NetnsLab::new().unwrap();
    let (host, address) = bridge(&lab);
    let folder = TempDir::new().unwrap();
    let up = script(&folder, "up", "ip link set \"$1\" master br0 up");
    let spec = bridged(
        "server-bridge 10.8.0.1 255.255.255.0 10.8.0.2 10.8.0.40",
        &format!("up {up}\npush \"route 10.77.0.0 255.255.0.0\""),
    );
    let tunnel = World::new().tunnel_in(lab, Role::Server, Release::V2_6, &spec);
    let client = (&tunnel.lab.client, TunnelSpec::CLIENT_V4);
    traffic::echo(client, (&host, address), SOON).unwrap();
    traffic::tcp((&host, address), client, 300_000, SOON).unwrap();
    let route = tunnel.lab.client.ip(&["route", "show", "10.77.0.0/16"]).unwrap();
    assert!(route.contains("via 10.8.0.1"), "{route}");
    // The host's address was learned nowhere: it is not a client's.
    has_status(&tunnel, "@0,");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_bridge_without_a_pool_leaves_addresses_to_the_network_behind_it() {
    for (line, pushed) in [("server-bridge", ",route-gateway dhcp,"), ("server-bridge nogw", "")] {
        let lab = NetnsLab::new().unwrap();
        let (host, address) = bridge(&lab);
        let folder = TempDir::new().unwrap();
        let up = script(&folder, "up", "ip link set \"$1\" master br0 up");
        let spec = bridged(line, &format!("up {up}"));
        let world = World::new();
        let (server, client) = world.ends(Role::Server, Release::V2_6);
        let tunnel = Tunnel::start_in(lab, &spec, &server, &client, &world.materials).unwrap();
        tunnel.wait_up().unwrap();
        // What a DHCP client would do.
        let namespace = &tunnel.lab.client;
        let device = device(namespace);
        namespace.ip(&["address", "add", "10.8.0.2/24", "dev", &device]).unwrap();
        namespace.ip(&["link", "set", &device, "up"]).unwrap();
        traffic::echo((namespace, TunnelSpec::CLIENT_V4), (&host, address), SOON).unwrap();
        let reply = tunnel.client.lines_with("PUSH_REPLY").join("\n");
        assert!(!reply.contains("ifconfig") && reply.contains(pushed), "{reply}");
        assert_eq!(reply.contains("route-gateway"), !pushed.is_empty(), "{reply}");
    }
}

/// A server and two clients of it, the second in a namespace of its own with the address 10.8.0.3.
fn two_clients(spec: &TunnelSpec, second: &str) -> (Tunnel, Daemon, Namespace) {
    two_clients_in(NetnsLab::new().unwrap(), spec, second)
}

fn two_clients_in(lab: NetnsLab, spec: &TunnelSpec, second: &str) -> (Tunnel, Daemon, Namespace) {
    let tunnel = World::new().tunnel_in(lab, Role::Server, Release::V2_6, spec);
    let (other, wire) = tunnel.lab.add_client(2).unwrap();
    let client = tunnel.start_another_client(2, (&other, wire), second).unwrap();
    client.wait_up(SOON * 2).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    (tunnel, client, other)
}

const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 8, 0, 3));

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn clients_reach_each_other_only_where_that_is_allowed() {
    for allowed in [true, false] {
        let extra = if allowed { "duplicate-cn\nclient-to-client" } else { "duplicate-cn" };
        let spec = TunnelSpec { server_extra: extra.to_owned(), ..tap() };
        let (tunnel, _second, other) = two_clients(&spec, "");
        traffic::echo((&other, SECOND), (&tunnel.lab.server, TunnelSpec::SERVER_V4), SOON).unwrap();
        let first = (&tunnel.lab.client, TunnelSpec::CLIENT_V4);
        let reached = traffic::echo((&other, SECOND), first, if allowed { SOON } else { A_WHILE });
        assert_eq!(reached.is_ok(), allowed, "{:?}\n{}", reached.err(), tunnel.server.tail());
        assert_no_panic(&tunnel);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn learn_address_judges_ethernet_addresses_and_hears_when_they_go() {
    let folder = TempDir::new().unwrap();
    let learn = script(
        &folder,
        "learn",
        r#"echo "$@" >> LOG; case "$2" in 02:00:00:00:00:66@0) exit 1;; esac; exit 0"#,
    );
    let spec = TunnelSpec {
        server_extra: format!("duplicate-cn\nscript-security 2\nlearn-address {learn}"),
        client_extra: "lladdr 02:00:00:00:00:0a".to_owned(),
        ..tap()
    };
    let (mut tunnel, mut second, other) = two_clients(&spec, "lladdr 02:00:00:00:00:66");
    let server = (&tunnel.lab.server, TunnelSpec::SERVER_V4);
    assert!(traffic::echo((&other, SECOND), server, A_WHILE).is_err(), "{}", log(folder.path()));
    tunnel.wait_traffic(SOON).unwrap();
    let said = |line: &str| {
        eventually(SOON, || holds(log(folder.path()), |log| log.contains(line)));
    };
    said("add 02:00:00:00:00:0a@0 client\n");
    said("add 02:00:00:00:00:66@0 client\n");
    let first = "02:00:00:00:00:0a@0,client,";
    eventually(SOON, || {
        holds(tunnel.status(Role::Server), |status| status.contains(first) && !status.contains(":66@0"))
    });
    second.stop(SOON).unwrap();
    tunnel.client.stop(SOON).unwrap();
    tunnel.server.stop(SOON).unwrap();
    let log = log(folder.path());
    assert!(
        log.contains("delete 02:00:00:00:00:0a@0\n") && !log.contains("delete 02:00:00:00:00:66"),
        "{log}"
    );
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn an_address_moves_with_who_uses_it_and_is_forgotten_when_nobody_does() {
    let folder = TempDir::new().unwrap();
    let learn = script(&folder, "learn", r#"echo "$@ ($common_name)" >> LOG"#);
    let spec = TunnelSpec {
        server_extra: format!(
            "duplicate-cn\nstale-routes-check 2 1\nscript-security 2\nlearn-address {learn}"
        ),
        client_extra: "lladdr 02:00:00:00:00:0a".to_owned(),
        ..tap()
    };
    let (tunnel, _second, other) = two_clients(&spec, "lladdr 02:00:00:00:00:0a");
    let server = (&tunnel.lab.server, TunnelSpec::SERVER_V4);
    traffic::echo((&other, SECOND), server, SOON).unwrap();
    let said = |line: &str| {
        eventually(SOON, || holds(log(folder.path()), |log| log.contains(line)));
    };
    said("update 02:00:00:00:00:0a@0 client (client)\n");
    tunnel.lab.client.ip(&["link", "set", &device(&tunnel.lab.client), "down"]).unwrap();
    other.ip(&["link", "set", &device(&other), "down"]).unwrap();
    said("delete 02:00:00:00:00:0a@0 (client)\n");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_clients_own_file_gives_it_an_address_and_no_network_behind_it() {
    let folder = TempDir::new().unwrap();
    let own = "ifconfig-push 10.8.0.77 255.255.255.0\niroute 10.66.0.0 255.255.0.0\n";
    folder.write("DEFAULT", own).unwrap();
    let spec = TunnelSpec {
        server_extra: format!("status-version 2\nclient-config-dir {}", folder.path().display()),
        ..tap()
    };
    let world = World::new();
    let (server, client) = world.ends(Role::Server, Release::V2_6);
    let tunnel = Tunnel::start_up(&spec, &server, &client, &world.materials).unwrap();
    let address = IpAddr::V4(Ipv4Addr::new(10, 8, 0, 77));
    traffic::echo((&tunnel.lab.client, address), (&tunnel.lab.server, TunnelSpec::SERVER_V4), SOON).unwrap();
    assert!(tunnel.server.has_logged("--iroute options rejected for client"), "{}", tunnel.server.tail());
    has_status(&tunnel, ",10.8.0.77,");
}

/// A port of the server's bridge in the hands of the test: what a machine with VLANs would send and see.
struct Probe(Tun);

impl Probe {
    fn new(lab: &NetnsLab) -> Self {
        let config = TunConfig {
            node: Path::new("/dev/net/tun"),
            layer: TunLayer::Ethernet,
            name: Some("probe"),
            queues: 1,
            vnet_header: false,
        };
        let tun = lab.server.enter(|| Tun::open(&config)).unwrap().unwrap();
        lab.server.ip(&["link", "set", "probe", "master", "br0", "up"]).unwrap();
        Self(tun)
    }

    /// Broadcasts a datagram, tagged with a VLAN or not.
    fn send(&self, vlan: Option<u16>, text: &str) {
        let mut frame = [[0xFF; 6], [2, 0, 0, 0, 0, 0x50]].concat();
        if let Some(vlan) = vlan {
            frame.extend([0x81, 0x00]);
            frame.extend(vlan.to_be_bytes());
        }
        let udp_len = u16::try_from(8 + text.len()).unwrap();
        let mut ip = vec![0x45, 0];
        ip.extend((20 + udp_len).to_be_bytes());
        ip.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 8, 0, 50, 255, 255, 255, 255]);
        let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let sum = u16::try_from((sum & 0xFFFF) + (sum >> 16)).unwrap();
        ip[10..12].copy_from_slice(&(!sum).to_be_bytes());
        frame.extend([0x08, 0x00]);
        frame.extend(ip);
        frame.extend([PORT, PORT, udp_len, 0].map(u16::to_be_bytes).concat());
        frame.extend(text.as_bytes());
        self.0.queues[0].write(&frame).unwrap();
    }

    /// The VLAN of the next frame that ends with this text.
    fn vlan_of(&self, text: &str) -> Option<u16> {
        let mut found = None;
        let mut buf = [0; 2000];
        eventually(SOON, || {
            while let Ok(len) = self.0.queues[0].read(&mut buf) {
                if buf[..len].ends_with(text.as_bytes()) {
                    let tagged = buf[12..14] == [0x81, 0x00];
                    found = Some(tagged.then(|| u16::from_be_bytes([buf[14], buf[15]])));
                    return Ok(());
                }
            }
            Err(format!("no frame with {text}"))
        });
        found.flatten()
    }
}

const PORT: u16 = 7099;

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn clients_are_in_the_vlans_that_their_options_say() {
    let folder = TempDir::new().unwrap();
    let lab = NetnsLab::new().unwrap();
    let _host = bridge(&lab);
    let probe = Probe::new(&lab);
    let up = script(&folder, "up", "ip link set \"$1\" master br0 up");
    let connect =
        script(&folder, "connect", r#"[ "$trusted_ip" != 10.99.2.2 ] || echo 'vlan-pvid 7' > "$1""#);
    let spec = bridged(
        "server-bridge 10.8.0.1 255.255.255.0 10.8.0.2 10.8.0.40",
        &format!("duplicate-cn\nclient-to-client\nvlan-tagging\nup {up}\nclient-connect {connect}"),
    );
    let (tunnel, _second, other) = two_clients_in(lab, &spec, "");

    let socket = |namespace: &Namespace| {
        let socket = traffic::udp_socket(namespace, (Ipv4Addr::UNSPECIFIED, PORT).into()).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.set_broadcast(true).unwrap();
        socket
    };
    let (first, second) = (socket(&tunnel.lab.client), socket(&other));
    let hears = |socket: &UdpSocket| {
        let mut buf = [0; 100];
        let len =
            socket.recv(&mut buf).map_err(|error| format!("{error}\n{}", tunnel.server.tail())).unwrap();
        String::from_utf8_lossy(&buf[..len]).into_owned()
    };
    // In order: who heard the later one did not hear the earlier.
    for (vlan, text) in
        [(Some(7), "for seven"), (None, "for one"), (Some(9), "for nobody"), (Some(7), "again")]
    {
        probe.send(vlan, text);
    }
    probe.send(None, "and one again");
    assert_eq!([hears(&second), hears(&second)], ["for seven", "again"]);
    assert_eq!([hears(&first), hears(&first)], ["for one", "and one again"]);

    first.send_to(b"from one", (Ipv4Addr::new(10, 8, 0, 255), PORT)).unwrap();
    assert_eq!(probe.vlan_of("from one"), None);
    second.send_to(b"from seven", (Ipv4Addr::new(10, 8, 0, 255), PORT)).unwrap();
    assert_eq!(probe.vlan_of("from seven"), Some(7));
    // Whoever broadcasts hears itself, and nobody in the other VLAN.
    probe.send(None, "last for one");
    probe.send(Some(7), "last for seven");
    assert_eq!([hears(&first), hears(&first)], ["from one", "last for one"]);
    assert_eq!([hears(&second), hears(&second)], ["from seven", "last for seven"]);
    has_status(&tunnel, "@7,");
    assert_no_panic(&tunnel);
}

/// What becomes of frames from either side of a bridged server, one delivery a word: who gets which, and with which tag.
/// Where there are VLANs, the first client is in VLAN 1, the second in 7.
fn deliveries(world: &World, role: Role, extra: &str, expected: &[&str]) {
    let folder = TempDir::new().unwrap();
    let lab = NetnsLab::new().unwrap();
    let _host = bridge(&lab);
    let probe = Probe::new(&lab);
    let up = script(&folder, "up", "ip link set \"$1\" master br0 up");
    let connect =
        script(&folder, "connect", r#"[ "$trusted_ip" != 10.99.2.2 ] || echo "$OPENVPN_second" > "$1""#);
    let spec = bridged(
        "server-bridge 10.8.0.1 255.255.255.0 10.8.0.2 10.8.0.40",
        &format!("duplicate-cn\n{extra}\nup {up}\nclient-connect {connect}"),
    );
    let (server, client) = world.ends(role, Release::V2_7);
    let tunnel = Tunnel::start_in(lab, &spec, &server, &client, &world.materials).unwrap();
    tunnel.wait_up().unwrap();
    let (other, wire) = tunnel.lab.add_client(2).unwrap();
    let second = tunnel.start_another_client(2, (&other, wire), "").unwrap();
    second.wait_up(SOON * 2).unwrap();

    let sockets = [("first", &tunnel.lab.client), ("second", &other)].map(|(name, namespace)| {
        let socket = traffic::udp_socket(namespace, (Ipv4Addr::UNSPECIFIED, PORT).into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.set_broadcast(true).unwrap();
        (name, socket)
    });
    for (vlan, text) in
        [(None, "plain"), (Some(0), "priority"), (Some(1), "one"), (Some(7), "seven"), (Some(9), "nine")]
    {
        probe.send(vlan, text);
    }
    for (name, socket) in &sockets {
        let text = format!("of-{name}");
        socket.send_to(text.as_bytes(), (Ipv4Addr::new(10, 8, 0, 255), PORT)).unwrap();
    }
    let mut seen = BTreeSet::new();
    let mut listen = || {
        let mut buf = [0; 2000];
        for (name, socket) in &sockets {
            while let Ok(len) = socket.recv(&mut buf) {
                let text = String::from_utf8_lossy(&buf[..len]);
                // Whoever broadcasts hears itself.
                if text != format!("of-{name}") {
                    seen.insert(format!("{name}:{text}"));
                }
            }
        }
        while let Ok(len) = probe.0.queues[0].read(&mut buf) {
            let frame = &buf[..len];
            if let Some((name, _)) =
                sockets.iter().find(|(name, _)| frame.ends_with(format!("of-{name}").as_bytes()))
            {
                let tagged = frame[12..14] == [0x81, 0x00];
                let tag = tagged.then(|| u16::from_be_bytes([frame[14], frame[15]]));
                let tag = tag.map_or_else(|| "no".to_owned(), |tag| tag.to_string());
                seen.insert(format!("probe:of-{name}@{tag}"));
            }
        }
        holds(format!("{seen:?}"), |_| seen.iter().eq(expected))
    };
    eventually(SOON, &mut listen);
    std::thread::sleep(A_WHILE / 2);
    listen().map_err(|seen| format!("{role:?} {extra}: {seen}")).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn frames_go_where_2_7_lets_them_go() {
    let world = World::new();
    let vlans = |accept| format!("vlan-tagging\nvlan-accept {accept}\nsetenv OPENVPN_second \"vlan-pvid 7\"");
    for (extra, expected) in [
        (
            vlans("all"),
            &[
                "first:one",
                "first:plain",
                "first:priority",
                "probe:of-first@no",
                "probe:of-second@7",
                "second:seven",
            ][..],
        ),
        (
            vlans("tagged"),
            &["first:one", "first:priority", "probe:of-first@1", "probe:of-second@7", "second:seven"],
        ),
        (vlans("untagged"), &["first:plain", "first:priority", "probe:of-first@no"]),
        (
            String::new(),
            &[
                "first:plain",
                "first:priority",
                "probe:of-first@no",
                "probe:of-second@no",
                "second:plain",
                "second:priority",
            ],
        ),
        (
            "client-to-client".to_owned(),
            &[
                "first:of-second",
                "first:plain",
                "first:priority",
                "probe:of-first@no",
                "probe:of-second@no",
                "second:of-first",
                "second:plain",
                "second:priority",
            ],
        ),
    ] {
        // The reference first.
        for role in [Role::Client, Role::Server] {
            deliveries(&world, role, &extra, expected);
        }
    }
}

/// What busybox gives by DHCP.
const LEASE: &str = "start 10.8.0.60\nend 10.8.0.60\ninterface wire\nlease_file LEASES\noption subnet 255.255.255.0\n\
                     option router 10.8.0.50\n";

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_bridged_client_gets_its_address_by_dhcp() {
    let world = World::new();
    for (role, line) in [(Role::Server, "server-bridge"), (Role::Client, "server-bridge nogw")] {
        let lab = NetnsLab::new().unwrap();
        let (host, address) = bridge(&lab);
        let folder = TempDir::new().unwrap();
        let up = script(&folder, "up", "ip link set \"$1\" master br0 up");
        let (server, client) = world.ends(role, Release::V2_7);
        let spec = bridged(line, &format!("up {up}"));
        let tunnel = Tunnel::start_in(lab, &spec, &server, &client, &world.materials).unwrap();
        tunnel.wait_up().unwrap();
        let namespace = &tunnel.lab.client;
        let device = device(namespace);
        namespace.ip(&["link", "set", &device, "up"]).unwrap();
        let bound = script(&folder, "bound", r#"[ "$1" != bound ] || ip address add $ip/24 dev $interface"#);
        let leases = folder.write("leases", "").unwrap();
        let lease = LEASE.replace("LEASES", &leases.display().to_string());
        let served = folder.write("udhcpd.conf", &lease).unwrap();
        let mut dhcp = host.command("busybox").args(["udhcpd", "-f"]).arg(&served).spawn().unwrap();
        let asked = namespace.run("busybox", &["udhcpc", "-i", &device, "-n", "-q", "-t", "5", "-s", &bound]);
        dhcp.kill().unwrap();
        dhcp.wait().unwrap();
        asked.unwrap();
        let given = IpAddr::V4(Ipv4Addr::new(10, 8, 0, 60));
        traffic::echo((namespace, given), (&host, address), SOON).unwrap();
    }
}
