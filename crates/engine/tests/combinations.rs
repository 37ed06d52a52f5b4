//! Every combination of accelerations, transports and underlays delivers the stream that a tunnel without any would.
//!
//! ```text
//!   the test --memory-- engine A ==loopback== engine B --memory-- the test
//! ```
//!
//! The oracle is `culvert_testkit::inner`: what is sent, super-packets cut one by one, is what has to come out, flow by
//! flow and byte by byte, in both directions at once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use culvert_engine::EngineConfig;
use culvert_offload::DeviceMode;
use culvert_wire::CipherName;
use support::{
    End, Side, classic, device, epoch, peer, stream_pair,
    streams::{Stream, traffic},
    tcp_on, udp_on,
};

/// One configuration of both ends.
#[derive(Clone, Copy, Debug)]
struct Case {
    a: EngineConfig,
    b: EngineConfig,
    tcp: bool,
    underlay: IpAddr,
    /// Of the inner packets.
    mtu: usize,
    /// The epoch format of the data channel, or the classic one.
    epochs: bool,
}

fn open(case: Case) -> (End, End) {
    let (a, b) = if case.tcp {
        let (a, b) = stream_pair(case.underlay);
        (tcp_on(a), tcp_on(b))
    } else {
        (udp_on(case.underlay), udp_on(case.underlay))
    };
    let device = device(DeviceMode::PointToPoint);
    let (a, b) = (End::open(&device, case.a, a), End::open(&device, case.b, b));
    let key = |side| {
        let make = if case.epochs { epoch } else { classic };
        make(CipherName::Aes256Gcm, 0, 1, side)
    };
    a.add_peer(peer(7, a.transport, b.address()), key(Side::A));
    b.add_peer(peer(7, b.transport, a.address()), key(Side::B));
    (a, b)
}

fn try_case(seed: u64, case: Case) {
    let (a, b) = open(case);
    let mut streams = [
        Stream::new(&a, &b, traffic(seed, case.a.vnet_header, case.mtu), case.b.vnet_header),
        Stream::new(&b, &a, traffic(!seed, case.b.vnet_header, case.mtu), case.a.vnet_header),
    ];
    Stream::run(&mut streams);
    for stream in &streams {
        assert_eq!(stream.check(), Ok(()), "{case:?}");
    }
}

/// Settings of one end, by number: virtio headers, segmentation, GRO.
fn config(bits: usize, workers: usize) -> EngineConfig {
    EngineConfig {
        vnet_header: bits & 1 != 0,
        udp_segmentation: bits & 2 != 0,
        udp_gro: bits & 4 != 0,
        workers: Some(workers),
    }
}

/// All settings of both ends that differ on this transport, with one worker and with two; the other choices vary along.
fn try_all(tcp: bool, underlay: IpAddr) {
    let ends = if tcp { 2 } else { 8 }; // a stream knows neither segmentation nor GRO
    for workers in [1, 2] {
        for (a, b) in (0..ends).flat_map(|a| (0..ends).map(move |b| (a, b))) {
            let number = (a * ends + b) * 2 + workers;
            let case = Case {
                a: config(a, workers),
                b: config(b, workers),
                tcp,
                underlay,
                mtu: [576, 1280, 1500, 9000][(a + b + workers) % 4],
                epochs: (a ^ b ^ workers) & 1 == 0,
            };
            try_case(number as u64, case);
        }
    }
}

#[test]
fn all_combinations_over_udp_and_ipv4_deliver_the_same_stream() {
    try_all(false, Ipv4Addr::LOCALHOST.into());
}

#[test]
fn all_combinations_over_udp_and_ipv6_deliver_the_same_stream() {
    try_all(false, Ipv6Addr::LOCALHOST.into());
}

#[test]
fn all_combinations_over_tcp_and_ipv4_deliver_the_same_stream() {
    try_all(true, Ipv4Addr::LOCALHOST.into());
}

#[test]
fn all_combinations_over_tcp_and_ipv6_deliver_the_same_stream() {
    try_all(true, Ipv6Addr::LOCALHOST.into());
}
