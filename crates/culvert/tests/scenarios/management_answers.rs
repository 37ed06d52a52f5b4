//! What every command of the management interface is answered, beside OpenVPN's answer to it.

use std::path::Path;

use culvert_testkit::{
    Implementation, Management, Release, Role, TempDir, Topology, Transport, Tunnel, TunnelSpec,
};

use crate::{SOON, World};

fn option(path: &Path) -> String {
    format!("management {} unix\n", path.display())
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
