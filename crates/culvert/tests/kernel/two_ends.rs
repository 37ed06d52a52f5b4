//! Tunnels between two equal ends, without pull, with the kernel's module.

use culvert_testkit::{Offload, Peers, Release, Role, Topology, Transport, Tunnel, TunnelSpec};

use crate::{World, assert_no_panic, in_each_role};

fn both_ends(role: Role) {
    for transport in [Transport::Udp4, Transport::Udp6, Transport::Tcp4] {
        let spec = TunnelSpec { transport, topology: Topology::PointToPoint, ..TunnelSpec::default() };
        let tunnel = World::new().tunnel(role, spec);
        tunnel.prove_traffic().unwrap();
        assert_no_panic(&tunnel);
    }
}

in_each_role!(both_ends:
    an_end_that_waits_is_carried_by_the_module,
    an_end_that_calls_is_carried_by_the_module
);

/// OpenVPN 2.5 knows no peer ids between two ends: the engine takes the place of the module's device, in mid-session.
fn old_end(role: Role) {
    let world = World::new();
    let old = Peers::find().unwrap().get(Release::V2_5).unwrap();
    let (server, client) = match role {
        Role::Server => (&world.subject, &old),
        Role::Client => (&old, &world.subject),
    };
    for transport in [Transport::Udp4, Transport::Tcp4] {
        let spec = TunnelSpec {
            transport,
            topology: Topology::PointToPoint,
            offload: if role == Role::Server { Offload::Server } else { Offload::Client },
            ..TunnelSpec::default()
        };
        let tunnel = Tunnel::start_up(&spec, server, client, &world.materials).unwrap();
        tunnel.prove_traffic().unwrap();
        let (subject, namespace) = match role {
            Role::Server => (&tunnel.server, &tunnel.lab.server),
            Role::Client => (&tunnel.client, &tunnel.lab.client),
        };
        assert!(subject.has_logged("offload: kernel ovpn"), "{}", subject.tail());
        assert!(subject.has_logged("offload: engine for this"), "{}", subject.tail());
        let devices = namespace.tunnel_devices().unwrap();
        assert_eq!((devices.tun.len(), devices.ovpn.len()), (1, 0), "{}", subject.tail());
        assert_no_panic(&tunnel);
    }
}

in_each_role!(old_end:
    an_end_that_waits_for_2_5_moves_to_the_engine,
    an_end_that_calls_2_5_moves_to_the_engine
);
