//! What a server decides about its clients: addresses, limits, files and scripts for single ones.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use culvert_testkit::{
    Algorithm, Daemon, Login, Namespace, NetnsLab, Release, Role, TempDir, Tunnel, TunnelSpec, eventually,
    traffic,
};

use crate::{SOON, World};

/// Time in which a client that is refused would long have come up.
const REFUSAL: Duration = Duration::from_secs(15);

/// A client that was told to come back in 30 s is up again.
const COME_BACK: Duration = Duration::from_secs(60);

/// A second client beside that of a tunnel.
pub(super) struct Second {
    pub(super) daemon: Daemon,
    pub(super) namespace: Namespace,
}

impl Second {
    /// The address that a server gives to its second client.
    pub(super) const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 8, 0, 3));

    /// Starts a client with a certificate of its own (`CN=second`).
    pub(super) fn start(world: &World, tunnel: &Tunnel) -> Self {
        let pki = &world.materials.certificates(Algorithm::Ec).pki;
        let own = pki.another_client("second").unwrap();
        Self::start_with(tunnel, &format!("cert {}\nkey {}", own.cert.display(), own.key.display()))
    }

    /// The same, giving up after one attempt of a few seconds.
    pub(super) fn start_impatient(world: &World, tunnel: &Tunnel) -> Self {
        let pki = &world.materials.certificates(Algorithm::Ec).pki;
        let own = pki.another_client("second").unwrap();
        let patience = "hand-window 5\nconnect-retry-max 1\nserver-poll-timeout 5";
        let (cert, key) = (own.cert.display(), own.key.display());
        Self::start_with(tunnel, &format!("{patience}\ncert {cert}\nkey {key}"))
    }

    pub(super) fn start_with(tunnel: &Tunnel, extra: &str) -> Self {
        let (namespace, server) = tunnel.lab.add_client(2).unwrap();
        let daemon = tunnel.start_another_client(2, (&namespace, server), extra).unwrap();
        Self { daemon, namespace }
    }

    pub(super) fn carries(&self, tunnel: &Tunnel, own: IpAddr) {
        let server = (&tunnel.lab.server, TunnelSpec::SERVER_V4);
        let proof = traffic::echo((&self.namespace, own), server, SOON);
        proof.map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    }
}

