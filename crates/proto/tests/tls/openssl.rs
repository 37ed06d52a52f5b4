//! Against the openssl program over loopback: its exporter, its handshake, each side.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use culvert_proto::tls::{CertProfile, RustlsFactory, TlsError, TlsFactory as _, TlsSession, TlsVersion};

use crate::{
    keys::fixture,
    pki::{Both, both},
};

/// Both settings, and the server's and client's files in a directory.
fn files(directory: &Path, both: &Both) {
    std::fs::create_dir_all(directory).unwrap();
    for (name, settings) in [("client", &both.client), ("server", &both.server)] {
        let own = settings.own.as_ref().unwrap();
        std::fs::write(directory.join(format!("{name}.crt")), &own.certificate.text).unwrap();
        std::fs::write(directory.join(format!("{name}.key")), &own.key.text).unwrap();
    }
    std::fs::write(directory.join("ca.crt"), both.authority.certificate.pem()).unwrap();
}

fn start(directory: &Path, arguments: &str) -> Child {
    Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("this test needs the openssl program: {error}"))
}

/// Runs our end's handshake over the stream, then sends [`MARKER`].
fn drive(session: &mut dyn TlsSession, stream: &mut TcpStream) {
    let mut out = Vec::new();
    while session.is_handshaking() {
        session.take(&mut out);
        stream.write_all(&out).unwrap();
        out.clear();
        let mut buffer = [0; 2048];
        let len = stream.read(&mut buffer).unwrap();
        assert_ne!(len, 0, "the program hung up");
        session.feed(&buffer[..len]).unwrap();
    }
    session.write(MARKER).unwrap();
    session.take(&mut out);
    stream.write_all(&out).unwrap();
}

/// What the program prints until it has shown the marker: by then its handshake is done, too.
fn output_up_to_marker(program: &mut Child) -> String {
    let mut output = Vec::new();
    let stdout = program.stdout.as_mut().unwrap();
    while !output.ends_with(MARKER) {
        let mut byte = [0];
        assert_eq!(
            stdout.read(&mut byte).unwrap(),
            1,
            "the program ended: {}",
            String::from_utf8_lossy(&output)
        );
        output.extend(byte);
    }
    String::from_utf8_lossy(&output).into_owned()
}

const MARKER: &[u8] = b"hello from culvert\n";

/// What the program printed as `Keying material: …`.
fn exported(output: &str) -> String {
    let line = output.lines().find_map(|line| line.trim().strip_prefix("Keying material: "));
    line.unwrap_or_else(|| panic!("no keying material in: {output}")).to_lowercase()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
#[ignore = "needs the openssl program"]
fn our_client_and_its_server_export_the_same_keys() {
    for (version, flag) in [(TlsVersion::V1_2, "-tls1_2"), (TlsVersion::V1_3, "-tls1_3")] {
        let mut both = both();
        both.client.version_max = version;
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("openssl-server{flag}"));
        files(&directory, &both);
        // A listener of ours finds a free port; the program then takes it.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut program = start(
            &directory,
            &format!(
                "s_server -accept 127.0.0.1:{port} {flag} -cert server.crt -key server.key -CAfile ca.crt -Verify 2 \
                 -naccept 1 -keymatexport EXPORTER-OpenVPN-datakeys -keymatexportlen 256"
            ),
        );
        let mut stream = connect_when_ready(port);
        let mut session = RustlsFactory::new(both.client).unwrap().open().unwrap();
        drive(&mut *session, &mut stream);
        let mut ours = [0; 256];
        session.export("EXPORTER-OpenVPN-datakeys", &mut ours).unwrap();
        let output = output_up_to_marker(&mut program);
        drop((stream, program.stdin.take(), program.stdout.take()));
        program.wait().unwrap();
        assert_eq!(exported(&output), hex(&ours), "{flag}");
    }
}

#[test]
#[ignore = "needs the openssl program"]
fn our_server_and_its_client_export_the_same_keys() {
    for (version, flag) in [(TlsVersion::V1_2, "-tls1_2"), (TlsVersion::V1_3, "-tls1_3")] {
        let mut both = both();
        both.server.version_max = version;
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("openssl-client{flag}"));
        files(&directory, &both);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut program = start(
            &directory,
            &format!(
                "s_client -connect 127.0.0.1:{port} {flag} -cert client.crt -key client.key -CAfile ca.crt \
                 -verify_return_error -keymatexport EXPORTER-OpenVPN-datakeys -keymatexportlen 256"
            ),
        );
        let (mut stream, _) = listener.accept().unwrap();
        let mut session = RustlsFactory::new(both.server).unwrap().open().unwrap();
        drive(&mut *session, &mut stream);
        assert_eq!(session.identity().unwrap().common_name, "client");
        let mut ours = [0; 256];
        session.export("EXPORTER-OpenVPN-datakeys", &mut ours).unwrap();
        let output = output_up_to_marker(&mut program);
        drop((stream, program.stdin.take(), program.stdout.take()));
        program.wait().unwrap();
        assert_eq!(exported(&output), hex(&ours), "{flag}");
    }
}

fn connect_when_ready(port: u16) -> TcpStream {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        std::thread::yield_now();
    }
}

/// Lets the program's client present a certificate that no end of ours would, and gives our server's verdict.
fn present(certificate: &str, key: &str, profile: CertProfile) -> Result<String, TlsError> {
    let mut both = both();
    both.server.profile = profile;
    both.server.version_max = TlsVersion::V1_2;
    both.server.ca.as_mut().unwrap().text = fixture(certificate);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let arguments = format!(
        "s_client -connect 127.0.0.1:{port} -cert {certificate} -key {key} -cipher DEFAULT@SECLEVEL=0"
    );
    let mut program = start(&directory, &arguments);
    let (mut stream, _) = listener.accept().unwrap();
    let mut session = RustlsFactory::new(both.server).unwrap().open().unwrap();
    let verdict = loop {
        let mut buffer = [0; 2048];
        let len = stream.read(&mut buffer).unwrap();
        if let Err(error) = session.feed(&buffer[..len]) {
            break Err(error);
        }
        let mut out = Vec::new();
        session.take(&mut out);
        stream.write_all(&out).unwrap();
        if let Some(identity) = session.identity() {
            break Ok(identity.common_name.clone());
        }
    };
    drop((stream, program.stdin.take(), program.stdout.take()));
    program.wait().unwrap();
    verdict
}

#[test]
#[ignore = "needs the openssl program"]
fn a_short_rsa_key_of_the_peer_needs_the_insecure_profile() {
    let refused = present("rsa1024.crt.pem", "rsa1024.pem", CertProfile::Legacy).unwrap_err().to_string();
    assert!(
        refused.contains("VERIFY ERROR: depth=0, error=EE certificate key too weak: CN=short"),
        "{refused}"
    );
    assert!(refused.contains("tls-cert-profile insecure"), "{refused}");
    assert_eq!(present("rsa1024.crt.pem", "rsa1024.pem", CertProfile::Insecure), Ok("short".to_owned()));
}

#[test]
#[ignore = "needs the openssl program"]
fn a_version_1_certificate_of_the_peer_is_refused_with_a_remedy() {
    let refused = present("v1.crt.pem", "ec.sec1.pem", CertProfile::Legacy).unwrap_err().to_string();
    assert!(
        refused.contains("VERIFY ERROR: depth=0, error=invalid certificate version: CN=version one"),
        "{refused}"
    );
    assert!(refused.contains("issue it as version 3"), "{refused}");
}
