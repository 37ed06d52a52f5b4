//! The management interface: scripted sessions of each role, and the same against OpenVPN, answer by answer.

use std::path::{Path, PathBuf};

use culvert_testkit::{
    Implementation, Management, Release, Role, TempDir, Topology, Transport, Tunnel, TunnelSpec, eventually,
};

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

/// An answer without what differs from run to run: numbers are `#`, the title is `TITLE`.
fn comparable(answer: &[String]) -> Vec<String> {
    let one = |line: &String| {
        if let Some((start, _title)) = line.split_once("OpenVPN 2.") {
            return format!("{start}TITLE");
        }
        let mut text = String::new();
        for c in line.chars() {
            match c {
                '0'..='9' if text.ends_with('#') => {}
                '0'..='9' => text.push('#'),
                c => text.push(c),
            }
        }
        text
    };
    answer.iter().map(one).collect()
}

/// Commands whose answers are the same of every daemon, but for numbers.
const COMMANDS: &[&str] = &[
    "version",
    "pid",
    "version 0",
    "version 3",
    "version 4",
    "version 4x",
    "version 6",
    "help",
    "help me",
    "",
    "# nothing",
    "  pid",
    "test 2",
    "test 0",
    "test x",
    "test",
    "nclients",
    "load-stats",
    "status",
    "status 1",
    "status 2",
    "status 3",
    "status 4",
    "status x",
    "state",
    "state on",
    "state off",
    "state 1",
    "state nonsense",
    "state on all",
    "state all off",
    "state off off",
    "log",
    "log on",
    "log off",
    "log nonsense",
    "log on all",
    "log all off",
    "log 3",
    "echo",
    "echo on",
    "echo off",
    "echo all",
    "echo on 5 6",
    "echo nonsense off",
    "verb",
    "verb 3",
    "verb 99",
    "verb -1",
    "verb x",
    "verb 3x",
    "mute",
    "mute 40",
    "mute -1",
    "mute x",
    "mute 0",
    "auth-retry",
    "auth-retry interact",
    "auth-retry none",
    "auth-retry nonsense",
    "hold",
    "hold on",
    "hold off",
    "hold release",
    "hold nonsense",
    "signal",
    "signal SIGNONE",
    "signal sigterm",
    "bytecount",
    "bytecount 0",
    "bytecount x",
    "bytecount -3",
    "kill",
    "kill nobody",
    "kill :",
    "kill \"\"",
    "kill :::",
    "kill udp4:192.0.2.1:1",
    "kill udp:192.0.2.1:x",
    "kill udp:192.0.2.1:70000",
    "kill 192.0.2.1:1",
    "kill udp:192.0.2.1:1",
    "kill tcp:192.0.2.1:1",
    "kill icmp:192.0.2.1:1",
    "kill udp:192.0.2.1:0",
    "kill udp:nonsense:1",
    "client-kill",
    "client-kill x",
    "client-kill 4711",
    "client-kill 4711 HALT",
    "client-kill 4711x",
    "client-auth",
    "client-auth 4711",
    "client-auth x 0",
    "client-auth 4711 x",
    "client-auth-nt 4711 0",
    "client-auth-nt x 0",
    "client-auth-nt 0",
    "client-deny 4711 0 reason",
    "client-deny 4711 0",
    "client-deny 4711 0 reason \"for the client\"",
    "client-deny x 0 reason",
    "client-deny 0 x reason",
    "client-pending-auth 4711 0 extra 10",
    "client-pending-auth 4711 0 extra",
    "client-pending-auth x 0 extra 10",
    "client-pending-auth 4711 x extra 10",
    "client-pending-auth 4711 0 extra x",
    "env-filter",
    "env-filter 2",
    "env-filter 9",
    "env-filter x",
    "username Auth bob",
    "username Auth",
    "username",
    "password Auth secret",
    "password Auth",
    "password",
    "forget-passwords",
    "needok name ok",
    "needok name",
    "needstr name text",
    "needstr name",
    "net",
    "remote ACCEPT",
    "remote MOD",
    "remote nonsense",
    "remote",
    "proxy NONE",
    "proxy HTTP",
    "proxy HTTP 192.0.2.1",
    "proxy HTTP 192.0.2.1 8080",
    "proxy HTTP 192.0.2.1 8080 nct",
    "proxy nonsense",
    "proxy nonsense 192.0.2.1 8080",
    "proxy",
    "remote-entry-count",
    "remote-entry-get 0",
    "remote-entry-get all",
    "remote-entry-get 7",
    "remote-entry-get 0 9",
    "remote-entry-get x",
    "remote-entry-get 3 1",
    "status -1",
    "remote-entry-get",
    "cr-response",
    "pk-sig",
    "rsa-sig",
    "certificate",
    "push-update-broad",
    "push-update-cid x",
    "push-update-cid x route",
    "push-update-cid 4711 -route",
    "nonsense",
    "nonsense with words",
    "pid \"unclosed",
    "pid 'unclosed",
    "pid back\\slash",
    "pid end\\",
    "pid a b c d e f g h i j k l m n o p q r s t u v w x y z",
];

/// Not while nothing runs: `hold release` starts it.
const STARTING: &[&str] = &["hold on", "hold off", "hold release"];

/// What only a hold answers, and words longer than any may be.
fn more_commands(held: bool) -> Vec<String> {
    let mut more = vec![format!("pid {}", "x".repeat(300)), format!("pid \"{}\"", "y".repeat(300))];
    if held {
        more.extend(["signal SIGUSR1", "signal SIGHUP"].map(str::to_owned));
    }
    more
}

