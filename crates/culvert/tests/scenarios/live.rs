//! What changes while clients stay connected: reload, revocation, PUSH_UPDATE in both roles.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use culvert_testkit::{
    Algorithm, Login, NetnsLab, Release, Role, Signal, TempDir, Topology, Transport, Tunnel, TunnelSpec,
    Wrapping, eventually,
};

use crate::{SOON, World, assert_no_panic};

const ROUTE: &str = "push \"route 10.66.0.0 255.255.0.0\"";

fn server(release: Release, extra: &str) -> (World, Tunnel) {
    let world = World::new();
    let spec = TunnelSpec { server_extra: extra.to_owned(), ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, release, &spec);
    (world, tunnel)
}

/// Changes the server's file and has it read again; returns the mark before that.
fn reload(tunnel: &Tunnel, edit: impl FnOnce(String) -> String) -> usize {
    tunnel.edit_config(Role::Server, edit).unwrap();
    // Readable for a server that gave up its privileges, as an administrator would have it.
    for path in [tunnel.folder.path(), &tunnel.folder.path().join("server.conf")] {
        tunnel.lab.server.run("chmod", &["a+rX", &path.display().to_string()]).unwrap();
    }
    let mark = tunnel.server.mark();
    tunnel.server.signal(Signal::Reload).unwrap();
    tunnel.server.wait_for_after(mark, "reload: ", SOON).unwrap();
    mark
}

fn wait_route(tunnel: &Tunnel, route: &str, wanted: bool) {
    eventually(SOON, || {
        let routes = tunnel.lab.client.ip(&["route"]).unwrap();
        if routes.contains(route) == wanted {
            Ok(())
        } else {
            Err(format!("{routes}\n{}\n{}", tunnel.client.tail(), tunnel.server.tail()))
        }
    });
}

