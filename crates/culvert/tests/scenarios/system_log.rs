//! The system log, and the forms of lines that programs read.

use std::os::unix::net::UnixDatagram;

use culvert_testkit::{Daemon, Implementation, NetnsLab, Release, Role, TempDir, Tunnel, TunnelSpec};

use crate::{SOON, World};

/// A server whose `/dev/log` is the test's own socket: what it says there until it is up.
fn said(options: &str) -> (Vec<String>, u32) {
    let (world, folder, lab) = (World::new(), TempDir::new().unwrap(), NetnsLab::new().unwrap());
    let socket = folder.path().join("log");
    let log = UnixDatagram::bind(&socket).unwrap();
    log.set_read_timeout(Some(SOON)).unwrap();
    let spec = TunnelSpec::default();
    let text = spec.config(Role::Server, &world.subject, &world.materials, &folder).unwrap();
    let config = folder.write("server.conf", &format!("{options}\n{text}")).unwrap();
    // A `/dev` of its own, with what the server needs and the socket.
    let script = "mount -t tmpfs none \"$1\" && for name in null urandom full net; do
            [ -d /dev/$name ] && mkdir \"$1/$name\" || : >\"$1/$name\"
            mount --rbind /dev/$name \"$1/$name\" || exit
        done
        ln -s \"$2\" \"$1/log\" && mount --rbind \"$1\" /dev && exec \"$3\" --config \"$4\"";
    let dev = folder.path().join("dev");
    std::fs::create_dir(&dev).unwrap();
    let words = ["-m", "sh", "-c", script, "sh"].map(str::to_owned).into_iter();
    let paths = [dev.as_path(), &socket, world.subject.program(), &config];
    let words: Vec<_> = words.chain(paths.map(|path| path.display().to_string())).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let server = Daemon::start_with(&lab.server, std::path::Path::new("unshare"), "server", &words).unwrap();
    let (mut lines, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let len = log.recv(&mut buffer).unwrap_or_else(|failure| panic!("{failure}\n{}", server.tail()));
        lines.push(String::from_utf8_lossy(&buffer[..len]).into_owned());
        if lines.last().is_some_and(|line| line.contains("Initialization Sequence Completed")) {
            return (lines, server.pid().as_raw_nonzero().get().unsigned_abs());
        }
    }
}

/// Facility DAEMON (3 << 3) and LOG_NOTICE make 29.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn lines_for_the_system_log_have_facility_name_and_process() {
    let (lines, pid) = said("syslog ovpn-test");
    let whole = lines.join("\n");
    assert!(lines.iter().all(|line| line.contains(&format!(" ovpn-test[{pid}]: "))), "{whole}");
    let is_notice = |line: &&String| line.starts_with("<29>") && !line.contains("]: 20");
    let last = lines.last().unwrap();
    assert!(is_notice(&last), "no time stamp of ours: {last}");
    assert!(lines.iter().any(|line| line.contains("OpenVPN 2.")), "{whole}");
}

/// Time, flags and text of lines that both programs write; theirs have the class of message in the upper byte of the flags.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn machine_readable_lines_have_openvpns_flags() {
    let world = World::new();
    let openvpn = world.peers.get(Release::V2_7).unwrap();
    let lines = |server: &Implementation| {
        let server_extra = "machine-readable-output\nmanagement 127.0.0.1 7505".to_owned();
        let spec = TunnelSpec { server_extra, ..TunnelSpec::default() };
        let tunnel = Tunnel::start_up(&spec, server, &openvpn, &world.materials).unwrap();
        [
            "Initialization Sequence Completed",
            "WARNING: Using --management on a TCP port",
            "library versions:",
        ]
        .map(|text| {
            let line = tunnel.server.wait_for(text, SOON).unwrap();
            let mut words = line.splitn(3, ' ');
            let time = words.next().unwrap();
            let flags = u32::from_str_radix(words.next().unwrap(), 16).unwrap() & 0x00FF_FFFF;
            let (seconds, micros) = time.split_once('.').unwrap();
            assert!(seconds.parse::<u64>().unwrap() > 1_700_000_000 && micros.len() == 6, "{line}");
            assert!(words.next().unwrap().starts_with(text), "{line}");
            flags
        })
    };
    assert_eq!(lines(&world.subject), lines(&openvpn));
}
