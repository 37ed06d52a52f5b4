//! The sample configurations of OpenVPN's own packages, as they are, culvert at both ends and at either.
//!
//! They are taken from the installed packages, with the sample keys that they name; the files of 2.5 with the keys of
//! 2.6, since its own expired in 2024. The names and directories that they take for given exist in mounts of each end.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
};

use culvert_testkit::{Daemon, Implementation, Namespace, NetnsLab, Release, TempDir, eventually, traffic};

use crate::{SOON, World};

/// The examples in a release's package.
fn examples(world: &World, release: Release) -> PathBuf {
    let suite = match release {
        Release::V2_5 => Some("bullseye"),
        Release::V2_6 => None,
        Release::V2_7 => Some("trixie"),
    };
    let peer = world.peers.get(release).unwrap();
    // The peers of `scripts/peers` are CACHE/bin/openvpn-VERSION, their packages CACHE/SUITE.
    let tree = peer.program().ancestors().nth(2).unwrap();
    let root = suite.map_or(PathBuf::from("/"), |suite| tree.join(suite));
    root.join("usr/share/doc/openvpn/examples")
}

/// Two ends that run the files of one release.
struct Stage {
    lab: NetnsLab,
    folder: TempDir,
}

impl Stage {
    fn new(world: &World, release: Release) -> Self {
        let folder = TempDir::new().unwrap();
        let copy = |from: &Path, to: &str| {
            fs::copy(from, folder.path().join(to))
                .unwrap_or_else(|failure| panic!("{} -> {to}: {failure}", from.display()));
        };
        for entry in fs::read_dir(examples(world, release).join("sample-config-files")).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), entry.file_name().to_str().unwrap());
        }
        // The keys lie beside the files for some, in their own folder for others, and have names of the site's own.
        fs::create_dir(folder.path().join("sample-keys")).unwrap();
        let keys = examples(world, Release::V2_6).join("sample-keys");
        for (key, names) in [
            ("ca.crt", &["ca.crt", "my-ca.crt"][..]),
            ("server.crt", &["server.crt", "office.crt"]),
            ("server.key", &["server.key", "office.key"]),
            ("client.crt", &["client.crt", "home.crt"]),
            ("client.key", &["client.key", "home.key"]),
            ("dh2048.pem", &["dh2048.pem"]),
            ("ta.key", &["ta.key"]),
        ] {
            copy(&keys.join(key), &format!("sample-keys/{key}"));
            for name in names {
                copy(&keys.join(key), name);
            }
        }
        folder
            .write("hosts", &format!("127.0.0.1 localhost\n{} my-server-1\n", NetnsLab::SERVER_V4))
            .unwrap();
        Self { lab: NetnsLab::new().unwrap(), folder }
    }

    /// Starts a file with its folder as the working directory.
    fn start(&self, namespace: &Namespace, program: &Implementation, file: &str, more: &[&str]) -> Daemon {
        let script = "mount --bind \"$0/hosts\" /etc/hosts && mkdir -p /var/log/openvpn \
                      && mount -t tmpfs none /var/log/openvpn && cd \"$0\" && exec \"$@\"";
        let (folder, binary) = (self.folder.path().display().to_string(), program.program().display());
        let binary = binary.to_string();
        let words = [&["-c", script, &folder, &binary, "--config", file], more].concat();
        Daemon::start_with(namespace, Path::new("sh"), &format!("{file} ({program})"), &words).unwrap()
    }

    fn echo(&self, server: &str, client: &str, ends: [&Daemon; 2]) {
        let (server, client) = (server.parse().unwrap(), client.parse().unwrap());
        traffic::echo((&self.lab.client, client), (&self.lab.server, server), SOON)
            .map_err(|failure| format!("{failure}\n{}\n{}", ends[0].tail(), ends[1].tail()))
            .unwrap();
    }
}

