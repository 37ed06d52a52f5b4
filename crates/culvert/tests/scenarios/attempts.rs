//! A client's attempts: which address comes next, what counts, how long it waits, and what each end of an attempt is called.
//! All of it is OpenVPN's (`CULVERT_TEST_SUBJECT=2.7`), but for pauses: 2.7.8 overlooks `connect-retry`.

use std::fs;

use culvert_testkit::{
    Daemon, Login, Management, Namespace, Release, Role, Signal, TempDir, Transport, Tunnel, TunnelSpec,
};

use crate::challenges::judging;
use crate::units::{Site, client_config};
use crate::{SOON, World, assert_no_panic};

const REFUSED: &str = "AUTH: Received control message: AUTH_FAILED";

/// Addresses of the server's machine, where nobody listens.
const SILENT: [&str; 3] = ["10.99.0.11", "10.99.0.12", "10.99.0.13"];

fn silent_addresses(server: &Namespace) {
    for address in SILENT {
        server.ip(&["address", "add", &format!("{address}/32"), "dev", "lo"]).unwrap();
    }
}

/// Where the client went, in this order.
fn places(client: &Daemon) -> Vec<String> {
    let over_tcp = client.lines_with("Attempting to establish TCP connection with ");
    let lines = if over_tcp.is_empty() { client.lines_with("link remote: ") } else { over_tcp };
    lines.iter().map(|line| line.rsplit(']').next().unwrap_or_default().to_owned()).collect()
}

/// Runs a client without a server to its end.
fn run(site: &Site, options: &str) -> Daemon {
    let (before, remote) = (client_config(), "remote 10.99.0.1\n");
    assert!(before.contains(remote));
    let text = format!(
        "{}nobind\nconnect-retry 1 1\ncd {}\n{options}\n",
        before.replace(remote, ""),
        site.folder().display()
    );
    let config = site.pki.folder().write("client.conf", &text).unwrap();
    let mut client = Daemon::start(&site.lab.client, &site.world.subject, "client", &config).unwrap();
    assert_eq!(client.wait_exit(SOON).unwrap().code(), Some(1), "{}", client.tail());
    client
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_round_goes_over_every_address_of_every_remote() {
    let site = Site::new();
    silent_addresses(&site.lab.server);
    let hosts = format!("{} vpn.example\n{} vpn.example\n", SILENT[0], SILENT[1]);
    fs::write(format!("/etc/netns/{}/hosts", site.lab.client.name()), hosts).unwrap();
    let options =
        format!("proto tcp4\nremote vpn.example 1194\nremote {} 443\nconnect-retry-max 1", SILENT[2]);
    let client = run(&site, &options);
    let expected = ["10.99.0.11:1194", "10.99.0.12:1194", "10.99.0.13:443"];
    assert_eq!(places(&client), expected, "{}", client.tail());
    let failed = "SIGUSR1[connection failed(soft),connection-failed] received, process restarting";
    assert_eq!(client.lines_with(failed).len(), 3, "{}", client.tail());
    let over = "All connections have been connect-retry-max (1) times unsuccessful, exiting";
    assert!(client.has_logged(over), "{}", client.tail());
}

/// Asking which remote to take resolves nothing anew where the answer is the same: its second address is tried, and the round counts.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_remote_that_the_management_interface_names_is_tried_at_every_address() {
    let site = Site::new();
    silent_addresses(&site.lab.server);
    let hosts = format!("{} vpn.example\n{} vpn.example\n", SILENT[0], SILENT[1]);
    fs::write(format!("/etc/netns/{}/hosts", site.lab.client.name()), hosts).unwrap();
    let at = site.folder().join("socket");
    let options = format!(
        "management {} unix\nmanagement-query-remote\nproto tcp4\nnobind\nconnect-retry 1 1\nconnect-retry-max 1\ncd {}",
        at.display(),
        site.folder().display()
    );
    let config = site.pki.folder().write("client.conf", &format!("{}{options}\n", client_config())).unwrap();
    let mut client = Daemon::start(&site.lab.client, &site.world.subject, "client", &config).unwrap();
    let mut management = Management::connect(&at).unwrap();
    for _address in 0..2 {
        management.wait_for(">REMOTE:10.99.0.1,1194,").unwrap();
        management.command("remote MOD vpn.example 1194").unwrap();
    }
    assert_eq!(client.wait_exit(SOON).unwrap().code(), Some(1), "{}", client.tail());
    assert_eq!(places(&client), ["10.99.0.11:1194", "10.99.0.12:1194"], "{}", client.tail());
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_name_that_is_not_known_costs_an_attempt() {
    let site = Site::new();
    let client = run(&site, "remote vpn.example 1194\nconnect-retry-max 2");
    let failed = "SIGUSR1[soft,Could not determine IPv4/IPv6 protocol] received, process restarting";
    assert_eq!(client.lines_with(failed).len(), 2, "{}", client.tail());

    let client = run(&site, "remote vpn.example 1194\nremote 10.99.0.1 1194\nresolv-retry 0");
    assert!(client.has_logged("specified the --resolv-retry option.)"), "{}", client.tail());
    assert!(places(&client).is_empty(), "{}", client.tail());
}

/// What was configured counts from the start on, not only once there is a tunnel.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_that_never_answers_is_silent_too() {
    let site = Site::new();
    let config = format!("{}nobind\nconnect-retry 1 1\n", client_config());
    let (restarts, exits) =
        ("[UNDEF] Inactivity timeout (--ping-restart)", "SIGTERM[soft,ping-exit] received");
    for program in [site.world.peers.get(Release::V2_7).unwrap(), site.world.subject.clone()] {
        let start = |option: &str| {
            let text = format!("{config}cd {}\n{option}\n", site.folder().display());
            let file = site.pki.folder().write("client.conf", &text).unwrap();
            Daemon::start(&site.lab.client, &program, "client", &file).unwrap()
        };
        let client = start("ping-restart 1");
        client.wait_for(restarts, SOON).unwrap();
        let mut client = start("ping-exit 1");
        assert_eq!(client.wait_exit(SOON).unwrap().code(), Some(0), "{}", client.tail());
        assert!(client.has_logged(exits), "{}", client.tail());
    }
}

