//! Whose a device is: made and removed, left over, somebody else's.

use culvert_offload::{
    Backend as _, DeleteReason, DeviceMode, DeviceSpec, LinuxBackend, OffloadError, Support,
    conformance::{self, Lab as _, ends::expect_gone, server::server},
};

use crate::{
    helper::{Helper, named},
    lab::{KernelLab, index_of, run},
};

fn open(spec: DeviceSpec) -> Result<std::sync::Arc<dyn culvert_offload::Offload>, OffloadError> {
    LinuxBackend::default().open(spec)
}

/// The note with which a device is refused.
fn note(spec: DeviceSpec) -> String {
    match open(spec).map(|offload| offload.device()) {
        Err(OffloadError::WrongDevice { note, .. }) => note,
        other => panic!("not refused as the wrong device: {other:?}"),
    }
}

fn point_to_point(name: &str) -> DeviceSpec {
    DeviceSpec { mode: DeviceMode::PointToPoint, ..named(name) }
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_device_goes_with_its_offload() {
    let _lab = KernelLab::new();
    let offload = open(named("mine")).unwrap();
    assert_eq!(index_of("mine"), Some(offload.device().ifindex));
    drop(offload);
    assert_eq!(index_of("mine"), None);
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_device_without_a_name_gets_the_first_free_one() {
    let _lab = KernelLab::new();
    let open = |name: Option<&str>| {
        open(DeviceSpec { name: name.map(str::to_owned), ..conformance::device(DeviceMode::MultiPeer) })
            .unwrap()
    };
    let (first, second, third) = (open(None), open(None), open(Some("vpn%d")));
    let names = [&first, &second, &third].map(|offload| offload.device().name);
    assert_eq!(names, ["tun0", "tun1", "vpn0"]);
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_killed_process_leaves_a_device_that_the_next_one_replaces() {
    let _lab = KernelLab::new();
    let holder = Helper::start(&[], "left");
    assert_eq!(holder.said, "opened");
    let leftover = index_of("left").expect("it has a device");
    holder.kill();
    assert_eq!(index_of("left"), Some(leftover), "nobody has removed it yet");
    let offload = open(named("left")).unwrap();
    assert_ne!(offload.device().ifindex, leftover, "a new one");
    drop(offload);
    assert_eq!(index_of("left"), None);
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_leftover_device_of_another_name_is_removed_too() {
    let _lab = KernelLab::new();
    Helper::start(&[], "left").kill();
    assert!(index_of("left").is_some());
    let _offload = open(named("other")).unwrap();
    assert_eq!(index_of("left"), None);
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_device_of_a_living_process_is_refused_and_left_alone() {
    let _lab = KernelLab::new();
    let holder = Helper::start(&[], "held");
    assert_eq!(holder.said, "opened");
    let index = index_of("held");
    assert!(note(named("held")).contains("belongs to another process of culvert"));
    let offload = open(named("mine")).unwrap();
    assert!(note(named("mine")).contains("belongs to another process of culvert"));
    drop(offload);
    assert!(index.is_some() && index == index_of("held"));
}

/// Leaves a device that nobody holds and that does not say it is culvert's: as an administrator makes it. (Older
/// `ip` cannot make one for many peers.)
fn administrators_device(name: &str) -> u32 {
    let maker = Helper::start(&[], name);
    assert_eq!(maker.said, "opened");
    run("ip", &["link", "set", "dev", name, "alias", "of the administrator"]);
    maker.kill();
    index_of(name).expect("it stays")
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_device_of_the_administrator_is_used_and_stays() {
    let lab = KernelLab::new();
    let index = administrators_device("admins");
    for _ in 0..2 {
        // The lab gives addresses to a device without any.
        run("ip", &["address", "flush", "dev", "admins"]);
        let offload = lab.open(named("admins"));
        assert_eq!(offload.device().ifindex, index);
        drop(offload);
        assert_eq!(index_of("admins"), Some(index));
    }
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn peers_that_a_former_user_left_on_a_device_are_removed_and_the_former_user_hears_it() {
    let lab = KernelLab::new();
    administrators_device("tun0");
    // The suite's device has no name: it would avoid this one.
    let offload = lab.open(named("tun0"));
    let server = conformance::server::server_on(&lab, offload, conformance::udp());
    let (_wire, _key) = server.add(2, |spec| spec);
    let next = open(named("tun0")).unwrap();
    expect_gone(&server, 2, DeleteReason::Userspace);
    let mut peers = Vec::new();
    next.stats(None, &mut peers).unwrap();
    assert!(peers.is_empty());
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_device_of_the_other_mode_or_of_another_kind_is_refused_with_a_note() {
    let _lab = KernelLab::new();
    assert!(matches!(LinuxBackend::default().probe(), Support::Present(_)));
    run("ip", &["link", "add", "p2p", "type", "ovpn"]);
    assert!(note(named("p2p")).contains("make it with mode multipeer"));
    drop(open(point_to_point("p2p")).unwrap());
    assert!(index_of("p2p").is_some());
    administrators_device("many");
    assert!(note(point_to_point("many")).contains("make it with mode p2p"));
    assert_eq!(
        note(named("lo")),
        "Interface lo exists and is not using the ovpn DCO driver. Disabling data channel offload"
    );
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_user_namespace_is_told_that_it_may_not_and_keeps_no_device() {
    let _lab = KernelLab::new();
    assert!(matches!(LinuxBackend::default().probe(), Support::Present(_)));
    let helper = Helper::start(&["unshare", "--user", "--map-root-user", "--net"], "inner");
    let (refused, links) = helper.said.split_once("; ").unwrap();
    assert!(refused.starts_with("NotPermitted"), "{refused}");
    assert!(links.contains(": lo:") && !links.contains("inner"), "{links}");
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn two_devices_do_not_get_into_each_others_way() {
    let lab = KernelLab::new();
    let first = open(named("first")).unwrap();
    let server = server(&lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    let (transport, ..) = first.open_transport(conformance::udp()).unwrap();
    first.peer_new(conformance::peer(2, transport, wire.address())).unwrap();
    first.peer_del(conformance::id(2)).unwrap();
    first.peer_new(conformance::peer(2, transport, wire.address())).unwrap();
    drop(first);
    server.expect_both_ways(2, &wire, &mut key, 1);
    let (_silent, _) = server.add(3, conformance::ends::keepalive(Default::default(), SECOND));
    expect_gone(&server, 3, DeleteReason::Expired);
}

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);
