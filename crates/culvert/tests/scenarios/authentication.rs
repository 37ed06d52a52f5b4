//! Logins: tokens, culvert's own users with second factors, scripts that hang, keys of clients.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use culvert_testkit::{
    Algorithm, Daemon, Login, Namespace, Release, Role, TempDir, Terminal, Tunnel, TunnelSpec, eventually,
};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::{SOON, World};

/// A line that each TLS handshake logs, the first and every renegotiation.
pub(super) const HANDSHAKE: &str = "Control Channel: TLS";
/// Time for a client to notice that a server is gone and to come back.
pub(super) const RECOVERY: Duration = Duration::from_secs(40);
/// The secret of RFC 6238's vectors, and the same in base32.
const SECRET: (&[u8], &str) = (b"12345678901234567890", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");

pub(super) fn culvert(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "culvert {arguments:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A script that accepts the test's user, and notes each call with what is known of the token.
fn counting(folder: &TempDir) -> (PathBuf, PathBuf) {
    let calls = folder.path().join("calls");
    let (user, password) = TunnelSpec::USER;
    let text = format!(
        "#!/bin/sh\necho \"$session_state $session_id\" >>{}\n{{ read -r u; read -r p; }} <\"$1\"\n\
         [ \"$u\" = '{user}' ] && [ \"$p\" = '{password}' ]\n",
        calls.display()
    );
    (folder.write_script("count", &text).unwrap(), calls)
}

fn count(calls: &Path) -> usize {
    fs::read_to_string(calls).unwrap_or_default().lines().count()
}

/// Waits until so many handshakes were made since a place in the log.
pub(super) fn wait_handshakes(tunnel: &Tunnel, mark: usize, wanted: usize) {
    eventually(RECOVERY, || {
        let lines = tunnel.client.lines();
        let made = lines.iter().skip(mark).filter(|line| line.contains(HANDSHAKE)).count();
        if made >= wanted { Ok(()) } else { Err(format!("{made} handshakes\n{}", tunnel.client.tail())) }
    });
}

/// The login is judged once; renegotiations and another run of the server are content with the token.
fn token_stands_for_the_password(role: Role, release: Release) {
    let folder = TempDir::new().unwrap();
    let (script, calls) = counting(&folder);
    let key = folder.path().join("token.key");
    culvert(&["--genkey", "auth-token", &key.display().to_string()], "");
    let spec = TunnelSpec {
        login: Login::Both,
        server_extra: format!(
            "auth-gen-token 0 120\nauth-gen-token-secret {}\nreneg-sec 4\nexplicit-exit-notify 1\n\
             auth-user-pass-verify {} via-file",
            key.display(),
            script.display()
        ),
        client_extra: "reneg-sec 0".to_owned(),
        ..TunnelSpec::default()
    };
    let mut tunnel = World::new().tunnel(role, release, &spec);
    wait_handshakes(&tunnel, 0, 3);
    assert_eq!(count(&calls), 1, "{}", tunnel.server.tail());
    let mark = tunnel.client.mark();
    tunnel.server.stop(SOON).unwrap();
    tunnel.restart(Role::Server).unwrap();
    tunnel.client.wait_up_after(mark, RECOVERY).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert_eq!(count(&calls), 1, "the new run of the server knows the token: {}", tunnel.server.tail());
    assert!(!tunnel.client.has_logged("SESS_ID_AT_"), "tokens are secrets");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_token_stands_for_the_password_over_renegotiations_and_a_server_s_restart() {
    token_stands_for_the_password(Role::Server, Release::V2_6);
    token_stands_for_the_password(Role::Server, Release::V2_7);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_keeps_to_the_token_that_openvpn_gave_it() {
    token_stands_for_the_password(Role::Client, Release::V2_6);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_whose_token_ran_out_is_told_so_and_logs_in_again() {
    for role in [Role::Server, Role::Client] {
        let folder = TempDir::new().unwrap();
        let (script, calls) = counting(&folder);
        let spec = TunnelSpec {
            login: Login::Both,
            server_extra: format!(
                "auth-gen-token 3 120\nreneg-sec 5\nauth-user-pass-verify {} via-file",
                script.display()
            ),
            client_extra: "reneg-sec 0".to_owned(),
            ..TunnelSpec::default()
        };
        let tunnel = World::new().tunnel(role, Release::V2_6, &spec);
        let mark = tunnel.client.mark();
        tunnel.client.wait_for_after(mark, "AUTH_FAILED,SESSION: token expired", RECOVERY).unwrap();
        tunnel.client.wait_up_after(mark, RECOVERY).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
        assert!(count(&calls) >= 2, "{}", tunnel.server.tail());
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn with_external_auth_the_script_is_asked_about_tokens_and_told_what_they_are_worth() {
    let folder = TempDir::new().unwrap();
    let calls = folder.path().join("calls");
    let text = format!("#!/bin/sh\necho \"$session_state $session_id\" >>{}\n", calls.display());
    let script = folder.write_script("note", &text).unwrap();
    let spec = TunnelSpec {
        login: Login::Both,
        server_extra: format!(
            "auth-gen-token 0 120 external-auth\nreneg-sec 4\nauth-user-pass-verify {} via-file",
            script.display()
        ),
        client_extra: "reneg-sec 0".to_owned(),
        ..TunnelSpec::default()
    };
    let tunnel = World::new().tunnel(Role::Server, Release::V2_6, &spec);
    wait_handshakes(&tunnel, 0, 3);
    let text = fs::read_to_string(&calls).unwrap();
    let seen: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap()).take(2).collect();
    assert_eq!((seen[0].0, seen[1].0), ("Initial", "Authenticated"), "{text}");
    assert_eq!((seen[0].1.len(), seen[0].1), (16, seen[1].1), "one session: {text}");
}

/// A server with a file of users: `alice` with the test's password, `carol` with a second factor besides.
pub(super) struct WithUsers {
    pub(super) folder: TempDir,
    pub(super) spec: TunnelSpec,
}

/// The code of the next half minute, for a server that runs already: it takes that one as well, and for a minute to come. One
/// of the present would be too old for a server that has just started.
pub(super) fn code() -> String {
    const STEP: u64 = 30;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.0).unwrap();
    mac.update(&(now / STEP + 1).to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let offset = usize::from(hash[19] & 15);
    let number = u32::from_be_bytes(hash[offset..offset + 4].try_into().unwrap()) & 0x7FFF_FFFF;
    format!("{:06}", number % 1_000_000)
}

impl WithUsers {
    pub(super) fn new(extra: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let users = folder.path().join("users");
        let file = users.display().to_string();
        let (user, password) = TunnelSpec::USER;
        culvert(&["passwd", &file, user], &format!("{password}\n"));
        let uri = culvert(&["passwd", &file, "carol", "--totp"], "soprano\n");
        // The secret is drawn; the test wants one that it can make codes from.
        let drawn = uri.split("secret=").nth(1).unwrap().split('&').next().unwrap();
        let text = fs::read_to_string(&users).unwrap();
        assert!(text.contains(drawn), "{uri}\n{text}");
        fs::write(&users, text.replace(drawn, SECRET.1)).unwrap();
        let spec = TunnelSpec {
            server_extra: format!("auth-users {file}\nauth-gen-token 0 120\nreneg-sec 5\n{extra}"),
            client_extra: "reneg-sec 0".to_owned(),
            ..TunnelSpec::default()
        };
        Self { folder, spec }
    }

    fn login_line(&self, user: &str, password: &str) -> String {
        let file = self.folder.write(&format!("login-{user}"), &format!("{user}\n{password}\n")).unwrap();
        format!("\nauth-user-pass {}", file.display())
    }

    pub(super) fn start(&self, user: &str, password: &str) -> Tunnel {
        let mut spec = self.spec.clone();
        spec.client_extra.push_str(&self.login_line(user, password));
        World::new().start(Role::Server, Release::V2_6, &spec)
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn users_of_culvert_s_own_file_log_in_and_others_do_not() {
    let users = WithUsers::new("");
    let tunnel = users.start("alice", "correct horse");
    tunnel.wait_up().unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    let tunnel = users.start("alice", "wrong horse");
    tunnel.client.wait_for("AUTH: Received control message: AUTH_FAILED", SOON).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_one_time_code_in_the_answer_to_a_static_challenge_is_taken_once_per_session() {
    let users = WithUsers::new("duplicate-cn");
    let tunnel = users.start("alice", "correct horse");
    tunnel.wait_up().map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    let encode = |text: &str| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, text);
    let code = code();
    let field = format!("SCRV1:{}:{}", encode("soprano"), encode(&code));
    let (first, _namespace) = another(&tunnel, 2, &users.folder, ("carol", &field));
    first.wait_up(SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    // Renegotiations are content with the token.
    eventually(RECOVERY, || if first.lines_with(HANDSHAKE).len() >= 3 { Ok(()) } else { Err(first.tail()) });
    // The same code for another login, on the same server.
    let (second, _namespace) = another(&tunnel, 3, &users.folder, ("carol", &format!("soprano{code}")));
    second.wait_for("AUTH: Received control message: AUTH_FAILED", SOON * 2).unwrap();
}

/// A folder with a server of `examples/` and every file that it names, and that server once it is up.
fn example_server(
    world: &World,
    lab: &culvert_testkit::NetnsLab,
    name: &str,
    prepare: impl FnOnce(&TempDir, &culvert_testkit::NetnsLab),
) -> (Daemon, TempDir) {
    let folder = TempDir::new().unwrap();
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    for (name, from) in
        [("ca.crt", &pki.ca), ("server.crt", &pki.server.cert), ("server.key", &pki.server.key)]
    {
        fs::copy(from, folder.path().join(name)).unwrap();
    }
    let config = folder.path().join("server.conf");
    fs::copy(examples().join(name), &config).unwrap();
    culvert(&["--genkey", "auth-token", &folder.path().join("token.key").display().to_string()], "");
    prepare(&folder, lab);
    let (there, config) = (folder.path().display().to_string(), config.display().to_string());
    let arguments = ["--cd", &there, "--config", &config];
    let server = Daemon::start_with(&lab.server, world.subject.program(), "server", &arguments).unwrap();
    server.wait_up(SOON).unwrap();
    (server, folder)
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// Runs a server from `examples/`, and a client that logs in.
fn example(name: &str, prepare: impl FnOnce(&TempDir, &culvert_testkit::NetnsLab)) {
    let (world, lab) = (World::new(), culvert_testkit::NetnsLab::new().unwrap());
    let (server, folder) = example_server(&world, &lab, name, prepare);
    let (user, password) = TunnelSpec::USER;
    let login = folder.write("login", &format!("{user}\n{password}{}\n", code_of(&folder))).unwrap();
    let text = format!(
        "client\ndev tun\nnobind\nremote 10.99.0.1\nca {}\nremote-cert-tls server\nauth-user-pass {}\n",
        folder.path().join("ca.crt").display(),
        login.display()
    );
    let client = folder.write("client.ovpn", &text).unwrap();
    let peer = world.peers.get(Release::V2_6).unwrap();
    let client = Daemon::start(&lab.client, &peer, "client", &client).unwrap();
    client.wait_up(SOON).map_err(|failure| format!("{failure}\n{}", server.tail())).unwrap();
    server.wait_for("MULTI: primary virtual IP for alice", SOON).unwrap();
}

/// The code that belongs behind the password: of the user's second factor, where the folder has a file of users.
fn code_of(folder: &TempDir) -> String {
    if folder.path().join("users").exists() { code() } else { String::new() }
}

/// The file of users of `server-users.conf`, with a user whose codes the test can make.
fn example_users(folder: &TempDir) {
    let (users, (user, password)) = (folder.path().join("users"), TunnelSpec::USER);
    let file = users.display().to_string();
    let uri = culvert(&["passwd", &file, user, "--totp"], &format!("{password}\n"));
    let drawn = uri.split("secret=").nth(1).unwrap().split('&').next().unwrap();
    let text = fs::read_to_string(&users).unwrap();
    fs::write(&users, text.replace(drawn, SECRET.1)).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_example_with_users_works() {
    example("server-users.conf", |folder, _| example_users(folder));
}

/// The client of both examples, with somebody at its terminal: culvert's, then OpenVPN's.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_example_of_a_client_that_logs_in_works() {
    let world = World::new();
    for program in [world.subject.clone(), world.peers.get(Release::V2_6).unwrap()] {
        let lab = culvert_testkit::NetnsLab::new().unwrap();
        let (server, folder) =
            example_server(&world, &lab, "server-users.conf", |folder, _| example_users(folder));
        let text = fs::read_to_string(examples().join("client-login.ovpn")).unwrap();
        let authority = folder.path().join("ca.crt").display().to_string();
        let text = text.replace("vpn.example.org", "10.99.0.1").replace("ca.crt", &authority);
        let config = folder.write("client-login.ovpn", &text).unwrap();
        let (client, mut terminal) = Terminal::start(&lab.client, &program, "client", &config).unwrap();
        let (user, password) = TunnelSpec::USER;
        for (question, answer) in
            [("Username:", user), ("Password:", password), ("Code of your authenticator:", &code())]
        {
            terminal
                .answer(question, answer, SOON)
                .map_err(|failure| format!("{failure}\n{}", client.tail()))
                .unwrap();
        }
        client.wait_up(SOON).map_err(|failure| format!("{failure}\n{}", server.tail())).unwrap();
        server.wait_for("MULTI: primary virtual IP for alice", SOON).unwrap();
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_example_with_pam_works() {
    example("server-pam.conf", |folder, lab| super::plugins::pam_service(folder, lab, "openvpn"));
}

/// Starts a client of a tunnel that logs in like this.
pub(super) fn another(
    tunnel: &Tunnel,
    number: u8,
    folder: &TempDir,
    (user, password): (&str, &str),
) -> (Daemon, Namespace) {
    let world_name = format!("other{number}");
    let login = folder.write(&world_name, &format!("{user}\n{password}\n")).unwrap();
    let (namespace, server) = tunnel.lab.add_client(number).unwrap();
    let extra = format!("auth-user-pass {}", login.display());
    (tunnel.start_another_client(number, (&namespace, server), &extra).unwrap(), namespace)
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_script_that_hangs_for_one_client_delays_nobody_else() {
    let folder = TempDir::new().unwrap();
    let text = "#!/bin/sh\nread -r user <\"$1\"\n[ \"$user\" = slow ] && sleep 50\nexit 0\n";
    let script = folder.write_script("judge", text).unwrap();
    let spec = TunnelSpec {
        login: Login::Both,
        server_extra: format!("auth-user-pass-verify {} via-file\nduplicate-cn", script.display()),
        ..TunnelSpec::default()
    };
    let tunnel = World::new().tunnel(Role::Server, Release::V2_6, &spec);
    let (slow, _slow_namespace) = another(&tunnel, 2, &folder, ("slow", "x"));
    slow.wait_for(HANDSHAKE, SOON).unwrap();
    let (quick, _quick_namespace) = another(&tunnel, 3, &folder, ("quick", "x"));
    quick.wait_up(SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert!(!slow.has_logged("Initialization Sequence Completed"), "{}", slow.tail());
}

/// A tunnel with tls-crypt-v2 whose server judges the clients' keys so.
fn client_keys(extra: &str) -> (World, TunnelSpec) {
    let spec = TunnelSpec {
        wrapping: culvert_testkit::Wrapping::TlsCryptV2,
        server_extra: extra.to_owned(),
        ..TunnelSpec::default()
    };
    (World::new(), spec)
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_script_judges_what_stands_in_a_client_s_own_key() {
    let folder = TempDir::new().unwrap();
    let text = "#!/bin/sh\n[ \"$script_type\" = tls-crypt-v2-verify ] && [ \"$metadata_type\" = 1 ] && \
                [ \"$(wc -c <\"$metadata_file\")\" = 8 ]\n";
    let script = folder.write_script("good", text).unwrap();
    let verify = |script: &Path| format!("script-security 2\ntls-crypt-v2-verify {}", script.display());
    let (world, spec) = client_keys(&format!("{}\ntls-crypt-v2-max-age 1", verify(&script)));
    world.tunnel(Role::Server, Release::V2_6, &spec);
    let script = folder.write_script("bad", "#!/bin/sh\nexit 1\n").unwrap();
    let (world, spec) = client_keys(&verify(&script));
    let tunnel = world.start(Role::Server, Release::V2_6, &spec);
    tunnel.server.wait_for("tls-crypt-v2-verify", SOON).unwrap();
    tunnel.server.wait_for("refused: tls-crypt-v2-verify refused the client's key", SOON).unwrap();
    let began = "Control Channel: TLS";
    assert!(!tunnel.server.has_logged(began), "before TLS: {}", tunnel.server.tail());
    assert!(!tunnel.client.has_logged("Initialization Sequence Completed"), "{}", tunnel.client.tail());
}
