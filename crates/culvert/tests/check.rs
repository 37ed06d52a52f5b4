//! `culvert check`: what a file means, for people and for programs.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{path::Path, process::Command};

use culvert_testkit::{Algorithm, Pki, static_key};
use serde_json::Value;

fn check(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
    let output = command.arg("check").args(arguments).current_dir(folder).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn check_json(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let (code, text) = check(folder, &[&["--json"], arguments].concat());
    (code, serde_json::from_str(&text).unwrap())
}

/// A folder with certificates and a file.
fn world(file: &str) -> Pki {
    let pki = Pki::new(Algorithm::Ec).unwrap();
    pki.folder().write("tc.key", &static_key().unwrap()).unwrap();
    pki.folder().write("a.conf", file).unwrap();
    pki
}

const SERVER: &str = "\
dev tun
server 10.8.0.0 255.255.255.0
ca ca.crt
cert server.crt
key server.key
dh none
tls-crypt tc.key
keepalive 10 60
push \"route 192.0.2.0 255.255.255.0\"
user nobody
";

const CLIENT: &str = "\
client
dev tun
remote 192.0.2.1
ca ca.crt
cert client.crt
key client.key
tls-crypt tc.key
remote-cert-tls server
";

fn names<'v>(findings: &'v Value, level: &str) -> Vec<&'v str> {
    let all = findings["findings"].as_array().unwrap().iter();
    all.filter(|finding| finding["level"] == level).map(|finding| finding["name"].as_str().unwrap()).collect()
}

#[test]
fn a_good_server_is_explained_completely() {
    let pki = world(SERVER);
    let (code, text) = check(pki.folder().path(), &["--strict", "a.conf"]);
    let after_notes = &text[text.find("Offload:").unwrap()..];
    assert_eq!(
        after_notes,
        "Offload:
  linux    yes
           kept        mssfix: a rule of nftables clamps TCP connections through the tunnel
           kept        client-to-client: without it a rule of nftables keeps clients apart
  windows  yes
  engine   yes
Certificates:
  ca ca.crt: until 2049-01-01 00:00 UTC (CN=culvert test CA; 256 bits ECprime256v1, signature: ecdsa-with-SHA256)
  cert server.crt: until 2049-01-01 00:00 UTC (CN=server; 256 bits ECprime256v1, signature: ecdsa-with-SHA256)
Pushed to every client:
  route 192.0.2.0 255.255.255.0
  route-gateway 10.8.0.1
  topology subnet
  ping 10
  ping-restart 60

The configuration is accepted: a server.
"
    );
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_word_that_is_wrong_has_a_caret_below_it_in_text_and_its_place_in_json() {
    let pki = world("client\nremote 192.0.2.1\n  verb many\nfragmnt 1300\n");
    let (code, text) = check(pki.folder().path(), &["a.conf"]);
    assert_eq!(code, 1);
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.ends_with("  verb many")).unwrap();
    assert_eq!(lines[at].find("many"), lines[at + 1].find("^^^^"), "{text}");
    let (_, json) = check_json(pki.folder().path(), &["a.conf"]);
    let places: Vec<_> = json["errors"].as_array().unwrap().iter().map(|error| &error["place"]).collect();
    let expected = [
        serde_json::json!({"file": "a.conf", "line": 3, "column": 8, "text": "  verb many"}),
        serde_json::json!({"file": "a.conf", "line": 4, "column": 1, "text": "fragmnt 1300"}),
    ];
    assert_eq!(places, expected.iter().collect::<Vec<_>>());
    assert_eq!(json["accepted"], false);
    assert_eq!(json["role"], Value::Null);
}

#[test]
fn all_missing_files_are_named() {
    let pki = world(&CLIENT.replace("ca.crt", "no-ca.crt").replace("tc.key", "no-tc.key"));
    let (code, json) = check_json(pki.folder().path(), &["a.conf"]);
    assert_eq!(code, 1);
    let messages: Vec<&str> =
        json["errors"].as_array().unwrap().iter().map(|error| error["message"].as_str().unwrap()).collect();
    assert!(messages.iter().any(|message| message.contains("--ca fails with 'no-ca.crt'")), "{messages:?}");
    assert!(
        messages.iter().any(|message| message.contains("--tls-crypt fails with 'no-tc.key'")),
        "{messages:?}"
    );
}

