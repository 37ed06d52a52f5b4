//! What scripts of a server decide, with a real client: logins in every form, addresses, answers that come later.

use std::fs;

use culvert_testkit::{Login, Management, Release, Role, TempDir, Tunnel, TunnelSpec, eventually};

use crate::{SOON, World};

/// Starts a server whose clients log in with certificate and password, and whose scripts are these: option, text.
fn spec(folder: &TempDir, extra: &str, scripts: &[(&str, &str)]) -> TunnelSpec {
    let mut server_extra = format!("{extra}\ntmp-dir {}\n", folder.path().display());
    for (option, text) in scripts {
        let (name, after) = option.split_once(' ').unwrap_or((option, ""));
        let script = folder.write_script(name, &format!("#!/bin/sh\n{text}\n")).unwrap();
        server_extra.push_str(&format!("{name} {} {after}\n", script.display()));
    }
    TunnelSpec { login: Login::Both, server_extra, ..TunnelSpec::default() }
}

fn comes_up(extra: &str, scripts: &[(&str, &str)]) -> (TempDir, Tunnel) {
    let folder = TempDir::new().unwrap();
    let spec = spec(&folder, extra, scripts);
    let tunnel = World::new().tunnel(Role::Server, Release::V2_6, &spec);
    (folder, tunnel)
}

fn is_refused(scripts: &[(&str, &str)], because: &str) {
    let folder = TempDir::new().unwrap();
    let spec = spec(&folder, "script-security 3", scripts);
    let tunnel = World::new().start(Role::Server, Release::V2_6, &spec);
    tunnel.client.wait_for(because, SOON * 2).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    assert!(!tunnel.client.has_logged("Initialization Sequence Completed"), "{}", tunnel.client.tail());
}

