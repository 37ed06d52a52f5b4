//! `kill-switch`: what leaves a client's machine while its tunnel is up, is not, and was killed.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use culvert_testkit::{Release, Role, Signal, Tunnel, TunnelSpec};

use crate::{SOON, World, assert_no_panic};

/// Somebody else on the wire.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 9);
const PORT: u16 = 4000;

struct Leaks {
    listener: UdpSocket,
}

impl Leaks {
    fn listen(tunnel: &Tunnel) -> Self {
        tunnel.lab.server.add_address(OTHER.into()).unwrap();
        let listener = tunnel.lab.server.enter(|| UdpSocket::bind((OTHER, PORT))).unwrap().unwrap();
        listener.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        Self { listener }
    }

    /// Sends a datagram past the tunnel; returns whether the machine let it go.
    fn send(tunnel: &Tunnel) -> bool {
        let send = || UdpSocket::bind("0.0.0.0:0")?.send_to(b"leak", (OTHER, PORT));
        match tunnel.lab.client.enter(send).unwrap() {
            Ok(_) => true,
            Err(failure) => {
                assert_eq!(failure.kind(), ErrorKind::PermissionDenied, "{failure}");
                false
            }
        }
    }

    /// Whether anything arrived.
    fn arrived(&self) -> Option<SocketAddr> {
        self.listener.recv_from(&mut [0; 16]).ok().map(|(_, from)| from)
    }
}

fn guarded(more: &str) -> (World, Tunnel, Leaks) {
    let world = World::new();
    let spec = TunnelSpec { client_extra: format!("kill-switch\n{more}"), ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Client, Release::V2_7, &spec);
    let leaks = Leaks::listen(&tunnel);
    (world, tunnel, leaks)
}

fn tables(tunnel: &Tunnel) -> String {
    tunnel.lab.client.run("nft", &["list", "tables"]).unwrap()
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn nothing_leaves_while_a_client_connects_again_and_all_does_once_it_was_stopped() {
    let (_world, mut tunnel, leaks) = guarded("redirect-gateway def1");
    assert!(!Leaks::send(&tunnel), "the tunnel is up");
    tunnel.server.kill();
    tunnel.client.signal(Signal::Restart).unwrap();
    tunnel.client.wait_for("received, process restarting", SOON).unwrap();
    // The device is gone, its routes as well; the server does not answer.
    for _ in 0..20 {
        assert!(!Leaks::send(&tunnel), "the tunnel is down");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mark = tunnel.client.mark();
    tunnel.restart(Role::Server).unwrap();
    tunnel.client.wait_up_after(mark, Duration::from_secs(40)).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert_eq!(leaks.arrived(), None);
    assert_no_panic(&tunnel);
    tunnel.client.stop(SOON).unwrap();
    assert!(tunnel.client.has_logged("kill switch: lifted"), "{}", tunnel.client.tail());
    assert_eq!(tables(&tunnel), "");
    assert!(Leaks::send(&tunnel));
    assert!(leaks.arrived().is_some(), "the listener would have heard a leak");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn nothing_leaves_after_a_crash_until_another_start_was_stopped() {
    let (_world, mut tunnel, leaks) = guarded("");
    tunnel.client.signal(Signal::Kill).unwrap();
    tunnel.client.wait_exit(SOON).unwrap();
    assert_eq!(tables(&tunnel).trim(), "table inet culvert-kill-switch");
    assert!(!Leaks::send(&tunnel));
    tunnel.restart(Role::Client).unwrap();
    tunnel.client.wait_up(SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert!(!Leaks::send(&tunnel));
    assert_eq!(leaks.arrived(), None);
    tunnel.client.stop(SOON).unwrap();
    assert_eq!(tables(&tunnel), "");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_tunnel_that_ends_unasked_leaves_the_switch_on() {
    let (_world, mut tunnel, _leaks) = guarded("connect-retry-max 1\nserver-poll-timeout 1");
    tunnel.server.kill();
    tunnel.client.signal(Signal::Restart).unwrap();
    tunnel.client.wait_exit(Duration::from_secs(30)).unwrap();
    tunnel.client.wait_for("nft delete table inet culvert-kill-switch", SOON).unwrap();
    assert!(!Leaks::send(&tunnel));
    tunnel.lab.client.run("nft", &["delete", "table", "inet", "culvert-kill-switch"]).unwrap();
    assert!(Leaks::send(&tunnel));
}
