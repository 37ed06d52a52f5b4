//! The module's packets among the machine's routes, rules and limits.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use culvert_offload::{
    PeerSpec, TransportSpec, UdpOptions,
    conformance::{
        Lab as _, PATIENCE,
        server::{packet, packet_between, packet_of, server, server_over},
        udp_at,
    },
};

use crate::lab::{KernelLab, run};

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn packets_that_need_outer_fragments_go_both_ways() {
    for local in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let lab = KernelLab::new();
        run("ip", &["link", "set", "lo", "mtu", "1280"]);
        let server = server_over(&lab, udp_at(local));
        let (wire, mut key) = server.add(2, |spec| spec);
        for len in [1200, 1300, 1500] {
            wire.send(&mut key, &packet_of(2, 1, len));
            server.expect(&packet_of(2, 1, len));
            server.tunnel.send(&packet_of(1, 2, len));
            assert_eq!(wire.receive(&key), packet_of(1, 2, len));
        }
    }
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_network_behind_a_peer_needs_a_route_of_the_machine() {
    let lab = KernelLab::new();
    let network = ([192, 168, 7, 0].into(), 24);
    let server = server(&lab);
    let (wire, mut key) = server.add(2, |spec| PeerSpec { iroutes: vec![network], ..spec });
    let inner = |mark: u8| packet_between([192, 168, 7, 9], [10, 8, 0, 1], &[mark; 4]);
    wire.send(&mut key, &inner(1));
    wire.send(&mut key, &packet(2, 1, 2));
    server.expect(&packet(2, 1, 2));
    lab.route(network, [10, 8, 0, 2].into());
    wire.send(&mut key, &inner(3));
    server.expect(&inner(3));
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_rule_about_the_mark_of_the_socket_holds_for_its_data_too() {
    let lab = KernelLab::new();
    let options = UdpOptions { mark: Some(7), ..UdpOptions::default() };
    let local = (Ipv4Addr::LOCALHOST, 0).into();
    let server = server_over(&lab, TransportSpec::BindUdp { local, remote: None, options });
    let (wire, key) = server.add(2, |spec| spec);
    run("nft", &["add table inet held"]);
    run("nft", &["add chain inet held out { type filter hook output priority 0; }"]);
    run("nft", &["add rule inet held out meta mark 7 counter drop"]);
    server.tunnel.send(&packet(1, 2, 1));
    let deadline = Instant::now() + PATIENCE;
    while !run("nft", &["list table inet held"]).contains("packets 1 ") {
        assert!(Instant::now() < deadline, "the packet never came to the rule");
    }
    wire.expect_nothing();
    run("nft", &["delete table inet held"]);
    server.tunnel.send(&packet(1, 2, 2));
    assert_eq!(wire.receive(&key), packet(1, 2, 2));
}
