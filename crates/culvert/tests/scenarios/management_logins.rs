//! Logins that clients of the management interface have a part in, beside scripts, tokens and challenges.

use std::fs;

use culvert_testkit::{Login, Management, Release, Role, TempDir, Tunnel, TunnelSpec};

use crate::challenges::{judging, pending};
use crate::{SOON, World};

/// `CID KID` of a line that names a login.
fn key(line: &str) -> String {
    line.split_once(',').unwrap().1.replace(',', " ")
}

/// A server whose script lets nobody in before it is told to; at the end bob is in, and has a token.
fn asked_after_the_script(tokens: &str) -> (Tunnel, Management, TempDir) {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let (at, allowed) = (folder.path().join("socket"), folder.path().join("allowed"));
    let script = folder.write_script("check", &format!("#!/bin/sh\n[ -e {} ]\n", allowed.display())).unwrap();
    let login = folder.write("login", "bob\nsecret\n").unwrap();
    let spec = TunnelSpec {
        server_extra: format!(
            "management {} unix\nmanagement-client-auth\nauth-gen-token 0 120 {tokens}\nscript-security 2\n\
             auth-user-pass-verify {} via-file",
            at.display(),
            script.display()
        ),
        client_extra: format!("auth-user-pass {}\nauth-retry nointeract\nreneg-sec 4", login.display()),
        ..TunnelSpec::default()
    };
    let tunnel = world.start(Role::Server, Release::V2_7, &spec);
    let mut server = Management::connect(&at).unwrap();
    tunnel.client.wait_for("AUTH_FAILED", SOON).unwrap();
    server.command("pid").unwrap();
    let asked = server.notes.iter().any(|note| note.starts_with(">CLIENT:CONNECT"));
    assert!(!asked, "what the script refused: {:#?}", server.notes);
    fs::write(allowed, "").unwrap();
    let first = key(&server.wait_for(">CLIENT:CONNECT,").unwrap());
    server.wait_for(">CLIENT:ENV,password=secret").unwrap();
    server.wait_for(">CLIENT:ENV,session_state=Initial").unwrap();
    server.command(&format!("client-auth-nt {first}")).unwrap();
    tunnel.wait_up().map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    (tunnel, server, folder)
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_login_is_decided_last_and_a_good_token_needs_nobody() {
    let (tunnel, mut server, _folder) = asked_after_the_script("");
    let good = "Username/auth-token authentication succeeded for username 'bob'";
    tunnel.server.wait_for(good, SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    server.command("pid").unwrap();
    let asked = server.notes.iter().any(|note| note.starts_with(">CLIENT:REAUTH"));
    assert!(!asked, "{:#?}", server.notes);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn with_external_auth_tokens_are_decided_too() {
    let (tunnel, mut server, _folder) = asked_after_the_script("external-auth");
    let second = key(&server.wait_for(">CLIENT:REAUTH,").unwrap());
    server.wait_for(">CLIENT:ENV,session_state=Authenticated").unwrap();
    server.command(&format!("client-deny {second} \"enough\" \"Go away\"")).unwrap();
    tunnel.client.wait_for("AUTH_FAILED,Go away", SOON).unwrap();
}

/// Without a login nobody is asked, unless logins are optional.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn an_empty_login_is_asked_about_where_it_is_optional() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let at = folder.path().join("socket");
    let server_extra = format!("management {} unix\nmanagement-client-auth", at.display());
    let mut spec = TunnelSpec { server_extra, ..TunnelSpec::default() };
    let tunnel = world.start(Role::Server, Release::V2_7, &spec);
    tunnel.server.wait_for("TLS Error: Auth Username/Password was not provided by peer", SOON).unwrap();
    tunnel.client.wait_for("AUTH_FAILED", SOON).unwrap();
    drop(tunnel);
    spec.server_extra.push_str("\nauth-user-pass-optional");
    let tunnel = world.start(Role::Server, Release::V2_7, &spec);
    let mut server = Management::connect(&at).unwrap();
    let first = key(&server.wait_for(">CLIENT:CONNECT,").unwrap());
    server.command(&format!("client-auth-nt {first}")).unwrap();
    tunnel.wait_up().unwrap();
}

/// First the script asks the client for more, then whoever is connected does: each gets its own answer.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn answers_reach_whoever_asked() {
    let folder = TempDir::new().unwrap();
    let (server_at, client_at) = (folder.path().join("server"), folder.path().join("client"));
    let mut spec = pending(&folder, "crtext", "CR_TEXT:R,E:Which number?", "");
    spec.server_extra.push_str(&format!("\nmanagement {} unix\nmanagement-client-auth", server_at.display()));
    spec.client_extra =
        format!("setenv IV_SSO crtext\nmanagement {} unix\nmanagement-hold", client_at.display());
    let tunnel = World::new().start(Role::Server, Release::V2_7, &spec);
    let mut server = Management::connect(&server_at).unwrap();
    let mut client = Management::connect(&client_at).unwrap();
    client.command("hold release").unwrap();
    client.wait_for(">INFOMSG:CR_TEXT:R,E:Which number?").unwrap();
    client.command("cr-response MTIzNDU2").unwrap();
    let name = key(&server.wait_for(">CLIENT:CONNECT,").unwrap());
    let heard = server.notes.iter().any(|note| note.starts_with(">CLIENT:CR_RESPONSE"));
    assert!(!heard, "what the script asked for: {:#?}", server.notes);
    let question = "CR_TEXT:R,E:Which colour?";
    server.command(&format!("client-pending-auth {name} \"{question}\" 30")).unwrap();
    client.wait_for(&format!(">INFOMSG:{question}")).unwrap();
    client.command("cr-response cmVk").unwrap();
    server.wait_for(&format!(">CLIENT:CR_RESPONSE,{},cmVk", name.replace(' ', ","))).unwrap();
    server.command(&format!("client-auth-nt {name}")).unwrap();
    tunnel.wait_up().map_err(|failure| tunnel.with_logs(&failure)).unwrap();
}

/// A client of the test's server whose logins are asked for by its management interface.
fn queried(mut spec: TunnelSpec, options: &str) -> (Tunnel, Management, TempDir) {
    let folder = TempDir::new().unwrap();
    let at = folder.path().join("socket");
    spec.login = Login::Certificate;
    spec.server_extra.push_str("\nscript-security 2");
    spec.client_extra =
        format!("management {} unix\nmanagement-query-passwords\nauth-user-pass\n{options}", at.display());
    let tunnel = World::new().start(Role::Client, Release::V2_7, &spec);
    let client = Management::connect(&at).unwrap();
    (tunnel, client, folder)
}

fn log_in(client: &mut Management, question: &str, password: &str) {
    assert_eq!(client.wait_for(">PASSWORD:Need").unwrap(), format!(">PASSWORD:Need 'Auth' {question}"));
    client.command("username \"Auth\" \"alice\"").unwrap();
    client.command(&format!("password \"Auth\" \"{password}\"")).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_static_challenge_goes_with_the_question_and_its_answer_is_good_once() {
    let folder = TempDir::new().unwrap();
    let script = "[ \"$p\" = SCRV1:Y29ycmVjdCBob3JzZQ==:MTIzNDU2 ]";
    let spec = judging(&folder, script, "");
    let (tunnel, mut client, _at) = queried(spec, "static-challenge \"Your number?\" 1");
    let question = "username/password SC:1,Your number?";
    let answer = "SCRV1:Y29ycmVjdCBob3JzZQ==:MTIzNDU2";
    log_in(&mut client, question, answer);
    tunnel.wait_up().map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    let mark = tunnel.client.mark();
    client.command("signal SIGUSR1").unwrap();
    log_in(&mut client, question, answer);
    tunnel.client.wait_up_after(mark, SOON).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_dynamic_challenge_is_told_with_the_refusal_and_answered_as_a_password() {
    let folder = TempDir::new().unwrap();
    let script = "[ \"$p\" = CRV1::state1::123456 ] && exit 0\n\
                  printf 'CRV1:R,E:state1:YWxpY2U=:Which number?' >\"$auth_failed_reason_file\"\nexit 1";
    let spec = judging(&folder, script, "");
    let (tunnel, mut client, _at) = queried(spec, "auth-retry interact");
    log_in(&mut client, "username/password", "correct horse");
    assert_eq!(
        client.wait_for(">PASSWORD:Verification").unwrap(),
        ">PASSWORD:Verification Failed: 'Auth' ['CRV1:R,E:state1:YWxpY2U=:Which number?']"
    );
    log_in(&mut client, "username/password", "CRV1::state1::123456");
    tunnel.wait_up().map_err(|failure| tunnel.with_logs(&failure)).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_question_within_the_session_is_answered_by_cr_response() {
    let folder = TempDir::new().unwrap();
    let spec = pending(&folder, "crtext", "CR_TEXT:R,E:Which number?", "");
    let (tunnel, mut client, _at) = queried(spec, "setenv IV_SSO crtext");
    log_in(&mut client, "username/password", "correct horse");
    client.wait_for(">INFOMSG:CR_TEXT:R,E:Which number?").unwrap();
    client.command("cr-response MTIzNDU2").unwrap();
    tunnel.wait_up().map_err(|failure| tunnel.with_logs(&failure)).unwrap();
}
