//! A tunnel's life while the kernel carries its data: renegotiations, a new address, deaths.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use culvert_testkit::traffic::{self, CounterStream};
use culvert_testkit::{Daemon, NetnsLab, Role, Tunnel, TunnelSpec, eventually, patient};

use crate::{RECOVERY, SOON, World, assert_no_panic, in_each_role};

/// A line that each TLS handshake logs, the first and every renegotiation.
const HANDSHAKE: &str = "Control Channel: TLS";

/// Two counted streams while the keys change every five seconds.
///
/// A server of OpenVPN 2.7 loses two or three packets of its own at each change: it sends with the new key before
/// its client can have it. `server_is_peer` leaves those out.
fn renegotiate(tunnel: &Tunnel, server_is_peer: bool) {
    let (server, client) =
        ((&tunnel.lab.server, TunnelSpec::SERVER_V4), (&tunnel.lab.client, TunnelSpec::CLIENT_V4));
    let interval = Duration::from_millis(5);
    let up = CounterStream::start(client, server, 200, interval).unwrap();
    let down = CounterStream::start(server, client, 200, interval).unwrap();
    eventually(RECOVERY, || {
        let handshakes = tunnel.client.lines_with(HANDSHAKE).len();
        if handshakes > 4 { Ok(()) } else { Err(format!("{handshakes} handshakes")) }
    });
    for (direction, stream) in [("client to server", up), ("server to client", down)] {
        let report = stream.stop().unwrap();
        let (server, client) = (tunnel.server.tail(), tunnel.client.tail());
        if !server_is_peer || direction == "client to server" {
            assert_eq!(report.lost(), 0, "{direction}: {report:?}\n{server}\n{client}");
        }
        assert_eq!(report.duplicates, 0, "{direction}: {report:?}");
    }
    tunnel.prove_offload().unwrap();
    assert_no_panic(tunnel);
}

fn changing_keys() -> TunnelSpec {
    let every = "reneg-sec 5".to_owned();
    TunnelSpec { server_extra: every.clone(), client_extra: every, ..TunnelSpec::default() }
}

fn renegotiate_with_peer(role: Role) {
    renegotiate(&World::new().tunnel(role, changing_keys()), role == Role::Client);
}

in_each_role!(renegotiate_with_peer:
    a_server_renegotiates_every_5_s_without_loss,
    a_client_renegotiates_every_5_s_without_loss
);

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn two_ends_renegotiate_every_5_s_without_loss() {
    let world = World::new();
    let world = World { peer: world.subject.clone(), ..world };
    renegotiate(&world.tunnel(Role::Server, changing_keys()), false);
}

fn change_address(role: Role) {
    let spec = TunnelSpec { server_extra: "keepalive 1 30".to_owned(), ..TunnelSpec::default() };
    let tunnel = World::new().tunnel(role, spec);
    let mark = tunnel.client.mark();
    let new = Ipv4Addr::new(10, 99, 0, 77);
    tunnel.lab.client.remove_address(NetnsLab::CLIENT_V4.into()).unwrap();
    tunnel.lab.client.add_address(new.into()).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    eventually(SOON, || {
        let status = tunnel.status(Role::Server);
        if status.contains(&format!("{new}:")) { Ok(()) } else { Err(format!("the status shows\n{status}")) }
    });
    let handshakes = tunnel.client.lines().into_iter().skip(mark).filter(|line| line.contains(HANDSHAKE));
    assert_eq!(handshakes.count(), 0, "no new negotiation:\n{}", tunnel.client.tail());
    assert_no_panic(&tunnel);
}

in_each_role!(change_address:
    a_server_keeps_the_traffic_of_a_client_whose_address_changes,
    a_client_whose_address_changes_keeps_its_traffic
);

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_server_forgets_a_client_that_fell_silent() {
    let spec = TunnelSpec { server_extra: "keepalive 1 4".to_owned(), ..TunnelSpec::default() };
    let mut tunnel = World::new().tunnel(Role::Server, spec);
    tunnel.client.kill();
    eventually(RECOVERY, || {
        let status = tunnel.status(Role::Server);
        if status.contains("client,") { Err(format!("{status}\n{}", tunnel.server.tail())) } else { Ok(()) }
    });
    tunnel.lab.client.remove_tunnel_devices().unwrap();
    tunnel.restart(Role::Client).unwrap();
    tunnel.wait_traffic(RECOVERY).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_client_comes_back_to_a_server_that_fell_silent() {
    let spec = TunnelSpec { server_extra: "keepalive 1 4".to_owned(), ..TunnelSpec::default() };
    let mut tunnel = World::new().tunnel(Role::Client, spec);
    let mark = tunnel.client.mark();
    tunnel.server.kill();
    tunnel.lab.server.remove_tunnel_devices().unwrap();
    tunnel.client.wait_for_after(mark, "ping", RECOVERY).unwrap();
    tunnel.restart(Role::Server).unwrap();
    tunnel.client.wait_up_after(mark, RECOVERY).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    tunnel.prove_offload().unwrap();
    assert_no_panic(&tunnel);
}

/// System calls with which a process moves bytes.
const MOVERS: &str =
    "sendto,sendmsg,sendmmsg,recvfrom,recvmsg,recvmmsg,read,readv,write,writev,io_uring_enter";

fn data_stays_in_the_kernel(role: Role) {
    let tunnel = World::new().tunnel(role, TunnelSpec::default());
    let (subject, namespace) = match role {
        Role::Server => (&tunnel.server, &tunnel.lab.server),
        Role::Client => (&tunnel.client, &tunnel.lab.client),
    };
    let record = tunnel.folder.path().join("calls");
    let (pid, path) = (subject.pid().as_raw_nonzero().to_string(), record.display().to_string());
    let arguments = ["-f", "-e", &format!("trace={MOVERS}"), "-o", &path, "-p", &pid];
    let mut strace = Daemon::start_with(namespace, Path::new("strace"), "strace", &arguments).unwrap();
    strace.wait_for("attached", SOON).unwrap();
    let (server, client) =
        ((&tunnel.lab.server, TunnelSpec::SERVER_V4), (&tunnel.lab.client, TunnelSpec::CLIENT_V4));
    traffic::tcp(client, server, 1_000_000, patient(SOON)).unwrap();
    strace.stop(SOON).unwrap();
    let record = fs::read_to_string(record).unwrap();
    // 2 MB are 1400 packets; what is left are timers, statistics and the status file.
    let calls = record.lines().filter(|line| !line.contains("---") && !line.contains("+++")).count();
    assert!(calls < 200, "{calls} calls during the transfer, the last ones:\n{}", last(&record, 40));
}

fn last(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

in_each_role!(data_stays_in_the_kernel:
    a_server_process_sees_no_data_packet_of_a_transfer,
    a_client_process_sees_no_data_packet_of_a_transfer
);
