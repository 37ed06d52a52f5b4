//! Options of a server that single clients notice: limits on who comes, addresses and topologies, files and lists.
//!
//! Clients are those of OpenVPN 2.6, and of 2.7 where it differs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use culvert_testkit::{
    Login, NetnsLab, Release, Role, Signal, TempDir, Transport, Tunnel, TunnelSpec, eventually, traffic,
};

use crate::policy::{Second, server_with};
use crate::{SOON, World, assert_no_panic};

/// A folder of files for single clients.
fn files(texts: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in texts {
        folder.write(name, text).unwrap();
    }
    folder
}

fn routes(tunnel: &Tunnel) -> String {
    tunnel.lab.client.ip(&["route"]).unwrap()
}

fn echo(tunnel: &Tunnel, server: IpAddr, client: IpAddr) {
    let (server, client) = ((&tunnel.lab.server, server), (&tunnel.lab.client, client));
    let proof = traffic::echo(client, server, SOON);
    proof.map_err(|failure| tunnel.with_logs(&failure)).unwrap();
}

const fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 8, 0, last))
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn connect_freq_bounds_new_sessions() {
    let (world, tunnel) = server_with("connect-freq 1 15");
    // The first client took the one of this window; the second one gets in with the next.
    let second = Second::start(&world, &tunnel);
    second.daemon.wait_for("UDPv4 link remote", SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert!(!second.daemon.has_logged("Initialization Sequence Completed"), "{}", second.daemon.tail());
    second.daemon.wait_up(SOON * 4).unwrap();
    assert_no_panic(&tunnel);
}

/// A hard reset with a session id.
fn reset(sid: u64) -> Vec<u8> {
    [&[7_u8 << 3][..], &sid.to_be_bytes(), &[0, 0, 0, 0, 0]].concat()
}

/// How many of so many first packets of one socket are answered.
fn answered(socket: &UdpSocket, packets: u64) -> usize {
    for sid in 1..=packets {
        socket.send(&reset(sid)).unwrap();
    }
    let mut reply = [0; 2048];
    std::iter::from_fn(|| socket.recv(&mut reply).ok()).count()
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn connect_freq_initial_bounds_the_answers_to_each_address_and_locks_out_no_other() {
    let (world, tunnel) = server_with("connect-freq-initial 5 600");
    let server = SocketAddr::from((NetnsLab::SERVER_V4, NetnsLab::PORT));
    let knock = || {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
        answered(&socket, 40)
    };
    let answers = tunnel.lab.client.enter(knock).unwrap();
    // The client, which came from there, has returned what it took.
    assert_eq!(answers, 5);
    assert_eq!(tunnel.lab.client.enter(knock).unwrap(), 0);
    let second = Second::start(&world, &tunnel);
    second.daemon.wait_up(SOON).unwrap();
    assert_no_panic(&tunnel);
}

/// One server that has two addresses on the wire, and a client that calls the second one.
fn multihome(option: &str, transport: Transport) {
    let world = World::new();
    let lab = NetnsLab::new().unwrap();
    let (other, called): (IpAddr, IpAddr) = match transport {
        Transport::Udp6 | Transport::Tcp6 => ("fd99::77".parse().unwrap(), NetnsLab::SERVER_V6.into()),
        Transport::Udp4 | Transport::Tcp4 => ("10.99.0.77".parse().unwrap(), NetnsLab::SERVER_V4.into()),
    };
    assert_ne!(other, called);
    lab.server.add_address(other).unwrap();
    let remote = Some(SocketAddr::new(other, NetnsLab::PORT));
    let spec = TunnelSpec { transport, remote, server_extra: option.to_owned(), ..TunnelSpec::default() };
    // A client that calls one address takes answers of no other: it has no `float`.
    let tunnel = world.tunnel_in(lab, Role::Server, Release::V2_6, &spec);
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn with_multihome_answers_come_from_the_address_that_was_called() {
    multihome("multihome", Transport::Udp4);
    multihome("multihome", Transport::Udp6);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn with_same_interface_answers_leave_as_the_questions_came_whatever_the_routes_say() {
    let world = World::new();
    for (option, comes_up) in [("multihome", false), ("multihome same-interface", true)] {
        let lab = NetnsLab::new().unwrap();
        // By the routes the client is on a wire where nobody is.
        let (_elsewhere, _) = lab.add_client(9).unwrap();
        lab.server.ip(&["route", "add", "10.99.0.2/32", "dev", "wire9"]).unwrap();
        let spec = TunnelSpec { server_extra: option.to_owned(), ..TunnelSpec::default() };
        let (server, client) = world.ends(Role::Server, Release::V2_6);
        let tunnel = Tunnel::start_in(lab, &spec, &server, &client, &world.materials).unwrap();
        if comes_up {
            tunnel.wait_up().unwrap();
            tunnel.wait_traffic(SOON).unwrap();
        } else {
            tunnel.client.wait_for("UDPv4 link remote", SOON).unwrap();
            let client = tunnel.client.wait_for("Initialization Sequence Completed", SOON / 2);
            assert!(client.is_err(), "{}", tunnel.client.tail());
        }
        assert_no_panic(&tunnel);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn tables_that_need_no_limits_accept_them() {
    let (_world, tunnel) = server_with("stale-routes-check 60 30\nmax-routes-per-client 4");
    tunnel.wait_traffic(SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_is_offered_the_ciphers_of_its_own_file() {
    let folder = files(&[("client", "data-ciphers AES-128-CBC:AES-128-GCM\n")]);
    let spec = TunnelSpec {
        server_extra: format!("client-config-dir {}", folder.path().display()),
        client_extra: "data-ciphers AES-256-GCM:AES-128-GCM".to_owned(),
        ..TunnelSpec::default()
    };
    let tunnel = World::new().tunnel(Role::Server, Release::V2_6, &spec);
    tunnel.client.wait_for("Data Channel: cipher 'AES-128-GCM'", SOON).unwrap();
    tunnel.server.wait_for("Data Channel: cipher 'AES-128-GCM'", SOON).unwrap();
    let mark = tunnel.server.mark();
    folder.write("client", "data-ciphers AES-192-CBC\n").unwrap();
    tunnel.client.signal(Signal::Restart).unwrap();
    let line = "PUSH: No common cipher between server and client. Server data-ciphers: 'AES-192-CBC'";
    tunnel.server.wait_for_after(mark, line, SOON).unwrap();
    assert_no_panic(&tunnel);
}

/// An old client that shares no cipher with what all are offered is served by a line in its file.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_may_have_a_cipher_that_no_other_is_offered() {
    let cbc = "data-ciphers AES-256-CBC";
    for (release, client) in [(Release::V2_6, cbc), (Release::V2_5, "cipher AES-256-CBC\nncp-disable")] {
        let folder = files(&[("client", cbc)]);
        let spec = TunnelSpec {
            server_extra: format!("client-config-dir {}", folder.path().display()),
            client_extra: client.to_owned(),
            ..TunnelSpec::default()
        };
        let tunnel = World::new().tunnel(Role::Server, release, &spec);
        tunnel.server.wait_for("Data Channel: cipher 'AES-256-CBC'", SOON).unwrap();
        assert_no_panic(&tunnel);
    }
    let spec = TunnelSpec { client_extra: cbc.to_owned(), ..TunnelSpec::default() };
    let tunnel = World::new().start(Role::Server, Release::V2_6, &spec);
    tunnel.server.wait_for("PUSH: No common cipher between server and client", SOON).unwrap();
    tunnel.client.wait_for("AUTH: Received control message: AUTH_FAILED", SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_buffers_of_a_client_s_socket_are_its_own_or_those_that_the_server_pushes() {
    let (pushed, own) = ("push \"rcvbuf 150000\"\npush \"sndbuf 160000\"", "rcvbuf 150000\nsndbuf 160000");
    for (transport, server, client) in
        [(Transport::Udp4, pushed, ""), (Transport::Tcp4, pushed, ""), (Transport::Tcp4, "", own)]
    {
        let (server_extra, client_extra) = (server.to_owned(), client.to_owned());
        let spec = TunnelSpec { transport, server_extra, client_extra, ..TunnelSpec::default() };
        let tunnel = World::new().tunnel(Role::Client, Release::V2_7, &spec);
        let imported = tunnel.client.has_logged("OPTIONS IMPORT: --sndbuf/--rcvbuf options modified");
        assert_eq!(imported, client.is_empty());
        let kind = if transport == Transport::Udp4 { "-u" } else { "-t" };
        let sockets = tunnel.lab.client.run("ss", &["-H", "-a", "-n", "-m", kind]).unwrap();
        // The kernel counts what it needs itself, too, and doubles what it is asked for.
        assert!(sockets.contains("rb300000,") && sockets.contains("tb320000,"), "{sockets}");
        assert_no_panic(&tunnel);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn no_more_networks_than_max_routes_per_client_are_behind_one() {
    let many = "iroute 198.51.100.0 255.255.255.0\niroute 203.0.113.0 255.255.255.0\n";
    let folder = files(&[("client", many)]);
    let routes = "route 198.51.100.0 255.255.255.0\nroute 203.0.113.0 255.255.255.0";
    let own = format!("client-config-dir {}\nmax-routes-per-client 2", folder.path().display());
    let (_world, tunnel) = server_with(format!("{routes}\n{own}"));
    tunnel.server.wait_for("MULTI ROUTE: route quota (2) exceeded for client", SOON).unwrap();
    let behind = |net: [u8; 4]| {
        let address = IpAddr::from(net);
        tunnel.lab.client.ip(&["address", "add", &format!("{address}/32"), "dev", "lo"]).unwrap();
        let server = (&tunnel.lab.server, TunnelSpec::SERVER_V4);
        traffic::echo(server, (&tunnel.lab.client, address), SOON / 3)
    };
    behind([198, 51, 100, 1]).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    assert!(behind([203, 0, 113, 1]).is_err());
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn clients_find_their_addresses_again_after_a_restart_in_openvpn_s_file() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let file = folder.write("pool", "# by hand\nnobody,10.8.0.2\nclient,10.8.0.9,\n").unwrap();
    let extra = format!("ifconfig-pool-persist {} 1", file.display());
    let spec = TunnelSpec { server_extra: extra, ..TunnelSpec::default() };
    let (server, client) = world.ends(Role::Server, Release::V2_6);
    let mut tunnel = Tunnel::start_up(&spec, &server, &client, &world.materials).unwrap();
    echo(&tunnel, v4(1), v4(9));
    let second = Second::start(&world, &tunnel);
    second.daemon.wait_up(SOON).unwrap();
    second.carries(&tunnel, v4(3));
    let written = || fs::read_to_string(&file).unwrap();
    let expected = ["nobody,10.8.0.2,", "second,10.8.0.3,", "client,10.8.0.9,"];
    eventually(SOON, || {
        let text = written();
        if text.lines().eq(expected) { Ok(()) } else { Err(text) }
    });
    // Both leave, and come back in the other order.
    tunnel.client.stop(SOON).unwrap();
    drop(second);
    tunnel.server.stop(SOON).unwrap();
    assert!(written().lines().eq(expected), "{}", written());
    tunnel.restart(Role::Server).unwrap();
    tunnel.server.wait_up(SOON).unwrap();
    tunnel.restart(Role::Client).unwrap();
    tunnel.client.wait_up(SOON).unwrap();
    echo(&tunnel, v4(1), v4(9));
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_file_with_the_interval_0_is_only_read() {
    let folder = TempDir::new().unwrap();
    let text = "client,10.8.0.44\n";
    let file = folder.write("pool", text).unwrap();
    let (_world, mut tunnel) =
        started(&format!("ifconfig-pool-persist {} 0", file.display()), "", Release::V2_6);
    echo(&tunnel, v4(1), v4(44));
    tunnel.server.stop(SOON).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

/// A server and a client that are up, wherever their addresses are.
fn started(server: &str, client: &str, release: Release) -> (World, Tunnel) {
    let world = World::new();
    let spec = TunnelSpec {
        server_extra: server.to_owned(),
        client_extra: client.to_owned(),
        ..TunnelSpec::default()
    };
    let (subject, peer) = world.ends(Role::Server, release);
    let tunnel = Tunnel::start_up(&spec, &subject, &peer, &world.materials).unwrap();
    (world, tunnel)
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn each_topology_carries_two_clients() {
    for release in [Release::V2_6, Release::V2_7] {
        for (topology, first, second) in
            [("subnet", v4(2), v4(3)), ("net30", v4(6), v4(10)), ("p2p", v4(4), v4(5))]
        {
            let (world, tunnel) = started(&format!("topology {topology}"), "", release);
            echo(&tunnel, v4(1), first);
            let other = Second::start(&world, &tunnel);
            other.daemon.wait_up(SOON).unwrap();
            other.carries(&tunnel, second);
            assert_no_panic(&tunnel);
        }
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_old_name_of_topology_p2p_is_unknown_as_in_2_7_and_the_answer_names_the_new_one() {
    let folder = TempDir::new().unwrap();
    let config = folder.write("server.conf", "mode server\ndev tun\nifconfig-pool-linear\n").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_culvert"))
        .args(["check", &config.display().to_string()])
        .output()
        .unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(!output.status.success());
    assert!(text.contains("ifconfig-pool-linear") && text.contains("use topology p2p"), "{text}");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_s_file_takes_single_pushed_options_away_or_all_of_them() {
    let pushes = "push \"route 10.61.0.0 255.255.0.0\"\npush \"route 10.62.0.0 255.255.0.0\"\n\
                  push \"dhcp-option DNS 10.8.0.1\"";
    for (text, gone) in
        [("push-remove \"route 10.61.\"\n", "10.61.0.0/16"), ("push-remove dhcp-option\n", "DNS")]
    {
        let folder = files(&[("client", text)]);
        let own = format!("client-config-dir {}", folder.path().display());
        let (_world, tunnel) = started(&format!("{pushes}\n{own}"), "", Release::V2_6);
        let seen = format!("{}{}", routes(&tunnel), tunnel.client.lines_with("PUSH_REPLY").concat());
        assert!(!seen.contains(gone), "{seen}");
        assert!(seen.contains("10.62.0.0"), "{seen}");
        tunnel.wait_traffic(SOON).unwrap();
    }
    let all = "push-reset\npush \"topology subnet\"\npush \"route 10.63.0.0 255.255.0.0 10.8.0.1\"\n";
    let folder = files(&[("client", all)]);
    let own = format!("client-config-dir {}", folder.path().display());
    let (_world, tunnel) = started(&format!("{pushes}\n{own}"), "", Release::V2_6);
    let seen = routes(&tunnel);
    assert!(!seen.contains("10.61.") && !seen.contains("10.62.") && seen.contains("10.63.0.0/16"), "{seen}");
    tunnel.wait_traffic(SOON).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_name_that_override_username_gives_is_that_of_the_status_file() {
    let world = World::new();
    let folder = files(&[("client", "override-username bob\n")]);
    let own = format!("client-config-dir {}\nstatus-version 2", folder.path().display());
    let spec = TunnelSpec { login: Login::Both, server_extra: own, ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    eventually(SOON, || {
        let status = tunnel.status(Role::Server);
        let row = status.lines().find(|line| line.starts_with("CLIENT_LIST,client,")).unwrap_or_default();
        if row.split(',').any(|field| field == "bob") { Ok(()) } else { Err(status) }
    });
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn who_carries_too_little_or_stays_too_long_has_to_leave() {
    let (_world, tunnel) = started("inactive 3 1000000", "", Release::V2_6);
    tunnel.server.wait_for("SIGTERM[soft,inactive] received, client-instance exiting", SOON).unwrap();
    tunnel.client.wait_for("Connection reset command was pushed by server", SOON).unwrap();
    let folder = files(&[("client", "session-timeout 3\n")]);
    let own = format!("client-config-dir {}", folder.path().display());
    let (_world, tunnel) = started(&own, "", Release::V2_6);
    tunnel.server.wait_for("SIGTERM[soft,session-timeout] received, client-instance exiting", SOON).unwrap();
    tunnel.client.wait_for("Connection reset command was pushed by server", SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn client_connect_may_decide_later_through_its_file() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    for (verdict, comes_up) in [(1, true), (0, false)] {
        let script = format!(
            "#!/bin/sh\nprintf 2 >\"$client_connect_deferred_file\"\n( sleep 1; echo 'push \"route 10.64.0.0 255.255.0.0\"' \
             >\"$client_connect_config_file\"; printf {verdict} >\"$client_connect_deferred_file\" ) >/dev/null 2>&1 &\n"
        );
        let script = folder.write_script("later", &script).unwrap();
        let extra = format!("script-security 2\nclient-connect {}", script.display());
        let spec = TunnelSpec { server_extra: extra, ..TunnelSpec::default() };
        let tunnel = world.start(Role::Server, Release::V2_6, &spec);
        if comes_up {
            tunnel.wait_up().unwrap();
            assert!(routes(&tunnel).contains("10.64.0.0/16"), "{}", routes(&tunnel));
            tunnel.wait_traffic(SOON).unwrap();
        } else {
            tunnel.client.wait_for("AUTH_FAILED", SOON).unwrap();
            tunnel.server.wait_for("client-connect refused the client later", SOON).unwrap();
        }
        assert_no_panic(&tunnel);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_tcp_server_listens_on_its_device_only_and_marks_its_packets() {
    let world = World::new();
    let lab = NetnsLab::new().unwrap();
    // What has no mark leaves the machine nowhere.
    for rule in [
        &["rule", "add", "fwmark", "77", "lookup", "main", "priority", "100"][..],
        &["rule", "add", "to", "10.99.0.0/24", "iif", "lo", "blackhole", "priority", "200"],
    ] {
        lab.server.ip(rule).unwrap();
    }
    let spec = TunnelSpec {
        transport: Transport::Tcp4,
        server_extra: "bind-dev wire\nmark 77".to_owned(),
        ..TunnelSpec::default()
    };
    let tunnel = world.tunnel_in(lab, Role::Server, Release::V2_6, &spec);
    let listening = tunnel.lab.server.run("ss", &["-tlnH"]).unwrap();
    assert!(listening.contains("%wire:1194"), "{listening}");
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_status_file_shows_addresses_as_2_6_did_where_that_is_asked_for() {
    let world = World::new();
    let spec = |transport, extra: &str| TunnelSpec {
        transport,
        server_extra: format!("status-version 2\n{extra}"),
        ..TunnelSpec::default()
    };
    let row = |tunnel: &Tunnel, start: &str| {
        eventually(SOON, || {
            let status = tunnel.status(Role::Server);
            if status.lines().any(|line| line.starts_with(start)) { Ok(()) } else { Err(status) }
        });
    };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec(Transport::Udp4, "status-addresses 2.6"));
    row(&tunnel, "CLIENT_LIST,client,10.99.0.2:");
    row(&tunnel, "ROUTING_TABLE,10.8.0.2,client,10.99.0.2:");
    // A reload changes the form.
    tunnel
        .edit_config(Role::Server, |text| text.replace("status-addresses 2.6", "status-addresses 2.7"))
        .unwrap();
    tunnel.server.signal(Signal::Reload).unwrap();
    row(&tunnel, "CLIENT_LIST,client,udp4:10.99.0.2:");
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec(Transport::Tcp6, "status-addresses 2.6"));
    row(&tunnel, "CLIENT_LIST,client,fd99::2,10.8.0.2,");
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec(Transport::Tcp6, ""));
    row(&tunnel, "CLIENT_LIST,client,tcp6-server:[fd99::2]:");
    assert_no_panic(&tunnel);
}
