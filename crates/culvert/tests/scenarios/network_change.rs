//! Clients whose network changes below them. Keepalive is slow here: what is noticed, is noticed by the change.

use std::net::Ipv4Addr;

use culvert_testkit::{NetnsLab, Release, Role, Transport, Tunnel, TunnelSpec};

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
