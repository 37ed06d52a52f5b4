//! The management interface: scripted sessions of each role.

use std::path::{Path, PathBuf};

use culvert_testkit::{Management, Release, Role, TempDir, Tunnel, TunnelSpec, eventually};

use crate::{SOON, World, assert_no_panic};

/// A tunnel whose ends have the management interface in a folder.
struct Managed {
    _world: World,
    tunnel: Tunnel,
    folder: TempDir,
}

fn socket(folder: &TempDir, role: Role) -> PathBuf {
    folder.path().join(if role == Role::Server { "server.sock" } else { "client.sock" })
}

fn option(path: &Path) -> String {
    format!("management {} unix\n", path.display())
}

/// The specification of a tunnel with the interface at both ends.
fn spec(folder: &TempDir, server: &str, client: &str) -> TunnelSpec {
    TunnelSpec {
        server_extra: format!("{}{server}", option(&socket(folder, Role::Server))),
        client_extra: format!("{}{client}", option(&socket(folder, Role::Client))),
        ..TunnelSpec::default()
    }
}

impl Managed {
    /// A tunnel of the subject in this role, with a peer of 2.7, up.
    fn start(role: Role, server: &str, client: &str) -> Self {
        let (world, folder) = (World::new(), TempDir::new().unwrap());
        let tunnel = world.tunnel(role, Release::V2_7, &spec(&folder, server, client));
        Self { _world: world, tunnel, folder }
    }

