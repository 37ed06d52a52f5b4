//! The calling end of a tunnel without `pull`, as OpenVPN 2.7: addresses, routes and `up` come before the peer is called, unless
//! an option says otherwise.

use std::{fs, os::unix::fs::PermissionsExt};

use culvert_testkit::{
    Daemon, Implementation, NetnsLab, Release, Role, Signal, TempDir, Topology, TunnelSpec,
};

use crate::{SOON, World};

/// Tells of each call, and how the machine looks at that moment.
const SEEN: &str = r#"#!/bin/sh
ip -4 address show dev "$dev" 2>/dev/null | grep -q 10.8.0.2 && device=addressed || device=bare
ip -4 route | grep -q 10.20.0.0 && routes=routed || routes=unrouted
case $script_type in
    down) why=" $script_context $signal" ;;
    up) why=" $script_context" ;;
esac
echo "seen: $(id -un) $script_type$why $device $routes"
"#;

/// What the log tells in order: calls of scripts, that the peer is called, that the tunnel is up.
fn story(client: &Daemon) -> Vec<String> {
    let tell = |line: String| match line.split_once("seen: ") {
        Some((_, seen)) => Some(seen.to_owned()),
        None if line.contains("link remote: ") => Some("CALLING".to_owned()),
        None => line.contains("Initialization Sequence Completed").then(|| "COMPLETED".to_owned()),
    };
    client.lines().into_iter().filter_map(tell).collect()
}

/// A client starts without its peer, which comes, dies and comes again.
fn run(world: &World, client: &Implementation, lines: &str) -> Vec<String> {
    let (lab, folder) = (NetnsLab::new().unwrap(), TempDir::new().unwrap());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder.write_script("seen", SEEN).unwrap();
    // By name alone: it lies where the program is.
    let hooks: String = ["up", "route-up", "route-pre-down", "down", "ipchange"]
        .map(|option| format!("{option} seen\n"))
        .concat();
    let spec = TunnelSpec {
        topology: Topology::PointToPoint,
        client_extra: format!(
            "cd {}\nscript-security 2\nroute 10.20.0.0 255.255.0.0\n{hooks}{lines}",
            folder.path().display()
        ),
        ..TunnelSpec::default()
    };
    let start = |role, namespace, implementation: &Implementation, name: &str| {
        let text = spec.config(role, implementation, &world.materials, &folder).unwrap();
        let config = folder.write(&format!("{name}.conf"), &text).unwrap();
        Daemon::start(namespace, implementation, name, &config).unwrap()
    };
    let peer = world.peers.get(Release::V2_7).unwrap();
    let mut client = start(Role::Client, &lab.client, client, "client");
    client.wait_for("link remote: ", SOON).unwrap();
    let mut server = start(Role::Server, &lab.server, &peer, "server");
    client.wait_up(SOON).unwrap();
    server.kill();
    let mark = client.mark();
    client.signal(Signal::Restart).unwrap();
    client.wait_for_after(mark, "link remote: ", SOON).unwrap();
    server = start(Role::Server, &lab.server, &peer, "server");
    client.wait_up_after(mark, SOON).unwrap();
    client.signal(Signal::Terminate).unwrap();
    client.wait_exit(SOON).unwrap();
    server.kill();
    story(&client)
}

fn check(lines: &str, expected: &[&str]) {
    let world = World::new();
    // The reference first.
    for client in [world.peers.get(Release::V2_7).unwrap(), world.subject.clone()] {
        assert_eq!(run(&world, &client, lines), expected, "{client}");
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_tunnel_without_pull_stands_before_its_peer_is_called() {
    check(
        "",
        &[
            "root up init addressed unrouted",
            "root route-up addressed routed",
            "CALLING",
            "root ipchange addressed routed",
            "COMPLETED",
            "root route-pre-down addressed routed",
            "root down init sigusr1 bare unrouted",
            "root up init addressed unrouted",
            "root route-up addressed routed",
            "CALLING",
            "root ipchange addressed routed",
            "COMPLETED",
            "root route-pre-down addressed routed",
            "root down init sigterm bare unrouted",
        ],
    );
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_tunnel_that_persists_hears_of_a_restart_before_its_peer_is_called_again() {
    check(
        "persist-tun\nup-restart\nuser nobody\n",
        &[
            "root up init addressed unrouted",
            "root route-up addressed routed",
            "CALLING",
            "nobody ipchange addressed routed",
            "COMPLETED",
            "nobody down restart sigusr1 addressed routed",
            "nobody up restart addressed routed",
            "CALLING",
            "nobody ipchange addressed routed",
            "COMPLETED",
            "nobody route-pre-down addressed routed",
            "nobody down init sigterm bare unrouted",
        ],
    );
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn with_route_delay_the_routes_alone_wait_for_the_peer() {
    check(
        "route-delay 1\n",
        &[
            "root up init addressed unrouted",
            "CALLING",
            "root ipchange addressed unrouted",
            "root route-up addressed routed",
            "COMPLETED",
            "root route-pre-down addressed routed",
            "root down init sigusr1 bare unrouted",
            "root up init addressed unrouted",
            "CALLING",
            "root ipchange addressed unrouted",
            "root route-up addressed routed",
            "COMPLETED",
            "root route-pre-down addressed routed",
            "root down init sigterm bare unrouted",
        ],
    );
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn with_up_delay_the_whole_tunnel_waits_for_the_peer() {
    check(
        "up-delay\n",
        &[
            "CALLING",
            "root ipchange bare unrouted",
            "root up init addressed unrouted",
            "root route-up addressed routed",
            "COMPLETED",
            "root route-pre-down addressed routed",
            "root down init sigusr1 bare unrouted",
            "CALLING",
            "root ipchange bare unrouted",
            "root up init addressed unrouted",
            "root route-up addressed routed",
            "COMPLETED",
            "root route-pre-down addressed routed",
            "root down init sigterm bare unrouted",
        ],
    );
}
