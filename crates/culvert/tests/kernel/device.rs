//! The device of the `ovpn` module outlives the process that made it, and can vanish below it.

use culvert_testkit::{Daemon, Namespace, Role, Signal, Tunnel, TunnelSpec, eventually};

use crate::{RECOVERY, SOON, World, assert_no_panic, in_each_role};

fn end(tunnel: &mut Tunnel, role: Role) -> (&mut Daemon, &Namespace) {
    match role {
        Role::Server => (&mut tunnel.server, &tunnel.lab.server),
        Role::Client => (&mut tunnel.client, &tunnel.lab.client),
    }
}

/// A tunnel in which silence is noticed after a few seconds.
fn impatient() -> TunnelSpec {
    TunnelSpec { server_extra: "keepalive 1 4".to_owned(), ..TunnelSpec::default() }
}

/// The same, whose devices have a name.
fn named() -> TunnelSpec {
    let name = "dev tun7\n";
    TunnelSpec {
        without: Some("dev tun"),
        server_extra: format!("{name}keepalive 1 4"),
        client_extra: name.to_owned(),
        ..TunnelSpec::default()
    }
}

fn leave(role: Role) {
    let mut tunnel = World::new().tunnel(role, TunnelSpec::default());
    let (process, namespace) = end(&mut tunnel, role);
    let status = process.stop(SOON).unwrap();
    assert_eq!(status.code(), Some(0), "{}", process.tail());
    let devices = namespace.tunnel_devices().unwrap();
    assert_eq!(devices, culvert_testkit::TunnelDevices::default(), "{}", process.tail());
}

in_each_role!(leave:
    a_server_that_leaves_takes_its_device_with_it,
    a_client_that_leaves_takes_its_device_with_it
);

/// Kills the subject, and starts it again: it makes do with what it left behind.
///
/// OpenVPN 2.7 does not: it ends with `dco_new_peer: netlink reports device not found` when its device has a name; when
/// it may choose one it takes a second device, and both have the same address.
fn kill_and_start(role: Role, spec: TunnelSpec) {
    let mut tunnel = World::new().tunnel(role, spec);
    tunnel.restart(role).unwrap();
    tunnel.wait_traffic(RECOVERY).unwrap();
    tunnel.prove_offload().unwrap();
    assert_no_panic(&tunnel);
}

fn kill_named(role: Role) {
    kill_and_start(role, named());
}

fn kill_unnamed(role: Role) {
    kill_and_start(role, impatient());
}

in_each_role!(kill_named:
    a_killed_server_starts_again_and_has_one_device,
    a_killed_client_starts_again_and_has_one_device
);

in_each_role!(kill_unnamed:
    a_killed_server_without_a_device_name_starts_again_and_has_one_device,
    a_killed_client_without_a_device_name_starts_again_and_has_one_device
);

/// Somebody deletes the subject's device. OpenVPN 2.7 never notices as a client, and ends as a server.
fn delete_device(role: Role) {
    let mut tunnel = World::new().tunnel(role, impatient());
    let (_, namespace) = end(&mut tunnel, role);
    namespace.remove_tunnel_devices().unwrap();
    tunnel.wait_traffic(RECOVERY).unwrap();
    tunnel.prove_offload().unwrap();
    assert_no_panic(&tunnel);
}

in_each_role!(delete_device:
    a_server_recovers_from_the_deletion_of_its_device,
    a_client_recovers_from_the_deletion_of_its_device
);

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_client_with_persist_tun_keeps_its_device_over_sigusr1() {
    let spec = TunnelSpec { client_extra: "persist-tun\npersist-key".to_owned(), ..TunnelSpec::default() };
    let tunnel = World::new().tunnel(Role::Client, spec);
    let device = || tunnel.lab.client.tunnel_devices().unwrap().ovpn.join(" ");
    // "7: tun0: <...": a device made again has another number.
    let number = || tunnel.lab.client.ip(&["-o", "link", "show", "dev", &device()]).unwrap();
    let number = || number().split(':').next().map(str::to_owned);
    let before = number();
    let mark = tunnel.client.mark();
    tunnel.client.signal(Signal::Restart).unwrap();
    tunnel.client.wait_up_after(mark, RECOVERY).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert_eq!(number(), before, "{}", tunnel.client.tail());
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_server_restarted_by_sigusr1_has_its_client_back() {
    let tunnel = World::new().tunnel(Role::Server, impatient());
    let mark = tunnel.server.mark();
    tunnel.server.signal(Signal::Restart).unwrap();
    tunnel.server.wait_up_after(mark, RECOVERY).unwrap();
    tunnel.wait_traffic(RECOVERY).unwrap();
    eventually(SOON, || tunnel.prove_offload().map_err(|failure| failure.to_string()));
    assert_no_panic(&tunnel);
}
