//! TAP devices: Ethernet through the tunnel, with real peers at the other end.

use culvert_testkit::{Inner, Layer, Release, Role, Topology, TunnelSpec};

use crate::{World, assert_no_panic};

fn tap() -> TunnelSpec {
    TunnelSpec { layer: Layer::Tap, inner: Inner::V4AndV6, ..TunnelSpec::default() }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_tap_carries_both_protocols_in_both_roles() {
    let world = World::new();
    for role in [Role::Server, Role::Client] {
        for topology in [Topology::Subnet, Topology::PointToPoint] {
            for release in [Release::V2_5, Release::V2_6, Release::V2_7] {
                let tunnel = world.tunnel(role, release, &TunnelSpec { topology, ..tap() });
                tunnel.prove_traffic().unwrap();
                assert_no_panic(&tunnel);
                // 2.5 counts the Ethernet header into tun-mtu, and warns of every later release.
                for end in [&tunnel.server, &tunnel.client] {
                    let differs = end.has_logged("is used inconsistently") && release != Release::V2_5;
                    assert!(!differs, "{}", end.tail());
                }
            }
        }
    }
}
