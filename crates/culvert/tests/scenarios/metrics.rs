//! Metrics, scraped as Prometheus scrapes them.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use culvert_testkit::{Release, Role, TempDir, TunnelSpec};

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
