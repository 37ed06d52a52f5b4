//! Tunnels whose packets do not come out of a device of the system.

use std::{path::Path, process::Command, time::Duration};

use culvert_testkit::{
    Daemon, Inner, Release, Role, Signal, TempDir, Topology, Tunnel, TunnelSpec, eventually,
};

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

/// Configures itself by what it is told, as a host behind the tunnel: answers ICMP echo requests to its own address only.
const ECHO: &str = r#"#!/usr/bin/env python3
import os, socket
told = os.environ.get
s = socket.socket(fileno=int(told("TUNTAP_SOCKET_FD")))
own = socket.inet_aton(told("ifconfig_local"))
print("device", os.getpid(), "of type", told("TUNTAP_DEV_TYPE"), "MTU", told("TUNTAP_MTU"),
      "has", told("ifconfig_local"), told("ifconfig_netmask"), "by", told("ifconfig_gateway"),
      "and", told("ifconfig_ipv6_local"), "hears of", told("route_network_1"), told("common_name"), flush=True)
while True:
    p = bytearray(s.recv(65536))
    if len(p) >= 28 and p[0] == 0x45 and p[9] == 1 and p[20] == 8 and p[16:20] == own:
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

/// The ids of the programs that were devices so far, in order.
fn programs(daemon: &Daemon) -> Vec<u32> {
    let lines = daemon.lines_with("device ");
    lines.iter().filter_map(|line| line.split("device ").nth(1)?.split(' ').next()?.parse().ok()).collect()
}

/// Waits for a further program, which answers at the client's address; returns its id.
fn answers(tunnel: &Tunnel, count: usize) -> u32 {
    let address = TunnelSpec::CLIENT_V4.to_string();
    let ping = || {
        let started = programs(&tunnel.client);
        if started.len() < count {
            return Err(tunnel.client.tail());
        }
        let pinged = tunnel.lab.server.run("ping", &["-c", "1", "-s", "1300", "-W", "1", &address]);
        pinged.map(drop).map_err(|failure| failure.to_string())
    };
    eventually(SOON * 2, ping);
    programs(&tunnel.client)[count - 1]
}