    fn connect(&self, role: Role) -> Management {
        Management::connect(&socket(&self.folder, role)).unwrap_or_else(|failure| {
            panic!("{}", self.tunnel.with_logs(&failure));
        })
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_kills_counts_and_tells() {
    let managed = Managed::start(Role::Server, "", "");
    let mut server = managed.connect(Role::Server);
    server.wait_for(">INFO:").unwrap();
    assert_eq!(server.command("nclients").unwrap(), ["SUCCESS: nclients=1"]);
    let load = server.command("load-stats").unwrap();
    assert!(
        load[0].starts_with("SUCCESS: nclients=1,bytesin=") && !load[0].contains("bytesin=0"),
        "{load:?}"
    );
    let status = server.command("status 2").unwrap();
    assert!(status.iter().any(|line| line.starts_with("CLIENT_LIST,client,udp4:")), "{status:#?}");
    let states = server.command("state all").unwrap();
    let names: Vec<_> = states.iter().filter_map(|line| line.split(',').nth(1)).collect();
    assert_eq!(names, ["CONNECTING", "ASSIGN_IP", "CONNECTED"], "{states:#?}");
    server.command("bytecount 1").unwrap();
    server.wait_for(">BYTECOUNT_CLI:0,").unwrap();

    let killed = server.command("kill client").unwrap();
    assert_eq!(killed, ["SUCCESS: common name 'client' found, 1 client(s) killed"]);
    assert_eq!(server.command("nclients").unwrap(), ["SUCCESS: nclients=0"]);
    server.command("state on").unwrap();
    server.command("log on").unwrap();
    assert_eq!(server.command("signal SIGUSR1").unwrap(), ["SUCCESS: signal SIGUSR1 thrown"]);
    server.wait_for(">LOG:").unwrap();
    let restart = server.wait_for(">STATE:").unwrap();
    assert!(restart.ends_with(",RECONNECTING,SIGUSR1,,,,,"), "{restart}");
    while !server.wait_for(">STATE:").unwrap().contains(",CONNECTED,SUCCESS,10.8.0.1,") {}
    server.send("signal SIGTERM").unwrap();
    while !server.wait_for(">STATE:").unwrap().contains(",EXITING,SIGTERM,") {}
    server.wait_closed().unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_goes_through_its_states() {
    let managed = Managed::start(Role::Client, "push \"route 10.77.0.0 255.255.0.0\"", "");
    let mut client = managed.connect(Role::Client);
    let states = client.command("state all").unwrap();
    let names: Vec<_> = states.iter().filter_map(|line| line.split(',').nth(1)).collect();
    assert_eq!(
        names,
        ["CONNECTING", "WAIT", "AUTH", "ASSIGN_IP", "ADD_ROUTES", "CONNECTED"],
        "GET_CONFIG only where options are asked for: {states:#?}"
    );
    let connected = states.iter().find(|line| line.contains("CONNECTED")).unwrap();
    assert!(connected.contains(",CONNECTED,SUCCESS,10.8.0.2,10.99.0.1,1194,"), "{connected}");
    client.command("bytecount 1").unwrap();
    client.wait_for(">BYTECOUNT:").unwrap();
    client.command("state on").unwrap();
    client.command("hold on").unwrap();
    client.command("signal SIGUSR1").unwrap();
    client.wait_for(">HOLD:Waiting for hold release:").unwrap();
    client.command("hold release").unwrap();
    while !client.wait_for(">STATE:").unwrap().contains(",CONNECTED,SUCCESS,") {}
    managed.tunnel.wait_traffic(SOON).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_held_client_waits_for_its_login() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let options = "management-hold\nmanagement-query-passwords\nmanagement-query-remote\n\
                   management-up-down\nauth-user-pass\nauth-retry interact\n";
    let script = folder.write_script("check", "#!/bin/sh\ngrep -q '^secret word$' \"$1\"\n").unwrap();
    let check = format!("script-security 2\nauth-user-pass-verify {} via-file\n", script.display());
    let tunnel = world.start(Role::Client, Release::V2_7, &spec(&folder, &check, options));
    let mut client = Management::connect(&socket(&folder, Role::Client)).unwrap();
    client.wait_for(">HOLD:Waiting for hold release:0").unwrap();
    assert_eq!(
        client.command("remote-entry-count").unwrap(),
        ["ERROR: The 'remote-entry-count' command is not supported by the current daemon mode"]
    );
    client.command("hold release").unwrap();
    for password in ["wrong", "secret word"] {
        client.wait_for(">PASSWORD:Need 'Auth' username/password").unwrap();
        assert_eq!(
            client.command("password \"Private Key\" x").unwrap(),
            ["ERROR: password of type 'Private Key' entered, but we need one of type 'Auth'"]
        );
        assert_eq!(
            client.command("username \"Auth\" bob").unwrap(),
            ["SUCCESS: 'Auth' username entered, but not yet verified"]
        );
        assert_eq!(
            client.command(&format!("password \"Auth\" \"{password}\"")).unwrap(),
            ["SUCCESS: 'Auth' password entered, but not yet verified"]
        );
        client.wait_for(">REMOTE:10.99.0.1,1194,udp").unwrap();
        assert_eq!(client.command("remote ACCEPT").unwrap(), ["SUCCESS: remote command succeeded"]);
        if password == "wrong" {
            client.wait_for(">PASSWORD:Verification Failed: 'Auth'").unwrap();
            client.wait_for(">HOLD:").unwrap();
            client.command("hold release").unwrap();
        }
    }
    client.wait_for(">UPDOWN:UP").unwrap_or_else(|failure| panic!("{}", tunnel.with_logs(&failure)));
    client.wait_for(">UPDOWN:ENV,ifconfig_local=10.8.0.2").unwrap();
    tunnel.wait_up().unwrap();
    tunnel.wait_traffic(SOON).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_s_clients_are_let_in_by_hand() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let login = folder.write("login", "bob\nsecret\n").unwrap();
    let client_extra = format!("auth-user-pass {}\nauth-retry nointeract\n", login.display());
    let tunnel =
        world.start(Role::Server, Release::V2_7, &spec(&folder, "management-client-auth\n", &client_extra));
    let mut server = Management::connect(&socket(&folder, Role::Server)).unwrap();
    let key = |line: String| line.trim_start_matches(|c| c != ',').trim_start_matches(',').replace(',', " ");

    let first = key(server.wait_for(">CLIENT:CONNECT,").unwrap());
    server.wait_for(">CLIENT:ENV,n_clients=0").unwrap();
    server.wait_for(">CLIENT:ENV,password=secret").unwrap();
    server.wait_for(">CLIENT:ENV,username=bob").unwrap();
    server.wait_for(">CLIENT:ENV,END").unwrap();
    assert_eq!(server.command("client-auth-nt 4711 0").unwrap(), ["ERROR: client-auth command failed"]);
    assert_eq!(
        server.command(&format!("client-deny {first} \"not yet\" \"come back\"")).unwrap(),
        ["SUCCESS: client-deny command succeeded"]
    );
    tunnel.client.wait_for("AUTH_FAILED,come back", SOON).unwrap();
    server.wait_for(">CLIENT:DISCONNECT,").unwrap();

    server.command("env-filter 2").unwrap();
    server.notes.clear();
    let second = key(server.wait_for(">CLIENT:CONNECT,").unwrap());
    server.wait_for(">CLIENT:ENV,END").unwrap();
    assert!(!server.notes.iter().any(|note| note.contains("n_clients")), "{:#?}", server.notes);
    assert_eq!(
        server.command(&format!("client-pending-auth {second} WEB_AUTH::https://sso.example/1 30")).unwrap(),
        ["SUCCESS: client-pending-auth command succeeded"]
    );
    tunnel.client.wait_for("AUTH_PENDING", SOON).unwrap();
    tunnel.client.wait_for("https://sso.example/1", SOON).unwrap();
    server.send(&format!("client-auth {second}\nifconfig-push 10.8.0.77 255.255.255.0\nEND")).unwrap();
    server.wait_for("SUCCESS: client-auth command succeeded").unwrap();
    server.wait_for(">CLIENT:ESTABLISHED,").unwrap();
    server.wait_for(">CLIENT:ADDRESS,").unwrap();
    let client = second.split(' ').next().unwrap();
    tunnel.client.wait_for("10.8.0.77", SOON).unwrap();
    assert_eq!(
        server.command(&format!("client-kill {client} HALT")).unwrap(),
        ["SUCCESS: client-kill command succeeded"]
    );
    server.wait_for(">CLIENT:DISCONNECT,").unwrap();
    tunnel.client.wait_for("Halt command was pushed by server", SOON).unwrap();
}

/// SEC-MGMT-1
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn without_the_password_nothing_has_an_effect() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let secret = folder.write("secret", "open sesame\n").unwrap();
    let at = socket(&folder, Role::Server);
    let extra = format!("management {} unix {}\nmanagement-signal\n", at.display(), secret.display());
    let spec = TunnelSpec { server_extra: extra, ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, Release::V2_7, &spec);
    let mut stranger = Management::connect(&at).unwrap();
    for word in ["signal SIGTERM", "open", "sesame"] {
        stranger.wait_for_prompt("ENTER PASSWORD:").unwrap();
        assert_eq!(stranger.command(word).unwrap(), ["ERROR: bad password"]);
    }
    stranger.wait_closed().unwrap();
    let mut friend = Management::connect(&at).unwrap();
    friend.wait_for_prompt("ENTER PASSWORD:").unwrap();
    assert_eq!(friend.command("open sesame").unwrap(), ["SUCCESS: password is correct"]);
    friend.wait_for(">INFO:").unwrap();
    let states = friend.command("state all").unwrap();
    assert!(!states.iter().any(|line| line.contains("RECONNECTING")), "{states:#?}");
    drop(friend);
    tunnel.server.wait_for("SIGUSR1", SOON).unwrap();
}

/// SEC-MGMT-1
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn who_does_not_know_the_password_keeps_nobody_out() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let secret = folder.write("secret", "open sesame\n").unwrap();
    let at = socket(&folder, Role::Server);
    let extra = format!("management {} unix {}\n", at.display(), secret.display());
    let tunnel = world.tunnel(
        Role::Server,
        Release::V2_7,
        &TunnelSpec { server_extra: extra, ..TunnelSpec::default() },
    );
    let mut strangers: Vec<_> = (0..40).map(|_| Management::connect(&at).unwrap()).collect();
    for stranger in &mut strangers[30..] {
        stranger.wait_for_prompt("ENTER PASSWORD:").unwrap();
    }
    let mut friend = Management::connect(&at).unwrap();
    friend.wait_for_prompt("ENTER PASSWORD:").unwrap();
    assert_eq!(friend.command("open sesame").unwrap(), ["SUCCESS: password is correct"]);
    assert_eq!(friend.command("nclients").unwrap(), ["SUCCESS: nclients=1"]);
    strangers[0].wait_closed().unwrap();
    tunnel.server.wait_for("a client without password gives way to others", SOON).unwrap();
}

/// Nobody reads what one client of the interface is told: it is cut off, and nobody else notices.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_that_does_not_read_is_cut_off() {
    let managed = Managed::start(Role::Server, "", "");
    let mut deaf = managed.connect(Role::Server);
    deaf.wait_for(">INFO:").unwrap();
    for _ in 0..40 {
        deaf.send("test 1000").unwrap();
    }
    let mut other = managed.connect(Role::Server);
    assert_eq!(other.command("nclients").unwrap(), ["SUCCESS: nclients=1"]);
    managed.tunnel.wait_traffic(SOON).unwrap();
    deaf.wait_closed().unwrap();
    assert_eq!(other.command("nclients").unwrap(), ["SUCCESS: nclients=1"]);
}

