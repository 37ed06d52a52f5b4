//! What the log says when something outside goes wrong, and that the service goes on.

use std::fs;

use culvert_testkit::{Algorithm, NetnsLab, Release, Role, TempDir, TunnelSpec, Wrapping, static_key};

use crate::{SOON, World, assert_no_panic};

/// Short enough to wait for its end.
const IMPATIENT: &str = "hand-window 5";

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn both_ends_name_a_control_channel_key_that_differs() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let other = folder.write("other.key", &static_key().unwrap()).unwrap();
    for (wrapping, line) in [
        (Wrapping::TlsAuth, format!("tls-auth {}", other.display())),
        (Wrapping::TlsCrypt, format!("tls-crypt {}", other.display())),
    ] {
        for role in [Role::Server, Role::Client] {
            let client_extra = format!("{line}\n{IMPATIENT}");
            let spec = TunnelSpec { wrapping, client_extra, ..TunnelSpec::default() };
            let tunnel = world.start(role, Release::V2_6, &spec);
            match role {
                Role::Server => tunnel.server.wait_for("is not answered: its HMAC is wrong", SOON),
                // OpenVPN does not answer either: that it may be the key is all that a client can know.
                Role::Client => tunnel.client.wait_for("drops our packets because its `tls-auth`", SOON * 2),
            }
            .unwrap();
            assert_no_panic(&tunnel);
        }
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_names_a_wrapping_that_only_one_end_has() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let key = folder.write("some.key", &static_key().unwrap()).unwrap();
    let extra = format!("tls-auth {}", key.display());
    for (server_extra, client_extra) in [(extra.clone(), String::new()), (String::new(), extra)] {
        let spec = TunnelSpec { server_extra, client_extra, ..TunnelSpec::default() };
        let tunnel = world.start(Role::Server, Release::V2_6, &spec);
        tunnel.server.wait_for("is not answered: it", SOON).unwrap();
        assert_no_panic(&tunnel);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_says_that_nothing_came_back() {
    let world = World::new();
    let nobody = Some((NetnsLab::SERVER_V4, 9).into());
    let spec = TunnelSpec { remote: nobody, client_extra: IMPATIENT.to_owned(), ..TunnelSpec::default() };
    let tunnel = world.start(Role::Client, Release::V2_6, &spec);
    tunnel.client.wait_for("nothing was received from 10.99.0.1:9: it is not reachable", SOON * 2).unwrap();
    tunnel.client.wait_for("TLS key negotiation failed to occur within 5 seconds", SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_full_disk_does_not_stop_the_service() {
    let world = World::new();
    let spec = TunnelSpec { server_extra: "status /dev/full 1".to_owned(), ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    tunnel.server.wait_for("cannot write /dev/full: No space left on device", SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_file_of_one_client_that_cannot_be_read_stops_that_client_alone() {
    let world = World::new();
    let ccd = TempDir::new().unwrap();
    fs::create_dir(ccd.path().join("second")).unwrap();
    let server_extra = format!("client-config-dir {}", ccd.path().display());
    let spec = TunnelSpec { server_extra, ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    let own = world.materials.certificates(Algorithm::Ec).pki.another_client("second").unwrap();
    let (namespace, server) = tunnel.lab.add_client(2).unwrap();
    let extra = format!("cert {}\nkey {}", own.cert.display(), own.key.display());
    let second = tunnel.start_another_client(2, (&namespace, server), &extra).unwrap();
    tunnel.server.wait_for("client has been rejected: cannot read", SOON).unwrap();
    second.wait_for("AUTH_FAILED", SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_script_that_hangs_for_one_client_delays_no_other() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let script = "#!/bin/sh\n[ \"$common_name\" = second ] && exec sleep 30\nexit 0\n";
    let script = folder.write_script("connect", script).unwrap();
    let server_extra = format!("script-security 2\nclient-connect {}", script.display());
    let spec = TunnelSpec { server_extra, ..TunnelSpec::default() };
    let mut tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    let own = world.materials.certificates(Algorithm::Ec).pki.another_client("second").unwrap();
    let (namespace, server) = tunnel.lab.add_client(2).unwrap();
    let extra = format!("cert {}\nkey {}", own.cert.display(), own.key.display());
    let second = tunnel.start_another_client(2, (&namespace, server), &extra).unwrap();
    tunnel.server.wait_for("[second] Peer Connection Initiated", SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    // A connect meanwhile: the first client once more.
    tunnel.client.stop(SOON).unwrap();
    tunnel.restart(Role::Client).unwrap();
    tunnel.client.wait_up(SOON).unwrap();
    assert!(!second.has_logged("Initialization Sequence Completed"), "{}", second.tail());
    assert_no_panic(&tunnel);
}
