//! Where an end's own key, certificate and authorities come from.

use std::{fs, path::Path, process::Command};

use culvert_testkit::{Algorithm, Identity, Management, Release, Role, TempDir, Tunnel, TunnelSpec};

use crate::{SOON, World, assert_no_panic, management_keys::start_again};

/// A world with a tunnel whose client is started anew with other keys.
fn world() -> (World, Tunnel, TempDir) {
    let world = World::new();
    let tunnel = world.tunnel(Role::Client, Release::V2_7, &TunnelSpec::default());
    (world, tunnel, TempDir::new().unwrap())
}

pub(crate) fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The client's identity and its authority in a PKCS #12 file.
fn p12(world: &World, folder: &TempDir, password: &str) -> String {
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    let Identity { cert, key, .. } = &pki.client;
    let path = folder.path().join("client.p12");
    let password = format!("pass:{password}");
    openssl(&[
        "pkcs12",
        "-export",
        "-in",
        text(cert),
        "-inkey",
        text(key),
        "-certfile",
        text(&pki.ca),
        "-out",
        text(&path),
        "-passout",
        &password,
    ]);
    path.display().to_string()
}

fn carries(tunnel: &Tunnel) {
    tunnel.wait_up().unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert_no_panic(tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_pkcs_12_file_holds_key_certificate_and_authority() {
    let (world, mut tunnel, folder) = world();
    let file = p12(&world, &folder, "open sesame");
    let pass = folder.write("pass", "open sesame\n").unwrap();
    let lines = format!("pkcs12 {file}\naskpass {}", pass.display());
    start_again(&mut tunnel, Role::Client, &["key", "cert", "ca"], &lines);
    carries(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_pkcs_12_file_without_password_stands_in_the_configuration() {
    let (world, mut tunnel, folder) = world();
    let file = p12(&world, &folder, "");
    let base64 = folder.path().join("base64");
    openssl(&["base64", "-in", &file, "-out", text(&base64)]);
    let lines = format!("<pkcs12>\n{}</pkcs12>", fs::read_to_string(base64).unwrap());
    start_again(&mut tunnel, Role::Client, &["key", "cert"], &lines);
    carries(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_password_of_a_pkcs_12_file_comes_from_the_management_interface() {
    let (world, mut tunnel, folder) = world();
    let file = p12(&world, &folder, "open sesame");
    let at = folder.path().join("socket");
    let lines = format!("pkcs12 {file}\nmanagement {} unix\nmanagement-query-passwords", at.display());
    start_again(&mut tunnel, Role::Client, &["key", "cert", "ca"], &lines);
    let mut management = Management::connect(&at).unwrap();
    for password in ["wrong", "open sesame"] {
        assert_eq!(management.wait_for(">PASSWORD:Need").unwrap(), ">PASSWORD:Need 'Private Key' password");
        management.command(&format!("password \"Private Key\" \"{password}\"")).unwrap();
        if password == "wrong" {
            management.wait_for(">PASSWORD:Verification Failed: 'Private Key'").unwrap();
        }
    }
    carries(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn authorities_and_revocations_are_found_in_a_directory() {
    let (world, mut tunnel, folder) = world();
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    let directory = folder.path().join("authorities");
    fs::create_dir(&directory).unwrap();
    fs::copy(&pki.ca, directory.join("ca.pem")).unwrap();
    openssl(&["rehash", text(&directory)]);
    let lines = format!("capath {}", directory.display());
    start_again(&mut tunnel, Role::Client, &["ca"], &lines);
    carries(&tunnel);

    fs::copy(pki.revoke(&pki.server).unwrap(), directory.join("crl.pem")).unwrap();
    openssl(&["rehash", text(&directory)]);
    tunnel.restart(Role::Client).unwrap();
    tunnel.client.wait_for("certificate revoked", SOON).unwrap();
    assert_no_panic(&tunnel);
}