/// A client that is up at the first of two remotes.
fn at_the_first_of_two(transport: Transport, options: &str) -> Tunnel {
    let spec = TunnelSpec {
        transport,
        client_extra: format!("remote {} 443\nconnect-retry 1 1\n{options}", SILENT[0]),
        ..TunnelSpec::default()
    };
    let tunnel = World::new().tunnel(Role::Client, Release::V2_7, &spec);
    silent_addresses(&tunnel.lab.server);
    tunnel
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn what_was_up_is_tried_again_where_it_was_before_the_next_remote() {
    let mut tunnel = at_the_first_of_two(Transport::Tcp4, "");
    let mark = tunnel.client.mark();
    tunnel.server.kill();
    tunnel.client.wait_for_after(mark, "TCP connection with [AF_INET]10.99.0.11:443", SOON).unwrap();
    let expected = ["10.99.0.1:1194", "10.99.0.1:1194", "10.99.0.11:443"];
    assert_eq!(places(&tunnel.client), expected, "{}", tunnel.client.tail());
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn sigusr1_stays_where_the_tunnel_was_up_and_goes_on_where_it_was_not() {
    let mut tunnel = at_the_first_of_two(Transport::Udp4, "");
    tunnel.server.kill();
    for at in ["link remote: [AF_INET]10.99.0.1:1194", "link remote: [AF_INET]10.99.0.11:443"] {
        let mark = tunnel.client.mark();
        tunnel.client.signal(Signal::Restart).unwrap();
        tunnel.client.wait_for_after(mark, "SIGUSR1[hard,] received, process restarting", SOON).unwrap();
        tunnel.client.wait_for_after(mark, at, SOON).unwrap();
    }
    let expected = ["10.99.0.1:1194", "10.99.0.1:1194", "10.99.0.11:443"];
    assert_eq!(places(&tunnel.client), expected, "{}", tunnel.client.tail());
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_that_refuses_for_now_is_asked_again_no_later_than_this_end_allows() {
    let folder = TempDir::new().unwrap();
    let script = "printf 'TEMP[backoff 300]:busy' >\"$auth_failed_reason_file\"\nexit 1";
    let options = format!("remote {} 443\nconnect-retry 1 2", SILENT[0]);
    let tunnel = World::new().start(Role::Client, Release::V2_6, &judging(&folder, script, &options));
    let refused = "SIGUSR1[soft,auth-temp-failure (server temporary reject)]";
    tunnel.client.wait_for(refused, SOON).unwrap();
    let mark = tunnel.client.mark();
    tunnel.client.wait_for_after(mark, refused, SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    assert!(tunnel.client.has_logged("Restart pause, 2 second(s)"), "{}", tunnel.client.tail());
    assert_eq!(places(&tunnel.client), ["10.99.0.1:1194", "10.99.0.1:1194"], "{}", tunnel.client.tail());
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn who_leaves_with_a_word_says_so() {
    let mut tunnel = at_the_first_of_two(Transport::Udp4, "explicit-exit-notify 1");
    tunnel.client.signal(Signal::Interrupt).unwrap();
    assert!(tunnel.client.wait_exit(SOON).unwrap().success());
    for line in [
        "SIGTERM received, sending exit notification to peer",
        "SIGTERM[soft,exit-with-notification] received, process exiting",
    ] {
        assert!(tunnel.client.has_logged(line), "{}", tunnel.client.tail());
    }
}

/// A client that is up, and its file.
fn with_a_login(options: &str, server_options: &str) -> (Tunnel, TempDir) {
    let folder = TempDir::new().unwrap();
    let login = folder.write("login", "alice\ngood\n").unwrap();
    let options = format!("auth-user-pass {}\n{options}", login.display());
    let mut spec = judging(&folder, "[ \"$p\" = good ]", &options);
    spec.login = Login::Certificate;
    spec.server_extra.push_str(&format!("\nscript-security 2\n{server_options}"));
    (World::new().tunnel(Role::Client, Release::V2_7, &spec), folder)
}

/// Waits until a client renegotiated whose file got another password meanwhile.
fn renegotiate_with_another_password(options: &str) -> (Tunnel, TempDir) {
    let (tunnel, folder) = with_a_login(options, "reneg-sec 3");
    let mark = tunnel.client.mark();
    folder.write("login", "alice\nbad\n").unwrap();
    tunnel.client.wait_for_after(mark, "Control Channel: TLS", SOON).unwrap();
    (tunnel, folder)
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_password_that_is_not_to_be_kept_is_read_again_for_each_key() {
    let (tunnel, _folder) = renegotiate_with_another_password("auth-nocache");
    tunnel.client.wait_for(REFUSED, SOON).unwrap();
    drop(tunnel);
    let (tunnel, _folder) = renegotiate_with_another_password("");
    tunnel.wait_traffic(SOON).unwrap();
    assert!(!tunnel.client.has_logged(REFUSED), "{}", tunnel.client.tail());
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_that_restarts_has_the_password_read_again() {
    let (mut tunnel, folder) = with_a_login("", "explicit-exit-notify 1");
    let mark = tunnel.client.mark();
    folder.write("login", "alice\nbad\n").unwrap();
    tunnel.server.stop(SOON).unwrap();
    let reset = "SIGUSR1[soft,server-pushed-connection-reset] received";
    tunnel.client.wait_for_after(mark, reset, SOON).unwrap();
    tunnel.restart(Role::Server).unwrap();
    tunnel.client.wait_for(REFUSED, SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_that_falls_silent_is_named_and_the_end_is_no_failure() {
    let mut tunnel = at_the_first_of_two(Transport::Udp4, "pull-filter ignore ping\nping 1\nping-exit 2");
    tunnel.server.kill();
    assert!(tunnel.client.wait_exit(SOON).unwrap().success());
    for line in ["[server] Inactivity timeout (--ping-exit), exiting", "SIGTERM[soft,ping-exit] received"] {
        assert!(tunnel.client.has_logged(line), "{}", tunnel.client.tail());
    }
}
