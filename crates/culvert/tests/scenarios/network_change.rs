//! Clients whose network changes below them. Keepalive is slow here: what is noticed, is noticed by the change.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
};

use culvert_testkit::{
    Daemon, Inner, NetnsLab, Release, Role, Signal, TempDir, Transport, Tunnel, TunnelSpec,
};

use crate::units::{Site, client_config};
use crate::{SOON, World, assert_no_panic};

const SLOW: &str = "keepalive 120 600";
/// The client's next address.
const NEXT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 3);

fn tunnel(transport: Transport, client_extra: &str) -> Tunnel {
    let spec = TunnelSpec {
        transport,
        server_extra: SLOW.to_owned(),
        client_extra: client_extra.to_owned(),
        ..TunnelSpec::default()
    };
    World::new().tunnel(Role::Client, Release::V2_7, &spec)
}

/// Another address takes the place of the client's.
fn move_client(tunnel: &Tunnel) {
    // In this order: a secondary address would go with the first.
    tunnel.lab.client.remove_address(NetnsLab::CLIENT_V4.into()).unwrap();
    tunnel.lab.client.add_address(NEXT.into()).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_learns_at_once_where_a_client_moved() {
    let tunnel = tunnel(Transport::Udp4, "");
    let mark = tunnel.server.mark();
    move_client(&tunnel);
    tunnel.client.wait_for("the network changed", SOON).unwrap();
    tunnel.server.wait_for_after(mark, "10.99.0.3", SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert!(!tunnel.client.has_logged("process restarting"), "{}", tunnel.client.tail());
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn over_tcp_a_client_that_moved_connects_again_at_once() {
    let tunnel = tunnel(Transport::Tcp4, "");
    let mark = tunnel.client.mark();
    move_client(&tunnel);
    tunnel.client.wait_for_after(mark, "SIGUSR1[soft,network-change]", SOON).unwrap();
    tunnel.client.wait_up_after(mark, SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_default_route_that_leads_into_the_tunnel_is_set_anew_with_another_network() {
    let tunnel = tunnel(Transport::Udp4, "redirect-gateway def1\npersist-tun");
    let mark = tunnel.client.mark();
    // The wire goes, and with it the route to the server; then it comes back with another address.
    tunnel.lab.set_wire(false).unwrap();
    tunnel.lab.client.ip(&["address", "flush", "dev", "wire"]).unwrap();
    tunnel.client.wait_for_after(mark, "the way to the server is gone", SOON).unwrap();
    tunnel.lab.set_wire(true).unwrap();
    tunnel.lab.client.add_address(NEXT.into()).unwrap();
    tunnel.client.wait_up_after(mark, SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_same_over_ipv6() {
    let spec = TunnelSpec {
        transport: Transport::Udp6,
        inner: Inner::V4AndV6,
        server_extra: SLOW.to_owned(),
        client_extra: "redirect-gateway def1 ipv6\npersist-tun".to_owned(),
        ..TunnelSpec::default()
    };
    let tunnel = World::new().tunnel(Role::Client, Release::V2_7, &spec);
    let mark = tunnel.client.mark();
    tunnel.lab.set_wire(false).unwrap();
    tunnel.lab.client.ip(&["address", "flush", "dev", "wire"]).unwrap();
    tunnel.client.wait_for_after(mark, "the way to the server is gone", SOON).unwrap();
    tunnel.lab.set_wire(true).unwrap();
    tunnel.lab.client.ip(&["address", "add", "fd99::3/64", "dev", "wire", "nodad"]).unwrap();
    tunnel.client.wait_up_after(mark, SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert_no_panic(&tunnel);
}

/// As above where the machine's default route was replaced: that of the other network comes back at the end.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_default_route_that_was_replaced_is_that_of_the_network_as_it_is_now() {
    let router = NetnsLab::SERVER_V4.to_string();
    let lab = NetnsLab::new().unwrap();
    lab.client.ip(&["route", "add", "default", "via", &router]).unwrap();
    let spec = TunnelSpec {
        server_extra: SLOW.to_owned(),
        client_extra: "redirect-gateway\npersist-tun".to_owned(),
        ..TunnelSpec::default()
    };
    let mut tunnel = World::new().tunnel_in(lab, Role::Client, Release::V2_7, &spec);
    let mark = tunnel.client.mark();
    tunnel.lab.set_wire(false).unwrap();
    tunnel.lab.client.ip(&["address", "flush", "dev", "wire"]).unwrap();
    tunnel.client.wait_for_after(mark, "the way to the server is gone", SOON).unwrap();
    tunnel.lab.set_wire(true).unwrap();
    tunnel.lab.client.add_address(NEXT.into()).unwrap();
    tunnel.lab.client.ip(&["route", "add", "default", "via", &router, "metric", "50"]).unwrap();
    tunnel.client.wait_up_after(mark, SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert!(tunnel.client.stop(SOON).unwrap().success());
    let defaults = tunnel.lab.client.ip(&["route", "show", "default"]).unwrap();
    assert_eq!(
        defaults.trim(),
        format!("default via {router} dev wire metric 50"),
        "{}",
        tunnel.client.tail()
    );
    assert_no_panic(&tunnel);
}

/// The server is behind a router whose route the machine has lost while the client had no session, as it does in a sleep.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_kept_tunnel_does_not_swallow_the_packets_of_the_next_connection() {
    const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    let router = NetnsLab::SERVER_V4.to_string();
    let lab = NetnsLab::new().unwrap();
    lab.server.ip(&["address", "add", &format!("{FAR}/32"), "dev", "lo"]).unwrap();
    lab.client.ip(&["route", "add", "default", "via", &router]).unwrap();
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("calls");
    let script = format!("#!/bin/sh\necho $route_net_gateway >>{}\n", log.display());
    let script = folder.write_script("route-up", &script).unwrap();
    let spec = TunnelSpec {
        remote: Some(SocketAddr::from((FAR, NetnsLab::PORT))),
        server_extra: format!("{SLOW}\nmultihome"),
        client_extra: format!(
            "redirect-gateway def1\npersist-tun\nscript-security 2\nroute-up {}",
            script.display()
        ),
        ..TunnelSpec::default()
    };
    let tunnel = World::new().tunnel_in(lab, Role::Client, Release::V2_7, &spec);
    let mark = tunnel.client.mark();
    tunnel.client.signal(Signal::Restart).unwrap();
    tunnel.client.wait_for_after(mark, "process restarting", SOON).unwrap();
    // The kernel takes all routes by way of the router, also the one to the server that the client had set.
    tunnel.lab.set_wire(false).unwrap();
    tunnel.lab.set_wire(true).unwrap();
    tunnel.lab.client.ip(&["route", "add", "default", "via", &router]).unwrap();
    tunnel.client.wait_for_after(mark, "Preserving previous TUN/TAP instance", SOON).unwrap();
    tunnel.client.wait_up_after(mark, SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    let routes = tunnel.lab.client.ip(&["route", "show", &FAR.to_string()]).unwrap();
    assert!(routes.contains(&router), "{routes}");
    let told = fs::read_to_string(&log).unwrap();
    assert!(
        told.lines().count() > 1 && told.lines().all(|line| line == router),
        "route-up hears of it: {told}"
    );
    assert_no_panic(&tunnel);
}

/// Attempts have failed for so long that the next is far away.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_change_of_the_network_ends_a_long_pause() {
    let site = Site::new();
    let text = format!(
        "{}proto tcp\nnobind\nconnect-retry 0 300\nverb 3\ncd {}\n",
        client_config(),
        site.folder().display()
    );
    let config = site.pki.folder().write("client.conf", &text).unwrap();
    let client = Daemon::start(&site.lab.client, &site.world.subject, "client", &config).unwrap();
    client.wait_for("Restart pause, 8 second(s)", SOON * 2).unwrap();
    // Nothing that packets to the server notice.
    site.lab.client.ip(&["link", "add", "elsewhere", "type", "veth", "peer", "name", "far"]).unwrap();
    client.wait_for("Restart pause, 16 second(s)", SOON * 2).unwrap();
    assert!(!client.has_logged("the pause is over"), "{}", client.tail());
    site.lab.client.remove_address(NetnsLab::CLIENT_V4.into()).unwrap();
    site.lab.client.add_address(NEXT.into()).unwrap();
    client.wait_for("the network changed, or this machine was asleep: the pause is over", SOON).unwrap();
}