/// The programs at both ends: culvert twice, and once at either. What 2.7 ships is for 2.7: 2.6 insists on `dh`.
fn pairs(world: &World, release: Release) -> [(Implementation, Implementation); 3] {
    let peer = world.peers.get(release.max(Release::V2_6)).unwrap();
    let subject = || world.subject.clone();
    [(subject(), subject()), (subject(), peer.clone()), (peer, subject())]
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn every_sample_of_openvpn_is_known_here() {
    let world = World::new();
    let mut found = BTreeSet::new();
    for release in Release::ALL {
        for entry in fs::read_dir(examples(&world, release).join("sample-config-files")).unwrap() {
            found.insert(entry.unwrap().file_name().into_string().unwrap());
        }
    }
    // Scripts are run by others; that of xinetd is in its own language.
    found.retain(|name| !name.ends_with(".sh") && !name.ends_with(".up") && name != "README");
    let known = [
        "client.conf",
        "loopback-client",
        "loopback-server",
        "server.conf",
        "tls-home.conf",
        "tls-office.conf",
        "xinetd-client-config",
        "xinetd-server-config",
    ];
    assert_eq!(found, known.map(str::to_owned).into());
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn openvpn_s_sample_server_and_client_run_unchanged() {
    let world = World::new();
    for release in Release::ALL {
        for (server, client) in pairs(&world, release) {
            let stage = Stage::new(&world, release);
            let server = stage.start(&stage.lab.server, &server, "server.conf", &[]);
            server.wait_up(SOON).unwrap();
            let client = stage.start(&stage.lab.client, &client, "client.conf", &[]);
            client.wait_up(SOON).map_err(|failure| format!("{failure}\n{}", server.tail())).unwrap();
            // That of 2.5 names no topology: net30 to 2.6, subnet to 2.7 and culvert.
            let device = stage.lab.client.ip(&["-o", "-4", "address", "show", "dev", "tun0"]).unwrap();
            let address =
                if device.contains(" 10.8.0.6 peer 10.8.0.5/32 ") { "10.8.0.6" } else { "10.8.0.2" };
            stage.echo("10.8.0.1", address, [&server, &client]);
        }
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn openvpn_s_sample_office_and_home_run_unchanged() {
    let world = World::new();
    for (office, home) in pairs(&world, Release::V2_5) {
        let stage = Stage::new(&world, Release::V2_5);
        // The office's address is one that only its owner can change.
        stage.lab.server.ip(&["address", "add", "1.2.3.4/32", "dev", "lo"]).unwrap();
        let gateway = NetnsLab::SERVER_V4.to_string();
        stage.lab.client.ip(&["route", "add", "1.2.3.4/32", "via", &gateway]).unwrap();
        let back = ["route", "replace", "10.99.0.0/24", "dev", "wire", "src", "1.2.3.4"];
        stage.lab.server.ip(&back).unwrap();
        // Their scripts are from before `script-security`.
        let scripts = ["--script-security", "2"];
        let office = stage.start(&stage.lab.server, &office, "tls-office.conf", &scripts);
        office.wait_for("link remote", SOON).unwrap();
        let home = stage.start(&stage.lab.client, &home, "tls-home.conf", &scripts);
        home.wait_up(SOON * 2).map_err(|failure| format!("{failure}\n{}", office.tail())).unwrap();
        stage.echo("10.1.0.1", "10.1.0.2", [&office, &home]);
        for (namespace, route) in [
            (&stage.lab.server, "10.0.1.0/24 via 10.1.0.2 dev tun0"),
            (&stage.lab.client, "10.0.0.0/24 via 10.1.0.1 dev tun0"),
        ] {
            let routes = namespace.ip(&["route"]).unwrap();
            assert!(routes.contains(route), "no {route} in {routes}\n{}\n{}", office.tail(), home.tail());
        }
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn openvpn_s_loopback_test_renegotiates_and_ends_by_itself() {
    let world = World::new();
    // That of 2.5 has expired certificates in it.
    let cases = [Release::V2_6, Release::V2_7]
        .into_iter()
        .flat_map(|release| pairs(&world, release).into_iter().map(move |programs| (release, programs)));
    // All at once: each takes two minutes, and next to nothing else.
    thread::scope(|scope| {
        for (release, (server, client)) in cases {
            let world = &world;
            scope.spawn(move || {
                let stage = Stage::new(world, release);
                let mut client = stage.start(&stage.lab.server, &client, "loopback-client", &[]);
                let mut server = stage.start(&stage.lab.server, &server, "loopback-server", &[]);
                server.wait_up(SOON * 2).map_err(|failure| format!("{failure}\n{}", client.tail())).unwrap();
                client.wait_up(SOON * 2).map_err(|failure| format!("{failure}\n{}", server.tail())).unwrap();
                for end in [&server, &client] {
                    eventually(SOON * 4, || {
                        let handshakes = end.lines_with("Control Channel: TLS").len();
                        if handshakes >= 3 { Ok(()) } else { Err(end.tail()) }
                    });
                }
                for end in [&mut server, &mut client] {
                    assert_eq!(end.wait_exit(SOON * 14).unwrap().code(), Some(0), "{}", end.tail());
                    assert!(end.has_logged("Inactivity timeout (--inactive), exiting"), "{}", end.tail());
                }
            });
        }
    });
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn openvpn_s_samples_with_a_static_key_are_refused_by_name() {
    let world = World::new();
    let stage = Stage::new(&world, Release::V2_5);
    let mut end = stage.start(&stage.lab.client, &world.subject, "xinetd-client-config", &[]);
    assert_eq!(end.wait_exit(SOON).unwrap().code(), Some(1));
    assert!(end.has_logged("xinetd-client-config:") && end.has_logged("secret"), "{}", end.tail());
}