/// Nobody was dropped: the client's session is the first one, and carries traffic.
fn assert_still_connected(tunnel: &Tunnel) {
    tunnel.wait_traffic(SOON).unwrap();
    assert!(!tunnel.server.has_logged("client-instance"), "{}", tunnel.server.tail());
    assert_no_panic(tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_reload_pushes_what_changed_to_clients_that_take_it() {
    let (_world, tunnel) = server(Release::V2_7, ROUTE);
    wait_route(&tunnel, "10.66.0.0/16", true);
    let own = "route 10.90.0.0 255.255.0.0";
    let mark = reload(&tunnel, |text| format!("{}\n{own}\n", text.replace("10.66.", "10.67.")));
    tunnel.server.wait_for_after(mark, "changed: `push` (", SOON).unwrap();
    wait_route(&tunnel, "10.67.0.0/16", true);
    wait_route(&tunnel, "10.66.0.0/16", false);
    let routes = tunnel.lab.server.ip(&["route"]).unwrap();
    assert!(routes.contains("10.90.0.0/16"), "{routes}");
    assert_still_connected(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_reload_does_not_disturb_clients_of_2_6_and_names_what_has_to_wait() {
    let (_world, tunnel) = server(Release::V2_6, ROUTE);
    let mark = reload(&tunnel, |text| text.replace("10.66.", "10.67.").replace("port 1194", "port 1195"));
    tunnel.server.wait_for_after(mark, "needs a restart: `port` (", SOON).unwrap();
    tunnel.server.wait_for_after(mark, "from the next connection on", SOON).unwrap();
    assert_still_connected(&tunnel);
    // The next connection has it.
    tunnel.client.signal(Signal::Restart).unwrap();
    wait_route(&tunnel, "10.67.0.0/16", true);
    tunnel.wait_traffic(SOON).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_broken_configuration_changes_nothing_and_is_shown_with_its_line() {
    let (_world, tunnel) = server(Release::V2_6, ROUTE);
    let mark = reload(&tunnel, |text| format!("max-clients many\n{}", text.replace("10.66.", "10.67.")));
    tunnel.server.wait_for_after(mark, "nothing was changed", SOON).unwrap();
    tunnel.server.wait_for_after(mark, "server.conf:1:", SOON).unwrap();
    assert_still_connected(&tunnel);
    tunnel.client.signal(Signal::Restart).unwrap();
    wait_route(&tunnel, "10.66.0.0/16", true);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_reload_without_privileges_says_what_it_cannot_read_again() {
    let drop = "user nobody\ngroup nogroup\npersist-tun\npersist-key";
    let (_world, tunnel) = server(Release::V2_6, &format!("{drop}\n{ROUTE}"));
    let mark = reload(&tunnel, |text| text.replace("10.66.", "10.67."));
    tunnel.server.wait_for_after(mark, "changed: `push` (", SOON).unwrap();
    assert_still_connected(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_new_session_timeout_ends_sessions_that_have_lasted_longer() {
    let (_world, tunnel) = server(Release::V2_6, "");
    let mark = reload(&tunnel, |text| format!("{text}\nsession-timeout 1\n"));
    tunnel.server.wait_for_after(mark, "SIGTERM[soft,session-timeout]", SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_s_file_gives_it_another_username_which_scripts_see_to_the_end() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    folder.write("client", "override-username bob\n").unwrap();
    let seen = folder.path().join("seen");
    let script = format!("#!/bin/sh\necho \"$username\" >>{}\n", seen.display());
    let script = folder.write_script("disconnect", &script).unwrap();
    let spec = TunnelSpec {
        login: Login::Both,
        server_extra: format!(
            "client-config-dir {}\nclient-disconnect {}\nreneg-sec 5",
            folder.path().display(),
            script.display()
        ),
        client_extra: "reneg-sec 0\nexplicit-exit-notify 1".to_owned(),
        ..TunnelSpec::default()
    };
    let mut tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    eventually(SOON * 2, || {
        let handshakes = tunnel.server.lines_with("Control Channel: TLS").len();
        if handshakes >= 2 { Ok(()) } else { Err(tunnel.server.tail()) }
    });
    tunnel.wait_traffic(SOON).unwrap();
    tunnel.client.stop(SOON).unwrap();
    eventually(SOON, || match fs::read_to_string(&seen) {
        Ok(names) if names == "bob\n" => Ok(()),
        other => Err(format!("{other:?}\n{}", tunnel.server.tail())),
    });
    assert_no_panic(&tunnel);
}

/// A list that revokes somebody else, at a path of its own.
fn lists(world: &World) -> (TempDir, std::path::PathBuf) {
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    let other = pki.another_client("other").unwrap();
    let (folder, list) = (TempDir::new().unwrap(), pki.revoke(&other).unwrap());
    let path = folder.path().join("list.pem");
    fs::copy(list, &path).unwrap();
    (folder, path)
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_certificate_that_is_revoked_ends_its_session_at_once_and_garbage_ends_none() {
    let world = World::new();
    let (_folder, path) = lists(&world);
    let spec = TunnelSpec { server_extra: format!("crl-verify {}", path.display()), ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    fs::write(&path, "garbage\n").unwrap();
    tunnel.server.wait_for("clients that are connected stay", SOON).unwrap();
    assert_still_connected(&tunnel);

    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    fs::copy(pki.revoke(&pki.client).unwrap(), &path).unwrap();
    tunnel
        .server
        .wait_for("no longer admitted: VERIFY ERROR: depth=0, error=certificate revoked", SOON)
        .unwrap();
    // It calls again, and is refused.
    tunnel.server.wait_for("TLS Error: TLS handshake failed", SOON * 2).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_s_file_acts_while_the_client_is_connected() {
    let folder = TempDir::new().unwrap();
    let file = folder.write("client", "push \"route 10.66.0.0 255.255.0.0\"\n").unwrap();
    let (_world, tunnel) = server(Release::V2_7, &format!("client-config-dir {}", folder.path().display()));
    wait_route(&tunnel, "10.66.0.0/16", true);
    fs::write(&file, "push \"route 10.67.0.0 255.255.0.0\"\niroute 192.168.77.0 255.255.255.0\n").unwrap();
    let _mark = reload(&tunnel, |text| text);
    wait_route(&tunnel, "10.67.0.0/16", true);
    assert_still_connected(&tunnel);

    fs::write(&file, "disable\n").unwrap();
    tunnel.server.wait_for("no longer admitted: `disable` is set", SOON).unwrap();
    tunnel.server.wait_for("client has been rejected", SOON * 2).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn with_ccd_exclusive_a_file_that_goes_takes_its_client_along_and_a_directory_that_goes_takes_none() {
    let parent = TempDir::new().unwrap();
    let (files, away) = (parent.path().join("ccd"), parent.path().join("away"));
    fs::create_dir(&files).unwrap();
    fs::write(files.join("client"), "").unwrap();
    let (_world, tunnel) =
        server(Release::V2_6, &format!("client-config-dir {}\nccd-exclusive", files.display()));
    fs::rename(&files, &away).unwrap();
    // The configuration names a directory that is not there: refused, as at a start.
    let mark = reload(&tunnel, |text| text);
    tunnel.server.wait_for_after(mark, "nothing was changed", SOON).unwrap();
    assert_still_connected(&tunnel);
    fs::rename(&away, &files).unwrap();
    let _mark = reload(&tunnel, |text| text);
    assert_still_connected(&tunnel);
    fs::remove_file(files.join("client")).unwrap();
    tunnel.server.wait_for("no longer admitted: ccd-exclusive: no file for 'client'", SOON).unwrap();
    assert_no_panic(&tunnel);
}

/// A management session of OpenVPN.
struct Management {
    stream: UnixStream,
    lines: std::io::Lines<BufReader<UnixStream>>,
}

impl Management {
    fn connect(path: &Path) -> Self {
        // There since before the server said that it is up.
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        Self { stream, lines }
    }

    /// Sends a command, and waits until its answer has this text.
    fn command(&mut self, command: &str, answer: &str) {
        self.stream.write_all(format!("{command}\n").as_bytes()).unwrap();
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            assert!(!line.starts_with("ERROR"), "{command}: {line}");
            if line.contains(answer) {
                return;
            }
        }
        panic!("no {answer:?} to {command:?}");
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_takes_updates_of_2_7_in_place() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("management");
    let extra = format!("management {} unix\n{ROUTE}", socket.display());
    let spec = TunnelSpec { server_extra: extra, ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Client, Release::V2_7, &spec);
    wait_route(&tunnel, "10.66.0.0/16", true);
    let device = || tunnel.lab.client.ip(&["-o", "link", "show", "type", "tun"]).unwrap();
    let index = device().split(':').next().unwrap().to_owned();

    let mut management = Management::connect(&socket);
    let done = "push-update command succeeded";
    management.command("push-update-broad \"route 10.70.0.0 255.255.0.0, tun-mtu 1400\"", done);
    tunnel.wait_traffic(SOON).unwrap();
    wait_route(&tunnel, "10.70.0.0/16", true);
    wait_route(&tunnel, "10.66.0.0/16", false);
    eventually(SOON, || if device().contains("mtu 1400") { Ok(()) } else { Err(device()) });
    management.command("push-update-broad \"-route\"", done);
    // OpenVPN's server sends what waits for a client when something else happens to that client.
    tunnel.wait_traffic(SOON).unwrap();
    wait_route(&tunnel, "10.70.0.0/16", false);
    assert_eq!(device().split(':').next().unwrap(), index, "the device was opened anew");
    assert!(tunnel.client.lines_with("Initialization Sequence Completed").len() == 1);
    tunnel.wait_traffic(SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn an_update_in_several_messages_arrives_as_one_at_2_7() {
    let many = |net: u8| {
        let route = |n: u8| format!("push \"route 10.{net}.{n}.0 255.255.255.0\"\n");
        (0..60).map(route).collect::<String>()
    };
    let (_world, tunnel) = server(Release::V2_7, &many(66));
    wait_route(&tunnel, "10.66.59.0/24", true);
    let _mark = reload(&tunnel, |text| text.replace("route 10.66.", "route 10.67."));
    for route in ["10.67.0.0/24", "10.67.30.0/24", "10.67.59.0/24"] {
        wait_route(&tunnel, route, true);
    }
    wait_route(&tunnel, "10.66.", false);
    assert_still_connected(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn two_culverts_update_addresses_and_routes_in_place() {
    let world = World::new();
    let ccd = TempDir::new().unwrap();
    let file = ccd.write("client", "ifconfig-push 10.8.0.50 255.255.255.0\n").unwrap();
    let extra = format!("client-config-dir {}", ccd.path().display());
    let spec = TunnelSpec { server_extra: extra, ..TunnelSpec::default() };
    let subject = &world.subject;
    let tunnel = Tunnel::start_up(&spec, subject, subject, &world.materials).unwrap();
    let addresses = || tunnel.lab.client.ip(&["-o", "addr"]).unwrap();
    assert!(addresses().contains("10.8.0.50/24"), "{}", addresses());
    fs::write(&file, "ifconfig-push 10.8.0.2 255.255.255.0\npush \"route 10.71.0.0 255.255.0.0\"\n").unwrap();
    let _mark = reload(&tunnel, |text| text);
    wait_route(&tunnel, "10.71.0.0/16", true);
    eventually(SOON, || {
        let now = addresses();
        if now.contains("10.8.0.2/24") && !now.contains("10.8.0.50") { Ok(()) } else { Err(now) }
    });
    assert_still_connected(&tunnel);
}

/// A web server that tells who called, and what the journal holds about the call.
const WEB: &str = "import os,socket,sys\n\
    s=socket.create_server(('10.99.0.1',8080))\n\
    print('ready',flush=True)\n\
    while True:\n\
    \x20c,a=s.accept()\n\
    \x20c.recv(4096)\n\
    \x20name=f'[AF_INET]{a[0]}:{a[1]}'\n\
    \x20text=open(os.path.join(sys.argv[1],name)).read()\n\
    \x20c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n'+text.encode())\n\
    \x20c.close()\n";

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_web_server_shares_the_port_and_learns_who_called() {
    let world = World::new();
    let journal = TempDir::new().unwrap();
    let spec = TunnelSpec {
        transport: Transport::Tcp4,
        wrapping: Wrapping::TlsCryptV2,
        server_extra: format!("port-share 10.99.0.1 8080 {}", journal.path().display()),
        ..TunnelSpec::default()
    };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    let mut web = tunnel
        .lab
        .server
        .command("python3")
        .args(["-c", WEB])
        .arg(journal.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(web.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let call = |namespace: &culvert_testkit::Namespace| {
        let mut answer = String::new();
        namespace
            .enter(|| {
                let mut stream = std::net::TcpStream::connect(("10.99.0.1", NetnsLab::PORT)).unwrap();
                stream.set_read_timeout(Some(SOON)).unwrap();
                stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
                stream.read_to_string(&mut answer).unwrap();
                stream.local_addr().unwrap()
            })
            .map(|own| (own, answer))
            .unwrap()
    };
    let (own, answer) = call(&tunnel.lab.client);
    web.kill().unwrap();
    web.wait().unwrap();
    assert!(answer.ends_with(&format!("[AF_INET]{own}")), "{own}: {answer}");
    eventually(SOON, || match fs::read_dir(journal.path()).unwrap().count() {
        0 => Ok(()),
        left => Err(format!("{left} entries are left")),
    });
    assert_still_connected(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_single_session_is_the_last_one() {
    let world = World::new();
    let spec = TunnelSpec {
        topology: Topology::PointToPoint,
        server_extra: "single-session".to_owned(),
        client_extra: "explicit-exit-notify 1".to_owned(),
        ..TunnelSpec::default()
    };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    let mark = tunnel.server.mark();
    tunnel.client.signal(Signal::Restart).unwrap();
    tunnel.server.wait_for_after(mark, "--single-session: ", SOON * 2).unwrap();
    assert_no_panic(&tunnel);
}
