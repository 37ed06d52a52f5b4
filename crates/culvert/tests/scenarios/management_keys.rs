//! Secrets that the management interface has: a private key, its passphrase, a certificate; and how it is reached.

use std::{
    fs,
    io::Write as _,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use culvert_testkit::{Algorithm, Management, Release, Role, TempDir, TlsVersion, Tunnel, TunnelSpec};

use crate::{SOON, World, assert_no_panic};

/// Takes an option, or its inline block, out of a configuration.
pub(crate) fn without(text: &str, option: &str) -> String {
    let (begin, end) = (format!("<{option}>"), format!("</{option}>"));
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        inside |= line.trim() == begin;
        if !inside && !line.starts_with(&format!("{option} ")) {
            kept.push_str(&format!("{line}\n"));
        }
        inside &= line.trim() != end;
    }
    kept
}

/// Starts one end of a tunnel again, without these options and with other lines.
pub(crate) fn start_again(tunnel: &mut Tunnel, role: Role, without_options: &[&str], lines: &str) {
    tunnel
        .edit_config(role, |text| {
            let text = without_options.iter().fold(text, |text, option| without(&text, option));
            format!("{text}\n{lines}\n")
        })
        .unwrap();
    tunnel.restart(role).unwrap();
}

/// Signs as a token would: `what` is the algorithm of `>PK_SIGN`.
fn sign(folder: &TempDir, key: &Path, data: &str, what: &str) -> Vec<String> {
    let input = folder.path().join("to-be-signed");
    fs::File::create(&input).unwrap().write_all(&BASE64_STANDARD.decode(data).unwrap()).unwrap();
    let options: &[&str] = match what {
        "ECDSA" => &[],
        "RSA_PKCS1_PADDING" => &["-pkeyopt", "rsa_padding_mode:pkcs1"],
        "RSA_PKCS1_PSS_PADDING,hashalg=SHA256,saltlen=digest" => &[
            "-pkeyopt",
            "rsa_padding_mode:pss",
            "-pkeyopt",
            "digest:sha256",
            "-pkeyopt",
            "rsa_pss_saltlen:digest",
        ],
        other => panic!("{other}"),
    };
    let output = Command::new("openssl")
        .args(["pkeyutl", "-sign", "-inkey"])
        .arg(key)
        .arg("-in")
        .arg(input)
        .args(options)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // In lines, as clients send it.
    let text = BASE64_STANDARD.encode(output.stdout);
    text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

/// An end whose private key, and certificate, the management client has.
fn external_key(role: Role, algorithm: Algorithm, tls: TlsVersion, abilities: &str, expected: &str) {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let spec = TunnelSpec { algorithm, tls, ..TunnelSpec::default() };
    let mut tunnel = world.tunnel(role, Release::V2_7, &spec);
    let pki = &world.materials.certificates(algorithm).pki;
    let own = if role == Role::Server { &pki.server } else { &pki.client };
    let at = folder.path().join("socket");
    let lines = format!(
        "management {} unix\nmanagement-external-key {abilities}\nmanagement-external-cert \"the usual one\"",
        at.display()
    );
    start_again(&mut tunnel, role, &["key", "cert"], &lines);
    let mut token = Management::connect(&at).unwrap();
    token.send("version 3").unwrap();
    assert_eq!(token.command("pk-sig").unwrap(), ["ERROR: The pk-sig command is not currently available"]);
    assert_eq!(token.wait_for(">NEED-CERTIFICATE:").unwrap(), ">NEED-CERTIFICATE:the usual one");
    token.send("certificate").unwrap();
    for line in fs::read_to_string(&own.cert).unwrap().lines() {
        token.send(line).unwrap();
    }
    assert_eq!(token.command("END").unwrap(), ["SUCCESS: certificate command succeeded"]);
    if role == Role::Server {
        let mark = tunnel.client.mark();
        tunnel.client.signal(culvert_testkit::Signal::Restart).unwrap();
        answer_signature(&mut token, &folder, &own.key, expected, &tunnel);
        tunnel.client.wait_up_after(mark, SOON).unwrap();
    } else {
        answer_signature(&mut token, &folder, &own.key, expected, &tunnel);
        tunnel.wait_up().unwrap();
    }
    tunnel.wait_traffic(SOON).unwrap();
}

fn answer_signature(token: &mut Management, folder: &TempDir, key: &Path, expected: &str, tunnel: &Tunnel) {
    let question =
        token.wait_for(">PK_SIGN:").unwrap_or_else(|failure| panic!("{}", tunnel.with_logs(&failure)));
    let (data, what) = question.trim_start_matches(">PK_SIGN:").split_once(',').unwrap();
    assert_eq!(what, expected);
    token.send("pk-sig").unwrap();
    for line in sign(folder, key, data, what) {
        token.send(&line).unwrap();
    }
    assert_eq!(token.command("END").unwrap(), ["SUCCESS: pk-sig command succeeded"]);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_s_ec_key_is_elsewhere() {
    external_key(Role::Client, Algorithm::Ec, TlsVersion::V1_3, "pkcs1", "ECDSA");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_s_rsa_key_is_elsewhere() {
    let pss = "RSA_PKCS1_PSS_PADDING,hashalg=SHA256,saltlen=digest";
    external_key(Role::Client, Algorithm::Rsa, TlsVersion::V1_3, "pkcs1 pss", pss);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_key_that_pads_by_pkcs_1_alone_is_used_with_tls_1_2() {
    external_key(Role::Client, Algorithm::Rsa, TlsVersion::V1_2, "pkcs1", "RSA_PKCS1_PADDING");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_s_key_is_elsewhere() {
    external_key(Role::Server, Algorithm::Ec, TlsVersion::V1_3, "pkcs1", "ECDSA");
}

/// A key under the passphrase "sesame".
fn locked(folder: &TempDir, key: &Path) -> PathBuf {
    let locked = folder.path().join("locked.key");
    let status = Command::new("openssl")
        .args(["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:sesame", "-in"])
        .arg(key)
        .arg("-out")
        .arg(&locked)
        .status()
        .unwrap();
    assert!(status.success());
    locked
}

/// SIGHUP by way of the interface is a reload, too. It takes what needs no passphrase, and nobody is asked for one.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_reload_asks_for_no_passphrase_and_keeps_the_key() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let mut tunnel = world.tunnel(Role::Server, Release::V2_7, &TunnelSpec::default());
    let locked = locked(&folder, &world.materials.certificates(Algorithm::Ec).pki.server.key);
    let at = folder.path().join("socket");
    let lines =
        format!("key {}\nmanagement {} unix\nmanagement-query-passwords", locked.display(), at.display());
    start_again(&mut tunnel, Role::Server, &["key"], &lines);
    let mut client = Management::connect(&at).unwrap();
    client.wait_for(">PASSWORD:Need 'Private Key' password").unwrap();
    client.command("password \"Private Key\" sesame").unwrap();
    tunnel.server.wait_up(SOON).unwrap();

    tunnel.edit_config(Role::Server, |text| format!("{text}\nmax-clients 5\ntls-version-min 1.3\n")).unwrap();
    client.command("signal SIGHUP").unwrap();
    tunnel
        .server
        .wait_for("TLS options stay as they are: passphrase or certificate come from", SOON)
        .unwrap();
    assert!(tunnel.server.has_logged("reload: changed: `max-clients` ("), "{}", tunnel.server.tail());
    assert!(tunnel.server.has_logged("needs a restart: `tls-version-min` ("), "{}", tunnel.server.tail());
    assert!(!client.notes.iter().any(|note| note.starts_with(">PASSWORD")), "{:#?}", client.notes);
    let mark = tunnel.client.mark();
    tunnel.client.signal(culvert_testkit::Signal::Restart).unwrap();
    tunnel.client.wait_up_after(mark, SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_passphrase_of_a_key_is_asked_for() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let mut tunnel = world.tunnel(Role::Client, Release::V2_7, &TunnelSpec::default());
    let locked = locked(&folder, &world.materials.certificates(Algorithm::Ec).pki.client.key);
    let at = folder.path().join("socket");
    let lines =
        format!("key {}\nmanagement {} unix\nmanagement-query-passwords", locked.display(), at.display());
    start_again(&mut tunnel, Role::Client, &["key"], &lines);
    let mut client = Management::connect(&at).unwrap();
    client.wait_for(">PASSWORD:Need 'Private Key' password").unwrap();
    client.command("password \"Private Key\" wrong").unwrap();
    client.wait_for(">PASSWORD:Verification Failed: 'Private Key'").unwrap();
    client.wait_for(">PASSWORD:Need 'Private Key' password").unwrap();
    client.send("version 5").unwrap();
    client.wait_for("SUCCESS: Management client version set to 5").unwrap();
    client.send("password \"Private Key\"").unwrap();
    client.send(&BASE64_STANDARD.encode("sesame")).unwrap();
    assert_eq!(
        client.command("END").unwrap(),
        ["SUCCESS: 'Private Key' password entered, but not yet verified"]
    );
    tunnel.wait_up().unwrap();
}

/// The daemon calls the interface's client, and ends with it.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_daemon_that_calls_ends_when_it_is_left() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let mut tunnel = world.tunnel(Role::Client, Release::V2_7, &TunnelSpec::default());
    let at: PathBuf = folder.path().join("socket");
    let listener = UnixListener::bind(&at).unwrap();
    let lines = format!(
        "management {} unix\nmanagement-client\nmanagement-hold\nmanagement-client-user root",
        at.display()
    );
    start_again(&mut tunnel, Role::Client, &[], &lines);
    let mut client = Management::accept(&listener).unwrap();
    client.wait_for(">HOLD:").unwrap();
    client.command("hold release").unwrap();
    tunnel.wait_up().unwrap();
    drop(client);
    tunnel.client.wait_for("Triggering management exit", SOON).unwrap();
    tunnel.client.wait_exit(SOON).unwrap();
}

/// SEC-MGMT-1
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_port_that_others_reach_needs_a_password() {
    let world = World::new();
    let mut tunnel = world.tunnel(Role::Server, Release::V2_7, &TunnelSpec::default());
    start_again(&mut tunnel, Role::Server, &[], "management 10.99.0.1 7505");
    tunnel.server.wait_for("without a password would let anybody", SOON).unwrap();
    tunnel.server.wait_exit(SOON).unwrap();
    start_again(&mut tunnel, Role::Server, &["management"], "management tunnel 7505\nmanagement-insecure");
    tunnel.server.wait_for("MANAGEMENT: TCP Socket listening on [AF_INET]10.8.0.1:7505", SOON).unwrap();
    let script = "exec 3<>/dev/tcp/10.8.0.1/7505; printf 'pid\\nquit\\n' >&3; cat <&3";
    let output = tunnel.lab.server.command("bash").args(["-c", script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(">INFO:OpenVPN") && text.contains("SUCCESS: pid="), "{text}");
}

/// The thread that waits for a signature holds up neither the next attempt nor the end.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_signature_that_does_not_come_holds_nothing_up() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let mut tunnel = world.tunnel(Role::Client, Release::V2_7, &TunnelSpec::default());
    let own = &world.materials.certificates(Algorithm::Ec).pki.client;
    let at = folder.path().join("socket");
    let lines = format!("management {} unix\nmanagement-external-key", at.display());
    start_again(&mut tunnel, Role::Client, &["key"], &lines);
    let mut token = Management::connect(&at).unwrap();
    token.send("version 3").unwrap();
    token.wait_for(">PK_SIGN:").unwrap();
    for _ in 0..2 {
        token.command("signal SIGUSR1").unwrap();
        token.wait_for(">PK_SIGN:").unwrap();
    }
    token.command("signal SIGUSR1").unwrap();
    answer_signature(&mut token, &folder, &own.key, "ECDSA", &tunnel);
    tunnel.wait_up().unwrap();
    token.command("signal SIGUSR1").unwrap();
    token.wait_for(">PK_SIGN:").unwrap();
    token.send("signal SIGTERM").unwrap();
    tunnel.client.wait_exit(SOON).unwrap();
    assert_no_panic(&tunnel);
}
