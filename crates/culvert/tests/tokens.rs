//! Which token is logged in to, with software tokens.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use culvert_testkit::{Algorithm, Pki};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Software tokens within a folder of certificates.
struct Tokens(Pki);

impl Tokens {
    /// `None`: this machine has no software tokens. `./test` installs what is missing.
    fn new() -> Option<Self> {
        let there = Path::new(MODULE).exists();
        assert!(there || std::env::var_os("CI").is_none(), "{MODULE} is missing");
        if !there {
            return None;
        }
        let tokens = Self(Pki::new(Algorithm::Ec).unwrap());
        let folder = tokens.0.folder();
        fs::create_dir(folder.path().join("tokens")).unwrap();
        let directory = folder.path().join("tokens");
        folder.write("hsm", &format!("directories.tokendir = {}\n", directory.display())).unwrap();
        Some(tokens)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let folder = self.0.folder().path();
        command.env("SOFTHSM2_CONF", folder.join("hsm")).current_dir(folder);
        command
    }

    fn run(&self, program: &str, arguments: &str) -> String {
        let output = self.command(program).args(arguments.split(' ')).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn token(&self, label: &str, pin: &str) {
        self.run(
            "softhsm2-util",
            &format!("--init-token --free --label {label} --pin {pin} --so-pin 12345678"),
        );
    }

    /// Puts the client's key and certificate on a token.
    fn client_on(&self, label: &str, pin: &str) {
        let key = format!("--import client.key --token {label} --label k --id 0a --pin {pin}");
        self.run("softhsm2-util", &key);
        self.run("openssl", "x509 -in client.crt -outform DER -out client.der");
        let object = format!(
            "--module {MODULE} --token-label {label} --login --pin {pin} --write-object client.der --type cert --id 0a --label c"
        );
        self.run("pkcs11-tool", &object);
    }

    /// Whether a token got a wrong PIN since the last right one.
    fn got_a_wrong_pin(&self, label: &str) -> bool {
        let list = self.run("pkcs11-tool", &format!("--module {MODULE} -L"));
        let (_, of_token) = list.split_once(&format!("token label        : {label}\n")).unwrap();
        let flags = of_token.lines().find(|line| line.contains("token flags")).unwrap();
        flags.contains("user PIN count low")
    }

    /// Starts a client, and returns its log to where it has the key, or to its end.
    fn start(&self, uri: &str, files: &str) -> String {
        let words = format!(
            "--client --dev null --remote 127.0.0.1 9 --ca ca.crt {files} --remote-cert-tls server --verb 3 \
             --connect-retry-max 1 --hand-window 2"
        );
        let mut command = self.command(env!("CARGO_BIN_EXE_culvert"));
        let words = words.split_whitespace().map(|word| if word == "URI" { uri } else { word });
        let mut process = command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut log = String::new();
        for line in BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap) {
            log += &line;
            log.push('\n');
            if line.contains("PKCS#11: using") {
                break;
            }
        }
        let _may_have_ended = process.kill();
        process.wait().unwrap();
        log
    }
}

#[test]
fn a_pin_goes_to_the_token_that_has_the_certificate_and_to_no_other() {
    let Some(tokens) = Tokens::new() else { return };
    tokens.token("first", "567890");
    tokens.token("second", "1234");
    tokens.token("third", "567890");
    tokens.client_on("second", "1234");
    let uri = format!("pkcs11:id=%0a?module-path={MODULE}&pin-value=1234");
    for files in ["--cert URI --key URI", "--cert client.crt --key URI"] {
        let log = tokens.start(&uri, files);
        assert!(log.contains("PKCS#11: using"), "{files}: {log}");
        for other in ["first", "third"] {
            assert!(!tokens.got_a_wrong_pin(other), "{files}: {other}");
        }
    }
    // What no token shows is not looked for with a PIN that may be another token's.
    let hidden = format!("pkcs11:id=%0b?module-path={MODULE}&pin-value=1234");
    let log = tokens.start(&hidden, "--cert client.crt --key URI");
    assert!(log.contains("may be on any of several tokens"), "{log}");
    assert!(!log.contains("1234"), "{log}");
    assert!(!["first", "second", "third"].iter().any(|label| tokens.got_a_wrong_pin(label)));
}

#[test]
fn a_module_is_found_by_its_name_and_a_wrong_pin_is_tried_once() {
    let Some(tokens) = Tokens::new() else { return };
    tokens.token("only", "1234");
    tokens.client_on("only", "1234");
    let log = tokens
        .start(&format!("pkcs11:token=only?module-path={MODULE}&pin-value=9999"), "--cert URI --key URI");
    assert!(log.contains("token 'only': wrong PIN"), "{log}");
    assert!(tokens.got_a_wrong_pin("only"));
    let log =
        tokens.start("pkcs11:token=only?module-name=no-such&pin-value=98761234", "--cert URI --key URI");
    assert!(log.contains("Cannot add provider 'libno-such.so'"), "{log}");
    assert!(!log.contains("98761234"), "{log}");
}
