//! Logins: tokens, culvert's own users with second factors, challenges, and judges that hang.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
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
const HANDSHAKE: &str = "Control Channel: TLS";
/// Time for a client to notice that a server is gone and to come back.
const RECOVERY: Duration = Duration::from_secs(40);
/// The secret of RFC 6238's vectors, and the same in base32.
const SECRET: (&[u8], &str) = (b"12345678901234567890", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");

fn culvert(arguments: &[&str], input: &str) -> String {
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
fn wait_handshakes(tunnel: &Tunnel, mark: usize, wanted: usize) {
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
struct WithUsers {
    folder: TempDir,
    spec: TunnelSpec,
}

fn code() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.0).unwrap();
    mac.update(&(now / 30).to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let offset = usize::from(hash[19] & 15);
    let number = u32::from_be_bytes(hash[offset..offset + 4].try_into().unwrap()) & 0x7FFF_FFFF;
    format!("{:06}", number % 1_000_000)
}

impl WithUsers {
    fn new(extra: &str) -> Self {
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

    fn start(&self, user: &str, password: &str) -> Tunnel {
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
    let users = WithUsers::new("");
    let encode = |text: &str| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, text);
    let code = code();
    let field = format!("SCRV1:{}:{}", encode("soprano"), encode(&code));
    let tunnel = users.start("carol", &field);
    tunnel.wait_up().map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    wait_handshakes(&tunnel, 0, 3);
    tunnel.wait_traffic(SOON).unwrap();
    // The same code for another login, on the same server.
    let (namespace, server) = tunnel.lab.add_client(2).unwrap();
    let again = users.login_line("carol", &format!("soprano{code}"));
    let second = tunnel.start_another_client(2, (&namespace, server), &again).unwrap();
    second.wait_for("AUTH: Received control message: AUTH_FAILED", SOON * 2).unwrap();
}

/// Runs a server from `examples/` in a folder with every file that it names, and a client that logs in.
fn example(name: &str, prepare: impl FnOnce(&TempDir, &culvert_testkit::NetnsLab)) {
    let world = World::new();
    let (folder, lab) = (TempDir::new().unwrap(), culvert_testkit::NetnsLab::new().unwrap());
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    for (name, from) in
        [("ca.crt", &pki.ca), ("server.crt", &pki.server.cert), ("server.key", &pki.server.key)]
    {
        fs::copy(from, folder.path().join(name)).unwrap();
    }
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    let config = folder.path().join("server.conf");
    fs::copy(example, &config).unwrap();
    culvert(&["--genkey", "auth-token", &folder.path().join("token.key").display().to_string()], "");
    prepare(&folder, &lab);
    let (there, config) = (folder.path().display().to_string(), config.display().to_string());
    let arguments = ["--cd", &there, "--config", &config];
    let server = Daemon::start_with(&lab.server, world.subject.program(), "server", &arguments).unwrap();
    server.wait_up(SOON).unwrap();
    let (user, password) = TunnelSpec::USER;
    let login = folder.write("login", &format!("{user}\n{password}{}\n", code_of(&folder))).unwrap();
    let text = format!(
        "client\ndev tun\nnobind\nremote 10.99.0.1\nca {}\nremote-cert-tls server\nauth-user-pass {}\n",
        pki.ca.display(),
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

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_example_with_users_works() {
    example("server-users.conf", |folder, _| {
        let (users, (user, password)) = (folder.path().join("users"), TunnelSpec::USER);
        let file = users.display().to_string();
        let uri = culvert(&["passwd", &file, user, "--totp"], &format!("{password}\n"));
        let drawn = uri.split("secret=").nth(1).unwrap().split('&').next().unwrap();
        let text = fs::read_to_string(&users).unwrap();
        fs::write(&users, text.replace(drawn, SECRET.1)).unwrap();
    });
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_example_with_pam_works() {
    example("server-pam.conf", |folder, lab| pam_service(folder, lab, "openvpn"));
}

/// The management interface of an OpenVPN client.
struct Management(BufReader<UnixStream>);

impl Management {
    const OPTIONS: &str = "management-query-passwords\nauth-retry interact\nauth-user-pass";

    fn connect(socket: &Path) -> Self {
        let mut stream = None;
        eventually(SOON, || {
            stream = Some(UnixStream::connect(socket).map_err(|error| error.to_string())?);
            Ok(())
        });
        let stream = stream.unwrap();
        stream.set_read_timeout(Some(SOON * 3)).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, command: &str) {
        writeln!(self.0.get_mut(), "{command}").unwrap();
    }

    fn wait_for(&mut self, text: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the client closed its management");
            if line.contains(text) {
                return line.trim_end().to_owned();
            }
        }
    }

    fn login(&mut self, user: &str, password: &str) {
        self.wait_for(">PASSWORD:Need 'Auth'");
        self.send(&format!("username \"Auth\" \"{user}\""));
        self.send(&format!("password \"Auth\" \"{password}\""));
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_password_without_a_code_is_answered_by_a_dynamic_challenge() {
    let users = WithUsers::new("");
    let socket = users.folder.path().join("management");
    let mut spec = users.spec.clone();
    spec.client_extra.push_str(&format!("\nmanagement {} unix\n{}", socket.display(), Management::OPTIONS));
    let tunnel = World::new().start(Role::Server, Release::V2_6, &spec);
    let mut management = Management::connect(&socket);
    management.login("carol", "soprano");
    let failed = management.wait_for(">PASSWORD:Verification Failed: 'Auth'");
    let state = failed.split("CRV1:R,E:").nth(1).and_then(|rest| rest.split(':').next());
    let state = state.unwrap_or_else(|| panic!("no challenge: {failed}")).to_owned();
    management.login("carol", &format!("CRV1::{state}::{}", code()));
    tunnel.wait_up().map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
}

/// A server whose script asks for more before it decides.
fn pending(folder: &TempDir, method: &str, extra: &str, then: &str) -> TunnelSpec {
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
    let mut management = Management::connect(&socket);
    // Nothing it is told before somebody listens would be told again.
    management.send("hold release");
    management.wait_for(">INFOMSG:CR_TEXT:R,E:Which number?");
    management.send("cr-response MTIzNDU2");
    tunnel.wait_up().map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    assert!(!tunnel.server.has_logged("MTIzNDU2"), "answers are secrets");
}

/// Starts a client of a tunnel that logs in like this.
fn another(
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

/// Makes a service of PAM that accepts the test's user; it stands in the server's namespace alone.
fn pam_service(folder: &TempDir, lab: &culvert_testkit::NetnsLab, name: &str) {
    let (user, password) = TunnelSpec::USER;
    let text =
        format!("#!/bin/sh\n[ \"$PAM_USER\" = '{user}' ] && [ \"$(tr -d '\\000')\" = '{password}' ]\n");
    let script = folder.write_script("pam", &text).unwrap();
    let services = Path::new("/etc/netns").join(lab.server.name()).join("pam.d");
    fs::create_dir_all(&services).unwrap();
    let service = format!(
        "auth required pam_exec.so quiet expose_authtok {}\naccount required pam_permit.so\n",
        script.display()
    );
    fs::write(services.join(name), service).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn debian_s_pam_plugin_judges_logins_at_once_and_later() {
    let world = World::new();
    for later in ["", "setenv deferred_auth_pam 1"] {
        let folder = TempDir::new().unwrap();
        let (user, password) = TunnelSpec::USER;
        let lab = culvert_testkit::NetnsLab::new().unwrap();
        pam_service(&folder, &lab, "culvert-test");
        let login = folder.write("login", &format!("{user}\n{password}\n")).unwrap();
        let spec = TunnelSpec {
            server_extra: format!("plugin openvpn-plugin-auth-pam.so culvert-test\nduplicate-cn\n{later}"),
            client_extra: format!("auth-user-pass {}", login.display()),
            ..TunnelSpec::default()
        };
        let tunnel = world.tunnel_in(lab, Role::Server, Release::V2_6, &spec);
        let (wrong, _namespace) = another(&tunnel, 2, &folder, (user, "wrong horse"));
        wrong.wait_for("AUTH: Received control message: AUTH_FAILED", SOON * 2).unwrap();
        tunnel.wait_traffic(SOON).unwrap();
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_plugin_adds_to_what_a_client_gets_and_its_hanging_stops_neither_traffic_nor_tokens() {
    let folder = TempDir::new().unwrap();
    let plugin = culvert_testkit::c_plugin(&folder, 3).unwrap();
    let (user, password) = TunnelSpec::USER;
    let login = folder.write("login", &format!("{user}\n{password}\n")).unwrap();
    let spec = TunnelSpec {
        server_extra: format!(
            "plugin {} check\nduplicate-cn\nkeying-material-exporter EXPORTER_test 20\nauth-gen-token 0 120\nreneg-sec 4",
            plugin.display()
        ),
        client_extra: format!("auth-user-pass {}\nreneg-sec 0", login.display()),
        ..TunnelSpec::default()
    };
    let tunnel = World::new().tunnel(Role::Server, Release::V2_6, &spec);
    assert!(tunnel.server.has_logged("PLUGIN TEST: begins as check with 42"), "{}", tunnel.server.tail());
    assert!(tunnel.server.has_logged("PLUGIN TEST: exported 40 digits"), "{}", tunnel.server.tail());
    let pushed = "route 192.0.2.0 255.255.255.0";
    assert!(!tunnel.client.lines_with(pushed).is_empty(), "{}", tunnel.client.tail());
    let (hanging, _namespace) = another(&tunnel, 2, &folder, (user, "hang"));
    hanging.wait_for(HANDSHAKE, SOON).unwrap();
    wait_handshakes(&tunnel, tunnel.client.mark(), 2);
    tunnel.wait_traffic(SOON).unwrap();
    assert!(!hanging.has_logged("Initialization Sequence Completed"), "{}", hanging.tail());
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_plugin_that_refuses_to_begin_is_named_and_the_server_does_not_start() {
    let folder = TempDir::new().unwrap();
    let plugin = culvert_testkit::c_plugin(&folder, 3).unwrap();
    let world = World::new();
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    let text = format!(
        "dev tun\nserver 10.8.0.0 255.255.255.0\ntopology subnet\ndh none\nca {}\ncert {}\nkey {}\nplugin {} refuse\n",
        pki.ca.display(),
        pki.server.cert.display(),
        pki.server.key.display(),
        plugin.display()
    );
    let config = folder.write("server.conf", &text).unwrap();
    let lab = culvert_testkit::NetnsLab::new().unwrap();
    let mut server = Daemon::start(&lab.server, &world.subject, "server", &config).unwrap();
    server.wait_for("plugin initialization function failed", SOON).unwrap();
    assert!(!server.wait_exit(SOON).unwrap().success());
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
    assert!(!tunnel.client.has_logged("Initialization Sequence Completed"), "{}", tunnel.client.tail());
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
fn judging(folder: &TempDir, script: &str, client_extra: &str) -> TunnelSpec {
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
fn a_user_who_was_deleted_is_out_at_the_next_renegotiation_whatever_the_token_says() {
    let users = WithUsers::new("");
    let tunnel = users.start("alice", "correct horse");
    tunnel.wait_up().unwrap();
    culvert(&["passwd", &users.folder.path().join("users").display().to_string(), "alice", "--delete"], "");
    tunnel.client.wait_for("AUTH: Received control message: AUTH_FAILED", RECOVERY).unwrap();
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

/// Debian's other plugin: it runs a program as root when the tunnel goes down.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn debian_s_down_root_plugin_runs_its_program_on_both_ends() {
    for role in [Role::Server, Role::Client] {
        let folder = TempDir::new().unwrap();
        let note = folder.path().join("note");
        let text = format!("#!/bin/sh\necho \"$dev $1\" >{}\n", note.display());
        let script = folder.write_script("down", &text).unwrap();
        let line = format!("plugin openvpn-plugin-down-root.so {}", script.display());
        let mut spec = TunnelSpec::default();
        match role {
            Role::Server => spec.server_extra = line,
            Role::Client => spec.client_extra = line,
        }
        let mut tunnel = World::new().tunnel(role, Release::V2_6, &spec);
        let end = if role == Role::Server { &mut tunnel.server } else { &mut tunnel.client };
        end.stop(SOON).unwrap();
        eventually(SOON, || {
            let noted = fs::read_to_string(&note).unwrap_or_default();
            if noted.starts_with("tun") { Ok(()) } else { Err(format!("{noted}{}", end.tail())) }
        });
    }
}
