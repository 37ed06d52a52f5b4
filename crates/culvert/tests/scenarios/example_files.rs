//! The files in `examples/`, as they are but for names of machines, run with real peers.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use culvert_testkit::{
    Algorithm, Daemon, Implementation, Namespace, NetnsLab, Release, TempDir, eventually, traffic,
};

use crate::{SOON, World};

/// Those that this module runs.
const HERE: [&str; 6] =
    ["client.ovpn", "p2p-a.conf", "p2p-b.conf", "server-bridge.conf", "server-shared.conf", "server.conf"];

/// Those that [`crate::management`] and [`crate::authentication`] run.
const ELSEWHERE: [&str; 5] = [
    "client-login.ovpn",
    "managed-client.ovpn",
    "managed-server.conf",
    "server-pam.conf",
    "server-users.conf",
];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// What a test needs to run examples.
struct Stage {
    world: World,
    lab: NetnsLab,
    folder: TempDir,
}

impl Stage {
    /// A folder with every file that the examples name, and a network.
    fn new() -> Self {
        let (world, folder) = (World::new(), TempDir::new().unwrap());
        let certificates = world.materials.certificates(Algorithm::Ec);
        let pki = &certificates.pki;
        let server = pki.another_server("vpn.example.net").unwrap();
        for (name, from) in [
            ("ca.crt", &pki.ca),
            ("server.crt", &server.cert),
            ("server.key", &server.key),
            ("client.crt", &pki.client.cert),
            ("client.key", &pki.client.key),
            ("a.crt", &certificates.self_signed_server.cert),
            ("a.key", &certificates.self_signed_server.key),
            ("b.crt", &certificates.self_signed_client.cert),
            ("b.key", &certificates.self_signed_client.key),
            ("v2-server.key", &world.materials.v2_server_key),
            ("v2-client.key", &world.materials.v2_client_key),
        ] {
            fs::copy(from, folder.path().join(name)).unwrap();
        }
        fs::create_dir(folder.path().join("ccd")).unwrap();
        Self { world, lab: NetnsLab::new().unwrap(), folder }
    }

