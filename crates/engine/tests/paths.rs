//! Paths and kernels that refuse what the engine tries first: the stream goes on by other means and loses nothing.
//!
//! ```text
//!   the test --memory-- engine A ==loopback of a namespace== engine B --memory-- the test
//! ```
//!
//! Each test runs this program again under `unshare --net`. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod support;

use std::{fs, path::Path};

#[test]
fn a_path_narrower_than_the_packets_carries_the_same_stream() {
    support::in_namespace("a_narrow_path", &[]);
}

#[test]
fn a_path_that_becomes_narrow_carries_the_same_stream() {
    support::in_namespace("a_path_that_becomes_narrow", &[]);
}

/// Has every `every`-th `sendmmsg` of a thread fail with `error`, and returns all such calls as strace(1) writes them.
fn with_failing_sends(error: &str, every: usize) -> String {
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{error}-{}.strace", std::process::id()));
    let inject = format!("inject=sendmmsg:error={error}:when={every}+{every}");
    let strace = ["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e", "trace=sendmmsg", "-e", &inject];
    support::in_namespace("trains_only", &strace);
    let calls = fs::read_to_string(&log).unwrap();
    fs::remove_file(&log).unwrap();
    assert!(calls.contains("(INJECTED)"), "no call failed:\n{calls}");
    calls
}

/// A device without checksum offload answers trains with `EIO` (until Linux 6.11, which splits by itself; any Linux
/// where IPsec applies). It may come to be the path's at any time.
#[test]
#[ignore = "needs strace: run ./test"]
fn an_io_error_ends_segmentation_for_good_and_loses_nothing() {
    let calls = with_failing_sends("EIO", 5);
    let is_train = |line: &&str| line.contains("cmsg_type=0x67") || line.contains("UDP_SEGMENT");
    let (before, after) = calls.split_once("(INJECTED)").unwrap();
    let sender = before.lines().last().unwrap().split(' ').next().unwrap();
    assert!(before.lines().filter(is_train).count() >= 5, "trains until then:\n{before}");
    let again: Vec<_> = after.lines().filter(|line| line.starts_with(sender)).filter(is_train).collect();
    assert!(again.is_empty(), "no trains from then on:\n{again:?}");
}

/// What a connected socket was told about an earlier packet, queues that are full for a moment: not this packet's end.
#[test]
#[ignore = "needs strace: run ./test"]
fn other_errors_of_a_moment_lose_nothing() {
    for error in ["ECONNREFUSED", "ENOBUFS", "EAGAIN"] {
        with_failing_sends(error, 5);
    }
}

mod inside {
    use std::net::IpAddr;

    use culvert_engine::EngineConfig;
    use culvert_offload::DeviceMode;
    use culvert_sys::{Outgoing, UdpSocket};
    use culvert_testkit::inner::{Choices, super_frame};

    use super::support::{
        End, Side, device, ip, key, peer,
        streams::{Sending, Stream, traffic},
        udp_on,
    };

    const NARROW: &str = "link set lo mtu 1280";

    fn addresses() -> [IpAddr; 2] {
        ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()]
    }

    fn pair(underlay: IpAddr) -> (End, End) {
        let device = device(DeviceMode::PointToPoint);
        let open = || End::open(&device, EngineConfig::default(), udp_on(underlay));
        let (a, b) = (open(), open());
        a.add_peer(peer(7, a.transport, b.address()), key(Side::A));
        b.add_peer(peer(7, b.transport, a.address()), key(Side::B));
        (a, b)
    }

    /// Whether this machine's kernel refuses trains of so large segments here: without that, a test proves nothing.
    fn refuses_trains(underlay: IpAddr, size: u16) -> bool {
        let socket = UdpSocket::bind((underlay, 0).into(), |_| Ok(())).unwrap();
        let bytes = vec![0; 3 * usize::from(size)];
        let to = Some(socket.local_addr().unwrap());
        socket
            .send_batch(&[Outgoing { bytes: &bytes, segment: Some(size), to, from: None, tos: None }])
            .is_err()
    }

    fn run(a: &End, b: &End, seed: u64, mtu: usize) {
        let mut streams = [
            Stream::new(a, b, traffic(seed, true, mtu), true),
            Stream::new(b, a, traffic(!seed, true, mtu), true),
        ];
        Stream::run(&mut streams);
        for stream in &streams {
            assert_eq!(stream.check(), Ok(()), "seed {seed}, MTU {mtu}");
        }
    }

    #[test]
    #[ignore = "runs in a namespace that another test makes"]
    fn a_narrow_path() {
        ip("link set lo up");
        ip(NARROW);
        for underlay in addresses() {
            assert!(refuses_trains(underlay, 1300) && !refuses_trains(underlay, 600));
            for (seed, mtu) in (0..).zip([576, 1280, 1500, 9000]) {
                let (a, b) = pair(underlay);
                run(&a, &b, seed, mtu);
            }
        }
    }

    #[test]
    #[ignore = "runs in a namespace that another test makes"]
    fn a_path_that_becomes_narrow() {
        ip("link set lo up");
        for (seed, underlay) in (0..).zip(addresses()) {
            ip("link set lo mtu 65536");
            let (a, b) = pair(underlay);
            assert!(!refuses_trains(underlay, 1400));
            run(&a, &b, seed, 1500);
            ip(NARROW);
            assert!(refuses_trains(underlay, 1300));
            run(&a, &b, seed, 1500);
        }
    }

    #[test]
    #[ignore = "runs in a namespace that another test makes"]
    fn trains_only() {
        ip("link set lo up");
        let (a, b) = pair(addresses()[0]);
        let frames = (0..60).map(|number| {
            // The first flow, no options, 64 segments of 100 bytes: whatever is sent is a train.
            let choices = [0, 0, 3, 0, 0, 0, 0, 1, 1, 0, number];
            Sending::frame(super_frame(&mut Choices::new(&choices), 1500))
        });
        let mut streams = [Stream::new(&a, &b, frames.collect(), true)];
        Stream::run(&mut streams);
        assert_eq!(streams[0].check(), Ok(()));
    }
}
