//! Against the openssl program over loopback: its exporter, its handshake, each side.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use culvert_proto::tls::{RustlsFactory, TlsFactory as _, TlsSession, TlsVersion};

use crate::pki::{Both, both};

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
