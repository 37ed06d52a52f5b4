//! The files in `examples/` are ones that culvert accepts.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use culvert_testkit::{Algorithm, Pki, TempDir};

fn culvert(folder: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_culvert")).current_dir(folder.path()).args(arguments).output().unwrap()
}

fn assert_success(output: &Output) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    assert!(output.status.success(), "{}:\n{}", output.status, String::from_utf8_lossy(&text));
}

/// A folder with every file that the examples name.
fn folder() -> TempDir {
    let (folder, pki) = (TempDir::new().unwrap(), Pki::new(Algorithm::Ec).unwrap());
    let copies = [
        ("ca.crt", &pki.ca),
        ("server.crt", &pki.server.cert),
        ("server.key", &pki.server.key),
        ("client.crt", &pki.client.cert),
        ("client.key", &pki.client.key),
        ("a.crt", &pki.server.cert),
        ("a.key", &pki.server.key),
        ("b.crt", &pki.client.cert),
        ("b.key", &pki.client.key),
    ];
    for (name, from) in copies {
        fs::copy(from, folder.path().join(name)).unwrap();
    }
    assert_success(&culvert(&folder, &["--genkey", "tls-crypt-v2-server", "v2-server.key"]));
    let client_key = ["--tls-crypt-v2", "v2-server.key", "--genkey", "tls-crypt-v2-client", "v2-client.key"];
    assert_success(&culvert(&folder, &client_key));
    assert_success(&culvert(&folder, &["--genkey", "auth-token", "token.key"]));
    folder.write("users", "").unwrap();
    folder.write_script("bridge-up", "#!/bin/sh\n").unwrap();
    fs::create_dir(folder.path().join("ccd")).unwrap();
    folder
}

#[test]
fn every_example_is_accepted() {
    let folder = folder();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut checked = 0;
    for entry in fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "py") {
            continue; // run by the scenarios of the management interface
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        fs::copy(&path, folder.path().join(&name)).unwrap();
        assert_success(&culvert(&folder, &["check", &format!("./{name}")]));
        checked += 1;
    }
    assert_eq!(checked, 11);
}
