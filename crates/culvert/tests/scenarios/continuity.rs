//! The tunnel goes on: through renegotiations, deaths of an end, a new address, a server's absence.

use std::time::Duration;

use culvert_testkit::traffic::CounterStream;
use culvert_testkit::{
    Cipher, NetnsLab, Relay, Release, Role, Signal, TempDir, Topology, Transport, Tunnel, TunnelSpec,
    eventually,
};

use crate::{SOON, World, assert_no_panic};

/// A session that was lost without a word is noticed by `ping-restart` and made again.
const RECOVERY: Duration = Duration::from_secs(30);

/// A line that each TLS handshake logs, the first and every renegotiation.
const HANDSHAKE: &str = "Control Channel: TLS";

/// Renegotiates about four times by time.
fn renegotiate(role: Role, release: Release) {
    let spec = TunnelSpec {
        server_extra: "reneg-sec 3".to_owned(),
        client_extra: "reneg-sec 3".to_owned(),
        ..TunnelSpec::default()
    };
    renegotiate_under_a_stream(role, release, &spec, 5);
}

/// Renegotiates because of what the subject's key carried: nothing else asks for it within an hour.
///
/// A key has to be older than `hand-window` by then. OpenVPN sends with a new key at once when its old one is younger,
/// and such a packet may overtake the handshake that makes the key known.
fn renegotiate_by_packets(role: Role, release: Release) {
    let (packets, window) = ("hand-window 4\nreneg-pkts 6000".to_owned(), "hand-window 4".to_owned());
    let (server_extra, client_extra) = match role {
        Role::Server => (packets, window),
        Role::Client => (window, packets),
    };
    renegotiate_under_a_stream(
        role,
        release,
        &TunnelSpec { server_extra, client_extra, ..TunnelSpec::default() },
        3,
    );
}

/// Starts a tunnel for [`lose_nothing`].
fn renegotiate_under_a_stream(role: Role, release: Release, spec: &TunnelSpec, wanted: usize) {
    let tunnel = World::new().tunnel(role, release, spec);
    lose_nothing(&tunnel, 200, Duration::from_millis(2), wanted);
}

/// Nothing is lost or doubled in either direction until so many handshakes were made.
fn lose_nothing(tunnel: &Tunnel, size: usize, interval: Duration, wanted: usize) {
    let (server, client) =
        ((&tunnel.lab.server, TunnelSpec::SERVER_V4), (&tunnel.lab.client, TunnelSpec::CLIENT_V4));
    let up = CounterStream::start(client, server, size, interval).unwrap();
    let down = CounterStream::start(server, client, size, interval).unwrap();
    eventually(RECOVERY, || {
        let handshakes = tunnel.client.lines_with(HANDSHAKE).len();
        if handshakes >= wanted {
            Ok(())
        } else {
            Err(format!("{handshakes} handshakes\n{}", tunnel.client.tail()))
        }
    });
    for (direction, stream) in [("client to server", up), ("server to client", down)] {
        let report = stream.stop().unwrap();
        assert_eq!(
            report.lost(),
            0,
            "{direction}: {report:?}\n{}\n{}",
            tunnel.server.tail(),
            tunnel.client.tail()
        );
        assert_eq!(report.duplicates, 0, "{direction}: {report:?}");
    }
    assert_no_panic(tunnel);
}

