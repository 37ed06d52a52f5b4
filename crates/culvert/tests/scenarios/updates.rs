//! Addresses and options that change while a client is connected: whose they may be, and who has the last word.

use std::fs;
use std::path::Path;

use culvert_testkit::{Management, NetnsLab, Release, Role, TempDir, Tunnel, TunnelSpec, eventually};

use crate::policy::Second;
use crate::{SOON, World, assert_no_panic};

const DONE: &str = "SUCCESS: push-update command succeeded";

/// A server with a management socket and a file for each client, with one client of 2.7.
fn server(folder: &TempDir, files: &TempDir, extra: &str) -> (World, Tunnel, Management) {
    let world = World::new();
    let socket = folder.path().join("management");
    let own = format!("management {} unix\nclient-config-dir {}", socket.display(), files.path().display());
    let spec = TunnelSpec { server_extra: format!("{own}\n{extra}"), ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, Release::V2_7, &spec);
    let management = Management::connect(&socket).unwrap();
    (world, tunnel, management)
}

/// Waits until the client has these, and not those.
fn wait_network(tunnel: &Tunnel, wanted: &[&str], gone: &[&str]) {
    eventually(SOON, || {
        let now = format!(
            "{}{}",
            tunnel.lab.client.ip(&["-o", "addr"]).unwrap(),
            tunnel.lab.client.ip(&["route"]).unwrap()
        );
        let has = |what: &&str| now.contains(*what);
        if wanted.iter().all(has) && !gone.iter().any(has) {
            Ok(())
        } else {
            Err(format!("{now}\n{}", tunnel.server.tail()))
        }
    });
}

fn answer(management: &mut Management, command: &str) -> String {
    // Two lines: how many were told, and the outcome.
    management.command(command).unwrap();
    management.line().unwrap()
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn an_update_gives_no_address_that_is_forbidden_or_another_s_also_of_who_is_on_its_way() {
    let (folder, files) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    // The second client stays on its way, with the pool's second address.
    let script = "#!/bin/sh\n[ \"$common_name\" = second ] && exec sleep 30\nexit 0\n";
    let script = folder.write_script("connect", script).unwrap();
    let extra = format!("script-security 2\nclient-connect {}", script.display());
    let (world, tunnel, mut management) = server(&folder, &files, &extra);
    let _second = Second::start(&world, &tunnel);
    tunnel.server.wait_for("[second] Peer Connection Initiated", SOON).unwrap();

    let refused = "ERROR: push-update command failed";
    let told = answer(&mut management, "push-update-cid 0 \"ifconfig 10.77.0.5 255.255.255.0\"");
    assert_eq!(told, refused);
    tunnel.server.wait_for("10.77.0.5 is outside --ifconfig-push-constraint", SOON).unwrap();
    let told = answer(&mut management, "push-update-cid 0 \"ifconfig 10.8.0.3 255.255.255.0\"");
    assert_eq!(told, refused);
    tunnel.server.wait_for("another client has this address", SOON).unwrap();
    let told = answer(&mut management, "push-update-cid 0 \"ifconfig 10.8.0.9 255.255.255.0\"");
    assert_eq!(told, DONE);
    wait_network(&tunnel, &["10.8.0.9/24"], &["10.8.0.2/24"]);
    // Back to what the pool gave it: nobody else has that.
    let told = answer(&mut management, "push-update-cid 0 \"ifconfig 10.8.0.2 255.255.255.0\"");
    assert_eq!(told, DONE);
    wait_network(&tunnel, &["10.8.0.2/24"], &["10.8.0.9/24"]);
    tunnel.wait_traffic(SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_s_file_leaves_alone_what_the_management_interface_gave_and_tells_what_it_could_not_tell_before() {
    let (folder, files) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (_world, tunnel, mut management) = server(&folder, &files, "");
    let write = |text: &str| write(files.path(), text);
    assert_eq!(answer(&mut management, "push-update-cid 0 \"ifconfig 10.8.0.9 255.255.255.0\""), DONE);
    wait_network(&tunnel, &["10.8.0.9/24"], &["10.8.0.2/24"]);
    write("push \"route 10.66.0.0 255.255.0.0\"\n");
    wait_network(&tunnel, &["10.66.0.0/16", "10.8.0.9/24"], &["10.8.0.2/24"]);

    // An address that is forbidden keeps the rest from being told, too; once it is gone the rest is.
    write("ifconfig-push 10.77.0.5 255.255.255.0\npush \"route 10.67.0.0 255.255.0.0\"\n");
    tunnel.server.wait_for("10.77.0.5 is outside --ifconfig-push-constraint", SOON).unwrap();
    write("push \"route 10.67.0.0 255.255.0.0\"\n\n");
    wait_network(&tunnel, &["10.67.0.0/16", "10.8.0.9/24"], &["10.66.0.0/16", "10.8.0.2/24"]);

    // Its own address in the file comes into force as ever.
    write("ifconfig-push 10.8.0.40 255.255.255.0\npush \"route 10.67.0.0 255.255.0.0\"\n");
    wait_network(&tunnel, &["10.8.0.40/24"], &["10.8.0.9/24"]);
    assert!(!tunnel.server.has_logged("client-instance"), "{}", tunnel.server.tail());
    assert_no_panic(&tunnel);
}

/// Without `def1` the machine's default route is taken away, and comes back at the end.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_default_route_that_was_replaced_comes_back_after_an_update() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("management");
    let lab = NetnsLab::new().unwrap();
    lab.client.ip(&["route", "add", "default", "via", &NetnsLab::SERVER_V4.to_string()]).unwrap();
    let spec = TunnelSpec {
        server_extra: format!("management {} unix", socket.display()),
        client_extra: "redirect-gateway".to_owned(),
        ..TunnelSpec::default()
    };
    let defaults = |lab: &NetnsLab| lab.client.ip(&["route", "show", "default"]).unwrap();
    let own = defaults(&lab);
    let mut tunnel = World::new().tunnel_in(lab, Role::Client, Release::V2_7, &spec);
    let replaced = defaults(&tunnel.lab);
    assert!(replaced.lines().count() == 1 && replaced.contains("dev tun0"), "{replaced}");
    let mut management = Management::connect(&socket).unwrap();
    management.command("push-update-broad \"route 10.66.0.0 255.255.0.0\"").unwrap();
    wait_network(&tunnel, &["10.66.0.0"], &[]);
    assert_eq!(defaults(&tunnel.lab), replaced);
    tunnel.wait_traffic(SOON).unwrap();
    assert!(tunnel.client.stop(SOON).unwrap().success());
    assert_eq!(defaults(&tunnel.lab), own, "{}", tunnel.client.tail());
    assert_no_panic(&tunnel);
}

/// Puts the client's file in its place at one go: half of one would be another configuration.
fn write(files: &Path, text: &str) {
    let aside = files.parent().unwrap_or(files).join(format!("{}.new", std::process::id()));
    fs::write(&aside, text).unwrap();
    fs::rename(aside, files.join("client")).unwrap();
}
