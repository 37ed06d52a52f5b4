//! Tunnels whose packets do not come out of a device of the system.

use std::time::Duration;

use culvert_testkit::{Release, Role, TempDir, Topology, Tunnel, TunnelSpec};

use crate::{SOON, World, assert_no_panic};

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_without_device_renegotiates_counts_silence_and_ends_with_0() {
    let world = World::new();
    let client_extra = "dev null\nreneg-sec 2\ninactive 6\nredirect-gateway def1\n".to_owned();
    let spec = TunnelSpec { client_extra, ..TunnelSpec::default() };
    for release in [Release::V2_6, Release::V2_7] {
        let mut tunnel = world.start(Role::Client, release, &spec);
        tunnel.wait_up().unwrap();
        assert!(tunnel.lab.client.tunnel_devices().unwrap().tun.is_empty());
        let status = tunnel.client.wait_exit(Duration::from_secs(20)).unwrap();
        assert_eq!(status.code(), Some(0), "{}", tunnel.client.tail());
        assert!(tunnel.client.has_logged("Inactivity timeout"), "{}", tunnel.client.tail());
        let handshakes =
            tunnel.client.lines().iter().filter(|line| line.contains("Control Channel: TLS")).count();
        assert!(handshakes >= 2, "{}", tunnel.client.tail());
        assert_no_panic(&tunnel);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn both_of_two_ends_without_device_end_with_0() {
    let world = World::new();
    let extra = "dev null\ninactive 4\n".to_owned();
    let spec = TunnelSpec {
        topology: Topology::PointToPoint,
        server_extra: extra.clone(),
        client_extra: extra,
        ..TunnelSpec::default()
    };
    for role in [Role::Server, Role::Client] {
        let mut tunnel = world.start(role, Release::V2_7, &spec);
        tunnel.wait_up().unwrap();
        for end in [&mut tunnel.server, &mut tunnel.client] {
            let status = end.wait_exit(Duration::from_secs(20)).unwrap();
            assert_eq!(status.code(), Some(0), "{}", end.tail());
            assert!(end.has_logged("SIGTERM[soft,inactive] received"), "{}", end.tail());
        }
    }
}

/// Answers ICMP echo requests, as a host behind the tunnel would.
const ECHO: &str = r#"#!/usr/bin/env python3
import os, socket
s = socket.socket(fileno=int(os.environ["TUNTAP_SOCKET_FD"]))
print("device of type", os.environ["TUNTAP_DEV_TYPE"], "MTU", os.environ["TUNTAP_MTU"], flush=True)
while True:
    p = bytearray(s.recv(65536))
    if len(p) >= 28 and p[0] == 0x45 and p[9] == 1 and p[20] == 8:
        p[12:16], p[16:20] = p[16:20], p[12:16]
        p[20] = 0
        p[22:24] = b"\0\0"
        body = bytes(p[20:]) + b"\0" * (len(p) % 2)
        total = sum(int.from_bytes(body[i:i + 2], "big") for i in range(0, len(body), 2))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        p[22:24] = (~total & 0xFFFF).to_bytes(2, "big")
        s.send(p)
"#;

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_program_is_the_device() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let program = folder.write_script("echo", ECHO).unwrap();
    let node = format!("dev-node unix:{}\n", program.display());
    let with = |security: u8| {
        let client_extra = format!("{node}script-security {security}\n");
        TunnelSpec { client_extra, ..TunnelSpec::default() }
    };
    let mut tunnel = world.start(Role::Client, Release::V2_6, &with(2));
    tunnel.wait_up().unwrap();
    tunnel.client.wait_for("device of type tun MTU 1500", SOON).unwrap();
    assert!(tunnel.lab.client.tunnel_devices().unwrap().tun.is_empty());
    let address = TunnelSpec::CLIENT_V4.to_string();
    tunnel.lab.server.run("ping", &["-c", "3", "-i", "0.2", "-s", "1400", "-W", "5", &address]).unwrap();

    tunnel.client.signal(culvert_testkit::Signal::Terminate).unwrap();
    assert_eq!(tunnel.client.wait_exit(SOON).unwrap().code(), Some(0), "{}", tunnel.client.tail());
    assert_no_panic(&tunnel);
    drop(tunnel);

    let mut forbidden = world.start(Role::Client, Release::V2_6, &with(1));
    forbidden.client.wait_for("External program may not be called", SOON).unwrap();
    assert_eq!(forbidden.client.wait_exit(SOON).unwrap().code(), Some(1));
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn with_up_delay_an_end_that_waits_has_no_tunnel_before_its_peer() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let text = "#!/bin/sh\ntouch \"${0%/*}/is-up\"\n";
    let script = folder.write_script("up", text).unwrap();
    let spec = TunnelSpec {
        topology: Topology::PointToPoint,
        server_extra: format!("up-delay\nscript-security 2\nup {}\nuser nobody", script.display()),
        ..TunnelSpec::default()
    };
    let (server, client) = world.ends(Role::Server, Release::V2_6);
    let mut tunnel = Tunnel::start_up(&spec, &server, &client, &world.materials).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    tunnel.client.stop(SOON).unwrap();
    tunnel.server.stop(SOON).unwrap();
    let is_up = folder.path().join("is-up");
    std::fs::remove_file(&is_up).unwrap();

    tunnel.restart(Role::Server).unwrap();
    tunnel.server.wait_for("link remote", SOON).unwrap();
    // Asks the process something, so that it has come to wait.
    tunnel.server.signal(culvert_testkit::Signal::Statistics).unwrap();
    tunnel.server.wait_for("END", SOON).unwrap();
    let addresses = tunnel.lab.server.ip(&["-4", "address"]).unwrap();
    assert!(!is_up.exists() && !addresses.contains(&TunnelSpec::SERVER_V4.to_string()), "{addresses}");

    tunnel.restart(Role::Client).unwrap();
    tunnel.wait_up().unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert!(is_up.exists());
    assert_no_panic(&tunnel);
}
