//! Where an end's own key, certificate and authorities come from.

use std::{fs, path::Path, process::Command};

use culvert_testkit::{
    Algorithm, Daemon, Identity, Management, Release, Role, Signal, TempDir, Terminal, Tunnel, TunnelSpec,
};

use crate::{SOON, World, assert_no_panic, management_keys::start_again};

/// A world with a tunnel whose client is started anew with other keys.
fn world() -> (World, Tunnel, TempDir) {
    let world = World::new();
    let tunnel = world.tunnel(Role::Client, Release::V2_7, &TunnelSpec::default());
    (world, tunnel, TempDir::new().unwrap())
}

pub(crate) fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The client's identity and its authority in a PKCS #12 file.
fn p12(world: &World, folder: &TempDir, password: &str) -> String {
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    let Identity { cert, key, .. } = &pki.client;
    let path = folder.path().join("client.p12");
    let password = format!("pass:{password}");
    openssl(&[
        "pkcs12",
        "-export",
        "-in",
        text(cert),
        "-inkey",
        text(key),
        "-certfile",
        text(&pki.ca),
        "-out",
        text(&path),
        "-passout",
        &password,
    ]);
    path.display().to_string()
}

fn carries(tunnel: &Tunnel) {
    tunnel.wait_up().unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert_no_panic(tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_pkcs_12_file_holds_key_certificate_and_authority() {
    let (world, mut tunnel, folder) = world();
    let file = p12(&world, &folder, "open sesame");
    let pass = folder.write("pass", "open sesame\n").unwrap();
    let lines = format!("pkcs12 {file}\naskpass {}", pass.display());
    start_again(&mut tunnel, Role::Client, &["key", "cert", "ca"], &lines);
    carries(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_pkcs_12_file_without_password_stands_in_the_configuration() {
    let (world, mut tunnel, folder) = world();
    let file = p12(&world, &folder, "");
    let base64 = folder.path().join("base64");
    openssl(&["base64", "-in", &file, "-out", text(&base64)]);
    let lines = format!("<pkcs12>\n{}</pkcs12>", fs::read_to_string(base64).unwrap());
    start_again(&mut tunnel, Role::Client, &["key", "cert"], &lines);
    carries(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_password_of_a_pkcs_12_file_comes_from_the_management_interface() {
    let (world, mut tunnel, folder) = world();
    let file = p12(&world, &folder, "open sesame");
    let at = folder.path().join("socket");
    let lines = format!("pkcs12 {file}\nmanagement {} unix\nmanagement-query-passwords", at.display());
    start_again(&mut tunnel, Role::Client, &["key", "cert", "ca"], &lines);
    let mut management = Management::connect(&at).unwrap();
    for password in ["wrong", "open sesame"] {
        assert_eq!(management.wait_for(">PASSWORD:Need").unwrap(), ">PASSWORD:Need 'Private Key' password");
        management.command(&format!("password \"Private Key\" \"{password}\"")).unwrap();
        if password == "wrong" {
            management.wait_for(">PASSWORD:Verification Failed: 'Private Key'").unwrap();
        }
    }
    carries(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn authorities_and_revocations_are_found_in_a_directory() {
    let (world, mut tunnel, folder) = world();
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    let directory = folder.path().join("authorities");
    fs::create_dir(&directory).unwrap();
    fs::copy(&pki.ca, directory.join("ca.pem")).unwrap();
    openssl(&["rehash", text(&directory)]);
    let lines = format!("capath {}", directory.display());
    start_again(&mut tunnel, Role::Client, &["ca"], &lines);
    carries(&tunnel);

    fs::copy(pki.revoke(&pki.server).unwrap(), directory.join("crl.pem")).unwrap();
    openssl(&["rehash", text(&directory)]);
    tunnel.restart(Role::Client).unwrap();
    tunnel.client.wait_for("certificate revoked", SOON).unwrap();
    assert_no_panic(&tunnel);
}

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A software token with the client's key and certificate, PIN 1234.
struct SoftToken {
    folder: TempDir,
}

impl SoftToken {
    fn new(identity: &Identity) -> Self {
        let token = Self { folder: TempDir::new().unwrap() };
        let path = |name: &str| token.folder.path().join(name).display().to_string();
        fs::create_dir(path("tokens")).unwrap();
        token
            .folder
            .write("conf", &format!("directories.tokendir = {}\nlog.level = ERROR\n", path("tokens")))
            .unwrap();
        let (label, pin) = ("my token/1", "1234");
        token.run(
            "softhsm2-util",
            &["--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", "12345678"],
        );
        let key = text(&identity.key);
        token.run(
            "softhsm2-util",
            &["--import", key, "--token", label, "--label", "k", "--id", "0a1b", "--pin", pin],
        );
        let der = path("certificate");
        openssl(&["x509", "-in", text(&identity.cert), "-outform", "DER", "-out", &der]);
        let write = ["--write-object", &der, "--type", "cert", "--id", "0a1b", "--label", "c"];
        token.run("pkcs11-tool", &[&["--module", MODULE, "--login", "--pin", pin][..], &write].concat());
        token
    }

    /// The line that lets a program find it.
    fn environment(&self) -> String {
        format!("SOFTHSM2_CONF={}", self.folder.path().join("conf").display())
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("env");
        let output = command.arg(self.environment()).arg(program).args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A client of a 2.7 server that has nothing but the token.
    fn client(&self, world: &World, algorithm: Algorithm, without: &[&str], lines: &str) -> Tunnel {
        let spec = TunnelSpec { algorithm, ..TunnelSpec::default() };
        let (server, client) = world.ends(Role::Client, Release::V2_7);
        // The first start, with files, is only there to be changed.
        let mut tunnel = Tunnel::start(&spec, &server, &client, &world.materials).unwrap();
        tunnel.client.kill();
        tunnel
            .edit_config(Role::Client, |text| {
                let text =
                    without.iter().fold(text, |text, option| crate::management_keys::without(&text, option));
                format!("{text}\n{lines}\n")
            })
            .unwrap();
        let config = tunnel.folder.path().join("client.conf");
        let (environment, program) = (self.environment(), client.program());
        let arguments = [environment.as_str(), text(program), "--config", text(&config)];
        let env = Path::new("/usr/bin/env");
        tunnel.client = Daemon::start_with(&tunnel.lab.client, env, "client (culvert)", &arguments).unwrap();
        tunnel
    }
}

/// As a user would copy it from the list.
fn serialized(token: &SoftToken) -> String {
    let list = token.run(env!("CARGO_BIN_EXE_culvert"), &["--show-pkcs11-ids", MODULE]);
    let id = list.lines().find_map(|line| line.trim().strip_prefix("Serialized id:")).unwrap();
    id.trim().to_owned()
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn tokens_are_listed_as_openvpn_lists_them() {
    let world = World::new();
    let token = SoftToken::new(&world.materials.certificates(Algorithm::Ec).pki.client);
    let ours = token.run(env!("CARGO_BIN_EXE_culvert"), &["--show-pkcs11-ids", MODULE]);
    let openvpn = world.peers.get(Release::V2_7).unwrap();
    let theirs = token.run(openvpn.program().to_str().unwrap(), &["--show-pkcs11-ids", MODULE]);
    // Theirs begins with a line of the log.
    let list = |text: &str| text.split_once("The following").unwrap().1.to_owned();
    assert_eq!(list(&ours), list(&theirs));
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn an_ec_key_on_a_token_signs_with_a_pin_from_a_file() {
    let world = World::new();
    let token = SoftToken::new(&world.materials.certificates(Algorithm::Ec).pki.client);
    let pin = token.folder.write("pin", "1234\n").unwrap();
    let lines =
        format!("pkcs11-providers {MODULE}\npkcs11-id '{}'\naskpass {}", serialized(&token), pin.display());
    let tunnel = token.client(&world, Algorithm::Ec, &["key", "cert"], &lines);
    carries(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn an_rsa_key_on_a_token_signs_with_a_pin_from_the_management_interface() {
    let world = World::new();
    let token = SoftToken::new(&world.materials.certificates(Algorithm::Rsa).pki.client);
    let at = token.folder.path().join("socket");
    // Forgotten at once: a renegotiation asks again.
    let lines = format!(
        "pkcs11-providers {MODULE}\npkcs11-id-management\npkcs11-pin-cache 0\nreneg-sec 3\n\
         management {} unix\nmanagement-query-passwords",
        at.display()
    );
    let tunnel = token.client(&world, Algorithm::Rsa, &["key", "cert"], &lines);
    let mut management = Management::connect(&at).unwrap();
    management.wait_for(">NEED-STR:Need 'pkcs11-id-request'").unwrap();
    management.send("pkcs11-id-count").unwrap();
    management.wait_for(">PKCS11ID-COUNT:1").unwrap();
    management.send("pkcs11-id-get 0").unwrap();
    let entry = management.wait_for(">PKCS11ID-ENTRY:'0'").unwrap();
    let begin = format!(">PKCS11ID-ENTRY:'0', ID:'{}', BLOB:'MII", serialized(&token));
    assert!(entry.starts_with(&begin) && entry.ends_with('\''), "{entry}");
    management.command(&format!("needstr pkcs11-id-request '{}'", serialized(&token))).unwrap();
    let mut answer = |pin: &str| {
        let need = management
            .wait_for(">PASSWORD:Need")
            .unwrap_or_else(|failure| panic!("{}", tunnel.with_logs(&failure)));
        assert_eq!(need, ">PASSWORD:Need 'my token/1 token' password");
        management.command(&format!("password \"my token/1 token\" {pin}")).unwrap();
    };
    answer("9999");
    answer("1234"); // it is asked for again
    answer("1234"); // for the handshake
    tunnel.wait_up().unwrap();
    answer("1234"); // for the renegotiation
    carries(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn certificate_and_key_may_be_uris() {
    let world = World::new();
    let token = SoftToken::new(&world.materials.certificates(Algorithm::Ec).pki.client);
    let uri = format!("pkcs11:token=my%20token%2F1;id=%0a%1b?module-path={MODULE}&pin-value=1234");
    let tunnel = token.client(&world, Algorithm::Ec, &["key", "cert"], &format!("cert {uri}\nkey {uri}"));
    carries(&tunnel);
    // The key alone.
    let tunnel = token.client(&world, Algorithm::Ec, &["key"], &format!("key {uri}"));
    carries(&tunnel);
    let wrong = format!("pkcs11:token=my%20token%2F1?module-path={MODULE}&pin-value=9999");
    let mut tunnel = token.client(&world, Algorithm::Ec, &["key"], &format!("key {wrong}"));
    tunnel.client.wait_for("token 'my token/1': wrong PIN", SOON).unwrap();
    assert!(
        !tunnel.client.wait_exit(SOON).unwrap().success(),
        "it is not tried twice: tokens lock themselves"
    );
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_passphrase_that_was_mistyped_may_be_typed_again_with_auth_retry_interact() {
    let (world, mut tunnel, folder) = world();
    let file = p12(&world, &folder, "open sesame");
    let lines = format!("pkcs12 {file}\nauth-retry interact");
    start_again(&mut tunnel, Role::Client, &["key", "cert", "ca"], &lines); // nobody to ask: it ends
    let config = tunnel.folder.path().join("client.conf");
    let (client, mut terminal) =
        Terminal::start(&tunnel.lab.client, &world.subject, "client at a terminal", &config).unwrap();
    terminal.answer("Enter Private Key Password:", "open sesam", SOON).unwrap();
    client.wait_for("SIGUSR1[soft,private-key-password-failure] received", SOON).unwrap();
    terminal.answer("Enter Private Key Password:", "open sesame", SOON).unwrap();
    client.wait_up(SOON * 2).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    drop(client);
    // The second question does not keep the process from ending.
    let (mut client, mut terminal) =
        Terminal::start(&tunnel.lab.client, &world.subject, "client at a terminal", &config).unwrap();
    terminal.answer("Enter Private Key Password:", "open sesam", SOON).unwrap();
    terminal.wait_asked("Enter Private Key Password:", SOON).unwrap();
    client.signal(Signal::Terminate).unwrap();
    assert!(client.wait_exit(SOON).unwrap().success(), "{}", client.tail());
    assert!(terminal.is_echoing().unwrap());
}