    /// Starts a program with an example that was changed in what only its owner can know.
    fn start(
        &self,
        namespace: &Namespace,
        program: &Implementation,
        name: &str,
        changes: &[(&str, &str)],
    ) -> Daemon {
        let mut text = fs::read_to_string(examples().join(name)).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "{name} has no {from:?}");
            text = text.replace(from, to);
        }
        // Each end has a file of its own: two may run the same example.
        let file = format!("{}-{name}", namespace.name());
        self.folder.write(&file, &text).unwrap();
        let words = ["--cd", &self.folder.path().display().to_string(), "--config", &file];
        Daemon::start_with(namespace, program.program(), &format!("{name} ({program})"), &words).unwrap()
    }

    fn peer(&self) -> Implementation {
        self.world.peers.get(Release::V2_6).unwrap()
    }

    fn echo(&self, server: &str, client: &str, logs: [&Daemon; 2]) {
        let (server, client) = (server.parse().unwrap(), client.parse().unwrap());
        traffic::echo((&self.lab.client, client), (&self.lab.server, server), SOON)
            .map_err(|failure| format!("{failure}\n{}\n{}", logs[0].tail(), logs[1].tail()))
            .unwrap();
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn every_example_is_run() {
    let names = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let there: BTreeSet<String> =
        fs::read_dir(examples()).unwrap().map(names).filter(|name| !name.ends_with(".py")).collect();
    let run: BTreeSet<String> = HERE.iter().chain(&ELSEWHERE).map(|&name| name.to_owned()).collect();
    assert_eq!(there, run);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_bridge_takes_clients_into_its_ethernet() {
    let stage = Stage::new();
    for words in ["link add br0 type bridge", "addr add 192.168.10.4/24 dev br0", "link set br0 up"] {
        stage.lab.server.ip(&words.split(' ').collect::<Vec<_>>()).unwrap();
    }
    stage.folder.write_script("bridge-up", "#!/bin/sh\nip link set \"$1\" master br0 up\n").unwrap();
    let status = stage.folder.path().join("status").display().to_string();
    let changes = [("/run/culvert-status.log", status.as_str())];
    let server = stage.start(&stage.lab.server, &stage.world.subject, "server-bridge.conf", &changes);
    server.wait_up(SOON).unwrap();
    let changes = [("remote vpn.example.net", "remote 10.99.0.1"), ("dev tun", "dev tap")];
    let client = stage.start(&stage.lab.client, &stage.peer(), "client.ovpn", &changes);
    client.wait_up(SOON).map_err(|failure| format!("{failure}\n{}", server.tail())).unwrap();
    stage.echo("192.168.10.4", "192.168.10.200", [&server, &client]);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_office_s_server_serves_clients_of_the_example_of_openvpn_and_of_ours() {
    for release in [Some(Release::V2_6), Some(Release::V2_7), None] {
        let stage = Stage::new();
        let status = stage.folder.path().join("status").display().to_string();
        let changes = [("/run/culvert-status.log 10", format!("{status} 1"))];
        let changes: Vec<_> = changes.iter().map(|(from, to)| (*from, to.as_str())).collect();
        let server = stage.start(&stage.lab.server, &stage.world.subject, "server.conf", &changes);
        server.wait_up(SOON).unwrap();
        let peer = match release {
            Some(release) => stage.world.peers.get(release).unwrap(),
            None => stage.world.subject.clone(),
        };
        let changes = [("remote vpn.example.net", "remote 10.99.0.1")];
        let client = stage.start(&stage.lab.client, &peer, "client.ovpn", &changes);
        client.wait_up(SOON).map_err(|failure| format!("{failure}\n{}", server.tail())).unwrap();
        stage.echo("10.8.0.1", "10.8.0.2", [&server, &client]);
        stage.echo("fd00:8::1", "fd00:8::1000", [&server, &client]);
        let routes = stage.lab.client.ip(&["route"]).unwrap();
        assert!(routes.contains("192.168.10.0/24 via 10.8.0.1"), "{routes}");
        eventually(SOON, || {
            let text = fs::read_to_string(&status).unwrap_or_default();
            if text.contains("client,") { Ok(()) } else { Err(text) }
        });
    }
}

/// Answers whoever asks, once it said that it is there.
const WEB: &str = "import socket\ns=socket.create_server(('127.0.0.1',4443))\nprint('ready',flush=True)\n\
    while True:\n\x20c,_=s.accept()\n\x20c.recv(4096)\n\x20c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\nhello')\n\x20c.close()\n";

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_shared_port_serves_clients_over_udp_and_tcp_and_a_web_server() {
    let stage = Stage::new();
    let web = stage.folder.write("web.py", WEB).unwrap().display().to_string();
    let web = Daemon::start_with(&stage.lab.server, Path::new("python3"), "web", &[&web]).unwrap();
    web.wait_for("ready", SOON).unwrap();
    let server = stage.start(&stage.lab.server, &stage.world.subject, "server-shared.conf", &[]);
    server.wait_up(SOON).unwrap();
    for (first, transport) in [("1194 udp", "udp4:"), ("443 tcp", "tcp4-server:")] {
        let only = format!("remote 10.99.0.1 {first}\n");
        let changes = [("remote vpn.example.net 1194 udp\nremote vpn.example.net 443 tcp\n", only.as_str())];
        let mut client = stage.start(&stage.lab.client, &stage.peer(), "client.ovpn", &changes);
        client.wait_up(SOON).map_err(|failure| format!("{failure}\n{}", server.tail())).unwrap();
        stage.echo("10.8.0.1", "10.8.0.2", [&server, &client]);
        server.wait_for(&format!("client/{transport}10.99.0.2:"), SOON).unwrap();
        client.stop(SOON).unwrap();
    }
    let answer = stage.lab.client.enter(|| {
        let mut stream = TcpStream::connect((NetnsLab::SERVER_V4, 443)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    });
    assert!(answer.unwrap().unwrap().ends_with("hello"));
    let pid = fs::read_to_string(stage.folder.path().join("culvert.pid")).unwrap();
    assert!(pid.trim().parse::<u32>().is_ok(), "{pid}");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn two_machines_find_each_other_by_fingerprint_whichever_end_is_culvert() {
    let unknown = ["00"; 32].join(":");
    for subject_calls in [false, true] {
        let stage = Stage::new();
        let (subject, peer) = (stage.world.subject.clone(), stage.peer());
        let (waiting, calling) = if subject_calls { (&peer, &subject) } else { (&subject, &peer) };
        let certificates = stage.world.materials.certificates(Algorithm::Ec);
        let of_b = [(unknown.as_str(), certificates.self_signed_client.fingerprint.as_str())];
        let a = stage.start(&stage.lab.server, waiting, "p2p-a.conf", &of_b);
        a.wait_for("link remote", SOON).unwrap();
        let of_a = [
            (unknown.as_str(), certificates.self_signed_server.fingerprint.as_str()),
            ("a.example.net", "10.99.0.1"),
        ];
        let b = stage.start(&stage.lab.client, calling, "p2p-b.conf", &of_a);
        b.wait_up(SOON * 2).map_err(|failure| format!("{failure}\n{}", a.tail())).unwrap();
        stage.echo("10.9.0.1", "10.9.0.2", [&a, &b]);
    }
}