/// Runs culvert's own commands where the server is.
fn ask(tunnel: &Tunnel, words: &[&str]) -> (bool, String) {
    let output = tunnel.lab.server.command(env!("CARGO_BIN_EXE_culvert")).args(words).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_control_socket_shows_watches_and_kills() {
    let world = World::new();
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &TunnelSpec::default());
    let (good, text) = ask(&tunnel, &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(good && status["clients"][0]["common_name"] == "client", "{text}");
    assert_eq!((&status["role"], &status["clients"][0]["ipv4"]), (&"server".into(), &"10.8.0.2".into()));
    let (good, text) = ask(&tunnel, &["status"]);
    assert!(good && text.starts_with("OpenVPN CLIENT LIST\n") && text.ends_with("END\n"), "{text}");

    let program = std::path::Path::new(env!("CARGO_BIN_EXE_culvert"));
    let watch =
        culvert_testkit::Daemon::start_with(&tunnel.lab.server, program, "watch", &["watch", "server"])
            .unwrap();
    watch.wait_for(r#""event":"watching""#, SOON).unwrap();
    let (good, text) = ask(&tunnel, &["kill", "nobody"]);
    assert_eq!((good, text.as_str()), (false, "{\"killed\":0}\n"));
    let (good, text) = ask(&tunnel, &["kill", "client"]);
    assert_eq!((good, text.as_str()), (true, "{\"killed\":1}\n"));
    let event = watch.wait_for("client-disconnect", SOON).unwrap();
    assert!(event.contains(r#""common_name":"client""#), "{event}");
}

/// What a server's own configuration says changes with `culvert reload`; what one client has, with `push-update-…`.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_pushes_updates_for_the_management_interface_which_clients_of_2_7_apply_in_place() {
    let managed = Managed::start(Role::Server, "", "");
    let tunnel = &managed.tunnel;
    let wait_route = |route: &str, wanted: bool| {
        eventually(SOON, || {
            let routes = tunnel.lab.client.ip(&["route"]).unwrap();
            let right = routes.contains(route) == wanted;
            right
                .then_some(())
                .ok_or_else(|| format!("{routes}\n{}\n{}", tunnel.client.tail(), tunnel.server.tail()))
        });
    };
    let mut server = managed.connect(Role::Server);
    let mut update = |command: &str| {
        let answer = server.command(command).unwrap();
        [answer, vec![server.line().unwrap()]].concat()
    };
    let done = ["SUCCESS: 1 client(s) updated", "SUCCESS: push-update command succeeded"];
    let failed = ["ERROR: no client updated", "ERROR: push-update command failed"];

    assert_eq!(update("push-update-broad \"route 10.70.0.0 255.255.0.0, tun-mtu 1400\""), done);
    wait_route("10.70.0.0/16", true);
    assert_eq!(update("push-update-cid 0 \"route 10.71.0.0 255.255.0.0\""), done);
    wait_route("10.71.0.0/16", true);
    wait_route("10.70.0.0/16", false);
    assert_eq!(update("push-update-cid 4711 -route"), failed);
    assert_eq!(update("push-update-broad \"dev tap\""), failed);
    assert_eq!(update("push-update-broad \"ifconfig 10.8.0.9 255.255.255.0\""), failed);
    tunnel.server.wait_for("nobody was told: an address can be pushed to one client only", SOON).unwrap();
    wait_route("10.71.0.0/16", true);
    assert_eq!(update("push-update-broad -route"), done);
    wait_route("10.71.0.0/16", false);
    tunnel.wait_traffic(SOON).unwrap();
    assert!(!tunnel.server.has_logged("client-instance"), "{}", tunnel.server.tail());
    assert_no_panic(tunnel);
}

/// A client is let in with options, which a reload and a change of its own file leave it.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_reload_asked_for_over_the_control_socket_keeps_what_client_auth_said() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let login = folder.write("login", "bob\nsecret\n").unwrap();
    let extra = "management-client-auth\npush \"route 10.66.0.0 255.255.0.0\"";
    let spec = spec(&folder, extra, &format!("auth-user-pass {}", login.display()));
    let openvpn = world.peers.get(Release::V2_7).unwrap();
    let tunnel = Tunnel::start(&spec, &world.subject, &openvpn, &world.materials).unwrap();
    let mut server = Management::connect(&socket(&folder, Role::Server)).unwrap();
    let line = server.wait_for(">CLIENT:CONNECT,").unwrap();
    server.send(&format!("client-auth {}", line.split_once(',').unwrap().1.replace(',', " "))).unwrap();
    server.send("push \"route 10.67.0.0 255.255.0.0\"").unwrap();
    assert_eq!(server.command("END").unwrap(), ["SUCCESS: client-auth command succeeded"]);
    tunnel.wait_up().unwrap();
    let has = |route: &str| {
        eventually(SOON, || {
            let routes = tunnel.lab.client.ip(&["route"]).unwrap();
            routes.contains(route).then_some(()).ok_or_else(|| format!("{routes}\n{}", tunnel.server.tail()))
        });
    };
    has("10.66.0.0/16");
    has("10.67.0.0/16");

    let edit = |text: String| format!("{}\nmanagement-log-cache 7\n", text.replace("10.66.", "10.68."));
    tunnel.edit_config(Role::Server, edit).unwrap();
    let (good, text) = ask(&tunnel, &["reload"]);
    let outcome: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(good && outcome["changed"][0].as_str().unwrap().starts_with("`push` ("), "{text}");
    assert!(outcome["needs_restart"][0].as_str().unwrap().starts_with("`management-log-cache` ("), "{text}");
    has("10.68.0.0/16");
    has("10.67.0.0/16");
    let states = server.command("state all").unwrap();
    assert!(states[states.len() - 2].contains(",CONNECTED,"), "{states:#?}");

    tunnel.edit_config(Role::Server, |text| format!("{text}\nmax-clients many\n")).unwrap();
    let (good, text) = ask(&tunnel, &["reload"]);
    assert!(!good && text.starts_with("{\"error\"") && text.contains("max-clients"), "{text}");
    assert!(!ask(&tunnel, &["reload", "nobody"]).0);
    tunnel.wait_traffic(SOON).unwrap();
    assert!(!tunnel.server.has_logged("client-instance"), "{}", tunnel.server.tail());
    assert_no_panic(&tunnel);
}

/// A folder with an example, its certificates and its socket, ready to run.
fn example(world: &World, role: Role, name: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let pki = &world.materials.certificates(culvert_testkit::Algorithm::Ec).pki;
    let (own, word) = if role == Role::Server { (&pki.server, "server") } else { (&pki.client, "client") };
    for (from, to) in [
        (&pki.ca, "ca.crt".to_owned()),
        (&own.cert, format!("{word}.crt")),
        (&own.key, format!("{word}.key")),
        (&world.materials.v2_server_key, "v2-server.key".to_owned()),
        (&world.materials.v2_client_key, "v2-client.key".to_owned()),
    ] {
        std::fs::copy(from, folder.path().join(to)).unwrap();
    }
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let text = std::fs::read_to_string(examples.join(name)).unwrap();
    let socket = folder.path().join("socket").display().to_string();
    let text = text
        .replace("/run/culvert-server.sock", &socket)
        .replace("/run/culvert-client.sock", &socket)
        .replace("vpn.example.net", &culvert_testkit::NetnsLab::SERVER_V4.to_string());
    folder.write(name, &text).unwrap();
    folder
}

/// Both examples of docs/management.md, with the programs beside them.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_examples_let_a_client_in() {
    use culvert_testkit::{Daemon, NetnsLab};
    let (world, lab) = (World::new(), NetnsLab::new().unwrap());
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let culvert = Path::new(env!("CARGO_BIN_EXE_culvert"));
    let python = Path::new("python3");
    let start = |role, name: &str| {
        let folder = example(&world, role, name);
        let namespace = if role == Role::Server { &lab.server } else { &lab.client };
        let words = ["--cd", &folder.path().display().to_string(), "--config", name];
        let daemon = Daemon::start_with(namespace, culvert, name, &words).unwrap();
        eventually_a_socket(&folder);
        (daemon, folder)
    };
    let (server, server_folder) = start(Role::Server, "managed-server.conf");
    server.wait_up(SOON).unwrap();
    let users =
        server_folder.write("users.txt", "bob secret ifconfig-push 10.8.0.77 255.255.255.0\n").unwrap();
    let run = |namespace, name: &str, words: &[&str]| {
        let program = examples.join(name).display().to_string();
        let words: Vec<&str> = std::iter::once(program.as_str()).chain(words.iter().copied()).collect();
        Daemon::start_with(namespace, python, name, &words).unwrap()
    };
    let socket = |folder: &TempDir| folder.path().join("socket").display().to_string();
    let admit = run(&lab.server, "admit.py", &[&socket(&server_folder), &users.display().to_string()]);
    server.wait_for("MANAGEMENT: Client connected", SOON).unwrap();

    for (password, accepted) in [("wrong", false), ("secret", true)] {
        let (client, folder) = start(Role::Client, "managed-client.ovpn");
        let secret = folder.write("secret.txt", &format!("{password}\n")).unwrap();
        let words = [&socket(&folder), "bob", &secret.display().to_string()];
        let mut connect = run(&lab.client, "connect.py", &words);
        let status = connect.wait_exit(SOON * 2).unwrap_or_else(|failure| {
            panic!("{failure}\n{}\n{}\n{}", client.tail(), server.tail(), admit.tail());
        });
        assert_eq!(status.success(), accepted, "{}\n{}", client.tail(), admit.tail());
    }
    admit.wait_for(">CLIENT:ESTABLISHED,", SOON).unwrap();
    assert!(server.has_logged("10.8.0.77"), "{}", server.tail());
}

fn eventually_a_socket(folder: &TempDir) {
    eventually(SOON, || {
        let there = folder.path().join("socket").exists();
        there.then_some(()).ok_or_else(|| "no socket".to_owned())
    });
}

/// The names of variables that accompany an event, up to its end.
fn names_of(server: &mut Management, event: &str) -> std::collections::BTreeSet<String> {
    server.wait_for(event).unwrap();
    server.notes.clear();
    server.wait_for(">CLIENT:ENV,END").unwrap();
    let names = server.notes.drain(..).filter_map(|note| {
        let variable = note.strip_prefix(">CLIENT:ENV,")?;
        Some(variable.split('=').next()?.to_owned())
    });
    names.collect()
}

/// A login and its end, at a server: names of variables at CONNECT, ESTABLISHED and DISCONNECT.
fn variables(tunnel: &Tunnel, socket: &Path) -> [std::collections::BTreeSet<String>; 3] {
    let mut server = Management::connect(socket).unwrap();
    let line = server.wait_for(">CLIENT:CONNECT,").unwrap();
    let key = line.split_once(',').unwrap().1.replace(',', " ");
    server.notes.insert(0, line);
    let connect = names_of(&mut server, ">CLIENT:CONNECT,");
    server.send(&format!("client-auth-nt {key}")).unwrap();
    let established = names_of(&mut server, ">CLIENT:ESTABLISHED,");
    tunnel.wait_up().unwrap();
    server.send(&format!("client-kill {}", key.split(' ').next().unwrap())).unwrap();
    [connect, established, names_of(&mut server, ">CLIENT:DISCONNECT,")]
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn helpers_see_the_variables_that_openvpn_tells() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let login = folder.write("login", "bob\nsecret\n").unwrap();
    let openvpn = world.peers.get(Release::V2_7).unwrap();
    let see = |name: &str, server: &culvert_testkit::Implementation| {
        let at = folder.path().join(name);
        let spec = TunnelSpec {
            server_extra: format!("{}management-client-auth", option(&at)),
            client_extra: format!("auth-user-pass {}", login.display()),
            ..TunnelSpec::default()
        };
        let tunnel = Tunnel::start(&spec, server, &openvpn, &world.materials).unwrap();
        variables(&tunnel, &at)
    };
    let (ours, theirs) = (see("ours", &world.subject), see("theirs", &openvpn));
    for (event, (ours, theirs)) in
        ["CONNECT", "ESTABLISHED", "DISCONNECT"].iter().zip(ours.iter().zip(&theirs))
    {
        let missing: Vec<_> = theirs.difference(ours).collect();
        let more: Vec<_> = ours.difference(theirs).collect();
        assert!(theirs.contains("tls_id_0") && ours.len() > 20, "{event}: {ours:?}, {theirs:?}");
        assert!(missing.is_empty(), "{event} lacks {missing:?} and has besides {more:?}");
    }
}