#[test]
fn an_expired_certificate_is_an_error_though_culvert_would_start() {
    let pki = world(
        &CLIENT.replace("client.crt", "expired-client.crt").replace("client.key", "expired-client.key"),
    );
    pki.expired_client().unwrap();
    let (code, json) = check_json(pki.folder().path(), &["a.conf"]);
    assert_eq!((code, &json["accepted"], &json["passes"]), (1, &Value::Bool(true), &Value::Bool(false)));
    assert_eq!(names(&json, "error"), ["certificate-expiry"]);
    let (_, text) = check(pki.folder().path(), &["a.conf"]);
    assert!(text.contains("the certificate of CN=client ended 2002-01-01 00:00 UTC\n"), "{text}");
    assert!(text.ends_with("It would start, and not work: see the findings that are errors.\n"), "{text}");
}

#[test]
fn a_key_that_does_not_belong_to_the_certificate_is_found() {
    let pki = world(&CLIENT.replace("key client.key", "key server.key"));
    let (code, json) = check_json(pki.folder().path(), &["a.conf"]);
    assert_eq!((code, names(&json, "error")), (1, vec!["tls"]));
}

#[test]
fn weak_settings_are_listed_with_reasons_and_fail_only_when_strict() {
    let file = CLIENT.replace("tls-crypt tc.key\n", "").replace(
        "remote-cert-tls server\n",
        "data-ciphers AES-256-GCM\ntls-cert-profile insecure\nreneg-sec 0\n",
    );
    let pki = world(&file);
    let (code, json) = check_json(pki.folder().path(), &["a.conf"]);
    assert_eq!(code, 0, "{json:#}");
    let warnings = names(&json, "warning");
    for name in ["weak-certificates-allowed", "server-not-told-from-clients"] {
        assert!(warnings.contains(&name), "{warnings:?}");
    }
    assert_eq!(names(&json, "note"), ["no-renegotiation", "no-control-channel-key"]);
    // On a server it is its own to have one.
    let server = world(&SERVER.replace("tls-crypt tc.key\n", ""));
    let (_, json) = check_json(server.folder().path(), &["a.conf"]);
    assert_eq!(names(&json, "warning"), ["no-control-channel-key"]);
    for finding in json["findings"].as_array().unwrap() {
        assert!(
            !finding["text"].as_str().unwrap().is_empty() && !finding["remedy"].as_str().unwrap().is_empty()
        );
    }
    let (code, text) = check(pki.folder().path(), &["--strict", "a.conf"]);
    assert_eq!(code, 1);
    assert!(text.ends_with("With --strict it does not pass: there are warnings.\n"), "{text}");
}

#[test]
fn a_client_without_a_server_is_an_error() {
    let pki = world(&CLIENT.replace("remote 192.0.2.1\n", ""));
    let (code, json) = check_json(pki.folder().path(), &["a.conf"]);
    assert_eq!((code, names(&json, "error")), (1, vec!["no-remote"]), "{json:#}");
}

#[test]
fn a_management_port_that_a_start_refuses_is_an_error() {
    for (line, expected) in [
        ("management 0.0.0.0 7505", vec!["open-management"]),
        ("management 127.0.0.1 7505", vec![]),
        ("management 0.0.0.0 7505\nmanagement-insecure", vec![]),
    ] {
        let pki = world(&format!("{CLIENT}{line}\n"));
        let (code, json) = check_json(pki.folder().path(), &["a.conf"]);
        assert_eq!((code, names(&json, "error")), (i32::from(!expected.is_empty()), expected), "{json:#}");
    }
}

#[test]
fn a_client_with_nothing_to_say_about_passes_strictly() {
    let pki = world(CLIENT);
    let (code, text) = check(pki.folder().path(), &["a.conf", "--strict"]);
    assert_eq!(code, 0, "{text}");
    let (_, json) = check_json(pki.folder().path(), &["a.conf"]);
    assert_eq!(json["role"], "client");
    assert_eq!(json["pushed"].as_array().unwrap().len(), 0);
    assert_eq!(json["certificates"][1]["not_after"], 2_493_072_000_i64);
    assert_eq!(json["offload"][2]["kind"], "engine");
    assert_eq!(json["offload"][2]["accepts"], true);
}