fn is_there(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_program_is_the_device_and_starts_with_what_the_server_pushed() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let program = folder.write_script("echo", ECHO).unwrap();
    // `dev` does not matter, and the device does not persist: every connection may bring other addresses.
    let client_extra =
        format!("dev null\ndev-node unix:{}\nscript-security 2\npersist-tun\n", program.display());
    let server_extra = "push \"route 10.77.0.0 255.255.0.0\"\ntun-mtu 1400".to_owned();
    let spec = TunnelSpec { inner: Inner::V4AndV6, client_extra, server_extra, ..TunnelSpec::default() };
    let mut tunnel = world.start(Role::Client, Release::V2_7, &spec);
    tunnel.wait_up().unwrap();
    let first = answers(&tunnel, 1);
    let told =
        "of type tun MTU 1400 has 10.8.0.2 255.255.255.0 by 10.8.0.1 and fd00:8::1000 hears of 10.77.0.0";
    assert!(tunnel.client.has_logged(told), "{}", tunnel.client.tail());
    assert!(tunnel.lab.client.tunnel_devices().unwrap().tun.is_empty());

    tunnel.client.signal(Signal::Restart).unwrap();
    let second = answers(&tunnel, 2);
    assert!(!is_there(first), "the one before was told to end");

    Command::new("kill").args(["-9", &second.to_string()]).status().unwrap();
    let third = answers(&tunnel, 3);
    assert!(tunnel.client.has_logged("external program received signal 9"), "{}", tunnel.client.tail());

    tunnel.client.signal(Signal::Terminate).unwrap();
    assert_eq!(tunnel.client.wait_exit(SOON).unwrap().code(), Some(0), "{}", tunnel.client.tail());
    eventually(SOON, || if is_there(third) { Err("it is still there".to_owned()) } else { Ok(()) });
    assert_eq!(tunnel.client.lines_with("external program").len(), 1, "{}", tunnel.client.tail());
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_has_a_program_as_its_device() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let program = folder.write_script("echo", ECHO).unwrap();
    let server_extra = format!("dev null\ndev-node unix:{}\nscript-security 2\n", program.display());
    let mut tunnel =
        world.start(Role::Server, Release::V2_6, &TunnelSpec { server_extra, ..TunnelSpec::default() });
    tunnel.wait_up().unwrap();
    let address = TunnelSpec::SERVER_V4.to_string();
    let ping = || tunnel.lab.client.run("ping", &["-c", "1", "-W", "1", &address]);
    eventually(SOON, || ping().map(drop).map_err(|failure| failure.to_string()));
    assert!(tunnel.server.has_logged("has 10.8.0.1 255.255.255.0"), "{}", tunnel.server.tail());
    tunnel.server.signal(Signal::Terminate).unwrap();
    assert_eq!(tunnel.server.wait_exit(SOON).unwrap().code(), Some(0), "{}", tunnel.server.tail());
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_whose_device_ends_at_once_rests_before_it_starts_the_next_one() {
    let server_extra = "dev null\ndev-node unix:/bin/false\nscript-security 2\n".to_owned();
    let spec = TunnelSpec { server_extra, ..TunnelSpec::default() };
    let mut tunnel = World::new().start(Role::Server, Release::V2_6, &spec);
    tunnel.server.wait_for("Restart pause, 4 second(s)", SOON).unwrap();
    assert_eq!(tunnel.server.lines_with("the tunnel device is gone").len(), 3, "{}", tunnel.server.tail());
    tunnel.server.signal(Signal::Terminate).unwrap();
    assert_eq!(tunnel.server.wait_exit(SOON).unwrap().code(), Some(0), "{}", tunnel.server.tail());
    assert!(!tunnel.server.has_logged("Restart pause, 8"), "{}", tunnel.server.tail());
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_program_is_no_device_where_scripts_are_forbidden() {
    let world = World::new();
    let client_extra = "dev-node unix:/bin/true\nscript-security 1\n".to_owned();
    let spec = TunnelSpec { client_extra, ..TunnelSpec::default() };
    let mut forbidden = world.start(Role::Client, Release::V2_6, &spec);
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

/// What `up` and `down` of a client see: each line a call, with whether the device is there.
const SEEN: &str = "#!/bin/sh\n\
    [ -e /sys/class/net/$dev ] && there=there || there=gone\n\
    echo \"seen: $script_type $script_context $signal $there\"\n";

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn scripts_see_a_restart_and_the_end_as_those_of_2_7_do() {
    let world = World::new();
    for (extra, expected) in [
        ("", ["up init  there", "down init sigusr1 gone", "down init sigterm gone"]),
        ("down-pre", ["up init  there", "down init sigusr1 there", "down init sigterm there"]),
        (
            "persist-tun\nup-restart",
            ["up init  there", "down restart sigusr1 there", "down init sigterm gone"],
        ),
    ] {
        // The reference first.
        for role in [Role::Server, Role::Client] {
            let folder = TempDir::new().unwrap();
            let script = folder.write_script("seen", SEEN).unwrap().display().to_string();
            let client_extra = format!("script-security 2\nup {script}\ndown {script}\n{extra}\n");
            let spec = TunnelSpec { client_extra, ..TunnelSpec::default() };
            let mut tunnel = world.start(role, Release::V2_7, &spec);
            tunnel.wait_up().unwrap();
            let mark = tunnel.client.mark();
            tunnel.client.signal(Signal::Restart).unwrap();
            tunnel.client.wait_up_after(mark, SOON * 2).unwrap();
            tunnel.client.signal(Signal::Terminate).unwrap();
            tunnel.client.wait_exit(SOON).unwrap();
            let lines = tunnel.client.lines_with("seen: ");
            let seen = lines.iter().filter_map(|line| line.split("seen: ").nth(1));
            // What `up` is told of the end before is nobody's business: 2.7 forgets it only at times.
            let seen: Vec<_> = seen
                .enumerate()
                .filter(|(at, line)| *at == 0 || line.starts_with("down"))
                .map(|(_, line)| line)
                .collect();
            assert_eq!(seen, expected, "{role:?} {extra}");
        }
    }
}
