//! What a server does around the kernel's module: peers beside it, routes to clients, clients kept apart.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use culvert_testkit::traffic::{self, CounterStream};
use culvert_testkit::{Inner, Namespace, Offload, Role, TempDir, Transport, Tunnel, TunnelSpec, eventually};

use crate::{RECOVERY, SOON, World, assert_no_panic};

/// The second client's address inside the tunnel.
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 8, 0, 3));

/// A network behind the first client, with one address in it.
const BEHIND: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 77, 1));
const NETWORK: &str = "192.168.77.0/24";

fn forward(namespace: &Namespace) {
    namespace.enter(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap().unwrap();
}

fn add_network_behind(client: &Namespace) {
    client.ip(&["link", "add", "behind", "type", "veth", "peer", "name", "beyond"]).unwrap();
    client.ip(&["address", "add", &format!("{BEHIND}/24"), "dev", "behind"]).unwrap();
    for end in ["behind", "beyond"] {
        client.ip(&["link", "set", end, "up"]).unwrap();
    }
}

fn carries(
    tunnel: &Tunnel,
    (from, from_address): (&Namespace, IpAddr),
    (to, to_address): (&Namespace, IpAddr),
) {
    traffic::echo((from, from_address), (to, to_address), SOON)
        .map_err(|failure| tunnel.with_logs(&failure))
        .unwrap();
}

/// A packet between clients is dropped by our rule: its counter says so, and nothing arrives.
fn assert_kept_apart(
    tunnel: &Tunnel,
    (a, a_address): (&Namespace, IpAddr),
    (b, b_address): (&Namespace, IpAddr),
) {
    let dropped = || {
        let table = tunnel.lab.server.run("nft", &["list", "table", "inet", "culvert-tun0"]).unwrap();
        let counter = table.split("counter packets ").nth(1).and_then(|rest| rest.split(' ').next());
        counter.and_then(|number| number.parse::<u64>().ok()).unwrap_or_else(|| panic!("a counter: {table}"))
    };
    let sender = traffic::udp_socket(a, SocketAddr::new(a_address, 0)).unwrap();
    let receiver = traffic::udp_socket(b, SocketAddr::new(b_address, 0)).unwrap();
    receiver.set_nonblocking(true).unwrap();
    let before = dropped();
    eventually(SOON, || {
        sender.send_to(b"to a neighbour", receiver.local_addr().unwrap()).unwrap();
        if dropped() > before { Ok(()) } else { Err(format!("nothing is dropped\n{}", tunnel.server.tail())) }
    });
    assert!(receiver.recv(&mut [0; 64]).is_err(), "nothing reaches the neighbour");
}

/// An old client in a network of its own: it frames packets for compression, which the module cannot.
const OLD: &str = "comp-lzo no\ndisable-dco";

fn beside(transport: Transport) {
    let spec = TunnelSpec {
        transport,
        server_extra: "compress migrate\nduplicate-cn".to_owned(),
        ..TunnelSpec::default()
    };
    let tunnel = World::new().tunnel(Role::Server, spec);
    let (namespace, near) = tunnel.lab.add_client(2).unwrap();
    let old = tunnel.start_another_client(2, (&namespace, near), OLD).unwrap();
    old.wait_up(RECOVERY).unwrap();
    let server = (&tunnel.lab.server, TunnelSpec::SERVER_V4);
    let (first, second) = ((&tunnel.lab.client, TunnelSpec::CLIENT_V4), (&namespace, SECOND));
    for (from, to) in [(second, server), (server, second), (first, server)] {
        carries(&tunnel, from, to);
    }
    let devices = tunnel.lab.server.tunnel_devices().unwrap();
    assert_eq!((devices.ovpn.len(), devices.tun.len()), (1, 1), "{}", tunnel.server.tail());
    assert!(tunnel.server.has_logged("offload: engine for this client"), "{}", tunnel.server.tail());
    forward(&tunnel.lab.server);
    assert_kept_apart(&tunnel, first, second);
    assert_kept_apart(&tunnel, second, first);
    drop(old);
    tunnel.wait_traffic(SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn an_old_client_is_carried_by_the_engine_beside_the_module_over_udp() {
    beside(Transport::Udp4);
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn an_old_client_is_carried_by_the_engine_beside_the_module_over_tcp() {
    beside(Transport::Tcp4);
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn clients_reach_each_other_with_client_to_client_and_not_without() {
    let two_clients = |extra: &str| {
        let spec = TunnelSpec { server_extra: format!("duplicate-cn\n{extra}"), ..TunnelSpec::default() };
        let tunnel = World::new().tunnel(Role::Server, spec);
        let (namespace, near) = tunnel.lab.add_client(2).unwrap();
        let second = tunnel.start_another_client(2, (&namespace, near), "").unwrap();
        second.wait_up(RECOVERY).unwrap();
        forward(&tunnel.lab.server);
        (tunnel, namespace, second)
    };
    let (tunnel, namespace, _second) = two_clients("client-to-client");
    carries(&tunnel, (&tunnel.lab.client, TunnelSpec::CLIENT_V4), (&namespace, SECOND));
    drop(tunnel);
    let (tunnel, namespace, _second) = two_clients("");
    carries(&tunnel, (&namespace, SECOND), (&tunnel.lab.server, TunnelSpec::SERVER_V4));
    assert_kept_apart(&tunnel, (&tunnel.lab.client, TunnelSpec::CLIENT_V4), (&namespace, SECOND));
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_network_behind_a_client_is_a_route_as_long_as_the_client_is_there() {
    let folder = TempDir::new().unwrap();
    // No `route` beside it: the module needs none.
    folder.write("client", "iroute 192.168.77.0 255.255.255.0\n").unwrap();
    let ccd = format!("client-config-dir {}\nkeepalive 1 4", folder.path().display());
    let mut tunnel =
        World::new().tunnel(Role::Server, TunnelSpec { server_extra: ccd, ..TunnelSpec::default() });
    add_network_behind(&tunnel.lab.client);
    let (server, behind) = ((&tunnel.lab.server, TunnelSpec::SERVER_V4), (&tunnel.lab.client, BEHIND));
    carries(&tunnel, server, behind);
    carries(&tunnel, behind, server);
    tunnel.client.kill();
    eventually(RECOVERY, || {
        let routes = tunnel.lab.server.ip(&["route", "show", "proto", "0x76"]).unwrap();
        if routes.contains(NETWORK) { Err(format!("{routes}\n{}", tunnel.server.tail())) } else { Ok(()) }
    });
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_network_that_is_routed_to_a_client_by_hand_is_reached_also_beside_the_module() {
    let spec = TunnelSpec { server_extra: "compress migrate".to_owned(), ..TunnelSpec::default() };
    for client_extra in [String::new(), OLD.to_owned()] {
        let offload = if client_extra.is_empty() { Offload::Both } else { Offload::Server };
        let spec = TunnelSpec { client_extra, offload, ..spec.clone() };
        let tunnel = World::new().tunnel_with(Role::Server, &spec);
        add_network_behind(&tunnel.lab.client);
        let via = TunnelSpec::CLIENT_V4.to_string();
        tunnel.lab.server.ip(&["route", "add", NETWORK, "via", &via]).unwrap();
        let (server, behind) = ((&tunnel.lab.server, TunnelSpec::SERVER_V4), (&tunnel.lab.client, BEHIND));
        carries(&tunnel, server, behind);
        carries(&tunnel, behind, server);
    }
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_server_with_ipv6_only_is_carried_like_any_other() {
    let world = World::new();
    let spec = TunnelSpec {
        inner: Inner::V4AndV6,
        offload: Offload::Both,
        without: Some("server 10.8.0.0 255.255.255.0"),
        server_extra: "mode server\ntls-server".to_owned(),
        ..TunnelSpec::default()
    };
    let tunnel = Tunnel::start_up(&spec, &world.subject, &world.peer, &world.materials).unwrap();
    let (server, client) =
        ((&tunnel.lab.server, TunnelSpec::SERVER_V6), (&tunnel.lab.client, spec.client_v6()));
    carries(&tunnel, client, server);
    carries(&tunnel, server, client);
    tunnel.prove_offload().unwrap();
}

/// Every option that keeps the module out of a profile leaves a tunnel that works; the other end uses what it can.
#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn what_keeps_the_module_out_of_one_end_leaves_it_to_the_other() {
    let first_of_net30 = IpAddr::V4(Ipv4Addr::new(10, 8, 0, 6));
    let world = World::new();
    for (role, extra, client_address) in [
        (Role::Server, "topology net30", first_of_net30),
        (Role::Server, "bind-dev wire", TunnelSpec::CLIENT_V4),
        (Role::Server, "offload engine", TunnelSpec::CLIENT_V4),
        (Role::Client, "bind-dev wire", TunnelSpec::CLIENT_V4),
    ] {
        let (server_extra, client_extra, offload) = match role {
            Role::Server => (extra, "", Offload::Client),
            Role::Client => ("", extra, Offload::Server),
        };
        let spec = TunnelSpec {
            // The subject has to find out by itself.
            without: Some("disable-dco"),
            server_extra: server_extra.to_owned(),
            client_extra: client_extra.to_owned(),
            offload,
            ..TunnelSpec::default()
        };
        let (server, client) = match role {
            Role::Server => (&world.subject, &world.peer),
            Role::Client => (&world.peer, &world.subject),
        };
        let tunnel = Tunnel::start_up(&spec, server, client, &world.materials).unwrap();
        let server = (&tunnel.lab.server, TunnelSpec::SERVER_V4);
        carries(&tunnel, (&tunnel.lab.client, client_address), server);
        tunnel.prove_offload().unwrap();
        let subject = if role == Role::Server { &tunnel.server } else { &tunnel.client };
        assert!(subject.has_logged("offload: userspace engine"), "{}", subject.tail());
    }
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_key_is_renewed_after_so_many_packets_though_the_kernel_counts_them() {
    // Not before the key is older than the window: see the scenario of the same behaviour with the engine.
    let spec = TunnelSpec {
        server_extra: "hand-window 4\nreneg-pkts 600".to_owned(),
        client_extra: "hand-window 4".to_owned(),
        ..TunnelSpec::default()
    };
    let tunnel = World::new().tunnel(Role::Server, spec);
    let (server, client) =
        ((&tunnel.lab.server, TunnelSpec::SERVER_V4), (&tunnel.lab.client, TunnelSpec::CLIENT_V4));
    let stream = CounterStream::start(client, server, 100, Duration::from_millis(10)).unwrap();
    eventually(RECOVERY, || {
        let handshakes = tunnel.server.lines_with("Control Channel: TLS").len();
        if handshakes > 2 {
            Ok(())
        } else {
            Err(format!("{handshakes} handshakes\n{}", tunnel.server.tail()))
        }
    });
    assert_eq!(stream.stop().unwrap().lost(), 0);
    assert_no_panic(&tunnel);
}
