//! Metrics, scraped as Prometheus scrapes them.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use culvert_testkit::{Algorithm, NetnsLab, Release, Role, TempDir, Tunnel, TunnelSpec, eventually};

use crate::{SOON, World};

/// One request on a connection of its own: head and body of the answer.
fn request(socket: &Path, line: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "{line} HTTP/1.1\r\nHost: metrics\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The value of a series whose name and labels begin with `series`.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find(|line| line.starts_with(series))?.rsplit(' ').next()?.parse().ok()
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_tells_prometheus_of_its_clients_and_of_who_did_not_get_in() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let socket = folder.path().join("metrics.sock");
    let spec =
        TunnelSpec { server_extra: format!("metrics {} unix\n", socket.display()), ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, Release::V2_6, &spec);

    let until = Instant::now() + SOON;
    let connected = loop {
        let (head, text) = request(&socket, "GET /metrics");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
        assert!(text.ends_with("# EOF\n"), "{text}");
        let received = value(&text, "openvpn_server_client_received_bytes_total{");
        if received.is_some_and(|bytes| bytes > 0.0) || Instant::now() > until {
            break text;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let context = || format!("{connected}\n{}", tunnel.server.tail());
    for (series, expected) in [
        ("openvpn_up{", 1.0),
        ("openvpn_server_connected_clients{", 1.0),
        ("culvert_connects_total ", 1.0),
        ("culvert_offload_info{", 1.0),
    ] {
        assert_eq!(value(&connected, series), Some(expected), "{series}: {}", context());
    }
    assert!(value(&connected, "openvpn_server_client_received_bytes_total{").unwrap() > 0.0, "{}", context());
    assert!(connected.contains("common_name=\"client\""), "{}", context());
    let ends = value(&connected, "culvert_expiry_time_seconds{kind=\"certificate\"}").unwrap();
    assert!(ends > 1.7e9, "{}", context());

    assert!(request(&socket, "GET /").0.starts_with("HTTP/1.1 404"));
    assert!(request(&socket, "POST /metrics").0.starts_with("HTTP/1.1 405"));
    let mut nonsense = UnixStream::connect(&socket).unwrap();
    nonsense.write_all(b"\x00\x01nonsense\r\n\r\n").unwrap();
    assert!(request(&socket, "GET /metrics").0.starts_with("HTTP/1.1 200"));
}

/// A scrape with curl in the server's namespace: its answer, or what curl said.
fn curl(tunnel: &Tunnel, arguments: &[&str]) -> String {
    let output = tunnel.lab.server.command("curl").args(["-sS", "--max-time", "10"]).args(arguments).output();
    let output = output.unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// What the issue of the server lists, over TCP, beside connections that are held open.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn curl_learns_of_causes_reasons_bytes_offload_and_expiry() {
    const AT: &str = "http://127.0.0.1:9176/metrics";
    let world = World::new();
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    let revoked = pki.revoke(&pki.another_client("revoked").unwrap()).unwrap();
    let expired = pki.expired_client().unwrap();
    let server_extra = format!("metrics 127.0.0.1 9176\ncrl-verify {}\n", revoked.display());
    let spec = TunnelSpec { server_extra, ..TunnelSpec::default() };
    let tunnel = world.tunnel(Role::Server, Release::V2_7, &spec);
    let way = tunnel.lab.add_client(2).unwrap();
    let extra = format!("cert {}\nkey {}", expired.cert.display(), expired.key.display());
    let _other = tunnel.start_another_client(2, (&way.0, way.1), &extra).unwrap();
    tunnel.server.wait_for("certificate has expired", SOON).unwrap();
    let half_a_reset = [7 << 3, 1, 2, 3];
    let send = || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&half_a_reset, (way.1, NetnsLab::PORT));
    way.0.enter(send).unwrap().unwrap();

    // More than there are places, all silent.
    let hold = |_| TcpStream::connect("127.0.0.1:9176").unwrap();
    let _held: Vec<_> = tunnel.lab.server.enter(|| (0..40).map(hold).collect()).unwrap();
    eventually(SOON, || {
        let text = curl(&tunnel, &[AT]);
        let failed = |what: &str| format!("{what}\n{text}\n{}", tunnel.server.tail());
        for series in [
            "openvpn_server_client_received_bytes_total{",
            "openvpn_server_client_sent_bytes_total{",
            "openvpn_server_route_last_reference_time_seconds{",
            "openvpn_status_update_time_seconds{",
            "culvert_handshake_failures_total{cause=\"certificate\"}",
            "culvert_dropped_packets_total{reason=",
            "culvert_offload_info{kind=",
            "culvert_expiry_time_seconds{kind=\"certificate\"}",
            "culvert_expiry_time_seconds{kind=\"crl\"}",
        ] {
            if value(&text, series).is_none_or(|value| value <= 0.0) {
                return Err(failed(series));
            }
        }
        let none_lost = value(&text, "culvert_data_dropped_packets_total{reason=\"auth\"}") == Some(0.0);
        if none_lost { Ok(()) } else { Err(failed("data drops")) }
    });
    let head = curl(&tunnel, &["--head", AT]);
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/openmetrics-text"), "{head}");
    // One connection serves several scrapes.
    let both = curl(&tunnel, &["-v", AT, AT]);
    assert!(both.matches("# EOF").count() == 2 && both.contains("Re-using existing"), "{both}");
}
