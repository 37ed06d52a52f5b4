//! The module can be unloaded, with and without a device.

use culvert_offload::{
    Backend as _, DeviceMode, LinuxBackend, OffloadEvent, Support,
    conformance::{
        Lab as _, device, event,
        server::{packet, server},
        wait,
        wire_peer::TcpPeer,
    },
};

use crate::lab::{KernelLab, run};

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn the_module_can_be_unloaded_when_all_offloads_are_gone_and_comes_back_when_asked_for() {
    let lab = KernelLab::alone();
    let mut server = server(&lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    server.expect_both_ways(2, &wire, &mut key, 1);
    let (mut stream, spec) = TcpPeer::connect(3);
    let _udp_port = server.open(spec);
    let mut stream_key = server.add_stream(&stream, 3, |spec| spec);
    stream.send(&mut stream_key, &packet(3, 1, 2));
    server.expect(&packet(3, 1, 2));
    drop(server);
    // It is not in use, whatever the other ends hold.
    run("rmmod", &["ovpn"]);
    assert!(matches!(LinuxBackend::default().probe(), Support::Present(_)));
    drop(lab.open(device(DeviceMode::MultiPeer)));
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_module_that_is_unloaded_under_a_device_is_the_end_of_the_device() {
    let lab = KernelLab::alone();
    let offload = lab.open(device(DeviceMode::MultiPeer));
    run("rmmod", &["ovpn"]);
    assert_eq!(event(&*offload), OffloadEvent::DeviceGone);
    assert_eq!(wait(|cx| offload.poll_event(cx)), None);
    drop(offload);
    let server = server(&lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    server.expect_both_ways(2, &wire, &mut key, 1);
}