pub(super) fn server_with(extra: impl Into<String>) -> (World, Tunnel) {
    let world = World::new();
    let spec = TunnelSpec { server_extra: extra.into(), ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    (world, tunnel)
}

fn assert_refused(client: &Daemon, because: &str) {
    client.wait_for(because, REFUSAL).unwrap();
    assert!(!client.has_logged("Initialization Sequence Completed"), "{}", client.tail());
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn two_clients_have_addresses_of_their_own() {
    let (world, tunnel) = server_with("");
    let second = Second::start(&world, &tunnel);
    second.daemon.wait_up(SOON).unwrap();
    second.carries(&tunnel, Second::V4);
    tunnel.wait_traffic(SOON).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn clients_reach_each_other_with_client_to_client() {
    let (world, tunnel) = server_with("client-to-client");
    let second = Second::start(&world, &tunnel);
    second.daemon.wait_up(SOON).unwrap();
    let first = (&tunnel.lab.client, TunnelSpec::CLIENT_V4);
    let proof = traffic::echo((&second.namespace, Second::V4), first, SOON);
    proof.map_err(|failure| tunnel.with_logs(&failure)).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_second_client_of_the_same_name_takes_the_first_one_s_place() {
    let (_world, tunnel) = server_with("");
    let second = Second::start_with(&tunnel, "");
    second.daemon.wait_up(SOON).unwrap();
    second.carries(&tunnel, TunnelSpec::CLIENT_V4);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn clients_of_the_same_name_live_side_by_side_with_duplicate_cn() {
    let (_world, tunnel) = server_with("duplicate-cn");
    let second = Second::start_with(&tunnel, "");
    second.daemon.wait_up(SOON).unwrap();
    second.carries(&tunnel, Second::V4);
    tunnel.wait_traffic(SOON).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn no_more_than_max_clients_are_let_in() {
    let (world, tunnel) = server_with("max-clients 1");
    let second = Second::start_impatient(&world, &tunnel);
    second.daemon.wait_for("unsuccessful, exiting", REFUSAL * 2).unwrap();
    assert!(!second.daemon.has_logged("Initialization Sequence Completed"), "{}", second.daemon.tail());
    tunnel.wait_traffic(SOON).unwrap();
}

/// A client behind the address of another one gets as far as its login, since it may be the same that comes back.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_full_server_tells_clients_to_come_back_and_lets_them_in_then() {
    let spec = TunnelSpec {
        server_extra: "max-clients 1\nduplicate-cn".to_owned(),
        client_extra: "explicit-exit-notify 1".to_owned(),
        ..TunnelSpec::default()
    };
    let temporary = "AUTH_FAILED,TEMP[backoff 30,advance no]:the server is full";
    for (release, told, restarts) in [
        (Release::V2_6, temporary, "SIGUSR1[soft,auth-temp-failure"),
        (
            Release::V2_5,
            "Connection reset command was pushed by server",
            "SIGUSR1[soft,server-pushed-connection-reset",
        ),
    ] {
        let mut tunnel = World::new().tunnel(Role::Server, release, &spec);
        let second = tunnel.start_another_client(2, (&tunnel.lab.client, NetnsLab::SERVER_V4), "").unwrap();
        second.wait_for(told, SOON).unwrap();
        second.wait_for(restarts, SOON).unwrap();
        tunnel.wait_traffic(SOON).unwrap();
        tunnel.client.stop(SOON).unwrap();
        // In half a minute, or the client's own time: it takes the place either way.
        second.wait_up(COME_BACK).unwrap();
    }
}

fn ccd(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        folder.write(name, text).unwrap();
    }
    folder
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_s_own_file_gives_it_an_address_and_routes() {
    let folder =
        ccd(&[("second", "ifconfig-push 10.8.0.77 255.255.255.0\npush \"route 192.0.2.0 255.255.255.0\"\n")]);
    let (world, tunnel) = server_with(format!("client-config-dir {}", folder.path().display()));
    let second = Second::start(&world, &tunnel);
    second.daemon.wait_up(SOON).unwrap();
    second.carries(&tunnel, IpAddr::V4(Ipv4Addr::new(10, 8, 0, 77)));
    let routes = second.namespace.ip(&["route", "show"]).unwrap();
    assert!(routes.contains("192.0.2.0/24 via 10.8.0.1"), "{routes}");
    tunnel.wait_traffic(SOON).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_network_behind_a_client_is_reached_by_iroute() {
    let folder = ccd(&[("client", "iroute 198.51.100.0 255.255.255.0\n")]);
    let extra = format!("client-config-dir {}\nroute 198.51.100.0 255.255.255.0", folder.path().display());
    let (_world, tunnel) = server_with(extra);
    let behind = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
    tunnel.lab.client.ip(&["address", "add", &format!("{behind}/24"), "dev", "lo"]).unwrap();
    let server = (&tunnel.lab.server, TunnelSpec::SERVER_V4);
    let proof = traffic::echo(server, (&tunnel.lab.client, behind), SOON);
    proof.map_err(|failure| tunnel.with_logs(&failure)).unwrap();
}

/// The first client has the pool's first address when the second comes, whose own file says it.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_fixed_address_is_its_client_s_also_where_another_has_it_from_the_pool() {
    let folder = ccd(&[("second", "ifconfig-push 10.8.0.2 255.255.255.0\n")]);
    let (world, tunnel) = server_with(format!("client-config-dir {}", folder.path().display()));
    let mark = tunnel.client.mark();
    let second = Second::start(&world, &tunnel);
    second.daemon.wait_up(SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    second.carries(&tunnel, TunnelSpec::CLIENT_V4);
    tunnel.client.wait_up_after(mark, COME_BACK).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    // The pool's second address is the second client's, which does not use it.
    let first = (&tunnel.lab.client, IpAddr::V4(Ipv4Addr::new(10, 8, 0, 4)));
    let server = (&tunnel.lab.server, TunnelSpec::SERVER_V4);
    traffic::echo(first, server, SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    second.carries(&tunnel, TunnelSpec::CLIENT_V4);
}

/// Two routers of one site: the one that came last has the network, and the other stays.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_network_behind_two_clients_is_reached_through_the_later_one() {
    let folder = ccd(&[("DEFAULT", "iroute 198.51.100.0 255.255.255.0\n")]);
    let heard = folder.path().join("heard");
    let text = format!("#!/bin/sh\necho \"$*\" >>{}\n", heard.display());
    let script = folder.write_script("learn", &text).unwrap().display().to_string();
    let extra = format!(
        "client-config-dir {}\nroute 198.51.100.0 255.255.255.0\nscript-security 2\nlearn-address {script}",
        folder.path().display()
    );
    let (world, tunnel) = server_with(extra);
    let second = Second::start(&world, &tunnel);
    second.daemon.wait_up(SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    let behind = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
    second.namespace.ip(&["address", "add", &format!("{behind}/24"), "dev", "lo"]).unwrap();
    let server = (&tunnel.lab.server, TunnelSpec::SERVER_V4);
    let proof = traffic::echo(server, (&second.namespace, behind), SOON);
    proof.map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    let heard = fs::read_to_string(heard).unwrap();
    assert!(heard.contains("add 198.51.100.0/24 client\n"), "{heard}");
    assert!(heard.contains("update 198.51.100.0/24 second\n"), "{heard}");
    assert!(!heard.contains("delete"), "{heard}");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_without_a_file_is_refused_with_ccd_exclusive() {
    let folder = ccd(&[("client", "")]);
    let extra = format!("client-config-dir {}\nccd-exclusive", folder.path().display());
    let (world, tunnel) = server_with(extra);
    let second = Second::start(&world, &tunnel);
    assert_refused(&second.daemon, "AUTH_FAILED");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_disabled_client_is_refused() {
    let folder = ccd(&[("second", "disable\n")]);
    let (world, tunnel) = server_with(format!("client-config-dir {}", folder.path().display()));
    let second = Second::start(&world, &tunnel);
    assert_refused(&second.daemon, "AUTH_FAILED");
}

/// A script that notes its type, arguments and some variables.
fn noting_script(folder: &TempDir, log: &Path) -> String {
    let variables = "$common_name $username $trusted_ip $ifconfig_pool_remote_ip $tls_id_0 $untrusted_ip";
    let text = format!("#!/bin/sh\necho \"$script_type $# {variables}\" >>{}\n", log.display());
    folder.write_script("note", &text).unwrap().display().to_string()
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_hooks_of_a_client_s_life_run_in_order_with_their_environment() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("calls");
    let script = noting_script(&folder, &log);
    let spec = TunnelSpec {
        login: Login::Both,
        server_extra: format!("tls-verify {script}\nclient-connect {script}\nclient-disconnect {script}"),
        client_extra: "explicit-exit-notify 1".to_owned(),
        ..TunnelSpec::default()
    };
    let mut tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    tunnel.client.stop(SOON).unwrap();
    eventually(SOON * 2, || {
        let calls = fs::read_to_string(&log).unwrap_or_default();
        if calls.contains("client-disconnect") {
            Ok(())
        } else {
            Err(format!("{calls}{}", tunnel.server.tail()))
        }
    });
    let calls = fs::read_to_string(&log).unwrap();
    let seen: Vec<Vec<&str>> = calls.lines().map(|line| line.split_whitespace().collect()).collect();
    let types: Vec<&str> = seen.iter().map(|words| words[0]).collect();
    assert_eq!(types, ["tls-verify", "tls-verify", "client-connect", "client-disconnect"], "{calls}");
    assert_eq!(seen[0][1], "2", "depth and subject: {calls}");
    assert_eq!(seen[2][1], "1", "the file for the client's settings: {calls}");
    for expected in ["client", "alice", "10.99.0.2", "10.8.0.2", "CN=client"] {
        assert!(seen[2].contains(&expected), "client-connect has no {expected}: {calls}");
    }
    assert_eq!(seen[3][1], "0", "{calls}");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_goes_on_to_the_next_remote_when_the_first_does_not_answer() {
    let world = World::new();
    let spec = TunnelSpec {
        remote: Some(([10, 99, 0, 1], 4444).into()),
        client_extra: "remote 10.99.0.1 1194\nserver-poll-timeout 3".to_owned(),
        ..TunnelSpec::default()
    };
    let tunnel = world.start(Role::Client, Release::V2_6, &spec);
    tunnel.wait_up().unwrap();
    tunnel.wait_traffic(SOON).unwrap();
}
