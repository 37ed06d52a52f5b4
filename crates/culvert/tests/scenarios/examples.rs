//! The files of `examples/` whose ends know each other by their certificates, run as they are; those with logins are in
//! [`super::authentication`] and [`super::management`].

use std::fs;
use std::path::Path;
use std::process::Command;

use culvert_testkit::{Algorithm, Daemon, Implementation, Namespace, NetnsLab, Release, TempDir};

use crate::{SOON, World};

/// A folder with every file that the examples name.
fn folder(world: &World) -> TempDir {
    let folder = TempDir::new().unwrap();
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    for (from, to) in [
        (&pki.ca, "ca.crt"),
        (&pki.server.cert, "server.crt"),
        (&pki.server.key, "server.key"),
        (&pki.client.cert, "client.crt"),
        (&pki.client.key, "client.key"),
        (&pki.server.cert, "a.crt"),
        (&pki.server.key, "a.key"),
        (&pki.client.cert, "b.crt"),
        (&pki.client.key, "b.key"),
        (&world.materials.v2_server_key, "v2-server.key"),
        (&world.materials.v2_client_key, "v2-client.key"),
    ] {
        fs::copy(from, folder.path().join(to)).unwrap();
    }
    fs::create_dir(folder.path().join("ccd")).unwrap();
    folder
}

/// Starts an example with what its comments tell to replace.
fn start(
    (namespace, program): (&Namespace, &Implementation),
    folder: &TempDir,
    name: &str,
    replaced: &[(&str, &str)],
) -> Daemon {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let text = fs::read_to_string(examples.join(name)).unwrap();
    let text = replaced.iter().fold(text, |text, (what, by)| {
        assert!(text.contains(what), "{name} has no {what}");
        text.replace(what, by)
    });
    folder.write(name, &text).unwrap();
    let arguments = ["--cd", &folder.path().display().to_string(), "--config", name];
    Daemon::start_with(namespace, program.program(), name, &arguments).unwrap()
}

fn assert_reaches(namespace: &Namespace, address: &str, logs: &[&Daemon]) {
    let pinged = namespace.run("ping", &["-c", "1", "-w", "10", address]);
    let tails = || logs.iter().map(|daemon| daemon.tail()).collect::<String>();
    assert!(pinged.is_ok(), "{address}: {}\n{}", pinged.unwrap_err(), tails());
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_examples_of_a_server_and_its_client_work() {
    let world = World::new();
    for (server_name, program) in [
        ("server.conf", world.subject.clone()),
        ("server.conf", world.peers.get(Release::V2_6).unwrap()),
        ("server-shared.conf", world.subject.clone()),
    ] {
        let (folder, lab) = (folder(&world), NetnsLab::new().unwrap());
        let status = folder.path().join("status.log").display().to_string();
        let replaced = match server_name {
            "server.conf" => vec![("/run/culvert-status.log", status.as_str())],
            _ => vec![],
        };
        let server = start((&lab.server, &world.subject), &folder, server_name, &replaced);
        server.wait_up(SOON).unwrap();
        let address = NetnsLab::SERVER_V4.to_string();
        let own_name = ("verify-x509-name vpn.example.net name", "verify-x509-name server name");
        let client = start(
            (&lab.client, &program),
            &folder,
            "client.ovpn",
            &[own_name, ("vpn.example.net", &address)],
        );
        client.wait_up(SOON).map_err(|failure| format!("{failure}\n{}", server.tail())).unwrap();
        assert_reaches(&lab.client, "10.8.0.1", &[&server, &client]);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_examples_of_two_equal_ends_work() {
    let world = World::new();
    for program in [world.subject.clone(), world.peers.get(Release::V2_6).unwrap()] {
        let (folder, lab) = (folder(&world), NetnsLab::new().unwrap());
        let fingerprint = |file: &str| {
            let path = folder.path().join(file).display().to_string();
            let words = ["x509", "-in", &path, "-noout", "-sha256", "-fingerprint"];
            let output = Command::new("openssl").args(words).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.trim().split_once('=').unwrap().1.to_owned()
        };
        let (of_a, of_b) = (fingerprint("a.crt"), fingerprint("b.crt"));
        let unknown = ["00"; 32].join(":");
        let a = start((&lab.server, &world.subject), &folder, "p2p-a.conf", &[(&unknown, &of_b)]);
        let address = NetnsLab::SERVER_V4.to_string();
        let replaced = [(unknown.as_str(), of_a.as_str()), ("a.example.net", &address)];
        let b = start((&lab.client, &program), &folder, "p2p-b.conf", &replaced);
        b.wait_up(SOON).map_err(|failure| format!("{failure}\n{}", a.tail())).unwrap();
        assert_reaches(&lab.client, "10.9.0.1", &[&a, &b]);
    }
}
