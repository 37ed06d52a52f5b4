//! Who is refused, and what both sides are told.

use std::time::Duration;

use culvert_testkit::{
    Algorithm, Daemon, Implementation, Login, NetnsLab, Pki, Release, Role, TempDir, Tunnel, TunnelSpec,
};

use crate::{SOON, World};

const ROLES: [Role; 2] = [Role::Server, Role::Client];

/// Fails when an end that must not come up did.
fn assert_client_not_up(tunnel: &Tunnel) {
    assert!(!tunnel.client.has_logged("Initialization Sequence Completed"), "{}", tunnel.client.tail());
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_wrong_password_is_refused_and_both_sides_say_so() {
    let world = World::new();
    let file = TempDir::new().unwrap();
    let wrong = file.write("wrong", "alice\nwrong horse\n").unwrap();
    let spec = TunnelSpec {
        login: Login::Both,
        client_extra: format!("auth-user-pass {}", wrong.display()),
        ..TunnelSpec::default()
    };
    for role in ROLES {
        let mut tunnel = world.start(role, Release::V2_6, &spec);
        tunnel.client.wait_for("AUTH: Received control message: AUTH_FAILED", SOON).unwrap();
        tunnel
            .server
            .wait_for("TLS Auth Error: Auth Username/Password verification failed for peer", SOON)
            .unwrap();
        let status = tunnel.client.wait_exit(SOON).unwrap();
        assert_eq!(status.code(), Some(0), "OpenVPN ends with 0 after a refused login");
        assert!(tunnel.client.has_logged("SIGTERM[soft,auth-failure] received, process exiting"));
        assert_client_not_up(&tunnel);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn distinct_exit_codes_tell_a_refused_login_from_a_server_that_is_not_there() {
    let world = World::new();
    let file = TempDir::new().unwrap();
    let wrong = file.write("wrong", "alice\nwrong horse\n").unwrap();
    let spec = TunnelSpec {
        login: Login::Both,
        client_extra: format!("auth-user-pass {}\nsetenv opt exit-codes distinct", wrong.display()),
        ..TunnelSpec::default()
    };
    let mut refused = world.start(Role::Client, Release::V2_6, &spec);
    assert_eq!(refused.client.wait_exit(SOON).unwrap().code(), Some(3), "{}", refused.client.tail());
    let spec = TunnelSpec {
        remote: Some((NetnsLab::SERVER_V4, 4).into()),
        client_extra: "connect-retry-max 1\nconnect-timeout 1\nexit-codes distinct".to_owned(),
        ..TunnelSpec::default()
    };
    let mut alone = world.start(Role::Client, Release::V2_6, &spec);
    assert_eq!(alone.client.wait_exit(SOON).unwrap().code(), Some(4), "{}", alone.client.tail());
}

/// A client whose certificate the server must refuse, in both roles of the subject.
fn refused_client_certificate(identity: impl Fn(&Pki) -> (String, String), expected: &str) {
    let world = World::new();
    let (server_extra, client_extra) = identity(&world.materials.certificates(Algorithm::Ec).pki);
    let spec = TunnelSpec { server_extra, client_extra, ..TunnelSpec::default() };
    for role in ROLES {
        let tunnel = world.start(role, Release::V2_6, &spec);
        tunnel.server.wait_for(expected, SOON).unwrap();
        assert_client_not_up(&tunnel);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn an_expired_client_certificate_is_refused_with_the_reason() {
    let expired = |pki: &Pki| {
        let expired = pki.expired_client().unwrap();
        (String::new(), format!("cert {}\nkey {}", expired.cert.display(), expired.key.display()))
    };
    refused_client_certificate(expired, "VERIFY ERROR: depth=0, error=certificate has expired");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_certificate_of_another_authority_is_refused() {
    let other = Pki::new(Algorithm::Ec).unwrap();
    let (cert, key) = (other.client.cert.display(), other.client.key.display());
    let extra = format!("cert {cert}\nkey {key}");
    refused_client_certificate(|_| (String::new(), extra.clone()), "VERIFY ERROR: depth=0, error=");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_revoked_client_certificate_is_refused() {
    let revoked = |pki: &Pki| {
        let list = pki.revoke(&pki.client).unwrap();
        (format!("crl-verify {}", list.display()), String::new())
    };
    refused_client_certificate(revoked, "VERIFY ERROR: depth=0, error=certificate revoked");
}

/// A server that the client must refuse, in both roles of the subject.
fn refused_server_certificate(extra: impl Fn(&Pki) -> String, expected: &str) {
    let world = World::new();
    let server_extra = extra(&world.materials.certificates(Algorithm::Ec).pki);
    let spec = TunnelSpec { server_extra, ..TunnelSpec::default() };
    for role in ROLES {
        let tunnel = world.start(role, Release::V2_6, &spec);
        tunnel.client.wait_for(expected, SOON).unwrap();
        assert_client_not_up(&tunnel);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn an_expired_server_certificate_is_refused_with_the_reason() {
    let expired = |pki: &Pki| {
        let expired = pki.expired_server().unwrap();
        format!("cert {}\nkey {}", expired.cert.display(), expired.key.display())
    };
    refused_server_certificate(expired, "VERIFY ERROR: depth=0, error=certificate has expired");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_that_poses_as_server_is_refused() {
    let client = |pki: &Pki| format!("cert {}\nkey {}", pki.client.cert.display(), pki.client.key.display());
    // OpenVPN's own check says VERIFY EKU ERROR; OpenSSL 3 finds the wrong purpose before it.
    refused_server_certificate(client, "ERROR: depth=0, error=unsuitable certificate purpose");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_without_a_cipher_in_common_is_told_so() {
    let world = World::new();
    let spec =
        TunnelSpec { client_extra: "data-ciphers CHACHA20-POLY1305".to_owned(), ..TunnelSpec::default() };
    for role in ROLES {
        let tunnel = world.start(role, Release::V2_6, &spec);
        let line = tunnel.client.wait_for("AUTH_FAILED", SOON).unwrap();
        assert!(line.contains("Data channel cipher negotiation failed (no shared cipher)"), "{line}");
        assert_client_not_up(&tunnel);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_wrong_static_key_is_answered_with_silence() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let other = folder.write("other.key", &culvert_testkit::static_key().unwrap()).unwrap();
    for wrapping in ["tls-auth", "tls-crypt"] {
        let spec = TunnelSpec {
            server_extra: format!("{wrapping} {}", world.materials.static_key.display()),
            client_extra: format!("{wrapping} {}\nhand-window 4", other.display()),
            ..TunnelSpec::default()
        };
        for role in ROLES {
            let tunnel = world.start(role, Release::V2_6, &spec);
            tunnel.client.wait_for("TLS Error: TLS key negotiation failed to occur", SOON).unwrap();
            let answered = "TLS: Initial packet from";
            assert!(!tunnel.client.has_logged(answered), "the server answered:\n{}", tunnel.client.tail());
        }
    }
}

/// Runs the subject on a configuration that it must refuse, and returns what it printed.
fn refused_configuration(text: &str) -> Vec<String> {
    let world = World::new();
    let lab = NetnsLab::new().unwrap();
    let folder = TempDir::new().unwrap();
    let config = folder.write("refused.conf", text).unwrap();
    let mut daemon = Daemon::start(&lab.client, &world.subject, "the subject", &config).unwrap();
    let status = daemon.wait_exit(Duration::from_secs(5)).unwrap();
    assert_eq!(status.code(), Some(1), "{}", daemon.tail());
    daemon.lines()
}

fn assert_says(lines: &[String], expected: &str) {
    assert!(lines.iter().any(|line| line.contains(expected)), "no `{expected}` in\n{}", lines.join("\n"));
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn files_that_cannot_be_read_are_named_all_at_once() {
    let lines = refused_configuration(
        "client\ndev tun\nremote 10.99.0.1\nca /nowhere/ca.crt\ncert /nowhere/client.crt\nkey /nowhere/client.key\n",
    );
    assert_says(
        &lines,
        "Options error: --ca fails with '/nowhere/ca.crt': No such file or directory (errno=2)",
    );
    assert_says(&lines, "Options error: --cert fails with '/nowhere/client.crt'");
    assert_says(&lines, "Options error: --key fails with '/nowhere/client.key'");
    assert_says(&lines, "Options error: Please correct these errors.");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn contradicting_options_are_refused() {
    for (text, expected) in [
        ("dev tun\nclient\nserver 10.8.0.0 255.255.255.0\n", "Options error:"),
        (
            "dev tun\ntls-client\nifconfig 10.8.0.1 10.8.0.2\nremote 10.99.0.1\nno-such-option\n",
            "no-such-option",
        ),
        ("dev tun\nserver 10.8.0.0 255.255.255.0\nproto tcp-client\nremote 10.99.0.1\n", "Options error:"),
    ] {
        assert_says(&refused_configuration(text), expected);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn static_key_mode_is_refused_with_what_to_use_instead() {
    let world = World::new();
    if !matches!(world.subject, Implementation::Culvert(_)) {
        return; // OpenVPN up to 2.7 still has it
    }
    let key = world.materials.static_key.display();
    let lines = refused_configuration(&format!("dev tun\nifconfig 10.8.0.1 10.8.0.2\nsecret {key}\n"));
    assert_says(&lines, "peer-fingerprint");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_that_pushes_compression_is_refused_unless_it_may() {
    let world = World::new();
    let pushed = "comp-lzo\npush \"comp-lzo yes\"\nallow-compression yes\n".to_owned();
    let spec = TunnelSpec { server_extra: pushed, ..TunnelSpec::default() };
    let tunnel = world.start(Role::Client, Release::V2_6, &spec);
    let line = "OPTIONS ERROR: server pushed compression settings that are not allowed";
    tunnel.client.wait_for(line, SOON).unwrap();
    assert_client_not_up(&tunnel);
    drop(tunnel);
    let willing = TunnelSpec { client_extra: "allow-compression asym\n".to_owned(), ..spec };
    world.tunnel(Role::Client, Release::V2_6, &willing);
}