const GOOD_LOGIN: &str = r#"test "$username" = alice && test "$password" = "correct horse" && test "$script_type" = user-pass-verify"#;

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_login_is_judged_by_a_script_through_its_environment() {
    comes_up("script-security 3", &[("auth-user-pass-verify via-env", GOOD_LOGIN)]);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_login_is_judged_by_a_script_through_a_file() {
    let script = r#"{ read name; read word; } < "$1"; test "$name" = alice && test "$word" = "correct horse" && test -z "$password""#;
    let (folder, _tunnel) = comes_up("script-security 2", &[("auth-user-pass-verify via-file", script)]);
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.starts_with("openvpn_up_"))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "the password's file is gone");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_login_may_be_judged_later() {
    let script = r#"( sleep 2; printf 1 > "$auth_control_file" ) & exit 2"#;
    comes_up("script-security 2", &[("auth-user-pass-verify via-file", script)]);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_hears_why_its_login_was_refused() {
    let script = r#"printf 'come back tomorrow' > "$auth_failed_reason_file"; exit 1"#;
    is_refused(&[("auth-user-pass-verify via-file", script)], "AUTH_FAILED,come back tomorrow");
    let script = r#"( sleep 1; printf 'no such room' > "$auth_failed_reason_file"; printf 0 > "$auth_control_file" ) & exit 2"#;
    is_refused(&[("auth-user-pass-verify via-file", script)], "AUTH_FAILED,no such room");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn client_connect_refuses_or_decides_later_what_a_client_gets() {
    is_refused(&[("auth-user-pass-verify via-env", GOOD_LOGIN), ("client-connect", "exit 1")], "AUTH_FAILED");
    let script = r#"printf 2 > "$client_connect_deferred_file"
( sleep 2; echo 'push "setenv-safe answer late"' > "$client_connect_config_file"; printf 1 > "$client_connect_deferred_file" ) &"#;
    let (_folder, tunnel) = comes_up(
        "script-security 3",
        &[("auth-user-pass-verify via-env", GOOD_LOGIN), ("client-connect", script)],
    );
    assert!(tunnel.client.has_logged("setenv-safe answer late"), "{}", tunnel.client.tail());
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn scripts_hear_of_addresses_device_and_times() {
    let folder = TempDir::new().unwrap();
    let calls = folder.path().join("calls");
    let note = format!(
        r#"echo "$script_type|$*|$dev|$ifconfig_local|$ifconfig_netmask|$ifconfig_pool_remote_ip|$ifconfig_pool_netmask|$time_unix|$bytes_received" >> {}"#,
        calls.display()
    );
    let mut spec = spec(
        &folder,
        "script-security 3",
        &[
            ("auth-user-pass-verify via-env", GOOD_LOGIN),
            ("client-connect", &note),
            ("client-disconnect", &note),
        ],
    );
    spec.client_extra = "explicit-exit-notify 1".to_owned();
    let mut tunnel = World::new().tunnel(Role::Server, Release::V2_6, &spec);
    tunnel.client.stop(SOON).unwrap();
    let read = || fs::read_to_string(&calls).unwrap_or_default();
    eventually(SOON * 2, || {
        if read().contains("client-disconnect") {
            Ok(())
        } else {
            Err(format!("{}{}", read(), tunnel.server.tail()))
        }
    });
    let text = read();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('|').collect()).collect();
    let heard: Vec<&str> = lines.iter().map(|line| line[0]).collect();
    assert_eq!(heard, ["client-connect", "client-disconnect"], "{text}");
    for line in &lines {
        assert!(!line[2].is_empty(), "dev: {text}");
        assert_eq!(line[3..7], ["10.8.0.1", "255.255.255.0", "10.8.0.2", "255.255.255.0"], "{text}");
    }
    assert_eq!(lines[0][7], lines[1][7], "time_unix is the same at both ends of a session: {text}");
    assert!(lines[1][8].parse::<u64>().is_ok_and(|bytes| bytes > 1000), "bytes_received: {text}");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn tls_verify_finds_the_certificate_in_a_file_that_is_gone_afterwards() {
    let exported = TempDir::new().unwrap();
    let script =
        "openssl x509 -in \"$peer_cert\" -noout -subject | grep -q 'CN *= *client\\|CN *= *culvert test CA'";
    let extra = format!("script-security 3\ntls-export-cert {}", exported.path().display());
    comes_up(&extra, &[("auth-user-pass-verify via-env", GOOD_LOGIN), ("tls-verify", script)]);
    assert_eq!(fs::read_dir(exported.path()).unwrap().count(), 0);
}

/// The variables that `x509-track` sets, as a server of this implementation tells them to `tls-verify`.
fn tracked(world: &World, server: &culvert_testkit::Implementation) -> Vec<String> {
    let folder = TempDir::new().unwrap();
    let seen = folder.path().join("seen");
    let note = format!("env | grep '^X509_' >{}\nexit 0", seen.display());
    let extra = "script-security 3\nx509-track +CN\nx509-track +basicConstraints\nx509-track keyUsage\n\
                 x509-track extendedKeyUsage\nx509-track +subjectKeyIdentifier\nx509-track authorityKeyIdentifier\n\
                 x509-track subjectAltName\nx509-track SHA1";
    let scripts = [("auth-user-pass-verify via-env", GOOD_LOGIN), ("tls-verify", &*note)];
    let spec = spec(&folder, extra, &scripts);
    let client = world.peers.get(Release::V2_6).unwrap();
    let _tunnel = Tunnel::start_up(&spec, server, &client, &world.materials).unwrap();
    let mut lines: Vec<_> = fs::read_to_string(seen).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn extensions_of_certificates_are_told_as_openvpn_tells_them() {
    let world = World::new();
    let ours = tracked(&world, &world.subject);
    assert_eq!(ours, tracked(&world, &world.peers.get(Release::V2_6).unwrap()));
    let purpose = "X509_0_extendedKeyUsage=TLS Web Client Authentication".to_owned();
    assert!(ours.contains(&purpose), "{ours:?}");
}

/// What a script opened for a client is closed again, also where the client was refused after that, or left.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn scripts_that_heard_of_a_client_hear_of_its_end_also_when_it_was_never_connected() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("heard");
    let note = |what: &str| format!("echo \"{what}\" >>{}", log.display());
    let heard = |lines: &[&str]| {
        eventually(SOON, || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let has = |line: &&str| text.lines().any(|heard| heard == *line);
            if lines.iter().all(has) { Ok(()) } else { Err(text) }
        });
    };
    let (connect, disconnect) = (note("connected $common_name"), note("gone $common_name"));
    // Its address is let in, the network behind it is not.
    let learn = format!("{}; test \"$2\" = 10.8.0.2", note("$1 $2"));
    let scripts =
        [("client-connect", &*connect), ("client-disconnect", &disconnect), ("learn-address", &learn)];
    folder.write("DEFAULT", "iroute 198.51.100.0 255.255.255.0\n").unwrap();
    let extra = format!("script-security 2\nclient-config-dir {}", folder.path().display());
    let mut spec = spec(&folder, &extra, &scripts);
    spec.login = Login::Certificate;
    let tunnel = World::new().start(Role::Server, Release::V2_6, &spec);
    tunnel.client.wait_for("AUTH_FAILED", SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    heard(&["connected client", "add 10.8.0.2", "gone client", "delete 10.8.0.2"]);
    drop(tunnel);

    // It leaves while its script runs.
    fs::remove_file(&log).unwrap();
    let slow = format!("{}; sleep 3; {connect}", note("asked"));
    let scripts = [("client-connect", &*slow), ("client-disconnect", &disconnect)];
    let socket = folder.path().join("socket");
    let mut spec =
        self::spec(&folder, &format!("script-security 2\nmanagement {} unix", socket.display()), &scripts);
    spec.login = Login::Certificate;
    let tunnel = World::new().start(Role::Server, Release::V2_6, &spec);
    heard(&["asked"]);
    let mut management = Management::connect(&socket).unwrap();
    assert_eq!(management.command("client-kill 0").unwrap(), ["SUCCESS: client-kill command succeeded"]);
    heard(&["connected client", "gone client"]);
    drop(tunnel);
}

/// OpenVPN 2.7 tells `client-disconnect` also when `client-connect` refused, and so does culvert.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_that_is_not_connected_is_followed_by_client_disconnect_as_in_openvpn() {
    let world = World::new();
    let openvpn = world.peers.get(Release::V2_7).unwrap();
    for server in [&openvpn, &world.subject] {
        for refuses in ["script", "file"] {
            let folder = TempDir::new().unwrap();
            let log = folder.path().join("heard");
            let note = |what: &str| format!("echo \"{what} $common_name\" >>{}", log.display());
            let (connect, disconnect) = (format!("{}\nexit 1", note("asked")), note("gone"));
            let scripts = [("client-connect", &*connect), ("client-disconnect", &disconnect)];
            let files = folder.path().join("clients");
            fs::create_dir(&files).unwrap();
            if refuses == "file" {
                fs::write(files.join("client"), "disable\n").unwrap();
            }
            let extra = format!("script-security 2\nclient-config-dir {}", files.display());
            let spec = TunnelSpec { login: Login::Certificate, ..spec(&folder, &extra, &scripts) };
            let tunnel = Tunnel::start(&spec, server, &world.subject, &world.materials).unwrap();
            tunnel
                .client
                .wait_for("AUTH_FAILED", SOON)
                .map_err(|failure| tunnel.with_logs(&failure))
                .unwrap();
            let expected = if refuses == "script" { "asked client\ngone client\n" } else { "gone client\n" };
            eventually(SOON, || match fs::read_to_string(&log).unwrap_or_default() {
                text if text == expected => Ok(()),
                text => Err(format!("the {refuses} refuses at {server}: {text}")),
            });
        }
    }
}
