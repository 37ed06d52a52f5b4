//! Challenges: questions that a server asks before it lets somebody in, and refusals for now.

use culvert_testkit::{Login, Management, NetnsLab, Release, Role, TempDir, Terminal, TunnelSpec};

use crate::authentication::{RECOVERY, WithUsers, another, code};
use crate::{SOON, World};

fn log_in(management: &mut Management, user: &str, password: &str) {
    management.wait_for(">PASSWORD:Need 'Auth'").unwrap();
    management.command(&format!("username \"Auth\" \"{user}\"")).unwrap();
    management.command(&format!("password \"Auth\" \"{password}\"")).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_password_without_a_code_is_answered_by_a_dynamic_challenge() {
    let users = WithUsers::new("");
    let socket = users.folder.path().join("management");
    let mut spec = users.spec.clone();
    spec.client_extra.push_str(&format!(
        "\nmanagement {} unix\nmanagement-query-passwords\nauth-retry interact\nauth-user-pass",
        socket.display()
    ));
    let tunnel = World::new().start(Role::Server, Release::V2_6, &spec);
    let mut management = Management::connect(&socket).unwrap();
    log_in(&mut management, "carol", "soprano");
    let failed = management.wait_for(">PASSWORD:Verification Failed: 'Auth'").unwrap();
    let state = failed.split("CRV1:R,E:").nth(1).and_then(|rest| rest.split(':').next());
    let state = state.unwrap_or_else(|| panic!("no challenge: {failed}")).to_owned();
    log_in(&mut management, "carol", &format!("CRV1::{state}::{}", code()));
    tunnel.wait_up().map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
}

/// A server whose script asks for more before it decides.
pub(super) fn pending(folder: &TempDir, method: &str, extra: &str, then: &str) -> TunnelSpec {
    let text =
        format!("#!/bin/sh\nprintf '60\\n{method}\\n{extra}\\n' >\"$auth_pending_file\"\n{then}\nexit 2\n");
    let ask = folder.write_script("ask", &text).unwrap();
    let answer = r#"grep -q '^MTIzNDU2$' "$1" && printf 1 >"$auth_control_file""#;
    let answer = folder.write_script("answer", &format!("#!/bin/sh\n{answer}\n")).unwrap();
    TunnelSpec {
        login: Login::Both,
        server_extra: format!(
            "auth-user-pass-verify {} via-file\nclient-crresponse {}",
            ask.display(),
            answer.display()
        ),
        ..TunnelSpec::default()
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_that_can_is_sent_to_a_web_page_and_one_that_cannot_is_refused() {
    let folder = TempDir::new().unwrap();
    let then = "( sleep 2; printf 1 >\"$auth_control_file\" ) &";
    let mut spec = pending(&folder, "webauth", "WEB_AUTH::https://login.example.org/1", then);
    let world = World::new();
    let tunnel = world.start(Role::Server, Release::V2_6, &spec);
    let refused = "AUTH_FAILED,Authentication failed, required pending auth method 'webauth' not supported";
    tunnel.client.wait_for(refused, SOON).unwrap();
    drop(tunnel);
    spec.client_extra = "setenv IV_SSO webauth,crtext".to_owned();
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    let told = "Info command was pushed by server ('WEB_AUTH::https://login.example.org/1')";
    assert!(tunnel.client.has_logged(told), "{}", tunnel.client.tail());
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_answer_to_a_question_within_a_session_reaches_client_crresponse() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("management");
    let mut spec = pending(&folder, "crtext", "CR_TEXT:R,E:Which number?", "");
    spec.client_extra =
        format!("setenv IV_SSO crtext\nmanagement {} unix\nmanagement-hold", socket.display());
    let tunnel = World::new().start(Role::Server, Release::V2_6, &spec);
    let mut management = Management::connect(&socket).unwrap();
    // Nothing it is told before somebody listens would be told again.
    management.command("hold release").unwrap();
    management.wait_for(">INFOMSG:CR_TEXT:R,E:Which number?").unwrap();
    management.command("cr-response MTIzNDU2").unwrap();
    tunnel.wait_up().map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    assert!(!tunnel.server.has_logged("MTIzNDU2"), "answers are secrets");
}

/// A client without a terminal cannot answer the server's question; the same client with one can.
fn answers_at_the_terminal(spec: &TunnelSpec, question: &str) {
    let world = World::new();
    let mut tunnel = world.start(Role::Client, Release::V2_6, spec);
    tunnel.client.kill();
    let config = tunnel.folder.path().join("client.conf");
    let (client, mut terminal) =
        Terminal::start(&tunnel.lab.client, &world.subject, "client at a terminal", &config).unwrap();
    terminal
        .answer(question, "123456", SOON * 2)
        .map_err(|failure| format!("{failure}\n{}", client.tail()))
        .unwrap();
    client.wait_up(SOON * 2).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    for secret in ["123456", "MTIzNDU2"] {
        assert!(!client.has_logged(secret), "answers are secrets: {}", client.tail());
    }
}

/// A server whose script sees the password as `$p`.
pub(super) fn judging(folder: &TempDir, script: &str, client_extra: &str) -> TunnelSpec {
    let text = format!("#!/bin/sh\n{{ read -r u; read -r p; }} <\"$1\"\n{script}\n");
    let script = folder.write_script("judge", &text).unwrap();
    TunnelSpec {
        login: Login::Both,
        server_extra: format!("auth-user-pass-verify {} via-file", script.display()),
        client_extra: client_extra.to_owned(),
        ..TunnelSpec::default()
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_answers_challenges_of_every_kind_at_its_terminal() {
    let folder = TempDir::new().unwrap();
    let script = "[ \"$p\" = SCRV1:Y29ycmVjdCBob3JzZQ==:MTIzNDU2 ]";
    answers_at_the_terminal(&judging(&folder, script, "static-challenge \"Your number?\" 1"), "Your number?");
    let script = "[ \"$p\" = CRV1::state1::123456 ] && exit 0\n\
                  printf 'CRV1:R,E:state1:YWxpY2U=:Which number?' >\"$auth_failed_reason_file\"\nexit 1";
    answers_at_the_terminal(&judging(&folder, script, "auth-retry interact"), "Which number?");
    let mut spec = pending(&folder, "crtext", "CR_TEXT:R,E:The number, please", "");
    spec.client_extra = "setenv IV_SSO crtext".to_owned();
    answers_at_the_terminal(&spec, "The number, please");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_login_that_went_nowhere_is_not_asked_for_again() {
    let folder = TempDir::new().unwrap();
    let script = "[ \"$p\" = SCRV1:Y29ycmVjdCBob3JzZQ==:MTIzNDU2 ]";
    // Nobody listens at the first remote.
    let options = "static-challenge \"Your number?\" 1\nauth-nocache\nremote 10.99.0.1 1194\nconnect-timeout 2\nconnect-retry 1 1";
    let mut spec = judging(&folder, script, options);
    spec.remote = Some((NetnsLab::SERVER_V4, 4).into());
    answers_at_the_terminal(&spec, "Your number?");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_temporary_refusal_makes_the_client_come_back() {
    for role in [Role::Server, Role::Client] {
        let folder = TempDir::new().unwrap();
        let again = folder.path().join("again");
        let script = format!(
            "[ -e {again} ] && exit 0\ntouch {again}\n\
             printf 'TEMP[backoff 2,advance no]:busy' >\"$auth_failed_reason_file\"\nexit 1",
            again = again.display()
        );
        let tunnel = World::new().start(role, Release::V2_6, &judging(&folder, &script, ""));
        tunnel.client.wait_for("AUTH_FAILED,TEMP[backoff 2,advance no]:busy", SOON).unwrap();
        tunnel.client.wait_up(RECOVERY).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
        tunnel.wait_traffic(SOON).unwrap();
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_login_may_be_missing_where_it_is_optional_and_the_script_has_the_last_word() {
    let folder = TempDir::new().unwrap();
    let mut spec = judging(
        &folder,
        "[ -z \"$u\" ] && exit \"$(cat \"$(dirname \"$0\")/status\")\"\n[ \"$p\" = 'correct horse' ]",
        "",
    );
    spec.login = Login::Certificate;
    spec.server_extra.push_str("\nscript-security 2\nauth-user-pass-optional\nduplicate-cn");
    folder.write("status", "0").unwrap();
    let world = World::new();
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);
    let (wrong, _namespace) = another(&tunnel, 2, &folder, ("alice", "wrong horse"));
    wrong.wait_for("AUTH: Received control message: AUTH_FAILED", SOON).unwrap();
    drop(wrong);
    folder.write("status", "1").unwrap();
    let tunnel = world.start(Role::Server, Release::V2_6, &spec);
    tunnel.client.wait_for("AUTH: Received control message: AUTH_FAILED", SOON).unwrap();
    drop(tunnel);
    // Where it is not optional the script is not even asked.
    folder.write("status", "0").unwrap();
    spec.server_extra = spec.server_extra.replace("\nauth-user-pass-optional", "");
    let tunnel = world.start(Role::Server, Release::V2_6, &spec);
    tunnel.client.wait_for("AUTH: Received control message: AUTH_FAILED", SOON).unwrap();
}
