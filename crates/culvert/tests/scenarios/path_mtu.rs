//! A link in the middle that is smaller than those of both ends, and no option that says so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use culvert_testkit::{Namespace, NetnsLab, Release, Role, Transport, Tunnel, TunnelSpec, traffic};

use crate::{SOON, World, assert_no_panic};

/// The server, as the client reaches it.
const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 1);
const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 1);

/// Routers that tell nobody what does not fit.
const SILENT: &str = "add table inet silent; add chain inet silent out { type filter hook output priority 0; }; \
    add rule inet silent out icmp type destination-unreachable drop; \
    add rule inet silent out icmpv6 type packet-too-big drop";

/// client -- near router -- MTU 1280 -- far router -- server
fn narrow(silent: bool) -> (NetnsLab, [Namespace; 2]) {
    let lab = NetnsLab::new().unwrap();
    let (far, _) = lab.add_client(1).unwrap();
    let (near, _) = lab.add_client(2).unwrap();
    let wire = |from: &Namespace, name: &str, to: &Namespace| {
        from.ip(&["link", "add", name, "type", "veth", "peer", "name", name, "netns", to.name()]).unwrap();
    };
    wire(&lab.client, "first", &near);
    wire(&near, "narrow", &far);
    let ends: [(&Namespace, &str, &[&str], &str); 6] = [
        (&lab.client, "first", &["10.98.0.2/24", "fd98::2/64"], "1500"),
        (&near, "first", &["10.98.0.1/24", "fd98::1/64"], "1500"),
        (&near, "narrow", &["10.97.0.2/24", "fd97::2/64"], "1280"),
        (&far, "narrow", &["10.97.0.1/24", "fd97::1/64"], "1280"),
        // A router asks for neighbours from its link-local address, of which the wire has none by itself.
        (&far, "wire", &["fd96::2/64", "fe80::2/64"], "1500"),
        (&lab.server, "wire1", &["fd96::1/64"], "1500"),
    ];
    for (namespace, device, addresses, mtu) in ends {
        for address in addresses {
            let flags: &[&str] = if address.contains("::") { &["nodad"] } else { &[] };
            namespace.ip(&[&["address", "add", address, "dev", device], flags].concat()).unwrap();
        }
        namespace.ip(&["link", "set", device, "mtu", mtu, "up"]).unwrap();
    }
    for router in [&near, &far] {
        router.run("sysctl", &["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]).unwrap();
        if silent {
            router.run("nft", &[SILENT]).unwrap();
        }
    }
    for (namespace, to, by) in [
        (&lab.client, "default", "10.98.0.1"),
        (&near, "10.99.1.0/24", "10.97.0.1"),
        (&far, "10.98.0.0/24", "10.97.0.2"),
        (&lab.server, "10.98.0.0/24", "10.99.1.2"),
        (&lab.client, "default", "fd98::1"),
        (&near, "fd96::/64", "fd97::1"),
        (&far, "fd98::/64", "fd97::2"),
        (&lab.server, "fd98::/64", "fd96::2"),
    ] {
        namespace.ip(&["route", "add", to, "via", by]).unwrap();
    }
    (lab, [near, far])
}

fn spec(transport: Transport) -> TunnelSpec {
    let server: IpAddr = if transport == Transport::Udp6 { SERVER_V6.into() } else { SERVER_V4.into() };
    TunnelSpec {
        transport,
        remote: Some(SocketAddr::new(server, NetnsLab::PORT)),
        // OpenVPN forbids routers to split its packets unless it is told otherwise.
        server_extra: "mtu-disc no".to_owned(),
        client_extra: "mtu-disc no".to_owned(),
        ..TunnelSpec::default()
    }
}

/// What an end says that found out.
const FOUND: &str = "Path MTU: packets of at most 1280 bytes reach the peer";

/// Counts pieces of packets that come to a router.
const COUNT_PIECES: &str = "add table inet pieces; \
    add chain inet pieces seen { type filter hook prerouting priority 0; }; \
    add rule inet pieces seen ip frag-off & 0x3fff != 0 counter; \
    add rule inet pieces seen exthdr frag exists counter";

/// Both ends send packets that do not fit.
fn ping_both(tunnel: &Tunnel) {
    let (client, server) = (&tunnel.lab.client, &tunnel.lab.server);
    for (namespace, to) in [(client, TunnelSpec::SERVER_V4), (server, TunnelSpec::CLIENT_V4)] {
        // Where routers tell, the kernel learns from the first that is lost.
        let to = to.to_string();
        namespace.run("ping", &["-q", "-c", "5", "-i", "0.2", "-w", "10", "-s", "1400", &to]).unwrap();
    }
}

fn transfer_both(tunnel: &Tunnel) {
    let (client, server) = (&tunnel.lab.client, &tunnel.lab.server);
    let ends = ((client, TunnelSpec::CLIENT_V4), (server, TunnelSpec::SERVER_V4));
    traffic::tcp(ends.0, ends.1, 1_000_000, SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
}

/// The subject finds out by itself, and tells TCP; an OpenVPN at the other end need not know.
fn carries(transport: Transport, role: Role, silent: bool) {
    let (lab, [_near, far]) = narrow(silent);
    far.run("nft", &[COUNT_PIECES]).unwrap();
    let world = World::new();
    let (server, client) = world.ends(role, Release::V2_7);
    let tunnel = Tunnel::start_in(lab, &spec(transport), &server, &client, &world.materials).unwrap();
    tunnel.wait_up().unwrap();
    let subject = if role == Role::Client { &tunnel.client } else { &tunnel.server };
    subject.wait_for(FOUND, SOON).unwrap();
    transfer_both(&tunnel);
    let none = || {
        let seen = far.run("nft", &["list table inet pieces"]).unwrap();
        (seen.matches("counter packets 0 bytes 0").count() == 2, seen)
    };
    let (fits, seen) = none();
    assert!(fits, "TCP fits: {seen}");
    if transport == Transport::Udp4 {
        ping_both(&tunnel);
        assert!(!none().0, "pings do not");
    }
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_smaller_link_in_the_middle_carries_all_sizes() {
    carries(Transport::Udp4, Role::Client, false);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_smaller_link_carries_all_sizes_where_no_router_tells_of_it() {
    carries(Transport::Udp4, Role::Client, true);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_smaller_ipv6_link_carries_tcp() {
    carries(Transport::Udp6, Role::Client, false);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_smaller_ipv6_link_of_which_no_router_tells_carries_tcp_of_a_client() {
    carries(Transport::Udp6, Role::Client, true);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_smaller_ipv6_link_of_which_no_router_tells_carries_tcp_of_a_server() {
    carries(Transport::Udp6, Role::Server, true);
}

/// Each end cuts what it sends, so nothing is lost, TCP or not.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_smaller_ipv6_link_of_which_no_router_tells_carries_all_sizes_between_two_that_find_out() {
    let (lab, _routers) = narrow(true);
    let World { materials, subject, .. } = World::new();
    let tunnel = Tunnel::start_in(lab, &spec(Transport::Udp6), &subject, &subject, &materials).unwrap();
    tunnel.wait_up().unwrap();
    for end in [&tunnel.client, &tunnel.server] {
        end.wait_for(FOUND, SOON).unwrap();
    }
    ping_both(&tunnel);
    transfer_both(&tunnel);
    assert_no_panic(&tunnel);
}

/// OpenVPN's answer says nothing by then: large packets came before. The way back tells.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_that_comes_to_a_smaller_link_finds_out_again() {
    let (lab, [near, far]) = narrow(true);
    for router in [&near, &far] {
        router.ip(&["link", "set", "narrow", "mtu", "1500"]).unwrap();
    }
    let tunnel = World::new().tunnel_in(lab, Role::Client, Release::V2_7, &spec(Transport::Udp6));
    transfer_both(&tunnel);
    assert!(!tunnel.client.has_logged(FOUND));
    for router in [&near, &far] {
        router.ip(&["link", "set", "narrow", "mtu", "1280"]).unwrap();
    }
    let client = &tunnel.lab.client;
    client.ip(&["address", "add", "fd98::3/64", "dev", "first", "nodad"]).unwrap();
    client.ip(&["address", "del", "fd98::2/64", "dev", "first"]).unwrap();
    tunnel.client.wait_for("the network changed", SOON).unwrap();
    tunnel.client.wait_for(FOUND, SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    transfer_both(&tunnel);
    assert_no_panic(&tunnel);
}

/// The end comes in minutes, so it is the engine's tests that see it.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn who_is_told_to_measure_sizes_begins_at_once_and_carries_traffic_meanwhile() {
    for role in [Role::Client, Role::Server] {
        let extra = || "mtu-test".to_owned();
        let spec = TunnelSpec { server_extra: extra(), client_extra: extra(), ..TunnelSpec::default() };
        let tunnel = World::new().tunnel(role, Release::V2_7, &spec);
        let subject = if role == Role::Client { &tunnel.client } else { &tunnel.server };
        subject.wait_for("NOTE: Beginning empirical MTU test", SOON).unwrap();
        transfer_both(&tunnel);
        assert!(!subject.has_logged("Path MTU:"), "{}", subject.tail());
        assert_no_panic(&tunnel);
    }
}
