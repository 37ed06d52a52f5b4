//! What a client of the management interface decides for a tunnel's client, and about renegotiations of a server's.

use culvert_testkit::{Management, NetnsLab, Release, Role, TempDir, Tunnel, TunnelSpec};

use crate::{SOON, World, assert_no_panic};

/// A tunnel of a culvert client with these options and the interface, and its end of it.
fn client_with(spec: TunnelSpec, options: &str) -> (Tunnel, Management, TempDir) {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let at = folder.path().join("socket");
    let client_extra = format!("management {} unix\n{options}\n{}", at.display(), spec.client_extra);
    let tunnel = world.start(Role::Client, Release::V2_7, &TunnelSpec { client_extra, ..spec });
    let management = Management::connect(&at).unwrap();
    (tunnel, management, folder)
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_remote_is_skipped_or_another_taken() {
    let spec = TunnelSpec { remote: Some((NetnsLab::SERVER_V4, 4).into()), ..TunnelSpec::default() };
    let (tunnel, mut client, _folder) = client_with(spec, "management-query-remote");
    client.wait_for(">REMOTE:10.99.0.1,4,udp").unwrap();
    assert_eq!(client.command("remote MOD").unwrap(), ["ERROR: remote command failed"]);
    assert_eq!(client.command("remote SKIP").unwrap(), ["SUCCESS: remote command succeeded"]);
    client.wait_for(">REMOTE:10.99.0.1,4,udp").unwrap();
    let answer = client.command("remote MOD 10.99.0.1 1194").unwrap();
    assert_eq!(answer, ["SUCCESS: remote command succeeded"]);
    tunnel.wait_up().unwrap();
    tunnel.wait_traffic(SOON).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn no_proxy_is_an_answer_and_a_http_proxy_is_none_for_udp() {
    let (tunnel, mut client, _folder) = client_with(TunnelSpec::default(), "management-query-proxy");
    client.wait_for(">PROXY:1,UDP,10.99.0.1").unwrap();
    assert_eq!(client.command("proxy HTTP 10.99.0.1 8080").unwrap(), ["ERROR: proxy command failed"]);
    assert_eq!(client.command("proxy NONE").unwrap(), ["SUCCESS: proxy command succeeded"]);
    tunnel.wait_up().unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn who_leaves_takes_the_password_along() {
    let folder = TempDir::new().unwrap();
    let script = folder.write_script("check", "#!/bin/sh\nexit 0\n").unwrap();
    let server_extra = format!("script-security 2\nauth-user-pass-verify {} via-file", script.display());
    let spec = TunnelSpec { server_extra, ..TunnelSpec::default() };
    let options = "management-query-passwords\nmanagement-forget-disconnect\nauth-user-pass";
    let (tunnel, mut client, at) = client_with(spec, options);
    client.wait_for(">PASSWORD:Need 'Auth'").unwrap();
    client.command("username Auth bob").unwrap();
    client.command("password Auth secret").unwrap();
    tunnel.wait_up().unwrap();
    // As long as somebody stays, a restart does not ask.
    let mark = tunnel.client.mark();
    client.command("signal SIGUSR1").unwrap();
    tunnel.client.wait_up_after(mark, SOON).unwrap();
    drop(client);
    tunnel.client.wait_for("Reset authentication on disconnect", SOON).unwrap();
    tunnel.client.signal(culvert_testkit::Signal::Restart).unwrap();
    let mut other = Management::connect(&at.path().join("socket")).unwrap();
    other.wait_for(">PASSWORD:Need 'Auth'").unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn several_clients_are_told_the_same() {
    let (tunnel, mut first, at) = client_with(TunnelSpec::default(), "management-hold");
    first.wait_for(">HOLD:").unwrap();
    let mut second = Management::connect(&at.path().join("socket")).unwrap();
    second.wait_for(">HOLD:").unwrap();
    first.command("state on").unwrap();
    second.command("state on").unwrap();
    second.command("hold release").unwrap();
    for client in [&mut first, &mut second] {
        while !client.wait_for(">STATE:").unwrap().contains(",CONNECTED,SUCCESS,") {}
    }
    tunnel.wait_up().unwrap();
    second.send("quit").unwrap();
    second.wait_closed().unwrap();
    assert!(first.command("pid").unwrap()[0].starts_with("SUCCESS: pid="));
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn renegotiations_are_decided_too() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let at = folder.path().join("socket");
    let login = folder.write("login", "bob\nsecret\n").unwrap();
    let spec = TunnelSpec {
        server_extra: format!("management {} unix\nmanagement-client-auth", at.display()),
        client_extra: format!("auth-user-pass {}\nreneg-sec 4", login.display()),
        ..TunnelSpec::default()
    };
    let tunnel = world.start(Role::Server, Release::V2_7, &spec);
    let mut server = Management::connect(&at).unwrap();
    let key = |line: String| line.split_once(',').unwrap().1.replace(',', " ");
    let first = key(server.wait_for(">CLIENT:CONNECT,").unwrap());
    server.command(&format!("client-auth-nt {first}")).unwrap();
    tunnel.wait_up().unwrap();
    let second = key(server.wait_for(">CLIENT:REAUTH,").unwrap());
    assert_ne!(first, second);
    assert_eq!(
        server.command(&format!("client-auth-nt {first}")).unwrap(),
        ["ERROR: client-auth command failed"]
    );
    server.command(&format!("client-auth-nt {second}")).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    let third = key(server.wait_for(">CLIENT:REAUTH,").unwrap());
    server.command(&format!("client-deny {third} \"enough\" \"Go away\"")).unwrap();
    tunnel.client.wait_for("AUTH_FAILED,Go away", SOON).unwrap();
    server.wait_for(">CLIENT:DISCONNECT,").unwrap();
}

/// A server that waits for its own helper pushes nothing unasked.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_that_waits_asks_for_its_options() {
    let folder = TempDir::new().unwrap();
    let (at, login) = (folder.path().join("server"), folder.write("login", "bob\nsecret\n").unwrap());
    let server_extra = format!("management {} unix\nmanagement-client-auth", at.display());
    let spec = TunnelSpec { server_extra, ..TunnelSpec::default() };
    let options = format!("management-hold\nauth-user-pass {}", login.display());
    let (tunnel, mut client, _folder) = client_with(spec, &options);
    let mut server = Management::connect(&at).unwrap();
    client.command("state on").unwrap();
    client.command("hold release").unwrap();
    let connect = server.wait_for(">CLIENT:CONNECT,").unwrap();
    while !client.wait_for(">STATE:").unwrap().contains(",GET_CONFIG,") {}
    let key = connect.split_once(',').unwrap().1.replace(',', " ");
    server.command(&format!("client-auth-nt {key}")).unwrap();
    tunnel.wait_up().unwrap();
}

/// The password of a TCP port, and a line that is longer than any.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_port_has_a_password_and_limits() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let secret = folder.write("secret", "sesame\n").unwrap();
    let server_extra = format!("management 127.0.0.1 7505 {}", secret.display());
    let tunnel =
        world.tunnel(Role::Server, Release::V2_7, &TunnelSpec { server_extra, ..TunnelSpec::default() });
    let say = |text: &str| {
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/7505; {text} >&3; cat <&3");
        let output = tunnel.lab.server.command("bash").args(["-c", &script]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = say("printf 'sesame\\npid\\nquit\\n'");
    let expected = "ENTER PASSWORD:SUCCESS: password is correct\r\n>INFO:OpenVPN";
    assert!(text.starts_with(expected) && text.contains("SUCCESS: pid="), "{text}");
    say("printf 'sesame\\n'; head -c 20000 /dev/zero | tr '\\0' x");
    tunnel.server.wait_for("a line is longer than 16384 bytes", SOON).unwrap();
    assert!(say("printf 'sesame\\nnclients\\nquit\\n'").contains("SUCCESS: nclients=1"));
    assert_no_panic(&tunnel);
}
