//! `kill-switch`: what leaves a client's machine while its tunnel is up, is not, and was killed.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use culvert_testkit::{Management, NetnsLab, Release, Role, Signal, Tunnel, TunnelSpec, patient};

use crate::{
    SOON, World, assert_no_panic,
    names::{NameServer, answer},
    proxies::{Proxy, goes_through},
};

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
    let (_world, mut tunnel, leaks) = guarded("redirect-gateway def1\nuser nobody\ngroup nogroup");
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
fn a_switch_that_was_left_over_is_found_and_lifted_without_any_other_program() {
    // With or without a socket that it answers on.
    let (world, mut tunnel, _leaks) = guarded("control-socket none");
    let subject = world.subject.program().to_owned();
    let run = |tunnel: &Tunnel, words: &[&str]| {
        let output =
            tunnel.lab.client.command("env").arg("PATH=").arg(&subject).args(words).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (is_lifted, text) = run(&tunnel, &["unblock"]);
    assert!(!is_lifted && text.contains("that of a culvert that runs here"), "{text}");
    assert!(!Leaks::send(&tunnel));
    let (_, text) = run(&tunnel, &["doctor"]);
    assert!(text.contains("it ends with the culvert that runs here"), "{text}");
    tunnel.client.signal(Signal::Kill).unwrap();
    tunnel.client.wait_exit(SOON).unwrap();
    assert!(!Leaks::send(&tunnel));
    tunnel.edit_config(Role::Client, |text| text.replace("kill-switch\n", "")).unwrap();
    tunnel.restart(Role::Client).unwrap();
    tunnel.client.wait_for("a kill switch is in force that is not this client's", SOON).unwrap();
    tunnel.client.kill();
    let (_, text) = run(&tunnel, &["doctor"]);
    assert!(text.contains("kill switch is in force") && text.contains("culvert unblock"), "{text}");
    let lifted =
        (true, "the kill switch is lifted: this machine sends outside of a tunnel again\n".to_owned());
    assert_eq!(run(&tunnel, &["unblock"]), lifted);
    assert!(Leaks::send(&tunnel));
    assert_eq!(run(&tunnel, &["unblock"]), (true, "no kill switch is in force here\n".to_owned()));
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn who_flushes_all_rules_takes_it_away_until_the_client_connects_again() {
    let (_world, mut tunnel, _leaks) = guarded("persist-tun");
    tunnel.lab.client.run("nft", &["flush", "ruleset"]).unwrap();
    assert!(Leaks::send(&tunnel));
    tunnel.server.kill();
    tunnel.client.signal(Signal::Restart).unwrap();
    tunnel.client.wait_for("they are in force again", SOON).unwrap();
    assert!(!Leaks::send(&tunnel));
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

fn rules(tunnel: &Tunnel) -> String {
    tunnel.lab.client.run("nft", &["list", "table", "inet", "culvert-kill-switch"]).unwrap()
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn names_are_asked_for_only_while_somebody_waits_for_the_answer_and_only_the_configured_server() {
    let lab = NetnsLab::new().unwrap();
    let name_server = NameServer::silent(&lab);
    name_server.set_read_timeout(Some(patient(SOON))).unwrap();
    let next = || {
        let mut question = [0; 512];
        let (len, from) = name_server.recv_from(&mut question).unwrap();
        (question[..len].to_vec(), from)
    };
    let world = World::new();
    let client_extra =
        "kill-switch\nresolv-retry infinite\n<connection>\nremote vpn.example 1194 udp4\n</connection>";
    let spec = TunnelSpec {
        without: Some("remote 10.99.0.1 1194"),
        client_extra: client_extra.to_owned(),
        ..TunnelSpec::default()
    };
    let (server, client) = world.ends(Role::Client, Release::V2_7);
    let tunnel = Tunnel::start_in(lab, &spec, &server, &client, &world.materials).unwrap();
    // Asked, and not answered yet.
    let mut asked = vec![next()];
    let while_asking = rules(&tunnel);
    assert!(while_asking.contains("ip daddr 10.99.0.1 udp dport 53 accept"), "{while_asking}");
    assert!(while_asking.contains("ip daddr 10.99.0.1 tcp dport 53 accept"), "{while_asking}");
    assert_eq!(while_asking.matches("dport 53").count(), 2, "{while_asking}");
    // There is no such name, of either family: the answer to that is a pause.
    name_server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let deadline = Instant::now() + patient(SOON);
    while !tunnel.client.has_logged("RESOLVE: Cannot resolve host address: vpn.example:1194") {
        assert!(Instant::now() < deadline, "{}", tunnel.client.tail());
        for (mut question, from) in asked.drain(..) {
            question[2..4].copy_from_slice(&[0x81, 0x83]);
            name_server.send_to(&question, from).unwrap();
        }
        let mut question = [0; 512];
        if let Ok((len, from)) = name_server.recv_from(&mut question) {
            asked.push((question[..len].to_vec(), from));
        }
    }
    let in_the_pause = rules(&tunnel);
    assert!(!in_the_pause.contains("dport 53"), "{in_the_pause}");
    tunnel.client.signal(Signal::Restart).unwrap();
    name_server.set_read_timeout(Some(patient(SOON))).unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((len, from)) = name_server.recv_from(&mut question) {
            let _gone = name_server.send_to(&answer(&question[..len]).1, from);
        }
    });
    tunnel.wait_up().unwrap();
    assert!(!rules(&tunnel).contains("dport 53"));
    assert_no_panic(&tunnel);
}

/// Of a UDP connection through a proxy, both names are looked up: the server's, and the proxy's later.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_name_of_a_proxy_for_datagrams_is_looked_up_behind_the_switch() {
    let lab = NetnsLab::new().unwrap();
    let _name_server = NameServer::start(&lab);
    let _proxy = Proxy::dante(&lab);
    let client_extra = "kill-switch\nsocks-proxy proxy.example".to_owned();
    let tunnel = goes_through(lab, &TunnelSpec { client_extra, ..TunnelSpec::default() });
    assert!(!rules(&tunnel).contains("dport 53"));
}

/// SIGHUP with a file that cannot be used ends the process, as in OpenVPN: nobody asked for that.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_restart_that_cannot_be_leaves_the_switch_on_and_says_so() {
    for (line, because) in [
        ("no-such-option", "no-such-option"),
        ("ca /nonexistent", "/nonexistent"),
        ("<tls-crypt>\nnot a key\n</tls-crypt>", "tls-crypt"),
    ] {
        let (_world, mut tunnel, _leaks) = guarded("");
        tunnel.edit_config(Role::Client, |text| format!("{text}\n{line}\n")).unwrap();
        tunnel.client.signal(Signal::Reload).unwrap();
        assert_eq!(tunnel.client.wait_exit(SOON).unwrap().code(), Some(1), "{line}");
        tunnel.client.wait_for(because, SOON).unwrap();
        tunnel.client.wait_for("kill switch: it stays in force", SOON).unwrap();
        assert!(!Leaks::send(&tunnel), "{line}");
    }
}

/// A client that waits to be told to go on was asked to end.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn an_end_while_a_later_start_is_held_lifts_the_switch() {
    let world = World::new();
    let folder = culvert_testkit::TempDir::new().unwrap();
    let at = folder.path().join("socket");
    let client_extra = format!("kill-switch\nmanagement {} unix\nmanagement-hold", at.display());
    let spec = TunnelSpec { client_extra, ..TunnelSpec::default() };
    let (server, client) = world.ends(Role::Client, Release::V2_7);
    let mut tunnel =
        Tunnel::start_in(NetnsLab::new().unwrap(), &spec, &server, &client, &world.materials).unwrap();
    let mut management = Management::connect(&at).unwrap();
    management.wait_for(">HOLD:").unwrap();
    management.command("hold release").unwrap();
    tunnel.wait_up().unwrap();
    management.command("hold on").unwrap();
    tunnel.client.signal(Signal::Reload).unwrap();
    management.wait_for(">HOLD:").unwrap();
    assert_eq!(tables(&tunnel).trim(), "table inet culvert-kill-switch");
    assert!(tunnel.client.stop(SOON).unwrap().success());
    assert_eq!(tables(&tunnel), "", "{}", tunnel.client.tail());
}
