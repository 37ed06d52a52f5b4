//! Files as services, installers, routers and companies write them, and NetworkManager's command lines: culvert takes what
//! OpenVPN takes, and refuses what it refuses.
//!
//! The folder `tests/corpus` holds them, made for this test after what is seen in the field. They name files of `/etc/openvpn`, in
//! whose place a program sees a folder of the test's own; `@FILE@` stands for the content of one of those.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use culvert_testkit::{
    Algorithm, Pki, Release, TempDir, static_key, tls_crypt_v2_client_key, tls_crypt_v2_server_key,
};

use crate::World;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");

/// Where culvert means to decide otherwise, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "company-15-compat.conf",
        "compat-mode 2.3 brings BF-CBC, which OpenSSL 3 has only with its legacy provider",
    ),
    (
        "router-07-mikrotik-gcm.ovpn",
        "auth: OpenVPN finds out after its version line that it does not know the digest",
    ),
    (
        "router-15-secret-allowed.conf",
        "static-key mode is refused for good: peer-fingerprint takes its place",
    ),
    (
        "stray-15-remote-port-large.conf",
        "remote: OpenVPN finds out while it resolves that there is no such port",
    ),
    (
        "stray-27-auth-unknown.conf",
        "auth: OpenVPN finds out after its version line that it does not know the digest",
    ),
    ("stray-32-latin1-word.conf", "words are UTF-8; OpenVPN takes any bytes"),
    ("stray-29-iproute.conf", "iproute: Debian builds OpenVPN without this option; other builds have it"),
];

/// What a program makes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It came as far as its version line: the configuration is accepted.
    Accepted,
    /// Refused, with the first error.
    Refused(String),
}

/// Has a program read a file, up to its version line or its end. It sees a network without anything.
pub(crate) fn judge(program: &Path, folder: &Path, arguments: &[String]) -> Verdict {
    let script = "mount --bind \"$1\" /etc/openvpn && cd /etc/openvpn && shift && exec timeout --signal KILL 20 \"$@\"";
    // Whoever kills the outermost process kills all of it: nothing is left when the verdict is known.
    let mut child = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child=KILL"])
        .args(["sh", "-c", script, "sh"])
        .arg(folder)
        .arg(program)
        // The first log that is named holds, and the last verb and mute.
        .args(["--suppress-timestamps", "--log", "/dev/stdout"])
        .args(arguments)
        .args(["--verb", "1", "--mute", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut verdict = Verdict::Refused("(nothing)".to_owned());
    for line in lines {
        if line.starts_with("OpenVPN 2.") {
            verdict = Verdict::Accepted;
            break;
        }
        let is_error = ["Options error:", "ERROR:", "Error:"].iter().any(|start| line.starts_with(start));
        if is_error && verdict == Verdict::Refused("(nothing)".to_owned()) {
            verdict = Verdict::Refused(line);
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    verdict
}

/// The folder that stands in the place of `/etc/openvpn`.
fn folder(world: &World) -> TempDir {
    let pki = Pki::new(Algorithm::Ec).unwrap();
    let folder = TempDir::new().unwrap();
    let put = |name: &str, text: &str| drop(folder.write(name, text).unwrap());
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    for directory in ["ccd", "easy-rsa/pki/issued", "easy-rsa/pki/private", "pki/issued", "pki/private"] {
        fs::create_dir_all(folder.path().join(directory)).unwrap();
    }
    let (ca, key) = (read(&pki.ca), static_key().unwrap());
    for base in ["", "pki/", "easy-rsa/pki/"] {
        put(&format!("{base}ca.crt"), &ca);
        put(&format!("{base}ta.key"), &key);
        put(&format!("{base}dh.pem"), "-----BEGIN DH PARAMETERS-----\n-----END DH PARAMETERS-----\n");
    }
    for (cert, key) in [
        ("server.crt", "server.key"),
        ("pki/issued/vpn.example.crt", "pki/private/vpn.example.key"),
        ("easy-rsa/pki/issued/raspberrypi.crt", "easy-rsa/pki/private/raspberrypi.key"),
    ] {
        put(cert, &read(&pki.server.cert));
        put(key, &read(&pki.server.key));
    }
    put("client.crt", &read(&pki.client.cert));
    put("client.key", &read(&pki.client.key));
    put("crl.pem", &read(&pki.revoke(&pki.client).unwrap()));
    put("login.txt", "alice\nsecret\n");
    put("mgmt.pw", "secret\n");
    for script in ["update-resolv-conf", "check.sh"] {
        folder.write_script(script, "#!/bin/sh\n").unwrap();
    }
    let openvpn = world.peers.get(Release::V2_6).unwrap();
    let v2 = tls_crypt_v2_server_key(openvpn.program(), &folder).unwrap();
    let client = tls_crypt_v2_client_key(openvpn.program(), &v2, &folder).unwrap();
    let text = read(&client);
    put("v2-client.key", &text);
    folder
}

/// The text of a file, with keys and certificates in it.
fn filled(text: &str, folder: &Path) -> String {
    let mut parts = text.split('@').collect::<Vec<_>>().into_iter();
    let mut filled = parts.next().unwrap_or_default().to_owned();
    while let Some(part) = parts.next() {
        match fs::read_to_string(folder.join(part)) {
            Ok(content) if !part.is_empty() => filled += &(content + parts.next().unwrap_or_default()),
            _ => filled += &format!("@{part}"),
        }
    }
    filled
}

/// The arguments that have a program read it: a file, or words, one a line.
fn arguments(name: &str, folder: &Path) -> Vec<String> {
    let bytes = fs::read(Path::new(CORPUS).join(name)).unwrap();
    match String::from_utf8(bytes) {
        Ok(text) if name.ends_with(".args") => {
            return text.lines().filter(|line| !line.starts_with("# ")).map(str::to_owned).collect();
        }
        Ok(text) => fs::write(folder.join(name), filled(&text, folder)).unwrap(),
        // Some are written in other encodings.
        Err(other) => fs::write(folder.join(name), other.as_bytes()).unwrap(),
    }
    vec!["--config".to_owned(), name.to_owned()]
}

#[test]
#[ignore = "needs root and scripts/peers"]
fn what_openvpn_takes_culvert_takes_and_what_it_refuses_is_refused() {
    let world = World::new();
    let openvpn = world.peers.get(Release::V2_7).unwrap();
    let folder = folder(&world);
    let mut names: Vec<String> = fs::read_dir(CORPUS)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 100, "{} files", names.len());
    let (mut accepted, mut wrong) = (0, Vec::new());
    for name in &names {
        let arguments = arguments(name, folder.path());
        let expected = judge(openvpn.program(), folder.path(), &arguments);
        let found = judge(world.subject.program(), folder.path(), &arguments);
        accepted += usize::from(expected == Verdict::Accepted);
        let documented = DIFFERENCES.iter().any(|(file, _)| file == name);
        let agree = (expected == Verdict::Accepted) == (found == Verdict::Accepted);
        if !agree && !documented {
            wrong.push(format!("{name}\n  openvpn: {expected:?}\n  culvert: {found:?}"));
        }
    }
    println!(
        "{} files, {accepted} accepted by OpenVPN 2.7, {} documented differences",
        names.len(),
        DIFFERENCES.len()
    );
    for (name, why) in DIFFERENCES {
        println!("  {name}: {why}");
    }
    assert!(accepted > names.len() / 2, "only {accepted} accepted: something is wrong with the test");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
