//! What a reload does to clients that are connected or on their way: other authorities, certificates, lists and judges.

use std::fs;
use std::path::Path;

use culvert_testkit::{Algorithm, Login, Release, Role, Signal, TempDir, Tunnel, TunnelSpec, eventually};

use crate::{SOON, World, assert_no_panic};

/// Has the server's file read again after `edit`; returns the mark before that.
fn reload(tunnel: &Tunnel, edit: impl FnOnce(String) -> String) -> usize {
    tunnel.edit_config(Role::Server, edit).unwrap();
    let mark = tunnel.server.mark();
    tunnel.server.signal(Signal::Reload).unwrap();
    tunnel.server.wait_for_after(mark, "reload: ", SOON).unwrap();
    mark
}

/// Replaces a file at one go, as administrators' tools do.
fn replace(path: &Path, by: &Path) {
    let aside = path.with_extension("new");
    fs::copy(by, &aside).unwrap();
    fs::rename(aside, path).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_renewed_certificate_is_shown_at_the_next_renegotiation_and_an_authority_that_goes_takes_its_clients_along()
 {
    let world = World::new();
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    let folder = TempDir::new().unwrap();
    let [ca, cert, key] = ["ca.pem", "server.pem", "server.key"].map(|name| folder.path().join(name));
    fs::copy(&pki.ca, &ca).unwrap();
    fs::copy(&pki.server.cert, &cert).unwrap();
    fs::copy(&pki.server.key, &key).unwrap();
    let extra = format!("cert {}\nkey {}\nca {}\nreneg-sec 4", cert.display(), key.display(), ca.display());
    let spec = TunnelSpec { server_extra: extra, ..TunnelSpec::default() };
    let spec = TunnelSpec { client_extra: "reneg-sec 0".to_owned(), ..spec };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);

    // The next one that anybody sees has expired: a certificate that really arrives.
    let renewed = pki.expired_server().unwrap();
    replace(&key, &renewed.key);
    replace(&cert, &renewed.cert);
    let mark = reload(&tunnel, |text| text);
    tunnel.server.wait_for_after(mark, "revocation lists were read again", SOON).unwrap();
    assert!(!tunnel.server.has_logged("client-instance"), "{}", tunnel.server.tail());
    tunnel.client.wait_for("certificate has expired", SOON * 2).unwrap();

    replace(&key, &pki.server.key);
    replace(&cert, &pki.server.cert);
    let (client, server) = (tunnel.client.mark(), tunnel.server.mark());
    let _mark = reload(&tunnel, |text| text.replace("reneg-sec 4", "reneg-sec 0"));
    tunnel.client.wait_up_after(client, SOON * 3).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    tunnel.server.wait_for_after(server, "Peer Connection Initiated", SOON).unwrap();

    let other = culvert_testkit::Pki::new(Algorithm::Ec).unwrap();
    replace(&ca, &other.ca);
    let mark = reload(&tunnel, |text| text);
    tunnel.server.wait_for_after(mark, "no longer admitted: VERIFY ERROR: depth=", SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn renegotiations_go_on_with_a_renewed_certificate() {
    for release in [Release::V2_6, Release::V2_7] {
        let world = World::new();
        let pki = &world.materials.certificates(Algorithm::Ec).pki;
        let folder = TempDir::new().unwrap();
        let [cert, key] = ["server.pem", "server.key"].map(|name| folder.path().join(name));
        fs::copy(&pki.server.cert, &cert).unwrap();
        fs::copy(&pki.server.key, &key).unwrap();
        let extra = format!("cert {}\nkey {}\nreneg-sec 4", cert.display(), key.display());
        let spec = TunnelSpec { server_extra: extra, ..TunnelSpec::default() };
        let spec = TunnelSpec { client_extra: "reneg-sec 0".to_owned(), ..spec };
        let tunnel = world.tunnel(Role::Server, release, &spec);
        let renewed = pki.another_server("server").unwrap();
        replace(&key, &renewed.key);
        replace(&cert, &renewed.cert);
        let mark = reload(&tunnel, |text| text);
        eventually(SOON * 2, || {
            let lines = tunnel.server.lines();
            let after = lines.iter().skip(mark).filter(|line| line.contains("Control Channel: TLS")).count();
            if after >= 2 {
                Ok(())
            } else {
                Err(format!("{}\n{}", tunnel.server.tail(), tunnel.client.tail()))
            }
        });
        tunnel.wait_traffic(SOON).unwrap();
        assert!(!tunnel.server.has_logged("client-instance"), "{}", tunnel.server.tail());
        assert!(!tunnel.client.has_logged("SIGUSR1"), "{}", tunnel.client.tail());
        assert_no_panic(&tunnel);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_on_its_way_does_not_slip_past_a_revocation() {
    let world = World::new();
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    let other = pki.another_client("other").unwrap();
    let folder = TempDir::new().unwrap();
    let list = folder.path().join("list.pem");
    fs::copy(pki.revoke(&other).unwrap(), &list).unwrap();
    let gate = folder.path().join("gate");
    // Its certificate is judged; then it waits until the list is another one.
    let script = format!("#!/bin/sh\nwhile ! [ -e {0} ]; do sleep 0.1; done\n", gate.display());
    let script = folder.write_script("connect", &script).unwrap();
    let extra =
        format!("crl-verify {}\nscript-security 2\nclient-connect {}", list.display(), script.display());
    let spec = TunnelSpec { server_extra: extra, ..TunnelSpec::default() };
    let tunnel = world.start(Role::Server, Release::V2_6, &spec);
    tunnel.server.wait_for("Peer Connection Initiated", SOON).unwrap();
    let mark = tunnel.server.mark();
    replace(&list, &pki.revoke(&pki.client).unwrap());
    // The server looks at the list once a second; nobody is connected whom it could tell about.
    tunnel.server.signal(Signal::Reload).unwrap();
    tunnel.server.wait_for_after(mark, "reload: ", SOON).unwrap();
    fs::write(&gate, "").unwrap();
    tunnel
        .server
        .wait_for_after(
            mark,
            "client has been rejected: VERIFY ERROR: depth=0, error=certificate revoked",
            SOON,
        )
        .unwrap();
    assert!(!tunnel.client.has_logged("Initialization Sequence Completed"), "{}", tunnel.client.tail());
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_on_its_way_does_not_slip_past_a_disable() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let files = TempDir::new().unwrap();
    let gate = folder.path().join("gate");
    let script = format!("#!/bin/sh\nwhile ! [ -e {0} ]; do sleep 0.1; done\n", gate.display());
    let script = folder.write_script("connect", &script).unwrap();
    let extra = format!(
        "client-config-dir {}\nscript-security 2\nclient-connect {}",
        files.path().display(),
        script.display()
    );
    let spec = TunnelSpec { server_extra: extra, ..TunnelSpec::default() };
    let tunnel = world.start(Role::Server, Release::V2_6, &spec);
    tunnel.server.wait_for("Peer Connection Initiated", SOON).unwrap();
    files.write("client", "disable\n").unwrap();
    let mark = reload(&tunnel, |text| text);
    fs::write(&gate, "").unwrap();
    tunnel.server.wait_for_after(mark, "client has been rejected: `disable` is set", SOON).unwrap();
    assert!(!tunnel.client.has_logged("Initialization Sequence Completed"), "{}", tunnel.client.tail());
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_on_its_way_gets_what_its_file_says_by_then() {
    for (text, address, route) in [
        ("push \"route 10.66.0.0 255.255.0.0\"\n", "10.8.0.2/24", "10.66.0.0/16"),
        (
            "ifconfig-push 10.8.0.30 255.255.255.0\npush \"route 10.67.0.0 255.255.0.0\"\n",
            "10.8.0.30/24",
            "10.67.0.0/16",
        ),
    ] {
        let world = World::new();
        let (folder, files) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let gate = folder.path().join("gate");
        let script = format!("#!/bin/sh\nwhile ! [ -e {0} ]; do sleep 0.1; done\n", gate.display());
        let script = folder.write_script("connect", &script).unwrap();
        let own = format!("client-config-dir {}", files.path().display());
        let extra = format!("{own}\nscript-security 2\nclient-connect {}", script.display());
        let spec = TunnelSpec { server_extra: extra, ..TunnelSpec::default() };
        let tunnel = world.start(Role::Server, Release::V2_6, &spec);
        tunnel.server.wait_for("Peer Connection Initiated", SOON).unwrap();
        files.write("client", text).unwrap();
        let _mark = reload(&tunnel, |text| text);
        fs::write(&gate, "").unwrap();
        tunnel.wait_up().unwrap();
        let addresses = tunnel.lab.client.ip(&["-o", "addr"]).unwrap();
        let routes = tunnel.lab.client.ip(&["route"]).unwrap();
        assert!(addresses.contains(address) && routes.contains(route), "{addresses}\n{routes}");
        assert!(!tunnel.server.has_logged("from the next connection on"), "{}", tunnel.server.tail());
        assert_no_panic(&tunnel);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_judge_that_a_reload_adds_asks_at_the_next_renegotiation() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let script = folder.write_script("judge", "#!/bin/sh\nexit 0\n").unwrap();
    let spec = TunnelSpec {
        server_extra: "reneg-sec 8".to_owned(),
        client_extra: "reneg-sec 0".to_owned(),
        ..TunnelSpec::default()
    };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    let judge =
        format!("script-security 2\nauth-user-pass-verify {} via-env\nscript-security 3", script.display());
    let mark = reload(&tunnel, |text| format!("{text}\n{judge}\n"));
    tunnel
        .server
        .wait_for_after(mark, "logins are judged now; clients that are connected show theirs", SOON)
        .unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    tunnel.server.wait_for_after(mark, "Auth Username/Password was not provided by peer", SOON * 2).unwrap();
    tunnel.client.wait_for("AUTH_FAILED", SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_route_up_that_hangs_at_a_reload_delays_nobody() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let started = folder.path().join("started");
    // At the start it is quick.
    let script = format!("#!/bin/sh\n[ -e {0} ] && exec sleep 30\ntouch {0}\n", started.display());
    let script = folder.write_script("route-up", &script).unwrap();
    let extra = format!("script-security 2\nroute-up {}", script.display());
    let spec = TunnelSpec { server_extra: extra, ..TunnelSpec::default() };
    let mut tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    let mark = reload(&tunnel, |text| format!("{text}\nroute 10.90.0.0 255.255.0.0\n"));
    let routes = || tunnel.lab.server.ip(&["route"]).unwrap();
    eventually(SOON, || if routes().contains("10.90.0.0/16") { Ok(()) } else { Err(routes()) });
    // The route is there, so the script runs. Somebody connects meanwhile, and a second reload is heard.
    tunnel.client.stop(SOON).unwrap();
    tunnel.restart(Role::Client).unwrap();
    tunnel.client.wait_up(SOON).unwrap();
    tunnel.server.signal(Signal::Reload).unwrap();
    let second = tunnel.server.mark();
    tunnel.server.wait_for_after(second, "reload: changed: no option", SOON).unwrap();
    assert!(tunnel.server.lines().len() > mark);
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn where_the_key_cannot_be_read_again_the_reload_says_so_and_other_options_are_taken() {
    let world = World::new();
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    let folder = TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::copy(&pki.server.key, secret.join("server.key")).unwrap();
    let drop = "user nobody\ngroup nogroup\npersist-tun\npersist-key";
    let extra = format!("{drop}\nkey {}\ntls-cert-profile legacy", secret.join("server.key").display());
    let spec = TunnelSpec { server_extra: extra, ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    for path in [tunnel.folder.path(), &tunnel.folder.path().join("server.conf")] {
        tunnel.lab.server.run("chmod", &["a+rX", &path.display().to_string()]).unwrap();
    }
    tunnel.lab.server.run("chmod", &["go-rwx", &secret.display().to_string()]).unwrap();
    tunnel
        .edit_config(Role::Server, |text| {
            format!("{}\nhand-window 30\n", text.replace("profile legacy", "profile preferred"))
        })
        .unwrap();
    tunnel
        .lab
        .server
        .run("chmod", &["a+r", &tunnel.folder.path().join("server.conf").display().to_string()])
        .unwrap();
    let mark = tunnel.server.mark();
    tunnel.server.signal(Signal::Reload).unwrap();
    let line = tunnel.server.wait_for_after(mark, "reload: changed: ", SOON).unwrap();
    assert!(line.contains("`hand-window`") && !line.contains("tls-cert-profile"), "{line}");
    assert!(line.contains("keys and certificates stay as they were"), "{line}");
    let line = tunnel.server.wait_for_after(mark, "needs a restart: ", SOON).unwrap();
    assert!(line.contains("`tls-cert-profile`") && !line.contains("hand-window"), "{line}");
    tunnel.server.wait_for_after(mark, "without its former privileges", SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn another_key_of_tokens_on_disk_waits_for_a_restart_and_is_named() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let secret = |letter: &str| {
        let key = letter.repeat(171) + "=";
        format!(
            "-----BEGIN OpenVPN auth-token server key-----\n{key}\n-----END OpenVPN auth-token server key-----\n"
        )
    };
    let file = folder.write("token.key", &secret("A")).unwrap();
    let extra = format!("auth-gen-token\nauth-gen-token-secret {}", file.display());
    let spec = TunnelSpec { login: Login::Both, server_extra: extra, ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    for letter in ["E", "I"] {
        folder.write("token.key", &secret(letter)).unwrap();
        let mark = reload(&tunnel, |text| text);
        let wanted = "needs a restart: the key of `auth-gen-token-secret`, which changed on disk";
        tunnel.server.wait_for_after(mark, wanted, SOON).unwrap();
    }
    folder.write("token.key", &secret("A")).unwrap();
    let mark = reload(&tunnel, |text| text);
    tunnel.server.wait_for_after(mark, "reload: changed: no option", SOON).unwrap();
    assert!(
        !tunnel.server.lines()[mark..].iter().any(|line| line.contains("needs a restart")),
        "{}",
        tunnel.server.tail()
    );
    assert_no_panic(&tunnel);
}

/// A reload that reads what hangs is lost with the server that reads it: whoever asked hears so, and the log stays.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_reload_that_still_reads_when_the_server_restarts_is_given_up() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let key = folder.path().join("server.key");
    fs::copy(&world.materials.certificates(Algorithm::Ec).pki.server.key, &key).unwrap();
    let control = folder.path().join("control");
    let extra = format!("persist-key\nkey {}\ncontrol-socket {}", key.display(), control.display());
    let spec = TunnelSpec { server_extra: extra, ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);

    fs::remove_file(&key).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&key).status().unwrap();
    assert!(made.success());
    let mark = tunnel.server.mark();
    let asker = std::process::Command::new(env!("CARGO_BIN_EXE_culvert"))
        .args(["reload", &control.display().to_string()])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    tunnel.server.wait_for_after(mark, "culvert reload: reading", SOON).unwrap();
    tunnel.server.signal(Signal::Restart).unwrap();
    tunnel.server.wait_for_after(mark, "reload: given up: the server restarts", SOON).unwrap();
    let told = asker.wait_with_output().unwrap();
    let told = [told.stdout, told.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(told.contains("given up: the server restarts"), "{told}");
    // Whoever still waits to open it goes on.
    drop(fs::OpenOptions::new().write(true).open(&key).unwrap());
    assert_no_panic(&tunnel);
}

/// A key on a file system whose server is gone is a file that cannot be opened: neither tunnels, nor handshakes, nor who
/// asks for the status wait for it, and once it can be read, the reload that came meanwhile happens as well.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_reload_whose_files_hang_holds_up_nobody() {
    let world = World::new();
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    let folder = TempDir::new().unwrap();
    let key = folder.path().join("server.key");
    fs::copy(&pki.server.key, &key).unwrap();
    let control = folder.path().join("control");
    let extra = format!("key {}\ncontrol-socket {}", key.display(), control.display());
    let spec = TunnelSpec { server_extra: extra, ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);

    fs::remove_file(&key).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&key).status().unwrap();
    assert!(made.success());
    let mark = tunnel.server.mark();
    tunnel.server.signal(Signal::Reload).unwrap();
    tunnel.server.wait_for_after(mark, "SIGHUP[hard,] received", SOON).unwrap();
    tunnel
        .edit_config(Role::Server, |text| format!("{text}\npush \"route 10.66.0.0 255.255.0.0\"\n"))
        .unwrap();
    tunnel.server.signal(Signal::Reload).unwrap();
    tunnel.server.wait_for_after(mark, "this one follows it", SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    let client = tunnel.client.mark();
    tunnel.client.signal(Signal::Restart).unwrap();
    tunnel.client.wait_up_after(client, SOON).unwrap();
    assert!(!tunnel.server.has_logged("reload: changed"), "{}", tunnel.server.tail());

    // Whoever waits to open it goes on; whoever opens it from here on finds the key.
    let fifo = folder.path().join("fifo");
    fs::rename(&key, &fifo).unwrap();
    fs::copy(&pki.server.key, &key).unwrap();
    drop(fs::OpenOptions::new().write(true).open(&fifo).unwrap());
    tunnel.server.wait_for_after(mark, "reload: changed: `push`", SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert_no_panic(&tunnel);
}