#[test]
fn what_has_no_effect_and_what_keeps_the_kernel_out_is_said_with_its_reason() {
    let pki = world(&format!("{CLIENT}fast-io\ncomp-lzo no\n"));
    let (_, json) = check_json(pki.folder().path(), &["a.conf"]);
    let notes = json["notes"].to_string();
    assert!(notes.contains("fast-io"), "{notes}");
    let refusals = &json["offload"][0]["refusals"];
    assert_eq!(refusals[0]["option"], "comp-lzo");
    assert!(refusals[0]["because"].as_str().unwrap().contains("compression framing"), "{refusals}");
}

#[test]
fn a_certificate_on_a_token_is_left_to_the_token_and_no_pin_is_shown() {
    const URI: &str = "pkcs11:token=a;id=%01?module-name=opensc-pkcs11&pin-value=98761234";
    let client = CLIENT
        .replace("cert client.crt", &format!("cert \"{URI}\""))
        .replace("key client.key", &format!("key \"{URI}\""));
    let server = SERVER
        .replace(
            "cert server.crt",
            &format!("pkcs11-id \"{URI}\"\npkcs11-providers /usr/lib/p11-kit-proxy.so"),
        )
        .replace("key server.key\n", "");
    for file in [client, server] {
        let pki = world(&file);
        let folder = pki.folder().path();
        let (code, text) = check(folder, &["a.conf"]);
        assert_eq!(code, 0, "{text}");
        let (_, json) = check_json(folder, &["a.conf"]);
        assert_eq!(names(&json, "error"), Vec::<&str>::new());
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_culvert"));
        let told = doctor.args(["doctor", "--json", "a.conf"]).current_dir(folder).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        for output in [text, json.to_string(), told] {
            assert!(!output.contains("98761234"), "{output}");
        }
        // The rest is looked at all the same.
        pki.folder().write("a.conf", &file.replace("ca ca.crt", "ca tc.key")).unwrap();
        let (code, json) = check_json(folder, &["a.conf"]);
        assert_eq!(code, 1, "{json:#}");
    }
}

#[test]
fn a_directory_of_authorities_is_examined() {
    let pki = world(&CLIENT.replace("ca ca.crt", "capath authorities"));
    let folder = pki.folder().path();
    std::fs::create_dir(folder.join("authorities")).unwrap();
    std::fs::copy(folder.join("ca.crt"), folder.join("authorities/0a1b2c3d.0")).unwrap();
    let (code, json) = check_json(folder, &["a.conf"]);
    assert_eq!(code, 0, "{json:#}");
    let options: Vec<&Value> =
        json["certificates"].as_array().unwrap().iter().map(|certificate| &certificate["option"]).collect();
    assert_eq!(options, ["cert", "capath"]);
}

#[test]
fn the_certificates_of_a_pkcs12_file_are_examined_where_nobody_has_to_be_asked() {
    let file = CLIENT.replace("cert client.crt\nkey client.key", "pkcs12 all.p12").replace("ca ca.crt\n", "");
    let pki = world(&file);
    let folder = pki.folder().path();
    let pack = |password: &str| {
        let mut openssl = Command::new("openssl");
        let words = "pkcs12 -export -in client.crt -inkey client.key -certfile ca.crt -out all.p12 -passout";
        let status =
            openssl.args(words.split(' ')).arg(format!("pass:{password}")).current_dir(folder).status();
        assert!(status.unwrap().success());
        check_json(folder, &["a.conf"])
    };
    let (code, open) = pack("");
    assert_eq!(code, 0, "{open:#}");
    assert_eq!(open["certificates"].as_array().unwrap().len(), 2);
    let (code, closed) = pack("secret");
    assert_eq!(code, 0, "{closed:#}");
    assert_eq!(closed["certificates"], serde_json::json!([]));
    pki.folder().write("pass", "secret\n").unwrap();
    pki.folder().write("a.conf", &format!("{file}askpass pass\n")).unwrap();
    let (_, told) = pack("secret");
    assert_eq!(told["certificates"].as_array().unwrap().len(), 2);
}

#[test]
fn the_picture_of_a_line_shows_no_pin() {
    let pki = world(&format!("{CLIENT}cert pkcs11:token=a?pin-value=98761234 too many words\n"));
    let (_, text) = check(pki.folder().path(), &["a.conf"]);
    assert!(text.contains("pin-value=********") && !text.contains("98761234"), "{text}");
}
