//! Single options whose effect shows outside: old compression lines, encrypted keys, limits on TLS, process
//! control, status formats.

use std::fs;
use std::process::Command;

use culvert_testkit::{
    Algorithm, Daemon, Inner, NetnsLab, Release, Role, Signal, TempDir, Transport, Tunnel, TunnelSpec,
    Wrapping, eventually, read_pid, signal_process, traffic,
};

use crate::{SOON, World};

fn works(role: Role, release: Release, server_extra: &str, client_extra: &str) -> Tunnel {
    let spec = TunnelSpec {
        server_extra: server_extra.to_owned(),
        client_extra: client_extra.to_owned(),
        ..TunnelSpec::default()
    };
    let tunnel = World::new().tunnel(role, release, &spec);
    tunnel.prove_traffic().unwrap();
    tunnel
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_works_with_a_server_that_pushes_compression_stubs() {
    works(Role::Client, Release::V2_6, "comp-lzo no\npush \"comp-lzo no\"", "comp-lzo no");
    works(Role::Client, Release::V2_5, "compress stub-v2\npush \"compress stub-v2\"", "compress");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_migrates_old_clients_away_from_compression() {
    works(Role::Server, Release::V2_5, "compress migrate", "comp-lzo no");
    works(Role::Server, Release::V2_6, "compress migrate", "compress");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn an_encrypted_key_is_opened_with_askpass() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let pki = &world.materials.certificates(Algorithm::Rsa).pki;
    let key = folder.path().join("encrypted.key");
    let password = folder.write("password", "open sesame\n").unwrap();
    let status = Command::new("openssl")
        .args(["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:open sesame", "-in"])
        .args([&pki.client.key])
        .arg("-out")
        .arg(&key)
        .status()
        .expect("openssl is installed");
    assert!(status.success());
    let spec = TunnelSpec {
        algorithm: Algorithm::Rsa,
        client_extra: format!("key {}\naskpass {}", key.display(), password.display()),
        ..TunnelSpec::default()
    };
    world.tunnel(Role::Client, Release::V2_6, &spec);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn limits_on_tls_are_kept_by_both_roles() {
    let suite = "TLS_CHACHA20_POLY1305_SHA256";
    for role in [Role::Server, Role::Client] {
        let tunnel = works(role, Release::V2_6, &format!("tls-ciphersuites {suite}"), "");
        assert!(tunnel.client.has_logged(suite), "{}", tunnel.client.tail());
        let tunnel = works(role, Release::V2_6, "", &format!("tls-ciphersuites {suite}"));
        assert!(tunnel.server.has_logged(suite), "{}", tunnel.server.tail());
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_with_ipv6_only_serves() {
    for role in [Role::Server, Role::Client] {
        let world = World::new();
        let (server, client) = world.ends(role, Release::V2_6);
        let lab = NetnsLab::new().unwrap();
        let spec = TunnelSpec { inner: Inner::V4AndV6, ..TunnelSpec::default() };
        // The same server without its IPv4 line.
        let spec = TunnelSpec { without: Some("server 10.8.0.0 255.255.255.0"), ..spec };
        let tunnel = Tunnel::start_in(lab, &spec, &server, &client, &world.materials).unwrap();
        tunnel.wait_up().unwrap();
        let ends = (&tunnel.lab.client, TunnelSpec::CLIENT_V6);
        let proof = traffic::echo(ends, (&tunnel.lab.server, TunnelSpec::SERVER_V6), SOON);
        proof.map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn ends_without_privileges_go_on_renegotiating_and_restarting() {
    let drop = "user nobody\ngroup nogroup\npersist-tun\npersist-key";
    for role in [Role::Server, Role::Client] {
        let tunnel = works(role, Release::V2_6, &format!("{drop}\nreneg-sec 5"), "reneg-sec 5");
        let owner = |end: &Daemon| {
            let status = fs::read_to_string(format!("/proc/{}/status", end.pid().as_raw_nonzero())).unwrap();
            status.lines().find(|line| line.starts_with("Uid:")).unwrap().to_owned()
        };
        assert!(!owner(&tunnel.server).contains("\t0"), "{}", owner(&tunnel.server));
        eventually(SOON * 2, || {
            let handshakes = tunnel.client.lines_with("Control Channel: TLS").len();
            if handshakes >= 3 { Ok(()) } else { Err(tunnel.client.tail()) }
        });
        tunnel.wait_traffic(SOON).unwrap();
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn status_files_have_openvpn_s_three_formats() {
    for (version, expected) in [
        (1, ["OpenVPN CLIENT LIST", "client,", "10.8.0.2,client,", "END"]),
        (2, ["TITLE,OpenVPN ", "CLIENT_LIST,client,", "ROUTING_TABLE,10.8.0.2,client,", "END"]),
        (3, ["TITLE\tOpenVPN ", "CLIENT_LIST\tclient\t", "ROUTING_TABLE\t10.8.0.2\tclient\t", "END"]),
    ] {
        let tunnel = works(Role::Server, Release::V2_6, &format!("status-version {version}"), "");
        eventually(SOON, || {
            let status = tunnel.status(Role::Server);
            let missing = expected.iter().find(|text| !status.contains(**text));
            missing.map_or(Ok(()), |text| Err(format!("no {text:?} in version {version}:\n{status}")))
        });
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_daemon_detaches_writes_its_pid_and_logs_to_its_file() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let (pid, log) = (folder.path().join("pid"), folder.path().join("log"));
    let up =
        folder.write_script("up", "#!/bin/sh\necho said by $script_type\necho complained >&2\n").unwrap();
    let extra = format!(
        "daemon lab\nwritepid {}\nlog {}\nscript-security 2\nup {}",
        pid.display(),
        log.display(),
        up.display()
    );
    let mut tunnel = world.tunnel(Role::Client, Release::V2_6, &TunnelSpec::default());
    tunnel.client.stop(SOON).unwrap();
    tunnel.edit_config(Role::Client, |text| format!("{text}\n{extra}\n")).unwrap();
    tunnel.restart(Role::Client).unwrap();
    let status = tunnel.client.wait_exit(SOON).unwrap();
    assert_eq!(status.code(), Some(0), "the caller's process ends when the file was accepted");
    eventually(SOON, || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        if text.contains("Initialization Sequence Completed") { Ok(()) } else { Err(text) }
    });
    // What scripts print is in the log.
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("\nsaid by up\n") && text.contains("\ncomplained\n"), "{text}");
    tunnel.wait_traffic(SOON).unwrap();
    signal_process(read_pid(&pid).unwrap(), Signal::Terminate).unwrap();
    eventually(SOON, || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        if text.contains("SIGTERM[hard,] received, process exiting") { Ok(()) } else { Err(text) }
    });
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_single_file_profile_in_windows_line_ends_works() {
    let world = World::new();
    let spec = TunnelSpec { wrapping: Wrapping::TlsCryptV2, ..TunnelSpec::default() };
    let mut tunnel = world.tunnel(Role::Client, Release::V2_6, &spec);
    tunnel.client.stop(SOON).unwrap();
    let crlf = |text: String| format!("\u{feff}{}", text.replace('\n', "\r\n"));
    tunnel.edit_config(Role::Client, crlf).unwrap();
    tunnel.restart(Role::Client).unwrap();
    tunnel.client.wait_up(SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_epoch_format_is_agreed_on_with_2_7() {
    for role in [Role::Server, Role::Client] {
        let tunnel = works(role, Release::V2_7, "", "");
        for end in [&tunnel.server, &tunnel.client] {
            end.wait_for("aead-epoch", SOON).unwrap();
        }
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_that_cannot_export_keys_is_refused_where_that_is_forced() {
    let world = World::new();
    let spec =
        TunnelSpec { server_extra: "force-tls-key-material-export".to_owned(), ..TunnelSpec::default() };
    world.tunnel(Role::Server, Release::V2_6, &spec);
    let tunnel = world.start(Role::Server, Release::V2_5, &spec);
    tunnel.client.wait_for("AUTH_FAILED,Client incompatible with this server", SOON).unwrap();
}

/// Counts the tunnel's packets of a DSCP that arrive at the server.
fn count_dscp(tunnel: &Tunnel, add: bool) -> String {
    if add {
        let rules = "table inet seen { chain input { type filter hook input priority 0; \
                     meta l4proto { tcp, udp } th dport 1194 ip dscp ef counter comment \"ef\"; }; }";
        tunnel.lab.server.run("nft", &[rules]).unwrap();
    }
    tunnel.lab.server.run("nft", &["list", "table", "inet", "seen"]).unwrap()
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn passtos_copies_the_tos_byte_to_the_outer_packet() {
    let world = World::new();
    for (client_extra, passes) in [("passtos\n", true), ("", false), ("passtos\nfragment 400\n", true)] {
        let server_extra = client_extra.replace("passtos\n", "");
        let spec =
            TunnelSpec { client_extra: client_extra.to_owned(), server_extra, ..TunnelSpec::default() };
        let tunnel = world.tunnel(Role::Client, Release::V2_6, &spec);
        count_dscp(&tunnel, true);
        let server = TunnelSpec::SERVER_V4.to_string();
        tunnel
            .lab
            .client
            .run("ping", &["-c", "4", "-i", "0.2", "-Q", "0xb8", "-s", "1000", &server])
            .unwrap();
        // The pieces of a packet arrive joined.
        let expected = format!("packets {} ", if passes { 4 } else { 0 });
        let seen = count_dscp(&tunnel, false);
        assert!(seen.contains(&expected), "{client_extra}: {seen}");
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn passtos_over_tcp_marks_the_stream_that_carries_the_packets() {
    let world = World::new();
    for client_extra in ["passtos\n", ""] {
        let spec = TunnelSpec {
            transport: Transport::Tcp4,
            client_extra: client_extra.to_owned(),
            ..TunnelSpec::default()
        };
        let tunnel = world.tunnel(Role::Client, Release::V2_6, &spec);
        count_dscp(&tunnel, true);
        let server = TunnelSpec::SERVER_V4.to_string();
        tunnel.lab.client.run("ping", &["-c", "2", "-i", "0.2", "-Q", "0xb8", &server]).unwrap();
        let seen = count_dscp(&tunnel, false);
        assert_eq!(seen.contains("packets 0 "), client_extra.is_empty(), "{client_extra}: {seen}");
    }
}