/// Sends a command and returns what comes before the answer to the next, without what comes unasked.
fn exchange(client: &mut Management, command: &str) -> culvert_testkit::Result<Vec<String>> {
    const UNASKED: [&str; 4] = [">LOG:", ">STATE:", ">ECHO:", ">BYTECOUNT"];
    client.send(command)?;
    client.send("enough")?;
    let mut answer = Vec::new();
    loop {
        let line = client.line().map_err(|failure| failure.while_doing(command))?;
        if line.starts_with("ERROR: unknown command [enough]") {
            break;
        }
        if !UNASKED.iter().any(|start| line.starts_with(start)) {
            answer.push(line);
        }
    }
    // The lines of the log, and the explanations of `help`, are each program's own.
    if command.starts_with("log ") || command.starts_with("help") {
        let common = ["SUCCESS", "ERROR", "END", "Management Interface", "Commands:"];
        answer.retain(|line| common.iter().any(|start| line.starts_with(start)));
    }
    Ok(answer)
}

/// Answers of the same commands by the subject and by OpenVPN 2.7 in this role, up or held at its start.
fn compare(role: Role, topology: Topology, held: bool) {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let spec = |name: &str| {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        let at = |at: Role, file: &str| {
            let hold = if held && at == role { "management-hold\n" } else { "" };
            format!("{}{hold}", option(&folder.path().join(name).join(file)))
        };
        TunnelSpec {
            topology,
            server_extra: at(Role::Server, "server.sock"),
            client_extra: at(Role::Client, "client.sock"),
            ..TunnelSpec::default()
        }
    };
    let openvpn = world.peers.get(Release::V2_7).unwrap();
    let start = |spec: &TunnelSpec, server, client| {
        let tunnel = Tunnel::start(spec, server, client, &world.materials).unwrap();
        if !held {
            tunnel.wait_up().unwrap();
            tunnel.wait_traffic(SOON).unwrap();
        }
        tunnel
    };
    let (server, client) = world.ends(role, Release::V2_7);
    let ours = start(&spec("ours"), &server, &client);
    let theirs = start(&spec("theirs"), &openvpn, &openvpn);
    let socket = if role == Role::Server { "server.sock" } else { "client.sock" };
    let greeted = |name: &str| {
        let mut client = Management::connect(&folder.path().join(name).join(socket)).unwrap();
        let greeting = client.wait_for(">INFO:").unwrap();
        assert_eq!(greeting, ">INFO:OpenVPN Management Interface Version 6 -- type 'help' for more info");
        if held {
            client.wait_for(">HOLD:").unwrap();
        }
        client
    };
    let (mut our_client, mut their_client) = (greeted("ours"), greeted("theirs"));
    let mut different = Vec::new();
    // OpenVPN 2.7 crashes when an end without `remote` is asked for its entries.
    let crashes = role == Role::Server && topology == Topology::PointToPoint;
    let commands = COMMANDS.iter().map(|&command| command.to_owned()).chain(more_commands(held));
    for command in commands {
        if crashes && command.starts_with("remote-entry-get") || held && STARTING.contains(&command.as_str())
        {
            continue;
        }
        let ours = exchange(&mut our_client, &command)
            .unwrap_or_else(|failure| panic!("{}", ours.with_logs(&failure)));
        let theirs = exchange(&mut their_client, &command)
            .unwrap_or_else(|failure| panic!("{}", theirs.with_logs(&failure)));
        let (mut ours, mut theirs) = (comparable(&ours), comparable(&theirs));
        if topology == Topology::PointToPoint && command.starts_with("state ") {
            // A calling end of OpenVPN has its addresses before it calls, culvert's once it was answered.
            ours.sort();
            theirs.sort();
        }
        if ours != theirs {
            different.push(format!("{command}\n  culvert: {ours:#?}\n  OpenVPN: {theirs:#?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    // OpenVPN says nothing to these; a client that asks for what is not there should hear so.
    for version in ["x", "-1", "4294967300"] {
        assert_eq!(
            our_client.command(&format!("version {version}")).unwrap(),
            ["ERROR: Invalid value specified for management client version"]
        );
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_held_client_answers_as_openvpn_does() {
    compare(Role::Client, Topology::Subnet, true);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_answers_as_openvpn_does() {
    compare(Role::Server, Topology::Subnet, false);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_answers_as_openvpn_does() {
    compare(Role::Client, Topology::Subnet, false);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_calling_end_answers_as_openvpn_does() {
    compare(Role::Client, Topology::PointToPoint, false);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_waiting_end_answers_as_openvpn_does() {
    compare(Role::Server, Topology::PointToPoint, false);
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

/// Readers of status files that were written before 2.7 know no transport in front of an address.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn addresses_in_the_status_may_have_the_form_of_2_6() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let openvpn = world.peers.get(Release::V2_6).unwrap();
    for transport in [Transport::Udp4, Transport::Udp6, Transport::Tcp4] {
        let status = |name: &str, server: &Implementation, extra: &str| {
            let at = folder.path().join(format!("{name}-{transport:?}"));
            let server_extra = format!("{}{extra}", option(&at));
            let spec = TunnelSpec { transport, server_extra, ..TunnelSpec::default() };
            let tunnel = Tunnel::start_up(&spec, server, &openvpn, &world.materials).unwrap();
            tunnel.wait_traffic(SOON).unwrap();
            let lines = Management::connect(&at).unwrap().command("status 2").unwrap();
            let rows = lines
                .into_iter()
                .filter(|line| line.starts_with("CLIENT_LIST") || line.starts_with("ROUTING_TABLE,10.8.0.2"));
            comparable(&rows.collect::<Vec<_>>())
        };
        let ours = status("ours", &world.subject, "status-addresses 2.6");
        assert_eq!(ours.len(), 2);
        assert_eq!(ours, status("theirs", &openvpn, ""), "{transport:?}");
    }
}
