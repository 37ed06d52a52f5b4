//! What a tunnel changes on its machine, and that nothing of it stays.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
};

use culvert_testkit::{Inner, Namespace, NetnsLab, Release, Role, Signal, TunnelSpec};

use crate::{SOON, World};

/// Everything that a tunnel may touch in a namespace, as text.
fn picture(namespace: &Namespace) -> String {
    let commands: [&[&str]; 4] = [
        &["-br", "link", "show"],
        &["-o", "address", "show"],
        &["route", "show", "table", "all"],
        &["-6", "route", "show", "table", "all"],
    ];
    commands.iter().map(|arguments| namespace.ip(arguments).unwrap()).collect::<Vec<_>>().join("\n")
}

/// Pushes all kinds of routes, the default gateway among them.
fn invasive() -> TunnelSpec {
    TunnelSpec {
        inner: Inner::V4AndV6,
        server_extra: [
            "push \"redirect-gateway def1 ipv6\"",
            "push \"route 192.0.2.0 255.255.255.0\"",
            "push \"route-ipv6 2001:db8:66::/48\"",
            "push \"dhcp-option DNS 10.8.0.1\"",
        ]
        .join("\n"),
        ..TunnelSpec::default()
    }
}

/// A network in which the client has a default gateway to redirect.
fn lab_with_gateway() -> NetnsLab {
    let lab = NetnsLab::new().unwrap();
    lab.client.ip(&["route", "add", "default", "via", &NetnsLab::SERVER_V4.to_string()]).unwrap();
    lab.client.ip(&["-6", "route", "add", "default", "via", &NetnsLab::SERVER_V6.to_string()]).unwrap();
    lab
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_sets_the_pushed_routes_and_takes_all_of_them_back() {
    let lab = lab_with_gateway();
    let before = picture(&lab.client);
    let mut tunnel = World::new().tunnel_in(lab, Role::Client, Release::V2_6, &invasive());
    let during = picture(&tunnel.lab.client);
    for route in ["0.0.0.0/1", "128.0.0.0/1", "\n10.99.0.1 ", "192.0.2.0/24", "2001:db8:66::/48", "2000::/4"]
    {
        assert!(during.contains(route), "no {route} in\n{during}");
    }
    let status = tunnel.client.stop(SOON).unwrap();
    assert_eq!(status.code(), Some(0), "{}", tunnel.client.tail());
    assert_eq!(picture(&tunnel.lab.client), before);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_killed_client_that_starts_again_leaves_nothing_behind_either() {
    let lab = lab_with_gateway();
    let before = picture(&lab.client);
    let mut tunnel = World::new().tunnel_in(lab, Role::Client, Release::V2_6, &invasive());
    tunnel.client.signal(Signal::Kill).unwrap();
    tunnel.client.wait_exit(SOON).unwrap();
    tunnel.restart(Role::Client).unwrap();
    tunnel.client.wait_up(SOON).unwrap();
    tunnel.client.stop(SOON).unwrap();
    assert_eq!(picture(&tunnel.lab.client), before);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_leaves_nothing_behind() {
    let lab = NetnsLab::new().unwrap();
    let before = picture(&lab.server);
    let mut tunnel = World::new().tunnel_in(lab, Role::Server, Release::V2_6, &invasive());
    let status = tunnel.server.stop(SOON).unwrap();
    assert_eq!(status.code(), Some(0), "{}", tunnel.server.tail());
    assert_eq!(picture(&tunnel.lab.server), before);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn scripts_run_in_order_with_openvpn_s_arguments() {
    let folder = culvert_testkit::TempDir::new().unwrap();
    let log = folder.path().join("calls");
    let script = folder
        .write_script("note", &format!("#!/bin/sh\necho \"$script_type $*\" >>{}\n", log.display()))
        .unwrap();
    let hooks = ["up", "route-up", "route-pre-down", "down"];
    let client_extra = hooks.iter().map(|hook| format!("{hook} {}\n", script.display())).collect::<String>();
    let client_extra = format!("script-security 2\n{client_extra}");
    let spec = TunnelSpec { client_extra, ..TunnelSpec::default() };
    let mut tunnel = World::new().tunnel(Role::Client, Release::V2_6, &spec);
    tunnel.client.stop(SOON).unwrap();
    let calls = fs::read_to_string(&log).unwrap();
    assert_eq!(
        calls.lines().collect::<Vec<_>>(),
        [
            "up tun0 1500 0 10.8.0.2 255.255.255.0 init",
            "route-up ",
            "route-pre-down tun0 1500 0 10.8.0.2 255.255.255.0 init",
            "down tun0 1500 0 10.8.0.2 255.255.255.0 init",
        ]
    );
}

/// Then no route to the server is needed, whatever leads into the tunnel.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_transport_that_is_bound_to_a_device_is_not_taken_for_swallowed_by_the_tunnel() {
    let far = Ipv4Addr::new(10, 77, 0, 1);
    let lab = lab_with_gateway();
    lab.server.ip(&["address", "add", &format!("{far}/32"), "dev", "lo"]).unwrap();
    let spec = TunnelSpec {
        remote: Some(SocketAddr::from((far, NetnsLab::PORT))),
        server_extra: "multihome".to_owned(),
        client_extra: "bind-dev wire\nredirect-gateway local def1".to_owned(),
        ..TunnelSpec::default()
    };
    let tunnel = World::new().tunnel_in(lab, Role::Client, Release::V2_7, &spec);
    assert!(!tunnel.client.has_logged("ecursive routing"), "{}", tunnel.client.tail());
    assert!(!tunnel.client.has_logged("Completed With Errors"), "{}", tunnel.client.tail());
}
