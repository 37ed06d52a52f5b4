//! What OpenVPN's own test of servers does (`t_server_null.sh`): servers with devices and clients without, of one program,
//! on one machine's loopback, by command lines alone. A script stops each client by the process id that it wrote.

use std::{fs, path::Path};

use culvert_testkit::{Algorithm, Daemon, Namespace, NetnsLab, Release, TempDir, eventually};

use crate::{SOON, World};

const UP: &str = "Initialization Sequence Completed";

/// Servers and clients of one test.
struct Stage {
    world: World,
    lab: NetnsLab,
    folder: TempDir,
}

impl Stage {
    fn new() -> Self {
        let stage =
            Self { world: World::new(), lab: NetnsLab::new().unwrap(), folder: TempDir::new().unwrap() };
        let stop = "#!/bin/sh\nid=$(cat \"$pid\")\n(sleep 1; kill -15 \"$id\") &\n";
        stage.folder.write_script("stop", stop).unwrap();
        stage
    }

    fn machine(&self) -> &Namespace {
        &self.lab.server
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Starts a program by words alone; `KEYS` in them stands for the certificate of an end and the rest that both have.
    fn start(&self, program: &Path, name: &str, words: &str) -> Daemon {
        let pki = &self.world.materials.certificates(Algorithm::Ec).pki;
        let identity = if name.starts_with("server") { &pki.server } else { &pki.client };
        let keys = format!(
            "--ca {} --cert {} --key {} --tls-auth {} {} --verb 3 --writepid {}",
            pki.ca.display(),
            identity.cert.display(),
            identity.key.display(),
            self.world.materials.static_key.display(),
            u8::from(!name.starts_with("server")),
            self.path(&format!("{name}.pid")),
        );
        let words = words.replace("KEYS", &keys);
        let words: Vec<&str> = words.split_whitespace().collect();
        Daemon::start_with(self.machine(), program, name, &words).unwrap()
    }

    /// Starts a client without a device that leaves by itself once it is up, or when a second attempt failed.
    fn start_client(&self, program: &Path, number: usize, words: &str) -> Daemon {
        let name = format!("client{number}");
        let words = format!(
            "--client --nobind --remote-cert-tls server --persist-tun --resolv-retry infinite --connect-retry-max 2 \
             --connect-retry 1 --server-poll-timeout 2 --explicit-exit-notify 3 --script-security 2 --dev null \
             --ifconfig-noexec --up {} KEYS {words} --setenv pid {}",
            self.path("stop"),
            self.path(&format!("{name}.pid")),
        );
        self.start(program, &name, &words)
    }
}

const SERVER: &str = "--dev tun --topology subnet --max-clients 10 --persist-tun --duplicate-cn KEYS";

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn openvpn_s_test_of_servers_with_clients_without_device_passes() {
    let stage = Stage::new();
    let program = stage.world.subject.program();
    let servers = [
        "--local 127.0.0.1 --server 10.29.41.0 255.255.255.0 --lport 1194 --proto udp --management 127.0.0.1 11194",
        "--local 127.0.0.1 --server 10.29.42.0 255.255.255.0 --lport 1195 --proto tcp --dh none",
        "--local 127.0.0.1 --server 10.29.43.0 255.255.255.0 --lport 1196 --proto udp --dh none --cipher AES-192-CBC \
         --data-ciphers DEFAULT:AES-192-CBC",
        "--local 127.0.0.1 1197 tcp --local ::1 1197 udp --server 10.29.44.0 255.255.255.0",
    ];
    let mut servers: Vec<_> = (1..)
        .zip(servers)
        .map(|(number, words)| stage.start(program, &format!("server{number}"), &format!("{SERVER} {words}")))
        .collect();
    for server in &servers {
        server.wait_for(UP, SOON).unwrap();
    }
    let clients = [
        ("--remote 127.0.0.1 1194 udp --proto udp", true),
        ("--remote 127.0.0.1 11194 udp --proto udp", false),
        (
            "--remote 127.0.0.1 1194 udp --proto udp --cipher AES-128-CBC --data-ciphers AES-192-CBC:DEFAULT",
            true,
        ),
        ("--remote 127.0.0.1 1195 tcp --proto tcp", true),
        ("--remote 127.0.0.1 1196 udp --proto udp --cipher AES-128-CBC --data-ciphers AES-192-CBC", true),
        ("--remote 127.0.0.1 1196 udp --proto udp --cipher AES-192-CBC --data-ciphers AES-128-CBC", false),
        ("--remote 127.0.0.1 1197 tcp", true),
        ("--remote ::1 1197 udp", true),
        ("--remote ::1 1197 tcp", false),
    ];
    let started: Vec<_> = (1..)
        .zip(clients)
        .map(|(number, (words, works))| (stage.start_client(program, number, words), words, works))
        .collect();
    for (number, (mut client, words, works)) in (1..).zip(started) {
        client.wait_exit(SOON * 2).unwrap_or_else(|failure| panic!("{words}: {failure}"));
        assert_eq!(client.has_logged(UP), works, "{words}\n{}", client.tail());
        let pid = stage.path(&format!("client{number}.pid"));
        assert!(!Path::new(&pid).exists(), "{words}: its pid file is left behind");
    }
    for server in &mut servers {
        assert!(server.stop(SOON).unwrap().success(), "{}", server.tail());
    }
    assert!(stage.machine().tunnel_devices().unwrap().tun.is_empty());
}

/// As OpenVPN 2.7; before, `dev null` was for clients and equal ends only.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_without_device_serves_clients() {
    let stage = Stage::new();
    let subject = stage.world.subject.clone();
    let peer = stage.world.peers.get(Release::V2_7).unwrap();
    for (number, (server, client)) in [(&subject, &peer), (&peer, &subject)].into_iter().enumerate() {
        let status = stage.path(&format!("status{number}"));
        let words = format!(
            "--dev null --server 10.8.0.0 255.255.255.0 --topology subnet --route 10.9.0.0 255.255.0.0 \
             --local 127.0.0.1 --status {status} 1 KEYS"
        );
        let mut server = stage.start(server.program(), "server", &words);
        server.wait_for(UP, SOON).unwrap();
        let words = "--client --remote 127.0.0.1 --nobind --dev null KEYS";
        let client = stage.start(client.program(), "client", words);
        client.wait_for(UP, SOON).map_err(|failure| format!("{failure}\n{}", server.tail())).unwrap();
        eventually(SOON, || {
            let text = fs::read_to_string(&status).unwrap_or_default();
            if text.contains("\n10.8.0.2,client,") { Ok(()) } else { Err(text) }
        });
        let line = server.wait_for("MULTI: primary virtual IP for client/udp4:127.0.0.1:", SOON).unwrap();
        assert!(line.ends_with(": 10.8.0.2"), "{line}");
        assert!(stage.machine().tunnel_devices().unwrap().tun.is_empty());
        assert!(server.stop(SOON).unwrap().success(), "{}", server.tail());
    }
}