/// Both ends renegotiate every three seconds, each on its own clock, under 2000 packets a second in each direction.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn keys_of_ciphers_without_tag_are_replaced_without_loss() {
    let extra = "reneg-sec 3\nfragment 150\ncomp-lzo no\n".to_owned();
    let spec = TunnelSpec { server_extra: extra.clone(), client_extra: extra, ..TunnelSpec::default() };
    for (cipher, role) in [
        (Cipher::Aes256Cbc, Role::Server),
        (Cipher::Aes128Ofb, Role::Client),
        (Cipher::DesEde3Cbc, Role::Client),
    ] {
        renegotiate_under_a_stream(role, Release::V2_6, &TunnelSpec { cipher, ..spec.clone() }, 4);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn two_culverts_renegotiate_under_load_without_loss() {
    let world = World::new();
    let spec = TunnelSpec {
        server_extra: "reneg-sec 3".to_owned(),
        client_extra: "reneg-sec 3".to_owned(),
        ..TunnelSpec::default()
    };
    let tunnel = Tunnel::start_up(&spec, &world.subject, &world.subject, &world.materials).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    lose_nothing(&tunnel, 1200, Duration::from_micros(500), 6);
}

macro_rules! in_each_role_against_each_release {
    ($work:ident: $($name:ident($role:ident, $release:ident),)+) => {
        $(
            #[test]
            #[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
            fn $name() {
                $work(Role::$role, Release::$release);
            }
        )+
    };
}

in_each_role_against_each_release!(renegotiate:
    a_server_renegotiates_with_2_5_without_loss(Server, V2_5),
    a_server_renegotiates_with_2_6_without_loss(Server, V2_6),
    a_server_renegotiates_with_2_7_without_loss(Server, V2_7),
    a_client_renegotiates_with_2_5_without_loss(Client, V2_5),
    a_client_renegotiates_with_2_6_without_loss(Client, V2_6),
    a_client_renegotiates_with_2_7_without_loss(Client, V2_7),
);

in_each_role_against_each_release!(renegotiate_by_packets:
    a_server_renegotiates_after_so_many_packets(Server, V2_6),
    a_client_renegotiates_after_so_many_packets(Client, V2_6),
);

/// A tunnel in which silence is noticed after a few seconds.
fn impatient(topology: Topology) -> TunnelSpec {
    // In server mode the server waits twice as long as it tells its clients to.
    let extra = "keepalive 1 4".to_owned();
    let client_extra = if topology == Topology::PointToPoint { extra.clone() } else { String::new() };
    TunnelSpec { topology, server_extra: extra, client_extra, ..TunnelSpec::default() }
}

/// `kill -9` of one end, which is then started again; the other is left alone.
fn kill(tunnel: &mut Tunnel, end: Role) {
    tunnel.restart(end).unwrap();
    tunnel.wait_traffic(RECOVERY).unwrap();
    assert_no_panic(tunnel);
}

fn kill_each_end(role: Role, release: Release) {
    let mut tunnel = World::new().tunnel(role, release, &impatient(Topology::Subnet));
    kill(&mut tunnel, Role::Client);
    kill(&mut tunnel, Role::Server);
}

fn kill_each_end_of_p2p(role: Role, release: Release) {
    let mut tunnel = World::new().tunnel(role, release, &impatient(Topology::PointToPoint));
    kill(&mut tunnel, Role::Client);
    kill(&mut tunnel, Role::Server);
}

in_each_role_against_each_release!(kill_each_end:
    a_server_and_2_6_recover_from_a_killed_end(Server, V2_6),
    a_client_and_2_6_recover_from_a_killed_end(Client, V2_6),
    a_client_and_2_7_recover_from_a_killed_end(Client, V2_7),
);

in_each_role_against_each_release!(kill_each_end_of_p2p:
    a_p2p_tls_server_and_2_6_recover_from_a_killed_end(Server, V2_6),
    a_p2p_tls_client_and_2_6_recover_from_a_killed_end(Client, V2_6),
);

/// The client's address changes: the session stays, and the status file says where the client is now.
fn change_address(role: Role, release: Release) {
    let spec = TunnelSpec { server_extra: "keepalive 1 30".to_owned(), ..TunnelSpec::default() };
    let tunnel = World::new().tunnel(role, release, &spec);
    let (server_mark, client_mark) = (tunnel.server.mark(), tunnel.client.mark());
    let new = std::net::Ipv4Addr::new(10, 99, 0, 77);
    tunnel.lab.client.remove_address(NetnsLab::CLIENT_V4.into()).unwrap();
    tunnel.lab.client.add_address(new.into()).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    eventually(SOON, || {
        let status = tunnel.status(Role::Server);
        if status.contains(&format!("{new}:")) && !status.contains(&format!("{}:", NetnsLab::CLIENT_V4)) {
            return Ok(());
        }
        Err(format!("the status file shows\n{status}"))
    });
    for (end, mark) in [(&tunnel.server, server_mark), (&tunnel.client, client_mark)] {
        let handshakes = end.lines().into_iter().skip(mark).filter(|line| line.contains(HANDSHAKE)).count();
        assert_eq!(handshakes, 0, "no new negotiation:\n{}", end.tail());
    }
    assert_no_panic(&tunnel);
}

in_each_role_against_each_release!(change_address:
    a_server_keeps_the_session_of_a_2_6_client_whose_address_changes(Server, V2_6),
    a_server_keeps_the_session_of_a_2_7_client_whose_address_changes(Server, V2_7),
    a_client_whose_address_changes_keeps_its_session_with_2_6(Client, V2_6),
);

/// The server leaves with a word and comes back: its client is there again within seconds, though silence
/// would be noticed only after a minute.
fn leave_and_return(role: Role, release: Release) {
    let spec = TunnelSpec { server_extra: "explicit-exit-notify 1".to_owned(), ..TunnelSpec::default() };
    let mut tunnel = World::new().tunnel(role, release, &spec);
    let mark = tunnel.client.mark();
    tunnel.server.stop(SOON).unwrap();
    tunnel.restart(Role::Server).unwrap();
    tunnel.client.wait_up_after(mark, Duration::from_secs(20)).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
}

in_each_role_against_each_release!(leave_and_return:
    a_server_that_leaves_with_notification_has_its_2_6_client_back(Server, V2_6),
    a_server_that_leaves_with_notification_has_its_2_7_client_back(Server, V2_7),
    a_client_comes_back_to_a_2_6_server_that_left_with_notification(Client, V2_6),
    a_client_comes_back_to_a_2_7_server_that_left_with_notification(Client, V2_7),
);

/// A client that leaves with notification is gone from the server's status at once; its log and its scripts say how it left.
fn client_leaves(role: Role, release: Release) {
    let folder = TempDir::new().unwrap();
    let down = folder.write_script("down", "#!/bin/sh\necho \"down because of $signal\"\n").unwrap();
    let client_extra = format!("explicit-exit-notify 2\nscript-security 2\ndown {}", down.display());
    let mut tunnel =
        World::new().tunnel(role, release, &TunnelSpec { client_extra, ..TunnelSpec::default() });
    let status = tunnel.client.stop(SOON).unwrap();
    assert_eq!(status.code(), Some(0), "{}", tunnel.client.tail());
    for line in [
        "SIGTERM received, sending exit notification to peer",
        "SIGTERM[soft,exit-with-notification] received, process exiting",
        "down because of exit-with-notification",
    ] {
        assert!(tunnel.client.has_logged(line), "{}", tunnel.client.tail());
    }
    // A server that got the message on the control channel waits five seconds before it closes the session.
    eventually(SOON * 2, || {
        let status = tunnel.status(Role::Server);
        if status.contains("client,") { Err(format!("{status}{}", tunnel.server.tail())) } else { Ok(()) }
    });
}

in_each_role_against_each_release!(client_leaves:
    a_server_forgets_a_2_6_client_that_leaves_with_notification(Server, V2_6),
    a_server_forgets_a_2_7_client_that_leaves_with_notification(Server, V2_7),
    a_client_that_leaves_with_notification_is_forgotten_by_2_6(Client, V2_6),
    a_client_that_leaves_with_notification_is_forgotten_by_2_7(Client, V2_7),
);

/// SIGUSR1 and SIGHUP restart a client, which comes up again.
fn restart_by_signal(role: Role, release: Release) {
    let tunnel = World::new().tunnel(role, release, &TunnelSpec::default());
    for signal in [Signal::Restart, Signal::Reload] {
        let mark = tunnel.client.mark();
        tunnel.client.signal(signal).unwrap();
        tunnel.client.wait_up_after(mark, RECOVERY).unwrap();
        tunnel.wait_traffic(SOON).unwrap();
    }
    assert_no_panic(&tunnel);
}

in_each_role_against_each_release!(restart_by_signal:
    a_client_restarts_by_signal_and_comes_up_again(Client, V2_6),
    a_2_6_client_that_restarts_comes_back_to_its_server(Server, V2_6),
);

/// SIGUSR1 restarts a server on TCP: its port is free for its next life, and its client comes back.
fn restart_a_server_on_tcp(role: Role, release: Release) {
    let spec = TunnelSpec { transport: Transport::Tcp4, ..TunnelSpec::default() };
    let tunnel = World::new().tunnel(role, release, &spec);
    for _ in 0..2 {
        let mark = tunnel.client.mark();
        tunnel.server.signal(Signal::Restart).unwrap();
        tunnel.client.wait_up_after(mark, RECOVERY).unwrap();
        tunnel.wait_traffic(SOON).unwrap();
    }
    assert_no_panic(&tunnel);
}

in_each_role_against_each_release!(restart_a_server_on_tcp:
    a_server_on_tcp_restarts_by_signal_and_has_its_2_6_client_back(Server, V2_6),
);

/// A third of all datagrams is lost from the very first on: the reliability layer makes up for it.
fn lossy_wire(role: Role, release: Release) {
    let world = World::new();
    let lab = NetnsLab::new().unwrap();
    let server = (NetnsLab::SERVER_V4, NetnsLab::PORT).into();
    let relay = Relay::start(&lab.client, (NetnsLab::CLIENT_V4, 1195).into(), server).unwrap();
    relay.lose_a_third();
    let spec = TunnelSpec { remote: Some(relay.address), ..TunnelSpec::default() };
    let tunnel = world.tunnel_in(lab, role, release, &spec);
    assert_no_panic(&tunnel);
}

in_each_role_against_each_release!(lossy_wire:
    a_server_and_2_6_come_up_over_a_lossy_wire(Server, V2_6),
    a_client_and_2_6_come_up_over_a_lossy_wire(Client, V2_6),
);
